//! Who follows, and the one walker that serves them all: it starts with the first and stops with
//! the last.
//!
//! Never waits for a follower: who is too slow loses events and learns how many.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, watch};

use super::diff::{Diff, Flowing, What};
use super::event::{Ending, LiveEvent};
use super::kernel::{Loaded, Moment, Source};
use super::query::Query;
use super::rates::{FlowRates, rates};
use crate::datapath::{Datapath, DatapathError};
use crate::flows::{Identities, Identity};
use crate::server::causes;

/// Time from one walk to the next.
const PERIOD: Duration = Duration::from_secs(1);
/// A walk that takes long is followed by a pause of so many times its length less one: at most 1/50
/// of the time is spent walking.
const SHARE: u32 = 50;
/// Walks whose events wait for a slow follower.
const BACKLOG: usize = 8;

/// Followed flows; clones share the walker.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    source: Arc<dyn Source>,
    identities: Identities,
    period: Duration,
    /// Followers that ask for rates.
    measuring: AtomicUsize,
    walker: Mutex<Option<Walker>>,
}

/// The walker as followers find it.
struct Walker {
    steps: broadcast::Sender<Arc<Step>>,
    progress: watch::Receiver<Progress>,
    /// Events sent so far.
    sent: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    FirstWalk,
    Walking,
    Failed(String),
}

/// Why flows cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("read the tables of flows: {0}")]
pub struct FollowError(String);

/// What one walk found.
#[derive(Debug)]
pub struct Step {
    /// What happened since the walk before.
    pub events: Vec<LiveEvent>,
    /// Number of the first event.
    first: u64,
    measured: Option<Measured>,
}

#[derive(Debug)]
struct Measured {
    flowing: Vec<Flowing>,
    owners: BTreeMap<u32, Identity>,
    time_ms: u64,
    seconds: f64,
}

/// What a follower receives.
#[derive(Debug)]
pub enum Received {
    /// A walk.
    Step(Arc<Step>),
    /// Events that it was too slow for.
    Lost(u64),
}

/// One who follows, until it is dropped.
pub struct Follower {
    inner: Arc<Inner>,
    steps: broadcast::Receiver<Arc<Step>>,
    /// Number of the event that comes next.
    next: u64,
    waiting: Option<Arc<Step>>,
    is_measuring: bool,
}

impl Live {
    /// Follows the flows of a loaded data plane. `interval` is the flow log's: the walks are close
    /// enough that no count is emptied before it was seen.
    #[must_use]
    pub fn new(datapath: Arc<Mutex<Datapath>>, identities: Identities, interval: Duration) -> Self {
        let source = Arc::new(Loaded::new(datapath));
        Self::over(source, identities, PERIOD.min(interval / 2))
    }

    /// Follows the flows of `source`, walking every `period`.
    #[must_use]
    pub fn over(source: Arc<dyn Source>, identities: Identities, period: Duration) -> Self {
        Self(Arc::new(Inner {
            source,
            identities,
            period,
            measuring: AtomicUsize::new(0),
            walker: Mutex::new(None),
        }))
    }

    /// Follows from now on: what happens after this returns is told. Events, or rates as well.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub async fn follow(&self, is_measuring: bool) -> Result<Follower, FollowError> {
        let (follower, mut progress) = self.0.join(is_measuring);
        let reached = progress
            .wait_for(|progress| *progress != Progress::FirstWalk)
            .await
            .map(|progress| progress.clone());
        match reached {
            Ok(Progress::Walking | Progress::FirstWalk) => Ok(follower),
            Ok(Progress::Failed(why)) => Err(FollowError(why)),
            Err(_) => Err(FollowError("the walk ended".to_owned())),
        }
    }

    /// Whether tables are being walked.
    #[must_use]
    pub fn is_walking(&self) -> bool {
        self.0.walker().is_some()
    }
}

