//! That something has changed behind the agent: the kernel's notices of links, addresses, routes,
//! neighbours and filters, of the host's namespace and of every task's, by one socket.
//!
//! It hears the namespaces that the host's has a number for (`NETLINK_LISTEN_ALL_NSID`, Linux 4.2): those
//! that a veth of the host leads into, and those that got one beforehand ([`crate::netns_number`]). So it keeps no
//! namespace alive, and a task costs it nothing.
//! Says where something changed, never what.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use uapi::{Errno, MsghdrMut, c};

use crate::netns::Netns;

/// Bytes that may wait to be read: the notices of some hundred tasks that come at once.
const WAITING: usize = 4 << 20;
/// From the first notice to the reading of all: a command makes many.
const GATHER: Duration = Duration::from_millis(20);
/// Longest notice; one that is cut still says where.
const NOTICE: usize = 1 << 10;

/// `RTNLGRP_` numbers and message types of linux/rtnetlink.h.
const GROUPS: [u32; 7] = [1, 3, 4, 5, 7, 9, 11];
const LINK: [u16; 2] = [16, 17];
const ADDRESS: [u16; 2] = [20, 21];
const ROUTE: [u16; 2] = [24, 25];
const NEW_NEIGHBOUR: u16 = 28;
const DELETED_NEIGHBOUR: u16 = 29;
/// Not 36, a qdisc that is there: so is answered whoever asks for one, by the agent itself with each look at a task. One
/// that takes another's place is told of as the other's end.
const FILTERS: [u16; 3] = [37, 44, 45];
/// `NUD_` states of linux/neighbour.h.
const PERMANENT: u16 = 0x80;
const FAILED: u16 = 0x20;
/// The index of a message about a block (`TCM_IFINDEX_MAGIC_BLOCK`).
const OF_A_BLOCK: u32 = u32::MAX;
const HEADER_LEN: usize = 16;

/// Where something has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A link of the host, or what programs it has.
    HostLink(u32),
    /// The programs of a block of the host's.
    HostBlock,
    /// The namespace of this number, as the host's namespace numbers others.
    Namespace(i32),
    /// The programs of a link of that namespace.
    Programs(i32),
    /// Notices were lost.
    Anywhere,
}

/// Changes that were told of together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When the first was; none is older.
    pub since: Instant,
    /// None is later.
    pub until: Instant,
    /// Where.
    pub changes: BTreeSet<Change>,
}

/// Those from now on of the namespace `host`, and of those that it numbers, as many at once as come
/// together. A thread of their own waits for them, as long as somebody listens.
///
/// # Errors
/// The socket cannot be made: `CAP_NET_BROADCAST` or `CAP_NET_ADMIN` is missing.
pub fn listen(host: &Netns) -> io::Result<UnboundedReceiver<Told>> {
    let socket = host.run(|| Socket::new(NETLINK_ROUTE));
    let mut socket = socket.map_err(io::Error::other)??;
    setsockopt(&socket, sockopt::RcvBufForce, &WAITING)?;
    socket.set_listen_all_namespaces(true)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    let (sender, receiver) = unbounded_channel();
    thread::Builder::new()
        .name("changes".to_owned())
        .spawn(move || while sender.send(gather(&socket)).is_ok() {})?;
    Ok(receiver)
}

/// Waits for a notice and a moment more, and reads all that there are then.
fn gather(socket: &Socket) -> Told {
    let (mut found, mut since) = (BTreeSet::new(), Instant::now());
    let (mut notice, mut control) = ([0; NOTICE], [0; 64]);
    let mut flags = 0;
    loop {
        match receive(socket, flags, &mut notice, &mut control) {
            Ok((namespace, notice)) => found.extend(change(namespace, notice)),
            Err(Errno(c::EAGAIN)) => {
                return Told {
                    since,
                    until: Instant::now(),
                    changes: found,
                };
            }
            Err(Errno(c::EINTR)) => continue,
            Err(_) => drop(found.insert(Change::Anywhere)),
        }
        if flags == 0 {
            since = Instant::now();
            thread::sleep(GATHER);
            flags = c::MSG_DONTWAIT;
        }
    }
}

