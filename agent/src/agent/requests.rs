//! What the agent does on request.

use std::{collections::BTreeMap, sync::Arc};

use branchline_common::{maps::ENI_SLOTS, verdict::DropReason};
use tokio::sync::broadcast;

use super::{
    Agent,
    checks::{HOST_TABLE, PRESENT},
    previous_forwarding,
};
use crate::{
    api::{
        ApplyRequest, AttributeList, Capacity, CniGarbageCollected, DropCount, EniCounters,
        EniDescription, EniList, FlowLogFile, FlowLogList, Health, HostChange, Operation,
        SecurityGroupDescription, SecurityGroupList, SecurityGroupsApplied, SecurityGroupsDiff,
        Status, Step, SubnetList, TaskCheck, TaskCounters, TaskCounts, TaskDescription, TaskEvent,
        TaskGroups, WarmPoolDescription,
    },
    capacity::{self, Bound, Situation},
    cni_attachment::CniGarbageCollection,
    datapath::{DatapathError, lock},
    delivery::FlowLogsError,
    eni_settings::EniSettings,
    explain::{ExplainRequest, Explanation},
    flows::FlowLogError,
    life::AttachmentStatus,
    live::Follower,
    metrics::ApiRequests,
    nat::TableState,
    progress::{Progress, enter},
    server::{Added, Control, ControlError, causes},
    spec::{TaskId, TaskSpec},
    task,
    task_record::TaskRecord,
    upload::UploadError,
};

