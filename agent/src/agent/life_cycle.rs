//! A task's way from a wish to a network and back: what is stored before it is done, and undone if it fails.

use std::{
    path::Path,
    sync::{Arc, PoisonError},
};

use tokio::sync::Mutex as AsyncMutex;

use super::{Agent, requests::failed};
use crate::{
    api::{Operation, Step},
    eni_settings,
    field_error::FieldError,
    life::{AttachmentStatus, Life},
    netns::Netns,
    progress::{Progress, enter, now_ms},
    provider::{Eni, EniRequest, Occupied, ProviderError, local::new_attachment_id},
    security_groups::Directory,
    server::{Added, ControlError, causes},
    spec::{TaskId, TaskSpec},
    state::StateError,
    task::{self, SetUpError},
    task_files::FilePlaces,
    task_record::TaskRecord,
};

impl Agent {
    /// Makes the network of a task that is stored, and notes that it is there: an agent that is killed before that is
    /// stored finds it out by the host's end, which is up.
    pub(super) async fn make(&self, record: TaskRecord) -> Result<TaskRecord, ControlError> {
        let set_up = task::set_up(&self.host, &record).await;
        let link = set_up.map_err(|error| not_set_up(&record, error))?;
        let mut attached = record;
        attached.life.enter(AttachmentStatus::Attached, now_ms());
        self.tasks.update_later(&attached).map_err(failed)?;
        self.begin_care(&attached, &link);
        self.host.events.state(&attached);
        tracing::info!(task = %attached.spec.task_id, eni = %attached.eni.eni_id, "added");
        Ok(attached)
    }

    /// Removes what is left of an earlier task of this id; whoever calls has its turn.
    pub(super) async fn finish_removal(&self, id: &TaskId) -> Result<(), ControlError> {
        let Some(left) = self.tasks.task(id).filter(|task| !task.is_attached()) else {
            return Ok(());
        };
        self.undo(left).await;
        if self.tasks.task(id).is_none() {
            return Ok(());
        }
        Err(ControlError::Conflict(format!(
            "taskId: the earlier task {id} could not be removed completely and will be tried again; \
             see the agent's log for what is left"
        )))
    }

