//! rtnetlink requests and their answers, in the namespace a socket was opened in.
//!
//! Every request ends in an acknowledgement, a kernel error, or a named failure:
//! a half-read list is never taken for success. What the
//! messages mean is the business of `link`, `route` and `tc`.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::libc::{MSG_DONTWAIT, MSG_TRUNC};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::netns::{Netns, NetnsError, Traveller};

/// How long an answer may take to come, once the request is sent.
const ANSWER_TIMEOUT: TimeVal = TimeVal::new(60, 0);
/// How often a list is read again when it changes meanwhile.
const DUMP_ATTEMPTS: u32 = 16;
/// How long to wait for what the kernel does in the background. It puts the event of a link off for at most a second.
const PATIENCE: Duration = Duration::from_secs(2);
/// A notice may be taken by another request on the same socket: how long until a look without one, in milliseconds.
const LOOK_MS: u16 = 10;
/// Length of the request's header, which an error repeats before its attributes.
const REQUEST_HEADER_LEN: usize = 16;
/// `NLMSGERR_ATTR_MSG` of linux/netlink.h.
const ERROR_TEXT: u16 = 1;
/// Bytes of the longest datagram: the kernel fills a list's up to 32 KiB, and one object takes less.
const DATAGRAM: usize = 64 << 10;
/// To what multiple of bytes each message is filled up (`NLMSG_ALIGNTO` of linux/netlink.h).
const ALIGNMENT: usize = 4;

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

/// A socket whose requests are numbered.
#[derive(Debug)]
struct Numbered {
    socket: Socket,
    /// Takes one datagram.
    received: Vec<u8>,
    /// Its own address, which answers to its requests carry.
    port: u32,
    last: u32,
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
            socket.socket.as_fd().try_clone_to_owned().map_err(failed)?
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
            Ok((answer, None)) => Ok(answer),
            Ok((_, Some(source))) => Err(NetlinkError::Refused {
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

impl Numbered {
    /// In the calling thread's namespace.
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &ANSWER_TIMEOUT)?;
        Ok(Self {
            socket,
            received: Vec::new(),
            port,
            last: 0,
        })
    }

    fn listen(&self, notices: Notices) -> io::Result<()> {
        self.socket.add_membership(notices as u32)
    }

    fn ignore(&self, notices: Notices) -> io::Result<()> {
        self.socket.drop_membership(notices as u32)?;
        self.discard();
        Ok(())
    }

    /// Takes away what nobody asked for, and that some was lost: whoever waits for it looks anyway.
    fn discard(&self) {
        let is_loss = |error: io::Error| error.raw_os_error() == Some(Errno::ENOBUFS as i32);
        let mut discarded = Vec::new();
        while match self.socket.recv(&mut discarded, MSG_DONTWAIT) {
            Ok(_) => true,
            Err(error) => is_loss(error),
        } {
            discarded.clear();
        }
    }

    /// Sends one message and reads up to the end of its answer: what came, or the refusal.
    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<(Answer, Option<KernelError>)> {
        self.last = self.last.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        request.header.sequence_number = self.last;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answer = Answer::default();
        loop {
            self.receive()?;
            for message in messages(&self.received) {
                if !self.is_asked_for(&message) {
                    continue;
                }
                match NetlinkMessage::deserialize(message.into_inner()) {
                    Ok(message) => match answer.take(message)? {
                        None => {}
                        Some(End::Success) => return Ok((answer, None)),
                        Some(End::Refused(refusal)) => return Ok((answer, Some(refusal))),
                    },
                    // Somebody else's object, with what the crate does not know.
                    Err(error) => tracing::debug!(%error, "a message of netlink cannot be read"),
                }
            }
        }
    }

    /// Takes the next datagram.
    fn receive(&mut self) -> io::Result<()> {
        self.received.clear();
        self.received.reserve(DATAGRAM);
        loop {
            match self.socket.recv(&mut self.received, MSG_TRUNC) {
                // It is as long as the kernel says, and was cut to what there was room for.
                Ok(len) if len > self.received.capacity() => {
                    return Err(Errno::EMSGSIZE.into());
                }
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether it belongs to the answer to the last request.
    fn is_asked_for(&self, message: &NetlinkBuffer<&[u8]>) -> bool {
        (message.port_number(), message.sequence_number()) == (self.port, self.last)
    }
}

/// The messages of a datagram.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(datagram).ok()?;
        let len = message.length() as usize;
        let message = NetlinkBuffer::new(datagram.get(..len)?);
        let rest = datagram.get(len.next_multiple_of(ALIGNMENT)..);
        datagram = rest.unwrap_or_default();
        Some(message)
    })
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

#[derive(Debug, Default)]
struct Answer {
    messages: Vec<RouteNetlinkMessage>,
    interrupted: bool,
}

enum End {
    Success,
    Refused(KernelError),
}

impl Answer {
    /// Takes one message; `Some` if it is the last.
    ///
    /// # Errors
    /// The kernel lost a part.
    fn take(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) -> io::Result<Option<End>> {
        self.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the crate's list of payloads is open"
        )]
        Ok(match message.payload {
            NetlinkPayload::InnerMessage(inner) => {
                self.messages.push(inner);
                None
            }
            NetlinkPayload::Error(error) => Some(match kernel_error(&error) {
                None => End::Success,
                Some(refusal) => End::Refused(refusal),
            }),
            NetlinkPayload::Done(done) if done.code == 0 => Some(End::Success),
            NetlinkPayload::Done(done) => Some(End::Refused(KernelError {
                errno: Errno::from_raw(done.code.saturating_abs()),
                text: String::new(),
            })),
            NetlinkPayload::Overrun(_) => return Err(Errno::ENOBUFS.into()),
            // Noop, and whatever a later kernel may send between the parts.
            _ => None,
        })
    }
}

