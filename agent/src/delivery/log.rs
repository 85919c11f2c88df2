//! One flow log at work: epochs in, files out, each row once.
//!
//! What it has taken in since the last files is in memory and in unfinished files only; after a
//! failure or a stop it is taken in again from the spool.

use std::sync::Arc;

use super::batch::{Batch, Shape};
use super::ground::{DeliveryError, FinishedFile, Ground};
use super::progress::{Progress, Publication, Totals};
use super::spec::FlowLog;
use super::windows::{Closed, Windows};
use crate::flow_log::{Format, IpRanges, Layout, Surroundings, rows};
use crate::flows::{Choice, Epoch, Outline, Report};
use crate::server::causes;

/// What is the same in every log of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Account number, 12 digits.
    pub account_id: String,
    /// As `us-east-1`; `local` for a host's own VPC.
    pub region: String,
    /// Which AWS service an address belongs to.
    pub ip_ranges: Arc<IpRanges>,
}

/// A flow log at work.
pub(super) struct Delivery<G> {
    log: FlowLog,
    shape: Shape,
    ground: G,
    progress: Progress,
    taken: u32,
    /// Empty where the log's format shows no service.
    ip_ranges: Arc<IpRanges>,
    windows: Windows,
    batch: Option<Open>,
}

/// What has been taken in since the last files.
struct Open {
    batch: Batch,
    /// The slot that it began in.
    slot: u64,
    next_sequence: u64,
    told: Vec<(String, u64)>,
    lost_epochs: u64,
}

impl<G: Ground> Delivery<G> {
    /// Goes on where the log stopped, or starts with the epoch `first`.
    ///
    /// # Errors
    /// `State`.
    pub(super) fn resume(
        log: FlowLog,
        format: Format,
        site: Site,
        ground: G,
        first: u32,
    ) -> Result<Self, DeliveryError> {
        let progress = match ground.progress(&log.flow_log_id)? {
            Some(progress) => progress,
            None => {
                let progress = Progress::starting(first);
                ground.put_progress(&log.flow_log_id, &progress)?;
                progress
            }
        };
        let swept = ground.discard_others(&log, &progress.publishing);
        if let Err(error) = swept {
            // It may be the folder that cannot be written; the first file says so again.
            tracing::warn!(error = causes(&error), "look for unfinished flow-log files");
        }
        Ok(Self {
            taken: progress.next_epoch - 1,
            windows: windows(&log, &format),
            ip_ranges: if format.tells_services() {
                Arc::clone(&site.ip_ranges)
            } else {
                Arc::default()
            },
            shape: shape(&log, format, site),
            batch: None,
            log,
            ground,
            progress,
        })
    }

    /// What it is to do.
    #[must_use]
    pub(super) fn log(&self) -> &FlowLog {
        &self.log
    }

    /// The epoch that it takes in next.
    #[must_use]
    pub(super) fn next(&self) -> u32 {
        self.taken + 1
    }

    /// The first epoch of which nothing is in a file.
    #[must_use]
    pub(super) fn first_unpublished(&self) -> u32 {
        self.progress.next_epoch
    }

    /// What it has written.
    #[must_use]
    pub(super) fn totals(&self) -> Totals {
        self.progress.totals
    }

    /// Takes in the epoch [`Delivery::next`]; finishes files where their time has come.
    ///
    /// # Errors
    /// `File` or `State`; everything since the last files is to be taken in again then.
    pub(super) fn take(&mut self, epoch: Epoch) -> Result<(), DeliveryError> {
        self.take_in(epoch, false)
    }

    /// As [`Delivery::take`], of an epoch whose records are lost: rows say how many packets.
    ///
    /// # Errors
    /// As [`Delivery::take`].
    pub(super) fn take_outline(
        &mut self,
        number: u32,
        outline: &Outline,
    ) -> Result<(), DeliveryError> {
        let epoch = Epoch {
            number,
            window: outline.window,
            reports: self.losses(outline),
        };
        self.take_in(epoch, true)
    }

