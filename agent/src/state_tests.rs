//! Tests of `state`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::test_dir::TestDir;

/// A record of a task named `id`, for this and other modules' tests.
pub(crate) fn record(id: &str) -> TaskRecord {
    let spec = format!(
        r#"{{"taskId": "{id}", "networkConfiguration": {{"awsvpcConfiguration": {{"subnets": ["subnet-a"]}}}}}}"#
    );
    let eni = r#"{"eni_id": "eni-0123456789abcdef0", "attachment_id": "00000000-0000-4000-8000-000000000001",
        "subnet_id": "subnet-a", "vpc_id": "vpc-1", "mac": "0a:00:00:00:00:01", "vlan": 7, "ipv4": "10.0.1.10/24",
        "ipv6": "2001:db8::1/64", "router_ipv4": "10.0.1.1", "router_ipv6": "2001:db8::1",
        "router_mac": "0e:62:6c:00:00:01", "groups": ["sg-web"], "private_dns_name": "ip-10-0-1-10.ec2.internal",
        "availability_zone": "us-east-1a"}"#;
    TaskRecord {
        spec: TaskSpec::parse(spec.as_bytes()).unwrap(),
        eni: serde_json::from_str(eni).unwrap(),
        netns: format!("/run/netns/branchline-{id}").into(),
        owned_netns: true,
        host_link: "bl456789abcdef0".into(),
        phase: Phase::Creating,
        created_at_ms: 1_700_000_000_123,
        generation: 0,
    }
}

fn id(text: &str) -> TaskId {
    text.parse().unwrap()
}

