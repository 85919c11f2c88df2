//! States of before, for describes that answer late.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::state::State;

/// States by when they came to be, the oldest first. Empty unless consistency is delayed.
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<(Instant, Arc<State>)>);

impl History {
    /// Notes how `state` is from `now` on.
    pub(crate) fn note(&mut self, state: &State, now: Instant) {
        let delay = state.settings.consistency_delay;
        if delay.is_zero() {
            self.0.clear();
            return;
        }
        self.0.push_back((now, Arc::new(state.clone())));
        let needed =
            |(since, _): &(Instant, Arc<State>)| now.saturating_duration_since(*since) < delay;
        while self.0.get(1).is_some_and(|next| !needed(next)) {
            self.0.pop_front();
        }
    }

    /// What a describe at `now` sees, if it is not the state itself.
    pub(crate) fn seen(&self, state: &State, now: Instant) -> Option<Arc<State>> {
        let delay = state.settings.consistency_delay;
        let old =
            |(since, _): &&(Instant, Arc<State>)| now.saturating_duration_since(*since) >= delay;
        let seen = self.0.iter().rev().find(old).or(self.0.front());
        seen.map(|(_, state)| Arc::clone(state))
    }
}
