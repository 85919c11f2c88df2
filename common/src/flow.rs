//! A flow's identity: which ENI, which two ends, which protocol.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    headers::{icmp, protocol},
    parse::Packet,
    verdict::Direction,
};

/// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2); network
/// order.
pub type Address = [u8; 16];

/// No address at all (`::`), where an ENI has none of a family.
pub const NO_ADDRESS: Address = [0; 16];

/// The mapped form of an IPv4 address.
#[must_use]
#[inline(always)]
pub const fn mapped(ipv4: [u8; 4]) -> Address {
    let [a, b, c, d] = ipv4;
    joined((0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])))
}

/// The IPv4 address of a mapped address; `None` for an IPv6 address.
#[must_use]
pub const fn unmapped(address: &Address) -> Option<[u8; 4]> {
    let [.., a, b, c, d] = *address;
    if is_ipv4(address) {
        Some([a, b, c, d])
    } else {
        None
    }
}

/// Whether the address is a mapped IPv4 address.
#[must_use]
#[inline(always)]
pub const fn is_ipv4(address: &Address) -> bool {
    const PREFIX: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
    let (high, low) = halves(address);
    let [p0, p1, p2, p3, ..] = low.to_ne_bytes();
    high == 0 && u32::from_ne_bytes([p0, p1, p2, p3]) == PREFIX
}

/// The address as two words in memory order, which the kernel's machine compares at once.
#[must_use]
#[inline(always)]
pub const fn halves(address: &Address) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *address;
    (
        u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        u64::from_ne_bytes(rest),
    )
}

/// The address of two words in memory order: [`halves`] and this copy an address in words, where
/// the compiler would move bytes.
#[must_use]
#[inline(always)]
pub const fn joined((high, low): (u64, u64)) -> Address {
    zerocopy::transmute!([high, low])
}

/// What the entry behind a [`FlowKey`] is: a connection, a row of packets that belong to none, or
/// a fragmented datagram.
pub mod kind {
    use crate::verdict::{Action, Direction};

    /// A tracked connection, both directions.
    pub const CONNECTION: u8 = 0;
    const ROW: u8 = 0x80;
    const FRAGMENT: u8 = 0x40;
    const ACTION_SHIFT: u8 = 1;
    const EGRESS: u8 = 0x01;

    /// The kind of a row of packets of one direction with one action.
    #[must_use]
    #[inline(always)]
    pub const fn row(direction: Direction, action: Action) -> u8 {
        ROW | direction as u8 | (action as u8) << ACTION_SHIFT
    }

    /// The kind of a fragmented datagram.
    #[must_use]
    #[inline(always)]
    pub const fn fragment(direction: Direction) -> u8 {
        FRAGMENT | direction as u8
    }

    /// Direction and action of a row's kind; `None` for any other.
    #[must_use]
    pub const fn of_row(kind: u8) -> Option<(Direction, Action)> {
        if kind & ROW == 0 {
            return None;
        }
        let action = match kind >> ACTION_SHIFT & 3 {
            0 => Action::Accepted,
            1 => Action::Rejected,
            _ => Action::Audited,
        };
        Some((Direction::from_byte(kind & EGRESS), action))
    }
}

/// A flow of one ENI, the same for both of its directions: 40 bytes without padding, hashed raw.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct FlowKey {
    /// The end on this ENI.
    pub local: Address,
    /// The other end.
    pub remote: Address,
    /// Host order; 0 where the protocol has no ports. Of an ICMP query: its identifier.
    pub local_port: u16,
    /// Host order; 0 where the protocol has no ports. Of an ICMP query: the request's type in the
    /// high byte and one more than the request's direction in the low byte, so that a task's own
    /// pings never answer for those sent to it.
    pub remote_port: u16,
    /// Slot of the ENI.
    pub eni: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// See [`kind`].
    pub kind: u8,
}
const _: () = assert!(size_of::<FlowKey>() == 40);

