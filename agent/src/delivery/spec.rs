//! What a flow log is to record and where its files go, in the names of EC2's `CreateFlowLogs`.
//!
//! Pure. Checks form and ranges; whether a folder can be written shows when it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use branchline_common::verdict::Service;
use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, within};
use crate::flow_log::{FileFormat, Format, Prefix, ROOT, TagFieldSpecification, TrafficType};
use crate::flows::{FlowTuple, Interface};
use crate::upload::{RetentionConfig, UploadConfig};

/// Shortest and longest aggregation interval, in seconds.
pub const INTERVAL_SECONDS: std::ops::RangeInclusive<u64> = 1..=600;
/// Shortest and longest time after which a file is finished, in seconds.
const ROTATION_SECONDS: std::ops::RangeInclusive<u64> = 1..=86_400;
/// Smallest and largest size at which a file is finished, in bytes.
const FILE_BYTES: std::ops::RangeInclusive<u64> = 4_096..=10_000_000_000;

/// One flow log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FlowLog {
    /// As `fl-0123456789abcdef0`; one log each.
    pub flow_log_id: String,
    /// The folder of its files, absolute.
    #[schema(value_type = String)]
    pub dir: PathBuf,
    /// Folders between `dir` and `AWSLogs`.
    pub prefix: Prefix,
    /// Seconds over which packets are added up in one record, 1 to 600.
    pub max_aggregation_interval: u64,
    /// Which records are written.
    pub traffic_type: TrafficType,
    /// Services of the VPC, which VPC Flow Logs leave out, whose records are written as well.
    #[schema(value_type = Vec<String>)]
    pub include_services: BTreeSet<Service>,
    /// The record's fields as `${version} ${account-id}`, or by name with blanks or commas; the
    /// default format if empty.
    pub log_format: String,
    /// Tag keys for the tag fields.
    pub tag_field_specifications: Vec<TagFieldSpecification>,
    /// How rows are written.
    pub file_format: FileFormat,
    /// Whether folders are named as `year=2026`.
    pub hive_compatible_partitions: bool,
    /// Whether each hour has a folder.
    pub per_hour_partition: bool,
    /// Seconds after which a file is finished at the latest, if no window is open.
    pub rotation: u64,
    /// Bytes (compressed) past which a file is finished.
    pub max_file_bytes: u64,
    /// Only the ENIs of these tasks.
    pub task_ids: BTreeSet<String>,
    /// Only ENIs in these subnets.
    pub subnet_ids: BTreeSet<String>,
    /// Only ENIs that have one of these security groups.
    pub group_ids: BTreeSet<String>,
    /// The object store that its finished files go to, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadConfig>,
    /// How long its files stay in `dir`.
    #[serde(skip_serializing_if = "RetentionConfig::is_unbounded")]
    pub retention: RetentionConfig,
}

impl Default for FlowLog {
    fn default() -> Self {
        Self {
            flow_log_id: String::new(),
            dir: PathBuf::new(),
            prefix: Prefix::default(),
            max_aggregation_interval: 60,
            traffic_type: TrafficType::All,
            include_services: BTreeSet::new(),
            log_format: String::new(),
            tag_field_specifications: Vec::new(),
            file_format: FileFormat::PlainText,
            hive_compatible_partitions: false,
            per_hour_partition: false,
            rotation: 300,
            max_file_bytes: 75_000_000,
            task_ids: BTreeSet::new(),
            subnet_ids: BTreeSet::new(),
            group_ids: BTreeSet::new(),
            upload: None,
            retention: RetentionConfig::default(),
        }
    }
}

