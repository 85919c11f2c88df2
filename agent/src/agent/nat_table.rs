//! Whether the host's nftables table is as it should be. Each look starts a process, so scrapes are told what the last
//! look found: one a minute, and those of whoever asks for health.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    nat::{HostNat, NatError, TableState},
    netns::Netns,
    server::causes,
};

/// From one look to the next.
pub(super) const ROUND: Duration = Duration::from_secs(60);
/// Health looks anew only after this.
const FRESH: Duration = Duration::from_secs(5);

/// The table that lets tasks out, and what was last found of it.
#[derive(Debug)]
pub(super) struct NatTable {
    nat: HostNat,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    problem: Option<String>,
}

impl NatTable {
    /// It has just been applied.
    pub(super) fn applied(nat: HostNat) -> Self {
        let seen = Seen {
            at: Instant::now(),
            problem: None,
        };
        Self {
            nat,
            seen: Mutex::new(seen),
        }
    }

    /// What there is of it now.
    pub(super) fn check(&self, host: &Netns) -> Result<TableState, NatError> {
        let found = self.nat.check(host);
        let problem = match &found {
            Ok(TableState::Equal) => None,
            Ok(TableState::Absent) => Some("its nftables table is missing".to_owned()),
            Ok(TableState::Different) => {
                Some("its nftables table was changed by someone else".to_owned())
            }
            Err(error) => Some(causes(error)),
        };
        *self.seen() = Seen {
            at: Instant::now(),
            problem,
        };
        found
    }

    /// What is wrong with it, as it was found at most [`ROUND`] ago.
    pub(super) fn last_problem(&self) -> Option<String> {
        self.seen().problem.clone()
    }

    /// What is wrong with it, as it was found at most [`FRESH`] ago.
    pub(super) fn problem(&self, host: &Netns) -> Option<String> {
        if self.seen().at.elapsed() >= FRESH {
            // What it found, or why it could not look, is noted.
            drop(self.check(host));
        }
        self.last_problem()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
