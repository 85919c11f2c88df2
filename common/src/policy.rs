//! A compiled policy: the rules of an ENI's security groups, and which of them admits a packet.
//!
//! The agent numbers the rules of each *scope* (direction and IP version) and makes two radix trees
//! of them: by peer, and by protocol and port. A leaf is the set of the rules that cover all keys
//! below it. A packet is allowed if some rule is in both its sets: a bounded number of array
//! lookups and one AND, however many rules there are (the bit-vector scheme of Lakshman and
//! Stiliadis, SIGCOMM 1998). Nothing here knows where rules come from.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    flow::{Address, halves, is_icmp, is_ipv4},
    headers::protocol,
    parse::Packet,
    verdict::Direction,
};

/// Rules of one scope of one policy: AWS's largest quota is 1,000 for an ENI.
pub const MAX_RULES: usize = 1024;
const WORDS: usize = MAX_RULES / 64;

/// Bits of a key that a [`Node`] decides on.
pub const STRIDE: u32 = 4;
/// Children of a [`Node`].
pub const FAN: usize = 1 << STRIDE;
/// In a child or a root: a leaf, the index of its [`RuleSet`]. Without it, the index of a [`Node`].
pub const LEAF: u32 = 1 << 31;
/// Levels of the deepest tree, that of IPv6 addresses.
const MAX_DEPTH: u32 = 128 / STRIDE;

/// The rule of a flow that no rule allows and that passes because a group is in audit mode.
pub const AUDITED: u16 = u16::MAX;

/// A branching point of a tree: the next [`STRIDE`] bits of the key choose a child. 64 bytes.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Node {
    /// Nodes or leaves; see [`LEAF`].
    pub children: [u32; FAN],
}

/// Direction and IP version: the index of a [`Policy`]'s arrays, 0 to 3.
pub type Scope = usize;
/// Number of scopes.
pub const SCOPES: usize = 4;

/// The scope of packets in `direction`.
#[must_use]
#[inline(always)]
pub const fn scope(direction: Direction, is_ipv4: bool) -> Scope {
    direction as usize | (is_ipv4 as usize) << 1
}

/// What a policy is to the programs; 64 bytes. All zero, it allows nothing.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Policy {
    /// Roots of the trees by [`peer_key`].
    pub peers: [u32; SCOPES],
    /// Roots of the trees by [`port_key`].
    pub ports: [u32; SCOPES],
    /// Roots of the trees by [`protocol_key`], of the rules that admit every port.
    pub portless: [u32; SCOPES],
    /// Rules with a literal prefix of length 0, which are the first of their scope.
    pub open: [u16; SCOPES],
    /// Scopes in which such a rule admits all ports, as bits of [`all_ports`].
    pub all_ports: u16,
    /// Bits of [`flag`].
    pub flags: u16,
    /// A number that no other policy ever had on this host.
    pub generation: u32,
}
const _: () = assert!(size_of::<Policy>() == 64);

/// Bits of [`Policy::flags`].
pub mod flag {
    /// What no rule allows passes, counted as a would-be denial.
    pub const AUDIT: u16 = 1;
}

/// The bit of [`Policy::all_ports`] for a scope and TCP or UDP; 0 for any other protocol, whose
/// flows are always tracked.
#[must_use]
#[inline(always)]
pub const fn all_ports(scope: Scope, protocol: u8) -> u16 {
    match protocol {
        protocol::TCP => 1 << scope,
        protocol::UDP => 1 << (scope + SCOPES),
        _ => 0,
    }
}

/// A key of a tree, most significant bit first.
pub type Key = (u64, u64);

/// The key of a peer: 32 bits in the scopes of IPv4, else 128.
#[must_use]
#[inline(always)]
pub const fn peer_key(peer: &Address) -> Key {
    let (high, low) = halves(peer);
    if is_ipv4(peer) {
        (u64::from_be(low) << 32, 0)
    } else {
        (u64::from_be(high), u64::from_be(low))
    }
}

