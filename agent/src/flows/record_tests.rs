//! Lines of the default format, and what a file's order and skips are.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::Ipv4Addr;

use super::*;

fn interface(id: &str) -> Interface {
    Interface {
        account_id: "123456789012".to_owned(),
        interface_id: id.to_owned(),
        primary_ipv4: Some(Ipv4Addr::new(10, 0, 1, 10)),
        ..Interface::default()
    }
}

fn flow(direction: Direction, src: &str, dst: &str, start: u64) -> (FlowTuple, FlowCounts) {
    let tuple = FlowTuple {
        direction,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        src_port: 1,
        dst_port: 2,
        protocol: 17,
        action: Action::Accept,
        traffic_path: None,
        rule: None,
        drop_reason: None,
    };
    let counts = FlowCounts {
        packets: 3,
        bytes: 300,
        tcp_flags: 0,
        first_ms: start * 1_000,
        last_ms: start * 1_000 + 999,
    };
    (tuple, counts)
}

fn report(id: &str, flows: Vec<(FlowTuple, FlowCounts)>) -> Report {
    Report {
        interface: Arc::new(interface(id)),
        flows,
        skipped_packets: 0,
        is_whole: true,
    }
}

const WINDOW: Window = Window {
    start: 60,
    end: 120,
};

#[test]
fn addresses_are_printed_as_the_eni_is_known() {
    let rows = [
        (
            "secondary address, ingress",
            flow(Direction::Ingress, "198.51.100.7", "10.0.1.11", 60),
            "198.51.100.7 10.0.1.10",
        ),
        (
            "secondary address, egress",
            flow(Direction::Egress, "10.0.1.11", "198.51.100.7", 60),
            "10.0.1.10 198.51.100.7",
        ),
        (
            "IPv6 as RFC 5952 has it",
            flow(Direction::Egress, "2001:DB8:0:0:1:0:0:1", "fd00:0::A", 60),
            "2001:db8::1:0:0:1 fd00::a",
        ),
    ];
    for (name, flow, expected) in rows {
        let reports = [report("eni-0a", vec![flow])];
        let line = lines(&reports, WINDOW)[0].to_string();
        let expected = format!("2 123456789012 eni-0a {expected} 1 2 17 3 300 60 60 ACCEPT OK");
        assert_eq!(line, expected, "{name}");
    }
}

#[test]
fn lines_are_sorted_by_start_and_eni() {
    let of = |start| flow(Direction::Egress, "10.0.1.10", "10.0.1.20", start);
    let reports = [
        report("eni-0c", vec![of(61)]),
        report("eni-0b", vec![of(61), of(99)]),
        report("eni-0a", vec![]),
    ];
    let order: Vec<_> = lines(&reports, WINDOW)
        .iter()
        .map(|line| (line.start(), line.interface().interface_id.clone()))
        .collect();
    let expected = [
        (60, "eni-0a"),
        (61, "eni-0b"),
        (61, "eni-0c"),
        (99, "eni-0b"),
    ];
    assert_eq!(order, expected.map(|(start, id)| (start, id.to_owned())));
}

#[test]
fn an_eni_without_records_says_why_or_nothing() {
    let rows = [
        ("whole", 0, true, Some("NODATA")),
        ("in a part of the interval", 0, false, None),
        ("whole, uncounted packets", 7, true, Some("SKIPDATA")),
        ("in a part, uncounted packets", 7, false, Some("SKIPDATA")),
    ];
    for (name, skipped_packets, is_whole, expected) in rows {
        let reports = [Report {
            skipped_packets,
            is_whole,
            ..report("eni-0a", vec![])
        }];
        let made: Vec<_> = lines(&reports, WINDOW)
            .iter()
            .map(Line::to_string)
            .collect();
        let expected: Vec<_> = expected
            .map(|status| format!("2 123456789012 eni-0a - - - - - - - 60 119 - {status}"))
            .into_iter()
            .collect();
        assert_eq!(made, expected, "{name}");
    }
}

#[test]
fn a_report_survives_the_store() {
    let mut flows = vec![
        flow(Direction::Ingress, "198.51.100.7", "10.0.1.11", 60),
        flow(Direction::Egress, "2001:db8::1", "2001:db8::2", 61),
        flow(Direction::Ingress, "2001:db8::2", "2001:db8::1", 61),
    ];
    flows[0].0.rule = Some(Rule::new("sg-web", "sgr-1"));
    flows[1].0.traffic_path = Some(8);
    flows[2].0.drop_reason = Some(DropReason::ConntrackFull);
    let report = report("eni-0a", flows);
    let json = serde_json::to_vec(&report).unwrap();
    assert_eq!(serde_json::from_slice::<Report>(&json).unwrap(), report);
}

#[test]
fn records_that_only_our_own_fields_tell_apart_are_one_of_vpc_flow_logs() {
    let (tuple, _) = flow(Direction::Ingress, "198.51.100.7", "10.0.1.11", 60);
    let by = |rule: &str| FlowTuple {
        rule: Some(Rule::new("sg-web", rule)),
        ..tuple.clone()
    };
    let rejected = FlowTuple {
        drop_reason: Some(DropReason::NoRule),
        ..tuple.clone()
    };
    assert_ne!(by("sgr-1"), by("sgr-2"));
    for own in [by("sgr-1"), by("sgr-2"), rejected] {
        assert_eq!(own.standard(), tuple);
    }
    let path = FlowTuple {
        traffic_path: Some(8),
        ..tuple.clone()
    };
    assert_ne!(path.standard(), tuple);
}
