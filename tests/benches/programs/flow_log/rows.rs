//! Rows as a busy host has them: some ENIs, each with clients that come and go.

use std::net::Ipv4Addr;

use branchline::flow_log::{Content, Row};
use branchline::flows::{Action, FlowCounts, FlowTuple, Interface, Window};
use branchline_common::verdict::Direction;
use branchline_tests::random::Random;

/// ENIs of the host.
const ENIS: usize = 50;
/// Ports that servers listen on.
const PORTS: [u16; 5] = [80, 443, 5432, 8080, 9090];
/// The interval.
const WINDOW: Window = Window {
    start: 1_700_000_040,
    end: 1_700_000_100,
};

/// ENIs, and flows of each.
pub(crate) struct Rows {
    interfaces: Vec<Interface>,
    flows: Vec<(usize, FlowTuple, FlowCounts)>,
}

impl Rows {
    /// So many rows, the same every time, by ENI.
    pub(crate) fn new(count: usize) -> Self {
        let mut random = Random::new(1);
        let mut flows: Vec<_> = (0..count).map(|_| flow(&mut random)).collect();
        flows.sort_by_key(|(eni, _, counts)| (counts.start(), *eni));
        Self {
            interfaces: (0..ENIS).map(interface).collect(),
            flows,
        }
    }

    /// The rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.flows.iter().map(|(eni, tuple, counts)| {
            Row::new(&self.interfaces[*eni], Content::Ok(tuple, counts), WINDOW)
        })
    }
}

fn interface(number: usize) -> Interface {
    let named = |text: &str| Some(text.to_owned());
    Interface {
        account_id: "123456789012".to_owned(),
        interface_id: format!("eni-{:017x}", number * 0x1234_5679),
        primary_ipv4: Some(own(number)),
        vpc_id: named("vpc-0a1b2c3d4e5f60718"),
        subnet_id: Some(format!("subnet-{:017x}", number % 3)),
        instance_id: named("i-0c50d5961bcb2d47b"),
        region: named("eu-west-1"),
        az_id: named("euw1-az1"),
        ..Interface::default()
    }
}

fn own(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0104 + number as u32)
}

fn flow(random: &mut Random) -> (usize, FlowTuple, FlowCounts) {
    let eni = random.below(ENIS);
    let own = (own(eni).into(), PORTS[random.below(PORTS.len())]);
    let peer = Ipv4Addr::from(0x0a00_0200 + random.below(2_000) as u32);
    let peer = (peer.into(), 1_024 + random.below(60_000) as u16);
    let direction = if random.below(2) == 0 {
        Direction::Ingress
    } else {
        Direction::Egress
    };
    let ((src, src_port), (dst, dst_port)) = match direction {
        Direction::Ingress => (peer, own),
        Direction::Egress => (own, peer),
    };
    let packets = 1 + random.below(200) as u64;
    let first_ms = WINDOW.start * 1_000 + random.below(40_000) as u64;
    let tuple = FlowTuple {
        direction,
        src,
        dst,
        src_port,
        dst_port,
        protocol: if random.below(5) == 0 { 17 } else { 6 },
        action: if random.below(20) == 0 {
            Action::Reject
        } else {
            Action::Accept
        },
        traffic_path: Some(1),
        rule: None,
        drop_reason: None,
        service: None,
    };
    let counts = FlowCounts {
        packets,
        bytes: packets * (40 + random.below(1_400) as u64),
        tcp_flags: [2, 3, 18, 19, 0][random.below(5)],
        first_ms,
        last_ms: first_ms + random.below(19_000) as u64,
    };
    (eni, tuple, counts)
}
