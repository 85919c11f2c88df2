//! What the agent says of itself: a snapshot for a scrape, and how its parts are.
//!
//! Reads; changes nothing, and waits for no slow disk.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    Agent, FORWARDING_FACT,
    nat_table::{self, NatTable},
};
use crate::api::{FlowLogList, Health, TaskCounts, WarmPoolDescription};
use crate::datapath::{DatapathError, lock};
use crate::delivery::LogState;
use crate::eni_settings::EniSettings;
use crate::link::Link;
use crate::metrics::{EniSample, Process, Snapshot, TaskSamples};
use crate::nat::PreviousForwarding;
use crate::netlink::NetlinkError;
use crate::server::{ControlError, causes};
use crate::task_record::TaskRecord;
use crate::upload::UploadStatus;

/// How long what flow logs have written is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// After this the clock of the epochs has stopped.
const SILENCE: Duration = Duration::from_secs(30);

impl Agent {
    /// Everything that [`Instruments::render`](crate::metrics::Instruments::render) shows.
    pub(super) async fn metrics(&self) -> Result<String, ControlError> {
        let logs = self.host.exporter.logs_within(PATIENCE).await;
        let uploads = self.host.exporter.uploads();
        let health = self
            .health_of(logs.as_deref(), &uploads, NatTable::last_problem)
            .await;
        let tasks = self.task_samples().map_err(super::requests::failed)?;
        let started = SystemTime::now() - self.started.elapsed();
        let started = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let pool = self.host.provider.warm_pool();
        let snapshot = Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            process: Process::read(started.as_secs_f64()),
            tasks,
            warm_pool: pool.as_ref().map(WarmPoolDescription::of),
            flow_logs: FlowLogList::of(logs.unwrap_or_default(), uploads).flow_logs,
            health,
        };
        Ok(self.instruments.render(snapshot))
    }

    /// How the agent's parts are.
    pub(super) async fn parts(&self) -> Health {
        let logs = self.host.exporter.logs_within(PATIENCE).await;
        let host = self.host.netlink.netns();
        let uploads = self.host.exporter.uploads();
        self.health_of(logs.as_deref(), &uploads, |nat| nat.problem(host))
            .await
    }

    /// Looks at the host's nftables table now and then, for ever.
    pub(super) async fn look_at_nat(self: Arc<Self>) {
        let Some(nat) = &self.host_nat else { return };
        loop {
            tokio::time::sleep(nat_table::ROUND).await;
            drop(nat.check(self.host.netlink.netns()));
        }
    }

    async fn health_of(
        &self,
        logs: Option<&[LogState]>,
        uploads: &[UploadStatus],
        nat_problem: impl Fn(&NatTable) -> Option<String>,
    ) -> Health {
        let control = lock(&self.host.datapath).control();
        let stored = self.store.fact::<PreviousForwarding>(FORWARDING_FACT);
        let mut parts = vec![
            ("data-plane".to_owned(), failure(control.as_ref())),
            ("store".to_owned(), failure(stored.as_ref())),
            ("flow-counts".to_owned(), self.counts_problem()),
        ];
        if let Some(wire) = &self.wire {
            let trunk = self.host.netlink.link_named(&wire.name);
            let problem = trunk_problem(&wire.name, trunk.as_ref());
            parts.insert(1, ("trunk".to_owned(), problem));
        }
        if let Some(nat) = &self.host_nat {
            parts.push(("nat-gateway".to_owned(), nat_problem(nat)));
        }
        parts.extend(log_parts(logs, uploads));
        Health::of(parts)
    }

    fn counts_problem(&self) -> Option<String> {
        let silence = self.host.exporter.silence();
        if silence > SILENCE {
            let seconds = silence.as_secs();
            return Some(format!("the end of an interval takes {seconds} s already"));
        }
        self.host.exporter.failure()
    }

    /// Each table is read for itself: none is held while another is waited for.
    fn task_samples(&self) -> Result<TaskSamples, DatapathError> {
        let mut counts = TaskCounts::default();
        let mut wanted = Vec::new();
        for task in self.tasks.table().live() {
            let TaskRecord { spec, eni, .. } = task;
            if task.is_on_its_way() {
                counts.creating += 1;
            } else if task.is_attached() {
                counts.running += 1;
            } else {
                counts.deleting += 1;
            }
            let attributes = spec.network_interface_attributes();
            let share = EniSettings::resolve(&self.config.conntrack, attributes).max_connections;
            wanted.push((spec.task_id.to_string(), eni.eni_id.clone(), share));
        }
        let plugs = self.host.plugs();
        let slots = wanted.into_iter().filter_map(|(task_id, eni_id, share)| {
            let slot = plugs.slot(&eni_id)?;
            Some((slot, task_id, eni_id, share))
        });
        let slots: Vec<_> = slots.collect();
        drop(plugs);
        let datapath = lock(&self.host.datapath);
        let mut enis = Vec::new();
        for (slot, task_id, interface_id, share) in slots {
            enis.push(EniSample {
                task_id,
                interface_id,
                counters: datapath.counters(slot)?,
                tracked: datapath.tracked(slot)?,
                share: share.into(),
            });
        }
        Ok(TaskSamples {
            counts,
            max_enis: self.config.max_enis,
            conntrack_max_entries: self.config.conntrack.max_entries,
            unassigned: datapath.counters(0)?,
            enis,
        })
    }
}

fn failure<T, E: std::error::Error + 'static>(result: Result<&T, &E>) -> Option<String> {
    result.err().map(|error| causes(error))
}

fn trunk_problem(name: &str, trunk: Result<&Option<Link>, &NetlinkError>) -> Option<String> {
    match trunk {
        Ok(Some(link)) if link.up => None,
        Ok(Some(_)) => Some(format!("{name} is down")),
        Ok(None) => Some(format!("{name} is missing")),
        Err(error) => Some(causes(error)),
    }
}

/// Each flow log, and each that is uploaded.
fn log_parts(logs: Option<&[LogState]>, uploads: &[UploadStatus]) -> Vec<(String, Option<String>)> {
    let Some(logs) = logs else {
        let reason = format!("a write takes longer than {} s", PATIENCE.as_secs());
        return vec![("flow-logs".to_owned(), Some(reason))];
    };
    let written = logs.iter().map(|log| {
        (
            format!("flow-log {}", log.log.flow_log_id),
            log.error.clone(),
        )
    });
    let uploaded = uploads
        .iter()
        .filter(|upload| upload.url.is_some())
        .map(|upload| {
            let name = format!("upload {}", upload.flow_log_id);
            (name, upload.last_error.clone())
        });
    written.chain(uploaded).collect()
}
