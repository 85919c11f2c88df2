//! What happens to tasks, told to whoever listens: the states they enter and the steps they take.
//!
//! Nobody is waited for: a listener that is too slow loses events, and the gap in their numbers says so.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;

use crate::api::{Difference, Operation, Step, TaskEvent, TaskEventDetail};
use crate::fault::{self, StepError};
use crate::life::AttachmentStatus;
use crate::metrics::StepTimes;
use crate::server::causes;
use crate::spec::TaskId;
use crate::task_record::TaskRecord;

/// Events that a slow listener may be behind.
const BACKLOG: usize = 1_024;

/// Where events come from.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<Arc<TaskEvent>>,
    last: Arc<Mutex<u64>>,
    steps: StepTimes,
}

impl Events {
    /// Without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self::timing(StepTimes::default())
    }

    /// As [`Events::new`]; how long steps take is counted by `steps`.
    #[must_use]
    pub fn timing(steps: StepTimes) -> Self {
        Self {
            sender: broadcast::Sender::new(BACKLOG),
            last: Arc::default(),
            steps,
        }
    }

    /// Every event from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Arc<TaskEvent>> {
        self.sender.subscribe()
    }

    /// Tells that the attachment of `task` is in the state that its record says.
    pub fn state(&self, task: &TaskRecord) {
        let detail = TaskEventDetail::AttachmentStateChange {
            attachment_id: task.eni.attachment_id.clone(),
            status: task.status(),
            reason: task.life.stopped_reason.clone(),
        };
        self.tell(&task.spec.task_id, detail);
    }

    /// Tells that the network of a task was mended where it was different.
    pub fn mended(&self, task_id: &TaskId, differences: Vec<Difference>) {
        self.tell(task_id, TaskEventDetail::Mended { differences });
    }

    /// Tells that the ENI of `task` obeys the groups of its record from now on, and why if nobody asked for it here.
    pub fn groups(&self, task: &TaskRecord, reason: Option<&str>) {
        let detail = TaskEventDetail::SecurityGroupsChanged {
            security_groups: task.eni.groups.clone(),
            reason: reason.map(str::to_owned),
        };
        self.tell(&task.spec.task_id, detail);
    }

    fn tell(&self, task_id: &TaskId, detail: TaskEventDetail) {
        // Held while it is sent, so that listeners get the numbers in order.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        if self.sender.receiver_count() == 0 {
            return;
        }
        let event = TaskEvent {
            sequence: *last,
            at_ms: now_ms(),
            task_id: task_id.to_string(),
            detail,
        };
        // Fails only if the last listener has just gone.
        drop(self.sender.send(Arc::new(event)));
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

/// One operation on one task, step by step.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    events: &'a Events,
    task_id: &'a TaskId,
    operation: Operation,
}

impl<'a> Progress<'a> {
    /// Of an operation that begins.
    #[must_use]
    pub const fn new(events: &'a Events, task_id: &'a TaskId, operation: Operation) -> Self {
        Self {
            events,
            task_id,
            operation,
        }
    }

    /// Does `work`, and tells that it is `step`.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) fn step<T, E: StepError>(
        &self,
        step: Step,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let began = self.begin(step);
        let result = match fault::entered(self.operation, step) {
            Ok(()) => fault::left(self.operation, step, work()),
            Err(error) => Err(error),
        };
        self.end(step, began, result)
    }

    /// As [`Progress::step`], of work that waits for others.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) async fn long_step<T, E: StepError>(
        &self,
        step: Step,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = self.begin(step);
        let result = match fault::entered(self.operation, step) {
            Ok(()) => fault::left(self.operation, step, work.await),
            Err(error) => Err(error),
        };
        self.end(step, began, result)
    }

    fn begin(&self, step: Step) -> Instant {
        let operation = self.operation;
        let started = TaskEventDetail::StepStarted { operation, step };
        self.events.tell(self.task_id, started);
        Instant::now()
    }

    fn end<T, E: StepError>(
        &self,
        step: Step,
        began: Instant,
        result: Result<T, E>,
    ) -> Result<T, E> {
        let (operation, duration) = (self.operation, began.elapsed());
        let steps = &self.events.steps;
        steps.ended(operation, step, duration, result.is_err());
        tracing::debug!(task = %self.task_id, operation = operation.name(), step = step.name(), ?duration);
        let ended = TaskEventDetail::StepEnded {
            operation,
            step,
            duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            error: result.as_ref().err().map(|error| causes(error)),
        };
        self.events.tell(self.task_id, ended);
        result
    }
}

/// Enters `status` now, and tells so.
pub fn enter(events: &Events, task: &mut TaskRecord, status: AttachmentStatus) {
    task.life.enter(status, now_ms());
    events.state(task);
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::task_record::tests::record;

    #[test]
    fn a_step_is_told_before_and_after_with_its_error() {
        let events = Events::new();
        let id: TaskId = "web".parse().unwrap();
        let progress = Progress::new(&events, &id, Operation::Add);
        // Nobody hears this one, but it has a number.
        events.state(&record("web"));
        let mut listener = events.listen();
        let failed: Result<(), _> =
            progress.step(Step::Veth, || Err(std::io::Error::other("no veth")));
        assert!(failed.is_err());
        enter(&events, &mut record("web"), AttachmentStatus::Failed);
        let told: Vec<_> = std::iter::from_fn(|| listener.try_recv().ok()).collect();
        let numbers: Vec<_> = told.iter().map(|event| event.sequence).collect();
        assert_eq!(numbers, [2, 3, 4]);
        let TaskEventDetail::StepEnded { step, error, .. } = &told[1].detail else {
            panic!("{told:?}");
        };
        assert_eq!((*step, error.as_deref()), (Step::Veth, Some("no veth")));
        assert!(matches!(
            told[2].detail,
            TaskEventDetail::AttachmentStateChange {
                status: AttachmentStatus::Failed,
                ..
            }
        ));
    }
}
