//! Prefixes to a tree: every leaf is the set of the rules whose prefix covers it. Pure.
//!
//! A tree is planted whole, or grown out of an older one that few prefixes differ from: what none
//! of them touches is held again. Both ways lead to the same tree.

use branchline_common::policy::{FAN, LEAF, Node, RuleSet, STRIDE};

use super::{
    pool::NoRoom,
    prefix::{Prefix, Prefixes, take_from},
    trees::Trees,
};

/// Makes the tree of `prefixes`; returns its root, which the caller holds.
pub(super) fn plant(trees: &mut Trees, prefixes: Prefixes<'_>) -> Result<u32, NoRoom> {
    from_root(trees, prefixes, Before::Unknown)
}

/// Makes the tree of `prefixes` out of `old`, which somebody holds. `changed`, in order, has every
/// prefix that a rule covers in one of the two only.
pub(super) fn replant(
    trees: &mut Trees,
    old: u32,
    changed: &[Prefix],
    prefixes: Prefixes<'_>,
) -> Result<u32, NoRoom> {
    from_root(trees, prefixes, Before::of(old, changed))
}

fn from_root(
    trees: &mut Trees,
    mut prefixes: Prefixes<'_>,
    before: Before<'_>,
) -> Result<u32, NoRoom> {
    let mut covering = RuleSet::default();
    for rule in prefixes.take_all_covering() {
        covering.insert(rule);
    }
    let leaf = trees.leaf(covering)?;
    let place = Place {
        covering: &covering,
        leaf,
        depth: 0,
    };
    let grown = grow(trees, place, prefixes, before);
    trees.release(leaf);
    grown
}

/// What was below a place in the older tree.
#[derive(Clone, Copy)]
enum Before<'a> {
    /// Nothing that is of use.
    Unknown,
    /// The same as now.
    Same(u32),
    /// Something that these prefixes, which all end below, make another.
    Differs(u32, &'a [Prefix]),
}

impl<'a> Before<'a> {
    fn of(old: u32, changed: &'a [Prefix]) -> Self {
        match changed {
            [] => Self::Same(old),
            [first, ..] if first.is_all() => Self::Unknown,
            _ => Self::Differs(old, changed),
        }
    }
}

/// The children of a node of the older tree, asked for one after the other.
struct Children<'a> {
    children: [u32; FAN],
    changed: &'a [Prefix],
    /// The first child that no changed prefix seen so far covers any more.
    end: usize,
}

impl<'a> Children<'a> {
    fn of(trees: &Trees, before: Before<'a>) -> Option<Self> {
        let Before::Differs(old, changed) = before else {
            return None;
        };
        let node = (old & LEAF == 0).then(|| trees.nodes.get(old))??;
        Some(Self {
            children: node.children,
            changed,
            end: 0,
        })
    }

    /// What was below child `digit`, the next one, of a node at `depth`, if there was a node.
    fn next(older: &mut Option<Self>, digit: usize, depth: u32) -> Before<'a> {
        match older {
            Some(older) => older.child(digit, depth),
            None => Before::Unknown,
        }
    }

    fn child(&mut self, digit: usize, depth: u32) -> Before<'a> {
        let (end, deeper) = take_from(&mut self.changed, digit, depth);
        self.end = self.end.max(end);
        if digit < self.end {
            return Before::Unknown;
        }
        Before::of(self.children[digit], deeper)
    }
}

/// Where in a tree something grows.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The rules of prefixes that end here or above.
    covering: &'a RuleSet,
    /// Their leaf, which somebody holds.
    leaf: u32,
    /// Bits of a key that lead here.
    depth: u32,
}

/// The tree below `place`, where `prefixes` all end deeper.
fn grow(
    trees: &mut Trees,
    place: Place<'_>,
    mut prefixes: Prefixes<'_>,
    before: Before<'_>,
) -> Result<u32, NoRoom> {
    if let Before::Same(same) = before {
        trees.hold(same);
        return Ok(same);
    }
    if prefixes.is_empty() {
        trees.hold(place.leaf);
        return Ok(place.leaf);
    }
    let mut older = Children::of(trees, before);
    if let Some(digit) = prefixes.only_digit(place.depth) {
        let before = (0..=digit).map(|digit| Children::next(&mut older, digit, place.depth));
        let before = before.last().unwrap_or(Before::Unknown);
        return grow_only(trees, place, digit, prefixes, before);
    }
    let mut node = Node::default();
    // Rules that cover children, each up to one.
    let mut ending: Vec<(usize, u16)> = Vec::new();
    for digit in 0..FAN {
        let below = prefixes.take(digit, place.depth, |end, rule| ending.push((end, rule)));
        ending.retain(|(end, _)| digit < *end);
        let before = Children::next(&mut older, digit, place.depth);
        match grow_child(trees, place, &ending, below, before) {
            Ok(child) => node.children[digit] = child,
            Err(error) => {
                trees.release_all(&node.children[..digit]);
                return Err(error);
            }
        }
    }
    let [first, rest @ ..] = &node.children;
    if first & LEAF != 0 && rest.iter().all(|child| child == first) {
        trees.release_all(rest);
        return Ok(*first);
    }
    trees.node(node)
}

/// The tree below `place` where `prefixes` all go deeper than child `digit`: the other children are
/// the leaf, whatever they were.
fn grow_only(
    trees: &mut Trees,
    place: Place<'_>,
    digit: usize,
    prefixes: Prefixes<'_>,
    before: Before<'_>,
) -> Result<u32, NoRoom> {
    let child = grow_child(trees, place, &[], prefixes, before)?;
    if child == place.leaf {
        return Ok(child);
    }
    let mut node = Node {
        children: [place.leaf; FAN],
    };
    node.children[digit] = child;
    trees.hold_times(place.leaf, FAN as u32 - 1);
    trees.node(node)
}

/// The tree below a child of `place` that the rules of `ending` cover too.
fn grow_child(
    trees: &mut Trees,
    place: Place<'_>,
    ending: &[(usize, u16)],
    below: Prefixes<'_>,
    before: Before<'_>,
) -> Result<u32, NoRoom> {
    let depth = place.depth + STRIDE;
    if ending.is_empty() || matches!(before, Before::Same(_)) {
        return grow(trees, Place { depth, ..place }, below, before);
    }
    let mut covering = *place.covering;
    for (_, rule) in ending {
        covering.insert(*rule);
    }
    let leaf = trees.leaf(covering)?;
    let place = Place {
        covering: &covering,
        leaf,
        depth,
    };
    let grown = grow(trees, place, below, before);
    trees.release(leaf);
    grown
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
