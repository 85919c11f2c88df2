//! Large files: uploaded in parts, each noted when the destination has it, so that a killed agent goes on
//! with the next part.
//!
//! What is not noted is the moment between the destination's answer that a multipart upload is begun and
//! the note of it: an agent killed there leaves an upload that only a lifecycle rule of the bucket
//! (`AbortIncompleteMultipartUpload`) removes.

use object_store::multipart::{MultipartStore, PartId};
use tokio::task::spawn_blocking;

use super::UploadError;
use super::destination::Destination;
use super::error::is_missing_upload;
use super::folder;
use super::journal::{Entry, Journal, Multipart};
use super::transfer::{Outcome, Source};

/// Files from this size on go in parts, and this is a part's size. S3 wants 5 MiB at least and 10,000
/// parts at most.
pub(super) const PART_BYTES: u64 = 8 << 20;

/// Uploads `source` in parts, going on after those of `begun`.
///
/// # Errors
/// The parts that the destination has are noted; to be called again with the note.
pub(super) async fn upload(
    destination: &Destination,
    store: &dyn MultipartStore,
    journal: &Journal,
    source: &Source<'_>,
    begun: Option<Multipart>,
) -> Result<Outcome, UploadError> {
    let relative = source.relative;
    let key = destination.key(relative);
    let mut progress = match begun {
        Some(progress) => progress,
        None => begin(destination, store, journal, relative).await?,
    };
    let count = source.bytes.div_ceil(progress.part_bytes);
    while (progress.parts.len() as u64) < count {
        let index = progress.parts.len();
        let content = part(
            source,
            index as u64 * progress.part_bytes,
            progress.part_bytes,
        )
        .await?;
        let put = store.put_part(&key, &progress.upload_id, index, content.into());
        match destination
            .bounded("upload a part of", relative, put)
            .await?
        {
            Ok(part) => progress.parts.push(part.content_id),
            Err(error) if is_missing_upload(&error) => return Ok(Outcome::Begin),
            Err(error) => return Err(destination.error("upload a part of", relative, &error)),
        }
        let entry = Entry::Multipart(progress.clone());
        journal.put(relative, entry).await?;
    }
    // Completing replaces an object, so one that came meanwhile is looked for once more.
    if destination.size(relative).await?.is_some() {
        return Ok(Outcome::Exists);
    }
    let parts = progress.parts.into_iter();
    let parts = parts.map(|content_id| PartId { content_id }).collect();
    let complete = store.complete_multipart(&key, &progress.upload_id, parts);
    match destination.bounded("complete", relative, complete).await? {
        Ok(_) => Ok(Outcome::Created),
        // Completed before, and the answer was lost; or aborted by somebody else.
        Err(error) if is_missing_upload(&error) => Ok(Outcome::Begin),
        Err(error) => Err(destination.error("complete", relative, &error)),
    }
}

/// Begins a multipart upload and notes it.
async fn begin(
    destination: &Destination,
    store: &dyn MultipartStore,
    journal: &Journal,
    relative: &str,
) -> Result<Multipart, UploadError> {
    let key = destination.key(relative);
    let create = store.create_multipart(&key);
    let upload_id = destination
        .bounded("begin the upload of", relative, create)
        .await?
        .map_err(|error| destination.error("begin the upload of", relative, &error))?;
    let progress = Multipart {
        url: destination.url().to_owned(),
        upload_id,
        part_bytes: PART_BYTES,
        parts: Vec::new(),
    };
    let entry = Entry::Multipart(progress.clone());
    journal.put(relative, entry).await?;
    Ok(progress)
}

/// Ends a multipart upload that will not be completed, and with it the parts that the destination
/// keeps; one that is gone is success. One of another destination stays there.
///
/// # Errors
/// It may still be there.
pub(super) async fn abort(
    destination: &Destination,
    relative: &str,
    progress: &Multipart,
) -> Result<(), UploadError> {
    let Some(store) = destination.multipart() else {
        return Ok(());
    };
    if progress.url != destination.url() {
        tracing::warn!(
            url = progress.url,
            upload_id = progress.upload_id,
            file = relative,
            "a multipart upload to a destination that is not configured any more is left there"
        );
        return Ok(());
    }
    let key = destination.key(relative);
    let abort = store.abort_multipart(&key, &progress.upload_id);
    match destination
        .bounded("abort the upload of", relative, abort)
        .await?
    {
        Err(error) if !is_missing_upload(&error) => {
            Err(destination.error("abort the upload of", relative, &error))
        }
        _ => Ok(()),
    }
}

async fn part(source: &Source<'_>, offset: u64, bytes: u64) -> Result<bytes::Bytes, UploadError> {
    let bytes = bytes.min(source.bytes - offset);
    let path = source.path.clone();
    let read = spawn_blocking(move || folder::read(&path, offset, bytes)).await;
    read.map_err(|_| UploadError::Stopped)?
        .map_err(|error| source.failed(error))
}
