//! Addresses and routes of a namespace.
//!
//! An existing entry is looked at: an equal one is success, one of ours is
//! replaced, a stranger's is an error that names it. Chooses no address itself.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's list of attributes is open"
)]

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use crate::netlink::{Netlink, NetlinkError, Notices, unless_gone};
use crate::netns::Origin;

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub link: u32,
    /// The address, and the length of its subnet's prefix.
    pub address: IpNet,
    /// Whether the kernel made an on-link route of the prefix.
    pub prefix_route: bool,
}

/// A unicast route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Length 0 is the default route.
    pub destination: IpNet,
    /// `None`: on-link.
    pub gateway: Option<IpAddr>,
    /// The index of the link it leads to.
    pub link: u32,
    /// The source of packets that have none yet.
    pub source: Option<IpAddr>,
}

impl Route {
    /// To whoever is in `destination`, without a router.
    pub(crate) const fn on_link(link: u32, destination: IpNet) -> Self {
        Self {
            destination,
            gateway: None,
            link,
            source: None,
        }
    }

    /// To whoever there is of the family of `gateway`, over it.
    pub(crate) fn default_over(link: u32, gateway: IpAddr) -> Self {
        let any: IpNet = match gateway {
            IpAddr::V4(_) => Ipv4Net::default().into(),
            IpAddr::V6(_) => Ipv6Net::default().into(),
        };
        Self {
            gateway: Some(gateway),
            ..Self::on_link(link, any)
        }
    }
}

