//! One walk over the tables at an interval's end, for what was counted and for what may go.

use std::collections::BTreeMap;

use branchline_common::conntrack::SWEEP_GRACE_SECONDS;
use branchline_common::flow::FlowKey;

use super::drain::{Drain, Reading};
use super::ledger::{Closing, Window};
use super::sweep::{Now, is_sweepable};
use crate::datapath::{Clock, DatapathError, Entry, FlowTables};
use crate::policy::RuleNames;

/// A walk in progress.
pub(super) struct Collection<'a> {
    reading: Reading<'a>,
    now: Now,
    /// What was counted.
    pub(super) drain: Drain,
    /// What may go once the interval's file is safe.
    pub(super) dead: Vec<FlowKey>,
}

impl<'a> Collection<'a> {
    /// A walk for what `reading` reads; what is dead `now` may go.
    pub(super) fn new(reading: Reading<'a>, now: Now) -> Self {
        Self {
            reading,
            now,
            drain: Drain::default(),
            dead: Vec::new(),
        }
    }

    /// Takes in an entry.
    pub(super) fn add(&mut self, key: &FlowKey, entry: &Entry) {
        self.drain.add(key, entry, &self.reading);
        if is_sweepable(key, entry, self.now) {
            self.dead.push(*key);
        }
    }
}

/// What a walk found, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collected {
    /// Records of all ENIs.
    pub records: usize,
    /// Entries that may go once the records are safe.
    pub dead: usize,
}

/// Walks the tables as the end of epoch `epoch` at `ticks` does, sorts the records, and forgets them:
/// for the bench, which takes the time.
///
/// # Errors
/// `Walk`.
pub fn collect(
    tables: &FlowTables,
    clock: Clock,
    epoch: u32,
    ticks: u32,
) -> Result<Collected, DatapathError> {
    let closing = Closing {
        epoch,
        window: Window { start: 0, end: 60 },
        next_start: 60,
        ticks,
        wall_ms: 60_000,
        unlogged: BTreeMap::new(),
    };
    let reading = Reading {
        clock,
        closing: &closing,
        rules: &RuleNames::default(),
    };
    let now = Now {
        ticks,
        grace: SWEEP_GRACE_SECONDS * clock.ticks_per_second(),
        written_epoch: epoch,
    };
    let mut collection = Collection::new(reading, now);
    tables.for_each(|key, entry| collection.add(key, entry))?;
    let Collection {
        mut drain, dead, ..
    } = collection;
    let slots: Vec<u32> = drain.rest().collect();
    let records = slots.into_iter().map(|slot| drain.take(slot).len()).sum();
    Ok(Collected {
        records,
        dead: dead.len(),
    })
}
