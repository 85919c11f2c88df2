//! One ICMP or ICMPv6 echo from inside a namespace (RFC 792, RFC 4443 §4).

use std::io;
use std::net::{IpAddr, SocketAddr};

use branchline::netns::Netns;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use tokio::net::UdpSocket;

/// What follows the header: as much as `ping` sends.
const PAYLOAD_LEN: usize = 56;
/// Type, code, checksum, identifier, sequence number.
const HEADER_LEN: usize = 8;
/// Length of a whole echo message.
pub(crate) const MESSAGE_LEN: u64 = (HEADER_LEN + PAYLOAD_LEN) as u64;
/// "bl": there is one echo at a time between two addresses.
const IDENTIFIER: [u8; 2] = *b"bl";

/// An echo request about to be sent.
pub(crate) struct Echo {
    socket: UdpSocket,
    target: IpAddr,
}

impl Echo {
    /// Opens its socket in `netns`.
    ///
    /// # Errors
    /// The kernel refuses the raw socket or has no route.
    pub(crate) async fn open(netns: &Netns, target: IpAddr) -> anyhow::Result<Self> {
        let (family, protocol) = match target {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let raw =
            netns.run(|| socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol))??;
        // A raw socket sends and receives as a datagram socket does.
        let socket = std::net::UdpSocket::from(raw);
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        socket.connect(SocketAddr::new(target, 0)).await?;
        Ok(Self { socket, target })
    }

    /// Sends the request and waits for its reply.
    ///
    /// # Errors
    /// The kernel's, as for a destination that it says is unreachable.
    pub(crate) async fn exchange(&self) -> io::Result<()> {
        let (request, reply) = match self.target {
            IpAddr::V4(_) => (8, 0),
            IpAddr::V6(_) => (128, 129),
        };
        let request = message(request);
        self.socket.send(&request).await?;
        let mut buffer = [0; 256];
        loop {
            let len = self.socket.recv(&mut buffer).await?;
            let received = &buffer[..len];
            // IPv4 hands over its header too, IPv6 does not.
            let icmp = match (self.target, received) {
                (IpAddr::V4(_), [first, ..]) => received.get(usize::from(first & 0x0f) * 4..),
                (IpAddr::V4(_) | IpAddr::V6(_), _) => Some(received),
            };
            let Some(icmp) = icmp else { continue };
            // All but the checksum is as it was sent, and the type is the reply's.
            if icmp.first() == Some(&reply) && icmp.get(4..) == request.get(4..) {
                return Ok(());
            }
        }
    }
}

/// An echo message of this type. The kernel overwrites the checksum of ICMPv6.
fn message(kind: u8) -> [u8; HEADER_LEN + PAYLOAD_LEN] {
    let mut message = [0x62; HEADER_LEN + PAYLOAD_LEN];
    message[..4].copy_from_slice(&[kind, 0, 0, 0]);
    message[4..6].copy_from_slice(&IDENTIFIER);
    message[6..8].copy_from_slice(&1_u16.to_be_bytes());
    let checksum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&checksum);
    message
}

/// The Internet checksum of an even number of bytes (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}
