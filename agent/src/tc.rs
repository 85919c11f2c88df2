//! Programs on links by cls_bpf: in a link's own clsact, or in a block that links share.
//!
//! A block is one list of filters that many links run at their ingress, so one
//! request replaces the program of all of them. The kernel makes a block with
//! the first link that joins it and ends it with the last. Takes programs as
//! descriptors; loads none.
//!
//! What joins a block is an ingress qdisc and no clsact, which has a block of its own besides, for what the link sends:
//! the kernel lists every block of the machine, and walks along all of them for each that comes
//! (`flow_indr_dev_setup_offload` of net/core/flow_offload.c). So here that list has one entry, however many links there
//! are.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's list of attributes is open"
)]

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE, Nla};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage,
    TcOption,
};
use nix::errno::Errno;

use crate::netlink::{Netlink, NetlinkError, unless_gone};
use crate::netns::Origin;

/// Runs filters on what a link receives and on what it sends.
const CLSACT: &str = "clsact";
/// Runs filters on what a link receives. A link has one of the two.
const INGRESS: &str = "ingress";
/// `TCA_INGRESS_BLOCK` of linux/rtnetlink.h, which the netlink crate has no name for.
const TCA_INGRESS_BLOCK: u16 = 13;
/// Every filter of ours, in whatever place it is: one per place.
const FILTER_HANDLE: u32 = 1;
const FILTER_PRIORITY: u32 = 1;
/// `ETH_P_ALL` of linux/if_ether.h.
const ALL_PROTOCOLS: u16 = 3;

/// Where a filter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterAt {
    /// The shared block of this number.
    Block(u32),
    /// What this link receives.
    Ingress(u32),
    /// What this link sends.
    Egress(u32),
}

/// A program in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The kernel's number of the program.
    pub program_id: u32,
    /// The name it was attached by.
    pub name: String,
}

impl Netlink {
    /// Gives a link a clsact, with filters of its own.
    ///
    /// # Errors
    /// `Conflict` if the link has an ingress qdisc, or a clsact with a block; that stays, see
    /// [`Netlink::delete_ingress_qdisc`].
    pub fn ensure_clsact(&self, link: u32) -> Result<Origin, NetlinkError> {
        self.ensure_qdisc(link, CLSACT, None, |found| {
            found.kind == CLSACT && found.ingress_block.is_none()
        })
    }

    /// Lets a link join `block`: what it receives passes the block's filters. A clsact that has joined it, as an earlier
    /// release made them, serves as well.
    ///
    /// # Errors
    /// `Conflict` if the link has joined another block, or has filters of its own; that stays, see
    /// [`Netlink::delete_ingress_qdisc`].
    pub fn join_block(&self, link: u32, block: u32) -> Result<Origin, NetlinkError> {
        self.ensure_qdisc(link, INGRESS, Some(block), |found| {
            found.ingress_block == Some(block)
        })
    }

