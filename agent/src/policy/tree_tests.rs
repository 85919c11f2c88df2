#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use branchline_common::policy::descend;
use proptest::prelude::*;

use super::*;
use crate::policy::prefix::RulePrefix;

/// Rules that cover prefixes of the tree's own, and those that cover a list each.
const OWN_RULES: u16 = 3;
const LISTS: usize = 2;

/// What a tree is made of, as it changes.
#[derive(Default)]
struct Content {
    own: BTreeSet<RulePrefix>,
    lists: [BTreeSet<Prefix>; LISTS],
}

impl Content {
    /// Takes the prefix out if it is in, else puts it in: for one of the rules.
    fn toggle(&mut self, prefix: Prefix, rule: u16) {
        fn toggle<T: Ord>(set: &mut BTreeSet<T>, item: T) {
            if !set.remove(&item) {
                set.insert(item);
            }
        }
        match rule.checked_sub(OWN_RULES) {
            Some(list) => toggle(&mut self.lists[usize::from(list)], prefix),
            None => toggle(&mut self.own, prefix.covered_by(rule)),
        }
    }

    fn with<T>(&self, make: impl FnOnce(Prefixes<'_>) -> T) -> T {
        let own: Vec<RulePrefix> = self.own.iter().copied().collect();
        let lists: Vec<Vec<Prefix>> = self
            .lists
            .iter()
            .map(|list| list.iter().copied().collect())
            .collect();
        let lists = lists.iter().map(Vec::as_slice);
        make(Prefixes::new(&own, lists.zip(OWN_RULES..)))
    }
}

/// The first `bits` of a key.
fn prefix(key: u128, bits: u32) -> Prefix {
    let key = key & !u128::MAX.checked_shr(bits).unwrap_or(0);
    Prefix::new(((key >> 64) as u64, key as u64), bits)
}

/// Few keys and many lengths, so that prefixes often cover one another: of IPv4, or of IPv6.
fn prefixes(longest: u32) -> impl Strategy<Value = Prefix> {
    let bytes = prop::collection::vec(prop::sample::select(vec![0x00_u8, 0x01, 0x80, 0xf7]), 3);
    let bits = prop_oneof![3 => 0..=longest, 1 => Just(longest), 1 => 0..=9_u32];
    (bytes, bits).prop_map(|(bytes, bits)| {
        let low = u128::from(u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]));
        let key = low << 104 | low << 40 | low;
        prefix(key, bits)
    })
}

fn steps(longest: u32) -> impl Strategy<Value = Vec<Vec<(Prefix, u16)>>> {
    let toggle = (prefixes(longest), 0..OWN_RULES + LISTS as u16);
    prop::collection::vec(prop::collection::vec(toggle, 1..4), 1..30)
}

/// After each step the tree made out of the one before is the tree planted anew; at the end nothing
/// is held.
fn follow(steps: Vec<Vec<(Prefix, u16)>>) -> Result<(), TestCaseError> {
    let (mut trees, mut content) = <(Trees, Content)>::default();
    let mut root = content
        .with(|prefixes| plant(&mut trees, prefixes))
        .unwrap();
    for step in steps {
        for (prefix, rule) in &step {
            content.toggle(*prefix, *rule);
        }
        // One that went in and out again is told all the same.
        let changed: BTreeSet<Prefix> = step.iter().map(|(prefix, _)| *prefix).collect();
        let changed: Vec<Prefix> = changed.into_iter().collect();
        let new = content.with(|prefixes| replant(&mut trees, root, &changed, prefixes));
        let new = new.unwrap();
        trees.release(root);
        let held = trees.len();
        let planted = content
            .with(|prefixes| plant(&mut trees, prefixes))
            .unwrap();
        prop_assert_eq!(new, planted);
        trees.release(planted);
        prop_assert_eq!(trees.len(), held);
        root = new;
    }
    trees.release(root);
    prop_assert_eq!(trees.len(), (0, 0));
    Ok(())
}

proptest! {
    #[test]
    fn a_tree_that_followed_its_prefixes_is_the_tree_of_them_ipv4(steps in steps(32)) {
        follow(steps)?;
    }

    #[test]
    fn a_tree_that_followed_its_prefixes_is_the_tree_of_them_ipv6(steps in steps(128)) {
        follow(steps)?;
    }

    #[test]
    fn a_leaf_is_the_rules_whose_prefixes_cover_the_key(
        own in prop::collection::btree_set((prefixes(32), 0..OWN_RULES + LISTS as u16), 0..12),
        probes in prop::collection::vec(prefixes(32), 8),
    ) {
        let (mut trees, mut content) = <(Trees, Content)>::default();
        for (prefix, rule) in &own {
            content.toggle(*prefix, *rule);
        }
        let root = content.with(|prefixes| plant(&mut trees, prefixes)).unwrap();
        for probe in probes {
            let mut expected = RuleSet::default();
            for (_, rule) in own.iter().filter(|(prefix, _)| prefix.covers(probe.key())) {
                expected.insert(*rule);
            }
            let leaf = descend(root, probe.key(), |index| trees.nodes.get(index));
            let found = trees.sets.get(leaf).copied().unwrap_or_default();
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn what_no_changed_prefix_touches_is_not_looked_at() {
    let [ten, twenty, thirty] = [10, 20, 30].map(|first: u128| prefix(first << 120, 8));
    let mut trees = Trees::default();
    let own = [
        ten.covered_by(0),
        twenty.covered_by(1),
        thirty.covered_by(2),
    ];
    let old = plant(&mut trees, Prefixes::new(&own, [])).unwrap();
    // Nobody says that 20/8 is gone too: so it stays.
    let new = replant(&mut trees, old, &[ten], Prefixes::new(&own[2..], [])).unwrap();
    let expected = plant(&mut trees, Prefixes::new(&own[1..], [])).unwrap();
    assert_eq!(new, expected);
}

#[test]
fn a_failure_holds_nothing_more() {
    let taken = crate::policy::Taken {
        nodes: (1..branchline_common::maps::NODES - 20).collect(),
        ..Default::default()
    };
    let mut trees = Trees::beside(taken);
    let near = [prefix(1, 128).covered_by(0)];
    let old = plant(&mut trees, Prefixes::new(&near, []));
    assert!(old.is_err(), "32 levels do not fit");
    assert_eq!(trees.len(), (0, 0));
    trees.rested(trees.resting());
    let own = [prefix(10 << 120, 8).covered_by(0)];
    let old = plant(&mut trees, Prefixes::new(&own, [])).unwrap();
    let held = trees.len();
    let far = prefix((10 << 120) + 1, 128);
    let both = [own[0], far.covered_by(1)];
    assert!(replant(&mut trees, old, &[far], Prefixes::new(&both, [])).is_err());
    assert_eq!(trees.len(), held);
    trees.release(old);
    assert_eq!(trees.len(), (0, 0));
}