/// The key of protocol and [`rule_port`]: 24 bits.
#[must_use]
#[inline(always)]
pub const fn port_key(protocol: u8, port: u16) -> Key {
    ((protocol as u64) << 56 | (port as u64) << 40, 0)
}

/// The key of a protocol whose port is not known: 8 bits.
#[must_use]
#[inline(always)]
pub const fn protocol_key(protocol: u8) -> Key {
    ((protocol as u64) << 56, 0)
}

/// What rules compare with a port range: the destination port, of ICMP type and code, else 0.
#[must_use]
#[inline(always)]
pub const fn rule_port(packet: &Packet) -> u16 {
    if is_icmp(packet.protocol) {
        u16::from_be_bytes([packet.icmp_type, packet.icmp_code])
    } else {
        packet.destination_port
    }
}

/// The leaf that `key` leads to from `root`: the index of a rule set. 0, the empty set, where the
/// tree is broken.
#[inline(always)]
pub fn descend<'a>(root: u32, key: Key, node: impl Fn(u32) -> Option<&'a Node>) -> u32 {
    let (mut high, mut low) = key;
    let mut at = root;
    for _ in 0..MAX_DEPTH {
        if at & LEAF != 0 {
            break;
        }
        let Some(node) = node(at) else { return 0 };
        let index = core::hint::black_box(high >> (64 - STRIDE)) as usize;
        at = node.children[index & (FAN - 1)];
        high = high << STRIDE | low >> (64 - STRIDE);
        low <<= STRIDE;
    }
    if at & LEAF == 0 { 0 } else { at & !LEAF }
}

/// Where policies are, in the kernel or in a test.
pub trait Policies {
    /// The policy that an ENI obeys.
    fn policy(&self, index: u32) -> Option<&Policy>;

    /// [`descend`] over the nodes that are there.
    fn leaf(&self, root: u32, key: Key) -> u32;

    /// A rule set.
    fn rule_set(&self, index: u32) -> Option<&RuleSet>;

    /// Whether flows with `peer` are always tracked.
    fn is_auto_tracked(&self, peer: &Address) -> bool;

    /// The same number, of which a verifier knows nothing: else it would follow each of the
    /// thousand rules that a packet may meet by itself. `None` never happens.
    #[inline(always)]
    fn opaque(&self, number: u16) -> Option<u16> {
        Some(number)
    }
}

impl Policy {
    /// The first rule that admits `peer`, `protocol` and `port`; `None` for `port` asks for rules
    /// that admit every port.
    #[inline(always)]
    pub fn rule(
        &self,
        tables: &impl Policies,
        scope: Scope,
        peer: &Address,
        protocol: u8,
        port: Option<u16>,
    ) -> Option<u16> {
        let peers = tables.leaf(at(&self.peers, scope), peer_key(peer));
        let ports = match port {
            Some(port) => tables.leaf(at(&self.ports, scope), port_key(protocol, port)),
            None => tables.leaf(at(&self.portless, scope), protocol_key(protocol)),
        };
        // The empty set, which is what most denied packets meet.
        if peers == 0 || ports == 0 {
            return None;
        }
        let rule = tables
            .rule_set(peers)?
            .first_common(tables.rule_set(ports)?)?;
        tables.opaque(rule)
    }

    /// Whether a rule of a scope has a literal prefix of length 0.
    #[must_use]
    #[inline(always)]
    pub fn is_open(&self, scope: Scope, rule: u16) -> bool {
        rule < at(&self.open, scope)
    }

    /// Whether an open rule of the scope admits `protocol` and `port`, whoever the peer.
    #[inline(always)]
    pub fn opens(&self, tables: &impl Policies, scope: Scope, protocol: u8, port: u16) -> bool {
        let ports = tables.leaf(at(&self.ports, scope), port_key(protocol, port));
        let Some(first) = tables.rule_set(ports).and_then(RuleSet::first) else {
            return false;
        };
        match tables.opaque(first) {
            Some(rule) => self.is_open(scope, rule),
            None => false,
        }
    }

