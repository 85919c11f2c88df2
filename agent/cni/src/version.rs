//! Versions of the CNI specification, and which command came with which.

use crate::environment::Command;
use crate::error::{CniError, code};

/// A version of the specification, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// What a configuration without `cniVersion` is.
    V0_1_0,
    /// Brought VERSION.
    V0_2_0,
    /// Brought results with interfaces.
    V0_3_0,
    /// Its text differs from 0.3.0's, and nothing else.
    V0_3_1,
    /// Brought CHECK.
    V0_4_0,
    /// Without the IP version of an address.
    V1_0_0,
    /// Brought STATUS, GC and a link's MTU.
    V1_1_0,
}

impl Version {
    /// All that the plugin speaks.
    pub const ALL: [Self; 7] = [
        Self::V0_1_0,
        Self::V0_2_0,
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];
    /// The newest of them.
    pub const NEWEST: Self = Self::V1_1_0;

    /// As configurations have it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version of this text; an empty one is 0.1.0, whose configurations need not say it.
    ///
    /// # Errors
    /// Code 1.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        if text.is_empty() {
            return Ok(Self::V0_1_0);
        }
        let found = Self::ALL.into_iter().find(|version| version.text() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::text).join(", ");
            let details = format!("cniVersion: {text:?} is not supported; write one of {known}");
            CniError::new(code::VERSION, "incompatible CNI version", details)
        })
    }

    /// Refuses a command that this version does not have.
    ///
    /// # Errors
    /// Code 1.
    pub fn check_has(self, command: Command) -> Result<(), CniError> {
        let (name, since) = match command {
            Command::Check => ("CHECK", Self::V0_4_0),
            Command::Gc => ("GC", Self::V1_1_0),
            Command::Status => ("STATUS", Self::V1_1_0),
            Command::Add | Command::Del | Command::Version => return Ok(()),
        };
        if self >= since {
            return Ok(());
        }
        let details = format!(
            "cniVersion: {} has no {name}; write {} or a later one",
            self.text(),
            since.text()
        );
        Err(CniError::new(
            code::VERSION,
            "incompatible CNI version",
            details,
        ))
    }
}
