//! The local VPC's router: where a frame from a trunk goes next, and what it answers itself.
//!
//! Pure: the program moves the frame, the agent fills the tables.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    flow::Address,
    headers::{arp, ethernet, icmp, ipv6, protocol, udp},
};

/// The slot of the VPC's router: in [`ENIS`](crate::maps::name::ENIS) for its MAC address, in
/// [`ADDRESSES`](crate::maps::name::ADDRESSES) behind the router address of every subnet.
pub const ROUTER: u32 = 0;

/// Value of [`ROUTES`](crate::maps::name::ROUTES): what a destination prefix leads to.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Route {
    /// One of [`target`].
    pub target: u32,
}

/// Values of [`Route::target`].
pub mod target {
    /// The VPC itself: only its ENIs' addresses exist.
    pub const LOCAL: u32 = 1;
    /// The NAT gateway, or for IPv6 the egress-only gateway.
    pub const GATEWAY: u32 = 2;
    /// Nothing.
    pub const BLACKHOLE: u32 = 3;
}

/// Whether a packet with these ports is of DHCP, which no group filters: a VPC carries only that of its
/// own server, so that no ENI plays server for another, and none sends by it what its groups forbid.
#[must_use]
#[inline(always)]
pub const fn is_dhcp(protocol: u8, source_port: u16, destination_port: u16) -> bool {
    const DHCP: [u16; 2] = udp::DHCP;
    const DHCPV6: [u16; 2] = udp::DHCPV6;
    const fn are(one: u16, other: u16, ports: [u16; 2]) -> bool {
        let [a, b] = ports;
        (one == a && other == b) || (one == b && other == a)
    }
    protocol == protocol::UDP
        && (are(source_port, destination_port, DHCP) || are(source_port, destination_port, DHCPV6))
}

/// The reply that gives `mac` for the address that an ARP request asks for (RFC 826). The request
/// is one that a branch let pass.
#[must_use]
#[inline(always)]
pub fn arp_reply(request: &[u8; arp::LEN], mac: [u8; ethernet::MAC_LEN]) -> [u8; arp::LEN] {
    let mut reply = *request;
    reply[arp::OPERATION..arp::SENDER_MAC].copy_from_slice(&arp::REPLY);
    reply[arp::SENDER_MAC..arp::SENDER_IP].copy_from_slice(&mac);
    reply[arp::SENDER_IP..arp::TARGET_MAC].copy_from_slice(&request[arp::TARGET_IP..arp::LEN]);
    reply[arp::TARGET_MAC..].copy_from_slice(&request[arp::SENDER_MAC..arp::TARGET_MAC]);
    reply
}

/// Bytes of a neighbour advertisement from its IPv6 header on: header, message, one option.
pub const ADVERTISEMENT_LEN: usize = ipv6::LEN + icmp::NEIGHBOUR_LEN + icmp::LINK_LAYER_OPTION_LEN;

/// The neighbour advertisement that gives `mac` for `target` to `asker` (RFC 4861 section 4.4:
/// solicited, overriding).
#[must_use]
#[inline(always)]
pub fn advertisement(
    target: &Address,
    asker: &Address,
    mac: [u8; ethernet::MAC_LEN],
) -> [u8; ADVERTISEMENT_LEN] {
    const MESSAGE_LEN: u8 = (ADVERTISEMENT_LEN - ipv6::LEN) as u8;
    const SOLICITED_OVERRIDE: u8 = 0x60;
    const TARGET_LINK_LAYER: u8 = 2;
    const OPTION: usize = ipv6::LEN + icmp::NEIGHBOUR_LEN;
    let mut out = [0; ADVERTISEMENT_LEN];
    out[0] = 0x60;
    out[ipv6::PAYLOAD_LENGTH + 1] = MESSAGE_LEN;
    out[ipv6::NEXT_HEADER] = protocol::ICMPV6;
    out[ipv6::HOP_LIMIT] = icmp::NEIGHBOUR_HOP_LIMIT;
    out[ipv6::SOURCE..ipv6::DESTINATION].copy_from_slice(target);
    out[ipv6::DESTINATION..ipv6::LEN].copy_from_slice(asker);
    out[ipv6::LEN] = icmp::NEIGHBOUR_ADVERTISEMENT;
    out[ipv6::LEN + 4] = SOLICITED_OVERRIDE;
    out[ipv6::LEN + icmp::NEIGHBOUR_TARGET..OPTION].copy_from_slice(target);
    out[OPTION] = TARGET_LINK_LAYER;
    out[OPTION + 1] = 1;
    out[OPTION + 2..].copy_from_slice(&mac);
    let checksum = checksum(&out, u32::from(MESSAGE_LEN) + u32::from(protocol::ICMPV6));
    out[ipv6::LEN + 2..ipv6::LEN + 4].copy_from_slice(&checksum.to_be_bytes());
    out
}

/// The ICMPv6 checksum (RFC 8200 section 8.1) of a message behind an IPv6 header: addresses and
/// message, plus what `start` holds of the pseudo-header.
#[inline(always)]
fn checksum(packet: &[u8; ADVERTISEMENT_LEN], start: u32) -> u16 {
    let mut sum = start;
    let mut at = ipv6::SOURCE;
    while at + 1 < ADVERTISEMENT_LEN {
        sum += u32::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        at += 2;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arp_reply_swaps_the_ends_and_fills_in_the_answer() {
        let request: [u8; arp::LEN] = [
            0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 4, 0, 0, 0, 0, 0, 0, 10, 0, 0, 5,
        ];
        let expected: [u8; arp::LEN] = [
            0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 9, 10, 0, 0, 5, 2, 0, 0, 0, 0, 1, 10, 0, 0, 4,
        ];
        assert_eq!(arp_reply(&request, [2, 0, 0, 0, 0, 9]), expected);
    }

    #[test]
    fn dhcp_is_between_its_two_ports_either_way() {
        for (source, destination, expected) in [
            (67, 68, true),
            (68, 67, true),
            (546, 547, true),
            (547, 546, true),
            (67, 67, false),
            (68, 546, false),
            (67, 547, false),
            (0, 0, false),
        ] {
            assert_eq!(is_dhcp(protocol::UDP, source, destination), expected);
            assert!(!is_dhcp(protocol::TCP, source, destination));
        }
    }

    #[test]
    fn an_advertisement_sums_to_all_ones() {
        let mut target = [0xfd; 16];
        target[15] = 7;
        let asker = [0xfe; 16];
        let packet = advertisement(&target, &asker, [2, 0, 0, 0, 0, 9]);
        let mut sum = 32 + u32::from(protocol::ICMPV6);
        for pair in packet[ipv6::SOURCE..].chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        assert_eq!(sum, 0xffff);
        assert_eq!(&packet[ipv6::LEN..ipv6::LEN + 2], &[136, 0]);
    }
}
