//! What the golden scenarios do not ask: the sequence check, the limit of an ENI, and explanations.

#![expect(clippy::unwrap_used, reason = "tests")]

use crate::{
    Direction::{self, Egress, Ingress},
    Eni, Environment, Fragment, Ip, IpPermission, Judgement, Packet, SecurityGroup, State, Step,
    Tcp, Transport, Verdict, World,
};

const PEER: &str = "198.51.100.7";

/// A world in which `10.0.1.10` may be reached on port 22 from 198.51.100.0/24.
fn world(environment: Environment) -> World {
    let mut world = World::new(environment);
    let ssh = IpPermission {
        ip_protocol: "tcp".to_owned(),
        from_port: Some(22),
        to_port: Some(22),
        ip_ranges: vec!["198.51.100.0/24".parse().unwrap()],
        ..IpPermission::default()
    };
    let group = SecurityGroup {
        ip_permissions: vec![ssh],
        ip_permissions_egress: Vec::new(),
    };
    world.set_group("sg-ssh", Some(&group)).unwrap();
    let eni = Eni {
        addresses: vec!["10.0.1.10".parse().unwrap()],
        groups: vec!["sg-ssh".to_owned()],
        ..Eni::default()
    };
    world.set_eni("a", Some(&eni));
    world
}

/// A segment between the peer's port and port 22, without ports.
fn segment(flags: &str, sequence: u32, acknowledgment: u32, data: u32) -> Tcp {
    Tcp {
        syn: flags.contains('S'),
        ack: flags.contains('A'),
        fin: flags.contains('F'),
        rst: flags.contains('R'),
        sequence,
        acknowledgment,
        data,
        ..Tcp::default()
    }
}

fn packet(direction: Direction, port: u16, tcp: Tcp) -> Packet {
    let (peer, own) = (PEER.parse().unwrap(), "10.0.1.10".parse().unwrap());
    let (source, destination, source_port, destination_port) = match direction {
        Ingress => (peer, own, port, 22),
        Egress => (own, peer, 22, port),
    };
    Packet::Ip(Ip {
        source,
        destination,
        protocol: 6,
        hop_limit: 64,
        fragment: Fragment::Whole,
        transport: Transport::Tcp(Tcp {
            source_port,
            destination_port,
            ..tcp
        }),
    })
}

fn judge(world: &mut World, direction: Direction, tcp: Tcp) -> Judgement {
    world.judge(0, "a", direction, &packet(direction, 1000, tcp))
}

fn state(world: &World) -> State {
    world.connections(0).next().unwrap().1.state
}

/// A world with an established connection: the peer is at `peer`, the ENI at `own`, and 100 bytes
/// of the ENI are not acknowledged.
fn established(peer: u32, own: u32) -> World {
    let mut world = world(Environment::default());
    let before = |number: u32| number.wrapping_sub(1);
    judge(&mut world, Ingress, segment("S", before(peer), 0, 0));
    judge(&mut world, Egress, segment("SA", before(own), peer, 0));
    judge(&mut world, Ingress, segment("A", peer, own, 0));
    judge(&mut world, Egress, segment("A", own, peer, 100));
    assert_eq!(state(&world), State::Established);
    world
}

#[test]
fn a_reset_or_fin_counts_between_what_is_acknowledged_and_what_was_sent() {
    // Around the wrap of the numbers, and away from it.
    for own in [5000_u32, u32::MAX - 49] {
        let at = |offset: i64| own.wrapping_add(offset as u32);
        let rows = [
            (at(-1), false),
            (at(0), true),
            (at(50), true),
            (at(100), true),
            (at(101), false),
            (at(1 << 31), false),
        ];
        for (sequence, counts) in rows {
            for (flags, then) in [("R", State::Close), ("FA", State::Fin)] {
                let mut world = established(77, own);
                let judged = judge(&mut world, Egress, segment(flags, sequence, 77, 0));
                assert_eq!(judged.step, Step::Connection);
                let expected = if counts { then } else { State::Established };
                assert_eq!(state(&world), expected, "{flags} {sequence} of {own}");
            }
        }
    }
}

#[test]
fn of_an_unknown_direction_the_acknowledgment_must_fit() {
    for (flags, acknowledgment, then) in [
        ("RA", 501, State::Close),
        ("RA", 500, State::Close),
        ("RA", 502, State::SynSent),
        ("R", 501, State::SynSent),
    ] {
        let mut world = world(Environment::default());
        judge(&mut world, Ingress, segment("S", 500, 0, 0));
        judge(&mut world, Egress, segment(flags, 0, acknowledgment, 0));
        assert_eq!(state(&world), then, "{flags} {acknowledgment}");
    }
}

