//! The spool: what each epoch counted, one file an epoch, from when the maps may forget it until
//! every flow log has it.
//!
//! A file is there whole or not at all, and writing one again writes the same. The damaged file that
//! was found last is kept for whoever wants to look at it. Never decides which epoch is written or may
//! go.

mod v2;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::ledger::Window;
use super::record::Report;
use crate::free_space::{MinFreeSpace, is_want_of_room};

/// First bytes of every file; the digit is the version of what follows.
const MAGIC: &[u8; 8] = b"BLSPOOL3";
/// Those of an earlier agent, whose epochs are read still.
const MAGIC_2: &[u8; 8] = b"BLSPOOL2";
/// What a file's name ends with; before it is the epoch, in ten digits.
const SUFFIX: &str = ".flows";
/// What it ends with while it is being written.
const UNFINISHED: &str = ".tmp";
/// Name of a damaged file that was set aside.
const DAMAGED: &str = "damaged";
/// Magic, CRC-32 and length, both little-endian.
const HEADER_LEN: usize = 8 + 4 + 8;

/// An ended epoch, and what it counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its number.
    pub number: u32,
    /// Its seconds.
    pub window: Window,
    /// What each ENI counted; each ENI once.
    pub reports: Vec<Report>,
}

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file or the folder cannot be read or written.
    #[error(
        "{attempt} {} (in state_dir); make room or make it writable: until then counts wait in the kernel",
        path.display()
    )]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written for want of room.
    #[error(
        "write the flow counts to {} (in state_dir); make room: until then flow records are lost, and every log says by SKIPDATA how many packets",
        path.display()
    )]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error(
        "{} is damaged: {problem}; its flow records are lost, and every log says by SKIPDATA how many packets",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl SpoolError {
    fn or_no_room(self) -> Self {
        match self {
            Self::Io { path, source, .. } if is_want_of_room(&source) => {
                Self::NoRoom { path, source }
            }
            other @ (Self::Io { .. } | Self::NoRoom { .. } | Self::Damaged { .. }) => other,
        }
    }
}

/// The folder of the files.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: PathBuf,
    min_free: MinFreeSpace,
}

impl Spool {
    /// The spool in the folder `dir`, which leaves `min_free` of its file system free.
    #[must_use]
    pub fn new(dir: PathBuf, min_free: MinFreeSpace) -> Self {
        Self { dir, min_free }
    }

    /// Makes the folder, and removes what a killed agent has left half written.
    ///
    /// # Errors
    /// `Io`.
    pub fn prepare(&self) -> Result<(), SpoolError> {
        fs::create_dir_all(&self.dir).map_err(failed("make the folder", &self.dir))?;
        for name in self.names()? {
            if name.ends_with(UNFINISHED) {
                let path = self.dir.join(name);
                fs::remove_file(&path).map_err(failed("remove the unfinished file", &path))?;
            }
        }
        Ok(())
    }

    /// Writes an epoch, replacing its file. When this returns, content and name are on disk.
    ///
    /// # Errors
    /// `NoRoom` or `Io`; what was there before is there still.
    pub fn put(&self, epoch: &Epoch) -> Result<(), SpoolError> {
        let path = self.path(epoch.number);
        match self.min_free.check(&path) {
            Err(source) if is_want_of_room(&source) => Err(SpoolError::NoRoom { path, source }),
            Err(source) => Err(failed("look for room for", &path)(source)),
            Ok(()) => self.try_put(epoch).map_err(SpoolError::or_no_room),
        }
    }

    fn try_put(&self, epoch: &Epoch) -> Result<(), SpoolError> {
        fs::create_dir_all(&self.dir).map_err(failed("make the folder", &self.dir))?;
        let path = self.path(epoch.number);
        let unfinished = path.with_extension("tmp");
        if let Err(source) = write(&unfinished, epoch) {
            // What cannot be removed now is removed at the next start.
            drop(fs::remove_file(&unfinished));
            return Err(failed("write the flow counts to", &path)(source));
        }
        fs::rename(&unfinished, &path).map_err(failed("name the file", &path))?;
        self.sync()
    }