#[test]
fn tasks_and_facts_survive_a_restart() {
    let dir = TestDir::new();
    let state_dir = dir.path().join("a/b");
    let (web, db) = {
        let store = Store::open(&state_dir).unwrap();
        store.put_fact("sequence", &41_u64).unwrap();
        store.put_fact("sequence", &42_u64).unwrap();
        let web = store.insert_task(record("web")).unwrap();
        let db = store.insert_task(record("db")).unwrap();
        (
            web,
            TaskRecord {
                phase: Phase::Running,
                ..db
            },
        )
    };
    let store = Store::open(&state_dir).unwrap();
    store.update_task(&db).unwrap();
    assert_eq!(store.tasks().unwrap(), [db.clone(), web.clone()]);
    assert_eq!(store.task(&id("db")).unwrap(), Some(db));
    assert_eq!(store.fact::<u64>("sequence").unwrap(), Some(42));
    store.remove_task(&id("web")).unwrap();
    store.remove_task(&id("web")).unwrap();
    store.remove_fact("sequence").unwrap();
    assert_eq!(store.task(&id("web")).unwrap(), None);
    assert_eq!(store.fact::<u64>("sequence").unwrap(), None);
    assert_eq!(
        std::fs::metadata(&state_dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[test]
fn a_task_id_is_stored_once_and_a_generation_never_again() {
    let dir = TestDir::new();
    let store = Store::open(dir.path()).unwrap();
    let first = store.insert_task(record("web")).unwrap();
    assert!(
        matches!(store.insert_task(record("web")), Err(StateError::Exists(task)) if task == id("web"))
    );
    store.remove_task(&id("web")).unwrap();
    assert!(matches!(
        store.update_task(&first),
        Err(StateError::Unknown(_))
    ));
    let second = store.insert_task(record("web")).unwrap();
    assert_eq!((first.generation, second.generation), (1, 2));
    assert!(
        matches!(store.update_task(&first), Err(StateError::Unknown(_))),
        "a late writer of the first task"
    );
    assert_eq!(store.task(&id("web")).unwrap(), Some(second));
}

#[test]
fn a_second_agent_and_another_format_are_refused() {
    let dir = TestDir::new();
    let store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
    store
        .write(String::new, |write| {
            write
                .open_table(NUMBERS)?
                .insert("format_version", FORMAT_VERSION + 1)?;
            Ok(())
        })
        .unwrap();
    drop(store);
    let error = Store::open(dir.path()).unwrap_err().to_string();
    let expected = format!(
        "has format {}, this agent reads {FORMAT_VERSION}; run the version",
        FORMAT_VERSION + 1
    );
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn a_damaged_entry_is_named() {
    let dir = TestDir::new();
    let store = Store::open(dir.path()).unwrap();
    store
        .write(String::new, |write| {
            write.open_table(TASKS)?.insert("web", b"{}".as_slice())?;
            Ok(())
        })
        .unwrap();
    let error = store.tasks().unwrap_err().to_string();
    assert_eq!(error, "tasks entry \"web\" in the store is damaged");
    assert!(store.task(&id("web")).is_err());
}

/// What the version before `networkInterfaceAttributes` wrote.
const RECORD_WITHOUT_ATTRIBUTES: &str = r#"{"spec":{"taskId":"web","networkConfiguration":{"awsvpcConfiguration":{"subnets":["subnet-a"],"securityGroups":[],"assignPublicIp":"DISABLED"}}},"eni":{"eni_id":"eni-0123456789abcdef0","attachment_id":"00000000-0000-4000-8000-000000000001","subnet_id":"subnet-a","vpc_id":"vpc-1","mac":"0a:00:00:00:00:01","vlan":7,"ipv4":"10.0.1.10/24","ipv6":"2001:db8::1/64","router_ipv4":"10.0.1.1","router_ipv6":"2001:db8::1","router_mac":"0e:62:6c:00:00:01","groups":["sg-web"],"private_dns_name":"ip-10-0-1-10.ec2.internal","availability_zone":"us-east-1a"},"netns":"/run/netns/branchline-web","owned_netns":true,"host_link":"bl456789abcdef0","phase":"creating","created_at_ms":1700000000123,"generation":0}"#;

#[test]
fn a_record_of_the_version_before_attributes_is_read_and_written_alike() {
    let dir = TestDir::new();
    let store = Store::open(dir.path()).unwrap();
    store
        .write(String::new, |write| {
            let bytes = RECORD_WITHOUT_ATTRIBUTES.as_bytes();
            write.open_table(TASKS)?.insert("web", bytes)?;
            Ok(())
        })
        .unwrap();
    assert_eq!(store.tasks().unwrap(), [record("web")]);
    assert_eq!(json(&record("web")), RECORD_WITHOUT_ATTRIBUTES.as_bytes());
}

#[test]
fn a_tasks_attributes_survive_a_restart() {
    let dir = TestDir::new();
    let mut web = record("web");
    let attributes = &mut web.spec.network_configuration.network_interface_attributes;
    attributes.block_instance_metadata = false;
    attributes.max_tracked_connections = Some(9);
    attributes
        .connection_tracking_specification
        .tcp_established_timeout = Some(350.try_into().unwrap());
    let stored = Store::open(dir.path()).unwrap().insert_task(web).unwrap();
    let tasks = Store::open(dir.path()).unwrap().tasks().unwrap();
    assert_eq!(tasks, [stored]);
}

#[test]
fn a_state_dir_that_is_a_file_is_named() {
    let dir = TestDir::new();
    let path = dir.path().join("file");
    std::fs::write(&path, "").unwrap();
    let error = Store::open(&path).unwrap_err().to_string();
    assert!(
        error.starts_with("make state folder") && error.ends_with("(state_dir)"),
        "{error}"
    );
}

#[test]
fn retired_flows_stay_as_first_stored_until_their_epoch_is_settled() {
    let dir = TestDir::new();
    let store = Store::open(dir.path()).unwrap();
    let keep = |eni, counts: &[(u32, &str)]| store.retire_flows(eni, counts).unwrap();
    let kept = |epoch| store.retired_flows::<String>(epoch).unwrap();
    keep("eni-a", &[(4, "a4"), (5, "a5")]);
    keep("eni-b", &[(5, "b5")]);
    keep("eni-a", &[(5, "again"), (6, "a6")]);
    assert_eq!(kept(5), ["a5", "b5"]);
    store.settle_flows("flow_log", &"settled", 5).unwrap();
    assert_eq!(store.fact("flow_log").unwrap(), Some("settled".to_owned()));
    assert_eq!([kept(4), kept(5), kept(6)].concat(), ["a6"]);
}
