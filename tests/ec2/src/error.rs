//! What EC2 refuses with: a code and a text.

use std::borrow::Cow;

use crate::id::Kind;

/// An error of the EC2 API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Ec2Error {
    /// As in "Error codes for the Amazon EC2 API".
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
}

/// What an operation comes to.
pub(crate) type Result<T> = std::result::Result<T, Ec2Error>;

impl Ec2Error {
    /// An error of any code.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }

    /// The HTTP status that EC2 sends this code with.
    #[must_use]
    pub fn status(&self) -> u16 {
        match &*self.code {
            "AuthFailure" | "OptInRequired" => 401,
            "UnauthorizedOperation" => 403,
            "DryRunOperation" => 412,
            "InternalError" | "InternalFailure" => 500,
            "RequestLimitExceeded" | "ServiceUnavailable" | "Unavailable" => 503,
            _ => 400,
        }
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        let message = format!("The request must contain the parameter {parameter}");
        Self::new("MissingParameter", message)
    }

    pub(crate) fn unknown(parameter: &str) -> Self {
        let message = format!("The parameter {parameter} is not recognized");
        Self::new("UnknownParameter", message)
    }

    pub(crate) fn value(value: impl std::fmt::Display, parameter: &str, why: &str) -> Self {
        let message = format!("Value ({value}) for parameter {parameter} is invalid. {why}");
        Self::new("InvalidParameterValue", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValue", message)
    }

    pub(crate) fn combination(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterCombination", message)
    }

    pub(crate) fn malformed(kind: Kind, id: &str) -> Self {
        let message = format!("Invalid id: \"{id}\" (expecting \"{}...\")", kind.prefix());
        Self::new(kind.malformed(), message)
    }

    pub(crate) fn not_found(kind: Kind, id: &str) -> Self {
        let message = format!("The {} '{id}' does not exist", kind.noun());
        Self::new(kind.not_found(), message)
    }
}