    /// Reads an epoch; `None` if it has no file.
    ///
    /// # Errors
    /// `Io`, or `Damaged`.
    pub fn get(&self, number: u32) -> Result<Option<Epoch>, SpoolError> {
        let path = self.path(number);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) if source.raw_os_error() == Some(Errno::EIO as i32) => {
                let problem = "the disk cannot read it";
                return Err(SpoolError::Damaged { path, problem });
            }
            Err(source) => return Err(failed("read the flow counts in", &path)(source)),
        };
        let epoch = parse(&bytes).map_err(|problem| SpoolError::Damaged { path, problem })?;
        Ok(Some(epoch))
    }

    /// Takes the file of an epoch out of the spool, under the name `damaged`, in place of one that was
    /// set aside before.
    ///
    /// # Errors
    /// `Io`; the file is where it was.
    pub fn set_aside(&self, number: u32) -> Result<(), SpoolError> {
        let path = self.path(number);
        fs::rename(&path, self.dir.join(DAMAGED)).map_err(failed("set aside", &path))?;
        self.sync()
    }

    /// Removes the file of an epoch; one that is not there is success.
    ///
    /// # Errors
    /// `Io`.
    pub fn remove(&self, number: u32) -> Result<(), SpoolError> {
        let path = self.path(number);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove the file", &path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The epochs that have a file, and its size in bytes.
    ///
    /// # Errors
    /// `Io`.
    pub fn sizes(&self) -> Result<BTreeMap<u32, u64>, SpoolError> {
        let mut sizes = BTreeMap::new();
        for name in self.names()? {
            let Some(number) = name.strip_suffix(SUFFIX).and_then(|name| name.parse().ok()) else {
                continue;
            };
            match fs::metadata(self.dir.join(&name)) {
                Ok(metadata) => sizes.insert(number, metadata.len()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(source) => {
                    return Err(failed("read the size of", &self.dir.join(name))(source));
                }
            };
        }
        Ok(sizes)
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:010}{SUFFIX}"))
    }

    fn names(&self) -> Result<Vec<String>, SpoolError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed("read the folder", &self.dir))? {
            let entry = entry.map_err(failed("read the folder", &self.dir))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn sync(&self) -> Result<(), SpoolError> {
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(failed("write to disk the folder", &self.dir))
    }
}

fn failed(attempt: &'static str, path: &Path) -> impl Fn(io::Error) -> SpoolError {
    move |source| SpoolError::Io {
        attempt,
        path: path.to_owned(),
        source,
    }
}

fn write(path: &Path, epoch: &Epoch) -> io::Result<()> {
    let body = postcard::to_allocvec(epoch).map_err(io::Error::other)?;
    let mut file = File::create(path)?;
    file.write_all(MAGIC)?;
    file.write_all(&crc32fast::hash(&body).to_le_bytes())?;
    file.write_all(&(body.len() as u64).to_le_bytes())?;
    file.write_all(&body)?;
    file.sync_all()
}

fn parse(bytes: &[u8]) -> Result<Epoch, &'static str> {
    let (header, body) = bytes
        .split_first_chunk::<HEADER_LEN>()
        .ok_or("it is cut in its first bytes")?;
    let [magic @ .., c0, c1, c2, c3, l0, l1, l2, l3, l4, l5, l6, l7] = header;
    if magic != MAGIC && magic != MAGIC_2 {
        return Err("it is of another version, or no spool file");
    }
    if body.len() as u64 != u64::from_le_bytes([*l0, *l1, *l2, *l3, *l4, *l5, *l6, *l7]) {
        return Err("it is cut, or something was added");
    }
    if crc32fast::hash(body) != u32::from_le_bytes([*c0, *c1, *c2, *c3]) {
        return Err("its checksum is wrong");
    }
    let epoch = if magic == MAGIC {
        postcard::from_bytes(body)
    } else {
        postcard::from_bytes::<v2::Epoch>(body).map(Epoch::from)
    };
    epoch.map_err(|_| "its content is of another version")
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
