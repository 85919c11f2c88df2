//! Whether this host has root certificates: without any, nobody can be asked by TLS.
//!
//! Of the SDK's client, whoever it asks, a host without them makes a panic in debug builds, and in others one that
//! trusts nobody: its calls are lost until their deadline, without a word of certificates.

use std::sync::LazyLock;

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use hyper_rustls::HttpsConnectorBuilder;

/// The host has no root certificate that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoRoots(String);

/// Looked for once, as the SDK does.
static ROOTS: LazyLock<Result<(), NoRoots>> = LazyLock::new(|| {
    let found = HttpsConnectorBuilder::new().with_native_roots();
    found.map(drop).map_err(|error| NoRoots(error.to_string()))
});

/// Whether there is a root certificate, where OpenSSL looks for them or `SSL_CERT_FILE` and `SSL_CERT_DIR` say.
///
/// # Errors
/// [`NoRoots`]
pub fn root_certificates() -> Result<(), NoRoots> {
    ROOTS.clone()
}

/// For a client that trusts nobody, and so asks by http only.
pub(crate) fn nobody() -> TlsContext {
    let context = TlsContext::builder().with_trust_store(TrustStore::empty());
    // Of an empty store nothing can be wrong.
    context.build().unwrap_or_default()
}
