//! Security groups to a policy: rules numbered, and the trees that the programs look in. Pure.
//!
//! What a policy is to the programs is said in `branchline_common::policy`. Here a set of groups
//! becomes one: the rules of each scope get numbers, those with a literal /0 first, and every
//! network and every block of ports that a rule names becomes a prefix of a tree. Trees are shared
//! (`trees`), so that a change makes few new nodes, and one of members alone looks at no more than
//! them ([`with_members`]). Who obeys what is `policies`'.

pub mod affected;
mod networks;
mod numbered_rule;
mod pool;
mod prefix;
mod rest;
mod rule_book;
mod tree;
mod trees;
mod view;

use std::{collections::BTreeMap, sync::Arc};

use branchline_common::{
    headers::protocol,
    policy::{self, MAX_RULES, SCOPES, Scope, flag, port_key, protocol_key, scope},
    verdict::Direction,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub(crate) use self::rest::{Mark, Rest};
pub use self::{
    networks::Networks,
    numbered_rule::{NumberedRule, OpenTo},
    pool::NoRoom,
    rule_book::{Forgotten, KeptPage, Page, RuleBook, RuleNames, Rules, usable},
    trees::{Resting, Taken, Trees, Writes},
    view::still_admits,
};
use self::{
    networks::{Families, is_of, of_family},
    prefix::{Prefix, Prefixes, RulePrefix},
};
use crate::security_groups::{
    MemberChange, Peer, PortRange, Protocol, SecurityGroup, SecurityGroupRule,
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

/// A policy without the trees that it refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What the programs get; its generation is given by whoever puts it into the maps.
    pub entry: policy::Policy,
    /// The rules of each scope, by number.
    pub rules: Rules,
    /// Generation of the first policy that had these rules under these numbers; given by whoever
    /// gives the generation.
    pub numbered_at: u32,
    sources: Arc<[Sources; SCOPES]>,
}

/// What a tree of peers is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sources {
    /// Networks that rules name, in order.
    own: Vec<RulePrefix>,
    /// Peers that stand for networks which others know too, each with its rule.
    references: Vec<(Peer, u16)>,
}

impl Policy {
    /// Whether it can differ when the members of these groups do.
    #[must_use]
    pub fn refers_to(&self, changes: &BTreeMap<String, MemberChange>) -> bool {
        let mut references = self.sources.iter().flat_map(|each| &each.references);
        references.any(|(peer, _)| change_of(peer, changes).is_some())
    }
}

fn change_of<'a>(
    peer: &Peer,
    changes: &'a BTreeMap<String, MemberChange>,
) -> Option<&'a MemberChange> {
    match peer {
        Peer::Group(group) => changes.get(&group.group_id),
        Peer::Cidr(_) | Peer::PrefixList(_) => None,
    }
}

/// Direction and whether it is IPv4's, of each scope.
const EVERY_SCOPE: [(Direction, bool); SCOPES] = [
    (Direction::Ingress, true),
    (Direction::Ingress, false),
    (Direction::Egress, true),
    (Direction::Egress, false),
];

/// Compiles `groups` into trees of `trees`. The policy holds them until [`release`].
///
/// # Errors
/// Each variant; nothing is held then.
pub fn compile(
    trees: &mut Trees,
    groups: &[&SecurityGroup],
    networks: &mut Networks<'_>,
) -> Result<Policy, CompileError> {
    let mut entry = policy::Policy::default();
    let (mut rules, mut sources) = <([Vec<NumberedRule>; SCOPES], [Sources; SCOPES])>::default();
    if groups.iter().any(|group| group.audit) {
        entry.flags |= flag::AUDIT;
    }
    for (direction, is_ipv4) in EVERY_SCOPE {
        let scoped = in_scope(groups, networks, direction, is_ipv4);
        let scope = scope(direction, is_ipv4);
        rules[scope] = scoped.iter().map(Scoped::number).collect();
        sources[scope] = Sources::of(&scoped);
        let peers = &sources[scope];
        let added = check_count(groups, direction, is_ipv4, scoped.len()).and_then(|()| {
            entry.peers[scope] = peers
                .grow(trees, networks, is_ipv4, tree::plant)
                .map_err(|source| no_room(groups, source))?;
            let added = add_scope(trees, &mut entry, scope, &scoped);
            added.map_err(|source| no_room(groups, source))
        });
        if let Err(error) = added {
            release(trees, &entry);
            return Err(error);
        }
    }
    Ok(Policy {
        entry,
        rules: Arc::new(rules),
        numbered_at: 0,
        sources: Arc::new(sources),
    })
}

