//! Security groups to a policy: rules numbered, and the trees that the programs look in. Pure.
//!
//! What a policy is to the programs is said in `branchline_common::policy`. Here a set of groups
//! becomes one: the rules of each scope get numbers, those with a literal /0 first, and every
//! network and every block of ports that a rule names becomes a prefix of a tree. Trees are shared
//! (`trees`), so that a change makes few new nodes, and who obeys what is `policies`'.

pub mod affected;
mod pool;
mod tree;
mod trees;
mod view;

use std::collections::BTreeSet;

use branchline_common::{
    headers::protocol,
    policy::{self, MAX_RULES, SCOPES, Scope, flag, peer_key, port_key, protocol_key, scope},
    verdict::Direction,
};
use ipnet::IpNet;

use self::tree::Prefix;
pub use self::{
    pool::NoRoom,
    trees::{Resting, Taken, Trees, Writes},
    view::still_admits,
};
use crate::{
    address::address,
    security_groups::{
        Directory, Members, Peer, PortRange, Protocol, SecurityGroup, SecurityGroupRule,
    },
};

/// Why a set of groups cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// More rules of one direction and IP version than a rule set has bits.
    #[error(
        "the security groups {} have {count} {direction} rules for {family} together and \
         {MAX_RULES} fit; merge networks or port ranges",
        groups.join(", ")
    )]
    TooManyRules {
        /// The groups.
        groups: Vec<String>,
        /// `ingress` or `egress`.
        direction: &'static str,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// Their rules of that scope.
        count: usize,
    },
    /// The policies of all ENIs together are too large.
    #[error("compile the security groups {}", groups.join(", "))]
    NoRoom {
        /// The groups.
        groups: Vec<String>,
        /// What is full.
        source: NoRoom,
    },
}

/// A rule of a policy, by the number that the programs know it by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NumberedRule {
    /// Its group.
    pub group_id: String,
    /// Its id.
    pub rule_id: String,
}

/// A policy without the trees that it refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What the programs get; its generation is given by whoever puts it into the maps.
    pub entry: policy::Policy,
    /// The rules of each scope, by number.
    pub rules: [Vec<NumberedRule>; SCOPES],
}

/// Compiles `groups` into trees of `trees`. The policy holds them until [`release`].
///
/// # Errors
/// Each variant; nothing is held then.
pub fn compile(
    trees: &mut Trees,
    groups: &[&SecurityGroup],
    directory: &Directory,
    members: &Members,
) -> Result<Policy, CompileError> {
    let expanded = expand(groups, directory, members);
    let mut compiled = Policy::default();
    if groups.iter().any(|group| group.audit) {
        compiled.entry.flags |= flag::AUDIT;
    }
    for direction in [Direction::Ingress, Direction::Egress] {
        for is_ipv4 in [true, false] {
            let rules = in_scope(&expanded, direction, is_ipv4);
            let scope = scope(direction, is_ipv4);
            let added = check_count(groups, direction, is_ipv4, rules.len())
                .and_then(|()| add_scope(trees, &mut compiled, scope, &rules, groups));
            if let Err(error) = added {
                release(trees, &compiled.entry);
                return Err(error);
            }
        }
    }
    Ok(compiled)
}

/// Gives up the trees of a policy that no ENI obeys.
pub fn release(trees: &mut Trees, entry: &policy::Policy) {
    for root in entry
        .peers
        .iter()
        .chain(&entry.ports)
        .chain(&entry.portless)
    {
        trees.release(*root);
    }
}

/// A rule with the networks that its peer stands for.
struct Expanded<'a> {
    group: &'a SecurityGroup,
    rule: &'a SecurityGroupRule,
    networks: BTreeSet<IpNet>,
    /// Whether a network of length 0 is written in it, of IPv6 and of IPv4. A member of a group
    /// never counts (`spec/security-groups.md` section 4).
    is_open: [bool; 2],
}

fn expand<'a>(
    groups: &[&'a SecurityGroup],
    directory: &Directory,
    members: &Members,
) -> Vec<Expanded<'a>> {
    let rules = groups
        .iter()
        .flat_map(|group| group.rules.iter().map(move |rule| (*group, rule)));
    rules
        .map(|(group, rule)| {
            let networks: BTreeSet<IpNet> = directory
                .networks(&rule.peer, members)
                .into_iter()
                .filter(|network| rule.has_family_of(network))
                .collect();
            let is_open = [false, true].map(|is_ipv4| {
                let is_all = |net: &IpNet| net.prefix_len() == 0 && is_of(net, is_ipv4);
                !matches!(rule.peer, Peer::Group(_)) && networks.iter().any(is_all)
            });
            Expanded {
                group,
                rule,
                networks,
                is_open,
            }
        })
        .collect()
}

fn is_of(network: &IpNet, is_ipv4: bool) -> bool {
    matches!(network, IpNet::V4(_)) == is_ipv4
}

/// A rule as one scope has it.
struct Scoped<'a> {
    expanded: &'a Expanded<'a>,
    networks: Vec<IpNet>,
    is_open: bool,
}

