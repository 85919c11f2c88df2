//! What survives a restart: the tasks the host was asked for and a few facts, in one redb file.
//!
//! Every write is one transaction on disk (fsync) before it returns. Calls block for the length of a write, some
//! milliseconds, and happen a few times per task; none is on a packet's way. Never touches the host.

mod uploads;

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::provider::Eni;
use crate::spec::{TaskId, TaskSpec};

/// Version of what the tables hold; a store of another one is refused.
pub const FORMAT_VERSION: u64 = 2;

/// Name of the file in `state_dir`.
const FILE: &str = "state.redb";
/// Task id to `TaskRecord` as JSON.
const TASKS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tasks");
/// Name of a fact to its value as JSON.
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
/// Epoch and ENI id to the flow counts of an ENI that is gone, as JSON, until their file is written.
const RETIRED_FLOWS: TableDefinition<'_, (u32, &str), &[u8]> =
    TableDefinition::new("retired_flows");
/// The store's own numbers: `format_version` and the last `generation`.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// A task as the host was asked for it, and what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The wish.
    pub spec: TaskSpec,
    /// Its ENI.
    pub eni: Eni,
    /// Its network namespace.
    pub netns: PathBuf,
    /// Whether the agent made the namespace and removes it with the task.
    pub owned_netns: bool,
    /// The host's end of its veth.
    pub host_link: String,
    /// How far it has come.
    pub phase: Phase,
    /// When it was asked for, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// Never given to another task, so a late clean-up cannot hit a task of the same name.
    pub generation: u64,
}

/// How far a task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Wanted; its network may be half there.
    Creating,
    /// Its network is there.
    Running,
    /// Unwanted; its network may be half gone.
    Deleting,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder cannot be made or written to disk.
    #[error("make state folder {} (state_dir)", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another agent has the store open.
    #[error("{} is in use by another agent; stop that one, or give this one its own state_dir", path.display())]
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
    database: Database,
}

