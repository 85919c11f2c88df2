//! The live view: which flows start, end and are rejected, and how fast each one is, while someone
//! looks.
//!
//! The kernel's tables of connections and rows are the log: an entry outlives its flow by some
//! seconds, so two walks tell what became of each. There is no event in the packets' way, and with
//! nobody following there is no walk. Never changes a map.

pub(crate) mod follow;

mod kernel;

mod diff;

mod tally;

mod event;

mod rates;

mod filter;

mod query;

pub use event::{Ending, Flow, FlowEvent, LiveEvent};
pub use filter::{ActionName, DirectionName, EventKind, Filter, Network, Protocol, WrongValue};
pub use follow::{FollowError, Follower, Live, Received, Step};
pub use kernel::{Moment, Source};
pub use query::{Query, Sort};
pub use rates::{FlowRate, FlowRates, Rate, TaskRate};
