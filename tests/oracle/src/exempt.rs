//! §2: traffic that no group filters, by name. It looks at no rule and no connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    environment::{Eni, Environment},
    judgement::Step,
    packet::{Arp, Direction, Fragment, Ip, Transport},
};

const IMDS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    ec2_ipv6(0x254),
];

const RESOLVERS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 253)),
    ec2_ipv6(0x253),
];

/// Time Sync, task metadata, Windows activation.
const SERVICES: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 123)),
    ec2_ipv6(0x123),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 250)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 251)),
    ec2_ipv6(0x250),
];

const DNS: u16 = 53;

/// An address in `fd00:ec2::/64`.
const fn ec2_ipv6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, last))
}

/// Whether the peer is instance metadata.
#[must_use]
pub fn is_imds(peer: IpAddr) -> bool {
    IMDS.contains(&peer)
}

/// What exempts traffic with the peer: its address alone, or a resolver's address and port 53.
///
/// A later fragment carries no port, so only an address can exempt it.
#[must_use]
pub fn service(environment: &Environment, direction: Direction, packet: &Ip) -> Option<Step> {
    let peer = packet.remote(direction);
    if is_imds(peer) {
        return Some(Step::Imds);
    }
    if SERVICES.contains(&peer) {
        return Some(Step::Service);
    }
    if environment.routers.contains(&peer) {
        return Some(Step::Router);
    }
    let is_resolver = RESOLVERS.contains(&peer) || environment.resolvers.contains(&peer);
    if is_resolver && packet.remote_port(direction) == Some(DNS) {
        return Some(Step::Resolver);
    }
    None
}

/// DHCP: UDP between ports 68 and 67, DHCPv6 between 546 and 547.
///
/// `[OWN]` A task is only ever a client: its packets go from the client's port to the server's and
/// come back the other way, and it sends from no address, its own or its link-local one. Anything
/// else goes to the rules.
#[must_use]
pub fn is_dhcp(eni: &Eni, direction: Direction, packet: &Ip) -> bool {
    let Transport::Udp {
        source_port,
        destination_port,
    } = packet.transport
    else {
        return false;
    };
    let (client, server) = match direction {
        Direction::Egress => (source_port, destination_port),
        Direction::Ingress => (destination_port, source_port),
    };
    if (client, server) != (68, 67) && (client, server) != (546, 547) {
        return false;
    }
    match direction {
        Direction::Ingress => true,
        Direction::Egress => {
            packet.source == IpAddr::V4(Ipv4Addr::UNSPECIFIED) || eni.owns_on_link(packet.source)
        }
    }
}

/// IPv6 neighbour discovery: ICMPv6 133 to 136 with hop limit 255.
///
/// `[OWN]` Of a fragmented message the rules decide, as a host ignores it (RFC 6980 §5).
#[must_use]
pub fn is_neighbour_discovery(packet: &Ip) -> bool {
    packet.source.is_ipv6()
        && packet.hop_limit == 255
        && packet.fragment == Fragment::Whole
        && packet
            .icmp()
            .is_some_and(|icmp| (133..=136).contains(&icmp.icmp_type))
}

/// `[OWN]` Whether an ARP message may pass: what a task sends must speak for its own address, from
/// its own MAC address; a probe (RFC 5227) has no sender address and asks for its own.
#[must_use]
pub fn is_honest_arp(eni: &Eni, direction: Direction, arp: &Arp) -> bool {
    let is_own = |address: Ipv4Addr| eni.owns(IpAddr::V4(address));
    match direction {
        Direction::Ingress => true,
        Direction::Egress => {
            let is_probe = arp.sender.is_unspecified() && is_own(arp.target);
            arp.is_own_mac && (is_own(arp.sender) || is_probe)
        }
    }
}

/// `[OWN]` Whether a message of neighbour discovery may pass: a task speaks for its own addresses
/// only and is no router (RFC 4861 §4.1 to 4.4; a solicitation from `::` is RFC 4862's probe for an
/// address that the task is going to use).
#[must_use]
pub fn is_honest_neighbour(eni: &Eni, direction: Direction, packet: &Ip) -> bool {
    if direction == Direction::Ingress {
        return true;
    }
    let Some(icmp) = packet.icmp() else {
        return false;
    };
    let is_own = eni.owns_on_link(packet.source);
    let is_unspecified = packet.source.is_unspecified();
    let is_own_target = icmp
        .target
        .is_some_and(|target| eni.owns_on_link(IpAddr::V6(target)));
    match icmp.icmp_type {
        // Router solicitation.
        133 => is_own || is_unspecified,
        // Neighbour solicitation.
        135 => is_own || (is_unspecified && is_own_target),
        // Neighbour advertisement.
        136 => is_own && is_own_target,
        // Router advertisement.
        _ => false,
    }
}