#[test]
fn only_what_is_near_moves_the_end() {
    for (sequence, counts) in [(5100 + (1 << 23), true), (5101 + (1 << 23), false)] {
        let mut world = established(77, 5000);
        judge(&mut world, Egress, segment("A", sequence, 77, 10));
        judge(&mut world, Egress, segment("R", sequence + 10, 0, 0));
        assert_eq!(state(&world) == State::Close, counts, "{sequence}");
    }
}

#[test]
fn a_reset_that_does_not_count_still_refreshes() {
    let mut world = world(Environment::default());
    judge(&mut world, Ingress, segment("S", 500, 0, 0));
    let forged = packet(Ingress, 1000, segment("R", 7, 0, 0));
    assert_eq!(
        world.judge(119, "a", Ingress, &forged).step,
        Step::Connection
    );
    let left: Vec<_> = world.connections(238).map(|(_, left)| left.state).collect();
    assert_eq!(left, [State::SynSent]);
}

#[test]
fn a_second_syn_of_the_opener_starts_anew() {
    let mut world = world(Environment::default());
    judge(&mut world, Ingress, segment("S", 500, 0, 0));
    judge(&mut world, Ingress, segment("S", 900_000_000, 0, 0));
    judge(&mut world, Ingress, segment("R", 501, 0, 0));
    assert_eq!(state(&world), State::SynSent);
    judge(&mut world, Ingress, segment("R", 900_000_001, 0, 0));
    assert_eq!(state(&world), State::Close);
}

#[test]
fn an_eni_at_its_own_limit_leaves_room_for_others() {
    let mut world = world(Environment {
        conntrack_limit: 4,
        conntrack_limit_per_eni: Some(2),
        ..Environment::default()
    });
    let syn = |port| packet(Ingress, port, segment("S", 1, 0, 0));
    for (port, step) in [
        (1, Step::Opened),
        (2, Step::Opened),
        (3, Step::ConntrackFull),
    ] {
        assert_eq!(
            world.judge(0, "a", Ingress, &syn(port)).step,
            step,
            "{port}"
        );
    }
    assert_eq!(world.conntrack_allowance_exceeded("a"), 1);
    assert_eq!(world.conntrack_allowance_available("a", 0), 0);
    assert_eq!(world.conntrack_allowance_available("b", 0), 2);
}

#[test]
fn a_judgement_names_the_rule_or_why_there_is_none() {
    let mut world = world(Environment::default());
    let allowed = judge(&mut world, Ingress, segment("S", 1, 0, 0));
    assert_eq!(
        (
            allowed.verdict,
            allowed.step.to_string(),
            allowed.rule.unwrap().to_string()
        ),
        (
            Verdict::Accept,
            "a rule allows it; it opens a connection".to_owned(),
            "sg-ssh ip_permissions[0], 198.51.100.0/24".to_owned(),
        )
    );
    let refused = world.judge(0, "a", Egress, &packet(Egress, 1001, segment("S", 1, 0, 0)));
    assert_eq!(
        (refused.verdict, refused.step, refused.rule),
        (Verdict::Reject, Step::NoRule, None)
    );
}

#[test]
fn a_malformed_permission_is_named_and_changes_nothing() {
    let permission = |protocol: &str, from, to| SecurityGroup {
        ip_permissions: vec![IpPermission {
            ip_protocol: protocol.to_owned(),
            from_port: from,
            to_port: to,
            ..IpPermission::default()
        }],
        ..SecurityGroup::default()
    };
    let rows = [
        (
            "tcp",
            Some(2),
            Some(1),
            "ip_permissions[0].from_port: 2 is above to_port 1",
        ),
        (
            "tcp",
            Some(2),
            None,
            "ip_permissions[0].to_port: is missing",
        ),
        (
            "udp",
            Some(0),
            Some(65536),
            "ip_permissions[0].to_port: 65536 is no port",
        ),
        (
            "icmp",
            None,
            None,
            "ip_permissions[0].from_port: is missing",
        ),
        (
            "icmp",
            Some(-1),
            Some(0),
            "ip_permissions[0].to_port: type -1 requires code -1",
        ),
        (
            "icmp",
            Some(256),
            Some(-1),
            "ip_permissions[0].from_port: 256 is no ICMP type",
        ),
        (
            "256",
            None,
            None,
            "ip_permissions[0].ip_protocol: \"256\" is no protocol",
        ),
    ];
    for (protocol, from, to, expected) in rows {
        let mut world = world(Environment::default());
        let group = permission(protocol, from, to);
        let error = world.set_group("sg-ssh", Some(&group)).unwrap_err();
        assert_eq!(error.to_string(), expected);
        let judged = judge(&mut world, Ingress, segment("S", 1, 0, 0));
        assert_eq!(judged.step, Step::Opened, "{expected}");
    }
}
