//! Cases of record ends and the paths of the files that their rows are in.

use anyhow::{Context, Result, bail};
use branchline::flow_log::{FileFormat, Layout, Prefix};
use serde::Deserialize;
use serde_json::Value;

use super::{Mismatch, Outcome, entries};

/// One path.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    record_end: u64,
    /// For readers only.
    #[serde(default, rename = "record_end_utc")]
    _utc: String,
    account: String,
    region: String,
    flow_log_id: String,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    hive: bool,
    #[serde(default)]
    per_hour: bool,
    format: FileFormat,
    /// 8 hex digits.
    hash: String,
    /// Below the destination's root.
    expect: String,
}

/// Runs a file's cases.
///
/// # Errors
/// A case is not as the format says.
pub fn run(file: &Value) -> Result<Outcome> {
    let cases: Vec<Case> = entries(file, "cases")?;
    let mut mismatches = Vec::new();
    for case in &cases {
        let path = path(case).with_context(|| case.id.clone())?;
        if path != case.expect {
            let text = format!("{path}, not {}", case.expect);
            mismatches.push(Mismatch::new(&case.id, text));
        }
    }
    Ok(Outcome {
        cases: cases.len(),
        mismatches,
    })
}

fn path(case: &Case) -> Result<String> {
    if case.hash.len() != 8 {
        bail!("hash {} has not 8 digits", case.hash);
    }
    let layout = Layout {
        account_id: case.account.clone(),
        region: case.region.clone(),
        flow_log_id: case.flow_log_id.clone(),
        prefix: Prefix::parse(&case.prefix)?,
        hive_compatible_partitions: case.hive,
        per_hour_partition: case.per_hour,
        file_format: case.format,
        ..Layout::default()
    };
    let hash = u32::from_str_radix(&case.hash, 16)?;
    let path = layout.path(layout.slot(case.record_end), hash);
    Ok(path.to_string_lossy().into_owned())
}
