//! Epochs added up, traffic types, and ENIs without data.

use branchline_common::verdict::Direction;

use super::*;
use crate::flows::Rule;

const WINDOW: Window = Window {
    start: 60,
    end: 180,
};

fn flow(action: Action, src_port: u16, second: u64) -> (FlowTuple, FlowCounts) {
    let tuple = FlowTuple {
        direction: Direction::Ingress,
        src: [10, 0, 1, 5].into(),
        dst: [10, 0, 1, 4].into(),
        src_port,
        dst_port: 22,
        protocol: 6,
        action,
        traffic_path: None,
        rule: None,
        drop_reason: None,
        service: None,
    };
    let counts = FlowCounts {
        packets: 2,
        bytes: 120,
        tcp_flags: if second < 120 { 2 } else { 1 },
        first_ms: second * 1_000,
        last_ms: second * 1_000 + 10,
    };
    (tuple, counts)
}

fn report(id: &str, flows: Vec<(FlowTuple, FlowCounts)>) -> Report {
    Report {
        interface: Arc::new(Interface {
            interface_id: id.to_owned(),
            ..Interface::default()
        }),
        flows,
        skipped_packets: 0,
        is_whole: true,
    }
}

/// ENI, status and start of each row.
fn said(reports: &[Report], traffic_type: TrafficType) -> Vec<String> {
    let rows = rows(reports, WINDOW, traffic_type, 7);
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row.sequence, 7 + index as u64);
    }
    let say = |row: &Row<'_>| {
        let content = match row.content {
            Content::Ok(tuple, _) => format!("{:?} {}", tuple.action, tuple.src_port),
            Content::NoData => "NODATA".to_owned(),
            Content::SkipData { packets } => format!("SKIPDATA {packets}"),
        };
        format!("{} {} {content}", row.start(), row.interface.interface_id)
    };
    rows.iter().map(say).collect()
}

#[test]
fn a_flow_of_several_epochs_is_one_record_and_the_last_description_counts() {
    let mut aggregation = Aggregation::new(false);
    aggregation.add_epoch(vec![report("eni-a", vec![flow(Action::Accept, 1, 61)])]);
    let mut second = report(
        "eni-a",
        vec![flow(Action::Accept, 1, 121), flow(Action::Reject, 1, 121)],
    );
    second.interface = Arc::new(Interface {
        vpc_id: Some("vpc-1".to_owned()),
        ..(*second.interface).clone()
    });
    aggregation.add_epoch(vec![second]);
    let [sum] = &aggregation.finish()[..] else {
        panic!("not one ENI");
    };
    assert_eq!(sum.interface.vpc_id.as_deref(), Some("vpc-1"));
    let (_, accepted) = sum.flows[0];
    let expected = FlowCounts {
        packets: 4,
        bytes: 240,
        tcp_flags: 3,
        first_ms: 61_000,
        last_ms: 121_010,
    };
    assert_eq!((sum.flows.len(), accepted), (2, expected));
    assert!(sum.is_whole);
}

#[test]
fn rules_tell_records_apart_only_where_they_are_shown() {
    for (tells_rules_apart, records) in [(false, 1), (true, 2)] {
        let mut aggregation = Aggregation::new(tells_rules_apart);
        for rule in ["sgr-1", "sgr-2"] {
            let mut flow = flow(Action::Accept, 1, 61);
            flow.0.rule = Some(Rule::new("sg-web", rule));
            aggregation.add_epoch(vec![report("eni-a", vec![flow])]);
        }
        let reports = aggregation.finish();
        assert_eq!(reports[0].flows.len(), records);
        let packets: u64 = reports[0]
            .flows
            .iter()
            .map(|(_, counts)| counts.packets)
            .sum();
        assert_eq!(packets, 4);
    }
}

#[test]
fn an_eni_is_whole_if_it_is_in_every_epoch() {
    let part = |id| Report {
        is_whole: false,
        ..report(id, vec![])
    };
    let mut aggregation = Aggregation::new(false);
    aggregation.add_epoch(vec![
        report("eni-a", vec![]),
        report("eni-b", vec![]),
        part("eni-d"),
    ]);
    aggregation.add_epoch(vec![
        report("eni-a", vec![]),
        report("eni-c", vec![]),
        report("eni-d", vec![]),
    ]);
    let reports = aggregation.finish();
    assert_eq!(said(&reports, TrafficType::All), ["60 eni-a NODATA"]);
}

#[test]
fn a_traffic_type_hides_rows_and_makes_no_nodata() {
    let skipped = Report {
        skipped_packets: 9,
        ..report("eni-c", vec![flow(Action::Accept, 3, 61)])
    };
    let reports = [
        report(
            "eni-b",
            vec![flow(Action::Accept, 1, 61), flow(Action::Audit, 2, 62)],
        ),
        report("eni-a", vec![flow(Action::Reject, 1, 61)]),
        skipped,
        report("eni-d", vec![]),
    ];
    let both = ["60 eni-c SKIPDATA 9", "60 eni-d NODATA"];
    let accepted = ["61 eni-b Accept 1", "61 eni-c Accept 3", "62 eni-b Audit 2"];
    let rejected = ["61 eni-a Reject 1"];
    assert_eq!(
        said(&reports, TrafficType::Accept),
        [&both[..], &accepted].concat()
    );
    assert_eq!(
        said(&reports, TrafficType::Reject),
        [&both[..], &rejected].concat()
    );
    assert_eq!(
        said(&reports, TrafficType::All),
        [&both[..], &rejected, &accepted].concat()
    );
}
