//! Flow records: what the kernel counted, out of the maps and into the spool, each count exactly once.
//!
//! `Control.epoch` numbers the intervals, and only the exporter advances it. What was counted in an
//! epoch stays as it is from its end until the end of the next one, so it can be spooled again after
//! any crash, with the same counts. The next epoch does not end before that is known to be safe. The
//! flow logs (`delivery`) take it from there. Never judges a packet and never changes a task.

mod recorder;

mod ledger;

mod drain;

mod interface;

mod record;

mod audit;

mod sweep;

mod collect;

mod kernel;

mod spool;

mod outline;

mod shelf;

mod identity;

mod exporter;

pub use collect::{Collected, collect};
pub(crate) use drain::tuple;
pub use drain::{Drain, Reading};
pub use exporter::{Exporter, ExporterSettings};
pub use identity::{Identities, Identity};
pub use interface::{Interface, Sublocation, Tags, TaskIdentity};
pub use ledger::{Closing, Window};
pub use outline::{Choice, Outline, Sum};
pub use record::{Action, FlowCounts, FlowTuple, Report, Rule};
pub use spool::{Epoch, Spool, SpoolError};
pub use sweep::pause;

use crate::datapath::DatapathError;
use crate::delivery::FlowLogsError;
use crate::state::StateError;
use crate::upload::UploadError;

/// Why flow records cannot be written now. Nothing is lost by it: the counts stay in the kernel's
/// maps, and the next interval's end tries again.
#[derive(Debug, thiserror::Error)]
pub enum FlowLogError {
    /// The kernel's maps cannot be read or written.
    #[error("read the flow counts")]
    Datapath(#[from] DatapathError),
    /// The store cannot be read or written.
    #[error("keep the flow log's place")]
    State(#[from] StateError),
    /// The spool cannot be written.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The flow logs cannot go on.
    #[error(transparent)]
    FlowLogs(#[from] FlowLogsError),
    /// Finished files cannot be looked after.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The runtime ended first.
    #[error("the agent stopped while the flow log was being written; the next start writes it")]
    Stopped,
}