impl Store {
    /// Opens the store in `state_dir`, making folder (mode 0700) and file if they are missing.
    ///
    /// # Errors
    /// `InUse` while another agent runs, `Format` for another version's store, `Folder` or `Database` otherwise.
    pub fn open(state_dir: &Path) -> Result<Self, StateError> {
        let folder_error = |source| StateError::Folder {
            dir: state_dir.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(folder_error)?;
        let path = state_dir.join(FILE);
        let database = match Database::create(&path) {
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(StateError::InUse { path }),
            other => other
                .map_err(|source| database_error(format!("open {}", path.display()), source))?,
        };
        let store = Self { database };
        store.check_format(&path)?;
        // The file's own content is on disk; this puts its name there too.
        File::open(state_dir)
            .and_then(|dir| dir.sync_all())
            .map_err(folder_error)?;
        Ok(store)
    }

    /// Stores a new task under the next generation, and returns it as stored.
    ///
    /// # Errors
    /// `Exists` if there is a task with its id; nothing is changed then.
    pub fn insert_task(&self, mut record: TaskRecord) -> Result<TaskRecord, StateError> {
        let id = record.spec.task_id.clone();
        let attempt = || format!("store task {id}");
        let inserted = self.write(attempt, |write| {
            let mut tasks = write.open_table(TASKS)?;
            if tasks.get(id.as_str())?.is_some() {
                return Ok(false);
            }
            let mut numbers = write.open_table(NUMBERS)?;
            let generation = numbers.get("generation")?.map_or(0, |last| last.value()) + 1;
            numbers.insert("generation", generation)?;
            record.generation = generation;
            tasks.insert(id.as_str(), json(&record).as_slice())?;
            Ok(true)
        })?;
        if inserted {
            Ok(record)
        } else {
            Err(StateError::Exists(id))
        }
    }

    /// Replaces the record of a task that is there.
    ///
    /// # Errors
    /// `Unknown` if there is no task of that id and generation; nothing is changed then.
    pub fn update_task(&self, record: &TaskRecord) -> Result<(), StateError> {
        let id = &record.spec.task_id;
        let current = self
            .task(id)?
            .filter(|current| current.generation == record.generation);
        if current.is_none() {
            return Err(StateError::Unknown(id.clone()));
        }
        self.write(
            || format!("store task {id}"),
            |write| {
                write
                    .open_table(TASKS)?
                    .insert(id.as_str(), json(record).as_slice())?;
                Ok(())
            },
        )
    }

    /// Forgets a task; one that is not there is success.
    ///
    /// # Errors
    /// `Database` if it may still be there.
    pub fn remove_task(&self, id: &TaskId) -> Result<(), StateError> {
        self.write(
            || format!("remove task {id} from the store"),
            |write| {
                write.open_table(TASKS)?.remove(id.as_str())?;
                Ok(())
            },
        )
    }

    /// The task with this id.
    ///
    /// # Errors
    /// `Damaged` if its entry cannot be read.
    pub fn task(&self, id: &TaskId) -> Result<Option<TaskRecord>, StateError> {
        self.get(TASKS, "tasks", id.as_str())
    }

    /// Every task, by id.
    ///
    /// # Errors
    /// `Damaged` if an entry cannot be read.
    pub fn tasks(&self) -> Result<Vec<TaskRecord>, StateError> {
        let entries = self.read(
            || "read the tasks from the store".to_owned(),
            |read| {
                let table = read.open_table(TASKS)?;
                let entry = |row: Result<_, redb::StorageError>| -> Result<_, redb::Error> {
                    let (key, value): (redb::AccessGuard<'_, &str>, redb::AccessGuard<'_, &[u8]>) =
                        row?;
                    Ok((key.value().to_owned(), value.value().to_owned()))
                };
                table.iter()?.map(entry).collect::<Result<Vec<_>, _>>()
            },
        )?;
        entries
            .into_iter()
            .map(|(key, bytes)| from_json("tasks", &key, &bytes))
            .collect()
    }

    /// The fact named `key`.
    ///
    /// # Errors
    /// `Damaged` if it is no `T`.
    pub fn fact<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StateError> {
        self.get(FACTS, "facts", key)
    }

    /// Stores the fact named `key`, replacing it.
    ///
    /// # Errors
    /// `Database` if it may not be there.
    pub fn put_fact<T: Serialize>(&self, key: &str, value: &T) -> Result<(), StateError> {
        self.write(
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
        self.write(
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
        self.read(
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
        self.write(
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
        let entries = self.read(
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

    /// In one transaction: stores the fact named `key`, and forgets the flow counts of ENIs up to
    /// `epoch`.
    ///
    /// # Errors
    /// `Database` if nothing of it may have happened.
    pub fn settle_flows<T: Serialize>(
        &self,
        key: &str,
        value: &T,
        epoch: u32,
    ) -> Result<(), StateError> {
        self.write(
            || format!("store fact {key}"),
            |write| {
                write
                    .open_table(FACTS)?
                    .insert(key, json(value).as_slice())?;
                write
                    .open_table(RETIRED_FLOWS)?
                    .retain(|(of, _), _| of > epoch)?;
                Ok(())
            },
        )
    }

    /// Makes the tables of a new store; they exist from then on.
    fn check_format(&self, path: &Path) -> Result<(), StateError> {
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
                write.open_table(TASKS)?;
                write.open_table(FACTS)?;
                write.open_table(RETIRED_FLOWS)?;
                write.open_table(uploads::UPLOADS)?;
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

    fn get<T: DeserializeOwned>(
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
    fn write<T>(
        &self,
        attempt: impl Fn() -> String,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StateError> {
        let run = || {
            let transaction = self.database.begin_write()?;
            let answer = change(&transaction)?;
            transaction.commit()?;
            Ok::<T, redb::Error>(answer)
        };
        run().map_err(|source| database_error(attempt(), source))
    }

    fn read<T>(
        &self,
        attempt: impl Fn() -> String,
        query: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StateError> {
        let run = || query(&self.database.begin_read()?);
        run().map_err(|source| database_error(attempt(), source))
    }
}

fn database_error(attempt: String, source: impl Into<redb::Error>) -> StateError {
    StateError::Database {
        attempt,
        source: Box::new(source.into()),
    }
}

/// Own types with string keys only: serde_json refuses nothing of them.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("the store's own types are JSON")
}

fn from_json<T: DeserializeOwned>(
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

#[cfg(test)]
#[path = "state_tests.rs"]
pub(crate) mod tests;
