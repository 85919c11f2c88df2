//! `[flow_logs.upload]` and `[flow_logs.retention]`: where finished files go and how long they stay.
//!
//! Credentials are no part of it: they come from the `AWS_*` variables of the environment, or from
//! the instance's or task's role.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, within};

/// Bytes that may wait for upload: one large file at least.
const BACKLOG_BYTES: std::ops::RangeInclusive<u64> = 1 << 27..=1 << 50;
/// Seconds that a file is kept: an hour to ten years.
const MAX_AGE_SECONDS: std::ops::RangeInclusive<u64> = 3_600..=315_360_000;
/// Bytes of files that are kept.
const KEPT_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 50;

/// `upload`: the object store that gets each finished file once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadConfig {
    /// `s3://bucket[/prefix]` or `file:///folder`.
    pub url: String,
    /// URL of an S3 server that is not AWS's; without it `AWS_ENDPOINT_URL`, or AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// AWS region; without it `AWS_REGION`, `AWS_DEFAULT_REGION` or us-east-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether the endpoint may be `http:`; on this host's loopback only.
    #[serde(default)]
    pub allow_http: bool,
    /// Bytes of one log that may wait on disk; past it the oldest are removed unsent and counted.
    #[serde(default = "backlog_max_bytes")]
    pub backlog_max_bytes: u64,
}

/// `retention`: what stays on disk. A file that waits for upload stays in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Seconds after the time in its name for which a file is kept; without it, for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    /// Bytes of one log that are kept, the newest; without it, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
}

/// 1 GiB: at 100 KB a minute, a week without the destination.
fn backlog_max_bytes() -> u64 {
    1 << 30
}

/// A destination URL that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Url {
    /// `s3://bucket/prefix`; the prefix has no slash at its ends and may be empty.
    S3 { bucket: String, prefix: String },
    /// `file:///folder`.
    File(PathBuf),
}

impl UploadConfig {
    /// Checks the fields; `field` is the table's own path, as `upload`.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self, field: &str) -> Result<(), FieldError> {
        self.parsed(field)?;
        if let Some(endpoint) = &self.endpoint {
            check_endpoint(&format!("{field}.endpoint"), endpoint, self.allow_http)?;
        }
        within(
            &format!("{field}.backlog_max_bytes"),
            self.backlog_max_bytes,
            &BACKLOG_BYTES,
        )
    }

    /// Reads `url`.
    ///
    /// # Errors
    /// It is neither of the two forms.
    pub(super) fn parsed(&self, field: &str) -> Result<Url, FieldError> {
        let wrong = |problem: &str| {
            FieldError::new(
                format!("{field}.url"),
                format!("{:?} {problem}", self.url),
                "write s3://bucket/prefix or file:///folder",
            )
        };
        if let Some(rest) = self.url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_end_matches('/');
            if !is_bucket(bucket) {
                return Err(wrong("names no bucket"));
            }
            let folders = || prefix.split('/');
            if !prefix.is_empty() && folders().any(|folder| matches!(folder, "" | "." | "..")) {
                return Err(wrong("has a folder without a name"));
            }
            if folders().any(|folder| folder == "AWSLogs") {
                return Err(wrong(
                    "has the folder AWSLogs, which each file's own path has",
                ));
            }
            return Ok(Url::S3 {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            });
        }
        match self.url.strip_prefix("file://").map(Path::new) {
            Some(folder) if folder.is_absolute() => Ok(Url::File(folder.to_owned())),
            Some(_) => Err(wrong("is no absolute folder")),
            None => Err(wrong("is no destination")),
        }
    }
}

impl RetentionConfig {
    /// Whether all files stay for ever.
    #[must_use]
    pub fn is_unbounded(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the fields; `field` is the table's own path, as `retention`.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn check(&self, field: &str) -> Result<(), FieldError> {
        if let Some(max_age) = self.max_age {
            within(&format!("{field}.max_age"), max_age, &MAX_AGE_SECONDS)?;
        }
        match self.max_bytes {
            Some(bytes) => within(&format!("{field}.max_bytes"), bytes, &KEPT_BYTES),
            None => Ok(()),
        }
    }
}

/// Accepts `https://host[:port]`, and `http:` to a loopback address if `allow_http`: records and
/// signatures must not cross a network in the clear.
///
/// # Errors
/// Names `field`, and what to write.
pub(super) fn check_endpoint(field: &str, url: &str, allow_http: bool) -> Result<(), FieldError> {
    let wrong = |problem, fix| FieldError::new(field, format!("{url:?} {problem}"), fix);
    if url.contains('@') {
        // Not quoted: what stands before the @ may be a secret.
        return Err(FieldError::new(
            field,
            "has a user name",
            "write it without; credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ));
    }
    let (is_http, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(wrong("is no URL", "write https://host:port")),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = host(authority);
    if host.is_empty() {
        return Err(wrong("names no host", "write https://host:port"));
    }
    if is_http && !is_loopback(host) {
        return Err(wrong("is http to another host", "write https://"));
    }
    if is_http && !allow_http {
        return Err(wrong("is http", "set allow_http = true beside it"));
    }
    Ok(())
}

/// The host of `host:port` or `[address]:port`.
fn host(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Amazon's rule for general-purpose buckets, in short.
fn is_bucket(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: u8| allowed(byte) || byte == b'-' || byte == b'.';
    (3..=63).contains(&name.len())
        && name.bytes().all(inner)
        && name.bytes().next().is_some_and(allowed)
        && name.bytes().last().is_some_and(allowed)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
