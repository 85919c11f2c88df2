//! All flow logs of the host: each takes in the epochs of the spool at its own pace, and an epoch
//! goes once every log has it in its files.
//!
//! A log that fails waits and leaves the others alone. The spool is bounded: past it, what the
//! slowest log has not written is given up, and its rows say how much. An epoch whose file is damaged
//! or never was is taken in by its outline, which says as much.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use branchline_common::verdict::Service;

use super::epochs::{Epochs, Found, Size};
use super::ground::{DeliveryError, OnDisk, PROGRESS, fact};
use super::log::{Delivery, Site};
use super::progress::Totals;
use super::spec::{FlowLog, check_all, epoch_seconds};
use crate::field_error::FieldError;
use crate::flows::{Spool, SpoolError};
use crate::server::causes;
use crate::state::{StateError, Store};

/// First and longest wait of a log that failed.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Bytes that outlines without a file may take in the store, which is on a full disk then.
const LONE_OUTLINES_MAX: u64 = 1 << 20;
/// The store's fact: the logs that were applied.
const APPLIED_FACT: &str = "flow_logs";

/// Why flow logs cannot be put in force; those before are in force still.
#[derive(Debug, thiserror::Error)]
pub enum FlowLogsError {
    /// A log is not what it may be.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Progress cannot be kept.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The store cannot be read or written.
    #[error("keep the flow logs in the store")]
    State(#[from] StateError),
    /// The spool cannot be read or written.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// The flow logs of one host.
pub struct FlowLogs {
    ground: OnDisk,
    epochs: Epochs,
    spool_max_bytes: u64,
    site: Site,
    state: Mutex<State>,
}

struct State {
    logs: Vec<Working>,
    /// The newest epoch that is in the spool for good.
    written: u32,
}

struct Working {
    delivery: Delivery<OnDisk>,
    failing: Option<Failing>,
}

/// Why a log waits, and until when.
struct Failing {
    error: String,
    wait: Duration,
    until: Instant,
}

/// A log as it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    /// What it is to do.
    pub log: FlowLog,
    /// What it has written.
    pub totals: Totals,
    /// Epochs in the spool that its files lack.
    pub waiting_epochs: u32,
    /// Why it does not get on.
    pub error: Option<String>,
}

impl FlowLogs {
    /// The logs that were applied, or those of the configuration if none ever were. Up to the epoch
    /// `written`, all is in the spool or in files.
    ///
    /// # Errors
    /// `Delivery` or `State`.
    pub fn resume(
        ground: OnDisk,
        spool: Spool,
        spool_max_bytes: u64,
        site: Site,
        configured: Vec<FlowLog>,
        written: u32,
    ) -> Result<Self, FlowLogsError> {
        let logs = in_force(&ground.store, &configured)?;
        let epochs = Epochs {
            spool,
            store: Arc::clone(&ground.store),
        };
        let flow_logs = Self {
            ground,
            epochs,
            spool_max_bytes,
            site,
            state: Mutex::new(State {
                logs: Vec::new(),
                written,
            }),
        };
        let mut state = flow_logs.state();
        state.logs = flow_logs.start(&logs, written, Vec::new())?;
        flow_logs.forget_others(&logs)?;
        drop(state);
        Ok(flow_logs)
    }

    /// Puts `logs` in force instead of those before, for this agent and the next ones. A log of the
    /// same id goes on where it was. One that is gone or changed has in its files first what was
    /// counted up to now.
    ///
    /// # Errors
    /// Each variant; the logs before are in force still.
    pub fn apply(&self, logs: &[FlowLog], now: Instant) -> Result<(), FlowLogsError> {
        check_all(logs)?;
        let mut state = self.state();
        for working in &mut state.logs {
            if !logs.contains(working.delivery.log()) {
                // If it cannot, it goes on from the spool with its new settings.
                working.attempt(now, Delivery::flush);
            }
        }
        let (written, before) = (state.written, std::mem::take(&mut state.logs));
        let was: Vec<FlowLog> = before
            .iter()
            .map(|one| one.delivery.log().clone())
            .collect();
        let next = self.start(logs, written, before);
        let stored = next.and_then(|next| {
            self.ground.store.put_fact(APPLIED_FACT, &logs)?;
            Ok(next)
        });
        match stored {
            Ok(next) => state.logs = next,
            Err(error) => {
                state.logs = self.start(&was, written, Vec::new())?;
                return Err(error);
            }
        }
        self.forget_others(logs)
    }

