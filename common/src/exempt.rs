//! What no security group filters, by name (`spec/security-groups.md` section 2).

use crate::{
    flow::{Address, halves, is_neighbour_discovery, mapped},
    headers::{icmp, protocol, tcp, udp},
    maps::{Eni, eni, is_same},
    parse::{Fragment, Packet},
    verdict::{Direction, Service},
};

/// What lives at a link-local address, or at `fd00:ec2::` for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// Instance metadata, time sync, or the resolver, which counts on port 53 only.
    Service(Service),
    /// Task metadata or licence activation.
    Other,
}

/// What lives at `peer`, if anything does (`spec/security-groups.md` section 2).
#[must_use]
#[inline(always)]
pub const fn reserved(peer: &Address) -> Option<Reserved> {
    const EC2: u64 = u64::from_ne_bytes([0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0]);
    let (high, low) = halves(peer);
    if high == EC2 {
        return match u64::from_be(low) {
            0x0254 => Some(METADATA),
            0x0253 => Some(DNS),
            0x0123 => Some(TIME_SYNC),
            0x0250 => Some(Reserved::Other),
            _ => None,
        };
    }
    if high != 0 {
        return None;
    }
    match low {
        LOCAL_IMDS => Some(METADATA),
        LOCAL_RESOLVER => Some(DNS),
        LOCAL_TIME_SYNC => Some(TIME_SYNC),
        TASK_METADATA | ACTIVATION | ACTIVATION_2 => Some(Reserved::Other),
        _ => None,
    }
}

const METADATA: Reserved = Reserved::Service(Service::Metadata);
const DNS: Reserved = Reserved::Service(Service::Dns);
const TIME_SYNC: Reserved = Reserved::Service(Service::TimeSync);

const LOCAL_IMDS: u64 = low_half([169, 254, 169, 254]);
const LOCAL_RESOLVER: u64 = low_half([169, 254, 169, 253]);
const LOCAL_TIME_SYNC: u64 = low_half([169, 254, 169, 123]);
const TASK_METADATA: u64 = low_half([169, 254, 170, 2]);
const ACTIVATION: u64 = low_half([169, 254, 169, 250]);
const ACTIVATION_2: u64 = low_half([169, 254, 169, 251]);

const fn low_half(ipv4: [u8; 4]) -> u64 {
    halves(&mapped(ipv4)).1
}

/// Neighbour discovery: ICMPv6 133 to 136 that was never forwarded (RFC 4861 section 7.1).
#[must_use]
#[inline(always)]
pub fn is_neighbour(packet: &Packet) -> bool {
    is_neighbour_discovery(packet.protocol, packet.icmp_type)
        && packet.hop_limit == icmp::NEIGHBOUR_HOP_LIMIT
        && packet.fragment == Fragment::Whole
}

/// DHCP and DHCPv6 between a client in the task and the VPC's server; the other way round the
/// rules decide. The client sends from no address, its own or its link-local one.
#[must_use]
#[inline(always)]
pub const fn is_dhcp(eni: &Eni, packet: &Packet, direction: Direction) -> bool {
    const NO_IPV4: Address = mapped([0; 4]);
    const SERVER: u16 = udp::DHCP[0];
    const CLIENT: u16 = udp::DHCP[1];
    const CLIENT_V6: u16 = udp::DHCPV6[0];
    const SERVER_V6: u16 = udp::DHCPV6[1];
    if packet.protocol != protocol::UDP {
        return false;
    }
    let (client, server) = match direction {
        Direction::Egress => (packet.source_port, packet.destination_port),
        Direction::Ingress => (packet.destination_port, packet.source_port),
    };
    if !matches!((client, server), (CLIENT, SERVER) | (CLIENT_V6, SERVER_V6)) {
        return false;
    }
    match direction {
        Direction::Ingress => true,
        Direction::Egress => {
            eni.owns(&packet.source)
                || is_same(&packet.source, &eni.link_local)
                || is_same(&packet.source, &NO_IPV4)
        }
    }
}

/// Whether `peer` is the subnet's router, with which all traffic is exempt.
#[must_use]
#[inline(always)]
pub const fn is_router(eni: &Eni, peer: &Address) -> bool {
    is_same(peer, &eni.router_ipv4) || is_same(peer, &eni.router_ipv6)
}