impl FlowLog {
    /// The folder that holds its files and no others' but of logs in the same place.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join(self.prefix.as_str()).join(ROOT)
    }

    /// The log of a host that configures none: everything, in the default format, each minute.
    #[must_use]
    pub fn of_host() -> Self {
        Self {
            flow_log_id: "fl-00000000000000000".to_owned(),
            dir: "/var/log/branchline/flows".into(),
            ..Self::default()
        }
    }

    /// Whether it records the traffic of an ENI at all.
    #[must_use]
    pub fn covers(&self, interface: &Interface) -> bool {
        let is_named = |ids: &BTreeSet<String>, id: &Option<String>| {
            ids.is_empty() || id.as_ref().is_some_and(|id| ids.contains(id))
        };
        let mut groups = interface.group_ids.iter();
        is_named(&self.task_ids, &interface.task.id)
            && is_named(&self.subnet_ids, &interface.subnet_id)
            && (self.group_ids.is_empty() || groups.any(|id| self.group_ids.contains(id)))
    }

    /// Whether records of `tuple` are for it, of an ENI that it covers. Traffic that is not is no
    /// traffic at all for it; what its traffic type hides is.
    #[must_use]
    pub fn includes(&self, tuple: &FlowTuple) -> bool {
        self.includes_service(tuple.service)
    }

    /// As [`FlowLog::includes`], of packets that passed unfiltered for `service`, or were filtered.
    #[must_use]
    pub fn includes_service(&self, service: Option<Service>) -> bool {
        service.is_none_or(|service| self.include_services.contains(&service))
    }

    /// Its format.
    ///
    /// # Errors
    /// `log_format`, below `field`.
    pub fn format(&self, field: &str) -> Result<Format, FieldError> {
        if self.log_format.is_empty() {
            return Ok(Format::default());
        }
        Format::parse(&self.log_format, &self.tag_field_specifications)
            .map_err(|error| FieldError::new(format!("{field}.log_format"), error.to_string(), ""))
    }

    /// Checks every field; `field` is the path of the log, as `flow_logs[0]`.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self, field: &str) -> Result<(), FieldError> {
        let at = |name: &str| format!("{field}.{name}");
        check_flow_log_id(&self.flow_log_id, &at("flow_log_id"))?;
        check_dir(&self.dir, &at("dir"))?;
        within(
            &at("max_aggregation_interval"),
            self.max_aggregation_interval,
            &INTERVAL_SECONDS,
        )?;
        within(&at("rotation"), self.rotation, &ROTATION_SECONDS)?;
        within(&at("max_file_bytes"), self.max_file_bytes, &FILE_BYTES)?;
        self.format(field)?;
        if let Some(upload) = &self.upload {
            upload.check(&at("upload"))?;
        }
        self.retention.check(&at("retention"))
    }
}

/// Checks several logs, which are to be in force together.
///
/// # Errors
/// The first field that is wrong, or an id that two have.
pub fn check_all(logs: &[FlowLog]) -> Result<(), FieldError> {
    for (index, log) in logs.iter().enumerate() {
        let field = format!("flow_logs[{index}]");
        log.check(&field)?;
        let is_same = |other: &FlowLog| other.flow_log_id == log.flow_log_id;
        if logs[..index].iter().any(is_same) {
            return Err(FieldError::new(
                format!("{field}.flow_log_id"),
                format!("{:?} is the id of another log as well", log.flow_log_id),
                "give each log an id of its own",
            ));
        }
    }
    Ok(())
}

/// The seconds that every one of `logs` needs packets to be told apart by: the greatest common
/// divisor of their intervals; a minute if there is none.
#[must_use]
pub fn epoch_seconds<'a>(logs: impl IntoIterator<Item = &'a FlowLog>) -> u64 {
    let intervals = logs.into_iter().map(|log| log.max_aggregation_interval);
    intervals.reduce(greatest_common_divisor).unwrap_or(60)
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

fn check_flow_log_id(id: &str, field: &str) -> Result<(), FieldError> {
    let digits = id.strip_prefix("fl-").unwrap_or_default();
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if matches!(digits.len(), 8 | 17) && digits.bytes().all(is_hex) {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format!("{id:?} is no flow log id"),
        "write fl- and 8 or 17 lower-case hex digits",
    ))
}

fn check_dir(dir: &Path, field: &str) -> Result<(), FieldError> {
    if dir.is_absolute() {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format!("{dir:?} is not an absolute path"),
        "start it with /",
    ))
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
