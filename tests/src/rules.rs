//! Security group rules as a row writes them. Several groups are simply more rules.

use branchline::{
    policy::{self, Networks, Policy, Trees},
    security_groups::{Directory, Members, PortRange, Protocol, SecurityGroup, SecurityGroupRule},
};
use branchline_common::{headers::protocol, verdict::Direction};
use ipnet::IpNet;

/// One rule: a direction, a protocol or all, ports (of ICMP: type and code) and a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Of the packet that opens a flow.
    pub direction: Direction,
    /// IANA number; `None` for all.
    pub protocol: Option<u8>,
    /// First and last; of ICMP, type in the high byte and code in the low.
    pub ports: (u16, u16),
    /// The peer.
    pub peer: IpNet,
}

const ALL_PORTS: (u16, u16) = (0, u16::MAX);

/// Reads rules such as `ingress tcp 8000-8010 10.0.0.0/8`, `egress all ::/0`, `ingress icmp 8/0
/// 0.0.0.0/0`, `ingress icmpv6 128 ::/0` or `ingress 47 10.0.0.0/8`.
///
/// # Panics
/// If a line is no rule.
#[must_use]
pub fn rules(lines: &[&str]) -> Vec<Rule> {
    lines.iter().map(|line| rule(line)).collect()
}

fn rule(line: &str) -> Rule {
    let bad = |what: &str| -> ! { panic!("no {what} in the rule {line:?}") };
    let words: Vec<_> = line.split(' ').collect();
    let (direction, protocol, ports, peer) = match words[..] {
        [direction, protocol, peer] => (direction, protocol, None, peer),
        [direction, protocol, ports, peer] => (direction, protocol, Some(ports), peer),
        _ => bad("three or four words"),
    };
    let direction = match direction {
        "ingress" => Direction::Ingress,
        "egress" => Direction::Egress,
        _ => bad("direction"),
    };
    let protocol = match protocol {
        "all" => None,
        "tcp" => Some(protocol::TCP),
        "udp" => Some(protocol::UDP),
        "icmp" => Some(protocol::ICMP),
        "icmpv6" => Some(protocol::ICMPV6),
        number => Some(number.parse().unwrap_or_else(|_| bad("protocol"))),
    };
    let number = |text: &str| -> u16 { text.parse().unwrap_or_else(|_| bad("port")) };
    let is_icmp = matches!(protocol, Some(protocol::ICMP | protocol::ICMPV6));
    let ports = match ports {
        None => ALL_PORTS,
        Some(ports) if is_icmp => match ports.split_once('/') {
            Some((icmp_type, code)) => {
                let both = number(icmp_type) << 8 | number(code);
                (both, both)
            }
            None => (number(ports) << 8, number(ports) << 8 | 0xff),
        },
        Some(ports) => match ports.split_once('-') {
            Some((first, last)) => (number(first), number(last)),
            None => (number(ports), number(ports)),
        },
    };
    let peer: IpNet = peer.parse().unwrap_or_else(|_| bad("peer"));
    Rule {
        direction,
        protocol,
        ports,
        peer: peer.trunc(),
    }
}

/// The group that has these rules.
#[must_use]
pub fn group(rules: &[Rule]) -> SecurityGroup {
    let rules = rules.iter().map(|rule| {
        SecurityGroupRule::new(
            GROUP,
            rule.direction,
            rule.protocol.map_or(Protocol::Any, Protocol::Number),
            PortRange {
                first: rule.ports.0,
                last: rule.ports.1,
            },
            rule.peer,
            None,
        )
    });
    SecurityGroup {
        group_id: GROUP.to_owned(),
        rules: rules.collect(),
        ..SecurityGroup::default()
    }
}

const GROUP: &str = "sg-case";

/// Compiles the rules into `trees`.
///
/// # Panics
/// If they do not fit.
#[must_use]
pub fn compile(trees: &mut Trees, rules: &[Rule]) -> Policy {
    let group = group(rules);
    let (directory, members) = <(Directory, Members)>::default();
    policy::compile(trees, &[&group], &mut Networks::of(&directory, &members))
        .expect("a case's rules fit")
}
