//! Who may call. Signatures are not verified: only that there is one for this region and EC2, and that temporary
//! credentials bring their session token.

use crate::error::{Ec2Error, Result};

/// The credentials that instance metadata hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "IAM's words")]
pub struct Credentials {
    pub role: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: String,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            role: "branchline-host".to_owned(),
            access_key_id: "ASIAIOSFODNN7EXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: "session-token-of-the-stand-in".to_owned(),
        }
    }
}

/// The headers of a request that say who calls.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Caller<'a> {
    pub(crate) authorization: Option<&'a str>,
    pub(crate) security_token: Option<&'a str>,
}

/// Whether a request is signed for EC2 in `region`.
///
/// # Errors
/// It is not, or temporary credentials come without their token.
pub(crate) fn check(caller: Caller<'_>, region: &str, credentials: &Credentials) -> Result<()> {
    let failure = |message: &str| Err(Ec2Error::new("AuthFailure", message));
    let scope = caller.authorization.and_then(|header| {
        let rest = header.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let signed = rest.contains("SignedHeaders=") && rest.contains("Signature=");
        let scope = rest.split("Credential=").nth(1)?.split([',', ' ']).next()?;
        signed.then(|| scope.split('/').collect::<Vec<_>>())
    });
    let Some([key, _, of_region, service, "aws4_request"]) = scope.as_deref() else {
        return failure(
            "AWS was not able to validate the provided access credentials: the request is not signed",
        );
    };
    if *of_region != region || *service != "ec2" {
        return failure("Credential should be scoped to a valid region and to the service ec2");
    }
    let temporary = *key == credentials.access_key_id;
    if temporary && caller.security_token != Some(&credentials.session_token) {
        return failure(
            "AWS was not able to validate the provided access credentials: wrong session token",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_signed_for_this_region_and_ec2() {
        let header = |scope: &str| {
            format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00")
        };
        let own = Credentials::default();
        let (token, key) = (Some(own.session_token.as_str()), &own.access_key_id);
        for (scope, security_token, expected) in [
            (
                "AKIA1/20261128/eu-west-1/ec2/aws4_request".to_owned(),
                None,
                true,
            ),
            (
                "AKIA1/20261128/us-east-1/ec2/aws4_request".to_owned(),
                None,
                false,
            ),
            (
                "AKIA1/20261128/eu-west-1/s3/aws4_request".to_owned(),
                None,
                false,
            ),
            ("AKIA1".to_owned(), None, false),
            (
                format!("{key}/20261128/eu-west-1/ec2/aws4_request"),
                token,
                true,
            ),
            (
                format!("{key}/20261128/eu-west-1/ec2/aws4_request"),
                None,
                false,
            ),
            (
                format!("{key}/20261128/eu-west-1/ec2/aws4_request"),
                Some("other"),
                false,
            ),
        ] {
            let authorization = header(&scope);
            let caller = Caller {
                authorization: Some(&authorization),
                security_token,
            };
            assert_eq!(
                check(caller, "eu-west-1", &own).is_ok(),
                expected,
                "{scope}"
            );
        }
        assert!(check(Caller::default(), "eu-west-1", &own).is_err());
    }
}
