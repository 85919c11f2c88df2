//! Tests of `task_record`.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

/// A record of a task named `id` that is being set up, for this and other modules' tests.
pub(crate) fn record(id: &str) -> TaskRecord {
    let spec = format!(
        r#"{{"taskId": "{id}", "networkConfiguration": {{"awsvpcConfiguration": {{"subnets": ["subnet-a"]}}}}}}"#
    );
    let eni = r#"{"eni_id": "eni-0123456789abcdef0", "attachment_id": "00000000-0000-4000-8000-000000000001",
        "subnet_id": "subnet-a", "vpc_id": "vpc-1", "mac": "0a:00:00:00:00:01", "vlan": 7, "ipv4": "10.0.1.10/24",
        "ipv6": "2001:db8::1/64", "router_ipv4": "10.0.1.1", "router_ipv6": "2001:db8::1",
        "router_mac": "0e:62:6c:00:00:01", "groups": ["sg-web"], "private_dns_name": "ip-10-0-1-10.ec2.internal",
        "availability_zone": "us-east-1a"}"#;
    let mut life = Life::begin(1_700_000_000_123);
    life.enter(AttachmentStatus::Created, 1_700_000_000_124);
    life.enter(AttachmentStatus::Attaching, 1_700_000_000_124);
    TaskRecord {
        spec: TaskSpec::parse(spec.as_bytes()).unwrap(),
        eni: serde_json::from_str(eni).unwrap(),
        wanted_groups: None,
        netns: format!("/run/netns/branchline-{id}").into(),
        owned_netns: true,
        host_link: "bl456789abcdef0".into(),
        dns: TaskDns {
            has_resolver: true,
            name_servers: vec!["10.0.0.2".parse().unwrap()],
            search: vec!["ec2.internal".to_owned()],
            ..TaskDns::default()
        },
        files: FilePlaces {
            run: format!("/run/branchline/tasks/{id}").into(),
            netns: None,
        },
        life,
        generation: 0,
    }
}

/// `record` with its network there.
pub(crate) fn attached(id: &str) -> TaskRecord {
    entered(record(id), AttachmentStatus::Attached, 1_700_000_000_130)
}

/// `record` in another state.
pub(crate) fn entered(mut record: TaskRecord, status: AttachmentStatus, at_ms: u64) -> TaskRecord {
    record.life.enter(status, at_ms);
    record
}

fn token(text: &str) -> ClientToken {
    text.to_owned().try_into().unwrap()
}

fn ended(id: &str, generation: u64, at_ms: u64) -> TaskRecord {
    let mut record = entered(attached(id), AttachmentStatus::Deleted, at_ms);
    record.eni.attachment_id = format!("attachment-{generation}");
    record.spec.client_token = Some(token(&format!("token-{generation}")));
    TaskRecord {
        generation,
        ..record
    }
}

const NOW: u64 = 1_700_000_100_000;

#[test]
fn a_task_that_has_gone_is_found_by_id_and_token_until_it_is_forgotten() {
    let mut table = TaskTable::default();
    table.put(attached("web"));
    let web: TaskId = "web".parse().unwrap();
    table.end(ended("web", 1, NOW));
    assert_eq!((table.get(&web), table.live().len()), (None, 0));
    assert_eq!(table.last_gone(&web).unwrap().generation, 1);
    assert_eq!(table.by_token(&token("token-1")).unwrap().generation, 1);
    assert_eq!(table.forget(NOW + REMEMBERED_MS - 1), [0_u64; 0]);
    assert_eq!(table.forget(NOW + REMEMBERED_MS), [1]);
    assert_eq!(table.by_token(&token("token-1")), None);
}

#[test]
fn a_token_that_was_used_again_is_the_later_tasks() {
    let later = |generation| TaskRecord {
        generation,
        ..ended("web", 1, NOW + generation)
    };
    let stored = vec![later(2), later(1)];
    let mut table = TaskTable::of(stored);
    let generation = |table: &TaskTable| {
        let found = table.by_token(&token("token-1"));
        found.map(|record| record.generation)
    };
    assert_eq!(generation(&table), Some(2));
    assert_eq!(table.forget(NOW + REMEMBERED_MS + 1), [1]);
    assert_eq!(generation(&table), Some(2));
    let mut live = attached("web");
    live.generation = 3;
    live.spec.client_token = Some(token("token-1"));
    table.put(live);
    assert_eq!(table.forget(NOW + REMEMBERED_MS + 2), [2]);
    assert_eq!(generation(&table), Some(3));
}

#[test]
fn what_changes_of_a_task_s_eni_is_what_it_takes_up() {
    let mut table = TaskTable::default();
    let mut web = attached("web");
    table.put(web.clone());
    let before = table.occupied();
    table.put(entered(web.clone(), AttachmentStatus::Detaching, u64::MAX));
    assert!(Arc::ptr_eq(&before, &table.occupied()), "nothing to change");
    web.eni.groups = vec!["sg-other".to_owned()];
    web.eni.vlan = Some(8.try_into().unwrap());
    table.put(web.clone());
    let occupied = table.occupied();
    assert_eq!(occupied.eni(&web.eni.attachment_id), Some(&web.eni));
    assert!(occupied.vlans.is_taken(&8.try_into().unwrap()));
}

#[test]
fn too_many_are_forgotten_oldest_first() {
    let mut table = TaskTable::default();
    for generation in 0..MOST_REMEMBERED as u64 + 2 {
        table.end(ended("web", generation, NOW + generation));
    }
    assert_eq!(table.forget(NOW), [0, 1]);
    assert_eq!(table.gone().len(), MOST_REMEMBERED);
}

#[test]
fn a_table_of_stored_records_is_the_table_that_stored_them() {
    let mut first = ended("web", 1, NOW);
    // The second took over the first's address before it had cooled down.
    let second = TaskRecord {
        generation: 2,
        ..attached("web")
    };
    first.eni.mac = "0a:00:00:00:00:02".parse().unwrap();
    let third = ended("db", 3, NOW - 1);
    let table = TaskTable::of(vec![first.clone(), second.clone(), third.clone()]);
    assert_eq!(table.live().collect::<Vec<_>>(), [&second]);
    assert_eq!(table.gone().collect::<Vec<_>>(), [&third, &first]);
    let occupied = table.occupied();
    assert_eq!(occupied.len(), 1);
    assert!(occupied.ipv4.is_taken(&second.eni.ipv4.unwrap().addr()));
    assert!(!occupied.macs.is_taken(&first.eni.mac) && !occupied.macs.is_free(&first.eni.mac));
}