impl Netlink {
    /// All addresses of the namespace.
    ///
    /// # Errors
    /// Those of the request; a list that changed meanwhile is read again.
    pub fn addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let what = || {
            format!(
                "list addresses in network namespace {}",
                self.netns().name()
            )
        };
        let found = self.dump(what, message)?;
        Ok(found.iter().filter_map(address).collect())
    }

    /// Puts an address on a link, usable at once (no duplicate detection).
    ///
    /// # Errors
    /// `Conflict` if the link has the address with another prefix length.
    pub fn ensure_address(&self, wanted: &Address) -> Result<Origin, NetlinkError> {
        let what = || {
            format!(
                "add address {wanted} in network namespace {}",
                self.netns().name()
            )
        };
        let message = RouteNetlinkMessage::NewAddress(address_message(wanted));
        match self.request(what, message, NLM_F_CREATE | NLM_F_EXCL) {
            Ok(_) => Ok(Origin::Created),
            Err(error) if error.errno() == Some(Errno::EEXIST) => {
                let of_link = |found: &Address| found.link == wanted.link;
                let same_address = |found: &Address| found.address.addr() == wanted.address.addr();
                let mut found = self.addresses()?;
                found.retain(|found| of_link(found) && same_address(found));
                if found.iter().any(|found| found.address == wanted.address) {
                    return Ok(Origin::Existing);
                }
                Err(conflict(what(), &found))
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until the namespace takes what is sent to its own `address`. The kernel makes the route for
    /// that of an IPv6 address in the background, a while after it has said that the address is there.
    ///
    /// # Errors
    /// `NotYet` if it does not come.
    pub fn wait_until_local(&self, address: IpAddr) -> Result<(), NetlinkError> {
        let what = || {
            let netns = self.netns().name();
            format!("wait until {address} is reachable in network namespace {netns}")
        };
        let reason = "it is not taken for an own address";
        self.wait_until(Notices::Ipv6Routes, (what, reason), || {
            let mut message = RouteMessage::default();
            message.header.address_family = family(address);
            message.header.destination_prefix_length = IpNet::from(address).prefix_len();
            message
                .attributes
                .push(RouteAttribute::Destination(address.into()));
            let is_local = |found: &RouteNetlinkMessage| {
                matches!(found, RouteNetlinkMessage::NewRoute(route)
                    if route.header.kind == RouteType::Local)
            };
            match self.request(what, RouteNetlinkMessage::GetRoute(message), 0) {
                Ok(found) => Ok(found.iter().any(is_local)),
                Err(error) if error.errno() == Some(Errno::ENETUNREACH) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    /// Takes an address off a link; already gone is success.
    ///
    /// # Errors
    /// Those of the request.
    pub fn delete_address(&self, unwanted: &Address) -> Result<bool, NetlinkError> {
        let what = || format!("delete address {unwanted} in {}", self.netns().name());
        let message = RouteNetlinkMessage::DelAddress(address_message(unwanted));
        let gone = [Errno::EADDRNOTAVAIL, Errno::ENODEV];
        unless_gone(self.request(what, message, 0), &gone)
    }

    /// The unicast routes of the main table, both families.
    ///
    /// # Errors
    /// Those of the request; a list that changed meanwhile is read again.
    pub fn routes(&self) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let what = || format!("list routes in network namespace {}", self.netns().name());
            let request = RouteNetlinkMessage::GetRoute(message);
            let found = self.dump(what, request)?;
            routes.extend(found.iter().filter_map(route));
        }
        Ok(routes)
    }

    /// Adds a route. One to the same destination over the same link is ours
    /// and is replaced.
    ///
    /// # Errors
    /// `Conflict` if the destination is routed over another link.
    pub fn ensure_route(&self, wanted: &Route) -> Result<Origin, NetlinkError> {
        let what = || {
            format!(
                "add route {wanted} in network namespace {}",
                self.netns().name()
            )
        };
        let message = || RouteNetlinkMessage::NewRoute(route_message(wanted));
        match self.request(what, message(), NLM_F_CREATE | NLM_F_EXCL) {
            Ok(_) => return Ok(Origin::Created),
            Err(error) if error.errno() == Some(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
        let mut found = self.routes()?;
        found.retain(|found| found.destination == wanted.destination);
        if found.contains(wanted) {
            return Ok(Origin::Existing);
        }
        if found.iter().any(|found| found.link != wanted.link) {
            return Err(conflict(what(), &found));
        }
        self.request(what, message(), NLM_F_CREATE | NLM_F_REPLACE)?;
        Ok(Origin::Existing)
    }

    /// Deletes a route; already gone is success.
    ///
    /// # Errors
    /// Those of the request.
    pub fn delete_route(&self, unwanted: &Route) -> Result<bool, NetlinkError> {
        let what = || format!("delete route {unwanted} in {}", self.netns().name());
        let message = RouteNetlinkMessage::DelRoute(route_message(unwanted));
        let gone = [Errno::ESRCH, Errno::ENODEV];
        unless_gone(self.request(what, message, 0), &gone)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to link {}", self.address, self.link)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " over link {}", self.link)?;
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        Ok(())
    }
}

fn conflict(what: String, found: &[impl fmt::Display]) -> NetlinkError {
    let found = match found.first() {
        Some(found) => found.to_string(),
        None => "an entry that has gone meanwhile".to_owned(),
    };
    NetlinkError::Conflict { what, found }
}

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn address_message(wanted: &Address) -> AddressMessage {
    let ip = wanted.address.addr();
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
    message.header.prefix_len = wanted.address.prefix_len();
    message.header.index = wanted.link;
    message.header.scope = AddressScope::Universe;
    let mut flags = AddressFlags::Nodad;
    flags.set(AddressFlags::Noprefixroute, !wanted.prefix_route);
    message.attributes = vec![
        AddressAttribute::Local(ip),
        AddressAttribute::Address(ip),
        AddressAttribute::Flags(flags),
    ];
    message
}

fn address(message: &RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    let mut ip = None;
    let mut flags = AddressFlags::empty();
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link `Address` is the far end's.
            AddressAttribute::Local(local) => ip = Some(*local),
            AddressAttribute::Address(address) => ip = ip.or(Some(*address)),
            AddressAttribute::Flags(found) => flags = *found,
            _ => {}
        }
    }
    Some(Address {
        link: message.header.index,
        address: IpNet::new(ip?, message.header.prefix_len).ok()?,
        prefix_route: !flags.contains(AddressFlags::Noprefixroute),
    })
}

fn route_message(wanted: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(wanted.destination.addr());
    header.destination_prefix_length = wanted.destination.prefix_len();
    header.table = RouteHeader::RT_TABLE_MAIN;
    header.protocol = RouteProtocol::Static;
    header.kind = RouteType::Unicast;
    let on_link = wanted.gateway.is_none() && wanted.destination.addr().is_ipv4();
    header.scope = if on_link {
        RouteScope::Link
    } else {
        RouteScope::Universe
    };
    if wanted.destination.prefix_len() > 0 {
        let network = wanted.destination.network();
        message
            .attributes
            .push(RouteAttribute::Destination(network.into()));
    }
    message.attributes.push(RouteAttribute::Oif(wanted.link));
    let gateway = wanted.gateway.map(|ip| RouteAttribute::Gateway(ip.into()));
    let source = wanted
        .source
        .map(|ip| RouteAttribute::PrefSource(ip.into()));
    message.attributes.extend(gateway.into_iter().chain(source));
    message
}

fn route(message: &RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else {
        return None;
    };
    let header = &message.header;
    if header.kind != RouteType::Unicast || header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        _ => IpAddr::from([0; 16]),
    };
    let (mut gateway, mut link, mut source) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    Some(Route {
        destination: IpNet::new(destination, header.destination_prefix_length).ok()?,
        gateway,
        link: link?,
        source,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn routes_survive_the_way_through_a_message() {
        let rows = [
            ("10.0.0.0/16", None, Some("169.254.77.1")),
            ("0.0.0.0/0", Some("10.0.1.1"), None),
            ("fd00:1::/56", None, None),
            ("::/0", Some("fd00:1::1"), Some("fd00:1::5")),
        ];
        for (destination, gateway, source) in rows {
            let wanted = Route {
                destination: destination.parse().unwrap(),
                gateway: gateway.map(|ip: &str| ip.parse().unwrap()),
                link: 7,
                source: source.map(|ip: &str| ip.parse().unwrap()),
            };
            let message = RouteNetlinkMessage::NewRoute(route_message(&wanted));
            assert_eq!(route(&message), Some(wanted), "{wanted}");
        }
    }

    #[test]
    fn addresses_survive_the_way_through_a_message() {
        for (text, prefix_route) in [("10.0.1.4/24", true), ("fd00:1::4/64", false)] {
            let wanted = Address {
                link: 3,
                address: text.parse().unwrap(),
                prefix_route,
            };
            let message = RouteNetlinkMessage::NewAddress(address_message(&wanted));
            assert_eq!(address(&message), Some(wanted), "{wanted}");
        }
    }
}
