//! A file's database: opened again after the disk failed, which ends a database of redb for good, and
//! with room set aside, so that what has to be said of a full disk can be stored on it.

use std::fs::{File, OpenOptions};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use nix::fcntl::{FallocateFlags, fallocate};
use redb::backends::FileBackend;
use redb::{BackendError, Database, DatabaseError, StorageBackend};

/// Bytes of pages that redb keeps for itself, 1 GiB where nothing is said: its files would be in memory twice, and the
/// agent would grow with what it remembers. The kernel has them at hand.
const CACHE_SIZE: usize = 4 << 20;

/// An open database.
#[derive(Debug)]
pub(super) struct Reopening {
    path: PathBuf,
    room: u64,
    /// None from a failure of the disk to the next call.
    database: RwLock<Option<Database>>,
}

impl Reopening {
    /// Opens the file at `path`, which is made if it is missing. No other file can have the `room`
    /// bytes behind it.
    pub(super) fn open(path: &Path, room: u64) -> Result<Self, DatabaseError> {
        Ok(Self {
            path: path.to_owned(),
            room,
            database: RwLock::new(Some(open(path, room)?)),
        })
    }

    /// Does `work` with the database.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let result = match &*self.reading()? {
            Some(database) => work(database),
            None => Err(redb::Error::PreviousIo),
        };
        if let Err(redb::Error::Io(_) | redb::Error::PreviousIo) = &result {
            let database = self.database.write();
            drop(database.unwrap_or_else(PoisonError::into_inner).take());
        }
        result
    }

    fn reading(&self) -> Result<RwLockReadGuard<'_, Option<Database>>, redb::Error> {
        let database = self.database.read();
        let database = database.unwrap_or_else(PoisonError::into_inner);
        if database.is_some() {
            return Ok(database);
        }
        drop(database);
        let database = self.database.write();
        let mut database = database.unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            *database = Some(open(&self.path, self.room)?);
        }
        drop(database);
        let database = self.database.read();
        Ok(database.unwrap_or_else(PoisonError::into_inner))
    }
}

fn open(path: &Path, room: u64) -> Result<Database, DatabaseError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path)?;
    let backend = Roomy {
        room,
        handle: file.try_clone()?,
        file: FileBackend::new(file)?,
    };
    backend.set_aside(backend.handle.metadata()?.len());
    Database::builder()
        .set_cache_size(CACHE_SIZE)
        .create_with_backend(backend)
}

/// A file that always has room to grow, as far as its file system can promise it.
#[derive(Debug)]
struct Roomy {
    file: FileBackend,
    /// The same file.
    handle: File,
    room: u64,
}

impl Roomy {
    /// Behind a file of `len` bytes. One that is shortened loses what was behind it.
    fn set_aside(&self, len: u64) {
        if self.room == 0 {
            return;
        }
        let end = i64::try_from(len.saturating_add(self.room)).unwrap_or(i64::MAX);
        let set_aside = fallocate(&self.handle, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, end);
        if let Err(error) = set_aside {
            tracing::debug!(%error, "no room is set aside for the store");
        }
    }
}

impl StorageBackend for Roomy {
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.file.set_len(len)?;
        self.set_aside(len);
        Ok(())
    }

    fn len(&self) -> Result<u64, std::io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.file.read(offset, out)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), std::io::Error> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
