//! rtnetlink requests and their answers, in the namespace a socket was opened in.
//!
//! Every request ends in an acknowledgement, a kernel error, or a named failure:
//! a lost connection or a half-read list is never taken for success. What the
//! messages mean is the business of `link`, `route` and `tc`.

use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::StreamExt;
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use rtnetlink::sys::AsyncSocket;
use tokio::runtime::Handle;
use tokio::sync::Mutex as AsyncMutex;

use crate::netns::{Netns, NetnsError};

/// How long the kernel may take; its lock is held for seconds when many namespaces end at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a list is read again when it changes meanwhile.
const DUMP_ATTEMPTS: u32 = 16;
/// Length of the request's header, which an error repeats before its attributes.
const REQUEST_HEADER_LEN: usize = 16;
/// `NLMSGERR_ATTR_MSG` of linux/netlink.h.
const ERROR_TEXT: u16 = 1;

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
    /// No answer, or one that makes no sense.
    #[error("{what}: {reason}")]
    NoAnswer {
        /// What was attempted on what.
        what: String,
        /// What came instead.
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

/// A connection, and what sends requests over it.
type Connected = (
    rtnetlink::proto::Connection<RouteNetlinkMessage>,
    rtnetlink::Handle,
);

/// A request that is asked when it is first polled.
pub(crate) type Pending<'a> = Pin<Box<dyn Future<Output = Result<(), NetlinkError>> + Send + 'a>>;

/// A netlink socket inside one namespace, usable from anywhere.
#[derive(Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    netns: Netns,
    /// The kernel refuses a list while a socket reads another one.
    listing: AsyncMutex<()>,
}

impl Netlink {
    /// Opens a socket inside `netns`; its connection runs on the current tokio
    /// runtime until this value is dropped. The socket keeps the namespace alive.
    ///
    /// # Errors
    /// `Open` outside a runtime or without a free descriptor; `Netns` if the
    /// namespace cannot be entered.
    pub fn open(netns: &Netns) -> Result<Self, NetlinkError> {
        let runtime = runtime(netns.name())?;
        let connection = netns.run(|| connect(&runtime))?;
        Self::with(connection, netns.try_clone()?, &runtime)
    }

    /// Opens the namespace at `path`, as [`Netns::open`] does, and a socket inside as
    /// [`Netlink::open`] does.
    ///
    /// # Errors
    /// As both.
    pub fn open_at(path: &Path) -> Result<Self, NetlinkError> {
        let runtime = runtime(&path.display().to_string())?;
        let (netns, connection) = Netns::open_then(path, || connect(&runtime))?;
        Self::with(connection, netns, &runtime)
    }

    /// Makes the namespace at `path` or opens it, as [`Netns::create`] does, and a socket inside as
    /// [`Netlink::open`] does.
    ///
    /// # Errors
    /// As both.
    pub fn create(path: &Path) -> Result<Self, NetlinkError> {
        let runtime = runtime(&path.display().to_string())?;
        let (netns, _, connection) = Netns::create_then(path, || connect(&runtime))?;
        Self::with(connection, netns, &runtime)
    }

    fn with(
        connection: io::Result<Connected>,
        netns: Netns,
        runtime: &Handle,
    ) -> Result<Self, NetlinkError> {
        let failed = |source| NetlinkError::Open {
            netns: netns.name().to_owned(),
            source,
        };
        let (mut connection, handle) = connection.map_err(failed)?;
        // The end of an answer is passed on, so that a torn connection is not taken for it.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        let socket = connection.socket_mut().socket_mut();
        socket.set_cap_ack(true).map_err(failed)?;
        socket.set_ext_ack(true).map_err(failed)?;
        runtime.spawn(connection);
        Ok(Self {
            handle,
            netns,
            listing: AsyncMutex::default(),
        })
    }

