//! Indices that nobody holds any more and that programs may still read, in the order in which they were given up. Pure.
//!
//! A place in this order never changes its meaning. So whoever waited for the programs that ran at one moment frees what
//! rested then and nothing later, whoever else waits meanwhile and whoever is through first.

use std::collections::VecDeque;

/// A place in the order; what was given up before it lies before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

/// Indices that rest.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    waiting: VecDeque<u32>,
    /// The place of the first that waits.
    first: u64,
}

impl Rest {
    /// Nobody holds `index` any more.
    pub(crate) fn push(&mut self, index: u32) {
        self.waiting.push_back(index);
    }

    /// The place behind all that rest now.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.first + self.waiting.len() as u64)
    }

    /// Whether nothing rests.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// No program reads what was given up before `mark` any more: those of it that rest still, which may be used again.
    pub(crate) fn wake(&mut self, mark: Mark) -> impl Iterator<Item = u32> {
        let count = mark.0.saturating_sub(self.first);
        let count = usize::try_from(count)
            .map_or(self.waiting.len(), |count| count.min(self.waiting.len()));
        self.first += count as u64;
        self.waiting.drain(..count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rests_later_is_not_woken_by_who_waited_before() {
        let mut rest = Rest::default();
        [1, 2].into_iter().for_each(|index| rest.push(index));
        let first = rest.mark();
        rest.push(3);
        let second = rest.mark();
        assert_eq!(rest.wake(first).collect::<Vec<_>>(), [1, 2]);
        // Given up after both began to wait.
        [4, 5, 6].into_iter().for_each(|index| rest.push(index));
        assert_eq!(rest.wake(second).collect::<Vec<_>>(), [3]);
        assert_eq!(rest.wake(second).count(), 0);
        assert!(!rest.is_empty());
        let third = rest.mark();
        assert_eq!(rest.wake(third).collect::<Vec<_>>(), [4, 5, 6]);
        // The later one was through first.
        assert_eq!(rest.wake(first).count(), 0);
        assert!(rest.is_empty());
    }
}
