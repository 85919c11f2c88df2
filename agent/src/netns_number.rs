//! Numbers by which a namespace knows others (`nsid` of rtnetlink, net/core/net_namespace.c).
//!
//! The kernel finds a namespace's number by a walk from the least one on (`__peernet2id`), two of them for each notice
//! that is heard in another namespace ([`crate::changes`]), one for each veth into it that is told of. Most of these are
//! of a task that is being set up. Left to itself the kernel numbers upwards from 0; here the latest namespace has the
//! least number of all that are numbered here, so a task costs no more behind a thousand others.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use crate::netlink::{Netlink, NetlinkError};
use crate::netns::Netns;
use crate::server::causes;

/// The first number that is given; far above those of the kernel's own choice.
const FIRST: i32 = 1 << 30;
/// Numbers from here on are of this module, perhaps in a process before.
const LEAST: i32 = 1 << 29;

/// What numbers other namespaces for the one it is in, downwards.
#[derive(Debug)]
pub struct NetnsNumbers {
    home: Netlink,
    next: AtomicI32,
}

impl NetnsNumbers {
    /// For `home`, below all numbers given before.
    ///
    /// # Errors
    /// Those of the socket and of the request.
    pub fn of(home: &Netns) -> Result<Self, NetlinkError> {
        let home = Netlink::open(home)?;
        let next = AtomicI32::new(next_below(home.netns_numbers()?));
        Ok(Self { home, next })
    }

    /// Gives `netns` the next number. One that has a number keeps it, and one that gets none here, as somebody else
    /// uses that one, gets another of the kernel when it needs one.
    pub fn give(&self, netns: &Netns) {
        let next = self.next.fetch_sub(1, Relaxed);
        if let Err(error) = self.home.number_netns(netns, next) {
            tracing::debug!(error = causes(&error), "it has a number, or will have");
        }
    }
}

impl Netlink {
    /// Those that this namespace has for others.
    ///
    /// # Errors
    /// Those of the request; a list that changed meanwhile is read again.
    pub fn netns_numbers(&self) -> Result<Vec<i32>, NetlinkError> {
        let netns = self.netns().name();
        let what = || format!("list what numbers network namespace {netns} has for others");
        let request = RouteNetlinkMessage::GetNsId(NsidMessage::default());
        Ok(self
            .dump(what, request)?
            .iter()
            .filter_map(number)
            .collect())
    }

    fn number_netns(&self, other: &Netns, number: i32) -> Result<(), NetlinkError> {
        let what = || {
            let (other, netns) = (other.name(), self.netns().name());
            format!("number network namespace {other} {number} in network namespace {netns}")
        };
        let mut message = NsidMessage::default();
        message.attributes = vec![
            NsidAttribute::Id(number),
            NsidAttribute::Fd(other.as_fd().as_raw_fd().cast_unsigned()),
        ];
        self.request(what, RouteNetlinkMessage::NewNsId(message), 0)?;
        Ok(())
    }
}

/// What comes next where these are in use.
fn next_below(used: impl IntoIterator<Item = i32>) -> i32 {
    let ours = used.into_iter().filter(|number| *number >= LEAST);
    ours.min().map_or(FIRST, |least| least.min(FIRST) - 1)
}

fn number(message: &RouteNetlinkMessage) -> Option<i32> {
    let RouteNetlinkMessage::NewNsId(message) = message else {
        return None;
    };
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| {
        if let NsidAttribute::Id(number) = attribute {
            Some(*number)
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_is_below_all_that_were_given() {
        let rows = [
            (vec![], FIRST),
            (vec![0, 1, 7], FIRST),
            (vec![FIRST, 0, FIRST - 3], FIRST - 4),
            (vec![i32::MAX], FIRST - 1),
        ];
        for (used, next) in rows {
            assert_eq!(next_below(used.clone()), next, "{used:?}");
        }
    }
}