impl Control for Agent {
    async fn add_task(&self, spec: TaskSpec) -> Result<Added, ControlError> {
        let turn = self.turn(&spec.task_id);
        let _turn = turn.lock().await;
        if let Some(known) = self.known(&spec) {
            return known;
        }
        self.finish_removal(&spec.task_id).await?;
        let progress = Progress::new(&self.host.events, &spec.task_id, Operation::Add);
        let allocated = progress
            .long_step(Step::Allocate, self.allocate(&spec))
            .await;
        let added = match allocated {
            Ok(record) => self.make(record).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &added
            && let Some(mut record) = self.tasks.task(&spec.task_id)
        {
            tracing::warn!(task = %spec.task_id, %error, "set-up failed; undoing it");
            record.life.stopped_reason = Some(error.to_string());
            enter(&self.host.events, &mut record, AttachmentStatus::Failed);
            self.undo(record).await;
        }
        Ok(Added::Created(self.describe(&added?)))
    }

    async fn remove_task(&self, id: TaskId) -> Result<(), ControlError> {
        let turn = self.turn(&id);
        let _turn = turn.lock().await;
        let Some(mut record) = self.tasks.task(&id) else {
            return Err(ControlError::Unknown(id));
        };
        enter(&self.host.events, &mut record, AttachmentStatus::Detaching);
        self.tasks.update(&record).map_err(failed)?;
        self.care.end(&id);
        let errors = task::tear_down(&self.host, &record).await;
        let removed = match all(&errors) {
            Some(error) => Err(failed(error)),
            None => self.forget(record).map_err(failed),
        };
        if removed.is_err() {
            self.left.notify_one();
        }
        removed
    }

    async fn tasks(&self) -> Result<Vec<TaskDescription>, ControlError> {
        let table = self.tasks.table();
        Ok(table.live().map(|task| self.describe(task)).collect())
    }

    async fn task(&self, id: TaskId) -> Result<TaskDescription, ControlError> {
        let Some(task) = self.tasks.task(&id) else {
            let table = self.tasks.table();
            let gone = table.last_gone(&id).map(|task| self.describe(task));
            return gone.ok_or(ControlError::Unknown(id));
        };
        let counters = self.eni_counters(std::slice::from_ref(&task));
        let counters = counters.map_err(failed)?.into_iter().next();
        Ok(TaskDescription {
            counters: counters.map(|each| each.counters),
            ..self.describe(&task)
        })
    }

    async fn set_task_groups(
        &self,
        id: TaskId,
        groups: TaskGroups,
    ) -> Result<TaskDescription, ControlError> {
        self.give_groups(id, groups).await
    }

    async fn check_task(&self, id: TaskId) -> Result<TaskCheck, ControlError> {
        self.compare_task(id).await
    }

    async fn try_task(&self, spec: TaskSpec) -> Result<(), ControlError> {
        let _one_at_a_time = self.allocation.lock().await;
        self.try_eni(&spec).await
    }

    async fn collect_cni_garbage(
        &self,
        request: CniGarbageCollection,
    ) -> Result<CniGarbageCollected, ControlError> {
        self.remove_stale_attachments(&request).await
    }

    fn network_interfaces(&self) -> EniList {
        let table = self.tasks.table();
        let of_tasks = table.live().map(EniDescription::of);
        let waiting = self.host.provider.warm_pool().into_iter();
        let waiting = waiting.flat_map(|pool| pool.enis);
        EniList {
            network_interfaces: of_tasks
                .chain(waiting.map(|eni| EniDescription::waiting(&eni)))
                .collect(),
        }
    }

    fn subnets(&self) -> SubnetList {
        let occupied = self.tasks.table().occupied();
        SubnetList {
            subnets: self.host.provider.describe_subnets(&occupied),
        }
    }

    fn capacity(&self) -> Capacity {
        let occupied = self.tasks.table().occupied();
        let provider = &self.host.provider;
        let mut bounds = provider.bounds();
        bounds.push(Bound {
            resource: "data-plane-slots".to_owned(),
            most: u64::from(ENI_SLOTS) - 1,
            source: "the data plane".to_owned(),
            counts_foreign: false,
        });
        let warm_pool = provider.warm_pool();
        let capacity = capacity::of(&Situation {
            enis: occupied.len() as u64,
            foreign_enis: provider.foreign_enis(),
            bounds,
            subnets: provider.describe_subnets(&occupied),
        });
        Capacity {
            warm_pool: warm_pool.as_ref().map(WarmPoolDescription::of),
            ..capacity
        }
    }

    fn attributes(&self) -> AttributeList {
        let SubnetList { subnets } = self.subnets();
        let vpc = self.host.provider.vpc();
        AttributeList {
            attributes: capacity::attributes(&vpc.vpc_id, &subnets, self.wire.is_some()),
        }
    }

    fn events(&self) -> broadcast::Receiver<Arc<TaskEvent>> {
        self.host.events.listen()
    }

    async fn security_groups(&self) -> Result<SecurityGroupList, ControlError> {
        Ok(self.list_security_groups())
    }

    async fn security_group(&self, id: String) -> Result<SecurityGroupDescription, ControlError> {
        self.show_security_group(&id)
    }

    async fn apply_security_groups(
        &self,
        request: ApplyRequest,
    ) -> Result<SecurityGroupsApplied, ControlError> {
        self.apply(&request).await
    }

    async fn diff_security_groups(
        &self,
        request: ApplyRequest,
    ) -> Result<SecurityGroupsDiff, ControlError> {
        self.diff(&request).await
    }

    async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ControlError> {
        self.explain_packet(&request)
    }

    async fn flow_logs(&self) -> Result<FlowLogList, ControlError> {
        Ok(self.describe_flow_logs())
    }

    async fn apply_flow_logs(&self, file: FlowLogFile) -> Result<FlowLogList, ControlError> {
        match self.host.exporter.apply(file.flow_logs).await {
            Ok(()) => Ok(self.describe_flow_logs()),
            Err(
                FlowLogError::FlowLogs(FlowLogsError::Field(error))
                | FlowLogError::Upload(UploadError::Field(error)),
            ) => Err(ControlError::Invalid(error)),
            Err(error) => Err(failed(error)),
        }
    }

    async fn follow(&self, is_measuring: bool) -> Result<Follower, ControlError> {
        self.live.follow(is_measuring).await.map_err(failed)
    }

    async fn health(&self) -> Health {
        self.parts().await
    }

    async fn scrape(&self) -> Result<String, ControlError> {
        self.metrics().await
    }

    fn requests(&self) -> ApiRequests {
        self.instruments.requests.clone()
    }

    async fn status(&self) -> Result<Status, ControlError> {
        let tasks = self.tasks.tasks();
        let count =
            |is_one: fn(&TaskRecord) -> bool| tasks.iter().filter(|one| is_one(one)).count();
        let (drops, exceeded, connections) = self.counts().map_err(failed)?;
        let host_changes = self.host_changes();
        let host_changes = host_changes.map_err(|source| ControlError::Failed { source })?;
        let problems = self.problems(&host_changes).await.map_err(failed)?;
        let (repairs, tasks_given_up) = self.care.counts();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            provider: self.host.provider.name().to_owned(),
            vpc_id: self.host.provider.vpc().vpc_id.clone(),
            tasks: TaskCounts {
                creating: count(TaskRecord::is_on_its_way),
                running: count(TaskRecord::is_attached),
                deleting: count(|task| !task.is_on_its_way() && !task.is_attached()),
            },
            max_enis: self.config.max_enis,
            trunk_attachment: self.trunk_attachment.name().to_owned(),
            conntrack_entries: connections,
            conntrack_max_entries: self.config.conntrack.max_entries,
            conntrack_allowance_exceeded: exceeded,
            network_interfaces: self.eni_counters(&tasks).map_err(failed)?,
            drops,
            flow_logs: self.describe_flow_logs().flow_logs,
            problems,
            repairs,
            tasks_given_up,
            host_changes,
        })
    }
}

