//! Names and folders of flow-log files, as on Amazon S3.
//!
//! Pure: a path is relative to the destination's root, and times are in UTC. Never makes a folder and
//! never chooses a file's hash.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The folder below which AWS puts every log; a prefix may not contain it.
/// The folder that all paths have.
pub const ROOT: &str = "AWSLogs";
/// Seconds of a slot where nothing else is said, as at AWS.
const DEFAULT_SLOT_SECONDS: u64 = 300;

/// What a file of rows is, as EC2's `FileFormat` has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
    /// Lines of text, gzip.
    #[default]
    PlainText,
    /// Apache Parquet.
    Parquet,
}

impl FileFormat {
    /// How a file's name ends.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::PlainText => ".log.gz",
            Self::Parquet => ".log.parquet",
        }
    }
}

/// Folders of the operator's above `AWSLogs`; may be none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct Prefix(String);

/// Text that is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no prefix; write folders with / between them, none of them AWSLogs, . or ..")]
pub struct PrefixError(String);

impl Prefix {
    /// The folders with `/` between them.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads folders with `/` between them; one at the start or end is left out.
    ///
    /// # Errors
    /// A folder is empty, `.`, `..` or `AWSLogs`, which readers of logs look for, or has a NUL byte.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        let trimmed = text.strip_prefix('/').unwrap_or(text);
        let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
        let is_folder =
            |name: &str| !matches!(name, "" | "." | ".." | ROOT) && !name.contains('\0');
        if matches!(text, "" | "/") || trimmed.split('/').all(is_folder) {
            Ok(Self(trimmed.to_owned()))
        } else {
            Err(PrefixError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        Self::parse(&text)
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.0
    }
}

/// Where the files of one log are. Options of the destination have the names of EC2's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Account number, 12 digits.
    pub account_id: String,
    /// As `eu-west-1`.
    pub region: String,
    /// `fl-` and 17 hex digits.
    pub flow_log_id: String,
    /// Folders above `AWSLogs`.
    pub prefix: Prefix,
    /// Whether folders are named as Hive wants them, `year=2018`.
    pub hive_compatible_partitions: bool,
    /// Whether each hour has a folder of its own.
    pub per_hour_partition: bool,
    /// What the files are.
    pub file_format: FileFormat,
    /// Seconds of ends that one file holds, from 1 on.
    pub slot_seconds: u64,
}

impl Default for Layout {
    /// Plain folders by day, text, slots of five minutes; of nobody.
    fn default() -> Self {
        Self {
            account_id: String::new(),
            region: String::new(),
            flow_log_id: String::new(),
            prefix: Prefix::default(),
            hive_compatible_partitions: false,
            per_hour_partition: false,
            file_format: FileFormat::default(),
            slot_seconds: DEFAULT_SLOT_SECONDS,
        }
    }
}

impl Layout {
    /// Start of the slot that a row goes to which ends at `end`; both in seconds since 1970.
    #[must_use]
    pub fn slot(&self, end: u64) -> u64 {
        end - end % self.slot_seconds.max(1)
    }

    /// The path of a file of the slot that starts at `slot`. Files of one slot differ by `hash`.
    #[must_use]
    pub fn path(&self, slot: u64, hash: u32) -> PathBuf {
        let mut path = self.folder(slot);
        path.push('/');
        path.push_str(&self.name(slot, hash));
        path.into()
    }

    /// The folder of that file, without a slash at its end.
    fn folder(&self, slot: u64) -> String {
        let (account, region) = (&self.account_id, &self.region);
        let mut folder = self.prefix.0.clone();
        if !folder.is_empty() {
            folder.push('/');
        }
        let (of_log, day, hour) = if self.hive_compatible_partitions {
            (
                format!("aws-account-id={account}/aws-service=vpcflowlogs/aws-region={region}"),
                "year=%Y/month=%m/day=%d",
                "/hour=%H",
            )
        } else {
            (format!("{account}/vpcflowlogs/{region}"), "%Y/%m/%d", "/%H")
        };
        let hour = if self.per_hour_partition { hour } else { "" };
        let time = time(slot);
        let (day, hour) = (time.strftime(day), time.strftime(hour));
        folder.push_str(&format!("{ROOT}/{of_log}/{day}{hour}"));
        folder
    }

    fn name(&self, slot: u64, hash: u32) -> String {
        let Self {
            account_id,
            region,
            flow_log_id,
            ..
        } = self;
        let time = time(slot);
        let time = time.strftime("%Y%m%dT%H%MZ");
        let suffix = self.file_format.suffix();
        format!("{account_id}_vpcflowlogs_{region}_{flow_log_id}_{time}_{hash:08x}{suffix}")
    }
}

/// The last time there is, for seconds beyond it.
fn time(second: u64) -> Timestamp {
    let second = i64::try_from(second).ok();
    let time = second.and_then(|second| Timestamp::from_second(second).ok());
    time.unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn layout() -> Layout {
        Layout {
            account_id: "123456789012".to_owned(),
            region: "eu-west-1".to_owned(),
            flow_log_id: "fl-1234abcd".to_owned(),
            ..Layout::default()
        }
    }

    #[test]
    fn folder_and_name_are_of_the_slots_start() {
        let layout = Layout {
            per_hour_partition: true,
            ..layout()
        };
        // 2024-02-29 23:59:59, the last second of its slot, hour and day.
        let slot = layout.slot(1_709_251_199);
        assert_eq!(slot, 1_709_250_900);
        assert_eq!(layout.slot(1_709_251_200), 1_709_251_200);
        let expected = "AWSLogs/123456789012/vpcflowlogs/eu-west-1/2024/02/29/23/\
                        123456789012_vpcflowlogs_eu-west-1_fl-1234abcd_20240229T2355Z_0000000a.log.gz";
        assert_eq!(layout.path(slot, 10), PathBuf::from(expected));
    }

    #[test]
    fn a_slot_may_be_of_any_length() {
        for (slot_seconds, expected) in [(60, 1_020), (600, 600), (1, 1_079), (0, 1_079)] {
            let layout = Layout {
                slot_seconds,
                ..layout()
            };
            assert_eq!(layout.slot(1_079), expected, "{slot_seconds}");
        }
    }

    #[test]
    fn a_prefix_stays_below_the_root_and_above_aws_logs() {
        for (text, expected) in [
            ("", ""),
            ("/", ""),
            ("a", "a"),
            ("/a/b/", "a/b"),
            ("xAWSLogs", "xAWSLogs"),
        ] {
            assert_eq!(
                String::from(Prefix::parse(text).unwrap()),
                expected,
                "{text}"
            );
        }
        for text in [
            "AWSLogs",
            "a/AWSLogs/b",
            "a//b",
            "../a",
            "a/.",
            "a//",
            "a\0",
        ] {
            let error = Prefix::parse(text).unwrap_err();
            assert!(error.to_string().contains("none of them AWSLogs"), "{text}");
        }
        let prefix = serde_json::from_str::<Prefix>("\"a/AWSLogs\"");
        assert!(prefix.is_err());
    }
}
