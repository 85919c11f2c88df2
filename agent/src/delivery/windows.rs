//! Epochs to the windows of a flow log's own aggregation interval.
//!
//! Pure. An epoch lies in the window that its last second lies in: epochs end at every multiple of
//! every log's interval, so one that is longer than a window was kept open by an agent that was away.

use std::sync::Arc;

use crate::flow_log::{Aggregation, Peers};
use crate::flows::{Epoch, Interface, Report, Window};

/// A window that has ended, or was ended early; each ENI and each of its tuples once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closed {
    /// Its seconds that were seen.
    pub(super) window: Window,
    /// What each ENI counted.
    pub(super) reports: Vec<Report>,
    /// The ENIs that were there.
    pub(super) peers: Peers,
}

/// The open window of a log.
#[derive(Debug)]
pub(super) struct Windows {
    /// Seconds.
    interval: u64,
    tells_rules_apart: bool,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    index: u64,
    window: Window,
    aggregation: Aggregation,
    peers: Peers,
}

impl Windows {
    /// Windows of `interval` seconds, aligned to its multiples since 1970. `tells_rules_apart` as of
    /// the log's format.
    pub(super) fn new(interval: u64, tells_rules_apart: bool) -> Self {
        Self {
            interval,
            tells_rules_apart,
            open: None,
        }
    }

    /// Takes an epoch in, which comes after those before it, and the ENIs of any log that were there
    /// meanwhile; returns the windows that have ended.
    #[must_use]
    pub(super) fn add(&mut self, epoch: Epoch, peers: &[Arc<Interface>]) -> Vec<Closed> {
        let window = epoch.window;
        let index = window.last() / self.interval;
        let mut closed = Vec::new();
        if self.open.as_ref().is_some_and(|open| open.index != index) {
            closed.extend(self.close());
        }
        let open = self.open.get_or_insert_with(|| Open {
            index,
            window,
            aggregation: Aggregation::new(self.tells_rules_apart),
            peers: Peers::default(),
        });
        open.window.start = open.window.start.min(window.start);
        open.window.end = open.window.end.max(window.end);
        open.aggregation.add_epoch(epoch.reports);
        peers.iter().for_each(|peer| open.peers.add(peer));
        if window.end.is_multiple_of(self.interval) {
            closed.extend(self.close());
        }
        closed
    }

    /// Ends the open window now, if there is one.
    pub(super) fn close(&mut self) -> Option<Closed> {
        let open = self.open.take()?;
        Some(Closed {
            window: open.window,
            reports: open.aggregation.finish(),
            peers: open.peers,
        })
    }

    /// Whether a window is open.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

#[cfg(test)]
#[path = "windows_tests.rs"]
mod tests;
