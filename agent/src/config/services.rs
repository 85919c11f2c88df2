//! `[task_metadata]` and `[local.dns]`: this host's own services.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, within};
use crate::resolver::PORT;
use crate::services::Rate;

/// Requests a second, and at once, that a task may be granted.
const REQUESTS: std::ops::RangeInclusive<u32> = 1..=10_000;
/// Forwarders that may be named.
const MOST_FORWARDERS: usize = 3;

/// `[task_metadata]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskMetadataConfig {
    /// Requests that a task may make in a second, in the long run.
    pub requests_per_second: u32,
    /// Requests that it may make at once.
    pub burst: u32,
}

/// `[local.dns]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsConfig {
    /// Whom to ask for names that are not the VPC's; left out, the host's `resolv.conf` at the start says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarders: Option<Vec<Forwarder>>,
}

/// A resolver: an address, with a port if it is not 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Forwarder(pub SocketAddr);

/// Text that is no forwarder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no resolver; write an address, as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53"
)]
pub struct NoForwarder(pub String);

impl Default for TaskMetadataConfig {
    /// As the ECS agent.
    fn default() -> Self {
        Self {
            requests_per_second: 40,
            burst: 60,
        }
    }
}

impl TaskMetadataConfig {
    /// How often a task may ask.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        Rate {
            per_second: self.requests_per_second,
            burst: self.burst,
        }
    }

    pub(super) fn check(&self) -> Result<(), FieldError> {
        let per_second = self.requests_per_second;
        within("task_metadata.requests_per_second", per_second, &REQUESTS)?;
        within("task_metadata.burst", self.burst, &REQUESTS)
    }
}

impl DnsConfig {
    pub(super) fn check(&self) -> Result<(), FieldError> {
        let named = self.forwarders.as_ref().map_or(0, Vec::len);
        if named > MOST_FORWARDERS {
            return Err(FieldError::new(
                "local.dns.forwarders",
                format!("names {named} resolvers"),
                format!("name {MOST_FORWARDERS} at most: they are asked one after the other"),
            ));
        }
        Ok(())
    }
}

impl TryFrom<String> for Forwarder {
    type Error = NoForwarder;

    fn try_from(text: String) -> Result<Self, NoForwarder> {
        let address = text.parse::<IpAddr>();
        let address = address.map(|address| SocketAddr::new(address, PORT));
        let found = address.or_else(|_| text.parse());
        found.map(Self).map_err(|_| NoForwarder(text))
    }
}

impl From<Forwarder> for String {
    fn from(forwarder: Forwarder) -> Self {
        forwarder.to_string()
    }
}

impl fmt::Display for Forwarder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}
