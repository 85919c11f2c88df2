//! The groups of a task that runs: changed because somebody asks here, or because they are others in EC2.
//!
//! What is asked for is stored before the provider is asked, and what the ENI has once it obeys it. An agent that was
//! killed in between does it again at its next start, or takes it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::life_cycle::refused;
use super::requests::failed;
use super::{Agent, security_groups};
use crate::api::{Operation, Step, TaskDescription, TaskGroups};
use crate::datapath::lock;
use crate::flows::Identity;
use crate::policies::PolicyError;
use crate::progress::Progress;
use crate::provider::Eni;
use crate::server::{ControlError, causes};
use crate::spec::TaskId;
use crate::task;
use crate::task_record::TaskRecord;

/// Why groups changed that nobody asked this agent for.
const IN_EC2: &str = "changed in EC2";

impl Agent {
    /// Gives a task's ENI other groups, as somebody asks for it.
    pub(super) async fn give_groups(
        &self,
        id: TaskId,
        groups: TaskGroups,
    ) -> Result<TaskDescription, ControlError> {
        let turn = self.turn(&id);
        let _turn = turn.lock().await;
        let Some(task) = self.tasks.task(&id) else {
            return Err(ControlError::Unknown(id));
        };
        if !task.is_attached() {
            let status = task.status().name();
            return Err(ControlError::Conflict(format!(
                "taskId: the network of task {id} is {status}; its groups can be changed while it is ATTACHED"
            )));
        }
        let changed = self.change_groups(task, groups.security_groups).await?;
        Ok(self.describe(&changed))
    }

    /// Ends the changes of groups that an earlier agent began.
    pub(super) async fn finish_group_changes(self: Arc<Self>) {
        for task in self.tasks.tasks() {
            let turn = self.turn(&task.spec.task_id);
            let _turn = turn.lock().await;
            let now = self.tasks.task(&task.spec.task_id);
            let Some(task) = now.filter(TaskRecord::is_attached) else {
                continue;
            };
            let Some(groups) = task.wanted_groups.clone() else {
                continue;
            };
            let id = task.spec.task_id.clone();
            if let Err(error) = self.change_groups(task, groups).await {
                tracing::warn!(task = %id, %error, "a change of groups of before was taken back");
            }
        }
    }

    /// The provider's part, then the data plane's, then the store's; whoever calls has the task's turn.
    async fn change_groups(
        &self,
        task: TaskRecord,
        groups: Vec<String>,
    ) -> Result<TaskRecord, ControlError> {
        // What a look at EC2 that is under way has seen is from before.
        self.group_changes.fetch_add(1, Ordering::SeqCst);
        let changed = self.change_groups_in_turn(task, groups).await;
        self.group_changes.fetch_add(1, Ordering::SeqCst);
        changed
    }

    async fn change_groups_in_turn(
        &self,
        task: TaskRecord,
        groups: Vec<String>,
    ) -> Result<TaskRecord, ControlError> {
        let id = task.spec.task_id.clone();
        let begun = TaskRecord {
            wanted_groups: Some(groups.clone()),
            ..task.clone()
        };
        self.tasks.update(&begun).map_err(failed)?;
        let progress = Progress::new(&self.host.events, &id, Operation::SetGroups);
        let next = TaskRecord {
            eni: Eni {
                groups,
                ..task.eni.clone()
            },
            wanted_groups: None,
            ..task.clone()
        };
        let before = TaskRecord {
            wanted_groups: None,
            ..task
        };
        let modify = self.modify_eni(&next.eni);
        if let Err(error) = progress.long_step(Step::ModifyEni, modify).await {
            self.take_back(&before);
            return Err(error);
        }
        let _one_at_a_time = self.allocation.lock().await;
        let enforce = self.enforce_groups(&next);
        if let Err(error) = progress.long_step(Step::Enforce, enforce).await {
            if let Err(error) = self.modify_eni(&before.eni).await {
                tracing::error!(task = %id, %error, "groups stay other ones in EC2 until it is looked at");
            }
            self.take_back(&before);
            return Err(error);
        }
        progress.step(Step::KeepGroups, || {
            self.tasks.update(&next).map_err(failed)
        })?;
        self.tell_groups(&before, &next, None);
        Ok(next)
    }

    /// The provider gives the ENI the groups that `eni` has.
    async fn modify_eni(&self, eni: &Eni) -> Result<(), ControlError> {
        let directory = Arc::clone(self.host.plugs().policies().directory());
        let set = self.host.provider.set_groups(eni, &directory).await;
        set.map_err(refused)
    }

    /// The data plane judges by the groups of the ENI of `task`, whose rules are read if they are not known; whoever
    /// calls holds `allocation` until they are stored, so that nobody takes one of them away.
    async fn enforce_groups(&self, task: &TaskRecord) -> Result<(), ControlError> {
        self.know_groups(&task.eni.groups).await?;
        let (slot, unsettled) = {
            let mut plugs = self.host.plugs();
            let slot = plugs.slot(&task.eni.eni_id);
            let slot = slot.ok_or_else(|| failed(NotPlugged(task.eni.eni_id.clone())))?;
            let mut datapath = lock(&self.host.datapath);
            let policies = plugs.policies_mut();
            let unsettled = policies.regroup(&mut datapath, slot, &task.eni);
            (slot, unsettled.map_err(unenforced)?)
        };
        task::settle(&self.host, unsettled);
        let identity = Identity::of(task, &self.host.records);
        self.host.identities.insert(slot, identity);
        Ok(())
    }

