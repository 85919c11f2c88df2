//! When one log's files are uploaded and removed: at once while all is well, after a pause if not.
//! Never decides what is due; see `plan`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};

use super::log::{Log, Step};
use super::{UploadError, UploadStatus};
use crate::server::causes;

/// First and longest pause before a failed destination is tried again.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// How often retention is looked after without anything new.
const LOOK: Duration = Duration::from_secs(300);

/// One log's task.
pub(super) struct Work {
    log: Log,
    finished: mpsc::UnboundedReceiver<(String, u64)>,
    status: Arc<Mutex<UploadStatus>>,
    /// How often in a row it failed.
    failures: u32,
}

impl Work {
    pub(super) fn new(
        log: Log,
        finished: mpsc::UnboundedReceiver<(String, u64)>,
        status: Arc<Mutex<UploadStatus>>,
    ) -> Self {
        Self {
            log,
            finished,
            status,
            failures: 0,
        }
    }

    /// Runs until `stopped` says so, where it is cut off; or, once nobody can hand over files any
    /// more, until nothing is due or something fails.
    pub(super) async fn run_until(mut self, mut stopped: watch::Receiver<()>) {
        tokio::select! {
            () = self.run() => {}
            _ = stopped.changed() => {}
        }
    }

    async fn run(&mut self) {
        loop {
            let taken_up = self.log.take_up().await;
            let is_taken_up = taken_up.is_ok();
            self.note(taken_up);
            if is_taken_up {
                break;
            }
            if self.finished.is_closed() {
                return;
            }
            self.back_off().await;
        }
        loop {
            while let Ok((relative, bytes)) = self.finished.try_recv() {
                self.log.enqueue(&relative, bytes);
            }
            self.publish();
            let (removed, uploaded) = self.log.step().await;
            // While files are uploaded, what cannot be removed is no reason to pause.
            let is_done = matches!(uploaded, Ok(Step::Done));
            self.note(uploaded.map(drop).and(removed));
            match self.failures {
                _ if is_done => {}
                _ if self.finished.is_closed() && self.finished.is_empty() => return,
                0 => self.wait(LOOK).await,
                _ => self.back_off().await,
            }
        }
    }

    /// Waits for a finished file, or for `time`.
    async fn wait(&mut self, time: Duration) {
        if let Ok(Some((relative, bytes))) = tokio::time::timeout(time, self.finished.recv()).await
        {
            self.log.enqueue(&relative, bytes);
        }
    }

    /// Waits until the destination is to be tried again. Files that finish meanwhile are kept, within
    /// the backlog's bound at the next attempt.
    async fn back_off(&mut self) {
        let end = tokio::time::Instant::now() + pause(self.failures, spread());
        while let Ok(Some((relative, bytes))) =
            tokio::time::timeout_at(end, self.finished.recv()).await
        {
            self.log.enqueue(&relative, bytes);
            self.publish();
        }
    }

    /// Logs where failing begins and ends.
    fn note(&mut self, result: Result<(), UploadError>) {
        let flow_log = self.log.flow_log_id().to_owned();
        let was_failing = self.failures > 0;
        match result {
            Ok(()) => {
                self.failures = 0;
                if was_failing {
                    tracing::info!(flow_log, "flow-log files are uploaded again");
                    self.log.set_error(None);
                }
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let error = causes(&error);
                if was_failing {
                    tracing::debug!(flow_log, error, "flow-log files still wait");
                } else {
                    tracing::warn!(flow_log, error, "flow-log files wait");
                }
                self.log.set_error(Some(error));
            }
        }
        self.publish();
    }

    fn publish(&self) {
        *locked(&self.status) = self.log.status();
    }
}

/// The pause after `failures` failures in a row: doubled each time within [`PAUSE`], less up to a half
/// of it by `spread` (of 256), so that hosts that failed together do not come back together.
fn pause(failures: u32, spread: u8) -> Duration {
    let doubled = PAUSE
        .start()
        .saturating_mul(1 << failures.saturating_sub(1).min(16));
    let longest = doubled.min(*PAUSE.end());
    longest - longest / 512 * u32::from(spread)
}

/// The clock's fastest digits: as good as random here.
fn spread() -> u8 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let [_, _, byte, _] = now.unwrap_or_default().subsec_nanos().to_be_bytes();
    byte
}

/// A status is whole at any time, also after a panic.
pub(super) fn locked(status: &Mutex<UploadStatus>) -> std::sync::MutexGuard<'_, UploadStatus> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_bound() {
        let seconds = |failures| pause(failures, 0).as_secs();
        let all: Vec<u64> = [1, 2, 3, 4, 9, 10, 40, u32::MAX].map(seconds).into();
        assert_eq!(all, [1, 2, 4, 8, 256, 300, 300, 300]);
        assert!(pause(10, 255) >= Duration::from_secs(150));
        assert!(pause(10, 255) < Duration::from_secs(151));
    }
}
