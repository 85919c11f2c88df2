//! The store's table of uploads: what is known of each flow-log file that is on disk.

use redb::{ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::file::{from_json, json};
use super::{StateError, Store};

/// Path of a flow-log file to what is known of its upload, as JSON.
pub(super) const UPLOADS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("uploads");

impl Store {
    /// What is known of every upload, by path.
    ///
    /// # Errors
    /// `Damaged` if an entry cannot be read.
    pub fn uploads<T: DeserializeOwned>(&self) -> Result<Vec<(String, T)>, StateError> {
        let entries = self.file.read(
            || "read the uploads from the store".to_owned(),
            |read| {
                let mut entries = Vec::new();
                for row in read.open_table(UPLOADS)?.iter()? {
                    let (path, upload) = row?;
                    entries.push((path.value().to_owned(), upload.value().to_owned()));
                }
                Ok(entries)
            },
        )?;
        entries
            .into_iter()
            .map(|(path, bytes)| Ok((path.clone(), from_json("uploads", &path, &bytes)?)))
            .collect()
    }

    /// What is known of the upload of `path`.
    ///
    /// # Errors
    /// `Damaged` if its entry cannot be read.
    pub fn upload<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, StateError> {
        self.file.get(UPLOADS, "uploads", path)
    }

    /// Stores what is known of the upload of `path`, replacing it.
    ///
    /// # Errors
    /// `Database` if it may not be there.
    pub fn put_upload<T: Serialize>(&self, path: &str, upload: &T) -> Result<(), StateError> {
        self.file.write(
            || format!("store the upload of {path}"),
            |write| {
                write
                    .open_table(UPLOADS)?
                    .insert(path, json(upload).as_slice())?;
                Ok(())
            },
        )
    }

    /// Forgets the uploads of `paths`; one that is not there is success.
    ///
    /// # Errors
    /// `Database` if they may still be there.
    pub fn forget_uploads(&self, paths: &[String]) -> Result<(), StateError> {
        self.file.write(
            || format!("forget {} uploads in the store", paths.len()),
            |write| {
                let mut table = write.open_table(UPLOADS)?;
                for path in paths {
                    table.remove(path.as_str())?;
                }
                Ok(())
            },
        )
    }
}
