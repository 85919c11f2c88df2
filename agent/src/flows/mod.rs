//! Flow records: what the kernel counted, as VPC Flow Logs lines in files, each count exactly once.
//!
//! `Control.epoch` numbers the intervals, and only the exporter advances it. What was counted in an
//! epoch stays as it is from its end until the end of the next one, so its file can be written again
//! after any crash, under the same name and with the same counts. The next epoch does not end before
//! that file is known to be safe. Never judges a packet and never changes a task.

mod recorder;

mod ledger;

mod drain;

mod record;

mod audit;

mod file;

mod sweep;

mod kernel;

mod shelf;

mod identity;

mod exporter;

pub(crate) use drain::tuple;
pub use exporter::Exporter;
pub use file::FileError;
pub use identity::{Identities, Identity};
pub use ledger::Window;
pub use record::{Action, FlowCounts, FlowRecord, FlowTuple, Interface, Line, Report};

use crate::datapath::DatapathError;
use crate::state::StateError;

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
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The runtime ended first.
    #[error("the agent stopped while the flow log was being written; the next start writes it")]
    Stopped,
}
