//! What the clients are told.

use std::time::Duration;

/// How to reach EC2.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where, as `eu-west-1`.
    pub region: String,
    /// Another address than the Region's, as `http://127.0.0.1:5000`.
    pub endpoint_url: Option<String>,
    /// Of EC2's token buckets, this host's part: above 0, at most 1.
    pub share: f64,
    /// How long a call may take with all its repeats.
    pub deadline: Duration,
}

/// How long one attempt of a call may take.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(10);
/// How long a connection may take.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);
