//! A task's `hostname`, `hosts` and `resolv.conf`: what is in them, and where they are written and removed.
//!
//! Two places: below `run_dir`, for the bind mounts of an OCI runtime, and below `/etc/netns`, where `ip netns exec`
//! finds them. Each file is replaced whole. Reads one only to compare it, and never changes one of somebody else.

use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dns::TaskDns;
use crate::provider::Eni;

const HOST_NAME: &str = "hostname";
const HOSTS: &str = "hosts";
const RESOLV_CONF: &str = "resolv.conf";
const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// Where the files of one task are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePlaces {
    /// For an OCI runtime's bind mounts.
    pub run: PathBuf,
    /// For `ip netns exec`; `None` where the namespace has no name, or its folder is somebody else's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
}

/// What a task's files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFiles {
    /// `None`: the container runtime's random name stays.
    pub host_name: Option<String>,
    /// `/etc/hosts`.
    pub hosts: String,
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
}

/// Why a task's files could not be written or removed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct TaskFileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl TaskFiles {
    /// The files of a task with `eni` that is told `dns`.
    #[must_use]
    pub fn of(dns: &TaskDns, eni: &Eni) -> Self {
        Self {
            host_name: dns.host_name.as_ref().map(|name| format!("{name}\n")),
            hosts: hosts(dns.host_name.as_deref(), eni),
            resolv_conf: resolv_conf(dns),
        }
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let host_name = self.host_name.as_deref().map(|text| (HOST_NAME, text));
        let others = [(HOSTS, &*self.hosts), (RESOLV_CONF, &*self.resolv_conf)];
        host_name.into_iter().chain(others)
    }
}

/// Loopback, and the task's name for its addresses: those of IPv6 only where there is no other.
fn hosts(name: Option<&str>, eni: &Eni) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    let ipv4 = eni.ipv4.map(|net| IpAddr::V4(net.addr()));
    let address = ipv4.or(eni.ipv6.map(|net| IpAddr::V6(net.addr())));
    if let (Some(name), Some(address)) = (name, address) {
        let short = name.split('.').next().unwrap_or(name);
        text.push_str(&format!("{address} {name} {short}\n"));
    }
    text
}

fn resolv_conf(dns: &TaskDns) -> String {
    let mut text = String::new();
    if !dns.search.is_empty() {
        text.push_str(&format!("search {}\n", dns.search.join(" ")));
    }
    for server in &dns.name_servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text
}

impl FilePlaces {
    /// The folders of a task: one below `run_dir`, and one below `etc_netns_dir` if its namespace is
    /// named, directly in `netns_dir`, and the agent's own or without such a folder so far.
    #[must_use]
    pub fn choose(folders: &Folders, task_id: &str, netns: &Path, is_own: bool) -> Self {
        let is_named = netns.parent() == Some(&folders.netns);
        let folder = netns.file_name().filter(|_| is_named);
        let folder = folder.map(|name| folders.etc_netns.join(name));
        Self {
            run: folders.tasks.join(task_id),
            netns: folder.filter(|folder| is_own || !folder.exists()),
        }
    }

    fn folders(&self) -> impl Iterator<Item = &Path> {
        let run = Some(self.run.as_path()).filter(|path| !path.as_os_str().is_empty());
        run.into_iter().chain(self.netns.as_deref())
    }

    /// The path of a file for bind mounts.
    #[must_use]
    pub fn hosts(&self) -> PathBuf {
        self.run.join(HOSTS)
    }

    /// See [`FilePlaces::hosts`].
    #[must_use]
    pub fn resolv_conf(&self) -> PathBuf {
        self.run.join(RESOLV_CONF)
    }

    /// See [`FilePlaces::hosts`].
    #[must_use]
    pub fn host_name(&self) -> PathBuf {
        self.run.join(HOST_NAME)
    }

