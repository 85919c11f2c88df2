//! Errors as the runtime reads them (CNI specification, section 5, "Error").

use serde_json::{Value, json};

use crate::version::Version;

/// The specification's codes, and our own from 100 on.
pub mod code {
    /// The version of the specification is unknown, or has no such command.
    pub const VERSION: u32 = 1;
    /// A key of the configuration that we cannot honour.
    pub const UNSUPPORTED: u32 = 2;
    /// The agent does not know the container; nothing needs to be cleaned up.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// An environment variable is missing or wrong.
    pub const ENVIRONMENT: u32 = 4;
    /// Reading or connecting failed.
    pub const IO: u32 = 5;
    /// The configuration is no JSON, or of other types.
    pub const DECODE: u32 = 6;
    /// A value of the configuration is wrong.
    pub const CONFIGURATION: u32 = 7;
    /// It may work later: the agent does not run, or the network is full.
    pub const LATER: u32 = 11;
    /// ADD would not work now.
    pub const UNAVAILABLE: u32 = 50;
    /// Nor do the containers that there are.
    pub const IMPAIRED: u32 = 51;
    /// The agent failed or refused, in its own words.
    pub const AGENT: u32 = 100;
    /// The container has this interface already.
    pub const EXISTS: u32 = 101;
    /// CHECK found something missing or different.
    pub const DIFFERENT: u32 = 102;
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{summary}: {details}")]
pub struct CniError {
    /// One of [`code`].
    pub code: u32,
    /// A few words.
    pub summary: &'static str,
    /// The field, what is wrong with it, and how to mend it.
    pub details: String,
}

impl CniError {
    /// An error.
    #[must_use]
    pub fn new(code: u32, summary: &'static str, details: impl Into<String>) -> Self {
        let details = details.into();
        Self {
            code,
            summary,
            details,
        }
    }

    /// As JSON of `version`. Runtimes show `msg` and often drop `details`, so that `msg` has all of it.
    #[must_use]
    pub fn json(&self, version: Version) -> Value {
        json!({
            "cniVersion": version.text(),
            "code": self.code,
            "msg": self.to_string(),
            "details": self.details,
        })
    }
}
