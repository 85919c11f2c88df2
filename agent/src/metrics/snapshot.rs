//! What maps, store and files say at the moment of a scrape, and how it is written.
//!
//! Pure. One series for each task, its ENI and what the code names: never for a flow or an address.

use std::fmt;

use branchline_common::maps::Counters;
use branchline_common::verdict::DropReason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::process::Process;
use super::sheet::Sheet;
use super::traffic::Totals;
use crate::api::{FlowLogDescription, Health, TaskCounts, WarmPoolDescription};
use crate::upload::UploadStatus;

/// The moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The agent's version.
    pub version: &'static str,
    /// Its process.
    pub process: Process,
    /// Tasks, and what there is of them.
    pub tasks: TaskSamples,
    /// ENIs that wait for tasks, where any ever do.
    pub warm_pool: Option<WarmPoolDescription>,
    /// Each flow log.
    pub flow_logs: Vec<FlowLogSample>,
    /// How the agent's parts are.
    pub health: Health,
}

/// A snapshot beside what was added up.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) snapshot: Snapshot,
    pub(super) traffic: Totals,
}

/// Tasks, their ENIs and the table that they share.
#[derive(Debug, Clone, Default)]
pub struct TaskSamples {
    /// How many do what.
    pub counts: TaskCounts,
    /// ENIs the host takes at most.
    pub max_enis: u32,
    /// Connections that the table holds at most.
    pub conntrack_max_entries: u32,
    /// What belongs to no ENI.
    pub unassigned: Counters,
    /// Each ENI in the data plane.
    pub enis: Vec<EniSample>,
}

/// One ENI in the data plane.
#[derive(Debug, Clone, Default)]
pub struct EniSample {
    /// Its task.
    pub task_id: String,
    /// Its id.
    pub interface_id: String,
    /// What the programs counted.
    pub counters: Counters,
    /// Connections now.
    pub tracked: u64,
    /// Connections at most.
    pub share: u64,
}

/// One flow log, as the API shows it.
pub type FlowLogSample = FlowLogDescription;

type Eni<'a> = [(&'static str, &'a str); 2];

impl EniSample {
    fn labels(&self) -> Eni<'_> {
        [
            ("task_id", &self.task_id),
            ("interface_id", &self.interface_id),
        ]
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut sheet = Sheet(encoder);
        let snapshot = &self.snapshot;
        sheet.info(
            "branchline_build",
            "The agent that runs.",
            &[("version", snapshot.version)],
        )?;
        snapshot.tasks.write(&mut sheet)?;
        snapshot.write_warm_pool(&mut sheet)?;
        self.traffic.write(&mut sheet)?;
        snapshot.write_flow_logs(&mut sheet)?;
        snapshot.write_uploads(&mut sheet)?;
        let parts = snapshot.health.parts.iter();
        sheet.gauges(
            "branchline_part_healthy",
            "Whether a part of the agent is well: 1, or 0 and /v1/health says why.",
            None,
            parts.map(|part| {
                let well = u64::from(part.reason.is_none());
                ([("part", part.name.as_str())], well)
            }),
        )?;
        snapshot.process.write(&mut sheet)
    }
}

impl TaskSamples {
    fn write(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let TaskCounts {
            creating,
            running,
            deleting,
        } = self.counts;
        let counts = [
            ("creating", creating),
            ("running", running),
            ("deleting", deleting),
        ];
        sheet.gauges(
            "branchline_tasks",
            "Tasks by what they are doing.",
            None,
            counts.map(|(state, count)| ([("state", state)], count as u64)),
        )?;
        sheet.gauge(
            "branchline_enis_limit",
            "ENIs that the host takes at most.",
            None,
            self.max_enis.into(),
        )?;
        self.write_drops(sheet)?;
        self.write_conntrack(sheet)
    }

