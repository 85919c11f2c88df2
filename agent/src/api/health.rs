//! How the agent's parts are. Pure.

use serde::{Deserialize, Serialize};

/// The answer to `GET /v1/health`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Health {
    /// `degraded` if any part is not well.
    pub status: HealthStatus,
    /// Every part.
    pub parts: Vec<HealthPart>,
}

/// The agent as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Every part is well.
    #[default]
    Ok,
    /// A part is not.
    Degraded,
}

/// One part of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HealthPart {
    /// As `trunk`, `flow-counts` or `flow-log fl-0123456789abcdef0`.
    pub name: String,
    /// Why it is not well; left out if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Health {
    /// Of parts and why they are not well.
    #[must_use]
    pub fn of(parts: impl IntoIterator<Item = (String, Option<String>)>) -> Self {
        let parts = parts.into_iter();
        let parts: Vec<_> = parts
            .map(|(name, reason)| HealthPart { name, reason })
            .collect();
        let is_well = parts.iter().all(|part| part.reason.is_none());
        let status = if is_well {
            HealthStatus::Ok
        } else {
            HealthStatus::Degraded
        };
        Self { status, parts }
    }
}
