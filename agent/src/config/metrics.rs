//! `[metrics]`: where Prometheus may ask besides the socket.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::field_error::FieldError;

/// `[metrics]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// A loopback address and port that serve `/metrics` and `/healthz` to every user of this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

impl MetricsConfig {
    pub(super) fn check(&self) -> Result<(), FieldError> {
        let Some(listen) = self.listen else {
            return Ok(());
        };
        let problem = if !listen.ip().is_loopback() {
            "is not on loopback"
        } else if listen.port() == 0 {
            "names no port"
        } else {
            return Ok(());
        };
        Err(FieldError::new(
            "metrics.listen",
            format!("{listen} {problem}"),
            "write 127.0.0.1:9273 or [::1]:9273; to let others ask, put a proxy of yours before it",
        ))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn metrics_are_for_loopback_only() {
        let check = |listen: &str| {
            let listen = Some(listen.parse().unwrap());
            MetricsConfig { listen }
                .check()
                .map_err(|error| error.field)
        };
        let refused = Err("metrics.listen".to_owned());
        assert_eq!(check("127.0.0.1:9273"), Ok(()));
        assert_eq!(check("[::1]:9273"), Ok(()));
        for wrong in ["0.0.0.0:9273", "10.0.0.1:9273", "[::]:9273", "127.0.0.1:0"] {
            assert_eq!(check(wrong), refused, "{wrong}");
        }
    }
}
