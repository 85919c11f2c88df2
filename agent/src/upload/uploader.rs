//! When files are uploaded and removed: one task per log, so that a destination that fails holds up no
//! other log's files. Never decides what is due; see `plan`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::destination::{Destination, Environment};
use super::journal::Journal;
use super::log::{Log, Step};
use super::plan::Limits;
use super::{RetentionConfig, UploadConfig, UploadError, UploadStatus};
use crate::server::causes;
use crate::state::Store;

/// First and longest pause before a failed destination is tried again.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// How often retention is looked after without anything new.
const LOOK: Duration = Duration::from_secs(300);

/// A log whose finished files are looked after.
#[derive(Debug, Clone)]
pub struct DeliveredLog {
    /// Its id, as in its files' names.
    pub flow_log_id: String,
    /// Its folder; logs may share one.
    pub dir: PathBuf,
    /// Where its files go, if anywhere.
    pub upload: Option<UploadConfig>,
    /// How long they stay.
    pub retention: RetentionConfig,
}

/// The running uploads. Dropped without [`Uploads::stop`], they end at once; what was on its way is taken
/// up by the next start.
pub struct Uploads {
    finished: BTreeMap<String, mpsc::UnboundedSender<(String, u64)>>,
    statuses: BTreeMap<String, Arc<Mutex<UploadStatus>>>,
    stop: watch::Sender<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl Uploads {
    /// Starts with what lies in each log's folder and is not uploaded yet. A destination or a folder
    /// that fails is logged and does not keep anything from running.
    ///
    /// # Errors
    /// `Field` or `Open`: a destination cannot be made out.
    pub fn start(
        store: Arc<Store>,
        logs: Vec<DeliveredLog>,
        environment: &Environment,
    ) -> Result<Self, UploadError> {
        let mut opened = Vec::new();
        for log in logs {
            let config = log.upload.as_ref();
            let destination = config.map(|config| Destination::open(config, environment));
            let limits = Limits {
                backlog_max_bytes: config.map(|config| config.backlog_max_bytes),
                max_age: log.retention.max_age,
                max_bytes: log.retention.max_bytes,
            };
            let journal = Journal::new(Arc::clone(&store));
            opened.push(Log::new(
                log.flow_log_id,
                log.dir,
                destination.transpose()?,
                limits,
                journal,
            ));
        }
        let (stop, stopped) = watch::channel(());
        let mut uploads = Self {
            finished: BTreeMap::new(),
            statuses: BTreeMap::new(),
            stop,
            tasks: Vec::new(),
        };
        for log in opened {
            let (sender, receiver) = mpsc::unbounded_channel();
            let status = Arc::new(Mutex::new(log.status()));
            uploads.finished.insert(log.flow_log_id.clone(), sender);
            uploads
                .statuses
                .insert(log.flow_log_id.clone(), Arc::clone(&status));
            let work = Work {
                log,
                finished: receiver,
                status,
                failures: 0,
            };
            uploads
                .tasks
                .push(tokio::spawn(work.run_until(stopped.clone())));
        }
        Ok(uploads)
    }

    /// Hands over a finished file of `bytes` bytes at `relative` below its log's folder. Returns at once.
    /// What was handed over and not uploaded is found again by the next start.
    pub fn enqueue(&self, flow_log_id: &str, relative: &str, bytes: u64) {
        let sender = self.finished.get(flow_log_id);
        let sent = sender.map(|sender| sender.send((relative.to_owned(), bytes)));
        if !matches!(sent, Some(Ok(()))) {
            tracing::warn!(
                flow_log = flow_log_id,
                file = relative,
                "no log of this id is uploaded"
            );
        }
    }

    /// What became of each log's files, by log.
    #[must_use]
    pub fn status(&self) -> Vec<UploadStatus> {
        let read = |status: &Arc<Mutex<UploadStatus>>| locked(status).clone();
        self.statuses.values().map(read).collect()
    }

    /// Ends; an upload on its way is cut off and taken up by the next start.
    ///
    /// # Errors
    /// A task has panicked.
    pub async fn stop(mut self) -> Result<(), UploadError> {
        // Without receivers all tasks have ended already.
        self.stop.send_replace(());
        for task in std::mem::take(&mut self.tasks) {
            task.await.map_err(|_| UploadError::Stopped)?;
        }
        Ok(())
    }
}

/// One log's task.
struct Work {
    log: Log,
    finished: mpsc::UnboundedReceiver<(String, u64)>,
    status: Arc<Mutex<UploadStatus>>,
    /// How often in a row it failed.
    failures: u32,
}

impl Work {
    async fn run_until(mut self, mut stopped: watch::Receiver<()>) {
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
            tokio::time::sleep(pause(self.failures, spread())).await;
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
                0 => self.wait(LOOK).await,
                _ => self.back_off().await,
            }
        }
    }

    /// Waits for a finished file, or for `time`.
    async fn wait(&mut self, time: Duration) {
        // All senders gone: the owner was dropped, and `stopped` ends this task.
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
        let flow_log = self.log.flow_log_id.as_str();
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
fn locked(status: &Mutex<UploadStatus>) -> std::sync::MutexGuard<'_, UploadStatus> {
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
