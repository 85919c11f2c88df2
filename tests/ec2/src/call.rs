//! What was called: the log that tests assert on.

use std::collections::BTreeMap;
use std::time::Duration;

/// A call, in the order in which EC2 took them up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The operation, as the request names it.
    pub operation: String,
    /// The parameters, without `Action` and `Version`.
    pub parameters: BTreeMap<String, String>,
    /// Since the stand-in started.
    pub at: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, and answered.
    Done,
    /// It was answered with this code. Nothing was done, unless the fault `ErrorAfterEffect` says so.
    Failed(String),
    /// It was taken up (and done, unless it could not be), and not answered.
    Unanswered,
    /// The connection was closed before anything was done.
    Refused,
}
