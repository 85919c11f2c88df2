//! Tokens of IMDSv2: without one there is no answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyper::HeaderMap;

/// The header that a token is asked for with, in seconds.
pub(super) const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";
/// Six hours.
const MAX_TTL: u64 = 21_600;

/// Tokens, and until when each is good.
#[derive(Debug, Default)]
pub(super) struct Sessions(BTreeMap<String, Instant>);

impl Sessions {
    /// A new token.
    ///
    /// # Errors
    /// The HTTP status: 400 without a lifetime that may be, 403 through a proxy.
    pub(super) fn open(&mut self, headers: &HeaderMap, now: Instant) -> Result<String, u16> {
        if headers.contains_key("x-forwarded-for") {
            return Err(403);
        }
        let ttl = headers
            .get(TTL)
            .and_then(|ttl| ttl.to_str().ok()?.parse().ok());
        let ttl = ttl
            .filter(|ttl| (1..=MAX_TTL).contains(ttl))
            .ok_or(400_u16)?;
        let token = format!("token-{:048x}==", self.0.len() + 1);
        self.0.insert(token.clone(), now + Duration::from_secs(ttl));
        Ok(token)
    }

    /// Whether a request has a good token.
    ///
    /// # Errors
    /// 401 if not.
    pub(super) fn check(&self, headers: &HeaderMap, now: Instant) -> Result<(), u16> {
        let token = headers.get(TOKEN).and_then(|token| token.to_str().ok());
        let until = token.and_then(|token| self.0.get(token));
        until.filter(|until| now < **until).map(|_| ()).ok_or(401)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    #[test]
    fn a_token_has_a_lifetime_and_ends_with_it() {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        for (ttl, expected) in [("0", 400), ("21601", 400), ("x", 400)] {
            assert_eq!(sessions.open(&with(TTL, ttl), now), Err(expected), "{ttl}");
        }
        assert_eq!(sessions.open(&HeaderMap::new(), now), Err(400));
        let mut proxied = with(TTL, "60");
        proxied.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        assert_eq!(sessions.open(&proxied, now), Err(403));
        let token = sessions.open(&with(TTL, "60"), now).unwrap();
        for (headers, after, expected) in [
            (with(TOKEN, &token), 0, Ok(())),
            (with(TOKEN, &token), 59, Ok(())),
            (with(TOKEN, &token), 60, Err(401)),
            (with(TOKEN, "other"), 0, Err(401)),
            (HeaderMap::new(), 0, Err(401)),
        ] {
            assert_eq!(
                sessions.check(&headers, now + Duration::from_secs(after)),
                expected
            );
        }
    }
}
