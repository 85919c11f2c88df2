//! rtnetlink without a library: messages put together byte by byte, sent several at once, acknowledged one by one.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// `NLM_F_REQUEST | NLM_F_ACK`, and `NLM_F_CREATE | NLM_F_EXCL` of linux/netlink.h.
const REQUEST: u16 = 0x5;
const NEW: u16 = 0x600;
const HEADER: usize = 16;
const ERROR: u16 = 2;
/// Bytes of an answer to a batch.
const ANSWERS: usize = 1 << 14;

/// Messages that are sent together.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where the message begins that is being made.
    start: usize,
    messages: usize,
}

/// Where a nested attribute begins.
pub(super) struct Nest(usize);

impl Batch {
    /// Begins a message that makes something.
    pub(super) fn make(&mut self, kind: u16, header: &[u8]) -> &mut Self {
        self.begin(kind, REQUEST | NEW, header)
    }

    /// Begins a message that changes or deletes something.
    pub(super) fn change(&mut self, kind: u16, header: &[u8]) -> &mut Self {
        self.begin(kind, REQUEST, header)
    }

    fn begin(&mut self, kind: u16, flags: u16, header: &[u8]) -> &mut Self {
        self.start = self.bytes.len();
        self.messages += 1;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend([0; 8]);
        self.header(header)
    }

    /// A fixed header, which a nested attribute may have too.
    pub(super) fn header(&mut self, header: &[u8]) -> &mut Self {
        self.bytes.extend(header);
        self.end()
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend(len.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.end()
    }

    pub(super) fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        self.attribute(kind, &[text.as_bytes(), &[0]].concat())
    }

    pub(super) fn number(&mut self, kind: u16, number: u32) -> &mut Self {
        self.attribute(kind, &number.to_ne_bytes())
    }

    pub(super) fn nest(&mut self, kind: u16) -> Nest {
        let at = self.bytes.len();
        self.attribute(kind, &[]);
        Nest(at)
    }

    pub(super) fn close(&mut self, Nest(at): Nest) -> &mut Self {
        let len = u16::try_from(self.bytes.len() - at).unwrap_or(u16::MAX);
        self.bytes[at..at + 2].copy_from_slice(&len.to_ne_bytes());
        self.end()
    }

    /// Pads, and says how long the message is so far.
    fn end(&mut self) -> &mut Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let len = u32::try_from(self.bytes.len() - self.start).unwrap_or(u32::MAX);
        self.bytes[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
        self
    }
}

/// A socket in the namespace of the thread that opened it.
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open() -> Result<Self> {
        let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkRoute);
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        Ok(Self(socket))
    }

    /// Sends all messages and waits until each was done.
    pub(super) fn run(&self, batch: &Batch) -> Result<()> {
        let socket = self.0.as_raw_fd();
        send(socket, &batch.bytes, MsgFlags::empty())?;
        let mut answers = [0; ANSWERS];
        let mut done = 0;
        while done < batch.messages {
            let len = recv(socket, &mut answers, MsgFlags::empty())?;
            let mut rest = &answers[..len];
            while !rest.is_empty() {
                let [len, kind, error] = answer(rest).context("a torn answer")?;
                ensure!(kind == u32::from(ERROR), "an answer of kind {kind}");
                let errno = -error.cast_signed();
                let errno = nix::errno::Errno::from_raw(errno);
                ensure!(error == 0, "message {} of a batch: {errno}", done + 1);
                done += 1;
                rest = rest
                    .get((len as usize).next_multiple_of(4)..)
                    .unwrap_or_default();
            }
        }
        Ok(())
    }
}

/// Length, kind and error of an answer.
fn answer(bytes: &[u8]) -> Option<[u32; 3]> {
    let len = u32::from_ne_bytes(*bytes.first_chunk()?);
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let error = u32::from_ne_bytes(*bytes.get(HEADER..)?.first_chunk()?);
    Some([len, u32::from(kind), error])
}