    fn take_back(&self, before: &TaskRecord) {
        if let Err(error) = self.tasks.update(before) {
            let error = causes(&error);
            tracing::error!(task = %before.spec.task_id, error, "the next start tries its groups again");
        }
    }

    fn tell_groups(&self, before: &TaskRecord, now: &TaskRecord, reason: Option<&str>) {
        if before.eni.groups == now.eni.groups {
            return;
        }
        tracing::info!(
            task = %now.spec.task_id, eni = now.eni.eni_id, groups = now.eni.groups.join(","), reason,
            "security groups changed"
        );
        self.host.events.groups(now, reason);
    }

    /// Takes over the groups that the provider's last look found tasks' ENIs to have; none, if any were changed here
    /// since `changes` was read.
    ///
    /// # Errors
    /// The last of those that could not be taken over; what was in force stays.
    pub(super) async fn take_over_eni_groups(&self, changes: u64) -> Result<(), ControlError> {
        let mut result = Ok(());
        // In this order: what was found of an ENI before a task got it is forgotten by then.
        let tasks = self.tasks.tasks();
        let found = self.host.provider.groups_of_enis();
        for task in differing(&tasks, &found) {
            let turn = self.turn(&task.spec.task_id);
            // Whoever has the turn may change them or take the task away; the next look tells.
            let Ok(_turn) = turn.try_lock() else { continue };
            let now = self.tasks.task(&task.spec.task_id);
            let is_same = now.is_some_and(|now| now == task);
            if !is_same || self.group_changes.load(Ordering::SeqCst) != changes {
                continue;
            }
            let Some(groups) = found.get(&task.eni.eni_id) else {
                continue;
            };
            if let Err(error) = self.take_over_groups_of(&task, groups.clone()).await {
                tracing::warn!(task = %task.spec.task_id, %error, "its groups in EC2 are not in force here");
                result = Err(error);
            }
        }
        result
    }

    async fn take_over_groups_of(
        &self,
        task: &TaskRecord,
        groups: Vec<String>,
    ) -> Result<(), ControlError> {
        let eni = Eni {
            groups,
            ..task.eni.clone()
        };
        let next = TaskRecord {
            eni,
            ..task.clone()
        };
        let _one_at_a_time = self.allocation.lock().await;
        self.enforce_groups(&next).await?;
        self.tasks.update(&next).map_err(failed)?;
        self.tell_groups(task, &next, Some(IN_EC2));
        Ok(())
    }
}

/// Tasks that are there and whose ENI `found` says to have other groups; in which order they are told is no difference.
fn differing(tasks: &[TaskRecord], found: &BTreeMap<String, Vec<String>>) -> Vec<TaskRecord> {
    let set = |groups: &[String]| -> BTreeSet<String> { groups.iter().cloned().collect() };
    let differs = |task: &&TaskRecord| {
        let groups = found.get(&task.eni.eni_id);
        let groups = groups.filter(|groups| !groups.is_empty());
        // One that is being changed here is not EC2's to change.
        task.is_attached()
            && task.wanted_groups.is_none()
            && groups.is_some_and(|groups| set(groups) != set(&task.eni.groups))
    };
    tasks.iter().filter(differs).cloned().collect()
}

/// An ENI of a task that is there is in the data plane.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not in the data plane; branchline task check says what else is missing")]
struct NotPlugged(String);

fn unenforced(error: PolicyError) -> ControlError {
    security_groups::refused_as(crate::api::GROUPS_FIELD, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::life::AttachmentStatus;
    use crate::task_record::tests::{entered, record};

    #[test]
    fn only_other_groups_of_tasks_that_are_there_differ() {
        let ids = |ids: &[&str]| -> Vec<String> { ids.iter().map(ToString::to_string).collect() };
        let task = |id: &str, groups: &[&str]| {
            let mut task = entered(record(id), AttachmentStatus::Attached, u64::MAX);
            task.eni.eni_id = format!("eni-{id}");
            task.eni.groups = ids(groups);
            task
        };
        let wanted = TaskRecord {
            wanted_groups: Some(ids(&["sg-1"])),
            ..task("changing", &["sg-1"])
        };
        let mut on_its_way = record("new");
        on_its_way.eni.eni_id = "eni-new".to_owned();
        let tasks = [
            task("same", &["sg-1", "sg-2"]),
            task("other", &["sg-1"]),
            task("unseen", &["sg-1"]),
            task("odd", &["sg-1"]),
            wanted,
            on_its_way,
        ];
        let found = BTreeMap::from([
            ("eni-same".to_owned(), ids(&["sg-2", "sg-1"])),
            ("eni-other".to_owned(), ids(&["sg-1", "sg-2"])),
            ("eni-odd".to_owned(), Vec::new()),
            ("eni-changing".to_owned(), ids(&["sg-2"])),
            ("eni-new".to_owned(), ids(&["sg-2"])),
            ("eni-nobodys".to_owned(), ids(&["sg-2"])),
        ]);
        let differ = differing(&tasks, &found);
        let differ: Vec<_> = differ.iter().map(|task| task.eni.eni_id.as_str()).collect();
        assert_eq!(differ, ["eni-other"]);
    }
}