    fn write_drops(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        sheet.counters(
            "branchline_eni_dropped_packets",
            "Packets of an ENI that were dropped, by reason; reasons that occurred.",
            None,
            self.enis.iter().flat_map(|eni| {
                let [task, interface] = eni.labels();
                drops(&eni.counters)
                    .map(move |(reason, packets)| ([task, interface, ("reason", reason)], packets))
            }),
        )?;
        sheet.counters(
            "branchline_unassigned_dropped_packets",
            "Packets that were dropped and belong to no ENI, by reason; reasons that occurred.",
            None,
            drops(&self.unassigned).map(|(reason, packets)| ([("reason", reason)], packets)),
        )?;
        let each = |value: fn(&Counters) -> u64| {
            self.enis
                .iter()
                .map(move |eni| (eni.labels(), value(&eni.counters)))
        };
        sheet.counters(
            "branchline_eni_exempt_packets",
            "Packets of an ENI that no group filters, such as those to the VPC's resolver.",
            None,
            each(|counters| counters.packets[0]),
        )?;
        sheet.counters(
            "branchline_eni_audited_packets",
            "Packets of an ENI that passed only because a group is in audit mode.",
            None,
            each(|counters| counters.audited),
        )?;
        sheet.counters(
            "branchline_eni_unlogged_packets",
            "Packets of an ENI that are in no flow record: the table of rows was full.",
            None,
            each(|counters| counters.unlogged),
        )
    }

    fn write_conntrack(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let each = |value: fn(&EniSample) -> u64| {
            self.enis.iter().map(move |eni| (eni.labels(), value(eni)))
        };
        sheet.gauges(
            "branchline_eni_conntrack_entries",
            "Connections of an ENI in the table now.",
            None,
            each(|eni| eni.tracked),
        )?;
        sheet.gauges(
            "branchline_eni_conntrack_limit",
            "Connections that an ENI may have.",
            None,
            each(|eni| eni.share),
        )?;
        let tracked = self.enis.iter().map(|eni| eni.tracked).sum();
        sheet.gauge(
            "branchline_conntrack_entries",
            "Connections in the host's table now.",
            None,
            tracked,
        )?;
        sheet.gauge(
            "branchline_conntrack_limit",
            "Connections that the host's table holds at most.",
            None,
            self.conntrack_max_entries.into(),
        )
    }
}

impl Totals {
    fn write(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let rows = || {
            self.enis.iter().flat_map(|(eni, traffic)| {
                traffic
                    .rows()
                    .map(move |(direction, action, packets, bytes)| {
                        let labels = [
                            ("task_id", traffic.task_id.as_str()),
                            ("interface_id", eni.as_str()),
                            ("direction", direction),
                            ("action", action),
                        ];
                        (labels, packets, bytes)
                    })
            })
        };
        sheet.counters(
            "branchline_eni_packets",
            "Packets in the flow records of an ENI, as each interval of them ends.",
            None,
            rows().map(|(labels, packets, _)| (labels, packets)),
        )?;
        sheet.counters(
            "branchline_eni_traffic",
            "Bytes in the flow records of an ENI, as each interval of them ends.",
            Some(&Unit::Bytes),
            rows().map(|(labels, _, bytes)| (labels, bytes)),
        )?;
        let none: [(&str, &str); 0] = [];
        sheet.counters(
            "branchline_flow_intervals",
            "Intervals of flow records that have ended and are safe.",
            None,
            [(none, self.epochs)],
        )
    }
}

impl Snapshot {
    fn write_warm_pool(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let Some(pool) = &self.warm_pool else {
            return Ok(());
        };
        sheet.gauge(
            "branchline_warm_pool_wanted",
            "ENIs that shall wait for tasks.",
            None,
            pool.wanted,
        )?;
        sheet.gauge(
            "branchline_warm_pool_waiting",
            "ENIs that wait for tasks.",
            None,
            pool.waiting,
        )?;
        let outcomes = [("hit", pool.hits), ("miss", pool.misses)];
        sheet.counters(
            "branchline_warm_pool_requests",
            "Tasks that got an ENI that waited (hit), and those that had to wait for one (miss).",
            None,
            outcomes.map(|(outcome, tasks)| ([("outcome", outcome)], tasks)),
        )
    }

