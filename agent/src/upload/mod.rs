//! Finished flow-log files: each goes to an object store once, and off the disk in time.
//!
//! The modules stand in the order of a file's path: what is configured, whose file it is, what is due,
//! what is done about it. A file that lies under its final name is complete and never changes; the
//! folder itself is the queue, so nothing that was finished is lost with the agent. The store only
//! remembers which files are uploaded and how far a large one has come. Never writes a flow-log file.

mod config;

mod name;

mod plan;

mod folder;

mod journal;

mod connector;

mod destination;

mod error;

mod multipart;

mod transfer;

mod log;

mod work;

mod uploader;

pub use config::{RetentionConfig, UploadConfig};
pub use destination::Environment;
pub use error::UploadError;
pub use uploader::{DeliveredLog, Uploads};

use serde::{Deserialize, Serialize};

/// What became of one log's files since the agent started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UploadStatus {
    /// The log.
    pub flow_log_id: String,
    /// Where its files go, without credentials; `None` if they stay on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Files that are in the destination.
    pub files_uploaded: u64,
    /// Their bytes.
    pub bytes_uploaded: u64,
    /// Files on disk that are not there yet.
    pub files_waiting: u64,
    /// Their bytes.
    pub bytes_waiting: u64,
    /// Files removed before they were uploaded: the backlog was over its bound.
    pub files_given_up: u64,
    /// Their bytes.
    pub bytes_given_up: u64,
    /// Files not uploaded because the destination has another object of their name; tried again at
    /// the next start.
    pub files_refused: u64,
    /// Files removed by retention.
    pub files_expired: u64,
    /// Their bytes.
    pub bytes_expired: u64,
    /// What went wrong last, while it still does; a refused file is named until the next start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}
