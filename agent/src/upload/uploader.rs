//! The logs whose finished files are looked after: one task each, so that a destination that fails
//! holds up no other log's files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::destination::{Destination, Environment};
use super::journal::Journal;
use super::log::Log;
use super::work::{Work, locked};
use super::{RetentionConfig, UploadConfig, UploadError, UploadStatus};
use crate::state::Store;

/// A log whose finished files are looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    store: Arc<Store>,
    environment: Environment,
    running: Mutex<BTreeMap<String, Running>>,
}

/// A log's task.
struct Running {
    log: DeliveredLog,
    finished: mpsc::UnboundedSender<(String, u64)>,
    status: Arc<Mutex<UploadStatus>>,
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Uploads {
    /// No log yet; `environment` is for the destinations of those to come.
    #[must_use]
    pub fn new(store: Arc<Store>, environment: Environment) -> Self {
        Self {
            store,
            environment,
            running: Mutex::default(),
        }
    }

    /// Checks that the destinations of `logs` can be made out, which [`Uploads::apply`] would only try
    /// again and again.
    ///
    /// # Errors
    /// `Field` or `Open`.
    pub fn check<'a>(
        &self,
        logs: impl IntoIterator<Item = &'a DeliveredLog>,
    ) -> Result<(), UploadError> {
        for config in logs.into_iter().filter_map(|log| log.upload.as_ref()) {
            Destination::open(config, &self.environment)?;
        }
        Ok(())
    }

    /// Looks after `logs` instead of those before. A log that is as before goes on undisturbed; one that
    /// is new or changed starts with what lies in its folder and is not uploaded yet; of one that is
    /// gone, the files stay where they are. A destination or a folder that fails is logged and keeps
    /// nothing from running.
    ///
    /// # Errors
    /// `Stopped`: a task has panicked.
    pub async fn apply(&self, logs: Vec<DeliveredLog>) -> Result<(), UploadError> {
        let gone: Vec<Running> = self
            .running()
            .extract_if(.., |_, running| !logs.contains(&running.log))
            .map(|(_, running)| running)
            .collect();
        // Two tasks never have the same files.
        let ended = end(gone, Duration::ZERO).await;
        let mut running = self.running();
        for log in logs {
            if !running.contains_key(&log.flow_log_id) {
                running.insert(log.flow_log_id.clone(), self.start(log));
            }
        }
        ended
    }

    /// Hands over a finished file of `bytes` bytes at `relative` below its log's folder. Returns at once.
    /// What was handed over and not uploaded is found again by the next start.
    pub fn enqueue(&self, flow_log_id: &str, relative: &str, bytes: u64) {
        let running = self.running();
        let sender = running.get(flow_log_id).map(|running| &running.finished);
        let sent = sender.map(|sender| sender.send((relative.to_owned(), bytes)));
        if !matches!(sent, Some(Ok(()))) {
            tracing::debug!(
                flow_log = flow_log_id,
                file = relative,
                "left for the start of its log's uploads"
            );
        }
    }

    /// What became of each log's files, by log.
    #[must_use]
    pub fn status(&self) -> Vec<UploadStatus> {
        let read = |running: &Running| locked(&running.status).clone();
        self.running().values().map(read).collect()
    }

    /// Ends. What was handed over is uploaded first, as far as it goes in `patience`; then an upload
    /// on its way is cut off and taken up by the next start.
    ///
    /// # Errors
    /// `Stopped`: a task has panicked.
    pub async fn stop(&self, patience: Duration) -> Result<(), UploadError> {
        let all = std::mem::take(&mut *self.running());
        end(all.into_values().collect(), patience).await
    }

    fn start(&self, log: DeliveredLog) -> Running {
        let journal = Journal::new(Arc::clone(&self.store));
        let files = Log::new(log.clone(), self.environment.clone(), journal);
        let (finished, receiver) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(());
        let status = Arc::new(Mutex::new(files.status()));
        let work = Work::new(files, receiver, Arc::clone(&status));
        Running {
            log,
            finished,
            status,
            stop,
            task: tokio::spawn(work.run_until(stopped)),
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<String, Running>> {
        // Each change of the map is one call.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets tasks come to an end of their own within `patience`, and then cuts them off.
async fn end(running: Vec<Running>, patience: Duration) -> Result<(), UploadError> {
    let deadline = Instant::now() + patience;
    // Their senders go first, all of them: then no task waits for more files.
    let tasks: Vec<_> = running
        .into_iter()
        .map(|running| (running.task, running.stop))
        .collect();
    let mut result = Ok(());
    for (mut task, stop) in tasks {
        let ended = match timeout_at(deadline, &mut task).await {
            Ok(ended) => ended,
            Err(_) => {
                // Without a receiver it has ended already.
                stop.send_replace(());
                task.await
            }
        };
        result = result.and(ended.map_err(|_| UploadError::Stopped));
    }
    result
}
