//! What a delivery does outside itself: files and the store, one call a step.
//!
//! The trait exists so that the order of steps can be tested with a stop at each of them. Never
//! decides what is done.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::batch::UNFINISHED;
use super::progress::{Progress, Publication};
use super::spec::FlowLog;
use crate::free_space::MinFreeSpace;
use crate::state::{StateError, Store};

/// Why rows cannot be written now. They stay in the spool, and are tried again.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// A file or folder cannot be written.
    #[error(
        "{attempt} {}; make room or make it writable: until then the counts wait in the spool",
        path.display()
    )]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store cannot be read or written.
    #[error("keep the flow log's place")]
    State(#[from] StateError),
}

/// A file that has its name and never changes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinishedFile<'a> {
    /// Its log.
    pub flow_log_id: &'a str,
    /// Its path below the log's folder.
    pub relative: &'a str,
    /// Its size.
    pub bytes: u64,
}

/// Who is told of finished files; must return at once. A file may be told of twice, and one that was
/// named before the agent started is not told of at all.
pub type OnFinished = Arc<dyn Fn(FinishedFile<'_>) + Send + Sync>;

/// Files and the store. Each call is done or not done, and done for good when it returns.
pub(super) trait Ground: Send + 'static {
    /// How far a log has come, if it was ever noted.
    ///
    /// # Errors
    /// `State`.
    fn progress(&self, flow_log_id: &str) -> Result<Option<Progress>, DeliveryError>;

    /// Notes how far a log has come.
    ///
    /// # Errors
    /// `State`.
    fn put_progress(&self, flow_log_id: &str, progress: &Progress) -> Result<(), DeliveryError>;

    /// Whether `dir` has room for more files.
    ///
    /// # Errors
    /// `File`.
    fn check_room(&self, dir: &Path) -> Result<(), DeliveryError>;

    /// Makes an empty file and the folders above it.
    ///
    /// # Errors
    /// `File`.
    fn create(&self, path: &Path) -> Result<File, DeliveryError>;

    /// Puts a file's content on disk.
    ///
    /// # Errors
    /// `File`.
    fn sync(&self, path: &Path, file: &File) -> Result<(), DeliveryError>;

    /// Gives a complete file its name. One that is not there any more had it already.
    ///
    /// # Errors
    /// `File`.
    fn name(&self, publication: &Publication) -> Result<(), DeliveryError>;

    /// Tells of a file that has its name.
    fn tell(&self, file: FinishedFile<'_>);

    /// Removes an unfinished file.
    fn discard(&self, path: &Path);

    /// Removes what a killed agent has left half written of a log, but what is `kept`.
    ///
    /// # Errors
    /// `File`.
    fn discard_others(&self, log: &FlowLog, kept: &[Publication]) -> Result<(), DeliveryError>;
}

/// The host's own.
#[derive(Clone)]
pub struct OnDisk {
    /// The store.
    pub store: Arc<Store>,
    /// What is left free where files are written.
    pub min_free: MinFreeSpace,
    /// Who is told of finished files.
    pub on_finished: OnFinished,
}

impl Ground for OnDisk {
    fn progress(&self, flow_log_id: &str) -> Result<Option<Progress>, DeliveryError> {
        Ok(self.store.fact(&fact(flow_log_id))?)
    }

    fn put_progress(&self, flow_log_id: &str, progress: &Progress) -> Result<(), DeliveryError> {
        Ok(self.store.put_fact(&fact(flow_log_id), progress)?)
    }

    fn check_room(&self, dir: &Path) -> Result<(), DeliveryError> {
        let checked = self.min_free.check(dir);
        checked.map_err(failed("write flow-log files below", dir))
    }

    fn create(&self, path: &Path) -> Result<File, DeliveryError> {
        let dir = folder(path);
        fs::create_dir_all(dir).map_err(failed("make the folder", dir))?;
        File::create(path).map_err(failed("make the flow-log file", path))
    }

    fn sync(&self, path: &Path, file: &File) -> Result<(), DeliveryError> {
        file.sync_all()
            .map_err(failed("write to disk the flow-log file", path))
    }

    fn name(&self, publication: &Publication) -> Result<(), DeliveryError> {
        let Publication {
            unfinished, path, ..
        } = publication;
        match fs::rename(unfinished, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(failed("name the flow-log file", path))?,
        }
        let dir = folder(path);
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(failed("write to disk the folder", dir))
    }

    fn tell(&self, file: FinishedFile<'_>) {
        (self.on_finished)(file);
    }

    fn discard(&self, path: &Path) {
        // What cannot be removed now is removed at the next start.
        drop(fs::remove_file(path));
    }

    fn discard_others(&self, log: &FlowLog, kept: &[Publication]) -> Result<(), DeliveryError> {
        let mut folders = vec![log.dir.clone()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(failed("read the folder", &folder))?,
            };
            for entry in entries {
                let entry = entry.map_err(failed("read the folder", &folder))?;
                let (path, name) = (entry.path(), entry.file_name());
                let kind = entry.file_type();
                if kind.map_err(failed("look at", &path))?.is_dir() {
                    folders.push(path);
                } else if is_unfinished(&name.to_string_lossy(), &log.flow_log_id)
                    && kept
                        .iter()
                        .all(|publication| publication.unfinished != path)
                {
                    fs::remove_file(&path).map_err(failed("remove the unfinished file", &path))?;
                }
            }
        }
        Ok(())
    }
}

fn is_unfinished(name: &str, flow_log_id: &str) -> bool {
    let is_log = name.contains(&format!("_{flow_log_id}_"));
    name.starts_with('.') && name.contains("_vpcflowlogs_") && is_log && name.contains(UNFINISHED)
}

/// What the names of the facts about logs' progress begin with.
pub(super) const PROGRESS: &str = "flow_log_progress/";

/// The store's fact of a log's progress.
pub(super) fn fact(flow_log_id: &str) -> String {
    format!("{PROGRESS}{flow_log_id}")
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

pub(super) fn failed(
    attempt: &'static str,
    path: &Path,
) -> impl Fn(io::Error) -> DeliveryError + use<> {
    let path = path.to_owned();
    move |source| DeliveryError::File {
        attempt,
        path: path.clone(),
        source,
    }
}