/// The refusal in an error message; `None` in an acknowledgement.
fn kernel_error(error: &ErrorMessage) -> Option<KernelError> {
    let code = error.code?;
    let attributes = error.header.get(REQUEST_HEADER_LEN..).unwrap_or_default();
    let text = NlasIterator::new(attributes)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == ERROR_TEXT)
        .map(|attribute| {
            let text = String::from_utf8_lossy(attribute.value());
            text.trim_end_matches('\0').to_owned()
        })
        .unwrap_or_default();
    Some(KernelError {
        errno: Errno::from_raw(code.get().saturating_abs()),
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32, attributes: &[u8]) -> ErrorMessage {
        let mut message = ErrorMessage::default();
        message.code = std::num::NonZeroI32::new(code);
        message.header = [&[0; REQUEST_HEADER_LEN], attributes].concat();
        message
    }

    #[test]
    fn refusal_carries_the_kernels_words() {
        let attributes = [9, 0, 1, 0, b'b', b'u', b's', b'y', 0, 0, 0, 0];
        let refusal = kernel_error(&error(-16, &attributes));
        let expected = KernelError {
            errno: Errno::EBUSY,
            text: "busy".to_owned(),
        };
        assert_eq!(refusal, Some(expected.clone()));
        assert_eq!(expected.to_string(), "Device or resource busy: busy");
    }

    #[test]
    fn refusal_without_words_is_its_errno() {
        let refusal = kernel_error(&error(-19, &[]));
        assert_eq!(
            refusal.map(|e| e.to_string()).as_deref(),
            Some("No such device")
        );
        assert_eq!(kernel_error(&error(0, &[])), None);
    }

    fn message(sequence: u32, payload_len: usize) -> Vec<u8> {
        let len = REQUEST_HEADER_LEN + payload_len;
        let mut bytes = vec![0; len.next_multiple_of(ALIGNMENT)];
        bytes[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_datagram_is_its_messages_up_to_one_that_is_cut() {
        let numbers = |datagram: &[u8]| -> Vec<_> {
            let each = |message: NetlinkBuffer<&[u8]>| {
                (message.sequence_number(), message.payload().len())
            };
            messages(datagram).map(each).collect()
        };
        let datagram = [message(1, 0), message(2, 5), message(3, 8)].concat();
        assert_eq!(numbers(&datagram), [(1, 0), (2, 5), (3, 8)]);
        let cut = &datagram[..datagram.len() - 1];
        assert_eq!(numbers(cut), [(1, 0), (2, 5)]);
        assert_eq!(numbers(&[]), []);
        // A length shorter than a header would go on for ever.
        assert_eq!(numbers(&[0; REQUEST_HEADER_LEN]), []);
    }

    #[test]
    fn an_interrupted_part_marks_the_whole_list() {
        use netlink_packet_core::{DoneMessage, NetlinkHeader};
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_DUMP_INTR;
        let mut answer = Answer::default();
        let part = RouteNetlinkMessage::NewLink(netlink_packet_route::link::LinkMessage::default());
        let part = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(part));
        assert!(matches!(answer.take(part), Ok(None)));
        let done = NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::Done(DoneMessage::default()),
        );
        assert!(matches!(answer.take(done), Ok(Some(End::Success))));
        assert!(answer.interrupted);
    }
}
