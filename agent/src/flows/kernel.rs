//! What the recorder needs of the data plane, and the real one behind it.
//!
//! The trait exists so that the recorder's order of steps can be tested with a stop at each of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use branchline_common::flow::FlowKey;

use crate::datapath::{Clock, Datapath, DatapathError, Entry, FlowTables};

/// Programs run for microseconds and are not preempted by tasks.
const GRACE: Duration = Duration::from_millis(50);

/// The kernel's side of the flow log.
pub(super) trait Kernel: Send + Sync + 'static {
    /// Number of the current interval.
    fn epoch(&self) -> Result<u32, DatapathError>;
    /// Ends the current interval.
    fn set_epoch(&self, epoch: u32) -> Result<(), DatapathError>;
    /// Waits until no program runs any more that has read the epoch before.
    fn let_programs_end(&self);
    /// How fast the maps' clock ticks.
    fn clock(&self) -> Clock;
    /// The maps' clock and the wall clock at the same time.
    fn now(&self) -> Result<(u32, SystemTime), DatapathError>;
    /// Shows every entry of both tables; see [`FlowTables::for_each`].
    fn for_each(&self, visit: &mut dyn FnMut(&FlowKey, &Entry)) -> Result<(), DatapathError>;
    /// Packets of an ENI that could not be counted, ever.
    fn unlogged(&self, slot: u32) -> Result<u64, DatapathError>;
    /// Removes all that is left of an ENI.
    fn forget(&self, slot: u32) -> Result<(), DatapathError>;
    /// Removes those entries that may go; returns how many.
    fn sweep(&self, keys: &[FlowKey], written_epoch: u32) -> Result<u32, DatapathError>;
}

/// The loaded data plane, locked for single calls only: walks go past the lock.
pub(super) struct Live {
    datapath: Arc<Mutex<Datapath>>,
    tables: FlowTables,
    clock: Clock,
}

impl Live {
    pub(super) fn new(datapath: Arc<Mutex<Datapath>>) -> Self {
        let (tables, clock) = {
            let datapath = lock(&datapath);
            (datapath.flow_tables(), *datapath.clock())
        };
        Self {
            datapath,
            tables,
            clock,
        }
    }
}

impl Kernel for Live {
    fn epoch(&self) -> Result<u32, DatapathError> {
        Ok(lock(&self.datapath).control()?.epoch)
    }

    fn set_epoch(&self, epoch: u32) -> Result<(), DatapathError> {
        lock(&self.datapath).set_epoch(epoch)
    }

    fn let_programs_end(&self) {
        std::thread::sleep(GRACE);
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn now(&self) -> Result<(u32, SystemTime), DatapathError> {
        let ticks = lock(&self.datapath).ticks()?;
        Ok((ticks, SystemTime::now()))
    }

    fn for_each(&self, visit: &mut dyn FnMut(&FlowKey, &Entry)) -> Result<(), DatapathError> {
        self.tables.for_each(visit)
    }

    fn unlogged(&self, slot: u32) -> Result<u64, DatapathError> {
        Ok(lock(&self.datapath).counters(slot)?.unlogged)
    }

    fn forget(&self, slot: u32) -> Result<(), DatapathError> {
        lock(&self.datapath).forget_eni(slot)
    }

    fn sweep(&self, keys: &[FlowKey], written_epoch: u32) -> Result<u32, DatapathError> {
        lock(&self.datapath).sweep(keys, written_epoch)
    }
}

/// What each of these locks guards is changed in single steps, so a panic elsewhere leaves nothing
/// half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
