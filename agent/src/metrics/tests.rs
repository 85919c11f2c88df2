//! Tests of what a scrape says, and of the dashboard that shows it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use branchline_common::maps::Counters;
use branchline_common::verdict::{Direction, DropReason};

use super::*;
use crate::api::{
    Difference, FlowLogDescription, Health, NetworkPart, Operation, Step, TaskCounts,
    WarmPoolDescription,
};
use crate::delivery::FlowLog;
use crate::flows::{Action, FlowCounts, FlowTuple, Identity, Report};
use crate::provider::ProviderError;
use crate::upload::UploadStatus;

const DASHBOARD: &str = include_str!("../../packaging/grafana/branchline.json");

/// What one ENI of a task counted in an interval: packets, bytes, accepted or not.
fn report(eni: &str, flows: &[(Action, u64, u64)]) -> Report {
    let tuple = |action| FlowTuple {
        direction: Direction::Ingress,
        src: "10.0.0.1".parse().unwrap(),
        dst: "10.0.0.2".parse().unwrap(),
        src_port: 4711,
        dst_port: 80,
        protocol: 6,
        action,
        traffic_path: None,
        rule: None,
        drop_reason: None,
        service: None,
    };
    let counts = |packets, bytes| FlowCounts {
        packets,
        bytes,
        tcp_flags: 0,
        first_ms: 0,
        last_ms: 0,
    };
    let flows = flows.iter();
    Report {
        interface: Arc::clone(&Identity::named(eni, Some("web")).interface),
        flows: flows
            .map(|(action, packets, bytes)| (tuple(*action), counts(*packets, *bytes)))
            .collect(),
        skipped_packets: 0,
        is_whole: true,
    }
}

/// A host on which everything has happened once.
fn everything() -> (Instruments, Snapshot) {
    let instruments = Instruments::default();
    let took = Duration::from_micros(300);
    let steps = &instruments.steps;
    steps.ended(Operation::Add, Step::Veth, took, false);
    steps.ended(Operation::Add, Step::Veth, took, true);
    let provider = &instruments.provider;
    provider.ended("allocate", took, None);
    let exhausted = ProviderError::Exhausted("no address".to_owned());
    provider.ended("allocate", took, Some(&exhausted));
    instruments.requests.answered("addTask", 201, took);
    let difference = |part| Difference {
        part,
        what: "of eth0".to_owned(),
        expected: "this".to_owned(),
        found: "that".to_owned(),
    };
    let parts = [NetworkPart::Route, NetworkPart::Route, NetworkPart::Mtu];
    instruments.repairs.mended(&parts.map(difference));
    instruments.repairs.trunk_mended();
    instruments.repairs.gave_up();
    let flows = [(Action::Accept, 7, 700), (Action::Reject, 2, 120)];
    instruments.traffic.take(&[report("eni-1", &flows)]);
    let mut counters = Counters::default();
    counters.packets[DropReason::ForeignMac as usize] = 5;
    let snapshot = Snapshot {
        version: "9.9.9",
        tasks: TaskSamples {
            counts: TaskCounts {
                running: 1,
                ..TaskCounts::default()
            },
            max_enis: 4095,
            conntrack_max_entries: 1024,
            unassigned: counters,
            enis: vec![EniSample {
                task_id: "web".to_owned(),
                interface_id: "eni-1".to_owned(),
                counters,
                tracked: 3,
                share: 128,
            }],
        },
        warm_pool: Some(WarmPoolDescription {
            wanted: 4,
            waiting: 3,
            hits: 2,
            misses: 1,
        }),
        flow_logs: vec![FlowLogDescription {
            log: FlowLog::of_host(),
            files: 4,
            bytes: 4000,
            records: 40,
            skipped_packets: 0,
            waiting_epochs: 2,
            lost_epochs: 0,
            error: Some("disk full".to_owned()),
            upload: Some(UploadStatus::default()),
        }],
        health: Health::of([
            ("trunk".to_owned(), None),
            ("store".to_owned(), Some("gone".to_owned())),
        ]),
        process: Process::read(0.0),
    };
    (instruments, snapshot)
}

