//! Why the data plane cannot be used, and aya's answers as such.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use branchline_bpf_batch::BatchError;
use branchline_common::maps::LAYOUT_VERSION;

/// Why the data plane cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The folder of the pins cannot be used.
    #[error("make {} for pinned maps; is a bpffs mounted at its top? (mount -t bpf bpf /sys/fs/bpf)", path.display())]
    Pins {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another version's maps are pinned.
    #[error(
        "{} holds maps of another version of branchline and this one has layout {LAYOUT_VERSION}; \
         run the version that made them, or `branchline purge` with it first",
        path.display()
    )]
    Layout {
        /// The other version's folder.
        path: PathBuf,
    },
    /// The object does not load.
    #[error("load the kernel programs")]
    Load(#[source] Box<EbpfError>),
    /// A program does not load or run.
    #[error("{attempt} the kernel program {program}")]
    Program {
        /// What was attempted.
        attempt: &'static str,
        /// Its name.
        program: &'static str,
        /// Why.
        source: Box<ProgramError>,
    },
    /// The object has no such map or program, or one of another type.
    #[error("the kernel object has no {0} of the expected type; rebuild with `cargo xtask build`")]
    Missing(&'static str),
    /// A map cannot be read or written.
    #[error("{attempt} the map {map}")]
    Map {
        /// What was attempted.
        attempt: &'static str,
        /// Its name.
        map: &'static str,
        /// Why.
        source: Box<MapError>,
    },
    /// A map cannot be read whole.
    #[error("list the map {map}")]
    Walk {
        /// Its name.
        map: &'static str,
        /// Why.
        source: BatchError,
    },
    /// A link on bpffs cannot be pinned or read.
    #[error("{attempt} {}", path.display())]
    Pin {
        /// What was attempted.
        attempt: &'static str,
        /// The pin.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A filter cannot be attached.
    #[error(transparent)]
    Netlink(#[from] crate::netlink::NetlinkError),
    /// A namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] crate::netns::NetnsError),
    /// The kernel cannot wait for its programs.
    #[error("wait for the programs that run now (membarrier)")]
    Grace(#[source] io::Error),
    /// The kernel's clock makes no sense.
    #[error("the kernel's clock runs at {ticks} ticks in {millis} ms, which no known HZ explains")]
    Clock {
        /// Ticks seen.
        ticks: u32,
        /// Time they took.
        millis: u64,
    },
}

pub(super) fn program_error(
    attempt: &'static str,
    program: &'static str,
    source: ProgramError,
) -> DatapathError {
    DatapathError::Program {
        attempt,
        program,
        source: Box::new(source),
    }
}

pub(super) fn map_error(
    attempt: &'static str,
    map: &'static str,
    source: MapError,
) -> DatapathError {
    DatapathError::Map {
        attempt,
        map,
        source: Box::new(source),
    }
}

/// A removal, for which "already gone" is success; tells whether there was something.
pub(super) fn gone(result: Result<(), MapError>, map: &'static str) -> Result<bool, DatapathError> {
    match result {
        Ok(()) => Ok(true),
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(false),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(false)
        }
        Err(source) => Err(map_error("remove an entry of", map, source)),
    }
}

pub(super) fn found<T>(
    result: Result<T, MapError>,
    map: &'static str,
) -> Result<Option<T>, DatapathError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(source) => Err(map_error("read", map, source)),
    }
}

pub(super) fn keys<K>(
    keys: impl Iterator<Item = Result<K, MapError>>,
    map: &'static str,
) -> Result<Vec<K>, DatapathError> {
    keys.collect::<Result<_, _>>()
        .map_err(|source| map_error("list", map, source))
}

pub(super) fn pairs<K, V>(
    pairs: impl Iterator<Item = Result<(K, V), MapError>>,
    map: &'static str,
) -> Result<Vec<(K, V)>, DatapathError> {
    pairs
        .collect::<Result<_, _>>()
        .map_err(|source| map_error("list", map, source))
}

pub(super) fn keys_of<K>(
    entries: impl Iterator<Item = Result<(K, u32), MapError>>,
    slot: u32,
    map: &'static str,
) -> Result<Vec<K>, DatapathError> {
    let entries = pairs(entries, map)?;
    Ok(entries
        .into_iter()
        .filter(|(_, of)| *of == slot)
        .map(|(key, _)| key)
        .collect())
}