/// One notice, and the number of the namespace that it comes from; `None` is the host's.
fn receive<'a>(
    socket: &Socket,
    flags: i32,
    notice: &'a mut [u8; NOTICE],
    control: &mut [u8; 64],
) -> Result<(Option<i32>, &'a [u8]), Errno> {
    let mut iov = [&mut notice[..]];
    let mut message = MsghdrMut {
        iov: &mut iov[..],
        control: Some(&mut control[..]),
        name: uapi::sockaddr_none_mut(),
        flags: 0,
    };
    let (read, _, mut control) = uapi::recvmsg(socket.as_raw_fd(), &mut message, flags)?;
    let len = read.len();
    let mut namespace = None;
    while !control.is_empty() {
        let (_, header, data) = uapi::cmsg_read(&mut control)?;
        let is_number =
            (header.cmsg_level, header.cmsg_type) == (c::SOL_NETLINK, c::NETLINK_LISTEN_ALL_NSID);
        if is_number {
            namespace = data.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
        }
    }
    Ok((namespace, notice.get(..len).unwrap_or_default()))
}

/// Where a notice says that something has changed; `None` if it does not matter.
fn change(namespace: Option<i32>, notice: &[u8]) -> Option<Change> {
    let kind = u16::from_ne_bytes(*notice.get(4..)?.first_chunk()?);
    // Links, filters and neighbours: family, padding, then the index.
    let index = notice
        .get(HEADER_LEN + 4..)
        .and_then(|bytes| bytes.first_chunk());
    let index = index.map(|bytes| u32::from_ne_bytes(*bytes));
    let Some(namespace) = namespace else {
        let is_its = LINK.contains(&kind) || FILTERS.contains(&kind);
        return index.filter(|_| is_its).map(|index| match index {
            OF_A_BLOCK => Change::HostBlock,
            link => Change::HostLink(link),
        });
    };
    if FILTERS.contains(&kind) {
        return Some(Change::Programs(namespace));
    }
    let state = notice
        .get(HEADER_LEN + 8..)
        .and_then(|bytes| bytes.first_chunk());
    let state = state.map_or(0, |bytes| u16::from_ne_bytes(*bytes));
    // One that somebody deletes has failed when that is told (`neigh_delete` of net/core/neighbour.c). Others come and go
    // with traffic, and those of multicast a minute after a task has come.
    let is_of_somebody = match kind {
        NEW_NEIGHBOUR => state & PERMANENT != 0,
        DELETED_NEIGHBOUR => state & (FAILED | PERMANENT) != 0,
        _ => false,
    };
    let matters =
        LINK.contains(&kind) || ADDRESS.contains(&kind) || ROUTE.contains(&kind) || is_of_somebody;
    matters.then_some(Change::Namespace(namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(kind: u16, index: u32, state: u16) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER_LEN + 4, 0);
        bytes.extend(index.to_ne_bytes());
        bytes.extend(state.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_notice_says_where() {
        let (link, route, neighbour, filter) = (16, 25, 29, 45);
        let rows = [
            (None, notice(link, 7, 0), Some(Change::HostLink(7))),
            (None, notice(filter, 7, 0), Some(Change::HostLink(7))),
            (None, notice(filter, OF_A_BLOCK, 0), Some(Change::HostBlock)),
            (None, notice(37, 7, 0), Some(Change::HostLink(7))),
            // The answer to a look, which would be looked at for ever.
            (None, notice(36, 7, 0), None),
            // The host's own routes are the host's.
            (None, notice(route, 7, 0), None),
            (Some(3), notice(link, 7, 0), Some(Change::Namespace(3))),
            (Some(3), notice(route, 7, 0), Some(Change::Namespace(3))),
            (
                Some(3),
                notice(neighbour, 2, PERMANENT),
                Some(Change::Namespace(3)),
            ),
            // A permanent one that goes has failed by then; others fail too, without going.
            (
                Some(3),
                notice(neighbour, 2, 0x20),
                Some(Change::Namespace(3)),
            ),
            (Some(3), notice(28, 2, 0x20), None),
            // The kernel has no use for it any more: of multicast, and stale.
            (Some(3), notice(neighbour, 2, 0x40), None),
            (Some(3), notice(neighbour, 2, 0x04), None),
            (Some(3), notice(filter, 2, 0), Some(Change::Programs(3))),
            (Some(3), vec![0; 4], None),
            (None, notice(link, 7, 0)[..HEADER_LEN].to_vec(), None),
        ];
        for (namespace, notice, expected) in rows {
            assert_eq!(
                change(namespace, &notice),
                expected,
                "{namespace:?} {notice:?}"
            );
        }
    }
}
