//! What the API says of flow logs, in the field names of their file. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::delivery::{FlowLog, LogState};
use crate::upload::UploadStatus;

/// The body of `POST /v1/flow-logs`, and what a file of flow logs holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowLogFile {
    /// All logs that are to be in force.
    #[serde(default)]
    pub flow_logs: Vec<FlowLog>,
}

/// The answer to `GET /v1/flow-logs` and to `POST`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FlowLogList {
    /// Every log in force.
    pub flow_logs: Vec<FlowLogDescription>,
}

/// A log as it works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FlowLogDescription {
    /// What it is to do.
    pub log: FlowLog,
    /// Files that it has written since it was made.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records in them, without `NODATA` and `SKIPDATA` rows.
    pub records: u64,
    /// Packets that are in no record, of which `SKIPDATA` rows tell.
    pub skipped_packets: u64,
    /// Intervals whose records are in none of its files: damaged, without room, or given up.
    #[serde(default)]
    pub lost_epochs: u64,
    /// Intervals whose counts wait in the spool for its next file.
    pub waiting_epochs: u32,
    /// Why it does not get on, if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What became of its finished files since the agent started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadStatus>,
}

impl From<LogState> for FlowLogDescription {
    fn from(state: LogState) -> Self {
        Self {
            log: state.log,
            files: state.totals.files,
            bytes: state.totals.bytes,
            records: state.totals.records,
            skipped_packets: state.totals.skipped_packets,
            lost_epochs: state.totals.lost_epochs,
            waiting_epochs: state.waiting_epochs,
            error: state.error,
            upload: None,
        }
    }
}

impl FlowLogList {
    /// The logs `states`, each with what `uploads` has of its files.
    #[must_use]
    pub fn of(states: Vec<LogState>, uploads: Vec<UploadStatus>) -> Self {
        let mut uploads: BTreeMap<String, UploadStatus> = uploads
            .into_iter()
            .map(|status| (status.flow_log_id.clone(), status))
            .collect();
        let describe = |state: LogState| FlowLogDescription {
            upload: uploads.remove(&state.log.flow_log_id),
            ..FlowLogDescription::from(state)
        };
        Self {
            flow_logs: states.into_iter().map(describe).collect(),
        }
    }
}
