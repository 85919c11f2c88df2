//! Lines of the default format: the golden cases, and what a file's order and skips are.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

/// A `flowlog_cases.json`: packets with verdicts, and the lines they make.
#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    account: String,
    eni: CaseEni,
    interval: u64,
    traffic_type: String,
    format: String,
    windows: Vec<u64>,
    skipped_windows: Vec<u64>,
    packets: Vec<CasePacket>,
    expect: Vec<String>,
}

#[derive(Deserialize)]
struct CaseEni {
    id: String,
    ipv4: Vec<Ipv4Addr>,
}

#[derive(Deserialize)]
struct CasePacket {
    t: u64,
    #[serde(with = "DirectionName")]
    dir: Direction,
    src: IpAddr,
    dst: IpAddr,
    proto: String,
    len: u64,
    action: Action,
    #[serde(default)]
    sport: u16,
    #[serde(default)]
    dport: u16,
    gso_segs: Option<u64>,
    hdr: Option<u64>,
    #[serde(default)]
    exempt: bool,
}

impl CasePacket {
    fn flow(&self) -> (FlowTuple, FlowCounts) {
        let segments = self.gso_segs.unwrap_or(1);
        let tuple = FlowTuple {
            direction: self.dir,
            src: self.src,
            dst: self.dst,
            src_port: self.sport,
            dst_port: self.dport,
            protocol: match self.proto.as_str() {
                "icmp" => 1,
                "tcp" => 6,
                "udp" => 17,
                other => panic!("protocol {other}"),
            },
            action: self.action,
        };
        let counts = FlowCounts {
            packets: segments,
            bytes: self.len + (segments - 1) * self.hdr.unwrap_or(0),
            start: self.t,
            end: self.t,
        };
        (tuple, counts)
    }
}

fn lines_of(case: &Case) -> Vec<String> {
    let mut windows: BTreeMap<u64, BTreeMap<FlowTuple, FlowCounts>> = BTreeMap::new();
    for start in &case.windows {
        windows.entry(*start).or_default();
    }
    for packet in case.packets.iter().filter(|packet| !packet.exempt) {
        let (tuple, counts) = packet.flow();
        windows
            .entry(packet.t - packet.t % case.interval)
            .or_default()
            .entry(tuple)
            .and_modify(|total| total.merge(&counts))
            .or_insert(counts);
    }
    let mut all = Vec::new();
    for (start, flows) in windows {
        let report = Report {
            interface: Interface {
                account_id: case.account.clone(),
                interface_id: case.eni.id.clone(),
                primary_ipv4: case.eni.ipv4.first().copied(),
            },
            task_id: None,
            flows: flows.into_iter().collect(),
            is_skipped: case.skipped_windows.contains(&start),
            is_whole: true,
        };
        let window = Window {
            start,
            end: start + case.interval,
        };
        all.extend(lines(&[report], window).iter().map(Line::to_string));
    }
    all
}

#[test]
fn golden_cases_of_the_default_format_make_their_lines() {
    let cases = include_str!("../../../tests/fixtures/flowlog_cases.json");
    let cases: Cases = serde_json::from_str(cases).unwrap();
    // A traffic filter and other formats come with the full set of fields.
    let applicable = cases
        .cases
        .iter()
        .filter(|case| case.format == HEADER && case.traffic_type == "ALL");
    let mut checked = 0;
    for case in applicable {
        let mut made = lines_of(case);
        made.sort();
        let mut expected = case.expect.clone();
        expected.sort();
        assert_eq!(made, expected, "{}", case.id);
        checked += 1;
    }
    assert_eq!(checked, 6);
}

fn interface(id: &str) -> Interface {
    Interface {
        account_id: "123456789012".to_owned(),
        interface_id: id.to_owned(),
        primary_ipv4: Some(Ipv4Addr::new(10, 0, 1, 10)),
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
    };
    let counts = FlowCounts {
        packets: 3,
        bytes: 300,
        start,
        end: start,
    };
    (tuple, counts)
}

fn report(id: &str, flows: Vec<(FlowTuple, FlowCounts)>) -> Report {
    Report {
        interface: interface(id),
        task_id: None,
        flows,
        is_skipped: false,
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
        ("whole", false, true, Some("NODATA")),
        ("in a part of the interval", false, false, None),
        ("whole, uncounted packets", true, true, Some("SKIPDATA")),
        (
            "in a part, uncounted packets",
            true,
            false,
            Some("SKIPDATA"),
        ),
    ];
    for (name, is_skipped, is_whole, expected) in rows {
        let reports = [Report {
            is_skipped,
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
    let flows = vec![
        flow(Direction::Ingress, "198.51.100.7", "10.0.1.11", 60),
        flow(Direction::Egress, "2001:db8::1", "2001:db8::2", 61),
    ];
    let report = report("eni-0a", flows);
    let json = serde_json::to_vec(&report).unwrap();
    assert_eq!(serde_json::from_slice::<Report>(&json).unwrap(), report);
}