    fn take_in(&mut self, epoch: Epoch, is_lost: bool) -> Result<(), DeliveryError> {
        let end = epoch.window.end;
        let taken = self.name_files().and_then(|()| self.add(epoch, is_lost));
        let finished = taken.and_then(|()| {
            if self.is_due(end) {
                self.publish()
            } else {
                Ok(())
            }
        });
        self.or_again(finished)
    }

    /// Whether files are to be finished behind an epoch that ended at `end`: the slot is over, or the
    /// clock was set to before it, or a file is full. A window lies in one batch.
    fn is_due(&self, end: u64) -> bool {
        let is_due =
            |open: &Open| end / self.log.rotation != open.slot || open.batch.has_full_file();
        !self.windows.is_open() && self.batch.as_ref().is_some_and(is_due)
    }

    /// Ends the open window and finishes all files now.
    ///
    /// # Errors
    /// As [`Delivery::take`].
    pub(super) fn flush(&mut self) -> Result<(), DeliveryError> {
        let flushed = self.name_files().and_then(|()| {
            if let Some(closed) = self.windows.close() {
                self.write(closed)?;
            }
            self.publish()
        });
        self.or_again(flushed)
    }

    /// Gives up the epoch [`Delivery::first_unpublished`], and notes what its rows would have
    /// counted. `None` if nothing is known of it.
    ///
    /// # Errors
    /// `State`; nothing is given up then.
    pub(super) fn give_up(&mut self, outline: Option<&Outline>) -> Result<(), DeliveryError> {
        let mut progress = self.progress.clone();
        progress.next_epoch += 1;
        progress.totals.lost_epochs += 1;
        for report in outline.map_or_else(Vec::new, |outline| self.losses(outline)) {
            if self.log.covers(&report.interface) && report.skipped_packets > 0 {
                progress.lose(&report.interface, report.skipped_packets);
            }
        }
        self.ground.put_progress(&self.log.flow_log_id, &progress)?;
        self.progress = progress;
        self.start_over();
        Ok(())
    }

    /// Reports in which all that the log shows is lost.
    fn losses(&self, outline: &Outline) -> Vec<Report> {
        let is_shown = |choice: &Choice| self.log.traffic_type.shows(choice.action);
        let reports = outline.sums.iter().map(|sum| {
            let of_log = || {
                let packets = sum.packets.iter();
                packets.filter(|(choice, _)| self.log.includes_service(choice.service))
            };
            let shown = of_log().filter(|(choice, _)| is_shown(choice));
            Report {
                interface: Arc::clone(&sum.interface),
                flows: Vec::new(),
                skipped_packets: sum.skipped_packets
                    + shown.map(|(_, packets)| packets).sum::<u64>(),
                // What is hidden was traffic nevertheless.
                is_whole: sum.is_whole && of_log().next().is_none(),
            }
        });
        reports.collect()
    }

    fn add(&mut self, epoch: Epoch, is_lost: bool) -> Result<(), DeliveryError> {
        self.ground.check_room(&self.log.dir)?;
        let number = epoch.number;
        let slot = epoch.window.last() / self.log.rotation;
        let open = self.batch.get_or_insert_with(|| Open {
            batch: Batch::new(),
            slot,
            next_sequence: self.progress.next_sequence,
            told: Vec::new(),
            lost_epochs: 0,
        });
        open.lost_epochs += u64::from(is_lost);
        let mut own = epoch;
        // Also those that are none of its own: they are at the other end.
        let peers: Vec<_> = if self.shape.format.tells_next_hops() {
            let reports = own.reports.iter();
            reports
                .map(|report| Arc::clone(&report.interface))
                .collect()
        } else {
            Vec::new()
        };
        own.reports
            .retain(|report| self.log.covers(&report.interface));
        for report in &mut own.reports {
            report.flows.retain(|(tuple, _)| self.log.includes(tuple));
        }
        for closed in self.windows.add(own, &peers) {
            self.write(closed)?;
        }
        self.taken = number;
        Ok(())
    }

