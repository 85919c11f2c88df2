//! The files of one log and what is done about them, step by step. Knows no timer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::task::spawn_blocking;

use super::destination::{Destination, Environment};
use super::journal::{Entry, Journal, Multipart};
use super::plan::{Action, File, Limits, State, plan};
use super::transfer::{self, Source};
use super::{DeliveredLog, UploadError, UploadStatus, folder, multipart, name};

/// One log's folder, destination and files.
pub(super) struct Log {
    config: DeliveredLog,
    environment: Environment,
    /// Open once its files are taken up, if it has one.
    destination: Option<Destination>,
    limits: Limits,
    journal: Journal,
    /// From old to new.
    files: Vec<File>,
    /// Multipart uploads that were begun, by path.
    begun: BTreeMap<String, Multipart>,
    /// Paths whose file is gone while the store has an entry of them.
    left: BTreeSet<String>,
    status: UploadStatus,
    /// Why the last file was refused.
    refusal: Option<String>,
}

/// What a step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A file is uploaded or refused; there may be more to do.
    Done,
    /// Nothing was to do.
    Idle,
}

impl Log {
    pub(super) fn new(config: DeliveredLog, environment: Environment, journal: Journal) -> Self {
        let upload = config.upload.as_ref();
        let limits = Limits {
            backlog_max_bytes: upload.map(|upload| upload.backlog_max_bytes),
            max_age: config.retention.max_age,
            max_bytes: config.retention.max_bytes,
        };
        let status = UploadStatus {
            flow_log_id: config.flow_log_id.clone(),
            url: upload.map(|upload| upload.url.trim_end_matches('/').to_owned()),
            ..UploadStatus::default()
        };
        Self {
            config,
            environment,
            destination: None,
            limits,
            journal,
            files: Vec::new(),
            begun: BTreeMap::new(),
            left: BTreeSet::new(),
            status,
            refusal: None,
        }
    }

    pub(super) fn flow_log_id(&self) -> &str {
        &self.config.flow_log_id
    }

    /// Opens the destination, and takes up what lies in the folder and what the store knows of it.
    ///
    /// # Errors
    /// The destination cannot be made out, or the folder or the store cannot be read; to be called
    /// again, and before any step.
    pub(super) async fn take_up(&mut self) -> Result<(), UploadError> {
        if let Some(upload) = &self.config.upload {
            self.destination = Some(Destination::open(upload, &self.environment)?);
        }
        let (dir, id) = (self.config.dir.clone(), self.config.flow_log_id.clone());
        let found = spawn_blocking(move || folder::scan(&dir, &id)).await;
        let found = found.map_err(|_| UploadError::Stopped)?;
        let found = found.map_err(|source| UploadError::File {
            attempt: "read the files of",
            path: self.config.dir.display().to_string(),
            source,
        })?;
        let mut uploaded = BTreeSet::new();
        for (relative, entry) in self.journal.entries().await? {
            if name::parse(&relative).is_none_or(|name| name.flow_log_id != self.config.flow_log_id)
            {
                continue;
            }
            if !found.contains_key(&relative) {
                self.left.insert(relative.clone());
            }
            match entry {
                Entry::Uploaded => drop(uploaded.insert(relative)),
                Entry::Multipart(progress) => drop(self.begun.insert(relative, progress)),
            }
        }
        for (relative, bytes) in found {
            let is_uploaded = uploaded.contains(&relative);
            self.add(relative, bytes, is_uploaded);
        }
        Ok(())
    }

    /// Adds a finished file; one that is known, or is not this log's by name, changes nothing.
    pub(super) fn enqueue(&mut self, relative: &str, bytes: u64) {
        self.add(relative.to_owned(), bytes, false);
    }

    fn add(&mut self, relative: String, bytes: u64, is_uploaded: bool) {
        let Some(name) = name::parse(&relative) else {
            tracing::warn!(
                file = relative,
                "is no flow-log file by its name: not uploaded"
            );
            return;
        };
        if name.flow_log_id != self.config.flow_log_id {
            tracing::warn!(
                file = relative,
                flow_log = self.config.flow_log_id,
                "is another log's file: not uploaded"
            );
            return;
        }
        let time = name.time;
        let place = self
            .files
            .binary_search_by(|file| (file.time, &file.relative).cmp(&(time, &relative)));
        let Err(place) = place else {
            return;
        };
        let state = match self.config.upload {
            Some(_) if !is_uploaded => State::Waiting,
            _ => State::Settled,
        };
        let file = File {
            relative,
            bytes,
            time,
            state,
        };
        self.files.insert(place, file);
    }

