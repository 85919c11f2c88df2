//! Prefixes to a tree: every leaf is the set of the rules whose prefix covers it. Pure.

use branchline_common::policy::{FAN, Key, LEAF, Node, RuleSet, STRIDE};

use super::{pool::NoRoom, trees::Trees};

/// A prefix that a rule covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    /// Most significant bit first.
    key: u128,
    bits: u32,
    rule: u16,
}

impl Prefix {
    /// The first `bits` of `key`, covered by rule number `rule`.
    pub(super) fn new((high, low): Key, bits: u32, rule: u16) -> Self {
        Self {
            key: u128::from(high) << 64 | u128::from(low),
            bits,
            rule,
        }
    }

    /// The [`STRIDE`] bits of the key behind its first `depth`.
    fn digit(&self, depth: u32) -> usize {
        (self.key << depth >> (128 - STRIDE)) as usize
    }
}

/// Makes the tree of `prefixes`; returns its root, which the caller holds.
pub(super) fn plant(trees: &mut Trees, mut prefixes: Vec<Prefix>) -> Result<u32, NoRoom> {
    // In order of keys, those below one child are neighbours.
    prefixes.sort_unstable();
    grow(trees, &RuleSet::default(), LEAF, &prefixes, 0)
}

/// The tree below one child: `covering` are the rules of prefixes that end above it, `leaf` their
/// leaf, which somebody holds.
fn grow(
    trees: &mut Trees,
    covering: &RuleSet,
    leaf: u32,
    prefixes: &[Prefix],
    depth: u32,
) -> Result<u32, NoRoom> {
    if prefixes.is_empty() {
        trees.hold(leaf);
        return Ok(leaf);
    }
    let (here, below): (Vec<Prefix>, Vec<Prefix>) =
        prefixes.iter().partition(|prefix| prefix.bits <= depth);
    let mut set = *covering;
    for prefix in &here {
        set.insert(prefix.rule);
    }
    let leaf = trees.leaf(set)?;
    let grown = branch(trees, &set, leaf, &below, depth);
    trees.release(leaf);
    grown
}

fn branch(
    trees: &mut Trees,
    set: &RuleSet,
    leaf: u32,
    below: &[Prefix],
    depth: u32,
) -> Result<u32, NoRoom> {
    if below.is_empty() {
        trees.hold(leaf);
        return Ok(leaf);
    }
    let mut node = Node::default();
    let mut covered = vec![Vec::new(); FAN];
    for prefix in below {
        let first = prefix.digit(depth);
        // A prefix that ends inside the digit covers several children.
        let free = (depth + STRIDE).saturating_sub(prefix.bits);
        for child in covered.iter_mut().skip(first).take(1 << free) {
            child.push(*prefix);
        }
    }
    for (index, prefixes) in covered.iter().enumerate() {
        match grow(trees, set, leaf, prefixes, depth + STRIDE) {
            Ok(child) => node.children[index] = child,
            Err(error) => {
                trees.release_all(&node.children[..index]);
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
