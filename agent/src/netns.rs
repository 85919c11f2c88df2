//! Network namespaces: made, opened, entered and removed.
//!
//! Only a [`Traveller`] changes the namespace of its thread: of one made for that, which then ends, or of one that is
//! brought back before it goes on with anything else. Knows nothing of links, addresses or what a namespace is for.

mod traveller;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Child, Command, Output};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{NSFS_MAGIC, statfs};

pub use self::traveller::Traveller;
use self::traveller::on_own_thread;

/// The namespace of the thread that opens it; right under any mounted procfs,
/// also one of another PID namespace.
const OWN_NETNS: &str = "/proc/thread-self/ns/net";
/// The open files of this process, likewise.
const OWN_FILES: &str = "/proc/thread-self/fd";
/// Where a namespace's settings are, for a thread inside it.
const SETTINGS: &str = "/proc/sys/net";
/// What mount(2) is not told.
const NONE: Option<&str> = None;

/// Why a namespace could not be made, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// A system call on the namespace's file failed.
    #[error("{action} network namespace {netns}")]
    Failed {
        /// What was attempted: "create", "open", "enter", ...
        action: &'static str,
        /// The path, or "of the agent".
        netns: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Something that is no network namespace has the path.
    #[error("{path} is not a network namespace: remove it, or name another path")]
    NotANetns {
        /// The path.
        path: String,
    },
}

/// Whether an object was there before a call that ensures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The call made it.
    Created,
    /// It was there.
    Existing,
}

/// What tells one namespace from another: device and inode of its nsfs file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetnsId {
    device: u64,
    inode: u64,
}

/// An open network namespace; it lives at least as long as this value.
#[derive(Debug)]
pub struct Netns {
    file: File,
    name: String,
    /// Folders of its settings that were looked up, by name below `/proc/sys/net`.
    settings: Arc<Mutex<BTreeMap<String, Arc<OwnedFd>>>>,
}

impl Netns {
    /// Makes a namespace and binds it to `path`, or opens the one that is
    /// bound there. Directories are made; a plain file without a namespace,
    /// as a crash or a reboot leaves it, is taken over.
    ///
    /// The bind mount is an ordinary one: it spreads where the directory's
    /// mount is shared, and `ip netns exec` finds it under `/run/netns`.
    ///
    /// # Errors
    /// `NotANetns` if something else has the path; `Failed` with "create"
    /// after which nothing stays behind but directories.
    pub fn create(path: &Path) -> Result<(Self, Origin), NetnsError> {
        on_own_thread(|traveller| traveller.create(path))
            .map_err(|source| NetnsError::failed("create", path, source))?
    }

    /// Whether [`Netns::create`] would make a namespace at `path`: nothing is
    /// there, or the empty file that a crash or a reboot leaves.
    ///
    /// # Errors
    /// `Failed` if it cannot be told.
    pub fn is_free(path: &Path) -> Result<bool, NetnsError> {
        let place =
            Place::at(path).map_err(|source| NetnsError::failed("inspect", path, source))?;
        Ok(matches!(place, Place::Free | Place::Leftover))
    }

