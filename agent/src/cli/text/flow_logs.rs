//! Flow logs as a table. Pure.

use super::{NONE, table};
use crate::api::{FlowLogDescription, FlowLogList};
use crate::delivery::FlowLog;
use crate::flow_log::{FileFormat, TrafficType};
use crate::upload::UploadStatus;

/// A row for each log, and a line for each that does not get on or whose files do not.
pub(crate) fn logs(list: &FlowLogList) -> String {
    let header = [
        "FLOW LOG", "INTERVAL", "TRAFFIC", "ONLY", "FORMAT", "FOLDER", "FILES", "RECORDS",
        "SKIPPED", "WAITING", "UPLOADED", "QUEUED", "GIVEN UP",
    ];
    let row = |description: &FlowLogDescription| {
        let log = &description.log;
        let mut row = vec![
            log.flow_log_id.clone(),
            format!("{} s", log.max_aggregation_interval),
            traffic(log.traffic_type).to_owned(),
            only(log),
            format(log.file_format).to_owned(),
            log.dir.display().to_string(),
            description.files.to_string(),
            description.records.to_string(),
            description.skipped_packets.to_string(),
            description.waiting_epochs.to_string(),
        ];
        row.extend(match uploads(description) {
            Some(status) => [
                status.files_uploaded,
                status.files_waiting,
                status.files_given_up,
            ]
            .map(|files| files.to_string()),
            None => [NONE; 3].map(str::to_owned),
        });
        row
    };
    let mut text = table(Some(&header), list.flow_logs.iter().map(row));
    for description in &list.flow_logs {
        if description.lost_epochs > 0 {
            text += &format!(
                "{} {}\n",
                description.log.flow_log_id,
                lost(description.lost_epochs)
            );
        }
        if let Some(error) = &description.error {
            text += &format!("{} waits: {error}\n", description.log.flow_log_id);
        }
        if let Some(error) = upload_error(description) {
            text += &format!("{} uploads: {error}\n", description.log.flow_log_id);
        }
    }
    text
}

/// One log in a line.
pub(crate) fn line(description: &FlowLogDescription) -> String {
    let log = &description.log;
    let mut line = format!(
        "{} to {} every {} s, {} records in {} files",
        log.flow_log_id,
        log.dir.display(),
        log.max_aggregation_interval,
        description.records,
        description.files
    );
    if description.skipped_packets > 0 {
        line += &format!(", {} packets skipped", description.skipped_packets);
    }
    if description.lost_epochs > 0 {
        line += &format!("; {}", lost(description.lost_epochs));
    }
    if let Some(error) = &description.error {
        line += &format!("; waits: {error}");
    }
    if let Some(status) = uploads(description) {
        line += &format!(
            "; {} files uploaded, {} queued",
            status.files_uploaded, status.files_waiting
        );
        if status.files_given_up > 0 {
            line += &format!(", {} given up", status.files_given_up);
        }
    }
    if let Some(error) = upload_error(description) {
        line += &format!("; uploads: {error}");
    }
    line
}

/// SKIPDATA rows say how many packets it were.
fn lost(epochs: u64) -> String {
    format!("lacks the records of {epochs} intervals: damaged, no room for them, or given up")
}

/// What was uploaded, of a log that has a destination.
fn uploads(description: &FlowLogDescription) -> Option<&UploadStatus> {
    let status = description.upload.as_ref();
    status.filter(|status| status.url.is_some())
}

/// What went wrong last with its finished files, in the destination or on disk.
fn upload_error(description: &FlowLogDescription) -> Option<&str> {
    description.upload.as_ref()?.last_error.as_deref()
}

fn traffic(kind: TrafficType) -> &'static str {
    match kind {
        TrafficType::All => "ALL",
        TrafficType::Accept => "ACCEPT",
        TrafficType::Reject => "REJECT",
    }
}

fn format(format: FileFormat) -> &'static str {
    match format {
        FileFormat::PlainText => "plain-text",
        FileFormat::Parquet => "parquet",
    }
}

fn only(log: &FlowLog) -> String {
    let ids = log.task_ids.iter().chain(&log.subnet_ids);
    let ids: Vec<&str> = ids.chain(&log.group_ids).map(String::as_str).collect();
    if ids.is_empty() {
        NONE.to_owned()
    } else {
        ids.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_waits_says_why_below_the_table() {
        let description = FlowLogDescription {
            log: FlowLog {
                task_ids: ["web".to_owned()].into(),
                ..FlowLog::of_host()
            },
            files: 3,
            bytes: 400,
            records: 17,
            skipped_packets: 0,
            lost_epochs: 4,
            waiting_epochs: 2,
            error: Some("no room".to_owned()),
            upload: Some(UploadStatus {
                url: Some("s3://logs".to_owned()),
                files_uploaded: 5,
                files_waiting: 2,
                files_given_up: 1,
                last_error: Some("no answer".to_owned()),
                ..UploadStatus::default()
            }),
        };
        assert_eq!(
            line(&description),
            "fl-00000000000000000 to /var/log/branchline/flows every 60 s, 17 records in 3 files; \
             lacks the records of 4 intervals: damaged, no room for them, or given up; waits: no room; 5 files uploaded, 2 queued, 1 given up; uploads: no answer"
        );
        let text = logs(&FlowLogList {
            flow_logs: vec![description],
        });
        let words: Vec<&str> = text
            .lines()
            .nth(1)
            .map_or(Vec::new(), |line| line.split_whitespace().collect());
        assert_eq!(
            words,
            [
                "fl-00000000000000000",
                "60",
                "s",
                "ALL",
                "web",
                "plain-text",
                "/var/log/branchline/flows",
                "3",
                "17",
                "0",
                "2",
                "5",
                "2",
                "1"
            ]
        );
        assert!(
            text.ends_with(
                "fl-00000000000000000 lacks the records of 4 intervals: damaged, no room for them, or \
                 given up\nfl-00000000000000000 waits: no room\nfl-00000000000000000 uploads: no answer\n"
            ),
            "{text}"
        );
    }
}