impl Agent {
    fn describe_flow_logs(&self) -> FlowLogList {
        let exporter = &self.host.exporter;
        FlowLogList::of(exporter.logs(), exporter.uploads())
    }

    pub(super) fn describe(&self, task: &TaskRecord) -> TaskDescription {
        let attributes = task.spec.network_interface_attributes();
        let settings = EniSettings::resolve(&self.config.conntrack, attributes);
        TaskDescription::of(task, settings, self.host.mtu)
    }

    /// What the ENIs of `tasks` have counted, of those that are in the data plane.
    fn eni_counters(&self, tasks: &[TaskRecord]) -> Result<Vec<TaskCounters>, DatapathError> {
        let plugs = self.host.plugs();
        let datapath = lock(&self.host.datapath);
        let mut tracked = BTreeMap::new();
        for slot in plugs.slots().keys() {
            tracked.insert(*slot, datapath.tracked(*slot)?);
        }
        let table = u64::from(self.config.conntrack.max_entries);
        let left = table.saturating_sub(tracked.values().sum());
        let mut found = Vec::new();
        for task in tasks {
            let Some(slot) = plugs.slot(&task.eni.eni_id) else {
                continue;
            };
            let attributes = task.spec.network_interface_attributes();
            let share = EniSettings::resolve(&self.config.conntrack, attributes).max_connections;
            let counters = datapath.counters(slot)?;
            let [exceeded, audited] = [
                counters.packets[DropReason::ConntrackFull as usize],
                counters.audited,
            ];
            let own = tracked.get(&slot).copied().unwrap_or_default();
            found.push(TaskCounters {
                task_id: task.spec.task_id.to_string(),
                network_interface_id: task.eni.eni_id.clone(),
                counters: EniCounters::of(exceeded, audited, own, share, left),
            });
        }
        Ok(found)
    }

    fn counts(&self) -> Result<(Vec<DropCount>, u64, u64), DatapathError> {
        let plugs = self.host.plugs();
        let datapath = lock(&self.host.datapath);
        let mut tracked = 0;
        for slot in plugs.slots().keys() {
            tracked += datapath.tracked(*slot)?;
        }
        let mut totals = [0_u64; DropReason::COUNT];
        for slot in std::iter::once(0).chain(plugs.slots().keys().copied()) {
            let counters = datapath.counters(slot)?;
            for (total, packets) in totals.iter_mut().zip(counters.packets) {
                *total += packets;
            }
        }
        let drops = DropReason::ALL
            .into_iter()
            .map(|reason| (reason, totals[reason as usize]))
            .filter(|(_, packets)| *packets > 0)
            .map(|(reason, packets)| DropCount {
                reason: reason.name().to_owned(),
                packets,
            })
            .collect();
        let exceeded = totals[DropReason::ConntrackFull as usize];
        Ok((drops, exceeded, tracked))
    }

    /// What the agent changed on the host, and what it was.
    fn host_changes(&self) -> Result<Vec<HostChange>, crate::cli::HostError> {
        let Some(nat) = &self.host_nat else {
            return Ok(Vec::new());
        };
        let mut changes = Vec::new();
        if let Some(previous) = previous_forwarding(&self.store)? {
            changes.extend(previous.0.into_iter().map(|(key, value)| HostChange {
                what: format!("sysctl {}", key.replace('/', ".")),
                previous: Some(value),
                current: "changed with forwarding".to_owned(),
            }));
        }
        let current = match nat.check(self.host.netlink.netns())? {
            TableState::Absent => "missing",
            TableState::Equal => PRESENT,
            TableState::Different => "changed by someone else",
        };
        changes.push(HostChange {
            what: HOST_TABLE.to_owned(),
            previous: None,
            current: current.to_owned(),
        });
        Ok(changes)
    }
}

/// Several errors as one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Several(pub(super) String);

fn all(errors: &[task::TearDownError]) -> Option<Several> {
    if errors.is_empty() {
        return None;
    }
    let texts: Vec<String> = errors.iter().map(|error| causes(error)).collect();
    Some(Several(texts.join("; ")))
}

pub(super) fn failed(source: impl std::error::Error + Send + Sync + 'static) -> ControlError {
    ControlError::Failed {
        source: Box::new(source),
    }
}