/// Whether `peer_port` is where a resolver listens. A later fragment has no port, so never is.
#[must_use]
#[inline(always)]
pub const fn is_dns(protocol: u8, peer_port: u16) -> bool {
    peer_port == udp::DNS && matches!(protocol, protocol::TCP | protocol::UDP)
}

/// Whether `peer` is a resolver of the VPC.
#[must_use]
#[inline(always)]
pub const fn is_resolver(eni: &Eni, peer: &Address) -> bool {
    let [first, second, third, fourth] = &eni.resolvers;
    is_same(peer, first) || is_same(peer, second) || is_same(peer, third) || is_same(peer, fourth)
}

/// The service at `peer` for which an exempt packet that is no DHCP passes, if it is one that flow
/// logs know.
#[must_use]
#[inline(always)]
pub const fn service(eni: &Eni, peer: &Address) -> Option<Service> {
    match reserved(peer) {
        Some(Reserved::Service(service)) => Some(service),
        Some(Reserved::Other) => None,
        None if is_resolver(eni, peer) => Some(Service::Dns),
        None => None,
    }
}

/// Whether `peer` is the task metadata service, and `own` the address from which a task that has no
/// IPv4 address of its own asks it.
#[must_use]
#[inline(always)]
pub const fn is_metadata_source(eni: &Eni, own: &Address, peer: &Address) -> bool {
    is_task_metadata(peer) && is_same(own, &eni.metadata_source)
}

/// Whether this host itself serves what an exempt packet of a task asks for: task metadata, or DNS
/// where it is this host's. Only from the ENI's own address, whatever its source/destination check
/// says: the service knows the task by it. A later fragment has no port, so is never served.
#[must_use]
#[inline(always)]
pub const fn is_hosted(eni: &Eni, packet: &Packet) -> bool {
    let (own, peer) = (&packet.source, &packet.destination);
    if eni.services_ifindex == 0 || matches!(packet.fragment, Fragment::Later) {
        return false;
    }
    let (protocol, port) = (packet.protocol, packet.destination_port);
    if is_task_metadata(peer) {
        let is_own = eni.owns(own) || is_same(own, &eni.metadata_source);
        return is_own && protocol == protocol::TCP && port == tcp::HTTP;
    }
    eni.has(eni::HOSTED_DNS)
        && is_dns(protocol, port)
        && eni.owns(own)
        && matches!(service(eni, peer), Some(Service::Dns))
}

#[inline(always)]
const fn is_task_metadata(peer: &Address) -> bool {
    let (high, low) = halves(peer);
    high == 0 && low == TASK_METADATA
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_known_by_both_of_their_addresses() {
        let ec2 = |low: [u8; 2]| {
            let mut address = [0; 16];
            address[..4].copy_from_slice(&[0xfd, 0, 0x0e, 0xc2]);
            address[14..].copy_from_slice(&low);
            address
        };
        let rows = [
            (ec2([0x02, 0x54]), Some(METADATA)),
            (mapped([169, 254, 169, 254]), Some(METADATA)),
            (ec2([0x02, 0x53]), Some(DNS)),
            (mapped([169, 254, 169, 253]), Some(DNS)),
            (ec2([0x01, 0x23]), Some(TIME_SYNC)),
            (ec2([0x02, 0x50]), Some(Reserved::Other)),
            (mapped([169, 254, 170, 2]), Some(Reserved::Other)),
            (mapped([169, 254, 169, 123]), Some(TIME_SYNC)),
            (mapped([169, 254, 169, 1]), None),
            (mapped([169, 253, 169, 254]), None),
            (ec2([0x03, 0x54]), None),
            ([0; 16], None),
        ];
        for (address, expected) in rows {
            assert_eq!(reserved(&address), expected, "{address:?}");
        }
    }

    #[test]
    fn an_eni_without_a_router_or_resolver_exempts_nothing_by_the_unspecified_address() {
        // `::` stands for "none" in the ENI; a packet from `::` must not match it.
        let eni = Eni::default();
        assert!(!is_router(&eni, &[0; 16]) && !is_resolver(&eni, &[0; 16]));
        assert!(!eni.owns(&[0; 16]));
    }
}
