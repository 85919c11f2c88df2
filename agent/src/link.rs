//! Kernel links: looked up, made in pairs, changed, deleted.
//!
//! A veth's far end is made directly inside its namespace, never moved there.
//! Addresses and routes are in `route`, attached programs in `tc`.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's list of attributes is open"
)]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
    State,
};
use nix::errno::Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::ipv4_conf::Ipv4Conf;
use crate::netlink::{Netlink, NetlinkError, Notices, unless_gone};
use crate::netns::Origin;

/// The index of `lo` in every namespace (`LOOPBACK_IFINDEX` of the kernel).
pub const LOOPBACK: u32 = 1;

/// A 48-bit hardware address, in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the kernel says of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number, unique in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its driver's name, such as `veth`; `None` for hardware and `lo`.
    pub kind: Option<String>,
    /// `None` if it has no Ethernet address.
    pub mac: Option<Mac>,
    /// Bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it sends without resolving addresses.
    pub noarp: bool,
    /// The other end's number, in the other end's namespace.
    pub peer_index: Option<u32>,
    /// The number that its own namespace has for the other end's; `None` if both are in one.
    pub peer_netns: Option<i32>,
}

/// One end of a veth pair to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethEnd {
    /// At most 15 bytes.
    pub name: String,
    /// `None` leaves the choice to the kernel.
    pub mac: Option<Mac>,
}

/// A veth pair to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethPair {
    /// The end in the namespace of the socket that is asked.
    pub near: VethEnd,
    /// The end in the peer's namespace.
    pub far: VethEnd,
    /// Bytes, for both ends.
    pub mtu: u32,
}

/// A link's flags and values to change; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Administrative state.
    pub up: Option<bool>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Send without resolving addresses.
    pub noarp: Option<bool>,
    /// What IPv4 does on it.
    pub ipv4: Option<Ipv4Conf>,
}

