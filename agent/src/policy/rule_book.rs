//! Which rule a connection's number means, also after its policy has given way to another.
//!
//! A connection holds the number of the rule that let it be opened, and the generation of the policy
//! that numbered it. Policies enter their rules here, and whoever has looked at every connection
//! says which generations none holds any more. Never decides about a packet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use branchline_common::policy::{SCOPES, Scope};

use super::NumberedRule;

/// The rules of one policy, by scope and number.
pub type Rules = Arc<[Vec<NumberedRule>; SCOPES]>;

/// Rules by generation; clones share one book.
#[derive(Debug, Clone, Default)]
pub struct RuleBook(Arc<Mutex<Pages>>);

#[derive(Debug, Clone, Default)]
struct Pages {
    rules: BTreeMap<u32, Rules>,
    /// Generations that no ENI obeys any more.
    retired: BTreeSet<u32>,
}

/// The book as it was at one moment.
#[derive(Debug, Clone, Default)]
pub struct RuleNames(Pages);

impl RuleBook {
    /// A policy of this generation has these rules.
    pub fn enter(&self, generation: u32, rules: &Rules) {
        self.pages().rules.insert(generation, Arc::clone(rules));
    }

    /// No connection is opened under this generation any more.
    pub fn retire(&self, generation: u32) {
        let mut pages = self.pages();
        if pages.rules.contains_key(&generation) {
            pages.retired.insert(generation);
        }
    }

    /// The book as it is now.
    #[must_use]
    pub fn names(&self) -> RuleNames {
        RuleNames(self.pages().clone())
    }

    /// Every connection has been looked at since `names` were read, and those that there are have
    /// the generations `held`.
    pub fn forget_others(&self, names: &RuleNames, held: &BTreeSet<u32>) {
        let mut pages = self.pages();
        for generation in names.0.retired.difference(held) {
            pages.rules.remove(generation);
            pages.retired.remove(generation);
        }
    }

    /// Every change is one step, so a panic elsewhere leaves nothing half done.
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RuleNames {
    /// The rule of a number; `None` if the generation is of another agent.
    #[must_use]
    pub fn rule(&self, generation: u32, scope: Scope, number: u16) -> Option<&NumberedRule> {
        let rules = self.0.rules.get(&generation)?;
        rules.get(scope)?.get(usize::from(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(id: &str) -> Rules {
        let mut rules: [Vec<NumberedRule>; SCOPES] = Default::default();
        rules[1].push(NumberedRule {
            group_id: "sg-a".to_owned(),
            rule_id: id.to_owned(),
        });
        Arc::new(rules)
    }

    #[test]
    fn a_retired_page_stays_as_long_as_a_connection_holds_it() {
        let book = RuleBook::default();
        book.enter(1, &rules("sgr-1"));
        book.enter(2, &rules("sgr-2"));
        let id = |generation| {
            let names = book.names();
            let rule = names.rule(generation, 1, 0);
            rule.map(|rule| rule.rule_id.clone())
        };
        assert_eq!(id(1).as_deref(), Some("sgr-1"));
        assert_eq!(book.names().rule(1, 1, 1), None);
        assert_eq!(book.names().rule(1, 0, 0), None);
        let before = book.names();
        book.retire(1);
        book.forget_others(&before, &BTreeSet::new());
        assert!(
            id(1).is_some(),
            "it retired while connections were looked at"
        );
        book.forget_others(&book.names(), &BTreeSet::from([1]));
        assert!(id(1).is_some(), "a connection holds it");
        book.forget_others(&book.names(), &BTreeSet::from([2]));
        assert_eq!((id(1), id(2).as_deref()), (None, Some("sgr-2")));
    }
}
