//! The order of steps that puts each count into exactly one file.
//!
//! An interval ends in five: note its end in the ledger, advance the kernel's epoch, drain the maps,
//! write the file, settle the ledger. A stop before the second leaves the interval open. A stop after
//! it leaves maps and ledger as they were, and the last three are done again, to the same name. The
//! kernel counts into the same slots only two epochs on, which does not come before the ledger is
//! settled. An ENI that goes takes its counts out of the maps into the store first, and from then on
//! those in the store are the ones that count. Never decides when; see `exporter`.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use branchline_common::conntrack::SWEEP_GRACE_SECONDS;
use branchline_common::flow::FlowKey;
use branchline_common::maps::SWEEP_KEYS;

use super::FlowLogError;
use super::audit::{Audit, audit};
use super::drain::{Drain, Reading};
use super::identity::{Identities, Identity};
use super::interface::Interface;
use super::kernel::{Kernel, lock};
use super::ledger::{Closing, End, Ledger, resume};
use super::record::{FlowCounts, FlowTuple, Line, Report, lines};
use super::shelf::Shelf;
use super::sweep::{Now, is_sweepable};

/// What was written since the agent started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// The newest file.
    pub(super) last_file: Option<PathBuf>,
    /// Records in all files, without `NODATA` and `SKIPDATA` lines.
    pub(super) records: u64,
}

/// The flow log of one data plane. Of its locks, the one named first is taken first.
pub(super) struct Recorder<K, S> {
    kernel: K,
    shelf: S,
    account_id: String,
    identities: Identities,
    /// Held from an interval's end until it is settled.
    turn: Mutex<()>,
    /// Held while the maps are walked or entries removed, which would disturb a walk.
    walk: Mutex<()>,
    ledger: Mutex<Ledger>,
    written: Mutex<Written>,
}

impl<K: Kernel, S: Shelf> Recorder<K, S> {
    /// Goes on where the last agent stopped. Nothing may be counted in new maps before this
    /// returns: it may number their first epoch.
    pub(super) fn resume(
        kernel: K,
        shelf: S,
        account_id: String,
        identities: Identities,
    ) -> Result<Self, FlowLogError> {
        let epoch = kernel.epoch()?;
        let (_, now) = kernel.now()?;
        let resume = resume(shelf.ledger()?, epoch, unix_seconds(now));
        if let Some(surprise) = resume.surprise {
            tracing::warn!("{surprise}");
        }
        shelf.put_ledger(&resume.ledger)?;
        if resume.epoch != epoch {
            kernel.set_epoch(resume.epoch)?;
        }
        Ok(Self {
            kernel,
            shelf,
            account_id,
            identities,
            turn: Mutex::new(()),
            walk: Mutex::new(()),
            ledger: Mutex::new(resume.ledger),
            written: Mutex::default(),
        })
    }

    /// Writes the file of an interval that has ended before, if there is one to write.
    pub(super) fn catch_up(&self) -> Result<(), FlowLogError> {
        let _turn = lock(&self.turn);
        self.write_pending()
    }

    /// Ends the current interval and writes its file; one that ended before and is not written goes
    /// first. Blocks for the length of both.
    pub(super) fn end_interval(&self, end: End) -> Result<(), FlowLogError> {
        let _turn = lock(&self.turn);
        self.write_pending()?;
        let closing = self.close(end)?;
        self.kernel.let_programs_end();
        self.write(&closing)
    }

    /// What was written since [`Recorder::resume`].
    pub(super) fn written(&self) -> Written {
        lock(&self.written).clone()
    }

    /// Takes the counts of an ENI that is unplugged out of the maps, keeps them for their files, and
    /// frees its slot. To be called again after a stop; a slot of no ENI is only freed.
    pub(super) fn retire(&self, slot: u32) -> Result<(), FlowLogError> {
        let _walk = lock(&self.walk);
        if let Some(identity) = self.identities.get(slot) {
            let ledger = lock(&self.ledger);
            let reports = self.last_reports(&ledger, slot, &identity)?;
            self.shelf.retire(&identity.eni_id, &reports)?;
        }
        self.kernel.forget(slot)?;
        self.identities.remove(slot);
        Ok(())
    }

    /// Removes what is dead and written; returns how many entries were.
    pub(super) fn sweep(&self) -> Result<u32, FlowLogError> {
        let _walk = lock(&self.walk);
        let (ticks, _) = self.kernel.now()?;
        let now = Now {
            ticks,
            grace: SWEEP_GRACE_SECONDS * self.kernel.clock().ticks_per_second(),
            written_epoch: lock(&self.ledger).written_epoch,
        };
        let mut keys: Vec<FlowKey> = Vec::new();
        self.kernel.for_each(&mut |key, entry| {
            if is_sweepable(key, entry, now) {
                keys.push(*key);
            }
        })?;
        let mut removed = 0;
        for keys in keys.chunks(SWEEP_KEYS) {
            removed += self.kernel.sweep(keys, now.written_epoch)?;
        }
        Ok(removed)
    }

    fn write_pending(&self) -> Result<(), FlowLogError> {
        let epoch = self.kernel.epoch()?;
        let pending = lock(&self.ledger).pending(epoch).cloned();
        pending.map_or(Ok(()), |closing| self.write(&closing))
    }