/// The rules of a scope in the order of their numbers. A rule whose peer stands for nothing now
/// has a number all the same: so numbers do not move when members come and go.
fn in_scope<'a>(
    expanded: &'a [Expanded<'a>],
    direction: Direction,
    is_ipv4: bool,
) -> Vec<Scoped<'a>> {
    let of_scope = expanded.iter().filter(|each| {
        let peer = each.rule.peer.cidr();
        each.rule.direction == direction && peer.is_none_or(|network| is_of(&network, is_ipv4))
    });
    let mut rules: Vec<_> = of_scope
        .map(|expanded| {
            let networks = expanded.networks.iter().copied();
            Scoped {
                expanded,
                networks: networks.filter(|net| is_of(net, is_ipv4)).collect(),
                is_open: expanded.is_open[usize::from(is_ipv4)],
            }
        })
        .collect();
    rules.sort_by_key(|rule| !rule.is_open);
    rules
}

fn check_count(
    groups: &[&SecurityGroup],
    direction: Direction,
    is_ipv4: bool,
    count: usize,
) -> Result<(), CompileError> {
    if count <= MAX_RULES {
        return Ok(());
    }
    Err(CompileError::TooManyRules {
        groups: ids(groups),
        direction: direction.name(),
        family: if is_ipv4 { "IPv4" } else { "IPv6" },
        count,
    })
}

fn ids(groups: &[&SecurityGroup]) -> Vec<String> {
    groups.iter().map(|group| group.group_id.clone()).collect()
}

fn add_scope(
    trees: &mut Trees,
    compiled: &mut Policy,
    scope: Scope,
    rules: &[Scoped<'_>],
    groups: &[&SecurityGroup],
) -> Result<(), CompileError> {
    let entry = &mut compiled.entry;
    entry.open[scope] = rules.iter().filter(|rule| rule.is_open).count() as u16;
    for rule in rules.iter().filter(|rule| rule.is_open) {
        entry.all_ports |= all_ports(scope, rule.expanded.rule);
    }
    compiled.rules[scope] = rules
        .iter()
        .map(|rule| NumberedRule {
            group_id: rule.expanded.group.group_id.clone(),
            rule_id: rule.expanded.rule.rule_id.clone(),
        })
        .collect();
    let mut plant = |prefixes: Vec<Prefix>| {
        tree::plant(trees, prefixes).map_err(|source| CompileError::NoRoom {
            groups: ids(groups),
            source,
        })
    };
    entry.peers[scope] = plant(peers(rules))?;
    entry.ports[scope] = plant(ports(rules))?;
    entry.portless[scope] = plant(portless(rules))?;
    Ok(())
}

/// The bits of [`policy::all_ports`] for an open rule.
fn all_ports(scope: Scope, rule: &SecurityGroupRule) -> u16 {
    let admits_all = |number| match rule.protocol {
        Protocol::Any => true,
        Protocol::Number(own) => own == number && rule.ports == PortRange::ALL,
    };
    [protocol::TCP, protocol::UDP]
        .into_iter()
        .filter(|number| admits_all(*number))
        .fold(0, |bits, number| bits | policy::all_ports(scope, number))
}

/// One prefix for each network that a rule names.
fn peers(rules: &[Scoped<'_>]) -> Vec<Prefix> {
    let mut prefixes = Vec::new();
    for (number, rule) in (0..).zip(rules) {
        for network in &rule.networks {
            let key = peer_key(&address(network.network()));
            prefixes.push(Prefix::new(key, u32::from(network.prefix_len()), number));
        }
    }
    prefixes
}

/// Bits of a protocol in the keys of ports.
const PROTOCOL_BITS: u32 = 8;

/// One prefix for each aligned block of ports that a rule names.
fn ports(rules: &[Scoped<'_>]) -> Vec<Prefix> {
    let mut prefixes = Vec::new();
    for (number, rule) in (0..).zip(rules) {
        match rule.expanded.rule.protocol {
            Protocol::Any => prefixes.push(Prefix::new((0, 0), 0, number)),
            Protocol::Number(protocol) => {
                for block in blocks_of(rule.expanded.rule.ports) {
                    let key = port_key(protocol, block.first);
                    prefixes.push(Prefix::new(key, PROTOCOL_BITS + block.bits, number));
                }
            }
        }
    }
    prefixes
}

/// One prefix for each rule that admits every port of its protocol.
fn portless(rules: &[Scoped<'_>]) -> Vec<Prefix> {
    let mut prefixes = Vec::new();
    for (number, rule) in (0..).zip(rules) {
        match rule.expanded.rule.protocol {
            Protocol::Any => prefixes.push(Prefix::new((0, 0), 0, number)),
            Protocol::Number(protocol) if rule.expanded.rule.ports == PortRange::ALL => {
                prefixes.push(Prefix::new(protocol_key(protocol), PROTOCOL_BITS, number));
            }
            Protocol::Number(_) => {}
        }
    }
    prefixes
}

/// Ports that share their first `bits` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    first: u16,
    bits: u32,
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
#[path = "tests.rs"]
mod tests;
