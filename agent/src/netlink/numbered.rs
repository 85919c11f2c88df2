//! One netlink socket: requests with numbers, and the answer that belongs to each.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    ErrorMessage, NLM_F_DUMP_INTR, NetlinkBuffer, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::libc::{MSG_DONTWAIT, MSG_TRUNC};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{KernelError, Notices};

/// How long an answer may take to come, once the request is sent.
const ANSWER_TIMEOUT: TimeVal = TimeVal::new(60, 0);
/// Length of the request's header, which an error repeats before its attributes.
const REQUEST_HEADER_LEN: usize = 16;
/// `NLMSGERR_ATTR_MSG` of linux/netlink.h.
const ERROR_TEXT: u16 = 1;
/// Bytes of the longest datagram: the kernel fills a list's up to 32 KiB, and one object takes less.
const DATAGRAM: usize = 64 << 10;
/// To what multiple of bytes each message is filled up (`NLMSG_ALIGNTO` of linux/netlink.h).
const ALIGNMENT: usize = 4;

/// A socket whose requests are numbered.
#[derive(Debug)]
pub(super) struct Numbered {
    socket: Socket,
    /// Takes one datagram.
    received: Vec<u8>,
    /// Its own address, which answers to its requests carry.
    port: u32,
    last: u32,
}

impl Numbered {
    /// In the calling thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
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

    pub(super) fn listen(&self, notices: Notices) -> io::Result<()> {
        self.socket.add_membership(notices as u32)
    }

    pub(super) fn ignore(&self, notices: Notices) -> io::Result<()> {
        self.socket.drop_membership(notices as u32)?;
        self.discard();
        Ok(())
    }

    /// Takes away what nobody asked for, and that some was lost: whoever waits for it looks anyway.
    pub(super) fn discard(&self) {
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
    pub(super) fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Result<Answer, KernelError>> {
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
                        Some(End::Success) => return Ok(Ok(answer)),
                        Some(End::Refused(refusal)) => return Ok(Err(refusal)),
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

impl AsFd for Numbered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The messages of a datagram.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        // The crate would put into words why there is none in an empty rest.
        let rest = Some(datagram).filter(|rest| !rest.is_empty())?;
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let len = message.length() as usize;
        let message = NetlinkBuffer::new(datagram.get(..len)?);
        let rest = datagram.get(len.next_multiple_of(ALIGNMENT)..);
        datagram = rest.unwrap_or_default();
        Some(message)
    })
}

/// What the kernel sent before it acknowledged a request.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) messages: Vec<RouteNetlinkMessage>,
    /// Whether a list changed while it was read.
    pub(super) interrupted: bool,
}

/// How an answer ends.
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
