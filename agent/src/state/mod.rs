//! What survives a restart: facts and flow counts in one redb file that survives a reboot too
//! ([`Store`]); in two that do not, as namespaces, links and maps do not, the tasks ([`TaskStore`])
//! and what the numbers of rules mean ([`RuleStore`]).
//!
//! Every write is one transaction on disk (fsync) before it returns. Calls block for the length of a write, some
//! milliseconds, next to none where the file is on a tmpfs; none is on a packet's way. Never touches the host.

mod database;
mod file;
mod outlines;
mod rules;
mod tasks;
mod uploads;

pub use rules::RuleStore;
pub use tasks::TaskStore;

use std::path::{Path, PathBuf};

use redb::{ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::file::{StateFile, from_json, json};
use crate::spec::TaskId;

/// Version of what the tables hold; a store of another one is refused.
pub const FORMAT_VERSION: u64 = 3;

/// Name of the file in `state_dir`.
const FILE: &str = "state.redb";
/// Bytes that are set aside for its growth.
const ROOM: u64 = 8 << 20;
/// Name of a fact to its value as JSON.
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
/// Epoch and ENI id to the flow counts of an ENI that is gone, as JSON, until their file is written.
const RETIRED_FLOWS: TableDefinition<'_, (u32, &str), &[u8]> =
    TableDefinition::new("retired_flows");

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder cannot be made or written to disk.
    #[error("make state folder {}", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another agent has the store open.
    #[error("{} is in use by another agent; stop that one, or give this one folders of its own", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The store was written by another version.
    #[error(
        "{} has format {found}, this agent reads {FORMAT_VERSION}; run the version that wrote it, or `branchline purge`",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The version it has.
        found: u64,
    },
    /// An entry cannot be read back.
    #[error("{table} entry {key:?} in the store is damaged")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The entry.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A new task has the id of one that is there.
    #[error("task {0} is in the store already")]
    Exists(TaskId),
    /// A write names a task that is not there.
    #[error("task {0} is not in the store")]
    Unknown(TaskId),
    /// The database failed.
    #[error("{attempt}")]
    Database {
        /// What was attempted, on what.
        attempt: String,
        /// Why it failed.
        source: Box<redb::Error>,
    },
}

/// The open store; one process at a time has it.
#[derive(Debug)]
pub struct Store {
    file: StateFile,
}

impl Store {
    /// Opens the store in `state_dir`, making folder (mode 0700) and file if they are missing.
    ///
    /// # Errors
    /// `InUse` while another agent runs, `Format` for another version's store, `Folder` or `Database` otherwise.
    pub fn open(state_dir: &Path) -> Result<Self, StateError> {
        let file = StateFile::open(state_dir, FILE, ROOM, |write| {
            write.open_table(FACTS)?;
            write.open_table(RETIRED_FLOWS)?;
            write.open_table(outlines::OUTLINES)?;
            write.open_table(uploads::UPLOADS)?;
            Ok(())
        })?;
        Ok(Self { file })
    }

    /// The file of the store in `state_dir`.
    #[must_use]
    pub fn path(state_dir: &Path) -> std::path::PathBuf {
        state_dir.join(FILE)
    }

    /// The fact named `key`.
    ///
    /// # Errors
    /// `Damaged` if it is no `T`.
    pub fn fact<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StateError> {
        self.file.get(FACTS, "facts", key)
    }

    /// Stores the fact named `key`, replacing it.
    ///
    /// # Errors
    /// `Database` if it may not be there.
    pub fn put_fact<T: Serialize>(&self, key: &str, value: &T) -> Result<(), StateError> {
        self.file.write(
            || format!("store fact {key}"),
            |write| {
                write
                    .open_table(FACTS)?
                    .insert(key, json(value).as_slice())?;
                Ok(())
            },
        )
    }

    /// Forgets the fact named `key`; one that is not there is success.
    ///
    /// # Errors
    /// `Database` if it may still be there.
    pub fn remove_fact(&self, key: &str) -> Result<(), StateError> {
        self.file.write(
            || format!("remove fact {key} from the store"),
            |write| {
                write.open_table(FACTS)?.remove(key)?;
                Ok(())
            },
        )
    }

    /// Names of all facts that begin with `prefix`.
    ///
    /// # Errors
    /// `Database` if they cannot be read.
    pub fn fact_names(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        self.file.read(
            || format!("list facts {prefix}"),
            |read| {
                let table = read.open_table(FACTS)?;
                let mut names = Vec::new();
                for row in table.range(prefix..)? {
                    let name = row?.0.value().to_owned();
                    if !name.starts_with(prefix) {
                        break;
                    }
                    names.push(name);
                }
                Ok(names)
            },
        )
    }

    /// Stores flow counts of the ENI `eni_id` by epoch. Where there are some already they stay: the
    /// first were taken before anything of them was removed.
    ///
    /// # Errors
    /// `Database` if they may not be there.
    pub fn retire_flows<T: Serialize>(
        &self,
        eni_id: &str,
        counts: &[(u32, T)],
    ) -> Result<(), StateError> {
        self.file.write(
            || format!("store flow counts of {eni_id}"),
            |write| {
                let mut table = write.open_table(RETIRED_FLOWS)?;
                for (epoch, counts) in counts {
                    if table.get((*epoch, eni_id))?.is_none() {
                        table.insert((*epoch, eni_id), json(counts).as_slice())?;
                    }
                }
                Ok(())
            },
        )
    }

    /// The flow counts of ENIs that were retired in `epoch`, by ENI id.
    ///
    /// # Errors
    /// `Damaged` if an entry cannot be read.
    pub fn retired_flows<T: DeserializeOwned>(&self, epoch: u32) -> Result<Vec<T>, StateError> {
        let entries = self.file.read(
            || format!("read the flow counts of epoch {epoch} from the store"),
            |read| {
                let table = read.open_table(RETIRED_FLOWS)?;
                let mut entries = Vec::new();
                for row in table.range((epoch, "")..)? {
                    let (key, counts) = row?;
                    let (of, eni_id) = key.value();
                    if of != epoch {
                        break;
                    }
                    entries.push((eni_id.to_owned(), counts.value().to_owned()));
                }
                Ok(entries)
            },
        )?;
        entries
            .into_iter()
            .map(|(key, bytes)| from_json("retired_flows", &key, &bytes))
            .collect()
    }

    /// In one transaction: stores the fact named `key` and the outline of `epoch`, and forgets the
    /// flow counts of ENIs up to it.
    ///
    /// # Errors
    /// `Database` if nothing of it may have happened.
    pub fn settle_flows<T: Serialize>(
        &self,
        key: &str,
        value: &T,
        epoch: u32,
        outline: &[u8],
    ) -> Result<(), StateError> {
        self.file.write(
            || format!("store fact {key}"),
            |write| {
                write
                    .open_table(FACTS)?
                    .insert(key, json(value).as_slice())?;
                write
                    .open_table(outlines::OUTLINES)?
                    .insert(epoch, outline)?;
                write
                    .open_table(RETIRED_FLOWS)?
                    .retain(|(of, _), _| of > epoch)?;
                Ok(())
            },
        )
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(crate) mod tests;
