#![expect(clippy::unwrap_used, reason = "tests")]

use branchline_common::verdict::{Direction, DropReason};

use super::*;
use crate::flows::Action;
use crate::live::Rate;

fn about(action: Action, protocol: u8, ports: (u16, u16)) -> FlowEvent {
    FlowEvent {
        time_ms: 1_000 * (3_600 * 10 + 60 * 2 + 24) + 7,
        flow: Flow {
            task_id: Some("web".into()),
            interface_id: Some("eni-1".into()),
            direction: Direction::Ingress,
            srcaddr: "10.0.2.7".parse().unwrap(),
            dstaddr: "10.0.1.5".parse().unwrap(),
            srcport: ports.0,
            dstport: ports.1,
            protocol,
            action,
            drop_reason: None,
            icmp_id: None,
        },
        packets: 7,
        bytes: 431,
        reply_packets: 16,
        reply_bytes: 101_002,
        start: None,
        end: 0,
        reason: None,
        complete: true,
    }
}

#[test]
fn events_are_lines() {
    let closed = FlowEvent {
        reason: Some(Ending::Closed),
        ..about(Action::Accept, 6, (4711, 443))
    };
    let joined = FlowEvent {
        reason: Some(Ending::Timeout),
        complete: false,
        ..about(Action::Audit, 1, (0, 0))
    };
    let mut rejected = about(Action::Reject, 17, (4711, 53));
    rejected.flow.drop_reason = Some(DropReason::NoRule);
    let lines = [
        event_header(),
        event(&LiveEvent::Start(about(Action::Accept, 6, (4711, 443)))),
        event(&LiveEvent::End(closed)),
        event(&LiveEvent::End(joined)),
        event(&LiveEvent::Reject(rejected)),
        event(&LiveEvent::Lost { events: 12 }),
    ];
    let expected = "\
TIME (UTC)    EVENT   TASK          DIRECTION  FLOW
10:02:24.007  start   web           ingress    tcp 10.0.2.7:4711 → 10.0.1.5:443  ACCEPT
10:02:24.007  end     web           ingress    tcp 10.0.2.7:4711 → 10.0.1.5:443  ACCEPT 7 pkt 431 B, back 16 pkt 101002 B, closed
10:02:24.007  end     web           ingress    icmp 10.0.2.7 → 10.0.1.5  AUDIT 7 pkt 431 B, back 16 pkt 101002 B, timed out, since it was followed
10:02:24.007  reject  web           ingress    udp 10.0.2.7:4711 → 10.0.1.5:53  REJECTED 7 pkt 431 B, no-rule
              lost    12 events: they came faster than they were read
";
    assert_eq!(lines.concat(), expected);
}

#[test]
fn rates_are_columns() {
    let rate = Rate {
        ingress_bytes_per_second: 12_345_678.0,
        egress_bytes_per_second: 99.5,
        ingress_packets_per_second: 0.5,
        egress_packets_per_second: 0.0,
    };
    let sample = FlowRates {
        time_ms: 0,
        seconds: 1.04,
        tasks: vec![TaskRate {
            task_id: Some("web".into()),
            interface_id: "eni-1".into(),
            flows: 1,
            rate,
            rejected_packets_per_second: 3.0,
        }],
        flows: vec![FlowRate {
            flow: about(Action::Accept, 6, (4711, 443)).flow,
            rate,
        }],
        flow_count: 9,
    };
    let expected = "\
TASK  FLOWS  IN B/s  OUT B/s  IN pkt/s  OUT pkt/s  REJECTED pkt/s
web   1      12.3M   99.5     0.5       0          3

TASK  FLOW                              ACTION  IN B/s  OUT B/s  IN pkt/s  OUT pkt/s
web   tcp 10.0.2.7:4711 → 10.0.1.5:443  ACCEPT  12.3M   99.5     0.5       0

1 of 9 flows, over 1.0 s
";
    assert_eq!(rates(&sample), expected);
}

#[test]
fn a_rate_has_at_most_five_characters_and_a_unit() {
    for (value, text) in [
        (0.0, "0"),
        (0.1, "0.1"),
        (99.9, "99.9"),
        (100.4, "100"),
        (9_999.0, "9999"),
        (10_000.0, "10k"),
        (12_345.0, "12.3k"),
        (1e9, "1000M"),
        (1e17, "100000T"),
    ] {
        assert_eq!(scaled(value), text);
    }
}