#[test]
fn a_scrape_says_what_was_counted() {
    let (instruments, snapshot) = everything();
    let text = instruments.render(snapshot);
    for line in [
        r#"branchline_build_info{version="9.9.9"} 1"#,
        r#"branchline_tasks{state="running"} 1"#,
        r#"branchline_eni_dropped_packets_total{task_id="web",interface_id="eni-1",reason="foreign-mac"} 5"#,
        r#"branchline_unassigned_dropped_packets_total{reason="foreign-mac"} 5"#,
        r#"branchline_eni_conntrack_entries{task_id="web",interface_id="eni-1"} 3"#,
        r#"branchline_eni_conntrack_limit{task_id="web",interface_id="eni-1"} 128"#,
        "branchline_conntrack_entries 3",
        r#"branchline_eni_packets_total{task_id="web",interface_id="eni-1",direction="ingress",action="accept"} 7"#,
        r#"branchline_eni_traffic_bytes_total{task_id="web",interface_id="eni-1",direction="ingress",action="reject"} 120"#,
        "branchline_flow_intervals_total 1",
        "branchline_warm_pool_wanted 4",
        "branchline_warm_pool_waiting 3",
        r#"branchline_warm_pool_requests_total{outcome="hit"} 2"#,
        r#"branchline_warm_pool_requests_total{outcome="miss"} 1"#,
        r#"branchline_flow_log_failing{flow_log_id="fl-00000000000000000"} 1"#,
        r#"branchline_part_healthy{part="trunk"} 1"#,
        r#"branchline_part_healthy{part="store"} 0"#,
        r#"branchline_task_step_duration_seconds_count{operation="add",step="veth"} 2"#,
        r#"branchline_task_step_duration_seconds_bucket{le="0.0005",operation="add",step="veth"} 2"#,
        r#"branchline_task_step_errors_total{operation="add",step="veth"} 1"#,
        r#"branchline_provider_call_errors_total{method="allocate",kind="exhausted"} 1"#,
        r#"branchline_repairs_total{part="route"} 1"#,
        r#"branchline_repairs_total{part="mtu"} 1"#,
        r#"branchline_repairs_total{part="trunk"} 1"#,
        "branchline_tasks_given_up_total 1",
        r#"branchline_api_requests_total{operation="addTask",status="201"} 1"#,
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn totals_add_up_and_an_eni_that_has_gone_is_forgotten() {
    let traffic = Traffic::default();
    traffic.take(&[
        report("eni-1", &[(Action::Accept, 1, 100)]),
        report("eni-2", &[(Action::Accept, 5, 500)]),
    ]);
    traffic.take(&[report("eni-1", &[(Action::Accept, 2, 200)])]);
    let totals = traffic.totals();
    assert_eq!(totals.epochs, 2);
    let enis: Vec<_> = totals.enis.keys().cloned().collect();
    assert_eq!(enis, ["eni-1"]);
    let first = totals.enis["eni-1"].rows().next();
    assert_eq!(first, Some(("ingress", "accept", 3, 300)));
}

/// Names of all series of a scrape, as a query writes them.
fn series(text: &str) -> BTreeSet<&str> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let names = samples.filter_map(|line| line.split(['{', ' ']).next());
    names.collect()
}

/// Every word of a query's text that looks like a metric.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(|character| !is_name(character));
    words
        .filter(|word| word.starts_with("branchline_") || word.starts_with("process_"))
        .collect()
}

/// All queries below a value.
fn queries<'a>(value: &'a serde_json::Value, found: &mut Vec<&'a str>) {
    if let Some(list) = value.as_array() {
        list.iter().for_each(|one| queries(one, found));
    }
    for (key, one) in value.as_object().into_iter().flatten() {
        match one.as_str() {
            Some(text) if key == "expr" || key == "query" || key == "definition" => {
                found.push(text);
            }
            _ => queries(one, found),
        }
    }
}

#[test]
fn the_dashboard_asks_only_for_what_exists() {
    let (instruments, snapshot) = everything();
    let text = instruments.render(snapshot);
    let exist = series(&text);
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut asked = Vec::new();
    queries(&dashboard, &mut asked);
    let used: BTreeSet<&str> = asked.iter().flat_map(|text| metrics_in(text)).collect();
    assert!(used.len() > 20, "{used:?}");
    let unknown: Vec<_> = used.difference(&exist).collect();
    assert!(unknown.is_empty(), "{unknown:?}\n{exist:#?}");
}

/// Series of a host with `tasks` tasks, each with a drop reason and traffic both ways.
fn host_of(tasks: usize) -> String {
    let (instruments, mut snapshot) = everything();
    let eni = snapshot.tasks.enis[0].clone();
    let flows = [(Action::Accept, 7, 700), (Action::Reject, 2, 120)];
    let name = |number: usize| format!("eni-{number:017x}");
    let reports: Vec<_> = (0..tasks).map(|at| report(&name(at), &flows)).collect();
    instruments.traffic.take(&reports);
    snapshot.tasks.enis = (0..tasks)
        .map(|at| EniSample {
            interface_id: name(at),
            ..eni.clone()
        })
        .collect();
    instruments.render(snapshot)
}

#[test]
fn each_task_adds_the_same_number_of_series() {
    let count = |tasks| {
        let text = host_of(tasks);
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    let (one, two, thousand) = (count(1), count(2), count(1_000));
    let each = two - one;
    assert_eq!(thousand - one, 999 * each);
    // Six kinds of packets and of bytes, five of other counts, one drop reason of 17.
    assert_eq!(each, 12 + 5 + 1);
}