    /// Takes in what the spool has up to the epoch `written`, and writes the files whose time has
    /// come. A log that fails is tried again later.
    ///
    /// # Errors
    /// `Spool` or `State`; nothing is lost.
    pub fn deliver(&self, written: u32, now: Instant) -> Result<(), FlowLogsError> {
        let mut state = self.state();
        state.written = written;
        while let Some(number) = state.next(now) {
            let found = self.epochs.find(number)?;
            for working in state.ready(now).filter(|log| log.delivery.next() == number) {
                working.attempt(now, |delivery| match &found {
                    Found::Whole(epoch) => delivery.take(epoch.clone()),
                    Found::Outline(outline) => delivery.take_outline(number, outline),
                    Found::Nothing => delivery.flush().and_then(|()| delivery.give_up(None)),
                });
            }
        }
        self.trim(&mut state, now)
    }

    /// Finishes every file now.
    ///
    /// # Errors
    /// `Spool`; nothing is lost.
    pub fn flush(&self, written: u32, now: Instant) -> Result<(), FlowLogsError> {
        self.deliver(written, now)?;
        let mut state = self.state();
        for working in state.ready(now) {
            working.attempt(now, Delivery::flush);
        }
        self.trim(&mut state, now)
    }

    /// Seconds after which an epoch has to end at the latest.
    #[must_use]
    pub fn epoch_seconds(&self) -> u64 {
        let state = self.state();
        epoch_seconds(state.logs.iter().map(|working| working.delivery.log()))
    }

    /// Services that any log includes.
    #[must_use]
    pub fn services(&self) -> BTreeSet<Service> {
        let state = self.state();
        let logs = state.logs.iter().map(|working| working.delivery.log());
        logs.flat_map(|log| log.include_services.iter().copied())
            .collect()
    }

    /// Every log as it works.
    #[must_use]
    pub fn describe(&self) -> Vec<LogState> {
        let state = self.state();
        let written = state.written;
        let describe = |working: &Working| LogState {
            log: working.delivery.log().clone(),
            totals: working.delivery.totals(),
            waiting_epochs: (written + 1).saturating_sub(working.delivery.first_unpublished()),
            error: working
                .failing
                .as_ref()
                .map(|failing| failing.error.clone()),
        };
        state.logs.iter().map(describe).collect()
    }

    /// `logs` at work, those of `before` that are the same as they are.
    fn start(
        &self,
        logs: &[FlowLog],
        written: u32,
        mut before: Vec<Working>,
    ) -> Result<Vec<Working>, FlowLogsError> {
        let mut working = Vec::new();
        for (index, log) in logs.iter().enumerate() {
            if let Some(at) = before.iter().position(|one| one.delivery.log() == log) {
                working.push(before.swap_remove(at));
                continue;
            }
            let format = log.format(&format!("flow_logs[{index}]"))?;
            let ground = self.ground.clone();
            let site = self.site.clone();
            working.push(Working {
                delivery: Delivery::resume(log.clone(), format, site, ground, written + 1)?,
                failing: None,
            });
        }
        Ok(working)
    }

    /// Removes the progress of logs that are no more: one of the same id starts afresh.
    fn forget_others(&self, logs: &[FlowLog]) -> Result<(), FlowLogsError> {
        let kept: Vec<String> = logs.iter().map(|log| fact(&log.flow_log_id)).collect();
        let store = &self.ground.store;
        for name in store.fact_names(PROGRESS)? {
            if !kept.contains(&name) {
                store.remove_fact(&name)?;
            }
        }
        Ok(())
    }