    /// The namespace it works in.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Sends `message` with `flags` and waits for the acknowledgement; returns
    /// what the kernel sent before it.
    pub(crate) async fn request(
        &self,
        what: impl Fn() -> String,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let answer = self.exchange(&what, message, NLM_F_REQUEST | NLM_F_ACK | flags);
        Ok(answer.await?.messages)
    }

    /// Reads a whole list, again if it changed during the reading.
    pub(crate) async fn dump(
        &self,
        what: impl Fn() -> String,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let _one_at_a_time = self.listing.lock().await;
        for _ in 0..DUMP_ATTEMPTS {
            let flags = NLM_F_REQUEST | NLM_F_DUMP;
            let answer = self.exchange(&what, message.clone(), flags).await?;
            if !answer.interrupted {
                return Ok(answer.messages);
            }
        }
        Err(NetlinkError::Unsteady { what: what() })
    }

    async fn exchange(
        &self,
        what: &impl Fn() -> String,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Answer, NetlinkError> {
        let no_answer = |reason| NetlinkError::NoAnswer {
            what: what(),
            reason,
        };
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        let mut stream = pin!(
            self.handle
                .clone()
                .request(request)
                .map_err(|_closed| no_answer("the netlink connection is closed"))?
        );
        let mut answer = Answer::default();
        let reading = async {
            while let Some(message) = stream.next().await {
                if let Some(end) = answer.take(message) {
                    return Some(end);
                }
            }
            None
        };
        let end = tokio::time::timeout(ANSWER_TIMEOUT, reading)
            .await
            .map_err(|_elapsed| no_answer("the kernel did not answer in time"))?;
        match end {
            Some(End::Success) => Ok(answer),
            Some(End::Refused(source)) => Err(NetlinkError::Refused {
                what: what(),
                source,
            }),
            Some(End::Overrun) => Err(no_answer("the kernel lost a part of the answer")),
            None => Err(no_answer("the netlink connection broke off")),
        }
    }
}

/// A connection that nobody runs yet, in the calling thread's namespace.
fn connect(runtime: &Handle) -> io::Result<Connected> {
    let _entered = runtime.enter();
    let (connection, handle, _unsolicited) = rtnetlink::new_connection()?;
    Ok((connection, handle))
}

fn runtime(netns: &str) -> Result<Handle, NetlinkError> {
    Handle::try_current().map_err(|outside| NetlinkError::Open {
        netns: netns.to_owned(),
        source: io::Error::other(outside),
    })
}

/// Does what `requests` ask, sent together and in this order. Each is done whether those before it
/// succeed or not; the first failure that is told counts.
pub(crate) async fn together<'a>(
    requests: impl IntoIterator<Item = Pending<'a>>,
) -> Result<(), NetlinkError> {
    // All are asked before the first answer is waited for, in order.
    futures_util::future::try_join_all(requests).await?;
    Ok(())
}

/// A request for [`together`].
pub(crate) fn pending<'a, T>(
    request: impl Future<Output = Result<T, NetlinkError>> + Send + 'a,
) -> Pending<'a> {
    Box::pin(async move { request.await.map(drop) })
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
            | Self::NoAnswer { .. }
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
    Overrun,
}

impl Answer {
    /// Takes one message; `Some` if it is the last.
    fn take(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) -> Option<End> {
        self.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the crate's list of payloads is open"
        )]
        match message.payload {
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
            NetlinkPayload::Overrun(_) => Some(End::Overrun),
            // Noop, and whatever a later kernel may send between the parts.
            _ => None,
        }
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

    #[test]
    fn an_interrupted_part_marks_the_whole_list() {
        use netlink_packet_core::{DoneMessage, NetlinkHeader};
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_DUMP_INTR;
        let mut answer = Answer::default();
        let part = RouteNetlinkMessage::NewLink(netlink_packet_route::link::LinkMessage::default());
        let part = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(part));
        assert!(answer.take(part).is_none());
        let done = NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::Done(DoneMessage::default()),
        );
        assert!(matches!(answer.take(done), Some(End::Success)));
        assert!(answer.interrupted);
    }
}