    fn write_flow_logs(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let each = |value: fn(&FlowLogSample) -> u64| self.each_log(value);
        sheet.counters(
            "branchline_flow_log_files",
            "Files that a flow log has written since it was made.",
            None,
            each(|log| log.files),
        )?;
        sheet.counters(
            "branchline_flow_log_written",
            "Bytes of the files that a flow log has written since it was made.",
            Some(&Unit::Bytes),
            each(|log| log.bytes),
        )?;
        sheet.counters(
            "branchline_flow_log_records",
            "Records in a flow log's files, without NODATA and SKIPDATA.",
            None,
            each(|log| log.records),
        )?;
        sheet.counters(
            "branchline_flow_log_skipped_packets",
            "Packets that are in no record of a flow log, of which SKIPDATA rows tell.",
            None,
            each(|log| log.skipped_packets),
        )?;
        sheet.counters(
            "branchline_flow_log_lost_intervals",
            "Intervals that are in none of a flow log's files: damaged, without room, or given up.",
            None,
            each(|log| log.lost_epochs),
        )?;
        sheet.gauges(
            "branchline_flow_log_waiting_intervals",
            "Intervals whose counts wait for a flow log's next file.",
            None,
            each(|log| log.waiting_epochs.into()),
        )?;
        sheet.gauges(
            "branchline_flow_log_failing",
            "Whether a flow log cannot be written now.",
            None,
            each(|log| u64::from(log.error.is_some())),
        )
    }

    fn write_uploads(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        let each = |value: fn(&UploadStatus) -> u64| {
            let logs = self.flow_logs.iter();
            let uploads = logs.filter_map(|log| log.upload.as_ref());
            uploads.map(move |upload| {
                let labels = [("flow_log_id", upload.flow_log_id.as_str())];
                (labels, value(upload))
            })
        };
        sheet.counters(
            "branchline_upload_files",
            "Files of a flow log that were uploaded since the agent started.",
            None,
            each(|upload| upload.files_uploaded),
        )?;
        sheet.counters(
            "branchline_upload",
            "Bytes of a flow log's files that were uploaded since the agent started.",
            Some(&Unit::Bytes),
            each(|upload| upload.bytes_uploaded),
        )?;
        sheet.gauges(
            "branchline_upload_waiting_files",
            "Files of a flow log that are not uploaded yet.",
            None,
            each(|upload| upload.files_waiting),
        )?;
        sheet.gauges(
            "branchline_upload_waiting",
            "Bytes of a flow log's files that are not uploaded yet.",
            Some(&Unit::Bytes),
            each(|upload| upload.bytes_waiting),
        )?;
        sheet.counters(
            "branchline_upload_given_up_files",
            "Files of a flow log removed before they were uploaded: the backlog was over its bound.",
            None,
            each(|upload| upload.files_given_up),
        )?;
        sheet.gauges(
            "branchline_upload_refused_files",
            "Files of a flow log whose name another object has in the destination.",
            None,
            each(|upload| upload.files_refused),
        )?;
        sheet.counters(
            "branchline_flow_log_expired_files",
            "Files of a flow log removed by retention since the agent started.",
            None,
            each(|upload| upload.files_expired),
        )?;
        sheet.gauges(
            "branchline_upload_failing",
            "Whether a flow log's files cannot be uploaded now.",
            None,
            each(|upload| u64::from(upload.last_error.is_some())),
        )
    }

    fn each_log(
        &self,
        value: fn(&FlowLogSample) -> u64,
    ) -> impl Iterator<Item = ([(&'static str, &str); 1], u64)> {
        self.flow_logs.iter().map(move |log| {
            let labels = [("flow_log_id", log.log.flow_log_id.as_str())];
            (labels, value(log))
        })
    }
}

/// Packets dropped by reason, of reasons that occurred.
fn drops(counters: &Counters) -> impl Iterator<Item = (&'static str, u64)> {
    let packets = counters.packets;
    DropReason::ALL
        .into_iter()
        .map(move |reason| (reason.name(), packets[reason as usize]))
        .filter(|(_, packets)| *packets > 0)
}
