//! The order of steps that puts each count into exactly one epoch of the spool.
//!
//! An interval ends in five: note its end in the ledger, advance the kernel's epoch, drain the maps,
//! spool what they counted, settle the ledger. A stop before the second leaves the interval open. A
//! stop after it leaves maps and ledger as they were, and the last three are done again. The
//! kernel counts into the same slots only two epochs on, which does not come before the ledger is
//! settled. Where the spool has no room, the ledger's outline of the epoch is all that is kept. An ENI that goes takes its counts out of the maps into the store first, and from then on
//! those in the store are the ones that count. Never decides when; see `exporter`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use branchline_common::conntrack::SWEEP_GRACE_SECONDS;
use branchline_common::flow::FlowKey;
use branchline_common::maps::SWEEP_KEYS;

use super::FlowLogError;
use super::audit::{Audit, audit};
use super::collect::Collection;
use super::drain::{Drain, Reading};
use super::identity::{Identities, Identity};
use super::kernel::{Kernel, lock};
use super::ledger::{Closing, End, Ledger, resume};
use super::outline::Outline;
use super::record::{FlowCounts, FlowTuple, Report};
use super::shelf::Shelf;
use super::spool::{Epoch, SpoolError};
use super::sweep::{Now, is_sweepable};
use crate::metrics::Traffic;
use crate::policy::{RuleBook, RuleNames};
use crate::provider::RouteTables;
use crate::server::causes;

/// What walks leave for the next sweep.
#[derive(Debug, Default)]
struct Walks {
    /// What the last drain found dead, which may go once its epoch is in the spool.
    dead: Vec<FlowKey>,
    /// Time that sweeps and drains took and no pause has made up for.
    spent: Duration,
}

/// What one data plane counts. Of its locks, the one named first is taken first.
pub(super) struct Recorder<K, S> {
    kernel: K,
    shelf: S,
    identities: Identities,
    rules: RuleBook,
    traffic: Traffic,
    routes: Mutex<RouteTables>,
    /// Held from an interval's end until it is settled.
    turn: Mutex<()>,
    /// Held while the maps are walked for counts or entries removed: what a walk misses is in files.
    walk: Mutex<Walks>,
    ledger: Mutex<Ledger>,
    has_no_room: AtomicBool,
}