    /// Writes the files, each in one step where there may be one. Idempotent.
    ///
    /// # Errors
    /// Names the file; [`FilePlaces::remove`] removes what was written.
    pub fn write(&self, files: &TaskFiles) -> Result<(), TaskFileError> {
        for folder in self.folders() {
            let is_new = make_folder(folder).map_err(failed("make the folder", folder))?;
            for (name, text) in files.each() {
                let path = folder.join(name);
                if is_new {
                    write(&path, text).map_err(failed("write", &path))?;
                    continue;
                }
                let draft = draft(folder, name);
                write(&draft, text).map_err(failed("write", &draft))?;
                std::fs::rename(&draft, &path).map_err(failed("put into place", &path))?;
            }
        }
        Ok(())
    }

    /// Those of the files that are not as they should be, each with what it is instead.
    #[must_use]
    pub fn different(&self, files: &TaskFiles) -> Vec<(PathBuf, String)> {
        let mut different = Vec::new();
        for folder in self.folders() {
            for (name, text) in files.each() {
                let path = folder.join(name);
                match std::fs::read(&path) {
                    Ok(found) if found == text.as_bytes() => {}
                    Ok(_) => different.push((path, "another text".to_owned())),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        different.push((path, "none".to_owned()));
                    }
                    Err(error) => different.push((path, error.to_string())),
                }
            }
        }
        different
    }

    /// Removes the files, and the folders unless something else is in them; already gone is success.
    ///
    /// # Errors
    /// Names what could not be removed.
    pub fn remove(&self) -> Result<(), TaskFileError> {
        for folder in self.folders() {
            for name in [HOST_NAME, HOSTS, RESOLV_CONF] {
                for path in [folder.join(name), draft(folder, name)] {
                    unless_gone(std::fs::remove_file(&path)).map_err(failed("remove", &path))?;
                }
            }
            match std::fs::remove_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                result => unless_gone(result).map_err(failed("remove", folder))?,
            }
        }
        Ok(())
    }
}

/// Folders that hold one folder for each task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// Where named namespaces are.
    pub netns: PathBuf,
    /// Where `ip netns exec` looks for files of named namespaces.
    pub etc_netns: PathBuf,
    /// For bind mounts.
    pub tasks: PathBuf,
}

impl Folders {
    /// Removes what earlier tasks left, as after a reboot: folders below `tasks`, and below `etc_netns` those of
    /// namespaces that the agent makes, which none of `places` names.
    ///
    /// # Errors
    /// Names what could not be read or removed.
    pub fn remove_strays(&self, places: &[&FilePlaces]) -> Result<(), TaskFileError> {
        let is_used = |folder: &Path| {
            places
                .iter()
                .any(|each| each.folders().any(|one| one == folder))
        };
        let own = format!("{}-", crate::task::NETNS_PREFIX);
        for (parent, prefix) in [(&self.tasks, ""), (&self.etc_netns, own.as_str())] {
            for folder in folders_in(parent)? {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with(prefix) && !is_used(&folder) {
                    let place = FilePlaces {
                        run: folder,
                        netns: None,
                    };
                    place.remove()?;
                }
            }
        }
        Ok(())
    }
}

fn folders_in(folder: &Path) -> Result<Vec<PathBuf>, TaskFileError> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("list", folder))?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths
        .collect::<io::Result<Vec<_>>>()
        .map_err(failed("list", folder))?;
    paths.retain(|path| path.is_dir());
    Ok(paths)
}

/// Makes the folder and those above it; false if it was there.
fn make_folder(folder: &Path) -> io::Result<bool> {
    let is_new = match std::fs::create_dir(folder) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder)?;
            true
        }
        Err(_) if folder.is_dir() => false,
        Err(error) => return Err(error),
    };
    std::fs::set_permissions(folder, readable(FOLDER_MODE))?;
    Ok(is_new)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.set_permissions(readable(FILE_MODE))?;
    file.write_all(text.as_bytes())
}

/// Whatever the agent's umask says: containers read them as any user.
fn readable(mode: u32) -> std::fs::Permissions {
    std::fs::Permissions::from_mode(mode)
}

/// Beside the folder, not in it: `ip netns exec` mounts whatever is there.
fn draft(folder: &Path, name: &str) -> PathBuf {
    let of = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{of}.{name}"))
}

fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TaskFileError {
    let path = path.to_owned();
    move |source| TaskFileError {
        action,
        path,
        source,
    }
}

#[cfg(test)]
#[path = "task_files_tests.rs"]
mod tests;
