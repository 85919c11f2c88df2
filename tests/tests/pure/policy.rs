//! The agent's compiler of security groups against the harness's own, which shares no code with it.

use branchline::{
    policy,
    security_groups::{PortRange, Protocol, SecurityGroup, SecurityGroupRule},
};
use branchline_common::{
    flow::{Address, is_ipv4},
    headers::protocol,
    memory::Rules,
    verdict::Direction,
};
use branchline_tests::{
    case::mapped_address,
    rules::{self, Rule},
};
use proptest::{prelude::*, sample::select};

const POLICY: u32 = 7;
const NETWORKS: [&str; 10] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.1.0/24",
    "10.0.1.10/32",
    "128.0.0.0/1",
    "::/0",
    "2001:db8::/32",
    "2001:db8:1::/47",
    "2001:db8:1::10/128",
    "::ffff:0:0/96",
];
const ADDRESSES: [&str; 9] = [
    "10.0.1.10",
    "10.0.1.11",
    "10.0.2.1",
    "127.255.255.255",
    "255.255.255.255",
    "2001:db8:1::10",
    "2001:db8:2::",
    "2001:db9::",
    "fd00::1",
];
const PROTOCOLS: [u8; 6] = [1, 6, 17, 47, 58, 255];

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        select(&[0_u16, 1, 79, 80, 81, 443, 0x0800, 0x8000, 65_534, 65_535][..]),
        any::<u16>()
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let protocol = prop_oneof![Just(None), select(&PROTOCOLS[..]).prop_map(Some)];
    let parts = (
        any::<bool>(),
        protocol,
        port(),
        port(),
        any::<bool>(),
        select(&NETWORKS[..]),
    );
    parts.prop_map(|(outgoing, protocol, one, other, all, peer)| {
        let has_ports = matches!(protocol, Some(1 | 6 | 17 | 58));
        Rule {
            direction: if outgoing {
                Direction::Egress
            } else {
                Direction::Ingress
            },
            protocol,
            ports: if all || !has_ports {
                (0, u16::MAX)
            } else {
                (one.min(other), one.max(other))
            },
            peer: peer.parse().expect("a network"),
        }
    })
}

/// The rules as groups of three.
fn groups(rules: &[Rule]) -> Vec<SecurityGroup> {
    let groups = rules.chunks(3).enumerate().map(|(index, rules)| {
        let group_id = format!("sg-{index:017x}");
        let rules = rules.iter().map(|rule| {
            let protocol = rule.protocol.map_or(Protocol::Any, Protocol::Number);
            let ports = PortRange {
                first: rule.ports.0,
                last: rule.ports.1,
            };
            SecurityGroupRule::new(&group_id, rule.direction, protocol, ports, rule.peer, None)
        });
        SecurityGroup {
            rules: rules.collect(),
            group_name: group_id.clone(),
            group_id,
            ..SecurityGroup::default()
        }
    });
    groups.collect()
}

/// The rule that the program finds, by number.
fn found(
    rules: &Rules,
    direction: Direction,
    peer: &Address,
    protocol: u8,
    port: Option<u16>,
) -> Option<u16> {
    let peers = rules.peer(POLICY, direction, peer)?;
    peers.first_common(rules.port(POLICY, direction, protocol, port)?)
}

/// The rule that stands first and says so.
fn said(
    rules: &[Rule],
    direction: Direction,
    peer: &str,
    protocol: u8,
    port: Option<u16>,
) -> Option<u16> {
    let peer: std::net::IpAddr = peer.parse().expect("an address");
    let admits = |rule: &Rule| {
        let ports = match (rule.protocol, port) {
            (None, _) => true,
            (Some(of), Some(port)) => {
                of == protocol && (rule.ports.0..=rule.ports.1).contains(&port)
            }
            (Some(of), None) => of == protocol && rule.ports == (0, u16::MAX),
        };
        ports && rule.peer.contains(&peer)
    };
    let of_direction = rules.iter().filter(|rule| rule.direction == direction);
    (0..)
        .zip(of_direction)
        .find(|(_, rule)| admits(rule))
        .map(|(number, _)| number)
}

proptest! {
    #[test]
    fn both_compilers_find_the_rule_that_stands_first(
        rules in proptest::collection::vec(rule(), 0..12),
        probes in proptest::collection::vec((any::<bool>(), select(&ADDRESSES[..]), select(&PROTOCOLS[..]), proptest::option::of(port())), 40),
    ) {
        let agent = policy::compile(POLICY, &groups(&rules)).expect("few rules").rules;
        let own = rules::compile(POLICY, &rules);
        for (outgoing, peer, protocol, port) in probes {
            let direction = if outgoing { Direction::Egress } else { Direction::Ingress };
            let address = mapped_address(peer);
            // No packet has ICMP of the other IP version: the parser refuses it.
            let foreign = if is_ipv4(&address) { protocol::ICMPV6 } else { protocol::ICMP };
            if protocol == foreign {
                continue;
            }
            let expected = said(&rules, direction, peer, protocol, port);
            let what = format!("{direction:?} {peer} {protocol} {port:?} in {rules:?}");
            prop_assert_eq!(found(&agent, direction, &address, protocol, port), expected, "agent: {}", &what);
            prop_assert_eq!(found(&own, direction, &address, protocol, port), expected, "harness: {}", &what);
        }
    }
}