impl<K: Kernel, S: Shelf> Recorder<K, S> {
    /// Goes on where the last agent stopped. Nothing may be counted in new maps before this
    /// returns: it may number their first epoch.
    pub(super) fn resume(
        kernel: K,
        shelf: S,
        identities: Identities,
        rules: RuleBook,
        routes: RouteTables,
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
            identities,
            rules,
            traffic: Traffic::default(),
            routes: Mutex::new(routes),
            turn: Mutex::new(()),
            walk: Mutex::default(),
            ledger: Mutex::new(resume.ledger),
            has_no_room: AtomicBool::new(false),
        })
    }

    /// Adds up in `traffic` what epochs count, each once it is settled.
    pub(super) fn adding_up(self, traffic: Traffic) -> Self {
        Self { traffic, ..self }
    }

    /// Packets go by `routes` in what is recorded from now on.
    pub(super) fn set_routes(&self, routes: RouteTables) {
        *lock(&self.routes) = routes;
    }

    /// Spools an interval that has ended before, if there is one.
    pub(super) fn catch_up(&self) -> Result<(), FlowLogError> {
        let _turn = lock(&self.turn);
        self.write_pending()
    }

    /// Ends the current interval and spools it; one that ended before and is not in the spool goes
    /// first. Blocks for the length of both.
    pub(super) fn end_interval(&self, end: End) -> Result<(), FlowLogError> {
        let _turn = lock(&self.turn);
        self.write_pending()?;
        let closing = self.close(end)?;
        self.kernel.let_programs_end();
        self.write(&closing)
    }

    /// The newest epoch that is in the spool for good.
    pub(super) fn written_epoch(&self) -> u32 {
        lock(&self.ledger).written_epoch
    }

    /// Takes the counts of an ENI that is unplugged out of the maps, keeps them for their files, and
    /// frees its slot. To be called again after a stop; a slot of no ENI is only freed.
    pub(super) fn retire(&self, slot: u32) -> Result<(), FlowLogError> {
        let _walk = lock(&self.walk);
        if let Some(identity) = self.identities.get(slot) {
            let ledger = lock(&self.ledger);
            let reports = self.last_reports(&ledger, slot, &identity)?;
            self.shelf.retire(identity.eni_id(), &reports)?;
        }
        self.kernel.forget(slot)?;
        self.identities.remove(slot);
        Ok(())
    }

    /// Removes what is dead and written; returns how many entries were. What the last drain has
    /// found is removed without another walk.
    pub(super) fn sweep(&self) -> Result<u32, FlowLogError> {
        let mut walks = lock(&self.walk);
        let start = Instant::now();
        let now = self.sweep_time(lock(&self.ledger).written_epoch)?;
        let mut dead = std::mem::take(&mut walks.dead);
        if dead.is_empty() {
            self.kernel.for_each(&mut |key, entry| {
                if is_sweepable(key, entry, now) {
                    dead.push(*key);
                }
            })?;
        }
        let mut removed = 0;
        for keys in dead.chunks(SWEEP_KEYS) {
            removed += self.kernel.sweep(keys, now.written_epoch)?;
        }
        walks.spent += start.elapsed();
        Ok(removed)
    }

    /// What sweeps and drains took since this was asked last.
    pub(super) fn take_spent(&self) -> Duration {
        std::mem::take(&mut lock(&self.walk).spent)
    }

    fn sweep_time(&self, written_epoch: u32) -> Result<Now, FlowLogError> {
        let (ticks, _) = self.kernel.now()?;
        Ok(Now {
            ticks,
            grace: SWEEP_GRACE_SECONDS * self.kernel.clock().ticks_per_second(),
            written_epoch,
        })
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
            let packets = self.kernel.unlogged(slot)?;
            unlogged.insert(identity.eni_id().to_owned(), packets);
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
        self.rules.end_epoch(epoch);
        self.kernel.set_epoch(epoch + 1)?;
        Ok(closing)
    }

    fn write(&self, closing: &Closing) -> Result<(), FlowLogError> {
        let epoch = Epoch {
            number: closing.epoch,
            window: closing.window,
            reports: self.drain(closing)?,
        };
        self.spool(&epoch)?;
        let outline = Outline::of(&epoch);
        let settled = Ledger::settled(closing);
        let mut ledger = lock(&self.ledger);
        self.shelf.settle(&settled, &outline)?;
        *ledger = settled;
        drop(ledger);
        self.traffic.take(&epoch.reports);
        log_audit(&audit(&epoch.reports));
        Ok(())
    }

    /// Without room the records go, so that the maps do not fill up; the outline stays.
    fn spool(&self, epoch: &Epoch) -> Result<(), FlowLogError> {
        let had_no_room = self.has_no_room.load(Ordering::Relaxed);
        let spooled = self.shelf.spool(epoch);
        if let Err(FlowLogError::Spool(error @ SpoolError::NoRoom { .. })) = &spooled {
            if !had_no_room {
                tracing::error!(error = causes(error), "flow records are lost");
            }
            self.has_no_room.store(true, Ordering::Relaxed);
            return Ok(());
        }
        if had_no_room && spooled.is_ok() {
            tracing::info!("there is room for flow records again");
            self.has_no_room.store(false, Ordering::Relaxed);
        }
        spooled
    }

    /// What an ended epoch counted. Of an ENI that was retired, the maps may still hold counts, all
    /// or a part: those in the store are whole.
    fn drain(&self, closing: &Closing) -> Result<Vec<Report>, FlowLogError> {
        let mut walks = lock(&self.walk);
        let names = self.rules.names();
        let mut drain = self.walk_all(closing, &names, &mut walks)?;
        let forgotten = self.rules.forget_others(&names, drain.generations());
        self.shelf.forget_rules(&forgotten)?;
        let mut reports = self.shelf.retired(closing.epoch)?;
        let retired: HashSet<String> = reports
            .iter()
            .map(|report| report.interface.interface_id.clone())
            .collect();
        let before = lock(&self.ledger).clone();
        for (slot, identity) in self.identities.snapshot() {
            let flows = drain.take(slot);
            if retired.contains(identity.eni_id()) {
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

    /// Walks the maps for what `closing` counted, and for what may go when it is in the spool.
    fn walk_all(
        &self,
        closing: &Closing,
        rules: &RuleNames,
        walks: &mut Walks,
    ) -> Result<Drain, FlowLogError> {
        let start = Instant::now();
        let now = self.sweep_time(closing.epoch)?;
        let mut collection = Collection::new(self.reading(closing, rules), now);
        self.kernel
            .for_each(&mut |key, entry| collection.add(key, entry))?;
        walks.dead = collection.dead;
        walks.spent += start.elapsed();
        Ok(collection.drain)
    }

    fn reading<'a>(&self, closing: &'a Closing, rules: &'a RuleNames) -> Reading<'a> {
        Reading {
            clock: self.kernel.clock(),
            closing,
            rules,
        }
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
        let unlogged = BTreeMap::from([(identity.eni_id().to_owned(), unlogged)]);
        let current = self.closing(epoch, start, End::Flush, unlogged)?;
        let names = self.rules.names();
        let mut drains: Vec<_> = pending
            .into_iter()
            .chain([&current])
            .map(|closing| (self.reading(closing, &names), Drain::default()))
            .collect();
        self.kernel.for_each(&mut |key, entry| {
            if u32::from(key.eni) == slot {
                for (reading, drain) in &mut drains {
                    drain.add(key, entry, reading);
                }
            }
        })?;
        let mut before = ledger.clone();
        let mut reports = Vec::new();
        for (reading, mut drain) in drains {
            let closing = reading.closing;
            let flows = drain.take(slot);
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
        let eni_id = identity.eni_id();
        let unlogged = closing.unlogged.get(eni_id).copied();
        let mut report = Report {
            interface: identity.interface.clone(),
            flows,
            skipped_packets: before.skipped(eni_id, unlogged.unwrap_or(0)),
            is_whole,
        };
        report.route(&lock(&self.routes));
        report
    }
}

fn log_audit(audit: &Audit<'_>) {
    for line in &audit.lines {
        let (task, eni, packets) = (line.task_id, line.interface_id, line.packets);
        tracing::info!(task, eni, packets, flow = %line, "would be denied");
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
