//! The agent's compiler of security groups against a scan of their rules.

use branchline::policy::{self, Trees};
use branchline_common::{flow::is_ipv4, headers::protocol, policy::scope, verdict::Direction};
use branchline_tests::{
    case::mapped_address,
    rules::{self, Rule},
};
use proptest::{prelude::*, sample::select};

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

/// The numbers of the rules that admit a packet by a scan from first to last, with what the rule
/// is: an open one or not.
fn scan(
    rules: &[Rule],
    direction: Direction,
    peer: &str,
    protocol: u8,
    port: Option<u16>,
) -> Vec<bool> {
    let peer: std::net::IpAddr = peer.parse().expect("an address");
    let admits = |rule: &&Rule| {
        let ports = match (rule.protocol, port) {
            (None, _) => true,
            (Some(of), Some(port)) => {
                of == protocol && (rule.ports.0..=rule.ports.1).contains(&port)
            }
            (Some(of), None) => of == protocol && rule.ports == (0, u16::MAX),
        };
        rule.direction == direction && ports && rule.peer.contains(&peer)
    };
    let rules = rules.iter().filter(admits);
    rules.map(|rule| rule.peer.prefix_len() == 0).collect()
}

proptest! {
    #[test]
    fn a_policy_admits_what_a_scan_of_its_rules_admits(
        rules in proptest::collection::vec(rule(), 0..12),
        probes in proptest::collection::vec((any::<bool>(), select(&ADDRESSES[..]), select(&PROTOCOLS[..]), proptest::option::of(port())), 40),
    ) {
        let mut trees = Trees::default();
        let policy = rules::compile(&mut trees, &rules).entry;
        for (outgoing, peer, protocol, port) in probes {
            let direction = if outgoing { Direction::Egress } else { Direction::Ingress };
            let address = mapped_address(peer);
            // No packet has ICMP of the other IP version: the parser refuses it.
            let foreign = if is_ipv4(&address) { protocol::ICMPV6 } else { protocol::ICMP };
            if protocol == foreign {
                continue;
            }
            let expected = scan(&rules, direction, peer, protocol, port);
            let what = format!("{direction:?} {peer} {protocol} {port:?} in {rules:?}");
            let scope = scope(direction, is_ipv4(&address));
            let found = policy.rule(&trees, scope, &address, protocol, port);
            prop_assert_eq!(found.is_some(), !expected.is_empty(), "admitted: {}", &what);
            let is_open = found.is_some_and(|rule| policy.is_open(scope, rule));
            prop_assert_eq!(is_open, expected.contains(&true), "open: {}", &what);
            if let (Some(port), 6 | 17) = (port, protocol) {
                let opens = policy.opens(&trees, scope, protocol, port);
                prop_assert_eq!(opens, is_open, "opens: {}", &what);
                let every = scan(&rules, direction, peer, protocol, None).contains(&true);
                prop_assert_eq!(policy.admits_all(scope, protocol), every, "all: {}", &what);
            }
        }
        policy::release(&mut trees, &policy);
        prop_assert_eq!(trees.len(), (0, 0));
    }
}
