//! The tasks: one table in memory, and each change of it in a redb file before it is made.
//!
//! The file belongs where a reboot empties it (`run_dir`), as a reboot leaves nothing of what it
//! tells of: namespaces, links and maps.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::StateError;
use super::file::{NUMBERS, StateFile, from_json, json};
use crate::random::random_bytes;
use crate::spec::TaskId;
use crate::task_record::{TaskRecord, TaskTable};

/// Name of the file in `run_dir`.
const FILE: &str = "tasks.redb";
/// Generation to `TaskRecord` as JSON, of tasks that are there and of those that have gone.
const TASKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("tasks");
/// The last generation that is reserved, among the file's numbers.
const GENERATION: &str = "generation";
/// So many are reserved at once: each table of a transaction costs a task about 30 µs.
const RESERVED_AT_ONCE: u64 = 64;

type Tasks<'a> = Table<'a, u64, &'static [u8]>;

/// The open store of tasks; one process at a time has it.
#[derive(Debug)]
pub struct TaskStore {
    file: StateFile,
    table: Mutex<TaskTable>,
    /// Tasks whose record in the file is older than that in the table.
    unsaved: Mutex<BTreeSet<TaskId>>,
    generations: Mutex<Generations>,
    id: u64,
}

/// Numbers of tasks, each given once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Generations {
    /// The last that was given.
    last: u64,
    /// The last that is given before the file is told: a start goes on behind it.
    reserved: u64,
}

impl TaskStore {
    /// Opens the store in `run_dir`, making folder and file if they are missing.
    ///
    /// # Errors
    /// As [`Store::open`](super::Store::open); `Damaged` if a record cannot be read.
    pub fn open(run_dir: &Path) -> Result<Self, StateError> {
        let file = StateFile::open(run_dir, FILE, 0, |write| {
            write.open_table(TASKS)?;
            Ok(())
        })?;
        let (id, generations) = numbers(&file, run_dir)?;
        let records = file.read(
            || "read the tasks from the store".to_owned(),
            |read| {
                let mut records = Vec::new();
                for row in read.open_table(TASKS)?.iter()? {
                    let (generation, record) = row?;
                    records.push((generation.value(), record.value().to_owned()));
                }
                Ok(records)
            },
        )?;
        let records = records
            .into_iter()
            .map(|(generation, bytes)| from_json("tasks", &generation.to_string(), &bytes))
            .collect::<Result<_, _>>()?;
        let table = Mutex::new(TaskTable::of(records));
        Ok(Self {
            file,
            table,
            unsaved: Mutex::default(),
            generations: Mutex::new(generations),
            id,
        })
    }

    /// A number that only this file has, from its making to its end: what is marked with it belongs to these tasks, and
    /// is nobody's once they are forgotten.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The table, for one caller.
    pub fn table(&self) -> MutexGuard<'_, TaskTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a new task under the next generation, and returns it as stored.
    ///
    /// # Errors
    /// `Exists` if there is a task with its id; nothing is changed then.
    pub fn insert(&self, mut record: TaskRecord) -> Result<TaskRecord, StateError> {
        let mut table = self.table();
        let id = &record.spec.task_id;
        if table.get(id).is_some() {
            return Err(StateError::Exists(id.clone()));
        }
        let attempt = || format!("store task {id}");
        let mut generations = self.generations();
        let next = generations.next();
        // A number whose task could not be stored is nobody's.
        generations.last = next.last;
        record.generation = next.last;
        self.write(&table, attempt, |write, tasks| {
            if next.reserved != generations.reserved {
                let mut numbers = write.open_table(NUMBERS)?;
                numbers.insert(GENERATION, next.reserved)?;
            }
            tasks.insert(record.generation, json(&record).as_slice())?;
            Ok(())
        })?;
        *generations = next;
        table.put(record.clone());
        Ok(record)
    }

    /// Replaces the record of a task that is there.
    ///
    /// # Errors
    /// `Unknown` if there is no task of that id and generation; nothing is changed then.
    pub fn update(&self, record: &TaskRecord) -> Result<(), StateError> {
        let mut table = self.table();
        check_generation(&table, record)?;
        self.store(&table, record, &[])?;
        table.put(record.clone());
        Ok(())
    }

    /// As [`TaskStore::update`], for what the next start finds out by itself: it is stored with the next change of any
    /// task, or by [`TaskStore::save`].
    ///
    /// # Errors
    /// `Unknown` as there.
    pub fn update_later(&self, record: &TaskRecord) -> Result<(), StateError> {
        let mut table = self.table();
        check_generation(&table, record)?;
        table.put(record.clone());
        self.unsaved().insert(record.spec.task_id.clone());
        Ok(())
    }

    /// Stores what [`TaskStore::update_later`] has put off; whoever is told of an error may try again.
    ///
    /// # Errors
    /// `Database`.
    pub fn save(&self) -> Result<(), StateError> {
        let table = self.table();
        if self.unsaved().is_empty() {
            return Ok(());
        }
        self.write(&table, || "store tasks".to_owned(), |_, _| Ok(()))
    }

