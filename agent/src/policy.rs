//! Security groups to map entries: a set of groups compiled into one policy. Pure.
//!
//! A policy numbers the rules of its groups. For every peer network that a rule names it has the
//! set of rules whose peer covers that network, and for every aligned block of ports the set of
//! rules whose ports cover the block. The program looks both up by longest prefix and takes the
//! first rule in both sets, so its cost does not grow with the rules. ENIs with the same set of
//! groups share one policy.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use branchline_common::{
    flow::{Address, mapped},
    maps::{PeerKey, PortKey},
    memory::Rules,
    security_group::{MAX_RULES, RuleSet},
    verdict::Direction,
};
use ipnet::IpNet;

use crate::security_groups::{PortRange, Protocol, SecurityGroup, SecurityGroupRule};

/// Why a set of groups cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the security groups {} have {count} {direction} rules together and {MAX_RULES} fit; \
     merge networks or port ranges",
    groups.join(", ")
)]
pub struct TooManyRules {
    /// The groups.
    pub groups: Vec<String>,
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// Their rules of that direction.
    pub count: usize,
}

/// A rule of a policy, by the number that the program knows it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedRule {
    /// Its group.
    pub group_id: String,
    /// Its id.
    pub rule_id: String,
}

/// A compiled policy.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The map entries.
    pub rules: Rules,
    /// The rules towards the task, by number.
    pub ingress: Vec<NumberedRule>,
    /// The rules away from the task, by number.
    pub egress: Vec<NumberedRule>,
}

/// Compiles `groups` into the policy numbered `policy`.
///
/// # Errors
/// If a direction has more than [`MAX_RULES`] rules.
pub fn compile(policy: u32, groups: &[SecurityGroup]) -> Result<Policy, TooManyRules> {
    let mut compiled = Policy::default();
    for direction in [Direction::Ingress, Direction::Egress] {
        let rules = rules_of(groups, direction);
        if rules.len() > MAX_RULES {
            return Err(TooManyRules {
                groups: groups.iter().map(|group| group.group_id.clone()).collect(),
                direction: direction.name(),
                count: rules.len(),
            });
        }
        let numbered = rules.iter().map(|(group, rule)| NumberedRule {
            group_id: group.group_id.clone(),
            rule_id: rule.rule_id.clone(),
        });
        match direction {
            Direction::Ingress => compiled.ingress.extend(numbered),
            Direction::Egress => compiled.egress.extend(numbered),
        }
        let rules: Vec<_> = rules.into_iter().map(|(_, rule)| rule).collect();
        add_peers(policy, direction, &rules, &mut compiled.rules.peers);
        add_ports(policy, direction, &rules, &mut compiled.rules.ports);
    }
    Ok(compiled)
}

fn rules_of(
    groups: &[SecurityGroup],
    direction: Direction,
) -> Vec<(&SecurityGroup, &SecurityGroupRule)> {
    groups
        .iter()
        .flat_map(|group| group.rules.iter().map(move |rule| (group, rule)))
        .filter(|(_, rule)| rule.direction == direction && rule.peer.cidr().is_some())
        .collect()
}

fn set_of<'a>(
    rules: &[&'a SecurityGroupRule],
    covers: impl Fn(&'a SecurityGroupRule) -> bool,
) -> RuleSet {
    let mut set = RuleSet::default();
    for (number, rule) in (0_u16..).zip(rules) {
        if covers(rule) {
            set.insert(number);
        }
    }
    set
}

/// For each network that a rule names, the rules that cover it.
fn add_peers(
    policy: u32,
    direction: Direction,
    rules: &[&SecurityGroupRule],
    peers: &mut HashMap<(u32, PeerKey), RuleSet>,
) {
    let networks: BTreeSet<IpNet> = rules.iter().filter_map(|rule| rule.peer.cidr()).collect();
    for network in networks {
        let set = set_of(rules, |rule| {
            rule.peer.cidr().is_some_and(|peer| peer.contains(&network))
        });
        peers.insert(peer_key(policy, direction, network), set);
    }
}

/// The trie's prefix of a network.
fn peer_key(policy: u32, direction: Direction, network: IpNet) -> (u32, PeerKey) {
    let (address, bits) = prefix(network);
    let is_ipv4 = matches!(network, IpNet::V4(_));
    (
        PeerKey::FIXED_BITS + bits,
        PeerKey::new(policy, direction, is_ipv4, address),
    )
}

/// A network as the maps have it: the first address, mapped, and the prefix length in its 128 bits.
#[must_use]
pub fn prefix(network: IpNet) -> (Address, u32) {
    let bits = u32::from(network.prefix_len());
    match network.network() {
        IpAddr::V4(ipv4) => (mapped(ipv4.octets()), 96 + bits),
        IpAddr::V6(ipv6) => (ipv6.octets(), bits),
    }
}

/// An address as the maps have it.
#[must_use]
pub fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(ipv4) => mapped(ipv4.octets()),
        IpAddr::V6(ipv6) => ipv6.octets(),
    }
}

