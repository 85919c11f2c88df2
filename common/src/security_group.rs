//! Security groups: (rules, packet) to verdict, and what no group filters, by name.
//!
//! The rules of an ENI's groups are compiled by the agent into a *policy*: numbered rules, and for
//! each set of peers and each set of ports the bits of the rules that cover it. A packet is allowed
//! if some rule covers both its peer and its port: two longest-prefix lookups and one AND, however
//! many rules there are (the bit-vector scheme of Lakshman and Stiliadis, SIGCOMM 1998).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    flow::{Address, halves, is_icmp, is_neighbour_discovery, mapped},
    headers::{icmp, protocol, udp},
    maps::{Eni, is_same},
    parse::{Fragment, Packet},
    verdict::Direction,
};

/// Rules of one direction of one policy: AWS's largest quota is 1,000 for an ENI.
pub const MAX_RULES: usize = 1024;
const WORDS: usize = MAX_RULES / 64;

/// A set of rules, as bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RuleSet {
    words: [u64; WORDS],
}

impl Default for RuleSet {
    fn default() -> Self {
        Self { words: [0; WORDS] }
    }
}

impl RuleSet {
    /// Adds rule number `rule`, which is less than [`MAX_RULES`].
    pub fn insert(&mut self, rule: u16) {
        if let Some(word) = self.words.get_mut(usize::from(rule) / 64) {
            *word |= 1 << (rule % 64);
        }
    }

    /// The lowest rule that is in both sets.
    #[must_use]
    #[inline(always)]
    pub fn first_common(&self, other: &Self) -> Option<u16> {
        for index in 0..WORDS {
            let common = self.words[index] & other.words[index];
            if common != 0 {
                return Some((index * 64) as u16 + lowest_bit(common));
            }
        }
        None
    }
}

/// Index of the lowest bit of a word that is not 0; by halving, as the kernel's machine has no
/// instruction for it.
#[inline(always)]
const fn lowest_bit(word: u64) -> u16 {
    let mut word = word;
    let mut index = 0;
    if word as u32 == 0 {
        word >>= 32;
        index += 32;
    }
    if word as u16 == 0 {
        word >>= 16;
        index += 16;
    }
    if word as u8 == 0 {
        word >>= 8;
        index += 8;
    }
    if word & 0xf == 0 {
        word >>= 4;
        index += 4;
    }
    if word & 3 == 0 {
        word >>= 2;
        index += 2;
    }
    if word & 1 == 0 { index + 1 } else { index }
}

/// What rules compare with a port range: the destination port, of ICMP type and code, else 0.
#[must_use]
#[inline(always)]
pub const fn rule_port(packet: &Packet) -> u16 {
    if is_icmp(packet.protocol) {
        u16::from_be_bytes([packet.icmp_type, packet.icmp_code])
    } else {
        packet.destination_port
    }
}

/// A service of the VPC that lives at a link-local address, or at `fd00:ec2::` for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Instance metadata.
    Imds,
    /// The resolver, which counts on port 53 only.
    Resolver,
    /// Time sync, task metadata or licence activation.
    Other,
}

/// The service at `peer`, if there is one (`spec/security-groups.md` section 2).
#[must_use]
#[inline(always)]
pub const fn service(peer: &Address) -> Option<Service> {
    const EC2: u64 = u64::from_ne_bytes([0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0]);
    let (high, low) = halves(peer);
    if high == EC2 {
        return match u64::from_be(low) {
            0x0254 => Some(Service::Imds),
            0x0253 => Some(Service::Resolver),
            0x0123 | 0x0250 => Some(Service::Other),
            _ => None,
        };
    }
    if high != 0 {
        return None;
    }
    match low {
        LOCAL_IMDS => Some(Service::Imds),
        LOCAL_RESOLVER => Some(Service::Resolver),
        TIME_SYNC | TASK_METADATA | ACTIVATION | ACTIVATION_2 => Some(Service::Other),
        _ => None,
    }
}

const LOCAL_IMDS: u64 = low_half([169, 254, 169, 254]);
const LOCAL_RESOLVER: u64 = low_half([169, 254, 169, 253]);
const TIME_SYNC: u64 = low_half([169, 254, 169, 123]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_common_rule_is_found_in_every_word() {
        for rule in [0_u16, 1, 31, 32, 63, 64, 517, 1023] {
            let mut set = RuleSet::default();
            set.insert(rule);
            let mut other = set;
            other.insert(1023);
            set.insert(1023);
            assert_eq!(set.first_common(&other), Some(rule));
        }
        let mut odd = RuleSet::default();
        odd.insert(3);
        let mut even = RuleSet::default();
        even.insert(4);
        assert_eq!(odd.first_common(&even), None);
    }

    #[test]
    fn the_lowest_bit_of_every_single_bit_is_its_index() {
        for bit in 0..64 {
            assert_eq!(lowest_bit(1 << bit), bit);
            assert_eq!(lowest_bit(u64::MAX << bit), bit);
        }
    }

    #[test]
    fn services_are_known_by_both_of_their_addresses() {
        let ec2 = |low: [u8; 2]| {
            let mut address = [0; 16];
            address[..4].copy_from_slice(&[0xfd, 0, 0x0e, 0xc2]);
            address[14..].copy_from_slice(&low);
            address
        };
        let rows = [
            (ec2([0x02, 0x54]), Some(Service::Imds)),
            (mapped([169, 254, 169, 254]), Some(Service::Imds)),
            (ec2([0x02, 0x53]), Some(Service::Resolver)),
            (mapped([169, 254, 169, 253]), Some(Service::Resolver)),
            (ec2([0x01, 0x23]), Some(Service::Other)),
            (mapped([169, 254, 170, 2]), Some(Service::Other)),
            (mapped([169, 254, 169, 123]), Some(Service::Other)),
            (mapped([169, 254, 169, 1]), None),
            (mapped([169, 253, 169, 254]), None),
            (ec2([0x03, 0x54]), None),
            ([0; 16], None),
        ];
        for (address, expected) in rows {
            assert_eq!(service(&address), expected, "{address:?}");
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
