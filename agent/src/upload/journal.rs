//! What the store remembers of uploads, called from async code. Holds no bytes of a file and no credentials.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::UploadError;
use crate::state::{StateError, Store};

/// What is known of a file's upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// It is in the destination.
    Uploaded,
    /// Some of its parts are.
    Multipart(Multipart),
}

/// A multipart upload that was begun and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Multipart {
    /// The destination's URL: the id means nothing in another one.
    pub(super) url: String,
    /// The destination's id of it.
    pub(super) upload_id: String,
    /// Bytes of every part but the last.
    pub(super) part_bytes: u64,
    /// What the destination answered to each part that it has, in order.
    pub(super) parts: Vec<String>,
}

/// The store's table of uploads.
#[derive(Clone)]
pub(super) struct Journal(Arc<Store>);

impl Journal {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// All entries, by path.
    pub(super) async fn entries(&self) -> Result<Vec<(String, Entry)>, UploadError> {
        self.blocking(|store| store.uploads()).await
    }

    /// The entry of `relative`.
    pub(super) async fn entry(&self, relative: &str) -> Result<Option<Entry>, UploadError> {
        let relative = relative.to_owned();
        self.blocking(move |store| store.upload(&relative)).await
    }

    /// Replaces the entry of `relative`.
    pub(super) async fn put(&self, relative: &str, entry: Entry) -> Result<(), UploadError> {
        let relative = relative.to_owned();
        self.blocking(move |store| store.put_upload(&relative, &entry))
            .await
    }

    /// Forgets the entries of `paths`.
    pub(super) async fn forget(&self, paths: Vec<String>) -> Result<(), UploadError> {
        if paths.is_empty() {
            return Ok(());
        }
        self.blocking(move |store| store.forget_uploads(&paths))
            .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, UploadError> {
        let store = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        Ok(done.map_err(|_| UploadError::Stopped)??)
    }
}
