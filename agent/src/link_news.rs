//! Waits for the link of an ENI, by its MAC address, and for its end: the kernel tells, nobody asks again and again.
//!
//! Whoever waits subscribes first, then looks, then listens, so that nothing falls in between. The API of a cloud
//! says `attached` seconds to minutes before the link is there: the link is the truth (`spec/awsvpc.md` section 10).

use std::io;

use futures_util::StreamExt;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use tokio::time::{Instant, timeout_at};

use crate::link::{Link, Mac};
use crate::netlink::{Netlink, NetlinkError};
use crate::netns::Netns;

/// Links whose driver has no kind are hardware; a pair's end stands for it where the VPC is none of AWS's. Whatever is
/// stacked on an ENI's link, as a VLAN or a bridge, has its MAC address too and is not it.
const KINDS: [Option<&str>; 2] = [None, Some("veth")];

/// Whether `link` is that of the ENI with this MAC address.
#[must_use]
pub fn is_enis(link: &Link, mac: Mac) -> bool {
    link.mac == Some(mac) && KINDS.contains(&link.kind.as_deref())
}

/// The link of the ENI with this MAC address, if it is there.
///
/// # Errors
/// Those of the list.
pub fn find(host: &Netlink, mac: Mac) -> Result<Option<Link>, NetlinkError> {
    let links = host.links()?;
    Ok(links.into_iter().find(|link| is_enis(link, mac)))
}

/// The link of the ENI with this MAC address, as soon as it is there; `None` if it is not by `deadline`.
///
/// # Errors
/// Those of the subscription and the list.
pub async fn wait_for(
    host: &Netlink,
    mac: Mac,
    deadline: Instant,
) -> Result<Option<Link>, NetlinkError> {
    loop {
        let mut news = News::open(host.netns())?;
        if let Some(link) = find(host, mac)? {
            return Ok(Some(link));
        }
        loop {
            match timeout_at(deadline, news.next()).await {
                Err(_passed) => return Ok(None),
                // News were lost: look again.
                Ok(None) => break,
                Ok(Some(Change::Link(link, _))) if is_enis(&link, mac) => return Ok(Some(link)),
                Ok(Some(Change::Link(..) | Change::Gone)) => {}
            }
        }
    }
}

/// Whether the link of this index, which is up, sends by `deadline`: hardware takes a while to find its carrier.
///
/// # Errors
/// Those of the subscription and the look.
pub async fn wait_until_sending(
    host: &Netlink,
    index: u32,
    deadline: Instant,
) -> Result<bool, NetlinkError> {
    loop {
        let mut news = News::open(host.netns())?;
        if host.is_sending(index)? {
            return Ok(true);
        }
        loop {
            match timeout_at(deadline, news.next()).await {
                Err(_passed) => return Ok(false),
                Ok(None) => break,
                Ok(Some(Change::Link(link, true))) if link.index == index => return Ok(true),
                Ok(Some(Change::Link(..) | Change::Gone)) => {}
            }
        }
    }
}

/// Returns once no link of the ENI with this MAC address is there.
///
/// # Errors
/// Those of the subscription and the list.
pub async fn wait_until_gone(host: &Netlink, mac: Mac) -> Result<(), NetlinkError> {
    let mut news = News::open(host.netns())?;
    while find(host, mac)?.is_some() {
        // A link that gets another MAC address is the ENI's no more either.
        if news.next().await.is_none() {
            news = News::open(host.netns())?;
        }
    }
    Ok(())
}

/// What has changed.
enum Change {
    /// A link is there, as it is now, and whether it sends.
    Link(Link, bool),
    /// One has gone.
    Gone,
}

/// What the kernel tells of a namespace's links.
struct News {
    messages: Messages,
    /// The connection ends with it.
    _handle: rtnetlink::Handle,
}

type Messages = futures_util::stream::BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>;

impl News {
    /// From now on.
    fn open(netns: &Netns) -> Result<Self, NetlinkError> {
        let failed = |source| NetlinkError::Open {
            netns: netns.name().to_owned(),
            source,
        };
        let runtime = tokio::runtime::Handle::try_current();
        let runtime = runtime.map_err(|outside| failed(io::Error::other(outside)))?;
        let connected = netns.run(|| {
            let _entered = runtime.enter();
            rtnetlink::new_multicast_connection(&[MulticastGroup::Link])
        })?;
        let (connection, handle, messages) = connected.map_err(failed)?;
        runtime.spawn(connection);
        Ok(Self {
            messages: messages.map(|(message, _)| message).boxed(),
            _handle: handle,
        })
    }

    /// The next one; `None` where some were lost.
    async fn next(&mut self) -> Option<Change> {
        loop {
            let message = self.messages.next().await?;
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "the crate's lists of payloads and messages are open"
            )]
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(_)) => {
                    return Some(Change::Gone);
                }
                NetlinkPayload::InnerMessage(message) => {
                    if let Some(link) = Link::of_message(&message) {
                        return Some(Change::Link(link, Link::is_sending(&message)));
                    }
                }
                NetlinkPayload::Overrun(_) => return None,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x0a, 0, 0, 0, 0, 1]);

    fn link(kind: Option<&str>, mac: Option<Mac>) -> Link {
        Link {
            index: 3,
            name: "ens6".to_owned(),
            kind: kind.map(str::to_owned),
            mac,
            mtu: 9001,
            up: false,
            noarp: false,
            peer_index: None,
            peer_netns: None,
        }
    }

    #[test]
    fn what_is_stacked_on_an_enis_link_is_not_taken_for_it() {
        assert!(is_enis(&link(None, Some(MAC)), MAC));
        assert!(is_enis(&link(Some("veth"), Some(MAC)), MAC));
        for kind in ["vlan", "macvlan", "bridge", "bond", "dummy"] {
            assert!(!is_enis(&link(Some(kind), Some(MAC)), MAC), "{kind}");
        }
        assert!(!is_enis(&link(None, Some(Mac([2; 6]))), MAC));
        assert!(!is_enis(&link(None, None), MAC));
    }
}
