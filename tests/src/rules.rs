//! Security group rules as a row writes them, compiled by brute force.
//!
//! It shares no code with the agent's compiler and so checks it. It knows nothing of groups: several
//! groups are simply more rules.

use std::{collections::HashSet, net::IpAddr};

use branchline_common::{
    flow::{Address, mapped},
    headers::protocol,
    maps::{PeerKey, PortKey},
    memory::Rules,
    security_group::RuleSet,
    verdict::Direction,
};
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

/// Compiles the rules as `policy`; their order in each direction is their number.
#[must_use]
pub fn compile(policy: u32, rules: &[Rule]) -> Rules {
    let mut compiled = Rules::default();
    for direction in [Direction::Ingress, Direction::Egress] {
        let of_direction = rules.iter().filter(|rule| rule.direction == direction);
        let rules: Vec<(u16, &Rule)> = (0..)
            .zip(of_direction)
            .filter(|(_, rule)| can_match(rule))
            .collect();
        let peers: HashSet<IpNet> = rules.iter().map(|(_, rule)| rule.peer).collect();
        for peer in peers {
            let set = set_of(&rules, |rule| rule.peer.contains(&peer));
            let (bits, address) = prefix(peer);
            let key = PeerKey::new(policy, direction, is_ipv4(peer), address);
            compiled.peers.insert((bits, key), set);
        }
        let blocks: HashSet<Block> = rules.iter().flat_map(|(_, rule)| blocks(rule)).collect();
        for block in blocks {
            let set = set_of(&rules, |rule| block.is_covered_by(rule));
            let key = PortKey::new(policy, direction, block.protocol.unwrap_or(0), block.first);
            compiled.ports.insert((block.bits(), key), set);
        }
    }
    compiled
}

/// ICMP never has IPv6 addresses and ICMPv6 never IPv4 ones, whatever peer stands beside them.
fn can_match(rule: &Rule) -> bool {
    match rule.protocol {
        Some(protocol::ICMP) => is_ipv4(rule.peer),
        Some(protocol::ICMPV6) => !is_ipv4(rule.peer),
        _ => true,
    }
}

fn set_of(rules: &[(u16, &Rule)], covers: impl Fn(&Rule) -> bool) -> RuleSet {
    let mut set = RuleSet::default();
    for (number, rule) in rules {
        if covers(rule) {
            set.insert(*number);
        }
    }
    set
}

fn is_ipv4(peer: IpNet) -> bool {
    matches!(peer, IpNet::V4(_))
}

fn prefix(peer: IpNet) -> (u32, Address) {
    let bits = PeerKey::FIXED_BITS + u32::from(peer.prefix_len());
    match peer.network() {
        IpAddr::V4(address) => (bits + 96, mapped(address.octets())),
        IpAddr::V6(address) => (bits, address.octets()),
    }
}

/// Ports that a prefix can say: all of all protocols, or an aligned power of two of one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Block {
    protocol: Option<u8>,
    first: u16,
    /// Logarithm of the number of ports.
    order: u32,
}

impl Block {
    fn bits(&self) -> u32 {
        match self.protocol {
            None => PortKey::ANY_PROTOCOL_BITS,
            Some(_) => PortKey::BITS - self.order,
        }
    }

    fn is_covered_by(&self, rule: &Rule) -> bool {
        let last = u32::from(self.first) + (1 << self.order) - 1;
        match rule.protocol {
            None => true,
            of => {
                of == self.protocol && rule.ports.0 <= self.first && last <= u32::from(rule.ports.1)
            }
        }
    }
}

/// The largest aligned blocks that make up the rule's ports.
fn blocks(rule: &Rule) -> Vec<Block> {
    let Some(protocol) = rule.protocol else {
        return vec![Block {
            protocol: None,
            first: 0,
            order: 16,
        }];
    };
    let (mut first, last) = (u32::from(rule.ports.0), u32::from(rule.ports.1));
    let mut blocks = Vec::new();
    while first <= last {
        let order = (0..=16)
            .rev()
            .find(|order| first % (1 << order) == 0 && first + (1 << order) - 1 <= last)
            .unwrap_or(0);
        blocks.push(Block {
            protocol: Some(protocol),
            first: first as u16,
            order,
        });
        first += 1 << order;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocks_of_a_range_are_the_range() {
        for (ports, expected) in [("8000-8010", 3), ("0-65535", 1), ("1-65534", 30), ("7", 1)] {
            let rule = rule(&format!("ingress tcp {ports} 0.0.0.0/0"));
            let blocks = blocks(&rule);
            assert_eq!(blocks.len(), expected, "{ports}");
            let sum: u32 = blocks.iter().map(|block| 1 << block.order).sum();
            assert_eq!(sum, u32::from(rule.ports.1) - u32::from(rule.ports.0) + 1);
        }
    }
}