impl Netlink {
    /// All links of the namespace.
    ///
    /// # Errors
    /// Those of the request; a list that changed meanwhile is read again.
    pub fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(without_stats());
        let what = || format!("list links in network namespace {}", self.netns().name());
        let found = self.dump(what, RouteNetlinkMessage::GetLink(message))?;
        Ok(found.iter().filter_map(link).collect())
    }

    /// The link of this name; `None` if there is none.
    ///
    /// # Errors
    /// Those of the request.
    pub fn link_named(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().name(name).build();
        self.find_link(name, message)
    }

    /// The link of this index; `None` if there is none.
    ///
    /// # Errors
    /// Those of the request.
    pub fn link_at(&self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).build();
        self.find_link(&index.to_string(), message)
    }

    /// The link of this name, which must be there.
    ///
    /// # Errors
    /// `NoSuchLink`, and those of the request.
    pub fn existing_link(&self, name: &str) -> Result<Link, NetlinkError> {
        self.link_named(name)?
            .ok_or_else(|| NetlinkError::NoSuchLink {
                link: name.to_owned(),
                netns: self.netns().name().to_owned(),
            })
    }

    /// Makes `pair`, near end here and far end in `far`'s namespace, both down;
    /// or finds it, then with both ends' MAC and MTU set as `pair` says.
    ///
    /// # Errors
    /// `Conflict` if a link of the near or the far name is no end of this
    /// very pair; it stays untouched.
    pub fn ensure_veth(
        &self,
        pair: &VethPair,
        far: &Netlink,
    ) -> Result<(Link, Origin), NetlinkError> {
        let what = || self.veth_text(pair, far);
        match self.create_veth(pair, far) {
            Ok(Some(near)) => Ok((near, Origin::Created)),
            Ok(None) => Ok((self.existing_link(&pair.near.name)?, Origin::Created)),
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                let Some((near, far_link)) = self.find_pair(pair, far)? else {
                    return Err(self.veth_conflict(what(), pair, far));
                };
                self.mend_end(&near, pair.near.mac, pair.mtu)?;
                far.mend_end(&far_link, pair.far.mac, pair.mtu)?;
                Ok((self.existing_link(&pair.near.name)?, Origin::Existing))
            }
            Err(error) => Err(error),
        }
    }

    /// Changes a link.
    ///
    /// # Errors
    /// Those of the request.
    pub fn change_link(&self, index: u32, change: LinkChange) -> Result<(), NetlinkError> {
        let mut builder = LinkMessageBuilder::<LinkUnspec>::new().index(index);
        if let Some(up) = change.up {
            builder = if up { builder.up() } else { builder.down() };
        }
        if let Some(noarp) = change.noarp {
            builder = builder.arp(!noarp);
        }
        if let Some(mac) = change.mac {
            builder = builder.address(mac.0.to_vec());
        }
        if let Some(mtu) = change.mtu {
            builder = builder.mtu(mtu);
        }
        let what = || {
            let netns = self.netns().name();
            format!("set {change} on link {index} in network namespace {netns}")
        };
        let mut message = builder.build();
        message
            .attributes
            .extend(change.ipv4.map(Ipv4Conf::attribute));
        self.request(what, RouteNetlinkMessage::SetLink(message), 0)?;
        Ok(())
    }

    /// Gives a link another name. Before Linux 6.2 it must be down.
    ///
    /// # Errors
    /// Those of the request.
    pub fn rename(&self, index: u32, name: &str) -> Result<(), NetlinkError> {
        let builder = LinkMessageBuilder::<LinkUnspec>::new().index(index);
        let message = RouteNetlinkMessage::SetLink(builder.name(name.to_owned()).build());
        let what = || {
            let netns = self.netns().name();
            format!("rename link {index} to {name} in network namespace {netns}")
        };
        self.request(what, message, 0)?;
        Ok(())
    }

    /// Sets a link up or down.
    ///
    /// # Errors
    /// Those of the request.
    pub fn set_up(&self, index: u32, up: bool) -> Result<(), NetlinkError> {
        let change = LinkChange {
            up: Some(up),
            ..LinkChange::default()
        };
        self.change_link(index, change)
    }

    /// Waits until a link whose both ends are up really sends. The kernel
    /// starts its queue a while after the carrier came, from a worker
    /// (net/core/link_watch.c); until then it drops what the link is to send.
    ///
    /// # Errors
    /// `NotYet` if it does not come: the other end is down.
    pub fn wait_until_sending(&self, index: u32) -> Result<(), NetlinkError> {
        let what = || {
            let netns = self.netns().name();
            format!("wait until link {index} sends in network namespace {netns}")
        };
        self.wait_until(Notices::Links, (what, "it has no carrier"), || {
            self.is_sending(index)
        })
    }

    /// Whether a link really sends; see [`Netlink::wait_until_sending`].
    ///
    /// # Errors
    /// Those of the request.
    pub fn is_sending(&self, index: u32) -> Result<bool, NetlinkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).build();
        let what = || format!("look at link {index} in {}", self.netns().name());
        let request = RouteNetlinkMessage::GetLink(message);
        let found = self.request(what, request, 0)?;
        Ok(found.iter().any(is_operational))
    }

    /// Deletes a link by index, and with it the other end of a pair; tells
    /// whether it was there.
    ///
    /// # Errors
    /// Those of the request; already gone is none.
    pub fn delete_link(&self, index: u32) -> Result<bool, NetlinkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).build();
        self.remove_link(&index.to_string(), message)
    }

    /// Deletes a link by name; see [`Netlink::delete_link`].
    ///
    /// # Errors
    /// Those of the request; already gone is none.
    pub fn delete_link_named(&self, name: &str) -> Result<bool, NetlinkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().name(name).build();
        self.remove_link(name, message)
    }

    fn find_link(
        &self,
        link_text: &str,
        mut message: LinkMessage,
    ) -> Result<Option<Link>, NetlinkError> {
        message.attributes.push(without_stats());
        let what = || {
            format!(
                "find link {link_text} in network namespace {}",
                self.netns().name()
            )
        };
        let request = RouteNetlinkMessage::GetLink(message);
        match self.request(what, request, 0) {
            Ok(found) => Ok(found.iter().find_map(link)),
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn remove_link(&self, link_text: &str, message: LinkMessage) -> Result<bool, NetlinkError> {
        let what = || {
            let netns = self.netns().name();
            format!("delete link {link_text} in network namespace {netns}")
        };
        let request = RouteNetlinkMessage::DelLink(message);
        unless_gone(self.request(what, request, 0), &[Errno::ENODEV])
    }

    /// The near end, where the kernel tells what it has made.
    fn create_veth(&self, pair: &VethPair, far: &Netlink) -> Result<Option<Link>, NetlinkError> {
        let far_netns = far.netns().as_fd().as_raw_fd();
        let peer = with_end(LinkMessageBuilder::<LinkUnspec>::new(), &pair.far, pair.mtu)
            .setns_by_fd(far_netns)
            .build();
        let builder = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth);
        let message = with_end(builder, &pair.near, pair.mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let request = RouteNetlinkMessage::NewLink(message);
        // Before 6.2 the echo of a new link goes to listeners only.
        let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO;
        let made = self.request(|| self.veth_text(pair, far), request, flags);
        let made = made?;
        let is_near = |link: &Link| link.name == pair.near.name && link.peer_index.is_some();
        Ok(made.iter().find_map(link).filter(is_near))
    }

    /// Both ends, if the two names belong to the two ends of one pair.
    fn find_pair(
        &self,
        pair: &VethPair,
        far: &Netlink,
    ) -> Result<Option<(Link, Link)>, NetlinkError> {
        let near = self.link_named(&pair.near.name)?;
        let far = far.link_named(&pair.far.name)?;
        Ok(near.zip(far).filter(|(near, far)| are_one_pair(near, far)))
    }

    fn mend_end(&self, link: &Link, mac: Option<Mac>, mtu: u32) -> Result<(), NetlinkError> {
        let change = LinkChange {
            mac: mac.filter(|mac| link.mac != Some(*mac)),
            mtu: Some(mtu).filter(|mtu| link.mtu != *mtu),
            ..LinkChange::default()
        };
        if change == LinkChange::default() {
            return Ok(());
        }
        tracing::warn!(link = link.name, %change, "mended a changed link");
        self.change_link(link.index, change)
    }

    fn veth_conflict(&self, what: String, pair: &VethPair, far: &Netlink) -> NetlinkError {
        let ends = [(self, &pair.near.name), (far, &pair.far.name)];
        for (netlink, name) in ends {
            match netlink.link_named(name) {
                Ok(Some(found)) => {
                    let kind = found.kind.as_deref().unwrap_or("hardware");
                    let (netns, index) = (netlink.netns().name(), found.index);
                    let found = format!("another {kind} link {name} (index {index}) of {netns}");
                    return NetlinkError::Conflict { what, found };
                }
                Ok(None) => {}
                Err(error) => return error,
            }
        }
        let found = "a link that has gone meanwhile".to_owned();
        NetlinkError::Conflict { what, found }
    }

    fn veth_text(&self, pair: &VethPair, far: &Netlink) -> String {
        let (near, far_name) = (&pair.near.name, &pair.far.name);
        let (here, there) = (self.netns().name(), far.netns().name());
        format!("create veth {near} in {here} with its peer {far_name} in {there}")
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = [
            self.up.map(|up| if up { "up" } else { "down" }.to_owned()),
            self.mac.map(|mac| format!("address {mac}")),
            self.mtu.map(|mtu| format!("mtu {mtu}")),
            self.noarp
                .map(|noarp| if noarp { "noarp" } else { "arp" }.to_owned()),
            self.ipv4.map(|conf| conf.to_string()),
        ];
        f.write_str(&texts.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}

fn with_end<T>(builder: LinkMessageBuilder<T>, end: &VethEnd, mtu: u32) -> LinkMessageBuilder<T> {
    let builder = builder.name(end.name.clone()).mtu(mtu);
    match end.mac {
        Some(mac) => builder.address(mac.0.to_vec()),
        None => builder,
    }
}

fn without_stats() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn are_one_pair(near: &Link, far: &Link) -> bool {
    let veth = Some("veth");
    near.kind.as_deref() == veth
        && far.kind.as_deref() == veth
        && near.peer_index == Some(far.index)
        && far.peer_index == Some(near.index)
}

impl Link {
    /// The link that a message of the kernel is about; `None` if it is about none, or one that goes.
    pub(crate) fn of_message(message: &RouteNetlinkMessage) -> Option<Self> {
        link(message)
    }

    /// Whether a message of the kernel says that its link really sends.
    pub(crate) fn is_sending(message: &RouteNetlinkMessage) -> bool {
        is_operational(message)
    }
}

fn link(message: &RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        noarp: flags.contains(LinkFlags::Noarp),
        peer_index: None,
        peer_netns: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(index) => link.peer_index = Some(*index),
            LinkAttribute::LinkNetNsId(netns) => link.peer_netns = Some(*netns),
            LinkAttribute::LinkInfo(infos) => link.kind = infos.iter().find_map(kind),
            _ => {}
        }
    }
    Some(link)
}

fn is_operational(message: &RouteNetlinkMessage) -> bool {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return false;
    };
    let up = LinkAttribute::OperState(State::Up);
    message.attributes.contains(&up)
}

