//! Prefixes in order of keys: a tree's own, and lists that the trees of many policies share. Pure.

use branchline_common::policy::{FAN, Key, STRIDE, peer_key};
use ipnet::IpNet;

use crate::address::address;

/// Keys that have their first bits in common; the others are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    /// Most significant bit first.
    key: u128,
    bits: u32,
}

/// A prefix that a rule covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RulePrefix {
    prefix: Prefix,
    rule: u16,
}

/// The prefixes of a tree, or those below one place of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Prefixes<'a> {
    own: &'a [RulePrefix],
    /// Not empty, each in order and covered by one rule.
    shared: Vec<(&'a [Prefix], u16)>,
}

/// The part of a sorted list that is below one child of a node.
struct Part<'a, T> {
    /// Those that end within the child's digit.
    ending: &'a [T],
    /// Those that go deeper.
    deeper: &'a [T],
}

impl Prefix {
    /// The first `bits` of `key`, whose others are 0.
    pub(super) fn new((high, low): Key, bits: u32) -> Self {
        let key = u128::from(high) << 64 | u128::from(low);
        Self { key, bits }
    }

    /// The peers in a network.
    pub(super) fn of(network: &IpNet) -> Self {
        let key = peer_key(&address(network.network()));
        Self::new(key, u32::from(network.prefix_len()))
    }

    /// Covered by rule number `rule`.
    pub(super) fn covered_by(self, rule: u16) -> RulePrefix {
        RulePrefix { prefix: self, rule }
    }

    /// Whether it covers every key.
    pub(super) fn is_all(&self) -> bool {
        self.bits == 0
    }

    /// The first key that it covers.
    #[cfg(test)]
    pub(super) fn key(&self) -> Key {
        ((self.key >> 64) as u64, self.key as u64)
    }

    /// Whether it covers a key.
    #[cfg(test)]
    pub(super) fn covers(&self, key: Key) -> bool {
        let open = u128::MAX.checked_shr(self.bits).unwrap_or(0);
        (self.key ^ Self::new(key, 128).key) & !open == 0
    }

    /// The [`STRIDE`] bits of the key behind its first `depth`.
    fn digit(&self, depth: u32) -> usize {
        (self.key << depth >> (128 - STRIDE)) as usize
    }

    /// The first child after those that it covers, of a node at `depth` in whose digit it ends.
    fn end(&self, depth: u32) -> usize {
        let free = (depth + STRIDE).saturating_sub(self.bits).min(STRIDE);
        (self.digit(depth) + (1 << free)).min(FAN)
    }
}

impl AsRef<Prefix> for Prefix {
    fn as_ref(&self) -> &Prefix {
        self
    }
}

impl AsRef<Prefix> for RulePrefix {
    fn as_ref(&self) -> &Prefix {
        &self.prefix
    }
}

impl<'a> Prefixes<'a> {
    /// `own` and each list of `shared` with its rule, all in order.
    pub(super) fn new(
        own: &'a [RulePrefix],
        shared: impl IntoIterator<Item = (&'a [Prefix], u16)>,
    ) -> Self {
        let shared = shared.into_iter();
        Self {
            own,
            shared: shared.filter(|(list, _)| !list.is_empty()).collect(),
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.shared.is_empty()
    }

    /// The child of a node at `depth` that all of them are below and none ends at: most nodes of a
    /// long key have one.
    pub(super) fn only_digit(&self, depth: u32) -> Option<usize> {
        let lists = self.shared.iter().map(|(list, _)| only_digit(list, depth));
        let own = (!self.own.is_empty()).then(|| only_digit(self.own, depth));
        let mut digits = own.into_iter().chain(lists);
        let first = digits.next()??;
        digits.all(|digit| digit == Some(first)).then_some(first)
    }

    /// Takes out those that cover every key; returns their rules.
    pub(super) fn take_all_covering(&mut self) -> Vec<u16> {
        let mut rules = Vec::new();
        let (all, deeper) = split(self.own, 0);
        rules.extend(all.iter().map(|each| each.rule));
        self.own = deeper;
        for (list, rule) in &mut self.shared {
            let (all, deeper) = split(list, 0);
            rules.extend(all.iter().map(|_| *rule));
            *list = deeper;
        }
        self.shared.retain(|(list, _)| !list.is_empty());
        rules
    }

    /// Takes out what is below child `digit` of a node at `depth`, the next child that it is asked
    /// for. What ends within the digit is told to `ends`: the first child that it covers no more,
    /// and the rule. Returns what goes deeper.
    pub(super) fn take(
        &mut self,
        digit: usize,
        depth: u32,
        mut ends: impl FnMut(usize, u16),
    ) -> Self {
        let own = take(&mut self.own, digit, depth);
        for each in own.ending {
            ends(each.prefix.end(depth), each.rule);
        }
        let mut below = Self {
            own: own.deeper,
            shared: Vec::new(),
        };
        for (list, rule) in &mut self.shared {
            let part = take(list, digit, depth);
            for each in part.ending {
                ends(each.end(depth), *rule);
            }
            if !part.deeper.is_empty() {
                below.shared.push((part.deeper, *rule));
            }
        }
        below
    }
}

/// As [`Prefixes::take`] of a plain list: the first child that no prefix which ends within the
/// digit covers any more, and what goes deeper.
pub(super) fn take_from<'a>(
    list: &mut &'a [Prefix],
    digit: usize,
    depth: u32,
) -> (usize, &'a [Prefix]) {
    let part = take(list, digit, depth);
    let ends = part.ending.iter().map(|each| each.end(depth));
    (ends.max().unwrap_or(0), part.deeper)
}

fn only_digit<T: AsRef<Prefix>>(list: &[T], depth: u32) -> Option<usize> {
    let (first, last) = (list.first()?.as_ref(), list.last()?.as_ref());
    let digit = first.digit(depth);
    // One that ends at the child comes before those that go deeper.
    (digit == last.digit(depth) && first.bits > depth + STRIDE).then_some(digit)
}

/// Takes from the front of a sorted list what is below child `digit` of a node at `depth`.
fn take<'a, T: AsRef<Prefix>>(list: &mut &'a [T], digit: usize, depth: u32) -> Part<'a, T> {
    let is_there = |each: &T| each.as_ref().digit(depth) == digit;
    let count = match list {
        [first, ..] if is_there(first) => list.partition_point(is_there),
        _ => 0,
    };
    let (there, rest) = list.split_at(count);
    *list = rest;
    let (ending, deeper) = split(there, depth + STRIDE);
    Part { ending, deeper }
}

/// Of neighbours below one child, those that end there or before come first.
fn split<T: AsRef<Prefix>>(list: &[T], depth: u32) -> (&[T], &[T]) {
    list.split_at(list.partition_point(|each| each.as_ref().bits <= depth))
}