    /// Does what is due: all removals, and the first upload; says how each went. What fails has to be
    /// tried again later, and what was done before is done.
    pub(super) async fn step(&mut self) -> (Result<(), UploadError>, Result<Step, UploadError>) {
        let files = std::mem::take(&mut self.files);
        let actions = plan(&files, unix_seconds(), &self.limits);
        let mut gone = BTreeSet::new();
        let mut next = None;
        let mut removed = Ok(());
        for action in actions {
            match action {
                Action::Upload(file) => {
                    next = Some(file.relative.clone());
                    break;
                }
                Action::GiveUp(file) | Action::Expire(file) => match self.remove(file).await {
                    Ok(()) => {
                        gone.insert(file.relative.clone());
                        self.count_removal(&action);
                    }
                    Err(error) => removed = Err(error),
                },
            }
        }
        self.files = files;
        self.files.retain(|file| !gone.contains(&file.relative));
        self.left.extend(gone);
        // What cannot be removed does not keep others from being uploaded.
        let settled = self.settle_left().await;
        let uploaded = match next {
            Some(relative) => self.upload(&relative).await.map(|()| Step::Done),
            None => Ok(Step::Idle),
        };
        (removed.and(settled), uploaded)
    }

    async fn remove(&self, file: &File) -> Result<(), UploadError> {
        let (dir, relative) = (self.config.dir.clone(), file.relative.clone());
        let removed = spawn_blocking(move || folder::remove(&dir, &relative)).await;
        removed
            .map_err(|_| UploadError::Stopped)?
            .map_err(|source| UploadError::File {
                attempt: "remove",
                path: self.config.dir.join(&file.relative).display().to_string(),
                source,
            })
    }

    fn count_removal(&mut self, action: &Action<'_>) {
        match action {
            Action::GiveUp(file) => {
                self.status.files_given_up += 1;
                self.status.bytes_given_up += file.bytes;
                tracing::warn!(
                    flow_log = self.config.flow_log_id,
                    file = file.relative,
                    bytes = file.bytes,
                    "removed before it was uploaded: the backlog is over upload.backlog_max_bytes"
                );
            }
            Action::Expire(file) => {
                self.status.files_expired += 1;
                self.status.bytes_expired += file.bytes;
                tracing::debug!(file = file.relative, "removed by retention");
            }
            Action::Upload(_) => {}
        }
    }

    /// Forgets files that are gone, and aborts multipart uploads of them.
    async fn settle_left(&mut self) -> Result<(), UploadError> {
        if let Some(destination) = &self.destination {
            let begun = self.begun.iter();
            for (relative, progress) in begun.filter(|(path, _)| self.left.contains(*path)) {
                multipart::abort(destination, relative, progress).await?;
            }
            self.journal
                .forget(self.left.iter().cloned().collect())
                .await?;
        } else {
            // Without a destination nothing can be aborted: the note of it stays.
            let done = self
                .left
                .iter()
                .filter(|path| !self.begun.contains_key(*path));
            self.journal.forget(done.cloned().collect()).await?;
        }
        for relative in std::mem::take(&mut self.left) {
            self.begun.remove(&relative);
        }
        Ok(())
    }

    async fn upload(&mut self, relative: &str) -> Result<(), UploadError> {
        let Some(destination) = self.destination.clone() else {
            return Ok(());
        };
        let Some(place) = self.files.iter().position(|file| file.relative == relative) else {
            return Ok(());
        };
        let source = Source {
            relative,
            path: self.config.dir.join(relative),
            bytes: self.files[place].bytes,
        };
        let begun = self.begun.get(relative).cloned();
        let uploaded = transfer::upload(&destination, &self.journal, &source, begun).await;
        let bytes = source.bytes;
        if uploaded.is_err() {
            // Parts that were uploaded meanwhile are noted.
            match self.journal.entry(relative).await? {
                Some(Entry::Multipart(progress)) => {
                    self.begun.insert(relative.to_owned(), progress);
                }
                Some(Entry::Uploaded) | None => drop(self.begun.remove(relative)),
            }
        }
        match uploaded {
            Ok(()) => {
                self.begun.remove(relative);
                self.files[place].state = State::Settled;
                self.status.files_uploaded += 1;
                self.status.bytes_uploaded += bytes;
                tracing::debug!(file = relative, bytes, "uploaded");
                Ok(())
            }
            Err(UploadError::Conflict { key, found }) => {
                self.files[place].state = State::Refused;
                self.status.files_refused += 1;
                let error = UploadError::Conflict { key, found };
                self.refusal = Some(error.to_string());
                self.set_error(None);
                tracing::warn!(
                    flow_log = self.config.flow_log_id,
                    error = error.to_string(),
                    "a file is not uploaded"
                );
                Ok(())
            }
            Err(UploadError::File { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                tracing::warn!(
                    flow_log = self.config.flow_log_id,
                    file = relative,
                    "is gone before it was uploaded"
                );
                self.files.remove(place);
                self.left.insert(relative.to_owned());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sets what fails now; while nothing does, what was refused stays in the status.
    pub(super) fn set_error(&mut self, error: Option<String>) {
        self.status.last_error = error.or_else(|| self.refusal.clone());
    }

    /// What became of its files.
    pub(super) fn status(&self) -> UploadStatus {
        let waiting = self
            .files
            .iter()
            .filter(|file| file.state != State::Settled);
        let (files, bytes) = waiting.fold((0, 0), |(files, bytes), file| {
            (files + 1, bytes + file.bytes)
        });
        UploadStatus {
            files_waiting: files,
            bytes_waiting: bytes,
            ..self.status.clone()
        }
    }
}

fn unix_seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