fn kind(info: &LinkInfo) -> Option<String> {
    match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veth(index: u32, peer_index: u32) -> Link {
        Link {
            index,
            name: format!("v{index}"),
            kind: Some("veth".to_owned()),
            mac: None,
            mtu: 1500,
            up: false,
            noarp: false,
            peer_index: Some(peer_index),
            peer_netns: None,
        }
    }

    #[test]
    fn a_pair_is_known_by_both_directions() {
        let rows = [
            ("the two ends", veth(3, 2), veth(2, 3), true),
            ("the far one leads elsewhere", veth(3, 2), veth(2, 9), false),
            (
                "the near one leads elsewhere",
                veth(3, 4),
                veth(2, 3),
                false,
            ),
        ];
        for (name, near, far, expected) in rows {
            assert_eq!(are_one_pair(&near, &far), expected, "{name}");
        }
        let mut bridge = veth(3, 2);
        bridge.kind = Some("bridge".to_owned());
        assert!(!are_one_pair(&bridge, &veth(2, 3)));
    }

    #[test]
    fn changes_read_as_ip_link_and_sysctl_have_them() {
        let change = LinkChange {
            up: Some(true),
            mac: Some(Mac([2, 0, 0, 0, 0xab, 1])),
            mtu: Some(9001),
            noarp: Some(true),
            ipv4: Some(Ipv4Conf {
                accept_redirects: false,
                arp_notify: true,
            }),
        };
        let expected =
            "up address 02:00:00:00:ab:01 mtu 9001 noarp accept_redirects=0 arp_notify=1";
        assert_eq!(change.to_string(), expected);
    }
}
