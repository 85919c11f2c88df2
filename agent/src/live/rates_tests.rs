#![expect(clippy::unwrap_used, reason = "tests")]

use branchline_common::flow::{FlowKey, mapped};
use branchline_common::verdict::Direction;

use super::*;

const fn count(packets: u64, bytes: u64) -> Count {
    Count { packets, bytes }
}

fn flowing(eni: u16, port: u16, action: Action, fresh: [Count; 2]) -> Flowing {
    Flowing {
        key: FlowKey {
            local: mapped([10, 0, 1, eni as u8]),
            remote: mapped([10, 0, 2, 7]),
            local_port: 443,
            remote_port: port,
            eni,
            protocol: 6,
            ..FlowKey::default()
        },
        opener: Direction::Ingress,
        action,
        fresh,
    }
}

fn owner(name: &str) -> Identity {
    Identity::named(&format!("eni-{name}"), Some(name))
}

/// Source ports of the flows, and the tasks, in their order, by `query`.
fn order(query: &str) -> (Vec<u16>, Vec<String>, usize) {
    let flows = [
        flowing(1, 1, Action::Accept, [count(10, 900), count(10, 100)]),
        flowing(1, 2, Action::Accept, [count(3, 3_000), count(0, 0)]),
        flowing(2, 3, Action::Reject, [count(30, 1_800), count(0, 0)]),
        flowing(2, 4, Action::Accept, [count(0, 0), count(0, 0)]),
        // Of an ENI that has just gone.
        flowing(9, 5, Action::Accept, [count(1, 1), count(0, 0)]),
    ];
    let owners = [(1, owner("web")), (2, owner("db")), (3, owner("idle"))].into();
    let query = Query::parse(query).unwrap();
    let rates = rates(&flows, &owners, (0, 2.0), &query);
    let ports = rates.flows.iter().map(|line| line.flow.srcport).collect();
    let tasks = rates.tasks.iter().map(|task| task.task_id.clone().unwrap());
    (ports, tasks.collect(), rates.flow_count)
}

#[test]
fn the_largest_come_first() {
    type Row<'a> = (&'a str, &'a [u16], &'a [&'a str], usize);
    let rows: [Row<'_>; 7] = [
        ("", &[2, 3, 1, 5, 4], &["web", "db", "idle"], 5),
        ("sort=packets", &[3, 1, 2, 5, 4], &["web", "db", "idle"], 5),
        ("sort=rejects", &[3, 1, 2, 5, 4], &["db", "web", "idle"], 5),
        ("limit=2", &[2, 3], &["web", "db", "idle"], 5),
        ("task=db", &[3, 4], &["db"], 2),
        ("task=idle", &[], &["idle"], 0),
        ("action=reject", &[3], &["db", "idle", "web"], 1),
    ];
    for (query, ports, tasks, flow_count) in rows {
        let expected = (
            ports.to_vec(),
            tasks.iter().map(|task| (*task).to_owned()).collect(),
            flow_count,
        );
        assert_eq!(order(query), expected, "{query}");
    }
}

#[test]
fn rates_are_by_the_second_and_a_tasks_leave_out_what_was_rejected() {
    let flows = [
        flowing(1, 1, Action::Accept, [count(10, 901), count(5, 100)]),
        flowing(1, 2, Action::Accept, [count(1, 99), count(0, 0)]),
        flowing(1, 3, Action::Reject, [count(3, 180), count(0, 0)]),
    ];
    let owners = [(1, owner("web"))].into();
    let rates = rates(&flows, &owners, (7, 2.0), &Query::default());
    let [task] = &rates.tasks[..] else {
        panic!("{rates:?}")
    };
    let rate = Rate {
        ingress_bytes_per_second: 500.0,
        egress_bytes_per_second: 50.0,
        ingress_packets_per_second: 5.5,
        egress_packets_per_second: 2.5,
    };
    assert_eq!((task.flows, task.rate), (2, rate));
    assert_eq!(task.rejected_packets_per_second, 1.5);
    assert_eq!(rates.flows[0].rate.ingress_bytes_per_second, 450.5);
    let json = serde_json::to_value(&rates).unwrap();
    assert_eq!(json["tasks"][0]["ingressBytesPerSecond"], 500.0);
    assert_eq!(json["flows"][0]["srcport"], 1);
    assert_eq!(serde_json::from_value::<FlowRates>(json).unwrap(), rates);
}
