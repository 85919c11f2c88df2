//! What a walk needs of the data plane, and the real one behind it.
//!
//! The trait exists so that followers can be tested over tables in memory.

use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use branchline_common::flow::FlowKey;

use crate::datapath::{Clock, Datapath, DatapathError, Entry, FlowTables, lock};

/// The clocks and the flow log's epoch at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    /// Ticks of the maps' clock.
    pub ticks: u32,
    /// Ticks in one second.
    pub ticks_per_second: u32,
    /// Number of the flow log's interval.
    pub epoch: u32,
    /// Microseconds of a clock that nobody sets.
    pub steady_us: u64,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// The tables of flows.
pub trait Source: Send + Sync + 'static {
    /// The clocks now.
    ///
    /// # Errors
    /// The data plane cannot be read.
    fn now(&self) -> Result<Moment, DatapathError>;

    /// Shows every entry of both tables; see [`FlowTables::for_each`].
    ///
    /// # Errors
    /// The data plane cannot be read; a part was shown.
    fn for_each(&self, visit: &mut dyn FnMut(&FlowKey, &Entry)) -> Result<(), DatapathError>;
}

/// The loaded data plane, locked for the clock only: walks go past the lock.
pub(super) struct Loaded {
    datapath: Arc<Mutex<Datapath>>,
    tables: FlowTables,
    clock: Clock,
    started: Instant,
}

impl Loaded {
    pub(super) fn new(datapath: Arc<Mutex<Datapath>>) -> Self {
        let (tables, clock) = {
            let datapath = lock(&datapath);
            (datapath.flow_tables(), *datapath.clock())
        };
        Self {
            datapath,
            tables,
            clock,
            started: Instant::now(),
        }
    }
}

impl Source for Loaded {
    fn now(&self) -> Result<Moment, DatapathError> {
        let mut datapath = lock(&self.datapath);
        // The epoch first: what counts in a later one is taken for unseen rather than for seen.
        let epoch = datapath.control()?.epoch;
        let ticks = datapath.ticks()?;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Moment {
            ticks,
            ticks_per_second: self.clock.ticks_per_second(),
            epoch,
            steady_us: self.started.elapsed().as_micros() as u64,
            wall_ms: wall.unwrap_or_default().as_millis() as u64,
        })
    }

    fn for_each(&self, visit: &mut dyn FnMut(&FlowKey, &Entry)) -> Result<(), DatapathError> {
        self.tables.for_each(visit)
    }
}
