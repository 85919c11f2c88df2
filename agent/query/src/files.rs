//! Which files are asked: those below the folders that are named as flow logs, and of them those
//! whose name does not rule them out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use branchline::flow_log::FileFormat;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Seconds that a file's rows may lie outside the time in its name: AWS counts up to ten minutes
/// together and delivers later still.
const MARGIN: i64 = 1_800;
/// Most seconds of ends in one file of ours (`rotation`).
const LONGEST_SLOT: i64 = 86_400;
/// Most seconds between a row's first and last packet (`max_aggregation_interval`).
const LONGEST_ROW: i64 = 600;
/// In the name of a file that is being written.
const UNFINISHED: &str = ".tmp-";

/// A file of rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What its name says, if it is a name as AWS gives them.
    pub(crate) named: Option<Named>,
    /// Whether its rows are columns.
    pub(crate) is_parquet: bool,
}

/// What a name says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    /// As `fl-0123456789abcdef0`.
    pub(crate) flow_log_id: String,
    /// In seconds since 1970, where its rows' ends begin.
    pub(crate) time: i64,
}

/// The times that are asked for: from the first on and before the second, in seconds since 1970.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) since: Option<i64>,
    pub(crate) until: Option<i64>,
}

/// A folder or what is in it cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("list {}", path.display())]
pub(crate) struct ListError {
    path: PathBuf,
    source: io::Error,
}

/// The flow-log files below `folders`, in any depth, each once. Names that begin with a dot and
/// links to folders are passed over.
///
/// # Errors
/// A folder cannot be listed.
pub(crate) fn find(folders: &[PathBuf]) -> Result<Vec<LogFile>, ListError> {
    let mut found = BTreeSet::new();
    for folder in folders {
        let list = |source| ListError {
            path: folder.clone(),
            source,
        };
        // So that a file is there once if one folder is below another.
        walk(&folder.canonicalize().map_err(list)?, &mut found)?;
    }
    Ok(found.into_iter().collect())
}

fn walk(folder: &Path, found: &mut BTreeSet<LogFile>) -> Result<(), ListError> {
    let list = |source| ListError {
        path: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        // Retention may take a folder away meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(list)?,
    };
    for entry in entries {
        let entry = entry.map_err(list)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if entry.file_type().map_err(list)?.is_dir() {
            walk(&entry.path(), found)?;
        } else if let Some(is_parquet) = kind(&name) {
            found.insert(LogFile {
                path: entry.path(),
                named: named(&name),
                is_parquet,
            });
        }
    }
    Ok(())
}

/// Whether a name is a Parquet file's or a text file's of rows; `None` for any other.
fn kind(name: &str) -> Option<bool> {
    let is = |format: FileFormat| name.ends_with(format.suffix());
    if name.contains(UNFINISHED) {
        return None;
    }
    (is(FileFormat::Parquet) || is(FileFormat::PlainText)).then(|| is(FileFormat::Parquet))
}

/// Reads `123456789012_vpcflowlogs_eu-west-1_fl-0a1b_20261128T1015Z_fe123456.log.gz`.
fn named(name: &str) -> Option<Named> {
    let mut parts = name.rsplit('_');
    let (_, time, id) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = time.strip_suffix('Z')?;
    let time = ["%Y%m%dT%H%M", "%Y%m%dT%H%M%S"]
        .iter()
        .find_map(|format| DateTime::strptime(format, digits).ok())?;
    let time = time.to_zoned(TimeZone::UTC).ok()?.timestamp();
    id.starts_with("fl-").then(|| Named {
        flow_log_id: id.to_owned(),
        time: time.as_second(),
    })
}

impl Times {
    /// Of two points in time; parts of seconds widen it.
    pub(crate) fn new(since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        let up = |time: Timestamp| time.as_second() + i64::from(time.subsec_nanosecond() > 0);
        Self {
            since: since.map(Timestamp::as_second),
            until: until.map(up),
        }
    }
}

/// The files that may have rows of `times` and of one of the logs `ids`, or of any if that is empty.
///
/// Files of one log follow one another, so the rows of each end before the next one's time.
pub(crate) fn choose(files: Vec<LogFile>, times: Times, ids: &[String]) -> Vec<LogFile> {
    let mut of_logs: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for named in files.iter().filter_map(|file| file.named.as_ref()) {
        let of_log = of_logs.entry(named.flow_log_id.clone()).or_default();
        of_log.insert(named.time);
    }
    let may_have = |file: &LogFile| {
        let Some(named) = &file.named else {
            return ids.is_empty();
        };
        let next = of_logs
            .get(&named.flow_log_id)
            .and_then(|times| times.range(named.time + 1..).next());
        let ends_before = next
            .copied()
            .unwrap_or(i64::MAX)
            .min(named.time + LONGEST_SLOT);
        (ids.is_empty() || ids.contains(&named.flow_log_id))
            && times.since.is_none_or(|since| ends_before + MARGIN > since)
            && times
                .until
                .is_none_or(|until| named.time - MARGIN - LONGEST_ROW < until)
    };
    files.into_iter().filter(may_have).collect()
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
