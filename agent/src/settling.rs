//! What changes of policies leave over until programs that still run are through: gathered, so that one waits for all.
//! Pure: waits for nothing itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::policies::Unsettled;

/// What is left over; copies are one.
#[derive(Debug, Clone, Default)]
pub struct Settling(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    left: Option<Unsettled>,
    has_settler: bool,
}

impl Settling {
    /// Leaves `unsettled` over. Returns whether the caller has to see to it: until [`Settling::take`] has nothing more.
    pub fn add(&self, unsettled: Unsettled) -> bool {
        if unsettled.is_nothing() {
            return false;
        }
        let mut state = self.state();
        state.left = Some(match state.left.take() {
            Some(left) => left.and(unsettled),
            None => unsettled,
        });
        !std::mem::replace(&mut state.has_settler, true)
    }

    /// All that is left over now, to be settled after a grace period that begins now. `None`: the settler's work is done,
    /// and whoever leaves something over next has to see to it.
    pub fn take(&self) -> Option<Unsettled> {
        let mut state = self.state();
        let left = state.left.take();
        state.has_settler = left.is_some();
        left
    }

    /// Every change is one step, so a panic elsewhere leaves nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_sees_to_all_that_is_left() {
        let settling = Settling::default();
        assert!(!settling.add(Unsettled::default()), "nothing to see to");
        assert!(settling.add(Unsettled::of_earlier()));
        assert!(!settling.add(Unsettled::of_earlier()), "somebody does");
        assert!(settling.take().is_some());
        // What is left over while the settler waits is not what it waits for.
        assert!(!settling.add(Unsettled::of_earlier()));
        assert!(settling.take().is_some());
        assert!(settling.take().is_none());
        assert!(
            settling.add(Unsettled::of_earlier()),
            "nobody does any more"
        );
    }
}
