//! The link of an ENI that has one of its own: it stays on the host and is its task's trunk, without a VLAN.
//!
//! One packet: `trunk_ingress` on this link finds the ENI by the link's index and the MAC address, judges it and
//! delivers it into the task's veth; `branch_egress` on the veth's host end judges what the task sends and redirects
//! it to this link, untagged. Both are the programs of a trunk: only the maps' entries differ (`vlan` 0, and this
//! link's index in place of the trunk's).
//!
//! The host's own stack has no part in it. The link is down when the kernel makes it; before it goes up it loses IPv6,
//! ARP and whatever addresses somebody gave it, and its program drops every packet until the maps have the ENI.

use tokio::time::Instant;

use crate::datapath::{self, DatapathError, lock};
use crate::ipv6_conf::without_ipv6;
use crate::link::{Link, LinkChange, Mac};
use crate::link_news;
use crate::netlink::{Netlink, NetlinkError};
use crate::provider::Eni;
use crate::route::Address;
use crate::sysctl::SysctlError;
use crate::task::Host;

/// How often a link may get another name while it is taken.
const RENAMES: u32 = 4;

/// Why an ENI's link cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EniLinkError {
    /// It does not show up. ECS's words.
    #[error(
        "Timeout waiting for network interface provisioning to complete: no link with the MAC address {mac} within \
         {seconds} s (ec2.link_deadline)"
    )]
    NoLink {
        /// The ENI's.
        mac: Mac,
        /// How long it was waited for.
        seconds: u64,
    },
    /// It is there and does not send.
    #[error("link {link} has no carrier within {seconds} s (ec2.link_deadline)")]
    NoCarrier {
        /// Its name.
        link: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// It was there, and has gone.
    #[error("no link with the MAC address {mac} any more; was the ENI detached?")]
    Gone {
        /// The ENI's.
        mac: Mac,
    },
    /// It gets other names again and again.
    #[error("link {link} was renamed while its program was attached")]
    Renamed {
        /// Its name before.
        link: String,
    },
    /// The kernel's answer.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A kernel setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// Its program.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

/// What there is of an ENI's own link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The link.
    pub link: Link,
    /// Whether its program is attached.
    pub is_attached: bool,
    /// Addresses of the host's, which has no business there.
    pub addresses: Vec<Address>,
}

impl Found {
    /// What differs from what it should be, as (what, expected, found).
    #[must_use]
    pub fn differences(&self, mtu: u32) -> Vec<(String, String, String)> {
        let name = &self.link.name;
        let mut list = Vec::new();
        let mut add = |what: String, expected: &str, found: String| {
            list.push((what, expected.to_owned(), found));
        };
        if !self.link.up {
            add(format!("link {name}"), "up", "down".to_owned());
        }
        if !self.link.noarp {
            add(format!("ARP on {name}"), "off", "on".to_owned());
        }
        if self.link.mtu < mtu {
            let found = self.link.mtu.to_string();
            add(format!("MTU of {name}"), &format!("at least {mtu}"), found);
        }
        if !self.is_attached {
            let program = datapath::program::TRUNK_INGRESS;
            add(format!("program on {name}"), program, "none".to_owned());
        }
        for address in &self.addresses {
            let found = address.address.to_string();
            add(format!("address of the host on {name}"), "none", found);
        }
        list
    }
}

/// Waits for the ENI's link, and makes it its task's; nothing to do for an ENI on the trunk. Idempotent.
///
/// # Errors
/// `NoLink` if it does not show up by the deadline; else names what the kernel refused.
pub async fn wait_for(host: &Host, eni: &Eni) -> Result<(), EniLinkError> {
    if eni.device.is_none() {
        return Ok(());
    }
    let (mac, patience) = (Mac(eni.mac.0), host.link_deadline);
    let deadline = Instant::now() + patience;
    let found = link_news::wait_for(&host.netlink, mac, deadline).await?;
    let seconds = patience.as_secs();
    let mut link = found.ok_or(EniLinkError::NoLink { mac, seconds })?;
    for _ in 0..RENAMES {
        let Err(error) = take(host, eni, &link) else {
            let sends = link_news::wait_until_sending(&host.netlink, link.index, deadline).await?;
            let link = link.name;
            return sends
                .then_some(())
                .ok_or(EniLinkError::NoCarrier { link, seconds });
        };
        // udev gives a new link its name while it is being taken.
        match link_news::find(&host.netlink, mac)? {
            Some(now) if now.name != link.name => link = now,
            Some(_) | None => return Err(error),
        }
    }
    Err(EniLinkError::Renamed { link: link.name })
}

