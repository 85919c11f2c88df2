//! Which epoch is written, which is being written, and how to go on after a stop.
//!
//! Pure. Never reads a clock, a map or the store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The whole seconds of one interval, as Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its first second.
    pub start: u64,
    /// The second after its last one; after `start`.
    pub end: u64,
}

impl Window {
    /// Its last second.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.end - 1
    }

    /// The millisecond of the window nearest to `ms`, both since 1970. A record lies in its interval
    /// even if the wall clock was set in between, or its last packet came while the interval was
    /// being ended.
    #[must_use]
    pub fn clamp_ms(&self, ms: u64) -> u64 {
        ms.clamp(self.start * 1_000, self.end * 1_000 - 1)
    }
}

/// Why an interval ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A multiple of this many seconds since 1970 has come.
    Due {
        /// The configured interval.
        interval: u64,
    },
    /// All that was counted is wanted now.
    Flush,
}

impl End {
    /// The window from `start` that ends `now` (Unix seconds), and the start of the next one. A
    /// window has at least one second, even if the wall clock was set back.
    #[must_use]
    pub(super) fn window(self, start: u64, now: u64) -> (Window, u64) {
        let end = match self {
            Self::Due { interval } => now - now % interval,
            Self::Flush => now + 1,
        };
        let end = end.max(start + 1);
        (Window { start, end }, end.min(now))
    }
}

/// What the flow log must remember: one fact in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// The newest epoch whose file is safe.
    pub(super) written_epoch: u32,
    /// Start of the current epoch, Unix seconds.
    pub(super) start: u64,
    /// By ENI id: packets that were not counted up to the end of the written epoch.
    pub(super) unlogged: BTreeMap<String, u64>,
    /// How the epoch after the written one ended, if it has.
    pub(super) closing: Option<Closing>,
}

/// An epoch that has ended, with all that its file depends on besides the maps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// Its number.
    pub epoch: u32,
    /// Its seconds.
    pub window: Window,
    /// Start of the epoch after it.
    pub next_start: u64,
    /// The maps' clock at its end, in ticks.
    pub ticks: u32,
    /// The wall clock at the same time, in milliseconds since 1970.
    pub wall_ms: u64,
    /// By ENI id: packets that were not counted up to its end.
    pub unlogged: BTreeMap<String, u64>,
}

/// What a start finds strange about the kernel's epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Surprise {
    /// The maps are older than the store.
    #[error(
        "the kernel's maps are new, as after a reboot: flow counts since the last file are gone"
    )]
    NewMaps,
    /// The store is older than the maps.
    #[error(
        "the store is new and the kernel's maps are not: of the flow counts before the current interval none is written again"
    )]
    NewStore,
}

/// Where a start goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resume {
    /// The ledger to go on with.
    pub(super) ledger: Ledger,
    /// The epoch to go on with.
    pub(super) epoch: u32,
    /// What to tell the operator.
    pub(super) surprise: Option<Surprise>,
}

/// Compares the store with the kernel's `epoch` at a start. A store without a ledger beside maps in
/// their first epoch is a host's first start.
#[must_use]
pub(super) fn resume(stored: Option<Ledger>, epoch: u32, now: u64) -> Resume {
    let Some(mut ledger) = stored else {
        let surprise = (epoch > 1).then_some(Surprise::NewStore);
        return Resume {
            ledger: Ledger::new(epoch.saturating_sub(1), now),
            epoch: epoch.max(1),
            surprise,
        };
    };
    let ended = ledger.closing.as_ref().map(|closing| closing.epoch);
    let newest = ended.unwrap_or(ledger.written_epoch);
    let expected = newest + 1;
    if epoch == expected {
        return Resume {
            ledger,
            epoch,
            surprise: None,
        };
    }
    if ended == Some(epoch) {
        // The agent stopped before the kernel heard of the end: the interval goes on.
        ledger.closing = None;
        return Resume {
            ledger,
            epoch,
            surprise: None,
        };
    }
    if epoch < expected {
        // What was counted from the last end to now is gone with the old maps.
        match &mut ledger.closing {
            Some(closing) => closing.next_start = now,
            None => ledger.start = now,
        }
        return Resume {
            ledger,
            epoch: expected,
            surprise: Some(Surprise::NewMaps),
        };
    }
    Resume {
        ledger: Ledger::new(epoch - 1, now),
        epoch,
        surprise: Some(Surprise::NewStore),
    }
}

impl Ledger {
    /// A ledger that starts `now` with everything up to `written_epoch` settled.
    #[must_use]
    pub(super) fn new(written_epoch: u32, now: u64) -> Self {
        Self {
            written_epoch,
            start: now,
            unlogged: BTreeMap::new(),
            closing: None,
        }
    }

    /// The epoch that has ended and whose file is not known to be safe. `epoch` is the kernel's:
    /// where it has not advanced, nothing has ended.
    #[must_use]
    pub(super) fn pending(&self, epoch: u32) -> Option<&Closing> {
        self.closing
            .as_ref()
            .filter(|closing| closing.epoch < epoch)
    }

    /// The ledger once the file of `closing` is safe.
    #[must_use]
    pub(super) fn settled(closing: &Closing) -> Self {
        Self {
            written_epoch: closing.epoch,
            start: closing.next_start,
            unlogged: closing.unlogged.clone(),
            closing: None,
        }
    }

    /// Packets that the ENI lost between the end of the written epoch and a time when `unlogged` of
    /// its packets were not counted. Counters start at 0 with every ENI and every boot.
    #[must_use]
    pub(super) fn skipped(&self, interface_id: &str, unlogged: u64) -> u64 {
        let before = self.unlogged.get(interface_id).copied().unwrap_or(0);
        unlogged.checked_sub(before).unwrap_or(unlogged)
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