    fn ensure_qdisc(
        &self,
        link: u32,
        kind: &'static str,
        block: Option<u32>,
        serves: impl Fn(&Qdisc) -> bool,
    ) -> Result<Origin, NetlinkError> {
        let wanted = Qdisc {
            kind: kind.to_owned(),
            ingress_block: block,
        };
        let what = || {
            let netns = self.netns().name();
            format!("add {wanted} to link {link} in network namespace {netns}")
        };
        let mut message = at_ingress(link);
        message.attributes = vec![TcAttribute::Kind(wanted.kind.clone())];
        message.attributes.extend(block.map(|block| {
            let block = block.to_ne_bytes().to_vec();
            TcAttribute::Other(DefaultNla::new(TCA_INGRESS_BLOCK, block))
        }));
        let request = RouteNetlinkMessage::NewQueueDiscipline(message);
        match self.request(what, request, NLM_F_CREATE | NLM_F_EXCL) {
            Ok(_) => Ok(Origin::Created),
            Err(error) if error.errno() == Some(Errno::EEXIST) => match self.ingress_qdisc(link)? {
                Some(found) if serves(&found) => Ok(Origin::Existing),
                Some(found) => Err(NetlinkError::Conflict {
                    what: what(),
                    found: found.to_string(),
                }),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Takes away a link's ingress qdisc, or the clsact in its place, and the filters
    /// that only it has; already gone, or the whole link gone, is success.
    ///
    /// # Errors
    /// Those of the request.
    pub fn delete_ingress_qdisc(&self, link: u32) -> Result<bool, NetlinkError> {
        let what = || {
            let netns = self.netns().name();
            format!("delete the ingress qdisc of link {link} in {netns}")
        };
        // Of whatever kind: the kernel refuses another's name.
        let request = RouteNetlinkMessage::DelQueueDiscipline(at_ingress(link));
        let gone = [Errno::ENOENT, Errno::ENODEV, Errno::EINVAL];
        unless_gone(self.request(what, request, 0), &gone)
    }

    /// Puts `program` in place as a direct-action filter for all protocols.
    /// One that is there is replaced in one step: every packet is judged by
    /// the old or by the new one. The place must exist: for a block, a link
    /// must have joined it.
    ///
    /// # Errors
    /// Those of the request.
    pub fn set_filter(
        &self,
        at: FilterAt,
        program: BorrowedFd<'_>,
        name: &str,
    ) -> Result<(), NetlinkError> {
        let what = || {
            let netns = self.netns().name();
            format!("attach program {name} to {at} in network namespace {netns}")
        };
        // A descriptor is not negative.
        let descriptor = program.as_raw_fd().unsigned_abs();
        let options = [
            TcFilterBpfOption::ProgFd(descriptor),
            TcFilterBpfOption::ProgName(name.to_owned()),
            TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
        ];
        let mut message = filter(at);
        let options = options.into_iter().map(TcOption::Bpf).collect();
        message.attributes.push(TcAttribute::Options(options));
        let request = RouteNetlinkMessage::NewTrafficFilter(message);
        self.request(what, request, NLM_F_CREATE | NLM_F_REPLACE)?;
        Ok(())
    }

    /// The program in place; `None` if there is none, or no such place.
    ///
    /// # Errors
    /// Those of the request.
    pub fn filter(&self, at: FilterAt) -> Result<Option<Filter>, NetlinkError> {
        let what = || format!("find the program of {at} in {}", self.netns().name());
        let request = RouteNetlinkMessage::GetTrafficFilter(filter(at));
        match self.request(what, request, 0) {
            Ok(found) => Ok(found.iter().find_map(bpf_filter)),
            // EINVAL: no such block, or a link without clsact.
            Err(error) => match error.errno() {
                Some(Errno::ENOENT | Errno::EINVAL | Errno::ENODEV) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// The block that a link has joined at its ingress; `None` if none, or no such link.
    ///
    /// # Errors
    /// Those of the request.
    pub fn ingress_block(&self, link: u32) -> Result<Option<u32>, NetlinkError> {
        match self.ingress_qdisc(link) {
            Ok(found) => Ok(found.and_then(|qdisc| qdisc.ingress_block)),
            Err(error) => match error.errno() {
                Some(Errno::ENOENT | Errno::EINVAL | Errno::ENODEV) => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn ingress_qdisc(&self, link: u32) -> Result<Option<Qdisc>, NetlinkError> {
        let what = || {
            format!(
                "find the ingress qdisc of link {link} in {}",
                self.netns().name()
            )
        };
        let request = RouteNetlinkMessage::GetQueueDiscipline(at_ingress(link));
        // Before 6.5 the answer goes to listeners, and to the asker as an echo.
        let found = self.request(what, request, NLM_F_ECHO)?;
        Ok(found.iter().find_map(qdisc))
    }
}

impl fmt::Display for FilterAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(block) => write!(f, "block {block}"),
            Self::Ingress(link) => write!(f, "ingress of link {link}"),
            Self::Egress(link) => write!(f, "egress of link {link}"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Qdisc {
    kind: String,
    ingress_block: Option<u32>,
}

impl fmt::Display for Qdisc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ingress_block {
            Some(block) => write!(f, "{} qdisc with block {block}", self.kind),
            None => write!(f, "{} qdisc without a block", self.kind),
        }
    }
}

/// Of a link's clsact or ingress qdisc, which have one place.
fn at_ingress(link: u32) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = link.cast_signed();
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: 0,
    };
    message
}

fn filter(at: FilterAt) -> TcMessage {
    let hook = |minor| TcHandle {
        major: TcHandle::CLSACT.major,
        minor,
    };
    let (index, parent) = match at {
        FilterAt::Block(block) => (TcHeader::TCM_IFINDEX_MAGIC_BLOCK, TcHandle::from(block)),
        FilterAt::Ingress(link) => (link, hook(TcHandle::MIN_INGRESS)),
        FilterAt::Egress(link) => (link, hook(TcHandle::MIN_EGRESS)),
    };
    let mut message = TcMessage::default();
    message.header.index = index.cast_signed();
    message.header.parent = parent;
    message.header.handle = TcHandle::from(FILTER_HANDLE);
    message.header.info = (FILTER_PRIORITY << 16) | u32::from(ALL_PROTOCOLS.to_be());
    let kind = TcFilterBpf::KIND.to_owned();
    message.attributes.push(TcAttribute::Kind(kind));
    message
}

fn qdisc(message: &RouteNetlinkMessage) -> Option<Qdisc> {
    let RouteNetlinkMessage::NewQueueDiscipline(message) = message else {
        return None;
    };
    let kind = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.clone()),
            _ => None,
        });
    let ingress_block = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Other(other) if other.kind() == TCA_INGRESS_BLOCK => {
                let mut bytes = [0; 4];
                (other.value_len() == bytes.len()).then(|| {
                    other.emit_value(&mut bytes);
                    u32::from_ne_bytes(bytes)
                })
            }
            _ => None,
        });
    Some(Qdisc {
        kind: kind?,
        ingress_block,
    })
}

fn bpf_filter(message: &RouteNetlinkMessage) -> Option<Filter> {
    let RouteNetlinkMessage::NewTrafficFilter(message) = message else {
        return None;
    };
    let options = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        })?;
    let (mut program_id, mut name) = (None, String::new());
    for option in options {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => program_id = Some(*id),
            TcOption::Bpf(TcFilterBpfOption::ProgName(found)) => name.clone_from(found),
            _ => {}
        }
    }
    Some(Filter {
        program_id: program_id?,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_the_headers_that_tc_sends() {
        // As `strace tc filter add ... prio 1 handle 1` shows them.
        let rows = [
            (FilterAt::Block(7), -1, 7),
            (FilterAt::Ingress(5), 5, 0xffff_fff2),
            (FilterAt::Egress(5), 5, 0xffff_fff3),
        ];
        for (at, index, parent) in rows {
            let header = filter(at).header;
            assert_eq!(header.index, index, "{at}");
            assert_eq!(u32::from(header.parent), parent, "{at}");
            assert_eq!(header.info.to_le_bytes(), [0, 3, 1, 0], "{at}");
        }
    }

    #[test]
    fn the_block_of_a_qdisc_is_read_back() {
        let mut message = at_ingress(5);
        let block = DefaultNla::new(TCA_INGRESS_BLOCK, 7u32.to_ne_bytes().to_vec());
        message.attributes = vec![
            TcAttribute::Kind(INGRESS.to_owned()),
            TcAttribute::Other(block),
        ];
        let found = qdisc(&RouteNetlinkMessage::NewQueueDiscipline(message));
        let found = found.map(|qdisc| qdisc.to_string());
        assert_eq!(found.as_deref(), Some("ingress qdisc with block 7"));
    }
}
