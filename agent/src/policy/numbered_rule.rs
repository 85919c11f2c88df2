//! A rule as rows name it, and what tells which one let a packet pass that has no connection.

use serde::{Deserialize, Serialize};

use crate::security_groups::{PortRange, Protocol, SecurityGroupRule};

/// A rule of a policy, by the number that the programs know it by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NumberedRule {
    /// Its group.
    pub group_id: String,
    /// Its id.
    pub rule_id: String,
    /// What it admits, if that is whoever the peer; such rules have the lowest numbers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub opens: Option<OpenTo>,
}

/// What a rule with a literal /0 admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpenTo {
    /// IANA number; `None` for every protocol.
    pub protocol: Option<u8>,
    /// Lowest and highest port.
    pub ports: (u16, u16),
}

impl OpenTo {
    pub(super) fn of(rule: &SecurityGroupRule) -> Self {
        let PortRange { first, last } = rule.ports;
        match rule.protocol {
            Protocol::Any => Self {
                protocol: None,
                ports: (0, u16::MAX),
            },
            Protocol::Number(number) => Self {
                protocol: Some(number),
                ports: (first, last),
            },
        }
    }

    pub(super) fn admits(&self, protocol: u8, port: u16) -> bool {
        let (first, last) = self.ports;
        self.protocol.is_none_or(|own| own == protocol) && (first..=last).contains(&port)
    }
}
