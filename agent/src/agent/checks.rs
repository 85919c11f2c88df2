//! Tasks and host compared with what they should be, and attachments that are not wanted any more.

use tokio::task::block_in_place;

use super::{
    Agent,
    requests::{Several, failed},
};
use crate::{
    api::{CniGarbageCollected, HostChange, TaskCheck},
    cni_attachment::CniGarbageCollection,
    netlink::NetlinkError,
    server::{Control, ControlError},
    spec::TaskId,
    task_check,
};

/// The table that lets tasks out.
pub(super) const HOST_TABLE: &str = "nftables table inet branchline";
/// What is said of it while it is as the agent made it.
pub(super) const PRESENT: &str = "present";

impl Agent {
    /// Compares a task's network and files with what they should be, while nobody changes them.
    pub(super) async fn compare_task(&self, id: TaskId) -> Result<TaskCheck, ControlError> {
        let turn = self.turn(&id);
        let _turn = turn.lock().await;
        let record = self.tasks.task(&id);
        let record = record.ok_or(ControlError::Unknown(id))?;
        let differences = block_in_place(|| task_check::check(&self.host, &record));
        let mut differences = differences.map_err(failed)?;
        differences.extend(task_check::check_files(&record));
        Ok(TaskCheck {
            task: self.describe(&record),
            differences,
        })
    }

    /// Removes a network's attachments that are not valid any more, in one pass that goes on past errors. Whoever asks
    /// sees to it that none is added or removed meanwhile, as the CNI specification has it.
    pub(super) async fn remove_stale_attachments(
        &self,
        request: &CniGarbageCollection,
    ) -> Result<CniGarbageCollected, ControlError> {
        let mut collected = CniGarbageCollected::default();
        let mut left = Vec::new();
        for id in request.stale(&self.tasks.tasks()) {
            match self.remove_task(id.clone()).await {
                Ok(()) | Err(ControlError::Unknown(_)) => collected.removed.push(id.into()),
                Err(error) => left.push(format!("task {id}: {error}")),
            }
        }
        if left.is_empty() {
            Ok(collected)
        } else {
            Err(failed(Several(left.join("; "))))
        }
    }

    /// What is wrong with that through which every packet goes.
    pub(super) async fn problems(
        &self,
        host_changes: &[HostChange],
    ) -> Result<Vec<String>, NetlinkError> {
        let trunk = match &self.wire {
            Some(wire) => {
                let name = &wire.name;
                match self.host.netlink.link_named(name)? {
                    Some(link) if link.up => None,
                    Some(_) => Some(format!("the trunk {name} is down")),
                    None => Some(format!("the trunk {name} is missing")),
                }
            }
            None => None,
        };
        let is_spoilt =
            |change: &&HostChange| change.what == HOST_TABLE && change.current != PRESENT;
        let spoilt = host_changes.iter().filter(is_spoilt);
        let spoilt = spoilt.map(|change| format!("{} is {}", change.what, change.current));
        let stale = self.staleness();
        Ok(trunk.into_iter().chain(spoilt).chain(stale).collect())
    }
}
