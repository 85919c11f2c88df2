//! Whether the host has the root certificates that asking EC2 needs. Pure: what was found is what the caller says.

use branchline_ec2::NoRoots;

use crate::config::Ec2Config;
use crate::field_error::FieldError;

/// What gives a host root certificates.
const FIX: &str = "install ca-certificates, or name a file of certificates by the environment variable SSL_CERT_FILE";

/// What `config` asks by TLS needs `roots`; `None` where it asks nothing by TLS.
#[must_use]
pub(super) fn check(
    config: &Ec2Config,
    roots: Result<(), NoRoots>,
) -> Option<Result<(), FieldError>> {
    let (field, who) = asked_by_tls(config)?;
    Some(roots.map_err(|error| {
        let problem = format!(
            "{who} is asked by TLS, and this host has no root certificates to know it by ({error})"
        );
        FieldError::new(field, problem, FIX)
    }))
}

/// The field that says so, and who it is. EC2 is, unless another address is given.
fn asked_by_tls(config: &Ec2Config) -> Option<(&'static str, &str)> {
    let is_http = |url: &str| url.starts_with("http://");
    let metadata = config.metadata_endpoint.as_deref();
    match (config.endpoint_url.as_deref(), metadata) {
        (None, _) => Some(("ec2.endpoint_url", "EC2")),
        (Some(url), _) if !is_http(url) => Some(("ec2.endpoint_url", url)),
        (_, Some(url)) if !is_http(url) => Some(("ec2.metadata_endpoint", url)),
        (Some(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_by_tls_needs_certificates() {
        let rows = [
            (None, None, Some("ec2.endpoint_url")),
            (None, Some("http://127.0.0.1:1"), Some("ec2.endpoint_url")),
            (Some("https://ec2.test"), None, Some("ec2.endpoint_url")),
            (Some("http://ec2.test"), None, None),
            (Some("http://ec2.test"), Some("http://127.0.0.1:1"), None),
            (
                Some("http://ec2.test"),
                Some("https://imds.test"),
                Some("ec2.metadata_endpoint"),
            ),
        ];
        for (endpoint, metadata, field) in rows {
            let config = Ec2Config {
                endpoint_url: endpoint.map(str::to_owned),
                metadata_endpoint: metadata.map(str::to_owned),
                ..Ec2Config::default()
            };
            let row = format!("{endpoint:?} {metadata:?}");
            let found = asked_by_tls(&config);
            assert_eq!(found.map(|(field, _)| field), field, "{row}");
            let check = check(&config, Ok(()));
            assert_eq!(check, field.map(|_| Ok(())), "{row}");
        }
    }
}