    /// Opens the namespace that `path` leads to (a bind mount, or
    /// `/proc/PID/ns/net`).
    ///
    /// # Errors
    /// `NotANetns` if it is a file of another kind; `Failed` if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        on_own_thread(|traveller| traveller.open(path))
            .map_err(|source| NetnsError::failed("open", path, source))?
    }

    /// Makes way for a namespace at `path`, where the empty file that a crash or a reboot leaves may be; whether there
    /// is none.
    ///
    /// # Errors
    /// `NotANetns` if something else has the path; `Failed` if it cannot be told.
    pub fn make_way(path: &Path) -> Result<bool, NetnsError> {
        let failed = |source| NetnsError::failed("create", path, source);
        match Place::at(path).map_err(failed)? {
            Place::Free => Ok(true),
            Place::Leftover => remove_file(path).map(|()| true).map_err(failed),
            Place::Netns => Ok(false),
            Place::Other => Err(NetnsError::not_a_netns(path)),
        }
    }

    /// Binds the namespace to `path`, where nothing is, as [`Netns::create`] does.
    ///
    /// # Errors
    /// `Failed` with "create"; nothing stays behind but directories.
    pub fn bind_to(self, path: &Path) -> Result<Self, NetnsError> {
        let failed = |source| NetnsError::failed("create", path, source);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o444);
        options.open(path).map_err(failed)?;
        let this = format!("{OWN_FILES}/{}", self.file.as_raw_fd());
        let bound = mount(Some(this.as_str()), path, NONE, MsFlags::MS_BIND, NONE);
        if let Err(errno) = bound {
            // Without the namespace the file means nothing; its removal is best effort.
            drop(fs::remove_file(path));
            return Err(failed(errno.into()));
        }
        let name = path.display().to_string();
        Ok(Self { name, ..self })
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// `Failed` if procfs is not mounted on `/proc`.
    pub fn host() -> Result<Self, NetnsError> {
        let name = "of the agent";
        let file = File::open(OWN_NETNS)
            .map_err(|source| NetnsError::failed("open", Path::new(name), source))?;
        Ok(Self::named(file, Path::new(name)))
    }

    /// Makes an empty `folder` of namespaces a mount point of its own, shared, as `ip netns add` and runtimes do
    /// where it is none. They take the mounts in it along, and what is then mounted twice, once out of sight, nobody
    /// can remove.
    ///
    /// # Errors
    /// `Failed`: it cannot be made, or this process may not mount.
    pub fn prepare_folder(folder: &Path) -> Result<(), NetnsError> {
        let failed = |source| NetnsError::failed("prepare the folder of", folder, source);
        fs::create_dir_all(folder).map_err(failed)?;
        let is_empty = fs::read_dir(folder).map_err(failed)?.next().is_none();
        if !is_empty || is_mount_point(folder).map_err(failed)? {
            return Ok(());
        }
        mount(Some(folder), folder, NONE, MsFlags::MS_BIND, NONE)
            .and_then(|()| mount(NONE, folder, NONE, MsFlags::MS_SHARED, NONE))
            .map_err(|errno| failed(errno.into()))
    }

    /// Takes the namespace off `path` and removes the file; already gone is
    /// success. The namespace itself ends with its last user.
    ///
    /// # Errors
    /// `NotANetns` if the path holds something else, which stays untouched.
    pub fn remove(path: &Path) -> Result<(), NetnsError> {
        let failed = |source| NetnsError::failed("remove", path, source);
        // Several mounts may lie on one another.
        loop {
            match Place::at(path).map_err(failed)? {
                Place::Free => return Ok(()),
                Place::Leftover => return remove_file(path).map_err(failed),
                Place::Netns => {
                    umount2(path, MntFlags::MNT_DETACH).map_err(|errno| failed(errno.into()))?
                }
                Place::Other => return Err(NetnsError::not_a_netns(path)),
            }
        }
    }

    /// Runs `work` on a thread of its own inside the namespace and waits for
    /// it. A panic of `work` goes on in the caller. Sockets opened there keep
    /// the namespace wherever they are used.
    ///
    /// # Errors
    /// `Failed` if the thread cannot be made or cannot enter; `work` has not run then.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        on_own_thread(|traveller| {
            traveller.enter(self)?;
            Ok(work())
        })
        .map_err(|source| self.not_entered(source))?
    }

    /// Runs `work` inside the namespace: on the calling thread if it is there, else as [`Netns::run`].
    ///
    /// # Errors
    /// As there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        if self.is_current() {
            Ok(work())
        } else {
            self.run(work)
        }
    }

    /// Starts `command` inside the namespace.
    ///
    /// # Errors
    /// `Failed`: "enter", or "start a command in" with the reason of the start.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, NetnsError> {
        self.run(|| command.spawn())?
            .map_err(|source| self.not_started(source))
    }

    /// Runs `command` inside the namespace and collects its output.
    ///
    /// # Errors
    /// As [`Netns::spawn`].
    pub fn output(&self, command: &mut Command) -> Result<Output, NetnsError> {
        self.run(|| command.output())?
            .map_err(|source| self.not_started(source))
    }

    /// What tells this namespace from others while it lives.
    ///
    /// # Errors
    /// `Failed` if the file cannot be read, which open files always can.
    pub fn id(&self) -> Result<NetnsId, NetnsError> {
        let metadata = self
            .file
            .metadata()
            .map_err(|source| NetnsError::failed("inspect", Path::new(&self.name), source))?;
        Ok(NetnsId {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Whether the calling thread is inside.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let Ok(current) = fs::metadata(OWN_NETNS) else {
            return false;
        };
        let current = NetnsId {
            device: current.dev(),
            inode: current.ino(),
        };
        self.id().is_ok_and(|own| own == current)
    }

    /// The folder `name` of its settings (`/proc/sys/net/NAME`); `None` if the kernel has none. What is in it is found
    /// by any thread.
    ///
    /// To the kernel that folder is one of many by one name, one of each namespace, which it searches one by one
    /// (`proc_sys_compare` of fs/proc/proc_sysctl.c): so it is looked up once.
    ///
    /// # Errors
    /// `Failed` if the namespace cannot be entered, or the process has no file descriptor left.
    pub fn settings(&self, name: &str) -> Result<Option<Arc<OwnedFd>>, NetnsError> {
        let known = || self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = known().get(name) {
            return Ok(Some(Arc::clone(folder)));
        }
        let path = format!("{SETTINGS}/{name}");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match self.inside(|| open(path.as_str(), flags, Mode::empty()))? {
            Ok(folder) => {
                let folder = Arc::new(folder);
                known().insert(name.to_owned(), Arc::clone(&folder));
                Ok(Some(folder))
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => {
                let netns = Path::new(&self.name);
                Err(NetnsError::failed(
                    "open the settings of",
                    netns,
                    errno.into(),
                ))
            }
        }
    }

    /// Another handle on the same namespace.
    ///
    /// # Errors
    /// `Failed` if the process has no file descriptor left.
    pub fn try_clone(&self) -> Result<Self, NetnsError> {
        let file = self
            .file
            .try_clone()
            .map_err(|source| NetnsError::failed("duplicate", Path::new(&self.name), source))?;
        Ok(Self {
            file,
            name: self.name.clone(),
            settings: Arc::clone(&self.settings),
        })
    }

    /// The path it was opened by, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn named(file: File, path: &Path) -> Self {
        Self {
            file,
            name: path.display().to_string(),
            settings: Arc::default(),
        }
    }

    fn not_started(&self, source: io::Error) -> NetnsError {
        NetnsError::failed("start a command in", Path::new(&self.name), source)
    }

    fn not_entered(&self, source: io::Error) -> NetnsError {
        NetnsError::failed("enter", Path::new(&self.name), source)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl NetnsError {
    fn failed(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Failed {
            action,
            netns: path.display().to_string(),
            source,
        }
    }

    fn not_a_netns(path: &Path) -> Self {
        Self::NotANetns {
            path: path.display().to_string(),
        }
    }
}

/// By the kernel's list of mounts (proc_pid_mountinfo(5): the fifth field).
fn is_mount_point(folder: &Path) -> io::Result<bool> {
    let folder = fs::canonicalize(folder)?;
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo")?;
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.any(|point| Path::new(point) == folder))
}

/// What is where a namespace may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing.
    Free,
    /// The empty file that a crash or a reboot leaves of a bound namespace.
    Leftover,
    /// A bound namespace.
    Netns,
    /// What is somebody else's.
    Other,
}

impl Place {
    fn at(path: &Path) -> io::Result<Self> {
        match statfs(path) {
            Ok(found) if found.filesystem_type() == NSFS_MAGIC => return Ok(Self::Netns),
            Ok(_) => {}
            Err(Errno::ENOENT) => return Ok(Self::Free),
            Err(errno) => return Err(errno.into()),
        }
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() && found.len() == 0 => Ok(Self::Leftover),
            Ok(_) => Ok(Self::Other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Free),
            Err(error) => Err(error),
        }
    }
}

/// Gone already is success.
fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
