//! Which rule a connection's number means, also after its policy has given way to another; and
//! which rule let packets pass that belong to no connection.
//!
//! A connection holds the number of the rule that let it be opened, and the generation of the policy
//! that numbered it. Policies enter their rules here, and whoever has looked at every connection
//! says which generations none holds any more. A row of packets without a connection holds no
//! number: its flow was open both ways, so a rule with a literal /0 admitted it, and that one's
//! protocol and ports say which, if it is known which policies the ENI obeyed meanwhile. What of it
//! all outlives the agent is [`KeptPage`] and [`Rules`]. Never decides about a packet, never writes
//! to the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use branchline_common::policy::{SCOPES, Scope};
use serde::{Deserialize, Serialize};

use super::NumberedRule;

/// The rules of one policy, by scope and number.
pub type Rules = Arc<[Vec<NumberedRule>; SCOPES]>;

/// A policy as the book has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its rules.
    pub rules: Rules,
    /// What the store has of it.
    pub kept: KeptPage,
}

/// What the store has of a policy, by its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPage {
    /// Under which number it has the rules: the first generation that had them.
    pub numbered_at: u32,
    /// The flow log's epoch when it was entered, before any ENI obeyed it.
    pub epoch: u32,
}

/// What has left the book, and may leave the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Policies.
    pub generations: Vec<u32>,
    /// Rules, by [`KeptPage::numbered_at`].
    pub rules: Vec<u32>,
}

impl Forgotten {
    /// Whether the store may stay as it is.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.generations.is_empty() && self.rules.is_empty()
    }
}

/// The pages of a store that mean something, and what it is to forget: pages of generations past
/// `reserved`, the last that the maps know, whose number is another policy's soon.
#[must_use]
pub fn usable(
    pages: Vec<(u32, KeptPage)>,
    rules: Vec<(u32, Rules)>,
    reserved: u32,
) -> (BTreeMap<u32, Page>, Forgotten) {
    let rules: BTreeMap<u32, Rules> = rules.into_iter().collect();
    let mut usable = BTreeMap::new();
    let mut forgotten = Forgotten::default();
    for (generation, kept) in pages {
        match rules.get(&kept.numbered_at) {
            Some(rules) if generation <= reserved => {
                let rules = Arc::clone(rules);
                usable.insert(generation, Page { rules, kept });
            }
            Some(_) | None => forgotten.generations.push(generation),
        }
    }
    let named: BTreeSet<u32> = usable.values().map(|page| page.kept.numbered_at).collect();
    let unnamed = rules.into_keys().filter(|number| !named.contains(number));
    forgotten.rules.extend(unnamed);
    (usable, forgotten)
}

/// Rules by generation; clones share one book.
#[derive(Debug, Clone, Default)]
pub struct RuleBook(Arc<Mutex<Pages>>);

#[derive(Debug, Clone, Default)]
struct Pages {
    rules: BTreeMap<u32, Page>,
    /// Generations of an earlier agent, which ENIs may still obey.
    earlier: BTreeSet<u32>,
    /// Generations that no ENI obeys any more.
    retired: BTreeSet<u32>,
    /// By ENI slot.
    obeyed: BTreeMap<u32, Obeyed>,
    /// The epoch that was ended last.
    ended: Option<u32>,
}

/// Generations that an ENI obeyed.
#[derive(Debug, Clone, Default)]
struct Obeyed {
    /// In the epoch that was ended last.
    before: Vec<u32>,
    /// Since then; the last is obeyed now.
    since: Vec<u32>,
}

/// Stands for policies that nobody knows any more; no policy has this generation.
const UNKNOWN: u32 = 0;

impl Obeyed {
    fn all(&self) -> impl Iterator<Item = u32> {
        self.before.iter().chain(&self.since).copied()
    }

    fn end_epoch(&mut self, is_again: bool) {
        let current = self.since.last().copied();
        if !is_again {
            self.before.clear();
        }
        self.before.append(&mut self.since);
        self.since.extend(current);
    }
}

/// The book as it was at one moment.
#[derive(Debug, Clone, Default)]
pub struct RuleNames(Pages);

impl RuleBook {
    /// Takes up the book of an earlier agent in epoch `epoch`: its pages, and which generation the
    /// ENI in each slot obeys by the maps. What it had ENIs obey since the oldest epoch that may not
    /// be read yet, the one before `epoch`, is known of an ENI only whose policy is older than that.
    pub fn take_up(&self, kept: BTreeMap<u32, Page>, obeyed: BTreeMap<u32, u32>, epoch: u32) {
        let in_force: BTreeSet<u32> = obeyed.values().copied().collect();
        // It was entered in its epoch and may have been switched to in the next.
        let is_old = |page: &Page| page.kept.epoch.saturating_add(2) < epoch;
        let is_settled = kept
            .iter()
            .all(|(generation, page)| is_old(page) || in_force.contains(generation));
        let mut pages = self.pages();
        for (slot, generation) in obeyed {
            let is_known = is_settled && kept.get(&generation).is_some_and(is_old);
            let unknown = if is_known { None } else { Some(UNKNOWN) };
            let history = Obeyed {
                before: unknown.into_iter().collect(),
                since: unknown.into_iter().chain([generation]).collect(),
            };
            pages.obeyed.insert(slot, history);
        }
        pages.earlier.extend(kept.keys());
        pages.rules.extend(kept);
    }

