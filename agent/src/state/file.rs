//! One redb file with a format version: opened, read and written as a whole or not at all.
//!
//! Knows no table but its own numbers.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::database::Reopening;
use super::{FORMAT_VERSION, StateError};

/// The file's own numbers: `format_version`, and those of its owner.
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// An open file; one process at a time has it.
#[derive(Debug)]
pub(super) struct StateFile {
    database: Reopening,
}

impl StateFile {
    /// Opens the file `name` in `folder`, making folder (mode 0700; those above as usual), file and tables if they are missing.
    /// Behind the file `room` bytes are set aside for its growth.
    pub(super) fn open(
        folder: &Path,
        name: &str,
        room: u64,
        make_tables: impl Fn(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<Self, StateError> {
        let folder_error = |source| StateError::Folder {
            dir: folder.to_owned(),
            source,
        };
        if let Some(above) = folder.parent() {
            std::fs::create_dir_all(above).map_err(folder_error)?;
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(folder_error)?;
        let path = folder.join(name);
        let database = match Reopening::open(&path, room) {
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(StateError::InUse { path }),
            other => other
                .map_err(|source| database_error(format!("open {}", path.display()), source))?,
        };
        let file = Self { database };
        file.check_format(&path, make_tables)?;
        // The file's own content is on disk; this puts its name there too.
        File::open(folder)
            .and_then(|dir| dir.sync_all())
            .map_err(folder_error)?;
        Ok(file)
    }

    /// Makes the tables of a new file; they exist from then on.
    fn check_format(
        &self,
        path: &Path,
        make_tables: impl Fn(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StateError> {
        let found = self.write(
            || format!("read the format of {}", path.display()),
            |write| {
                let mut numbers = write.open_table(NUMBERS)?;
                let found = numbers
                    .get("format_version")?
                    .map(|version| version.value());
                match found {
                    None => drop(numbers.insert("format_version", FORMAT_VERSION)?),
                    Some(FORMAT_VERSION) => {}
                    Some(_) => return Ok(found),
                }
                make_tables(write)?;
                Ok(found)
            },
        )?;
        match found {
            None | Some(FORMAT_VERSION) => Ok(()),
            Some(found) => Err(StateError::Format {
                path: path.to_owned(),
                found,
            }),
        }
    }

    pub(super) fn get<T: DeserializeOwned>(
        &self,
        table: TableDefinition<'_, &str, &[u8]>,
        name: &'static str,
        key: &str,
    ) -> Result<Option<T>, StateError> {
        let bytes = self.read(
            || format!("read {name} entry {key:?} from the store"),
            |read| {
                Ok(read
                    .open_table(table)?
                    .get(key)?
                    .map(|value| value.value().to_owned()))
            },
        )?;
        bytes.map(|bytes| from_json(name, key, &bytes)).transpose()
    }

    /// One transaction: all of `change` is on disk when this returns, or nothing of it.
    pub(super) fn write<T>(
        &self,
        attempt: impl Fn() -> String,
        change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StateError> {
        self.write_with(Durability::Immediate, attempt, change)
    }

    /// One transaction, on disk as `durability` says.
    pub(super) fn write_with<T>(
        &self,
        durability: Durability,
        attempt: impl Fn() -> String,
        change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StateError> {
        let run = |database: &Database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(durability)?;
            let answer = change(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        };
        let written = self.database.with(run);
        written.map_err(|source| database_error(attempt(), source))
    }

    pub(super) fn read<T>(
        &self,
        attempt: impl Fn() -> String,
        query: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StateError> {
        let read = self
            .database
            .with(|database| query(&database.begin_read()?));
        read.map_err(|source| database_error(attempt(), source))
    }
}

fn database_error(attempt: String, source: impl Into<redb::Error>) -> StateError {
    StateError::Database {
        attempt,
        source: Box::new(source.into()),
    }
}

/// Own types with string keys only: serde_json refuses nothing of them.
pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("the store's own types are JSON")
}

pub(super) fn from_json<T: DeserializeOwned>(
    table: &'static str,
    key: &str,
    bytes: &[u8],
) -> Result<T, StateError> {
    serde_json::from_slice(bytes).map_err(|source| StateError::Damaged {
        table,
        key: key.to_owned(),
        source,
    })
}