/// The ICMP request that a query type belongs to, and whether the type is the request itself;
/// `None` for a type outside the request and reply pairs (`spec/security-groups.md` section 5.5).
#[must_use]
#[inline(always)]
pub const fn icmp_query(protocol: u8, icmp_type: u8) -> Option<(u8, bool)> {
    match (protocol, icmp_type) {
        (protocol::ICMP, 8) => Some((8, true)),
        (protocol::ICMP, 0) => Some((8, false)),
        (protocol::ICMP, 13 | 15 | 17) => Some((icmp_type, true)),
        (protocol::ICMP, 14 | 16 | 18) => Some((icmp_type - 1, false)),
        (protocol::ICMPV6, 128 | 139) => Some((icmp_type, true)),
        (protocol::ICMPV6, 129 | 140) => Some((icmp_type - 1, false)),
        _ => None,
    }
}

/// Whether `protocol` is ICMP of either IP version.
#[must_use]
#[inline(always)]
pub const fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, protocol::ICMP | protocol::ICMPV6)
}

/// Whether an ICMP message reports an error about the packet that it quotes
/// (`spec/security-groups.md` section 6; redirects do not).
#[must_use]
#[inline(always)]
pub const fn is_icmp_error(protocol: u8, icmp_type: u8) -> bool {
    match protocol {
        protocol::ICMP => matches!(icmp_type, 3 | 4 | 11 | 12),
        protocol::ICMPV6 => matches!(icmp_type, 1..=4),
        _ => false,
    }
}

/// The number of a neighbour discovery message that is never filtered, types 133 to 136.
#[must_use]
#[inline(always)]
pub const fn is_neighbour_discovery(protocol: u8, icmp_type: u8) -> bool {
    protocol == protocol::ICMPV6
        && icmp_type >= icmp::ROUTER_SOLICITATION
        && icmp_type <= icmp::NEIGHBOUR_ADVERTISEMENT
}

/// The two port fields of a [`FlowKey`]: local, remote.
pub type Ports = (u16, u16);

impl FlowKey {
    /// The key of the connection that `packet` belongs to or would open.
    #[must_use]
    #[inline(always)]
    pub fn connection(packet: &Packet, direction: Direction, eni: u16) -> Self {
        let (local, remote) = match direction {
            Direction::Ingress => (&packet.destination, &packet.source),
            Direction::Egress => (&packet.source, &packet.destination),
        };
        let (local_port, remote_port) = match icmp_ports(packet, direction) {
            Some(ports) => ports,
            None => ports(packet, direction),
        };
        Self {
            local: joined(halves(local)),
            remote: joined(halves(remote)),
            local_port,
            remote_port,
            eni,
            protocol: packet.protocol,
            kind: kind::CONNECTION,
        }
    }

    /// Makes it the key of another kind between the same ends.
    #[inline(always)]
    pub const fn change(&mut self, kind: u8, (local_port, remote_port): Ports) {
        self.local_port = local_port;
        self.remote_port = remote_port;
        self.kind = kind;
    }
}

/// The ports of a packet as its ENI sees them.
#[must_use]
#[inline(always)]
pub const fn ports(packet: &Packet, direction: Direction) -> Ports {
    match direction {
        Direction::Ingress => (packet.destination_port, packet.source_port),
        Direction::Egress => (packet.source_port, packet.destination_port),
    }
}

/// The identification of a fragmented datagram, in place of ports.
#[must_use]
#[inline(always)]
pub const fn fragment_ports(packet: &Packet) -> Ports {
    (packet.fragment_id as u16, (packet.fragment_id >> 16) as u16)
}

#[inline(always)]
const fn icmp_ports(packet: &Packet, direction: Direction) -> Option<Ports> {
    if !is_icmp(packet.protocol) {
        return None;
    }
    Some(match icmp_query(packet.protocol, packet.icmp_type) {
        Some((request, is_request)) => {
            let asked = if is_request {
                direction
            } else {
                direction.opposite()
            };
            (
                packet.icmp_identifier,
                u16::from_be_bytes([request, asked as u8 + 1]),
            )
        }
        None => (0, 0),
    })
}