    /// A policy of this generation is that of `page`.
    pub fn enter(&self, generation: u32, page: Page) {
        self.pages().rules.insert(generation, page);
    }

    /// ENIs are about to obey the policy of this generation.
    pub fn obey(&self, slots: impl IntoIterator<Item = u32>, generation: u32) {
        let mut guard = self.pages();
        let pages = &mut *guard;
        let numbered_at = |generation: &u32| Some(pages.rules.get(generation)?.kept.numbered_at);
        let numbered = numbered_at(&generation);
        for slot in slots {
            let since = &mut pages.obeyed.entry(slot).or_default().since;
            match since.last_mut() {
                // The same rules: only members of groups have come or gone.
                Some(last) if numbered.is_some() && numbered_at(last) == numbered => {
                    *last = generation;
                }
                Some(_) | None => since.push(generation),
            }
        }
    }

    /// There is no ENI in the slot any more, and nothing counted of it.
    pub fn leave(&self, slot: u32) {
        self.pages().obeyed.remove(&slot);
    }

    /// The epoch `epoch` is about to end. May be said twice, if it did not.
    pub fn end_epoch(&self, epoch: u32) {
        let mut pages = self.pages();
        let is_again = pages.ended == Some(epoch);
        pages.ended = Some(epoch);
        for history in pages.obeyed.values_mut() {
            history.end_epoch(is_again);
        }
    }

    /// No connection is opened under this generation any more.
    pub fn retire(&self, generation: u32) {
        let mut pages = self.pages();
        if pages.rules.contains_key(&generation) {
            pages.retired.insert(generation);
        }
    }

    /// No connection is opened under a policy of an earlier agent any more.
    pub fn retire_earlier(&self) {
        let mut pages = self.pages();
        let earlier = std::mem::take(&mut pages.earlier);
        pages.retired.extend(earlier);
    }

    /// The pages of these generations.
    #[must_use]
    pub fn pages_of(&self, generations: &[u32]) -> Vec<(u32, Page)> {
        let pages = self.pages();
        let page = |generation: &u32| Some((*generation, pages.rules.get(generation)?.clone()));
        generations.iter().filter_map(page).collect()
    }

    /// The book as it is now.
    #[must_use]
    pub fn names(&self) -> RuleNames {
        RuleNames(self.pages().clone())
    }

    /// Every connection has been looked at since `names` were read, and those that there are have
    /// the generations `held`. Returns what the book has lost by it.
    pub fn forget_others(&self, names: &RuleNames, held: &BTreeSet<u32>) -> Forgotten {
        let mut pages = self.pages();
        let obeyed: BTreeSet<u32> = pages.obeyed.values().flat_map(Obeyed::all).collect();
        let mut forgotten = Forgotten::default();
        for generation in names.0.retired.difference(held) {
            if obeyed.contains(generation) {
                continue;
            }
            pages.retired.remove(generation);
            if let Some(page) = pages.rules.remove(generation) {
                forgotten.generations.push(*generation);
                forgotten.rules.push(page.kept.numbered_at);
            }
        }
        if !forgotten.rules.is_empty() {
            let left = pages.rules.values().map(|page| page.kept.numbered_at);
            let left: BTreeSet<u32> = left.collect();
            forgotten.rules.retain(|rules| !left.contains(rules));
            forgotten.rules.sort_unstable();
            forgotten.rules.dedup();
        }
        forgotten
    }

    /// Every change is one step, so a panic elsewhere leaves nothing half done.
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RuleNames {
    /// The rule of a number; `None` if the generation is not in the book.
    #[must_use]
    pub fn rule(&self, generation: u32, scope: Scope, number: u16) -> Option<&NumberedRule> {
        let rules = &self.0.rules.get(&generation)?.rules;
        rules.get(scope)?.get(usize::from(number))
    }

    /// Generation and number of the rule by which the ENI in `slot` admits packets of `protocol` to
    /// `port`, whoever the peer: the first that does, as the programs have it. `None` if there is
    /// none, or if not all policies that it obeyed since the epoch before are known and agree.
    #[must_use]
    pub fn open_rule(
        &self,
        slot: u32,
        scope: Scope,
        protocol: u8,
        port: u16,
    ) -> Option<(u32, u16)> {
        let admits = |rule: &NumberedRule| {
            let opens = rule.opens.as_ref();
            opens.is_some_and(|opens| opens.admits(protocol, port))
        };
        let mut found: Option<(u32, u16, &NumberedRule)> = None;
        for generation in self.0.obeyed.get(&slot)?.all() {
            let rules = self.0.rules.get(&generation)?.rules.get(scope)?;
            let number = rules.iter().position(admits)?;
            let rule = rules.get(number)?;
            match found {
                Some((.., other)) if !is_same(other, rule) => return None,
                Some(_) => {}
                None => found = Some((generation, u16::try_from(number).ok()?, rule)),
            }
        }
        found.map(|(generation, number, _)| (generation, number))
    }
}

fn is_same(one: &NumberedRule, other: &NumberedRule) -> bool {
    one.rule_id == other.rule_id && one.group_id == other.group_id
}

#[cfg(test)]
#[path = "rule_book_tests.rs"]
mod tests;