/// For each protocol and each aligned block of ports that a rule names, the rules that cover it.
fn add_ports(
    policy: u32,
    direction: Direction,
    rules: &[&SecurityGroupRule],
    ports: &mut HashMap<(u32, PortKey), RuleSet>,
) {
    let mut blocks: BTreeMap<u8, BTreeSet<Block>> = BTreeMap::new();
    let mut any_protocol = false;
    for rule in rules {
        match rule.protocol {
            Protocol::Any => any_protocol = true,
            Protocol::Number(protocol) => {
                blocks
                    .entry(protocol)
                    .or_default()
                    .extend(blocks_of(rule.ports));
            }
        }
    }
    if any_protocol {
        let key = PortKey::new(policy, direction, 0, 0);
        let set = set_of(rules, |rule| rule.protocol == Protocol::Any);
        ports.insert((PortKey::ANY_PROTOCOL_BITS, key), set);
    }
    for (protocol, blocks) in blocks {
        for block in blocks {
            let key = PortKey::new(policy, direction, protocol, block.first);
            let set = set_of(rules, |rule| match rule.protocol {
                Protocol::Any => true,
                Protocol::Number(number) => {
                    number == protocol
                        && rule.ports.contains(block.first)
                        && rule.ports.contains(block.last())
                }
            });
            ports.insert((PortKey::ANY_PORT_BITS + block.bits, key), set);
        }
    }
}

/// Ports that share their first `bits` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    first: u16,
    bits: u32,
}

impl Block {
    fn last(self) -> u16 {
        self.first | u16::MAX.checked_shr(self.bits).unwrap_or(0)
    }
}

