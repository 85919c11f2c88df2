//! Whose address the other end is.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::flows::{Action, FlowCounts, Window};

fn eni(number: u8, vpc: &str) -> Arc<Interface> {
    Arc::new(Interface {
        interface_id: format!("eni-{number}"),
        primary_ipv4: Some([10, 0, 0, number].into()),
        ipv6: Some(format!("fd00::{number}").parse().unwrap()),
        vpc_id: Some(vpc.to_owned()),
        ..Interface::default()
    })
}

fn peer(peers: &Peers, direction: Direction, src: &str, dst: &str) -> Option<String> {
    let tuple = FlowTuple {
        direction,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        src_port: 1,
        dst_port: 2,
        protocol: 6,
        action: Action::Accept,
        traffic_path: None,
        rule: None,
        drop_reason: None,
        service: None,
    };
    let counts = FlowCounts {
        packets: 1,
        bytes: 40,
        tcp_flags: 0,
        first_ms: 0,
        last_ms: 0,
    };
    let own = eni(1, "vpc-1");
    let ip_ranges = IpRanges::default();
    let window = Window { start: 0, end: 60 };
    let row = Row::new(&own, Content::Ok(&tuple, &counts), window);
    let surroundings = Surroundings {
        peers,
        ip_ranges: &ip_ranges,
    };
    let row = surroundings.complete(row);
    row.peer.map(|peer| peer.interface_id.clone())
}

#[test]
fn the_peer_is_who_has_the_other_address_in_the_vpc() {
    use Direction::{Egress, Ingress};
    let mut peers = Peers::default();
    for eni in [eni(1, "vpc-1"), eni(2, "vpc-1"), eni(3, "vpc-2")] {
        peers.add(&eni);
    }
    for (direction, src, dst, expected) in [
        (Egress, "10.0.0.1", "10.0.0.2", Some("eni-2")),
        (Ingress, "10.0.0.2", "10.0.0.1", Some("eni-2")),
        (Egress, "fd00::1", "fd00::2", Some("eni-2")),
        (Egress, "10.0.0.1", "10.0.0.3", None),
        (Egress, "10.0.0.1", "10.0.0.9", None),
        (Ingress, "10.0.0.9", "10.0.0.1", None),
    ] {
        let found = peer(&peers, direction, src, dst);
        assert_eq!(found.as_deref(), expected, "{direction:?} {src} {dst}");
    }
}

#[test]
fn an_address_that_changed_hands_is_nobodys() {
    let to_two = |peers: &Peers| peer(peers, Direction::Egress, "10.0.0.1", "10.0.0.2");
    let mut peers = Peers::default();
    peers.add(&eni(2, "vpc-1"));
    peers.add(&eni(2, "vpc-1"));
    assert_eq!(to_two(&peers).as_deref(), Some("eni-2"));
    let successor = Interface {
        interface_id: "eni-9".to_owned(),
        ..(*eni(2, "vpc-1")).clone()
    };
    peers.add(&Arc::new(successor));
    assert_eq!(to_two(&peers), None);
    peers.add(&eni(2, "vpc-1"));
    assert_eq!(to_two(&peers), None);
}
