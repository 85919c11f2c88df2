//! Epochs for tests: one ENI, one flow.

use std::net::IpAddr;
use std::sync::Arc;

use branchline_common::verdict::Direction;

use crate::flows::{Action, Epoch, FlowCounts, FlowTuple, Interface, Report, Window};

/// The ENI of every epoch.
pub(crate) const ENI: &str = "eni-1";

pub(crate) fn tuple() -> FlowTuple {
    FlowTuple {
        direction: Direction::Ingress,
        src: IpAddr::from([198, 51, 100, 7]),
        dst: IpAddr::from([10, 0, 1, 10]),
        src_port: 40_000,
        dst_port: 443,
        protocol: 6,
        action: Action::Accept,
        traffic_path: None,
        rule: None,
        drop_reason: None,
        service: None,
    }
}

pub(crate) fn counts(packets: u64, first_second: u64, last_second: u64) -> FlowCounts {
    FlowCounts {
        packets,
        bytes: packets * 100,
        tcp_flags: 0,
        first_ms: first_second * 1_000,
        last_ms: last_second * 1_000,
    }
}

/// An epoch of the seconds from `start` to before `end` with so many packets.
pub(crate) fn epoch(number: u32, start: u64, end: u64, packets: u64) -> Epoch {
    let interface = Interface {
        account_id: "123456789012".to_owned(),
        interface_id: ENI.to_owned(),
        ..Interface::default()
    };
    Epoch {
        number,
        window: Window { start, end },
        reports: vec![Report {
            interface: Arc::new(interface),
            flows: vec![(tuple(), counts(packets, start, end - 1))],
            skipped_packets: 0,
            is_whole: true,
        }],
    }
}
