//! When epochs end, when the flow logs take them in, and when entries are swept, on the agent's
//! runtime.
//!
//! The data plane is behind a std mutex: everything done under it is a system call or a few, never an
//! await, and runs on threads made for blocking. Never decides what is written; see `recorder`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::task::JoinHandle;

use super::identity::Identities;
use super::kernel::Live;
use super::ledger::End;
use super::recorder::Recorder;
use super::shelf::OnDisk;
use super::spool::Spool;
use super::{FlowLogError, sweep};
use crate::config::FlowRecordConfig;
use crate::datapath::{self, Datapath};
use crate::delivery::{
    FinishedFile, FlowLog, FlowLogs, FlowLogsError, LogState, OnDisk as LogGround, OnFinished,
    Site, check_all,
};
use crate::flow_log::IpRanges;
use crate::free_space::MinFreeSpace;
use crate::metrics::Traffic;
use crate::policy::RuleBook;
use crate::provider::RouteTables;
use crate::server::causes;
use crate::state::{RuleStore, Store};
use crate::upload::{DeliveredLog, Environment, UploadStatus, Uploads};

/// Longest sleep before the wall clock is read again: it may have been set.
const LOOK: Duration = Duration::from_secs(1);
/// How long the end waits for the last files' uploads.
const LAST_UPLOADS: Duration = Duration::from_secs(5);

/// What the exporter is told.
#[derive(Debug, Clone)]
pub struct ExporterSettings {
    /// Folder of the spool.
    pub spool: PathBuf,
    /// What is the same in every log.
    pub records: FlowRecordConfig,
    /// The logs of a host on which none were ever applied.
    pub logs: Vec<FlowLog>,
    /// What the numbers of rules mean.
    pub rules: RuleBook,
    /// Where packets and bytes of ENIs are added up.
    pub traffic: Traffic,
    /// Which way packets leave the VPC.
    pub routes: RouteTables,
    /// Which AWS service an address belongs to.
    pub ip_ranges: Arc<IpRanges>,
    /// For the destinations of finished files.
    pub environment: Environment,
}

/// The running flow logs. Dropped without [`Exporter::stop`], it leaves the current interval to the
/// next start.
pub struct Exporter {
    work: Arc<Work>,
    uploads: Arc<Uploads>,
    /// Held while other logs are put in force.
    applying: AsyncMutex<()>,
    stop: watch::Sender<()>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the exporter's tasks share.
struct Work {
    datapath: Arc<Mutex<Datapath>>,
    recorder: Recorder<Live, OnDisk>,
    logs: FlowLogs,
    /// Held while the programs are told what to count.
    counting: Mutex<()>,
    /// There is a new epoch in the spool.
    spooled: Notify,
    /// Why counts cannot be kept now.
    failing: Mutex<Option<String>>,
    /// When the clock was last looked at.
    looked: Mutex<Instant>,
}

impl Exporter {
    /// Goes on where the last agent stopped and starts the clock. `identities` has every ENI that is
    /// in a slot. To be called before a program is attached: in new maps it may number the epoch. A
    /// folder that cannot be written is logged, and does not keep the host from running.
    ///
    /// # Errors
    /// Each variant but `Stopped`.
    pub async fn start(
        datapath: Arc<Mutex<Datapath>>,
        store: Arc<Store>,
        rules: Arc<RuleStore>,
        settings: ExporterSettings,
        identities: Identities,
    ) -> Result<Self, FlowLogError> {
        let environment = settings.environment.clone();
        let uploads = Arc::new(Uploads::new(Arc::clone(&store), environment));
        let on_finished = on_finished(&uploads);
        let resume =
            move || Work::resume(datapath, store, rules, settings, identities, on_finished);
        let work = Arc::new(blocking(resume).await?);
        uploads.apply(work.delivered()).await?;
        let (stop, stopped) = watch::channel(());
        let tasks = vec![
            tokio::spawn(end_epochs(Arc::clone(&work), stopped.clone())),
            tokio::spawn(deliver_forever(Arc::clone(&work), stopped.clone())),
            tokio::spawn(sweep_forever(Arc::clone(&work), stopped)),
        ];
        Ok(Self {
            work,
            uploads,
            applying: AsyncMutex::default(),
            stop,
            tasks,
        })
    }

    /// Packets go by `routes` in what is recorded from now on.
    pub fn set_routes(&self, routes: RouteTables) {
        self.work.recorder.set_routes(routes);
    }

    /// Takes the counts of the ENI in `slot` out of the maps, keeps them until their interval's file
    /// is written, and frees the slot. To be called when no packet of the ENI can come any more, and
    /// again if the agent stopped in between: it counts once. Does what `Datapath::forget_eni` does.
    ///
    /// # Errors
    /// `Datapath` or `State`; to be repeated then.
    pub async fn retire(&self, slot: u32) -> Result<(), FlowLogError> {
        let work = Arc::clone(&self.work);
        blocking(move || work.recorder.retire(slot)).await
    }

