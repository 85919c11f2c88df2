//! A thread that changes its namespace: made for that, or brought back.

use std::{cell::Cell, fs::File, io, marker::PhantomData, path::Path, thread};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};

use super::{Netns, NetnsError, OWN_NETNS, Origin};

/// Name of the threads that are made for that.
const THREAD: &str = "netns";

/// The calling thread may change its namespace.
#[derive(Debug, Default)]
pub struct Traveller {
    has_left: Cell<bool>,
    /// It stays on its thread.
    _not_send: PhantomData<*const ()>,
}

/// Brings a thread home when it is dropped, also by a panic.
struct WayHome<'a> {
    home: &'a Netns,
    traveller: &'a Traveller,
}

impl Traveller {
    /// Runs `work` on the calling thread, which is in `home` before, and is again afterwards.
    ///
    /// # Aborts
    /// The process, if the way back is barred: it needs the rights that led away (setns(2)), and a thread that went on
    /// elsewhere would do the host's work in a task's namespace.
    pub fn and_back<T>(home: &Netns, work: impl FnOnce(&Self) -> T) -> T {
        let traveller = Self::default();
        let _way = WayHome {
            home,
            traveller: &traveller,
        };
        work(&traveller)
    }

    /// As [`Netns::create`]; the calling thread is inside afterwards.
    ///
    /// # Errors
    /// As there.
    pub fn create(&self, path: &Path) -> Result<(Netns, Origin), NetnsError> {
        if !Netns::make_way(path)? {
            return Ok((self.open(path)?, Origin::Existing));
        }
        Ok((self.create_unbound(path)?.bind_to(path)?, Origin::Created))
    }

    /// Makes a namespace that nobody finds, and that ends with its value; `name` is for messages. The calling thread is
    /// inside afterwards.
    ///
    /// # Errors
    /// `Failed` with "create".
    pub fn create_unbound(&self, name: &Path) -> Result<Netns, NetnsError> {
        let failed = |source| NetnsError::failed("create", name, source);
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
        self.has_left.set(true);
        let file = File::open(OWN_NETNS).map_err(failed)?;
        Ok(Netns::named(file, name))
    }

    /// As [`Netns::open`]; the calling thread is inside afterwards.
    ///
    /// # Errors
    /// As there.
    pub fn open(&self, path: &Path) -> Result<Netns, NetnsError> {
        let failed = |source| NetnsError::failed("open", path, source);
        let not_a_netns = || NetnsError::not_a_netns(path);
        let file = File::open(path).map_err(failed)?;
        let kind = fstatfs(&file).map_err(|errno| failed(errno.into()))?;
        if kind.filesystem_type() != NSFS_MAGIC {
            return Err(not_a_netns());
        }
        // A PID or mount namespace is an nsfs file too: only entering tells.
        match setns(&file, CloneFlags::CLONE_NEWNET) {
            Ok(()) => {
                self.has_left.set(true);
                Ok(Netns::named(file, path))
            }
            Err(Errno::EINVAL) => Err(not_a_netns()),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Brings the calling thread into `netns`.
    ///
    /// # Errors
    /// `Failed`: "enter".
    pub fn enter(&self, netns: &Netns) -> Result<(), NetnsError> {
        setns(&netns.file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| netns.not_entered(errno.into()))?;
        self.has_left.set(true);
        Ok(())
    }
}

impl Drop for WayHome<'_> {
    fn drop(&mut self) {
        let has_left = self.traveller.has_left.get();
        if has_left && let Err(error) = self.traveller.enter(self.home) {
            tracing::error!(%error, "a thread cannot leave a task's network namespace");
            std::process::abort();
        }
    }
}

pub(super) fn on_own_thread<T: Send>(work: impl FnOnce(&Traveller) -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(THREAD.to_owned());
        let thread = thread.spawn_scoped(scope, || work(&Traveller::default()))?;
        match thread.join() {
            Ok(done) => Ok(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