impl Inner {
    fn walker(&self) -> MutexGuard<'_, Option<Walker>> {
        // Every change is one step, so a panic elsewhere leaves nothing half done.
        self.walker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>, is_measuring: bool) -> (Follower, watch::Receiver<Progress>) {
        if is_measuring {
            self.measuring.fetch_add(1, Ordering::Relaxed);
        }
        let mut walker = self.walker();
        let walker = walker.get_or_insert_with(|| self.start());
        let follower = Follower {
            inner: Arc::clone(self),
            steps: walker.steps.subscribe(),
            next: walker.sent,
            waiting: None,
            is_measuring,
        };
        (follower, walker.progress.clone())
    }

    fn start(self: &Arc<Self>) -> Walker {
        let (steps, _) = broadcast::channel(BACKLOG);
        let (report, progress) = watch::channel(Progress::FirstWalk);
        tokio::spawn(walk(Arc::clone(self), report));
        Walker {
            steps,
            progress,
            sent: 0,
        }
    }

    /// Ends the walker if nobody follows any more.
    fn is_alone(&self) -> bool {
        let mut walker = self.walker();
        let is_alone = walker
            .as_ref()
            .is_none_or(|walker| walker.steps.receiver_count() == 0);
        if is_alone {
            *walker = None;
        }
        is_alone
    }

    /// Ends the walker and tells the followers so.
    fn end(&self) {
        *self.walker() = None;
    }

    fn send(&self, events: Vec<LiveEvent>, measured: Option<Measured>) {
        let mut walker = self.walker();
        let Some(walker) = walker.as_mut() else {
            return;
        };
        let step = Step {
            first: walker.sent,
            events,
            measured,
        };
        walker.sent += step.events.len() as u64;
        // Without receivers the last follower has just gone.
        walker.steps.send(Arc::new(step)).ok();
    }
}

/// What a walk leaves to the next one.
#[derive(Default)]
struct Memory {
    diff: Diff,
    before: Option<Moment>,
    owners: BTreeMap<u32, Identity>,
}

async fn walk(inner: Arc<Inner>, report: watch::Sender<Progress>) {
    let mut memory = Memory::default();
    let mut is_failing = false;
    while !inner.is_alone() {
        let own = Arc::clone(&inner);
        let walked = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let result = memory.walk(&own);
            (memory, result, started.elapsed())
        });
        let Ok((kept, result, took)) = walked.await else {
            return inner.end();
        };
        memory = kept;
        match result {
            Ok((events, measured)) => {
                is_failing = false;
                inner.send(events, measured);
                report.send_replace(Progress::Walking);
            }
            Err(error) if *report.borrow() == Progress::FirstWalk => {
                report.send_replace(Progress::Failed(causes(&error)));
                return inner.end();
            }
            Err(error) if is_failing => tracing::debug!(error = causes(&error), "follow flows"),
            Err(error) => {
                is_failing = true;
                tracing::warn!(error = causes(&error), "follow flows");
            }
        }
        tokio::time::sleep(pause(inner.period, took)).await;
    }
}

impl Memory {
    /// What happened since the walk before; nothing on the first.
    fn walk(&mut self, inner: &Inner) -> Result<(Vec<LiveEvent>, Option<Measured>), DatapathError> {
        let now = inner.source.now()?;
        self.diff.begin(now);
        let diff = &mut self.diff;
        inner
            .source
            .for_each(&mut |key, entry| diff.see(key, entry))?;
        let changes = self.diff.finish();
        // Read after the walk: an ENI is named before its first packet.
        let owners = inner.identities.snapshot();
        let events = changes.iter().map(|change| {
            let slot = u32::from(change.key.eni);
            // Its slot may be another's already.
            let owner = match change.what {
                What::End(Ending::Removed) => self.owners.get(&slot),
                What::Start | What::End(_) | What::Reject => owners.get(&slot),
            };
            LiveEvent::of(change, owner, now)
        });
        let events = events.collect();
        let before = self.before.replace(now);
        let is_measured = inner.measuring.load(Ordering::Relaxed) > 0;
        let measured = before.filter(|_| is_measured).map(|before| Measured {
            flowing: self.diff.flowing(),
            owners: owners.clone(),
            time_ms: now.wall_ms,
            seconds: Duration::from_micros(now.steady_us - before.steady_us).as_secs_f64(),
        });
        self.owners = owners;
        Ok((events, measured))
    }
}

fn pause(period: Duration, took: Duration) -> Duration {
    period.saturating_sub(took).max(took * (SHARE - 1))
}

impl Follower {
    /// What comes next; `None` if no more walks come.
    pub async fn next(&mut self) -> Option<Received> {
        let step = match self.waiting.take() {
            Some(step) => step,
            None => self.receive().await?,
        };
        let lost = step.first.saturating_sub(self.next);
        if lost > 0 {
            self.next = step.first;
            self.waiting = Some(step);
            return Some(Received::Lost(lost));
        }
        self.next = step.first + step.events.len() as u64;
        Some(Received::Step(step))
    }

    async fn receive(&mut self) -> Option<Arc<Step>> {
        loop {
            match self.steps.recv().await {
                Ok(step) => return Some(step),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if self.is_measuring {
            self.inner.measuring.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Step {
    /// The rates that `query` asks for; `None` if they were not measured in this walk.
    #[must_use]
    pub fn rates(&self, query: &Query) -> Option<FlowRates> {
        let measured = self.measured.as_ref()?;
        let time = (measured.time_ms, measured.seconds);
        Some(rates(&measured.flowing, &measured.owners, time, query))
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
pub(crate) mod tests;
