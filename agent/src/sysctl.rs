//! Kernel settings under `/proc/sys`, of any network namespace.
//!
//! Reads and writes what it is told; decides nothing and remembers nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

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

/// The settings of one namespace, for any thread. A key is a path below `/proc/sys`, as `net/ipv6/conf/eth0/accept_ra`:
/// names of links may hold dots.
#[derive(Clone, Copy, Debug)]
pub struct Sysctls<'a> {
    netns: &'a Netns,
}

/// Bytes of the longest value that is read.
const LONGEST_VALUE: usize = 4096;
/// What every namespace has settings of its own below.
const OF_NETNS: &str = "net/";

impl<'a> Sysctls<'a> {
    /// Those of `netns`.
    #[must_use]
    pub const fn of(netns: &'a Netns) -> Self {
        Self { netns }
    }

    /// The value of `key`, without its line end; `None` if there is no such setting.
    ///
    /// # Errors
    /// `Read` if it exists and cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<String>, SysctlError> {
        match self.open(key, OFlag::O_RDONLY)? {
            Ok(mut file) => value(&mut file)
                .map(Some)
                .map_err(|source| self.unread(key, source)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.unread(key, errno.into())),
        }
    }

    /// Sets `key`, unless it has the value already.
    ///
    /// # Errors
    /// `Write` if the kernel has no such setting or refuses the value.
    pub fn set(&self, key: &str, value: &str) -> Result<(), SysctlError> {
        let source = match self.open(key, OFlag::O_RDWR)? {
            Ok(file) => match change(file, value) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Err(errno) => errno.into(),
        };
        // Where nothing may be set it may be right all the same.
        if self.get(key)?.as_deref() == Some(value) {
            return Ok(());
        }
        Err(SysctlError::Write {
            key: key.to_owned(),
            value: value.to_owned(),
            netns: self.netns.name().to_owned(),
            source,
        })
    }

    /// Whether the kernel speaks IPv6 at all (`ipv6.disable=1` takes it away).
    ///
    /// # Errors
    /// `Netns`.
    pub fn has_ipv6(&self) -> Result<bool, SysctlError> {
        Ok(self.netns.settings("ipv6")?.is_some())
    }

    /// The names below a directory of settings, such as `net/ipv4/conf`.
    ///
    /// # Errors
    /// `Read` if the directory is there and cannot be read; empty if it is not.
    pub fn names(&self, directory: &str) -> Result<Vec<String>, SysctlError> {
        let failed = |source| self.unread(directory, source);
        let folder = match self.open(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY)? {
            Ok(folder) => folder,
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(failed(errno.into())),
        };
        let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// The file of `key`, or the kernel's answer.
    fn open(&self, key: &str, flags: OFlag) -> Result<Result<File, Errno>, NetnsError> {
        let (flags, mode) = (flags | OFlag::O_CLOEXEC, Mode::empty());
        let in_folder = key.strip_prefix(OF_NETNS);
        let opened = match in_folder.and_then(|key| key.split_once('/')) {
            Some((folder, key)) => match self.netns.settings(folder)? {
                Some(folder) => openat(folder, key, flags, mode),
                None => Err(Errno::ENOENT),
            },
            // What there is depends on who looks.
            None => {
                let path = format!("/proc/sys/{key}");
                self.netns.inside(|| open(path.as_str(), flags, mode))?
            }
        };
        Ok(opened.map(File::from))
    }

    fn unread(&self, key: &str, source: io::Error) -> SysctlError {
        SysctlError::Read {
            key: key.to_owned(),
            netns: self.netns.name().to_owned(),
            source,
        }
    }
}

/// All of a value that there is room for comes at once (`proc_sys_call_handler` of fs/proc/proc_sysctl.c).
fn value(file: &mut File) -> io::Result<String> {
    let mut bytes = [0; LONGEST_VALUE];
    let len = file.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..len]).trim_end().to_owned())
}

fn change(mut file: File, wanted: &str) -> io::Result<()> {
    if value(&mut file)? == wanted {
        return Ok(());
    }
    // Behind the beginning nothing is taken (`sysctl_writes_strict`).
    file.write_all_at(wanted.as_bytes(), 0)
}