/// The fewest aligned blocks that make up a range, at most 30.
fn blocks_of(range: PortRange) -> Vec<Block> {
    let mut blocks = Vec::new();
    let end = u32::from(range.last) + 1;
    let mut first = u32::from(range.first);
    while first < end {
        let mut size = if first == 0 {
            1 << 16
        } else {
            1 << first.trailing_zeros()
        };
        while first + size > end {
            size /= 2;
        }
        // `first` is below 65,536, and the size is a power of two of at most 65,536.
        blocks.push(Block {
            first: first as u16,
            bits: 16 - size.trailing_zeros(),
        });
        first += size;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(
        direction: Direction,
        protocol: Protocol,
        ports: (u16, u16),
        peer: &str,
    ) -> SecurityGroupRule {
        let ports = PortRange {
            first: ports.0,
            last: ports.1,
        };
        let peer: IpNet = peer.parse().expect("a network");
        SecurityGroupRule::new("sg-a", direction, protocol, ports, peer, None)
    }

    fn group(rules: Vec<SecurityGroupRule>) -> SecurityGroup {
        SecurityGroup {
            group_id: "sg-a".to_owned(),
            group_name: "a".to_owned(),
            description: String::new(),
            rules,
            ..SecurityGroup::default()
        }
    }

    fn lookup(policy: &Policy, peer: &str, protocol: u8, port: Option<u16>) -> Option<u16> {
        let peer = address(peer.parse().expect("an address"));
        let peers = policy.rules.peer(7, Direction::Ingress, &peer)?;
        peers.first_common(policy.rules.port(7, Direction::Ingress, protocol, port)?)
    }

    #[test]
    fn the_rule_that_covers_both_peer_and_port_is_found() {
        use Direction::Ingress;
        let policy = compile(
            7,
            &[group(vec![
                rule(Ingress, Protocol::Number(6), (80, 90), "10.0.0.0/8"),
                rule(Ingress, Protocol::Number(6), (443, 443), "10.1.0.0/16"),
                rule(Ingress, Protocol::Any, (0, u16::MAX), "10.1.2.3/32"),
                rule(Ingress, Protocol::Number(17), (0, u16::MAX), "::/0"),
            ])],
        )
        .expect("4 rules fit");
        let rows: [(&str, u8, Option<u16>, Option<u16>); 11] = [
            ("10.9.9.9", 6, Some(80), Some(0)),
            ("10.9.9.9", 6, Some(90), Some(0)),
            ("10.9.9.9", 6, Some(91), None),
            ("10.9.9.9", 6, Some(443), None),
            ("10.1.9.9", 6, Some(443), Some(1)),
            ("10.1.9.9", 6, Some(85), Some(0)),
            ("10.1.2.3", 47, Some(0), Some(2)),
            ("10.1.2.3", 6, Some(5), Some(2)),
            ("2001:db8::1", 17, Some(9), Some(3)),
            ("2001:db8::1", 17, None, Some(3)),
            ("10.9.9.9", 6, None, None),
        ];
        for (peer, protocol, port, expected) in rows {
            assert_eq!(
                lookup(&policy, peer, protocol, port),
                expected,
                "{peer} {port:?}"
            );
        }
        // An IPv6 rule for everything is none for IPv4.
        assert_eq!(lookup(&policy, "192.0.2.1", 17, Some(9)), None);
    }

    #[test]
    fn too_many_rules_are_an_error_that_counts_them() {
        let rules = (0..=MAX_RULES as u16)
            .map(|port| {
                rule(
                    Direction::Egress,
                    Protocol::Number(6),
                    (port, port),
                    "0.0.0.0/0",
                )
            })
            .collect();
        let error = compile(1, &[group(rules)]).expect_err("one too many");
        assert_eq!((error.direction, error.count), ("egress", 1025));
    }

    proptest! {
        #[test]
        fn blocks_make_up_exactly_their_range(a: u16, b: u16, probe: u16) {
            let range = PortRange { first: a.min(b), last: a.max(b) };
            let blocks = blocks_of(range);
            prop_assert!(blocks.len() <= 30);
            let hits = blocks
                .iter()
                .filter(|block| (block.first..=block.last()).contains(&probe))
                .count();
            prop_assert_eq!(hits, usize::from(range.contains(probe)));
        }

        #[test]
        fn a_policy_admits_what_some_rule_admits(
            rules in proptest::collection::vec(
                (any::<u32>(), 0_u8..=32, any::<u16>(), any::<u16>(), 0_usize..4),
                1..40,
            ),
            probe_rule: proptest::sample::Index,
            random_peer: u32,
            random_port: u16,
            flip in 0_u32..32,
            protocol in 0_usize..3,
        ) {
            const PROTOCOLS: [u8; 3] = [6, 17, 1];
            let rules: Vec<_> = rules
                .into_iter()
                .map(|(network, bits, a, b, protocol)| {
                    let protocol = PROTOCOLS
                        .get(protocol)
                        .map_or(Protocol::Any, |number| Protocol::Number(*number));
                    let ports = match protocol {
                        Protocol::Any => PortRange::ALL,
                        Protocol::Number(_) => PortRange { first: a.min(b), last: a.max(b) },
                    };
                    let network = ipnet::Ipv4Net::new_assert(network.into(), bits).trunc();
                    SecurityGroupRule::new(
                        "sg-a",
                        Direction::Ingress,
                        protocol,
                        ports,
                        IpNet::V4(network),
                        None,
                    )
                })
                .collect();
            let near = probe_rule.get(&rules);
            let policy = compile(7, &[group(rules.clone())]).expect("they fit");
            let protocol = PROTOCOLS[protocol];
            let near_peer = match near.peer.cidr() {
                Some(IpNet::V4(network)) => u32::from(network.addr()) ^ (1 << flip),
                _ => 0,
            };
            for peer in [random_peer, near_peer] {
                for port in [random_port, near.ports.first, near.ports.last] {
                    let peer = IpAddr::V4(peer.into());
                    let expected = rules.iter().position(|rule| {
                        rule.peer.cidr().is_some_and(|network| network.contains(&peer))
                            && match rule.protocol {
                                Protocol::Any => true,
                                Protocol::Number(number) => {
                                    number == protocol && rule.ports.contains(port)
                                }
                            }
                    });
                    let found = lookup(&policy, &peer.to_string(), protocol, Some(port));
                    prop_assert_eq!(found.map(usize::from), expected);
                }
            }
        }
    }
}
