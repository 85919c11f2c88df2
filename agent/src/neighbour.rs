//! Permanent neighbours of a namespace. Resolves nothing.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's list of attributes is open"
)]

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use nix::errno::Errno;

use crate::link::Mac;
use crate::netlink::{Netlink, NetlinkError, unless_gone};
use crate::route::family;

/// A neighbour that needs no resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The link's index.
    pub link: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// The neighbour's hardware address.
    pub mac: Mac,
}

impl Netlink {
    /// Adds or corrects a permanent neighbour.
    ///
    /// # Errors
    /// Those of the request.
    pub fn set_neighbour(&self, neighbour: &Neighbour) -> Result<(), NetlinkError> {
        let Neighbour { link, address, mac } = *neighbour;
        let netns = self.netns().name();
        let what = || format!("set neighbour {address} at {mac} on link {link} in {netns}");
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = link;
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(address.into()),
            NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        ];
        let request = RouteNetlinkMessage::NewNeighbour(message);
        self.request(what, request, NLM_F_CREATE | NLM_F_REPLACE)?;
        Ok(())
    }

    /// Deletes a neighbour, and tells whether it was there.
    ///
    /// # Errors
    /// Those of the request; already gone is none.
    pub fn delete_neighbour(&self, link: u32, address: IpAddr) -> Result<bool, NetlinkError> {
        let netns = self.netns().name();
        let what = || format!("delete neighbour {address} on link {link} in {netns}");
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = link;
        message.attributes = vec![NeighbourAttribute::Destination(address.into())];
        let request = RouteNetlinkMessage::DelNeighbour(message);
        unless_gone(self.request(what, request, 0), &[Errno::ENOENT])
    }

    /// The permanent neighbour of one address; `None` if there is none.
    ///
    /// # Errors
    /// Those of the request.
    pub fn permanent_neighbour(
        &self,
        link: u32,
        address: IpAddr,
    ) -> Result<Option<Neighbour>, NetlinkError> {
        let netns = self.netns().name();
        let what = || format!("find neighbour {address} on link {link} in {netns}");
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = link;
        message.attributes = vec![NeighbourAttribute::Destination(address.into())];
        let request = RouteNetlinkMessage::GetNeighbour(message);
        match self.request(what, request, 0) {
            Ok(found) => Ok(found.iter().find_map(permanent)),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The permanent neighbours of the namespace, both families.
    ///
    /// # Errors
    /// Those of the request; a list that changed meanwhile is read again.
    pub fn permanent_neighbours(&self) -> Result<Vec<Neighbour>, NetlinkError> {
        let what = || {
            format!(
                "list neighbours in network namespace {}",
                self.netns().name()
            )
        };
        let mut neighbours = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = NeighbourMessage::default();
            message.header.family = family;
            let request = RouteNetlinkMessage::GetNeighbour(message);
            let found = self.dump(what, request)?;
            neighbours.extend(found.iter().filter_map(permanent));
        }
        Ok(neighbours)
    }
}

fn permanent(message: &RouteNetlinkMessage) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else {
        return None;
    };
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                address = Some(IpAddr::V4(*ip));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                address = Some(IpAddr::V6(*ip));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.as_slice().try_into().ok().map(Mac);
            }
            _ => {}
        }
    }
    Some(Neighbour {
        link: message.header.ifindex,
        address: address?,
        mac: mac?,
    })
}