    /// Whether an open rule of the scope admits every port of `protocol`, TCP or UDP.
    #[must_use]
    #[inline(always)]
    pub const fn admits_all(&self, scope: Scope, protocol: u8) -> bool {
        self.all_ports & all_ports(scope, protocol) != 0
    }

    /// Whether what no rule allows passes.
    #[must_use]
    #[inline(always)]
    pub const fn audits(&self) -> bool {
        self.flags & flag::AUDIT != 0
    }
}

/// An element by scope. The verifier of 5.10 forgets the bound of an index that went over the
/// stack, and the compiler would leave out a mask that it finds superfluous.
#[inline(always)]
fn at<T: Copy>(array: &[T; SCOPES], scope: Scope) -> T {
    array[core::hint::black_box(scope) & (SCOPES - 1)]
}

/// A set of rules, as bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RuleSet {
    words: [u64; WORDS],
}

impl Default for RuleSet {
    fn default() -> Self {
        Self { words: [0; WORDS] }
    }
}

impl RuleSet {
    /// Adds rule number `rule`, which is less than [`MAX_RULES`].
    pub fn insert(&mut self, rule: u16) {
        if let Some(word) = self.words.get_mut(usize::from(rule) / 64) {
            *word |= 1 << (rule % 64);
        }
    }

    /// Whether no rule is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words == [0; WORDS]
    }

    /// The lowest rule that is in both sets.
    #[must_use]
    #[inline(always)]
    pub fn first_common(&self, other: &Self) -> Option<u16> {
        for index in 0..WORDS {
            let common = self.words[index] & other.words[index];
            if common != 0 {
                return Some((index * 64) as u16 + lowest_bit(common));
            }
        }
        None
    }

    /// The lowest rule.
    #[must_use]
    #[inline(always)]
    pub fn first(&self) -> Option<u16> {
        self.first_common(self)
    }
}

/// Index of the lowest bit of a word that is not 0: the bits below it, counted. Without a branch, of
/// which a verifier would follow both sides.
#[inline(always)]
const fn lowest_bit(word: u64) -> u16 {
    ((word & word.wrapping_neg()) - 1).count_ones() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_common_rule_is_found_in_every_word() {
        for rule in [0_u16, 1, 31, 32, 63, 64, 517, 1023] {
            let mut set = RuleSet::default();
            set.insert(rule);
            let mut other = set;
            other.insert(1023);
            set.insert(1023);
            assert_eq!(set.first_common(&other), Some(rule));
        }
        let mut odd = RuleSet::default();
        odd.insert(3);
        let mut even = RuleSet::default();
        even.insert(4);
        assert_eq!(odd.first_common(&even), None);
    }

    #[test]
    fn the_lowest_bit_of_every_single_bit_is_its_index() {
        for bit in 0..64 {
            assert_eq!(lowest_bit(1 << bit), bit);
            assert_eq!(lowest_bit(u64::MAX << bit), bit);
        }
    }

    #[test]
    fn a_key_leads_to_the_leaf_that_covers_it() {
        // 0x1... is set 1, 0x2f... set 2, the rest of 0x2... set 3, everything else the empty set.
        let mut root = Node {
            children: [LEAF; FAN],
        };
        root.children[1] = LEAF | 1;
        root.children[2] = 1;
        let mut below = Node {
            children: [LEAF | 3; FAN],
        };
        below.children[15] = LEAF | 2;
        let nodes = [root, below];
        let find = |key| descend(0, key, |index| nodes.get(index as usize));
        let rows = [(0x1u64, 1), (0x2e, 3), (0x2f, 2), (0x3, 0)];
        for (prefix, expected) in rows {
            let bits = if prefix > 0xf { 8 } else { 4 };
            assert_eq!(find((prefix << (64 - bits), 0)), expected, "{prefix:x}");
        }
        // A tree that never ends, as zeroed memory has, allows nothing.
        assert_eq!(
            descend(0, (0, 0), |_| Some(&Node { children: [0; FAN] })),
            0
        );
    }
}