    /// Notes the end of the current epoch and starts the next one. Nothing may be pending.
    fn close(&self, end: End) -> Result<Closing, FlowLogError> {
        let mut ledger = lock(&self.ledger);
        let mut unlogged = BTreeMap::new();
        for (slot, identity) in self.identities.snapshot() {
            unlogged.insert(identity.eni_id, self.kernel.unlogged(slot)?);
        }
        unlogged.retain(|_, packets| *packets > 0);
        let epoch = self.kernel.epoch()?;
        let closing = self.closing(epoch, ledger.start, end, unlogged)?;
        let noted = Ledger {
            closing: Some(closing.clone()),
            ..ledger.clone()
        };
        self.shelf.put_ledger(&noted)?;
        *ledger = noted;
        self.kernel.set_epoch(epoch + 1)?;
        Ok(closing)
    }

    fn write(&self, closing: &Closing) -> Result<(), FlowLogError> {
        let reports = self.drain(closing)?;
        let lines = lines(&reports, closing.window);
        // A host without tasks has nothing to say, as at AWS.
        let file = match lines.as_slice() {
            [] => None,
            lines => Some(self.shelf.write_file(closing, lines)?),
        };
        let settled = Ledger::settled(closing);
        let mut ledger = lock(&self.ledger);
        self.shelf.settle(&settled)?;
        *ledger = settled;
        drop(ledger);
        log_audit(&audit(&reports));
        let records = lines.iter().filter(|line| matches!(line, Line::Ok(_)));
        let mut written = lock(&self.written);
        written.records += records.count() as u64;
        written.last_file = file.or_else(|| written.last_file.take());
        Ok(())
    }

    /// What an ended epoch counted. Of an ENI that was retired, the maps may still hold counts, all
    /// or a part: those in the store are whole.
    fn drain(&self, closing: &Closing) -> Result<Vec<Report>, FlowLogError> {
        let _walk = lock(&self.walk);
        let mut drain = self.walk(closing, None)?;
        let mut reports = self.shelf.retired(closing.epoch)?;
        let retired: HashSet<String> = reports
            .iter()
            .map(|report| report.interface.interface_id.clone())
            .collect();
        let before = lock(&self.ledger).clone();
        for (slot, identity) in self.identities.snapshot() {
            let flows = drain.take(slot);
            if retired.contains(&identity.eni_id) {
                continue;
            }
            let is_whole = identity.since <= closing.window.start;
            reports.push(self.report(&identity, closing, &before, flows, is_whole));
        }
        for slot in drain.rest() {
            tracing::warn!(slot, epoch = closing.epoch, "flow counts of no known ENI");
        }
        Ok(reports)
    }

    /// Walks the maps for what `closing` counted, of one ENI or of all.
    fn walk(&self, closing: &Closing, only: Option<u32>) -> Result<Drain, FlowLogError> {
        let reading = Reading {
            clock: self.kernel.clock(),
            closing,
        };
        let mut drain = Drain::default();
        self.kernel.for_each(&mut |key, entry| {
            if only.is_none_or(|slot| slot == u32::from(key.eni)) {
                drain.add(key, entry, &reading);
            }
        })?;
        Ok(drain)
    }

    /// Reports of an ENI that goes: of the current epoch, and of the one before if it is not written.
    fn last_reports(
        &self,
        ledger: &Ledger,
        slot: u32,
        identity: &Identity,
    ) -> Result<Vec<(u32, Report)>, FlowLogError> {
        let epoch = self.kernel.epoch()?;
        let pending = ledger.pending(epoch);
        // The current epoch as if it ended now.
        let start = pending.map_or(ledger.start, |closing| closing.next_start);
        let unlogged = self.kernel.unlogged(slot)?;
        let unlogged = BTreeMap::from([(identity.eni_id.clone(), unlogged)]);
        let current = self.closing(epoch, start, End::Flush, unlogged)?;
        let mut before = ledger.clone();
        let mut reports = Vec::new();
        for closing in pending.into_iter().chain([&current]) {
            let flows = self.walk(closing, Some(slot))?.take(slot);
            let is_whole = closing.epoch < epoch && identity.since <= closing.window.start;
            let report = self.report(identity, closing, &before, flows, is_whole);
            reports.push((closing.epoch, report));
            before.unlogged.clone_from(&closing.unlogged);
        }
        Ok(reports)
    }

    /// How an epoch ends now that began at `start`.
    fn closing(
        &self,
        epoch: u32,
        start: u64,
        end: End,
        unlogged: BTreeMap<String, u64>,
    ) -> Result<Closing, FlowLogError> {
        let (ticks, now) = self.kernel.now()?;
        let (window, next_start) = end.window(start, unix_seconds(now));
        Ok(Closing {
            epoch,
            window,
            next_start,
            ticks,
            wall_ms: since_1970(now).as_millis() as u64,
            unlogged,
        })
    }

    fn report(
        &self,
        identity: &Identity,
        closing: &Closing,
        before: &Ledger,
        flows: Vec<(FlowTuple, FlowCounts)>,
        is_whole: bool,
    ) -> Report {
        let unlogged = closing.unlogged.get(&identity.eni_id).copied();
        Report {
            interface: Arc::new(Interface {
                account_id: self.account_id.clone(),
                interface_id: identity.eni_id.clone(),
                primary_ipv4: identity.primary_ipv4,
                ..Interface::default()
            }),
            flows,
            skipped_packets: before.skipped(&identity.eni_id, unlogged.unwrap_or(0)),
            is_whole,
        }
    }
}

fn log_audit(audit: &Audit<'_>) {
    for line in &audit.lines {
        let (eni, packets) = (line.interface_id, line.packets);
        tracing::info!(eni, packets, flow = %line, "would be denied");
    }
    if audit.tuples > 0 {
        let (flows, packets) = (audit.tuples, audit.packets);
        tracing::info!(flows, packets, "would be denied in this interval");
    }
}

fn since_1970(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(super) fn unix_seconds(now: SystemTime) -> u64 {
    since_1970(now).as_secs()
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
