//! What the agent knows of a task: the wish, what it was given, how far it has come; and all of them
//! in one table. Pure.
//!
//! A task that has gone is remembered for a while: a late repeat of the request that made it must not
//! make it again, and whoever asks learns how it ended.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dns::TaskDns;
use crate::life::{AttachmentStatus, Life};
use crate::provider::{Eni, Occupied};
use crate::spec::{ClientToken, TaskId, TaskSpec};
use crate::task_files::FilePlaces;

/// How long a task that has gone is remembered, as at ECS.
pub const REMEMBERED_MS: u64 = 3_600_000;
/// Most tasks that have gone and are remembered.
pub const MOST_REMEMBERED: usize = 4_096;

/// A task as the host was asked for it, and what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The wish.
    pub spec: TaskSpec,
    /// Its ENI.
    pub eni: Eni,
    /// Groups that its ENI is being given, while that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_groups: Option<Vec<String>>,
    /// Its network namespace.
    pub netns: PathBuf,
    /// Whether the agent made the namespace and removes it with the task.
    pub owned_netns: bool,
    /// The host's end of its veth.
    pub host_link: String,
    /// What it is told of names, from its start to its end.
    #[serde(default)]
    pub dns: TaskDns,
    /// Where its `hostname`, `hosts` and `resolv.conf` are.
    #[serde(default)]
    pub files: FilePlaces,
    /// How far it has come, and when.
    pub life: Life,
    /// Never given to another task, so a late clean-up cannot hit a task of the same name.
    pub generation: u64,
}

impl TaskRecord {
    /// The state of its attachment.
    #[must_use]
    pub fn status(&self) -> AttachmentStatus {
        self.life.status()
    }

    /// Whether its network is there and wanted.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.status() == AttachmentStatus::Attached
    }

    /// Whether its network is being made.
    #[must_use]
    pub fn is_on_its_way(&self) -> bool {
        self.status() < AttachmentStatus::Attached
    }
}

/// Every task, by id; those that have gone; and what they take up.
#[derive(Debug, Clone, Default)]
pub struct TaskTable {
    live: BTreeMap<TaskId, TaskRecord>,
    /// Oldest end first.
    gone: VecDeque<TaskRecord>,
    /// The newest generation that was asked for with each token, there or gone.
    tokens: HashMap<ClientToken, u64>,
    /// Whoever chooses an ENI keeps what it chose by; a change makes a copy only meanwhile.
    occupied: Arc<Occupied>,
}

impl TaskTable {
    /// The table of stored records, in any order.
    #[must_use]
    pub fn of(records: Vec<TaskRecord>) -> Self {
        let mut table = Self::default();
        let (mut gone, live): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|record| record.status() == AttachmentStatus::Deleted);
        for record in live {
            table.put(record);
        }
        gone.sort_by_key(|record| (ended_at_ms(record), record.generation));
        for record in gone {
            Arc::make_mut(&mut table.occupied).take(&record.eni);
            table.bury(record);
        }
        // An address that a live task took while it cooled down is the live task's.
        for record in table.live.values() {
            Arc::make_mut(&mut table.occupied).take(&record.eni);
        }
        table
    }

    /// Adds a task, or replaces what is known of it.
    pub fn put(&mut self, record: TaskRecord) {
        let known = self.live.get(&record.spec.task_id);
        if known.is_none_or(|known| known.eni != record.eni) {
            Arc::make_mut(&mut self.occupied).take(&record.eni);
        }
        self.note_token(&record);
        self.live.insert(record.spec.task_id.clone(), record);
    }

    /// A task has gone; `record` says when. What it took up cools down.
    pub fn end(&mut self, record: TaskRecord) {
        self.live.remove(&record.spec.task_id);
        self.bury(record);
    }

    /// Forgets tasks that ended long before `now_ms`, or that are too many; returns their generations.
    pub fn forget(&mut self, now_ms: u64) -> Vec<u64> {
        let mut forgotten = Vec::new();
        while let Some(oldest) = self.gone.front()
            && (self.gone.len() > MOST_REMEMBERED
                || ended_at_ms(oldest).saturating_add(REMEMBERED_MS) <= now_ms)
            && let Some(oldest) = self.gone.pop_front()
        {
            forgotten.push(oldest.generation);
            if let Some(token) = &oldest.spec.client_token
                && self.tokens.get(token) == Some(&oldest.generation)
            {
                self.tokens.remove(token);
            }
        }
        forgotten
    }

    /// The task with this id, if it is there.
    #[must_use]
    pub fn get(&self, id: &TaskId) -> Option<&TaskRecord> {
        self.live.get(id)
    }

    /// The last task with this id that has gone.
    #[must_use]
    pub fn last_gone(&self, id: &TaskId) -> Option<&TaskRecord> {
        let mut found = self.gone.iter().rev();
        found.find(|record| record.spec.task_id == *id)
    }

    /// The task that was asked for with `token`, there or gone.
    #[must_use]
    pub fn by_token(&self, token: &ClientToken) -> Option<&TaskRecord> {
        let generation = *self.tokens.get(token)?;
        let mut all = self.live.values().chain(self.gone.iter().rev());
        all.find(|record| record.generation == generation)
    }

    /// Every task that is there, by id.
    pub fn live(&self) -> impl ExactSizeIterator<Item = &TaskRecord> {
        self.live.values()
    }

    /// Every task that has gone and is remembered, oldest end first.
    pub fn gone(&self) -> impl ExactSizeIterator<Item = &TaskRecord> {
        self.gone.iter()
    }

    /// What the tasks take up.
    #[must_use]
    pub fn occupied(&self) -> Arc<Occupied> {
        Arc::clone(&self.occupied)
    }

    /// Frees what has cooled for `cool_down_ms` at `now_ms`.
    pub fn free_cooled(&mut self, now_ms: u64, cool_down_ms: u64) {
        Arc::make_mut(&mut self.occupied).free_cooled(now_ms, cool_down_ms);
    }

    fn note_token(&mut self, record: &TaskRecord) {
        if let Some(token) = record.spec.client_token.clone() {
            let newest = self.tokens.entry(token).or_default();
            *newest = record.generation.max(*newest);
        }
    }

    fn bury(&mut self, record: TaskRecord) {
        let attachment = &record.eni.attachment_id;
        Arc::make_mut(&mut self.occupied).release(attachment, ended_at_ms(&record));
        self.note_token(&record);
        self.gone.push_back(record);
    }
}

fn ended_at_ms(record: &TaskRecord) -> u64 {
    let ended = record.life.entered_at_ms(AttachmentStatus::Deleted);
    ended.unwrap_or_else(|| record.life.created_at_ms())
}

#[cfg(test)]
#[path = "task_record_tests.rs"]
pub(crate) mod tests;