/// The policy that `policy` becomes by `changes` of who is in which group, which `networks` has
/// already: what [`compile`] would make of the same groups. Both hold their trees.
///
/// # Errors
/// `NoRoom`; nothing more is held then.
pub fn with_members(
    trees: &mut Trees,
    policy: &Policy,
    networks: &mut Networks<'_>,
    changes: &BTreeMap<String, MemberChange>,
) -> Result<Policy, NoRoom> {
    let old = &policy.entry;
    let mut entry = policy::Policy {
        peers: [0; SCOPES],
        ..*old
    };
    for root in old.ports.iter().chain(&old.portless) {
        trees.hold(*root);
    }
    for (direction, is_ipv4) in EVERY_SCOPE {
        let scope = scope(direction, is_ipv4);
        let sources = &policy.sources[scope];
        let changed = sources.changed(changes, is_ipv4);
        let replanted = sources.grow(trees, networks, is_ipv4, |trees, prefixes| {
            tree::replant(trees, old.peers[scope], &changed, prefixes)
        });
        match replanted {
            Ok(root) => entry.peers[scope] = root,
            Err(error) => {
                release(trees, &entry);
                return Err(error);
            }
        }
    }
    Ok(Policy {
        entry,
        ..policy.clone()
    })
}

impl Sources {
    fn of(rules: &[Scoped<'_>]) -> Self {
        let mut sources = Self::default();
        for (number, rule) in (0..).zip(rules) {
            match &rule.peers {
                Peers::None => {}
                Peers::Network(prefix) => sources.own.push(prefix.covered_by(number)),
                Peers::Listed(_) => sources.references.push((rule.rule.peer.clone(), number)),
            }
        }
        sources.own.sort_unstable();
        sources
    }

    /// The prefixes that `changes` add or take away, in order.
    fn changed(&self, changes: &BTreeMap<String, MemberChange>, is_ipv4: bool) -> Vec<Prefix> {
        let references = self.references.iter();
        let changes = references.filter_map(|(peer, _)| change_of(peer, changes));
        let mut changed: Vec<Prefix> = changes
            .flat_map(|change| networks::changed(change, is_ipv4))
            .collect();
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// Lets `make` make the tree of peers.
    fn grow(
        &self,
        trees: &mut Trees,
        networks: &mut Networks<'_>,
        is_ipv4: bool,
        make: impl FnOnce(&mut Trees, Prefixes<'_>) -> Result<u32, NoRoom>,
    ) -> Result<u32, NoRoom> {
        let lists: Vec<(Arc<Families>, u16)> = self
            .references
            .iter()
            .map(|(peer, rule)| (networks.find(peer), *rule))
            .collect();
        let shared = lists
            .iter()
            .map(|(list, rule)| (of_family(list, is_ipv4), *rule));
        make(trees, Prefixes::new(&self.own, shared))
    }
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

/// A rule as one scope has it.
struct Scoped<'a> {
    group: &'a SecurityGroup,
    rule: &'a SecurityGroupRule,
    peers: Peers,
    /// Whether a network of length 0 is written in it. A member of a group never counts
    /// (`spec/security-groups.md` section 4).
    is_open: bool,
}

/// The networks of a rule in one scope.
enum Peers {
    None,
    Network(Prefix),
    Listed(Arc<Families>),
}

impl Scoped<'_> {
    fn number(&self) -> NumberedRule {
        NumberedRule {
            group_id: self.group.group_id.clone(),
            rule_id: self.rule.rule_id.clone(),
            opens: self.is_open.then(|| OpenTo::of(self.rule)),
        }
    }
}

/// The rules of a scope in the order of their numbers. A rule whose peer stands for nothing now
/// has a number all the same: so numbers do not move when members come and go.
fn in_scope<'a>(
    groups: &[&'a SecurityGroup],
    networks: &mut Networks<'_>,
    direction: Direction,
    is_ipv4: bool,
) -> Vec<Scoped<'a>> {
    let of_groups = groups
        .iter()
        .flat_map(|group| group.rules.iter().map(move |rule| (*group, rule)));
    let of_scope = of_groups.filter(|(_, rule)| {
        let peer = rule.peer.cidr();
        rule.direction == direction && peer.is_none_or(|network| is_of(&network, is_ipv4))
    });
    let mut rules: Vec<_> = of_scope
        .map(|(group, rule)| {
            let peers = peers_of(rule, networks, is_ipv4);
            let is_all = match &peers {
                Peers::None => false,
                Peers::Network(prefix) => prefix.is_all(),
                Peers::Listed(list) => of_family(list, is_ipv4).iter().any(Prefix::is_all),
            };
            Scoped {
                group,
                rule,
                peers,
                is_open: is_all && !matches!(rule.peer, Peer::Group(_)),
            }
        })
        .collect();
    rules.sort_by_key(|rule| !rule.is_open);
    rules
}

fn peers_of(rule: &SecurityGroupRule, networks: &mut Networks<'_>, is_ipv4: bool) -> Peers {
    let everything = if is_ipv4 {
        IpNet::V4(Ipv4Net::default())
    } else {
        IpNet::V6(Ipv6Net::default())
    };
    if !rule.has_family_of(&everything) {
        return Peers::None;
    }
    match &rule.peer {
        Peer::Cidr(network) => Peers::Network(Prefix::of(network)),
        peer @ (Peer::PrefixList(_) | Peer::Group(_)) => Peers::Listed(networks.find(peer)),
    }
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

fn no_room(groups: &[&SecurityGroup], source: NoRoom) -> CompileError {
    CompileError::NoRoom {
        groups: ids(groups),
        source,
    }
}

fn add_scope(
    trees: &mut Trees,
    entry: &mut policy::Policy,
    scope: Scope,
    rules: &[Scoped<'_>],
) -> Result<(), NoRoom> {
    entry.open[scope] = rules.iter().filter(|rule| rule.is_open).count() as u16;
    for rule in rules.iter().filter(|rule| rule.is_open) {
        entry.all_ports |= all_ports(scope, rule.rule);
    }
    entry.ports[scope] = plant(trees, ports(rules))?;
    entry.portless[scope] = plant(trees, portless(rules))?;
    Ok(())
}

fn plant(trees: &mut Trees, mut prefixes: Vec<RulePrefix>) -> Result<u32, NoRoom> {
    prefixes.sort_unstable();
    tree::plant(trees, Prefixes::new(&prefixes, []))
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

/// Bits of a protocol in the keys of ports.
const PROTOCOL_BITS: u32 = 8;

/// One prefix for each aligned block of ports that a rule names.
fn ports(rules: &[Scoped<'_>]) -> Vec<RulePrefix> {
    let mut prefixes = Vec::new();
    for (number, rule) in (0..).zip(rules) {
        match rule.rule.protocol {
            Protocol::Any => prefixes.push(Prefix::new((0, 0), 0).covered_by(number)),
            Protocol::Number(protocol) => {
                for block in blocks_of(rule.rule.ports) {
                    let key = port_key(protocol, block.first);
                    let prefix = Prefix::new(key, PROTOCOL_BITS + block.bits);
                    prefixes.push(prefix.covered_by(number));
                }
            }
        }
    }
    prefixes
}

/// One prefix for each rule that admits every port of its protocol.
fn portless(rules: &[Scoped<'_>]) -> Vec<RulePrefix> {
    let mut prefixes = Vec::new();
    for (number, rule) in (0..).zip(rules) {
        match rule.rule.protocol {
            Protocol::Any => prefixes.push(Prefix::new((0, 0), 0).covered_by(number)),
            Protocol::Number(protocol) if rule.rule.ports == PortRange::ALL => {
                let prefix = Prefix::new(protocol_key(protocol), PROTOCOL_BITS);
                prefixes.push(prefix.covered_by(number));
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
