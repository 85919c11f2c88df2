//! Kernel settings under `/proc/sys`, of any network namespace.
//!
//! Reads and writes what it is told; decides nothing and remembers nothing.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::netns::{Netns, NetnsError};

/// Why a setting could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// The file could not be read.
    #[error("read sysctl {key} in network namespace {netns}")]
    Read {
        /// Path below `/proc/sys`.
        key: String,
        /// The namespace.
        netns: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The value was refused.
    #[error("set sysctl {key} to {value} in network namespace {netns}")]
    Write {
        /// Path below `/proc/sys`.
        key: String,
        /// The refused value.
        value: String,
        /// The namespace.
        netns: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

/// The settings of one namespace, valid on the thread inside it only.
///
/// To the kernel the folder `net/ipv6` of every namespace is one of many by one name, which it searches one by one: so
/// it is looked up once.
#[derive(Debug)]
pub struct Sysctls<'a> {
    netns: &'a Netns,
    families: [OnceCell<Option<OwnedFd>>; 2],
}

/// Bytes of the longest value that is read.
const LONGEST_VALUE: usize = 4096;

/// Folders below `/proc/sys` that are looked up once.
const FAMILIES: [&str; 2] = ["net/ipv4/", "net/ipv6/"];

/// Runs `work` with the settings of `netns`, on one thread inside it: the calling one if it is.
///
/// # Errors
/// Those of `work`, and `Netns` if the namespace cannot be entered.
pub fn within<T: Send>(
    netns: &Netns,
    work: impl FnOnce(&Sysctls<'_>) -> Result<T, SysctlError> + Send,
) -> Result<T, SysctlError> {
    let work = || {
        work(&Sysctls {
            netns,
            families: Default::default(),
        })
    };
    if netns.is_current() {
        return work();
    }
    netns.run(work)?
}

impl Sysctls<'_> {
    /// The value of `key` (a path below `/proc/sys`, since link names may hold
    /// dots), without its line end; `None` if there is no such setting.
    ///
    /// # Errors
    /// `Read` if it exists and cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<String>, SysctlError> {
        let read = self.open(key, OFlag::O_RDONLY).and_then(|mut file| {
            // All of a value that there is room for comes at once (`proc_sys_call_handler` of fs/proc/proc_sysctl.c).
            let mut bytes = [0; LONGEST_VALUE];
            let len = file.read(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes[..len]).trim_end().to_owned())
        });
        match read {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SysctlError::Read {
                key: key.to_owned(),
                netns: self.netns.name().to_owned(),
                source,
            }),
        }
    }

    /// Sets `key`, unless it has the value already.
    ///
    /// # Errors
    /// `Write` if the kernel has no such setting or refuses the value.
    pub fn set(&self, key: &str, value: &str) -> Result<(), SysctlError> {
        if self.get(key)?.as_deref() == Some(value) {
            return Ok(());
        }
        let open = self.open(key, OFlag::O_WRONLY);
        let written = open.and_then(|mut file| file.write_all(value.as_bytes()));
        written.map_err(|source| SysctlError::Write {
            key: key.to_owned(),
            value: value.to_owned(),
            netns: self.netns.name().to_owned(),
            source,
        })
    }

    /// Whether the kernel speaks IPv6 at all (`ipv6.disable=1` takes it away).
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.family(1).is_some()
    }

    fn open(&self, key: &str, flags: OFlag) -> io::Result<File> {
        let (flags, mode) = (flags | OFlag::O_CLOEXEC, Mode::empty());
        for (number, prefix) in FAMILIES.iter().enumerate() {
            if let Some(rest) = key.strip_prefix(prefix) {
                let folder = self.family(number).ok_or(Errno::ENOENT)?;
                return Ok(openat(folder, rest, flags, mode)?.into());
            }
        }
        Ok(open(path(key).as_str(), flags, mode)?.into())
    }

    /// A folder of [`FAMILIES`]; `None` if the kernel has none.
    fn family(&self, number: usize) -> Option<&OwnedFd> {
        let found = self.families[number].get_or_init(|| {
            let folder = path(FAMILIES[number]);
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            open(folder.as_str(), flags, Mode::empty()).ok()
        });
        found.as_ref()
    }

    /// The names below a directory of settings, such as `net/ipv4/conf`.
    ///
    /// # Errors
    /// `Read` if the directory is there and cannot be read; empty if it is not.
    pub fn names(&self, directory: &str) -> Result<Vec<String>, SysctlError> {
        let failed = |source| SysctlError::Read {
            key: directory.to_owned(),
            netns: self.netns.name().to_owned(),
            source,
        };
        let entries = match fs::read_dir(path(directory)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

fn path(key: &str) -> String {
    format!("/proc/sys/{key}")
}