    pub(super) fn turn(&self, id: &TaskId) -> Arc<AsyncMutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(busy.entry(id.clone()).or_default())
    }

    /// The answer to a request that was made before, or whose task is there already.
    pub(super) fn known(&self, spec: &TaskSpec) -> Option<Result<Added, ControlError>> {
        let table = self.tasks.table();
        let by_token = spec.client_token.as_ref();
        if let Some(record) = by_token.and_then(|token| table.by_token(token)) {
            let id = &record.spec.task_id;
            if !record.spec.is_same_wish(spec) {
                return Some(Err(ControlError::Conflict(format!(
                    "clientToken: it was used for task {id} with another specification; use a new one"
                ))));
            }
            // One that was never there may be tried again with its token.
            let was_there = record
                .life
                .entered_at_ms(AttachmentStatus::Attached)
                .is_some();
            if record.status() == AttachmentStatus::Deleted && was_there {
                return Some(Err(ControlError::Conflict(format!(
                    "clientToken: task {id}, which this request made, has gone; use a new token \
                     to make it again"
                ))));
            }
        }
        let existing = table.get(&spec.task_id)?;
        let id = &spec.task_id;
        if !existing.is_attached() {
            return None;
        }
        if !existing.spec.is_same_wish(spec) {
            return Some(Err(ControlError::Conflict(format!(
                "taskId: task {id} exists with another specification; remove it first \
                 (branchline task rm {id}) or choose another taskId"
            ))));
        }
        Some(Ok(Added::Existing(self.describe(existing))))
    }

    /// Chooses an ENI for a task and stores both before anything is done on the host.
    pub(super) async fn allocate(&self, spec: &TaskSpec) -> Result<TaskRecord, ControlError> {
        let handed_in = spec.network_namespace.as_ref();
        let netns = task::netns_path(&self.config.netns_dir, spec.task_id.as_str(), handed_in);
        // What a task's own namespace is made over would go when the task goes.
        if handed_in.is_none() && !Netns::is_free(&netns).map_err(failed)? {
            return Err(taken(&netns));
        }
        let mut life = Life::begin(now_ms());
        let _one_at_a_time = self.allocation.lock().await;
        let eni = self.choose_eni(spec).await?;
        for status in [AttachmentStatus::Created, AttachmentStatus::Attaching] {
            life.enter(status, now_ms());
        }
        let is_own = handed_in.is_none();
        let id = spec.task_id.as_str();
        let record = TaskRecord {
            spec: spec.clone(),
            dns: self.host.provider.vpc().task_dns(&eni),
            files: FilePlaces::choose(&self.host.folders, id, &netns, is_own),
            netns,
            owned_netns: is_own,
            host_link: eni.host_link_name(),
            eni,
            wanted_groups: None,
            life,
            generation: 0,
        };
        let record = self.tasks.insert(record).map_err(failed)?;
        self.host.events.state(&record);
        Ok(record)
    }

    /// Whether there would be an ENI for a task; the caller holds `allocation`.
    pub(super) async fn try_eni(&self, spec: &TaskSpec) -> Result<(), ControlError> {
        let (request, directory, occupied) = self.eni_request(spec)?;
        let provider = &self.host.provider;
        let tried = provider.try_allocate(&request, &directory, &occupied).await;
        tried.map_err(refused)
    }

    /// An ENI for a task that no other task has, whose groups' rules are in force; the caller holds `allocation`.
    async fn choose_eni(&self, spec: &TaskSpec) -> Result<Eni, ControlError> {
        let (request, directory, occupied) = self.eni_request(spec)?;
        let provider = &self.host.provider;
        let allocated = provider.allocate(&request, &directory, &occupied).await;
        let eni = allocated.map_err(refused)?;
        if let Err(error) = self.know_groups(&eni.groups).await {
            if let Err(error) = provider.release(&eni).await {
                tracing::error!(eni = eni.eni_id, error = %causes(&error), "left behind");
            }
            return Err(error);
        }
        Ok(eni)
    }

    fn eni_request(
        &self,
        spec: &TaskSpec,
    ) -> Result<(EniRequest, Arc<Directory>, Arc<Occupied>), ControlError> {
        eni_settings::check(&self.config.conntrack, spec.network_interface_attributes())
            .map_err(ControlError::Invalid)?;
        let awsvpc = spec.awsvpc();
        let request = EniRequest {
            attachment_id: new_attachment_id().map_err(failed)?,
            subnets: awsvpc.subnets.clone(),
            security_groups: awsvpc.security_groups.clone(),
        };
        let directory = Arc::clone(self.host.plugs().policies().directory());
        let mut table = self.tasks.table();
        table.free_cooled(now_ms(), self.config.cool_down_ms());
        Ok((request, directory, table.occupied()))
    }

    /// Leaves nothing of a task whose set-up failed or that has gone.
    pub(super) async fn undo(&self, record: TaskRecord) {
        let id = &record.spec.task_id;
        self.care.end(id);
        let left = task::tear_down(&self.host, &record).await;
        for error in &left {
            tracing::error!(task = %id, error = %causes(error), "left behind");
        }
        // What could not be undone stays in the store, to be tried again.
        let stored = if left.is_empty() {
            self.forget(record.clone())
        } else {
            self.tasks.update(&record)
        };
        if let Err(error) = &stored {
            tracing::error!(task = %id, error = %causes(error), "left in the store");
        }
        if stored.is_err() || !left.is_empty() {
            self.left.notify_one();
        }
    }

    /// Nothing is left of a task but the memory of it.
    pub(super) fn forget(&self, mut record: TaskRecord) -> Result<(), StateError> {
        let events = self.host.events.clone();
        enter(&events, &mut record, AttachmentStatus::Detached);
        let id = record.spec.task_id.clone();
        let progress = Progress::new(&events, &id, Operation::Remove);
        progress.step(Step::Forget, || {
            record.life.enter(AttachmentStatus::Deleted, now_ms());
            self.tasks.end(&record, now_ms())
        })?;
        events.state(&record);
        tracing::info!(task = %id, eni = %record.eni.eni_id, "removed");
        Ok(())
    }
}

/// A namespace that cannot be used is the request's fault if the request named it.
fn not_set_up(record: &TaskRecord, error: SetUpError) -> ControlError {
    let field = "networkNamespace";
    let fix = "name an existing network namespace, as /run/netns/NAME";
    if matches!(error, SetUpError::HostNetns) {
        let problem = format!("{} is the host's own", record.netns.display());
        return ControlError::Invalid(FieldError::new(field, problem, fix));
    }
    if let SetUpError::Netns { path, source } = &error
        && !record.owned_netns
    {
        let problem = format!("{}: {}", path.display(), causes(source));
        return ControlError::Invalid(FieldError::new(field, problem, fix));
    }
    failed(error)
}

fn taken(netns: &Path) -> ControlError {
    let path = netns.display();
    ControlError::Conflict(format!(
        "taskId: {path} is there already and no task's; remove it, choose another taskId, \
         or hand it in as networkNamespace"
    ))
}

pub(super) fn refused(error: ProviderError) -> ControlError {
    match error {
        ProviderError::Invalid(error) => ControlError::Invalid(error),
        ProviderError::Exhausted(text) => ControlError::Exhausted(text),
        ProviderError::Failed { .. } => failed(error),
    }
}
