//! What a row says of the other end: the ENI that is there, and the AWS service that it belongs to.
//!
//! Pure. Never says what it does not know: an address that two ENIs had in one window is nobody's.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use branchline_common::verdict::Direction;

use super::ip_ranges::IpRanges;
use super::row::{Content, Row};
use crate::flows::{FlowTuple, Interface};

/// The ENIs of one window by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers(HashMap<IpAddr, Peer>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Peer {
    One(Arc<Interface>),
    /// Several, one after another.
    Several,
}

impl Peers {
    /// Takes in an ENI that was there in a part of the window.
    pub fn add(&mut self, interface: &Arc<Interface>) {
        let ipv4 = interface.primary_ipv4.map(IpAddr::V4);
        let ipv6 = interface.ipv6.map(IpAddr::V6);
        for address in ipv4.into_iter().chain(ipv6) {
            let peer = Peer::One(Arc::clone(interface));
            match self.0.entry(address) {
                Entry::Vacant(entry) => drop(entry.insert(peer)),
                Entry::Occupied(mut entry) => {
                    let is_same = matches!(entry.get(), Peer::One(other)
                        if other.interface_id == interface.interface_id);
                    // What was known last is what rows say.
                    entry.insert(if is_same { peer } else { Peer::Several });
                }
            }
        }
    }

    /// The ENI of the same VPC at the other end of a flow of `interface`.
    fn of(&self, interface: &Interface, tuple: &FlowTuple) -> Option<&Interface> {
        let address = match tuple.direction {
            Direction::Ingress => tuple.src,
            Direction::Egress => tuple.dst,
        };
        match self.0.get(&address)? {
            Peer::One(peer) => Some(&**peer).filter(|peer| peer.vpc_id == interface.vpc_id),
            Peer::Several => None,
        }
    }
}

/// What is around the ENIs of a log.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The ENIs that are known.
    pub peers: &'a Peers,
    /// AWS's networks.
    pub ip_ranges: &'a IpRanges,
}

impl<'a> Surroundings<'a> {
    /// The row with what is known of its flow's ends.
    #[must_use]
    pub fn complete(&self, row: Row<'a>) -> Row<'a> {
        let Content::Ok(tuple, _) = row.content else {
            return row;
        };
        let service = |address| self.ip_ranges.service(address);
        Row {
            peer: self.peers.of(row.interface, tuple),
            aws_services: (service(tuple.src), service(tuple.dst)),
            ..row
        }
    }
}

#[cfg(test)]
#[path = "surroundings_tests.rs"]
mod tests;
