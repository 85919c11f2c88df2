//! Which files are flow-log files of ours, by path alone; everything else in the folder is not ours to touch.
//!
//! Source: VPC User Guide, "Flow log files".

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Ends of a file's name.
const SUFFIXES: [&str; 2] = [".log.gz", ".log.parquet"];
/// The folder that begins AWS's part of a path.
const ROOT: &str = "AWSLogs";
/// What stands before each folder's value in the layout for Hive.
const HIVE: [&str; 7] = [
    "aws-account-id=",
    "aws-service=",
    "aws-region=",
    "year=",
    "month=",
    "day=",
    "hour=",
];

/// What a path tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// The log.
    pub(super) flow_log_id: &'a str,
    /// The time in the name, in seconds since 1970.
    pub(super) time: u64,
}

/// Reads the path of a file, relative to its log's folder, as
/// `AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/11/28/123456789012_vpcflowlogs_eu-west-1_fl-0a1b_20261128T1005Z_fe123456.log.gz`;
/// with a prefix before it, with folders for Hive or with one for the hour. `None` if it is not in every
/// part such a path.
pub(super) fn parse(relative: &str) -> Option<Name<'_>> {
    let mut folders: Vec<&str> = relative.split('/').collect();
    let file = folders.pop()?;
    if folders
        .iter()
        .any(|folder| matches!(*folder, "" | "." | ".."))
    {
        return None;
    }
    let stem = SUFFIXES
        .iter()
        .find_map(|suffix| file.strip_suffix(suffix))?;
    let [account, service, region, flow_log_id, time, hash] =
        stem.split('_').collect::<Vec<_>>().try_into().ok()?;
    let is_named = is_digits(account, 12)
        && service == "vpcflowlogs"
        && is_word(region)
        && flow_log_id.strip_prefix("fl-").is_some_and(is_word)
        && is_word(hash);
    let root = folders.iter().rposition(|folder| *folder == ROOT)?;
    let is_placed = is_layout(folders.get(root + 1..)?, account, region);
    (is_named && is_placed).then_some(Name {
        flow_log_id,
        time: seconds(time)?,
    })
}

/// True if `folders` are account, service, region, year, month, day and perhaps hour.
fn is_layout(folders: &[&str], account: &str, region: &str) -> bool {
    let is_hive = folders
        .first()
        .is_some_and(|first| first.starts_with(HIVE[0]));
    let value = |(folder, label): (&&'_ str, &&str)| match is_hive {
        true => folder.strip_prefix(*label).map(str::to_owned),
        false => Some((*folder).to_owned()),
    };
    let Some(values) = folders
        .iter()
        .zip(&HIVE)
        .map(value)
        .collect::<Option<Vec<_>>>()
    else {
        return false;
    };
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let [of, service, in_region, year, month, day, hour @ ..] = values.as_slice() else {
        return false;
    };
    folders.len() <= HIVE.len()
        && *of == account
        && *service == "vpcflowlogs"
        && *in_region == region
        && is_digits(year, 4)
        && [month, day]
            .into_iter()
            .chain(hour)
            .all(|part| is_digits(part, 2))
}

/// `20261128T1005Z`, or with seconds.
fn seconds(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('Z')?;
    let format = match digits.len() {
        13 => "%Y%m%dT%H%M",
        15 => "%Y%m%dT%H%M%S",
        _ => return None,
    };
    let time = DateTime::strptime(format, digits).ok()?;
    let zoned = time.to_zoned(TimeZone::UTC).ok()?;
    u64::try_from(zoned.timestamp().as_second()).ok()
}

fn is_digits(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_word(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::flow_log::{FileFormat, Layout, Prefix};

    const FILE: &str = "123456789012_vpcflowlogs_eu-west-1_fl-0a1b_20261128T1005Z_fe123456.log.gz";

    #[test]
    fn knows_a_file_by_its_whole_path() {
        let expected = Some(Name {
            flow_log_id: "fl-0a1b",
            time: 1_795_860_300,
        });
        let hive = "AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=eu-west-1/year=2026/month=11/day=28";
        for folder in [
            "AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/11/28",
            "AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/11/28/10",
            "team/x/AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/11/28",
            hive,
            &format!("{hive}/hour=10"),
        ] {
            assert_eq!(parse(&format!("{folder}/{FILE}")), expected, "{folder}");
        }
    }

    proptest! {
        /// Whatever a log's layout is, its files are found again below its folder.
        #[test]
        fn every_file_that_a_log_writes_is_known(
            prefix in "(/?([a-zA-Z0-9._= -]{1,9}/){0,3})",
            hive: bool,
            hour: bool,
            parquet: bool,
            region in "[a-z0-9-]{1,64}",
            id in "fl-([0-9a-f]{8}|[0-9a-f]{17})",
            slot in 0_u64..4_102_444_800,
            hash: u32,
        ) {
            let Ok(prefix) = Prefix::parse(&prefix) else {
                return Ok(());
            };
            let layout = Layout {
                account_id: "123456789012".to_owned(),
                region,
                flow_log_id: id.clone(),
                prefix,
                hive_compatible_partitions: hive,
                per_hour_partition: hour,
                file_format: [FileFormat::PlainText, FileFormat::Parquet][usize::from(parquet)],
                slot_seconds: 60,
            };
            let path = layout.path(slot, hash);
            let expected = Name { flow_log_id: &id, time: slot - slot % 60 };
            prop_assert_eq!(parse(path.to_str().unwrap()), Some(expected), "{:?}", path);
        }
    }

    #[test]
    fn anything_else_is_not_ours() {
        let day = "AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/11/28";
        for path in [
            FILE.to_owned(),
            format!("AWSLogs/{FILE}"),
            format!("AWSLogs/210987654321/vpcflowlogs/eu-west-1/2026/11/28/{FILE}"),
            format!("AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/11/28/{FILE}"),
            format!("AWSLogs/123456789012/other/eu-west-1/2026/11/28/{FILE}"),
            format!("AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/11/{FILE}"),
            format!("AWSLogs/aws-account-id=123456789012/vpcflowlogs/eu-west-1/2026/11/28/{FILE}"),
            format!("{day}/10/11/{FILE}"),
            format!("{day}/x/{FILE}"),
            format!("../{day}/{FILE}"),
            format!("/{day}/{FILE}"),
            format!("{day}/.{FILE}"),
            format!("{day}/{FILE}.tmp-1"),
            format!("{day}/{}", FILE.replace("fl-0a1b_", "")),
            format!("{day}/{}", FILE.replace("fl-", "")),
            format!("{day}/{}", FILE.replace("1128T", "1328T")),
            format!("{day}/{}", FILE.replace("_fe123456", "_")),
            format!("{day}/{}", FILE.replace(".log.gz", ".gz")),
            format!("{day}/notes.txt"),
        ] {
            assert_eq!(parse(&path), None, "{path}");
        }
    }
}
