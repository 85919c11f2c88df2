//! Flow-log files: one gzip text file per interval, complete whenever its name can be seen.
//!
//! Never decides what is in a file or when it is written.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

use super::record::{HEADER, Line};

/// End of every file's name.
const SUFFIX: &str = ".log.gz";
/// What a name is followed by while its file is being written; the process id comes after it.
const UNFINISHED: &str = ".tmp-";
/// zlib's own default. For 262,144 lines it takes 0.6 s where level 3 takes 0.2 s, and files are an
/// eighth smaller: files are kept for months and written once, off the packets' way.
const LEVEL: u32 = 6;

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "{attempt} {} (flow_log.dir); make room or make it writable: until then counts wait in the kernel and every interval's end tries again",
    path.display()
)]
pub struct FileError {
    /// What was attempted.
    attempt: &'static str,
    /// The file or folder.
    path: PathBuf,
    /// Why.
    source: io::Error,
}

/// The folder of the files.
#[derive(Debug, Clone)]
pub(super) struct FlowLogDir(PathBuf);

/// Name of an epoch's file; `end` is the end of its window in Unix seconds.
pub(super) fn name(account_id: &str, end: u64, epoch: u32) -> String {
    let end = i64::try_from(end)
        .ok()
        .and_then(|end| Timestamp::from_second(end).ok())
        .unwrap_or(Timestamp::MAX);
    let end = end.strftime("%Y%m%dT%H%M%SZ");
    format!("{account_id}_vpcflowlogs_local_{end}_{epoch}{SUFFIX}")
}

impl FlowLogDir {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes the folder, and removes what a killed agent has left half written.
    ///
    /// # Errors
    /// The folder cannot be made or read, or a file not removed.
    pub(super) fn prepare(&self) -> Result<(), FileError> {
        fs::create_dir_all(&self.0).map_err(self.failed("make the folder"))?;
        for entry in fs::read_dir(&self.0).map_err(self.failed("read the folder"))? {
            let entry = entry.map_err(self.failed("read the folder"))?;
            if is_unfinished(&entry.file_name().to_string_lossy()) {
                let path = entry.path();
                fs::remove_file(&path).map_err(failed("remove the unfinished file", &path))?;
            }
        }
        Ok(())
    }

    /// Writes the file `name`, replacing one that is there. When this returns, content and name are
    /// on disk; before, no part of it can be seen under that name.
    ///
    /// # Errors
    /// Names the file or folder; nothing is changed then, or the file is complete but may be gone
    /// after a power failure.
    pub(super) fn write(&self, name: &str, lines: &[Line<'_>]) -> Result<PathBuf, FileError> {
        fs::create_dir_all(&self.0).map_err(self.failed("make the folder"))?;
        let unfinished = format!(".{name}{UNFINISHED}{}", std::process::id());
        let unfinished = self.0.join(unfinished);
        let path = self.0.join(name);
        if let Err(source) = write_lines(&unfinished, lines) {
            // What cannot be removed now is removed at the next start.
            drop(fs::remove_file(&unfinished));
            return Err(failed("write the flow-log file", &path)(source));
        }
        fs::rename(&unfinished, &path).map_err(failed("name the flow-log file", &path))?;
        File::open(&self.0)
            .and_then(|dir| dir.sync_all())
            .map_err(self.failed("write to disk the folder"))?;
        Ok(path)
    }

    fn failed(&self, attempt: &'static str) -> impl Fn(io::Error) -> FileError {
        failed(attempt, &self.0)
    }
}

fn is_unfinished(name: &str) -> bool {
    name.starts_with('.')
        && name.contains("_vpcflowlogs_")
        && name.contains(&format!("{SUFFIX}{UNFINISHED}"))
}

fn failed(attempt: &'static str, path: &Path) -> impl Fn(io::Error) -> FileError {
    move |source| FileError {
        attempt,
        path: path.to_owned(),
        source,
    }
}

/// One gzip member; the header holds no time, so the same lines are the same bytes.
fn write_lines(path: &Path, lines: &[Line<'_>]) -> io::Result<()> {
    let file = BufWriter::new(File::create(path)?);
    let mut text = BufWriter::new(GzEncoder::new(file, Compression::new(LEVEL)));
    writeln!(text, "{HEADER}")?;
    for line in lines {
        writeln!(text, "{line}")?;
    }
    let file = text.into_inner()?.finish()?.into_inner()?;
    file.sync_all()
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
