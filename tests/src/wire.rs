//! Frames as a link carries them: sent past the stack, and seen before the stack sees them.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::{
        socket::{
            AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv,
            setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
    unistd::write,
};

/// Longest frame: a packet of GSO.
const FRAME_MAX: usize = 1 << 17;
/// Room for frames that wait to be read.
const BUFFER: usize = 1 << 25;

/// A packet socket on one link, which sends and sees every frame of both directions. A VLAN tag
/// that the kernel holds beside the frame is not shown.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// Opens `link` of the calling thread's namespace.
    ///
    /// # Errors
    /// There is no such link, or CAP_NET_RAW is missing.
    pub fn open(link: &str) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        bind(socket.as_raw_fd(), &link_address(link)?)?;
        Ok(Self { socket })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        write(&self.socket, frame)?;
        Ok(())
    }

    /// The next frame, `None` if none comes within `wait`.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn next(&self, wait: Duration) -> io::Result<Option<Vec<u8>>> {
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX).max(1);
        let timeout = TimeVal::microseconds(micros);
        setsockopt(&self.socket, sockopt::ReceiveTimeout, &timeout)?;
        let mut frame = vec![0; FRAME_MAX];
        match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(len) => {
                frame.truncate(len);
                Ok(Some(frame))
            }
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Every frame up to the first that `is_last` says is the last one, that one included.
    ///
    /// # Errors
    /// It does not come within `wait`.
    pub fn until(
        &self,
        wait: Duration,
        is_last: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Vec<Vec<u8>>> {
        let started = Instant::now();
        let mut frames = Vec::new();
        while let Some(frame) = self.next(wait.saturating_sub(started.elapsed()))? {
            let last = is_last(&frame);
            frames.push(frame);
            if last {
                return Ok(frames);
            }
        }
        let text = format!("the last frame is not among {}", frames.len());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    }

    /// Every frame that waits to be read.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn waiting(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next(Duration::from_millis(1))? {
            frames.push(frame);
        }
        Ok(frames)
    }
}

fn link_address(link: &str) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter(|found| found.interface_name == link)
        .find_map(|found| found.address?.as_link_addr().copied())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no link {link}")))
}
