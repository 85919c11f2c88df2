//! Stops and failures at any step that a test chooses.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// How a run goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call fails; the agent goes on.
    Failure,
    /// The agent is killed before the call has its effect.
    StopBefore,
    /// The agent is killed after it.
    StopAfter,
}

impl Fault {
    pub(crate) const ALL: [Self; 3] = [Self::Failure, Self::StopBefore, Self::StopAfter];
}

/// What fails: the call number `at`, and from then on every call until it is mended.
#[derive(Default)]
pub(crate) struct Fuse {
    calls: AtomicU32,
    at: AtomicU32,
    fault: Option<Fault>,
    is_burnt: AtomicBool,
}

impl Fuse {
    /// A fuse that burns at the call number `at`, from 1 on.
    pub(crate) fn new(at: u32, fault: Fault) -> Self {
        Self {
            at: AtomicU32::new(at),
            fault: Some(fault),
            ..Self::default()
        }
    }

    /// Does `act`, unless this is the call that fails or one after it.
    pub(crate) fn step<T, E>(
        &self,
        stopped: impl FnOnce() -> E,
        act: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        if self.is_burnt.load(Ordering::Relaxed) {
            return Err(stopped());
        }
        if self.calls.fetch_add(1, Ordering::Relaxed) + 1 != self.at.load(Ordering::Relaxed) {
            return act();
        }
        self.is_burnt.store(true, Ordering::Relaxed);
        if self.fault == Some(Fault::StopAfter) {
            act()?;
        }
        Err(stopped())
    }

    /// From now on no call fails.
    pub(crate) fn disarm(&self) {
        self.at.store(0, Ordering::Relaxed);
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Lets calls work again; says whether they had failed, and how.
    pub(crate) fn mend(&self) -> Option<Fault> {
        let was_burnt = self.is_burnt.swap(false, Ordering::Relaxed);
        self.fault.filter(|_| was_burnt)
    }

    /// Whether the agent is killed and no other one has come.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_burnt.load(Ordering::Relaxed) && self.fault != Some(Fault::Failure)
    }

    /// Whether the call that fails has come.
    pub(crate) fn has_burnt(&self) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        at > 0 && self.calls.load(Ordering::Relaxed) >= at
    }
}