    /// Ends the current epoch now, and every file; what was counted is safe when this returns. A
    /// log that cannot be written now is logged.
    ///
    /// # Errors
    /// As the end of any epoch; nothing is lost.
    pub async fn flush(&self) -> Result<(), FlowLogError> {
        let work = Arc::clone(&self.work);
        blocking(move || {
            work.recorder.end_interval(End::Flush)?;
            let written = work.recorder.written_epoch();
            Ok(work.logs.flush(written, Instant::now())?)
        })
        .await
    }

    /// Puts flow logs in force instead of those before. Files of a log that is gone stay, whether
    /// they are uploaded or not.
    ///
    /// # Errors
    /// `FlowLogs` or `Upload`; those before are in force still then, unless a task has panicked.
    /// `Datapath`: the logs are in force, and the services that they include are not counted before
    /// the next start.
    pub async fn apply(&self, logs: Vec<FlowLog>) -> Result<(), FlowLogError> {
        let _one_at_a_time = self.applying.lock().await;
        check_all(&logs).map_err(FlowLogsError::from)?;
        let delivered: Vec<DeliveredLog> = logs.iter().map(delivered).collect();
        self.uploads.check(&delivered)?;
        let work = Arc::clone(&self.work);
        blocking(move || {
            work.logs.apply(&logs, Instant::now())?;
            work.count_services()
        })
        .await?;
        Ok(self.uploads.apply(delivered).await?)
    }

    /// Ends the current interval and stops.
    ///
    /// # Errors
    /// What was counted last is not in the spool; the next start does it.
    pub async fn stop(mut self) -> Result<(), FlowLogError> {
        // Without receivers both tasks have ended already.
        self.stop.send_replace(());
        for task in std::mem::take(&mut self.tasks) {
            task.await.map_err(|_| FlowLogError::Stopped)?;
        }
        self.finish().await
    }

    /// As [`Exporter::flush`], and ends the uploads; what is not uploaded in a few seconds is left to
    /// the next start. To be called last.
    ///
    /// # Errors
    /// As [`Exporter::flush`], or an upload's task has panicked.
    pub async fn finish(&self) -> Result<(), FlowLogError> {
        let flushed = self.flush().await;
        let ended = self.uploads.stop(LAST_UPLOADS).await;
        flushed.and(ended.map_err(FlowLogError::from))
    }

    /// The flow logs and what they have written.
    #[must_use]
    pub fn logs(&self) -> Vec<LogState> {
        self.work.logs.describe()
    }

    /// As [`Exporter::logs`]; `None` if a slow disk keeps them busy for longer than `patience`.
    pub async fn logs_within(&self, patience: Duration) -> Option<Vec<LogState>> {
        let work = Arc::clone(&self.work);
        let describe = blocking(move || Ok(work.logs.describe()));
        tokio::time::timeout(patience, describe).await.ok()?.ok()
    }

    /// How long ago the clock of the epochs was last looked at; a second or two, unless an epoch's
    /// end takes longer.
    #[must_use]
    pub fn silence(&self) -> Duration {
        held(&self.work.looked).elapsed()
    }

    /// Why counts cannot be kept now, and wait in the kernel.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        held(&self.work.failing).clone()
    }

    /// What became of each log's finished files.
    #[must_use]
    pub fn uploads(&self) -> Vec<UploadStatus> {
        self.uploads.status()
    }
}

impl Work {
    fn resume(
        datapath: Arc<Mutex<Datapath>>,
        store: Arc<Store>,
        rules: Arc<RuleStore>,
        settings: ExporterSettings,
        identities: Identities,
        on_finished: OnFinished,
    ) -> Result<Self, FlowLogError> {
        let min_free = MinFreeSpace::percent(settings.records.min_free_space_percent);
        let spool = Spool::new(settings.spool, min_free);
        let prepared = spool.prepare();
        let shelf = OnDisk {
            store: Arc::clone(&store),
            rules,
            spool: spool.clone(),
        };
        let recorder = Recorder::resume(
            Live::new(Arc::clone(&datapath)),
            shelf,
            identities,
            settings.rules,
            settings.routes,
        )?
        .adding_up(settings.traffic);
        let written = recorder.written_epoch();
        let site = Site {
            account_id: settings.records.account_id,
            region: settings.records.region,
            ip_ranges: settings.ip_ranges,
        };
        let bytes = settings.records.spool_max_bytes;
        let ground = LogGround {
            store,
            min_free,
            on_finished,
        };
        let configured = settings.logs;
        let logs = FlowLogs::resume(ground, spool, bytes, site, configured, written)?;
        let work = Self {
            datapath,
            recorder,
            logs,
            counting: Mutex::new(()),
            spooled: Notify::new(),
            failing: Mutex::default(),
            looked: Mutex::new(Instant::now()),
        };
        work.count_services()?;
        let prepared = prepared.map_err(FlowLogError::from);
        work.log(prepared.and_then(|()| work.recorder.catch_up()));
        work.spooled.notify_one();
        Ok(work)
    }

