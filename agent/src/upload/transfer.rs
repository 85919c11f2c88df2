//! One file to the destination, once: created, or found there with the same bytes.

use std::io;
use std::path::PathBuf;

use object_store::PutPayload;
use tokio::task::spawn_blocking;

use super::UploadError;
use super::destination::Destination;
use super::folder;
use super::journal::{Entry, Journal, Multipart};
use super::multipart::{self, PART_BYTES};

/// How often a multipart upload is begun in one go.
const ATTEMPTS: usize = 2;

/// A file that is to be uploaded.
pub(super) struct Source<'a> {
    /// Its path below the log's folder.
    pub(super) relative: &'a str,
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Its size.
    pub(super) bytes: u64,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The object was made, of the file's bytes.
    Created,
    /// There is an object of this name; perhaps ours.
    Exists,
    /// The destination does not know the multipart upload any more.
    Begin,
}

impl Source<'_> {
    pub(super) fn failed(&self, source: io::Error) -> UploadError {
        UploadError::File {
            attempt: "read",
            path: self.path.display().to_string(),
            source,
        }
    }
}

/// Uploads `source` and notes that it is there; `begun` is what was noted of it before.
///
/// # Errors
/// `Conflict` if another object has its name; else to be tried again.
pub(super) async fn upload(
    destination: &Destination,
    journal: &Journal,
    source: &Source<'_>,
    begun: Option<Multipart>,
) -> Result<(), UploadError> {
    let relative = source.relative;
    // What was begun in another destination cannot be gone on with here.
    let (begun, stale) = match begun {
        Some(begun) if begun.url == destination.url() => (Some(begun), None),
        other => (None, other),
    };
    if let Some(stale) = stale {
        multipart::abort(destination, relative, &stale).await?;
        journal.forget(vec![relative.to_owned()]).await?;
    }
    let mut begun = begun;
    for _ in 0..ATTEMPTS {
        match attempt(destination, journal, source, begun.take()).await? {
            Outcome::Created => return journal.put(relative, Entry::Uploaded).await,
            Outcome::Exists => {
                if let Some(Entry::Multipart(begun)) = journal.entry(relative).await? {
                    multipart::abort(destination, relative, &begun).await?;
                    journal.forget(vec![relative.to_owned()]).await?;
                }
                confirm(destination, source).await?;
                return journal.put(relative, Entry::Uploaded).await;
            }
            Outcome::Begin => journal.forget(vec![relative.to_owned()]).await?,
        }
    }
    Err(UploadError::Failed {
        attempt: "upload to",
        key: destination.object_url(relative),
        answer: "the destination forgets multipart uploads that it has just begun".to_owned(),
    })
}

async fn attempt(
    destination: &Destination,
    journal: &Journal,
    source: &Source<'_>,
    begun: Option<Multipart>,
) -> Result<Outcome, UploadError> {
    let Some(store) = destination
        .multipart()
        .filter(|_| source.bytes > PART_BYTES)
    else {
        let (path, bytes) = (source.path.clone(), source.bytes);
        let read = spawn_blocking(move || folder::read(&path, 0, bytes)).await;
        let content = read.map_err(|_| UploadError::Stopped)?;
        let content = PutPayload::from(content.map_err(|error| source.failed(error))?);
        let created = destination.create(source.relative, content).await?;
        return Ok(if created {
            Outcome::Created
        } else {
            Outcome::Exists
        });
    };
    if destination.size(source.relative).await?.is_some() {
        return Ok(Outcome::Exists);
    }
    multipart::upload(destination, store, journal, source, begun).await
}

/// Checks that the object has the file's bytes, each of them: an ETag would say less, since it is no
/// checksum of the content where the bucket encrypts with a key of its own.
///
/// # Errors
/// `Conflict` if not.
async fn confirm(destination: &Destination, source: &Source<'_>) -> Result<(), UploadError> {
    let relative = source.relative;
    let conflict = |found| UploadError::Conflict {
        key: destination.object_url(relative),
        found,
    };
    let size = destination.size(relative).await?;
    if let Some(size) = size.filter(|size| *size != source.bytes) {
        let found = format!("{size} bytes, not {}", source.bytes);
        return Err(conflict(found));
    }
    let mut pieces = destination.read(relative).await?;
    let mut offset = 0;
    while let Some(piece) = destination.piece(relative, &mut pieces).await? {
        let (path, bytes) = (source.path.clone(), piece.len() as u64);
        let read = spawn_blocking(move || folder::read(&path, offset, bytes)).await;
        let own = read.map_err(|_| UploadError::Stopped)?;
        if own.map_err(|error| source.failed(error))? != piece {
            let found = format!("as many bytes, {}, but others", source.bytes);
            return Err(conflict(found));
        }
        offset += piece.len() as u64;
    }
    Ok(())
}