    /// Removes epochs that every log has in its files, and keeps the spool within its bound.
    fn trim(&self, state: &mut State, now: Instant) -> Result<(), FlowLogsError> {
        let mut sizes = self.epochs.sizes()?;
        let mut all = Size::default();
        for size in sizes.values() {
            all += *size;
        }
        if self.is_too_much(all) {
            // Those that can finish what they hold back for the end of a window or a slot.
            for working in state.ready(now) {
                working.attempt(now, Delivery::flush);
            }
        }
        let mut removed = None;
        while let Some((number, size)) = sizes.pop_first() {
            let is_wanted = |working: &Working| working.delivery.first_unpublished() <= number;
            if number > state.written {
                break;
            }
            if state.logs.iter().any(is_wanted) {
                if !self.is_too_much(all) {
                    break;
                }
                self.give_up(state, number)?;
            }
            self.epochs.spool.remove(number)?;
            removed = Some(number);
            all -= size;
        }
        if let Some(number) = removed {
            self.epochs.store.forget_outlines(number + 1)?;
        }
        Ok(())
    }

    fn is_too_much(&self, size: Size) -> bool {
        size.bytes > self.spool_max_bytes || size.lone_outlines > LONE_OUTLINES_MAX
    }

    /// Gives up the epochs up to `last` in every log that lacks them.
    fn give_up(&self, state: &mut State, last: u32) -> Result<(), FlowLogsError> {
        for working in &mut state.logs {
            while working.delivery.first_unpublished() <= last {
                let epoch = working.delivery.first_unpublished();
                let flow_log = &working.delivery.log().flow_log_id;
                tracing::error!(flow_log, epoch, "the spool is full: records are given up");
                let outline = self.epochs.outline(epoch)?;
                working.delivery.give_up(outline.as_ref())?;
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panic leaves in memory is what the spool still has, or what files have already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The logs that were applied, or those of the configuration if none ever were.
///
/// # Errors
/// The store cannot be read.
pub fn in_force(store: &Store, configured: &[FlowLog]) -> Result<Vec<FlowLog>, StateError> {
    let applied = store.fact(APPLIED_FACT)?;
    Ok(applied.unwrap_or_else(|| configured.to_vec()))
}

impl State {
    /// Logs that do not wait.
    fn ready(&mut self, now: Instant) -> impl Iterator<Item = &mut Working> {
        let is_ready = move |working: &&mut Working| {
            working
                .failing
                .as_ref()
                .is_none_or(|failing| failing.until <= now)
        };
        self.logs.iter_mut().filter(is_ready)
    }

    /// The oldest epoch that a log may take in now.
    fn next(&mut self, now: Instant) -> Option<u32> {
        let written = self.written;
        let next = self
            .ready(now)
            .map(|working| working.delivery.next())
            .min()?;
        (next <= written).then_some(next)
    }
}

impl Working {
    /// Does a step; logs where failing begins and ends. A log that fails waits, longer each time.
    fn attempt(
        &mut self,
        now: Instant,
        step: impl FnOnce(&mut Delivery<OnDisk>) -> Result<(), DeliveryError>,
    ) {
        let result = step(&mut self.delivery);
        let flow_log = &self.delivery.log().flow_log_id;
        match (result, self.failing.take()) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => tracing::info!(flow_log, "flow records are written again"),
            (Err(error), before) => {
                let error = causes(&error);
                let wait = match before {
                    None => {
                        tracing::warn!(flow_log, error, "flow records wait");
                        FIRST_WAIT
                    }
                    Some(failing) => (failing.wait * 2).min(LONGEST_WAIT),
                };
                self.failing = Some(Failing {
                    error,
                    wait,
                    until: now + wait,
                });
            }
        }
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