    /// The logs in force, as their uploads see them.
    fn delivered(&self) -> Vec<DeliveredLog> {
        let states = self.logs.describe();
        states.iter().map(|state| delivered(&state.log)).collect()
    }

    /// Lets the programs count what the logs in force include.
    fn count_services(&self) -> Result<(), FlowLogError> {
        // Of two calls, the one that reads later writes later. The logs may be busy with a slow
        // disk, for which the data plane does not wait.
        let _alone = held(&self.counting);
        let services = self.logs.services();
        Ok(datapath::lock(&self.datapath).set_services(&services)?)
    }

    /// Sleeps until the wall clock shows `due`, or was set back by more than an interval.
    async fn sleep_until(&self, due: Duration, interval: u64) {
        loop {
            *held(&self.looked) = Instant::now();
            let left = due.saturating_sub(unix_time());
            if left.is_zero() || left > Duration::from_secs(interval) {
                return;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }

    /// Logs where failing begins and ends.
    fn log(&self, result: Result<(), FlowLogError>) {
        let failing = result.as_ref().err().map(|error| causes(error));
        let was_failing = std::mem::replace(&mut *held(&self.failing), failing).is_some();
        match result {
            Ok(()) if was_failing => tracing::info!("flow counts are kept again"),
            Ok(()) => {}
            Err(error) if was_failing => {
                tracing::debug!(error = causes(&error), "flow counts still wait");
            }
            Err(error) => tracing::warn!(error = causes(&error), "flow counts wait in the kernel"),
        }
    }
}

fn delivered(log: &FlowLog) -> DeliveredLog {
    DeliveredLog {
        flow_log_id: log.flow_log_id.clone(),
        dir: log.dir.clone(),
        upload: log.upload.clone(),
        retention: log.retention.clone(),
    }
}

/// Hands finished files over to `uploads`.
fn on_finished(uploads: &Arc<Uploads>) -> OnFinished {
    let uploads = Arc::clone(uploads);
    Arc::new(move |file: FinishedFile<'_>| {
        uploads.enqueue(file.flow_log_id, file.relative, file.bytes);
    })
}

async fn end_epochs(work: Arc<Work>, mut stopped: watch::Receiver<()>) {
    loop {
        let interval = work.logs.epoch_seconds();
        let due = next_boundary(unix_time(), interval);
        tokio::select! {
            () = work.sleep_until(due, interval) => {}
            _ = stopped.changed() => return,
        }
        let work = Arc::clone(&work);
        let end = blocking(move || {
            work.log(work.recorder.end_interval(End::Due { interval }));
            work.spooled.notify_one();
            Ok(())
        });
        if let Err(error) = end.await {
            tracing::error!(error = causes(&error), "end a flow-log interval");
        }
    }
}

/// Apart from the epochs' ends, which a slow disk must not hold up.
async fn deliver_forever(work: Arc<Work>, mut stopped: watch::Receiver<()>) {
    loop {
        tokio::select! {
            () = work.spooled.notified() => {}
            _ = stopped.changed() => return,
        }
        let work = Arc::clone(&work);
        let delivered = blocking(move || {
            let written = work.recorder.written_epoch();
            Ok(work.logs.deliver(written, Instant::now())?)
        });
        if let Err(error) = delivered.await {
            tracing::warn!(error = causes(&error), "hand flow counts to the flow logs");
        }
    }
}

async fn sweep_forever(work: Arc<Work>, mut stopped: watch::Receiver<()>) {
    let mut spent = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(sweep::pause(spent)) => {}
            _ = stopped.changed() => return,
        }
        let sweeper = Arc::clone(&work);
        let swept = blocking(move || {
            let removed = sweeper.recorder.sweep();
            Ok((removed, sweeper.recorder.take_spent()))
        });
        match swept.await {
            Ok((Ok(removed), took)) => {
                spent = took;
                tracing::debug!(removed, ?took, "swept connections and rows");
            }
            Ok((Err(error), took)) => {
                spent = took;
                tracing::warn!(error = causes(&error), "sweep connections and rows");
            }
            Err(error) => tracing::warn!(error = causes(&error), "sweep connections and rows"),
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first multiple of `interval` seconds after `now`, both since 1970.
fn next_boundary(now: Duration, interval: u64) -> Duration {
    Duration::from_secs((now.as_secs() / interval + 1) * interval)
}

fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FlowLogError> + Send + 'static,
) -> Result<T, FlowLogError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| FlowLogError::Stopped)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_end_at_multiples_since_1970() {
        let at = Duration::from_millis;
        for (now, interval, expected) in [
            (59_999, 60, 60),
            (60_000, 60, 120),
            (61_500, 1, 62),
            (601_000, 600, 1_200),
        ] {
            assert_eq!(
                next_boundary(at(now), interval),
                Duration::from_secs(expected)
            );
        }
    }
}