    /// Writes the rows of a window.
    fn write(&mut self, mut closed: Closed) -> Result<(), DeliveryError> {
        let Some(open) = &mut self.batch else {
            return Ok(());
        };
        for (id, lost) in &self.progress.lost {
            if open.told.iter().any(|(told, _)| told == id) {
                continue;
            }
            open.told.push((id.clone(), lost.packets));
            let is_of = |report: &&mut Report| report.interface.interface_id == *id;
            match closed.reports.iter_mut().find(is_of) {
                Some(report) => report.skipped_packets += lost.packets,
                None => closed.reports.push(Report {
                    interface: lost.interface.clone(),
                    flows: Vec::new(),
                    skipped_packets: lost.packets,
                    is_whole: false,
                }),
            }
        }
        let traffic_type = self.log.traffic_type;
        let surroundings = Surroundings {
            peers: &closed.peers,
            ip_ranges: &self.ip_ranges,
        };
        for row in rows(
            &closed.reports,
            closed.window,
            traffic_type,
            open.next_sequence,
        ) {
            let row = surroundings.complete(row);
            open.batch.write(&self.ground, &self.shape, &row)?;
            open.next_sequence = row.sequence + 1;
        }
        Ok(())
    }

    /// Completes the files, notes them in the store, and gives them their names.
    fn publish(&mut self) -> Result<(), DeliveryError> {
        let Some(open) = &mut self.batch else {
            return Ok(());
        };
        let (publishing, totals) = open.batch.finish(&self.ground)?;
        let mut progress = self.progress.clone();
        progress.next_epoch = self.taken + 1;
        progress.next_sequence = open.next_sequence;
        progress.publishing = publishing;
        progress.totals.add(Totals {
            lost_epochs: open.lost_epochs,
            ..totals
        });
        progress.tell(&open.told);
        self.ground.put_progress(&self.log.flow_log_id, &progress)?;
        self.progress = progress;
        self.batch = None;
        self.name_files()
    }

    /// Names files that are complete.
    fn name_files(&mut self) -> Result<(), DeliveryError> {
        if self.progress.publishing.is_empty() {
            return Ok(());
        }
        for publication in &self.progress.publishing {
            self.ground.name(publication)?;
            self.tell(publication);
        }
        let mut progress = self.progress.clone();
        progress.publishing.clear();
        self.ground.put_progress(&self.log.flow_log_id, &progress)?;
        self.progress = progress;
        Ok(())
    }

    fn tell(&self, publication: &Publication) {
        // One that an earlier configuration had put elsewhere is not in this log's folder.
        let relative = publication.path.strip_prefix(&self.log.dir).ok();
        if let Some(relative) = relative.and_then(|path| path.to_str()) {
            self.ground.tell(FinishedFile {
                flow_log_id: &self.log.flow_log_id,
                relative,
                bytes: publication.bytes,
            });
        }
    }

    fn or_again(&mut self, result: Result<(), DeliveryError>) -> Result<(), DeliveryError> {
        if result.is_err() {
            self.start_over();
        }
        result
    }

    /// Forgets what was taken in since the last files.
    fn start_over(&mut self) {
        if let Some(open) = self.batch.take() {
            open.batch.discard(&self.ground);
        }
        self.windows = windows(&self.log, &self.shape.format);
        self.taken = self.progress.next_epoch - 1;
    }
}

fn shape(log: &FlowLog, format: Format, site: Site) -> Shape {
    Shape {
        dir: log.dir.clone(),
        layout: Layout {
            account_id: site.account_id,
            region: site.region,
            flow_log_id: log.flow_log_id.clone(),
            prefix: log.prefix.clone(),
            hive_compatible_partitions: log.hive_compatible_partitions,
            per_hour_partition: log.per_hour_partition,
            file_format: log.file_format,
            slot_seconds: log.rotation,
        },
        format: Arc::new(format),
        max_file_bytes: log.max_file_bytes,
    }
}

fn windows(log: &FlowLog, format: &Format) -> Windows {
    Windows::new(log.max_aggregation_interval, format.tells_rules_apart())
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