/// Makes the ENI's link its task's again, if it is among `links`; whether it is, or the ENI needs none.
///
/// # Errors
/// Names what the kernel refused.
pub fn take_up(host: &Host, eni: &Eni, links: &[Link]) -> Result<bool, EniLinkError> {
    if eni.device.is_none() {
        return Ok(true);
    }
    let mac = Mac(eni.mac.0);
    match links.iter().find(|link| link_news::is_enis(link, mac)) {
        Some(link) => take(host, eni, link).map(|()| true),
        None => Ok(false),
    }
}

/// Looks for the ENI's own link; `None` if there is none. Not to be asked of an ENI on the trunk.
///
/// # Errors
/// It could not be looked at.
pub fn look(host: &Host, eni: &Eni) -> Result<Option<Found>, EniLinkError> {
    let Some(link) = link_news::find(&host.netlink, Mac(eni.mac.0))? else {
        return Ok(None);
    };
    let (maps, netlink) = (&host.datapath, &host.netlink);
    Ok(Some(Found {
        is_attached: datapath::is_eni_attached(maps, netlink, &eni.eni_id, &link)?,
        addresses: addresses_on(netlink, link.index)?,
        link,
    }))
}

/// The ENI's link is its task's no more: it goes down, then its program goes. What is not there is success.
///
/// # Errors
/// Names what the kernel refused.
pub fn let_go(host: &Host, eni: &Eni) -> Result<(), EniLinkError> {
    if eni.device.is_none() {
        return Ok(());
    }
    switch_off(&host.netlink, eni)?;
    host.plugs().set_own_link(&eni.eni_id, None);
    drop_pin(host, eni)?;
    Ok(())
}

fn drop_pin(host: &Host, eni: &Eni) -> Result<(), DatapathError> {
    let is_other = |eni_id: &str| eni_id != eni.eni_id;
    lock(&host.datapath).drop_eni_pins(is_other)
}

/// Sets the ENI's link down and takes its filters away: the part of [`let_go`] that needs no agent.
///
/// # Errors
/// Names what the kernel refused.
pub fn switch_off(host: &Netlink, eni: &Eni) -> Result<(), NetlinkError> {
    if eni.device.is_none() {
        return Ok(());
    }
    let Some(link) = link_news::find(host, Mac(eni.mac.0))? else {
        return Ok(());
    };
    if link.up {
        host.set_up(link.index, false)?;
    }
    host.delete_ingress_qdisc(link.index)?;
    Ok(())
}

/// Once the host's stack is out of it and its program is on it, the link goes up.
fn take(host: &Host, eni: &Eni, link: &Link) -> Result<(), EniLinkError> {
    let netlink = &host.netlink;
    keep_host_out(netlink, link)?;
    let change = LinkChange {
        mtu: Some(host.mtu).filter(|mtu| link.mtu < *mtu),
        noarp: Some(true).filter(|_| !link.noarp),
        ..LinkChange::default()
    };
    if change != LinkChange::default() {
        netlink.change_link(link.index, change)?;
    }
    attach(host, eni, link)?;
    if !is_attached_here(host, eni, link)? {
        drop_pin(host, eni)?;
        let link = link.name.clone();
        return Err(EniLinkError::Renamed { link });
    }
    netlink.set_up(link.index, true)?;
    host.plugs().set_own_link(&eni.eni_id, Some(link.index));
    Ok(())
}

/// Whether the program is on this very link: it was attached by name, which may have been another link's by then.
fn is_attached_here(host: &Host, eni: &Eni, link: &Link) -> Result<bool, EniLinkError> {
    match host.netlink.link_at(link.index)? {
        Some(now) if now.name == link.name => Ok(true),
        Some(now) => {
            let (maps, netlink) = (&host.datapath, &host.netlink);
            Ok(datapath::is_eni_attached(maps, netlink, &eni.eni_id, &now)?)
        }
        None => Ok(false),
    }
}

/// Its program, whatever else is there.
fn attach(host: &Host, eni: &Eni, link: &Link) -> Result<(), DatapathError> {
    let (maps, netlink) = (&host.datapath, &host.netlink);
    match datapath::attach_eni(maps, netlink, &eni.eni_id, link) {
        Err(DatapathError::Netlink(NetlinkError::Conflict { .. })) => {
            netlink.delete_ingress_qdisc(link.index)?;
            datapath::attach_eni(maps, netlink, &eni.eni_id, link)?;
        }
        other => drop(other?),
    }
    Ok(())
}

/// The host speaks no IPv6 on the link and has no address there.
fn keep_host_out(host: &Netlink, link: &Link) -> Result<(), EniLinkError> {
    without_ipv6(host.netns(), &link.name)?;
    for address in addresses_on(host, link.index)? {
        tracing::warn!(link = link.name, %address, "an address of the host on an ENI of a task; removed");
        host.delete_address(&address)?;
    }
    Ok(())
}

fn addresses_on(host: &Netlink, link: u32) -> Result<Vec<Address>, NetlinkError> {
    let mut addresses = host.addresses()?;
    addresses.retain(|address| address.link == link);
    Ok(addresses)
}
