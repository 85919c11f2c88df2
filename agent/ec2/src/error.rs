//! What EC2 answers when it does not do what was asked, and what that means for the next step. Pure.
//!
//! AWS: "Error codes for the Amazon EC2 API"; the classes are those of the retry rules that ECS's and EKS's
//! controllers follow.

use std::fmt;

/// Why a call failed, once no repeat can help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// The API's name of the call.
    pub action: &'static str,
    /// EC2's code; `None` if no answer of EC2's came.
    pub code: Option<String>,
    /// EC2's words, or why no answer came.
    pub message: String,
    /// EC2's id of the request, for a support case.
    pub request_id: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.action)?;
        if let Some(code) = &self.code {
            write!(out, "{code}: ")?;
        }
        out.write_str(self.message.trim_end())?;
        if let Some(id) = &self.request_id {
            write!(out, " (request {id})")?;
        }
        Ok(())
    }
}

impl Error {
    /// What the failure means for whoever asked.
    #[must_use]
    pub fn class(&self) -> Class {
        match self.code.as_deref() {
            None => Class::Lost,
            // What EC2 really answers to the deletion of an ENI that is in use.
            Some("InvalidParameterValue") if self.message.contains("currently in use") => {
                Class::Unsettled
            }
            Some(code) => Class::of(code),
        }
    }
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Something is used up; another subnet may do, and this one later.
    Capacity,
    /// What the call needs is not so yet, or EC2 does not see it yet: describe, wait, ask again.
    Unsettled,
    /// What should go is gone.
    Gone,
    /// EC2 asks to be asked less.
    Throttled,
    /// EC2 failed and may not have acted.
    Unavailable,
    /// No answer came: EC2 may have acted or not.
    Lost,
    /// The same token came with other parameters.
    Mismatch,
    /// The request, the account's settings or its permissions are wrong.
    Configuration,
    /// A dry run that would have been allowed.
    WouldSucceed,
}

impl Class {
    /// The class of one of EC2's codes; a code that is not known here is the request's fault.
    #[must_use]
    pub fn of(code: &str) -> Self {
        match code {
            "InsufficientFreeAddressesInSubnet"
            | "NetworkInterfaceLimitExceeded"
            | "AttachmentLimitExceeded"
            | "PrivateIpAddressLimitExceeded"
            | "SecurityGroupsPerInterfaceLimitExceeded" => Self::Capacity,
            "InvalidNetworkInterfaceID.NotFound"
            | "IncorrectState"
            | "IncorrectInstanceState"
            | "InvalidNetworkInterface.InUse"
            | "InvalidIPAddress.InUse" => Self::Unsettled,
            "InvalidAttachmentID.NotFound" | "InvalidAssociationID.NotFound" => Self::Gone,
            "RequestLimitExceeded" | "Throttling" | "ThrottlingException" | "RequestThrottled" => {
                Self::Throttled
            }
            "InternalError" | "InternalFailure" | "ServiceUnavailable" | "Unavailable" => {
                Self::Unavailable
            }
            "IdempotentParameterMismatch" => Self::Mismatch,
            "DryRunOperation" => Self::WouldSucceed,
            _ => Self::Configuration,
        }
    }

    /// Whether the same call may be sent again at once, as far as EC2 goes. One that has no token and is no
    /// describe must first find out what a lost one did.
    #[must_use]
    pub fn is_repeatable(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable | Self::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_classes() {
        let rows = [
            ("InsufficientFreeAddressesInSubnet", Class::Capacity),
            ("AttachmentLimitExceeded", Class::Capacity),
            ("InvalidNetworkInterfaceID.NotFound", Class::Unsettled),
            ("InvalidNetworkInterface.InUse", Class::Unsettled),
            ("InvalidAttachmentID.NotFound", Class::Gone),
            ("RequestLimitExceeded", Class::Throttled),
            ("InternalError", Class::Unavailable),
            ("Unavailable", Class::Unavailable),
            ("IdempotentParameterMismatch", Class::Mismatch),
            ("DryRunOperation", Class::WouldSucceed),
            ("InvalidGroup.NotFound", Class::Configuration),
            ("UnauthorizedOperation", Class::Configuration),
            ("InvalidPermission.NotFound", Class::Configuration),
            ("SomethingNew", Class::Configuration),
        ];
        for (code, class) in rows {
            assert_eq!(Class::of(code), class, "{code}");
        }
        let repeatable = rows.iter().filter(|(_, class)| class.is_repeatable());
        assert_eq!(repeatable.count(), 3);
    }

    #[test]
    fn an_error_says_who_said_what() {
        let error = Error {
            action: "DeleteNetworkInterface",
            code: Some("InvalidParameterValue".to_owned()),
            message: "Network interface 'eni-1' is currently in use.".to_owned(),
            request_id: Some("7a62".to_owned()),
        };
        assert_eq!(
            error.to_string(),
            "DeleteNetworkInterface: InvalidParameterValue: Network interface 'eni-1' is currently in use. (request 7a62)"
        );
        assert_eq!(error.class(), Class::Unsettled);
        let lost = Error {
            code: None,
            request_id: None,
            ..error
        };
        assert_eq!(lost.class(), Class::Lost);
    }
}
