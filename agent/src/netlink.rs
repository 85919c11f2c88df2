//! rtnetlink requests and their answers, in the namespace a socket was opened in.
//!
//! Every request ends in an acknowledgement, a kernel error, or a named failure:
//! a half-read list is never taken for success. What the
//! messages mean is the business of `link`, `route` and `tc`; which answer is whose, that of `numbered`.

mod numbered;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::numbered::{Answer, Numbered};
use crate::netns::{Netns, NetnsError, Traveller};

/// How often a list is read again when it changes meanwhile.
const DUMP_ATTEMPTS: u32 = 16;
/// How long to wait for what the kernel does in the background. It puts the event of a link off for at most a second.
const PATIENCE: Duration = Duration::from_secs(2);
/// A notice may be taken by another request on the same socket: how long until a look without one, in milliseconds.
const LOOK_MS: u16 = 10;

/// Why a netlink request did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket could be opened.
    #[error("open a netlink socket in network namespace {netns}")]
    Open {
        /// The namespace.
        netns: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The request could not be sent, or its answer not be received.
    #[error("{what}")]
    Socket {
        /// What was attempted on what.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{what}")]
    Refused {
        /// What was attempted on what.
        what: String,
        /// Errno, and the kernel's own words where it gives some.
        source: KernelError,
    },
    /// The object exists and differs from what was asked for.
    #[error("{what}: {found} is in its place")]
    Conflict {
        /// What was attempted on what.
        what: String,
        /// What exists.
        found: String,
    },
    /// A link that must be there is not.
    #[error("find link {link} in network namespace {netns}")]
    NoSuchLink {
        /// Its name or index.
        link: String,
        /// The namespace.
        netns: String,
    },
    /// The kernel's list kept changing while it was read.
    #[error("{what}: the list changed during each of {DUMP_ATTEMPTS} readings")]
    Unsteady {
        /// What was read.
        what: String,
    },
    /// What was waited for did not come.
    #[error("{what}: {reason}, after {} s", PATIENCE.as_secs())]
    NotYet {
        /// What was waited for on what.
        what: String,
        /// What it still looks like.
        reason: &'static str,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

/// A refusal in the kernel's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{text}", .errno.desc(), if .text.is_empty() { "" } else { ": " })]
pub struct KernelError {
    /// The error's number.
    pub errno: Errno,
    /// The extended acknowledgement's text, or nothing.
    pub text: String,
}

/// What the kernel tells of without being asked; `RTNLGRP_` numbers of linux/rtnetlink.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notices {
    /// Links of the namespace.
    Links = 1,
    /// Its IPv6 routes.
    Ipv6Routes = 11,
}

/// A netlink socket inside one namespace, usable from anywhere.
///
/// rtnetlink has done what a message asks, and has queued the answer, when the system call that sends it returns
/// (`netlink_unicast_kernel` of net/netlink/af_netlink.c). So nothing is awaited: a request takes the calling thread as
/// long as the kernel works on it.
#[derive(Debug)]
pub struct Netlink {
    socket: Mutex<Numbered>,
    netns: Netns,
}

impl Netlink {
    /// Opens a socket inside `netns`, which keeps the namespace alive until it is dropped.
    ///
    /// # Errors
    /// `Open` without a free descriptor; `Netns` if the namespace cannot be entered.
    pub fn open(netns: &Netns) -> Result<Self, NetlinkError> {
        Self::with(netns.inside(Numbered::open)?, netns.try_clone()?)
    }

    /// Opens the namespace at `path`, as [`Netns::open`] does, and a socket inside as [`Netlink::open`] does, by the
    /// calling thread, which is in `home`.
    ///
    /// # Errors
    /// As both.
    pub fn open_at(path: &Path, home: &Netns) -> Result<Self, NetlinkError> {
        Traveller::and_back(home, |traveller| Self::inside(traveller.open(path)?))
    }

    /// As [`Netlink::open`], of the namespace that the calling thread is in.
    ///
    /// # Errors
    /// `Open`.
    pub fn inside(netns: Netns) -> Result<Self, NetlinkError> {
        Self::with(Numbered::open(), netns)
    }

    fn with(socket: io::Result<Numbered>, netns: Netns) -> Result<Self, NetlinkError> {
        match socket {
            Ok(socket) => Ok(Self {
                socket: Mutex::new(socket),
                netns,
            }),
            Err(source) => Err(NetlinkError::Open {
                netns: netns.name().to_owned(),
                source,
            }),
        }
    }

    /// As [`Netns::bind_to`], of its namespace.
    ///
    /// # Errors
    /// As there.
    pub fn bind_to(self, path: &Path) -> Result<Self, NetnsError> {
        let netns = self.netns.bind_to(path)?;
        Ok(Self { netns, ..self })
    }

    /// The namespace it works in.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Sends `message` with `flags`; returns what the kernel sent before it acknowledged it.
    pub(crate) fn request(
        &self,
        what: impl Fn() -> String,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let answer = self.exchange(&what, message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        Ok(answer.messages)
    }

    /// Reads a whole list, again if it changed during the reading.
    pub(crate) fn dump(
        &self,
        what: impl Fn() -> String,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let flags = NLM_F_REQUEST | NLM_F_DUMP;
            let answer = self.exchange(&what, message.clone(), flags)?;
            if !answer.interrupted {
                return Ok(answer.messages);
            }
        }
        Err(NetlinkError::Unsteady { what: what() })
    }

    /// Waits until `is_there` says so, which is asked at first, and again whenever the kernel gives such `notices`.
    /// `reason` says what it still looks like otherwise.
    pub(crate) fn wait_until(
        &self,
        notices: Notices,
        (what, reason): (impl Fn() -> String, &'static str),
        is_there: impl Fn() -> Result<bool, NetlinkError>,
    ) -> Result<(), NetlinkError> {
        let failed = |source| NetlinkError::Socket {
            what: what(),
            source,
        };
        if is_there()? {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        let fd = {
            let socket = self.socket();
            socket.listen(notices).map_err(failed)?;
            socket.as_fd().try_clone_to_owned().map_err(failed)?
        };
        let found = loop {
            match is_there() {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
            if Instant::now() >= deadline {
                let what = what();
                break Err(NetlinkError::NotYet { what, reason });
            }
            // Requests on this socket go on meanwhile.
            let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(LOOK_MS)) {
                Ok(_) | Err(Errno::EINTR) => self.socket().discard(),
                Err(errno) => break Err(failed(errno.into())),
            }
        };
        self.socket().ignore(notices).map_err(failed)?;
        found
    }

    fn exchange(
        &self,
        what: &impl Fn() -> String,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Answer, NetlinkError> {
        match self.socket().exchange(message, flags) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(NetlinkError::Refused {
                what: what(),
                source,
            }),
            Err(source) => Err(NetlinkError::Socket {
                what: what(),
                source,
            }),
        }
    }

    /// For one caller. What a caller that panicked left unread is another number's.
    fn socket(&self) -> MutexGuard<'_, Numbered> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NetlinkError {
    /// The errno of a refusal.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { source, .. } => Some(source.errno),
            Self::Open { .. }
            | Self::Conflict { .. }
            | Self::NoSuchLink { .. }
            | Self::Unsteady { .. }
            | Self::NotYet { .. }
            | Self::Socket { .. }
            | Self::Netns(_) => None,
        }
    }
}

/// Success where the kernel says, by one of `gone`, that there is nothing to
/// delete; tells whether there was something.
pub(crate) fn unless_gone<T>(
    result: Result<T, NetlinkError>,
    gone: &[Errno],
) -> Result<bool, NetlinkError> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.errno().is_some_and(|errno| gone.contains(&errno)) => Ok(false),
        Err(error) => Err(error),
    }
}
