//! Flow logs: who wants which records, how far each log has come, and the order of steps by which
//! each row comes into exactly one file.
//!
//! `flows` puts what an epoch counted into the spool; a [`FlowLogs`] takes it from there, for each
//! [`FlowLog`] into the windows of its interval, through its filters, into files of its format
//! (`flow_log`). Never reads a map.

mod spec;

mod logs;

mod epochs;

mod log;

mod windows;

mod batch;

mod progress;

mod ground;

pub use ground::{DeliveryError, FinishedFile, OnDisk, OnFinished};
pub use log::Site;
pub use logs::{FlowLogs, FlowLogsError, LogState, in_force};
pub use progress::Totals;
pub use spec::{FlowLog, INTERVAL_SECONDS, check_all, epoch_seconds};

#[cfg(test)]
pub(crate) mod test_epochs;
