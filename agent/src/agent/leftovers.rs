//! What could not be undone is tried again, rarer and rarer, until it is: nobody has to ask for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Agent;
use crate::spec::TaskId;
use crate::task_record::TaskRecord;

/// Before the first attempt, and at most before any.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// When a task's removal is tried again, by its id and generation.
#[derive(Default)]
struct Attempts(BTreeMap<(TaskId, u64), Attempt>);

#[derive(Clone, Copy)]
struct Attempt {
    at: Instant,
    pause: Duration,
}

impl Agent {
    /// Tries again to remove what is left of tasks, for ever.
    pub(super) async fn retry_removals(self: Arc<Self>) {
        let mut attempts = Attempts::default();
        loop {
            match attempts.keep(&self.left_over(), Instant::now()) {
                Some(at) => {
                    tokio::select! {
                        () = sleep_until(at) => {}
                        () = self.left.notified() => {}
                    }
                }
                None => self.left.notified().await,
            }
            for task in self.left_over() {
                if attempts.is_due(&task, Instant::now()) {
                    self.retry_removal(&task).await;
                }
            }
        }
    }

    async fn retry_removal(&self, task: &TaskRecord) {
        let turn = self.turn(&task.spec.task_id);
        // Whoever has the turn sees to it.
        let Ok(_turn) = turn.try_lock() else { return };
        let now = self.tasks.task(&task.spec.task_id);
        if let Some(now) = now.filter(|now| now.generation == task.generation && is_left(now)) {
            tracing::info!(task = %now.spec.task_id, "what is left of it is removed again");
            self.undo(now).await;
        }
    }

    fn left_over(&self) -> Vec<TaskRecord> {
        let table = self.tasks.table();
        table.live().filter(|task| is_left(task)).cloned().collect()
    }
}

/// Neither there nor on its way.
fn is_left(task: &TaskRecord) -> bool {
    !task.is_attached() && !task.is_on_its_way()
}

impl Attempts {
    /// Forgets those that are done and knows those that are new; when the next is due.
    fn keep(&mut self, left: &[TaskRecord], now: Instant) -> Option<Instant> {
        self.0
            .retain(|key, _| left.iter().any(|task| *key == self::key(task)));
        for task in left {
            let first = Attempt {
                at: now + FIRST_PAUSE,
                pause: FIRST_PAUSE,
            };
            self.0.entry(key(task)).or_insert(first);
        }
        self.0.values().map(|attempt| attempt.at).min()
    }

    /// Whether its time has come; the next one comes later.
    fn is_due(&mut self, task: &TaskRecord, now: Instant) -> bool {
        let Some(attempt) = self.0.get_mut(&key(task)) else {
            return false;
        };
        let is_due = attempt.at <= now;
        if is_due {
            attempt.pause = (attempt.pause * 2).min(LONGEST_PAUSE);
            attempt.at = now + attempt.pause;
        }
        is_due
    }
}

fn key(task: &TaskRecord) -> (TaskId, u64) {
    (task.spec.task_id.clone(), task.generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task_record::tests::record;

    #[test]
    fn attempts_become_rarer_and_end_with_their_task() {
        let now = Instant::now();
        let (task, mut attempts) = (record("web"), Attempts::default());
        let left = std::slice::from_ref(&task);
        let mut at = attempts.keep(left, now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let due = at.unwrap_or(now);
            assert!(!attempts.is_due(&task, due - Duration::from_millis(1)));
            assert!(attempts.is_due(&task, due));
            at = attempts.keep(left, due);
            pauses.extend(at.map(|next| (next - due).as_secs()));
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(attempts.keep(&[], now), None);
        let again = TaskRecord {
            generation: task.generation + 1,
            ..task
        };
        assert_eq!(attempts.keep(&[again], now), Some(now + FIRST_PAUSE));
    }
}