    /// A task has gone, as `record` says: it is there no more, and is remembered for a while. Those
    /// that ended long before `now_ms` are forgotten.
    ///
    /// # Errors
    /// `Unknown` as [`TaskStore::update`]; `Database` if it may still be there.
    pub fn end(&self, record: &TaskRecord, now_ms: u64) -> Result<(), StateError> {
        let mut table = self.table();
        check_generation(&table, record)?;
        let forgotten = table.forget(now_ms);
        self.store(&table, record, &forgotten)?;
        table.end(record.clone());
        Ok(())
    }

    /// The task with this id.
    #[must_use]
    pub fn task(&self, id: &TaskId) -> Option<TaskRecord> {
        self.table().get(id).cloned()
    }

    /// Every task that is there, by id.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskRecord> {
        self.table().live().cloned().collect()
    }

    fn store(
        &self,
        table: &TaskTable,
        record: &TaskRecord,
        forgotten: &[u64],
    ) -> Result<(), StateError> {
        let attempt = || format!("store task {}", record.spec.task_id);
        self.write(table, attempt, |_, tasks| {
            tasks.insert(record.generation, json(record).as_slice())?;
            for generation in forgotten {
                tasks.remove(generation)?;
            }
            Ok(())
        })
    }

    /// One transaction, with what was put off.
    fn write(
        &self,
        table: &TaskTable,
        attempt: impl Fn() -> String,
        change: impl FnOnce(&WriteTransaction, &mut Tasks<'_>) -> Result<(), redb::Error>,
    ) -> Result<(), StateError> {
        let mut unsaved = self.unsaved();
        self.file.write(attempt, |write| {
            let mut tasks = write.open_table(TASKS)?;
            for record in unsaved.iter().filter_map(|id| table.get(id)) {
                tasks.insert(record.generation, json(record).as_slice())?;
            }
            change(write, &mut tasks)
        })?;
        unsaved.clear();
        Ok(())
    }

    /// Locked after the table.
    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Locked after the table.
    fn unsaved(&self) -> MutexGuard<'_, BTreeSet<TaskId>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file's own number, which is made if it has none, and the generations that it knows to be given.
fn numbers(file: &StateFile, run_dir: &Path) -> Result<(u64, Generations), StateError> {
    let random = random_bytes().map_err(|source| StateError::Folder {
        dir: run_dir.to_owned(),
        source,
    })?;
    let id = u64::from_be_bytes(random);
    let attempt = || "name the store of tasks".to_owned();
    file.write(attempt, |write| {
        let mut numbers = write.open_table(NUMBERS)?;
        let found = numbers.get("id")?.map(|id| id.value());
        let reserved = numbers.get(GENERATION)?.map_or(0, |last| last.value());
        let id = match found {
            Some(id) => id,
            None => {
                numbers.insert("id", id)?;
                id
            }
        };
        Ok((id, Generations::after(reserved)))
    })
}

impl Generations {
    /// Of a start that finds `reserved` in the file.
    const fn after(reserved: u64) -> Self {
        Self {
            last: reserved,
            reserved,
        }
    }

    /// With one more given.
    const fn next(self) -> Self {
        let last = self.last + 1;
        let reserved = if last > self.reserved {
            self.last + RESERVED_AT_ONCE
        } else {
            self.reserved
        };
        Self { last, reserved }
    }
}

fn check_generation(table: &TaskTable, record: &TaskRecord) -> Result<(), StateError> {
    let id = &record.spec.task_id;
    match table.get(id) {
        Some(current) if current.generation == record.generation => Ok(()),
        Some(_) | None => Err(StateError::Unknown(id.clone())),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::life::AttachmentStatus;
    use crate::task_record::REMEMBERED_MS;
    use crate::task_record::tests::{entered, record};
    use crate::test_dir::TestDir;

    fn id(text: &str) -> TaskId {
        text.parse().unwrap()
    }

    #[test]
    fn tasks_survive_a_restart() {
        let dir = TestDir::new();
        let (web, db) = {
            let store = TaskStore::open(dir.path()).unwrap();
            let web = store.insert(record("web")).unwrap();
            let db = store.insert(record("db")).unwrap();
            (web, entered(db, AttachmentStatus::Attached, u64::MAX))
        };
        let store = TaskStore::open(dir.path()).unwrap();
        store.update(&db).unwrap();
        assert_eq!(store.tasks(), [db.clone(), web.clone()]);
        assert_eq!(store.task(&id("db")), Some(db));
        let end = web.life.created_at_ms() + 1_000;
        let web = entered(web, AttachmentStatus::Deleted, end);
        store.end(&web, end).unwrap();
        assert_eq!(store.task(&id("web")), None);
        drop(store);
        let store = TaskStore::open(dir.path()).unwrap();
        assert_eq!(store.task(&id("web")), None);
        assert_eq!(store.table().last_gone(&id("web")), Some(&web));
        // The next end forgets it, on disk too.
        let db = store.task(&id("db")).unwrap();
        let late = end + REMEMBERED_MS;
        store
            .end(&entered(db, AttachmentStatus::Deleted, u64::MAX), late)
            .unwrap();
        drop(store);
        let store = TaskStore::open(dir.path()).unwrap();
        assert_eq!(store.table().last_gone(&id("web")), None);
        assert_eq!(store.table().gone().len(), 1);
    }

    #[test]
    fn what_was_put_off_is_stored_with_the_next_change_or_when_it_is_said() {
        let dir = TestDir::new();
        let stored = || {
            let store = TaskStore::open(dir.path()).unwrap();
            store
                .tasks()
                .iter()
                .map(TaskRecord::status)
                .collect::<Vec<_>>()
        };
        let attached = |record| entered(record, AttachmentStatus::Attached, u64::MAX);
        let before = record("web").status();
        {
            let store = TaskStore::open(dir.path()).unwrap();
            let web = attached(store.insert(record("web")).unwrap());
            store.update_later(&web).unwrap();
            assert_eq!(store.task(&id("web")), Some(web));
        }
        assert_eq!(stored(), [before]);
        {
            let store = TaskStore::open(dir.path()).unwrap();
            let web = attached(store.task(&id("web")).unwrap());
            store.update_later(&web).unwrap();
            let db = store.insert(record("db")).unwrap();
            let stale = TaskRecord {
                generation: 7,
                ..db.clone()
            };
            assert!(matches!(
                store.update_later(&stale),
                Err(StateError::Unknown(_))
            ));
            drop(store);
            assert_eq!(stored(), [before, AttachmentStatus::Attached]);
            let store = TaskStore::open(dir.path()).unwrap();
            store.update_later(&attached(db)).unwrap();
            store.save().unwrap();
        }
        assert_eq!(stored(), [AttachmentStatus::Attached; 2]);
    }

    #[test]
    fn a_store_has_a_number_of_its_own_until_it_goes() {
        let dir = TestDir::new();
        let id = || TaskStore::open(dir.path()).unwrap().id();
        let first = id();
        assert_eq!(id(), first);
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        assert_ne!(id(), first);
    }

    #[test]
    fn a_task_id_is_stored_once_and_a_generation_never_again() {
        let dir = TestDir::new();
        let store = TaskStore::open(dir.path()).unwrap();
        let first = store.insert(record("web")).unwrap();
        assert!(
            matches!(store.insert(record("web")), Err(StateError::Exists(task)) if task == id("web"))
        );
        let end = first.life.created_at_ms() + 1_000;
        let first = entered(first, AttachmentStatus::Deleted, end);
        store.end(&first, end).unwrap();
        assert!(matches!(store.update(&first), Err(StateError::Unknown(_))));
        let second = store.insert(record("web")).unwrap();
        assert_eq!((first.generation, second.generation), (1, 2));
        assert!(
            matches!(store.end(&first, end), Err(StateError::Unknown(_))),
            "a late writer of the first task"
        );
        assert_eq!(store.task(&id("web")), Some(second));
    }

    #[test]
    fn generations_are_reserved_before_they_are_given() {
        let mut given = Generations::after(7);
        let mut told = Vec::new();
        for expected in 8..8 + 2 * RESERVED_AT_ONCE {
            let next = given.next();
            assert_eq!(next.last, expected);
            if next.reserved != given.reserved {
                told.push(next.reserved);
            }
            given = next;
        }
        let first = 7 + RESERVED_AT_ONCE;
        assert_eq!(told, [first, first + RESERVED_AT_ONCE]);
        // The file was not told, however often that was tried.
        let untold = Generations {
            last: 500,
            reserved: 7,
        };
        assert_eq!(untold.next().reserved, 500 + RESERVED_AT_ONCE);
    }

    #[test]
    fn a_start_gives_no_generation_that_was_given() {
        let dir = TestDir::new();
        let mut last = 0;
        for name in ["a", "b", "c"] {
            let store = TaskStore::open(dir.path()).unwrap();
            for number in 0..=RESERVED_AT_ONCE {
                let task = store.insert(record(&format!("{name}{number}"))).unwrap();
                assert!(task.generation > last);
                last = task.generation;
            }
        }
    }

    #[test]
    fn a_damaged_record_is_named() {
        let dir = TestDir::new();
        let store = TaskStore::open(dir.path()).unwrap();
        let spoil = |write: &redb::WriteTransaction| {
            write.open_table(TASKS)?.insert(7, b"{}".as_slice())?;
            Ok(())
        };
        store.file.write(String::new, spoil).unwrap();
        drop(store);
        let error = TaskStore::open(dir.path()).unwrap_err().to_string();
        assert_eq!(error, "tasks entry \"7\" in the store is damaged");
    }
}
