//! The body of every answer that is not success. Pure.

use serde::{Deserialize, Serialize};

/// The body of every answer that is not success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApiError {
    /// What kind, for programs.
    pub code: ErrorCode,
    /// What happened and what to do, for people.
    pub message: String,
    /// The field of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum ErrorCode {
    /// The request is wrong as it is.
    InvalidRequest,
    /// The caller is not root.
    Forbidden,
    /// There is no such task or path.
    NotFound,
    /// The task exists with another specification, or is being removed.
    Conflict,
    /// Nothing is left to hand out.
    Exhausted,
    /// The agent failed.
    Internal,
}
