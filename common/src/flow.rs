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
    use crate::verdict::{Action, Direction, DropReason, Service};

    /// A tracked connection, both directions.
    pub const CONNECTION: u8 = 0;
    const ROW: u8 = 0x80;
    const FRAGMENT: u8 = 0x40;
    const ACTION_SHIFT: u8 = 1;
    const CODE_SHIFT: u8 = 3;
    const CODE: u8 = 7;
    const EGRESS: u8 = 0x01;
    /// What a reason's code is less than its number: the logged ones follow on one another, and 0
    /// is no reason, as in rows of programs that told none.
    const REASON_BASE: u8 = DropReason::NoRule as u8 - 1;

    /// What the packets of a row have in common besides their ends.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RowKind {
        /// Their direction.
        pub direction: Direction,
        /// What became of them.
        pub action: Action,
        /// Why they were rejected; `None` for others.
        pub drop_reason: Option<DropReason>,
        /// The service that they passed as exempt for; `None` for others.
        pub service: Option<Service>,
    }

    /// The kind of a row of packets of one direction with one action, of which no more is told.
    #[must_use]
    #[inline(always)]
    pub const fn row(direction: Direction, action: Action) -> u8 {
        ROW | direction as u8 | (action as u8) << ACTION_SHIFT
    }

    /// The kind of a row of packets that were rejected for a reason that is logged.
    #[must_use]
    #[inline(always)]
    pub const fn rejected(direction: Direction, reason: DropReason) -> u8 {
        let code = (reason as u8).wrapping_sub(REASON_BASE) & CODE;
        row(direction, Action::Rejected) | code << CODE_SHIFT
    }

    /// The kind of a row of exempt packets of a service.
    #[must_use]
    #[inline(always)]
    pub const fn service(direction: Direction, service: Service) -> u8 {
        row(direction, Action::Accepted) | (service as u8) << CODE_SHIFT
    }

    /// The kind of a fragmented datagram.
    #[must_use]
    #[inline(always)]
    pub const fn fragment(direction: Direction) -> u8 {
        FRAGMENT | direction as u8
    }

    /// What a row's kind says; `None` for any other.
    #[must_use]
    pub fn of_row(kind: u8) -> Option<RowKind> {
        if kind & ROW == 0 {
            return None;
        }
        let code = kind >> CODE_SHIFT & CODE;
        let (action, drop_reason, service) = match kind >> ACTION_SHIFT & 3 {
            0 => (Action::Accepted, None, Service::from_number(code)),
            1 => (Action::Rejected, reason(code), None),
            _ => (Action::Audited, None, None),
        };
        Some(RowKind {
            direction: Direction::from_byte(kind & EGRESS),
            action,
            drop_reason,
            service,
        })
    }

    fn reason(code: u8) -> Option<DropReason> {
        let reason = DropReason::from_number(code + REASON_BASE);
        reason.filter(|reason| reason.is_logged())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Action, DropReason, Service};

    #[test]
    fn a_rows_kind_tells_direction_action_logged_reason_and_service() {
        for direction in [Direction::Ingress, Direction::Egress] {
            for reason in DropReason::ALL.into_iter().filter(|one| one.is_logged()) {
                let expected = kind::RowKind {
                    direction,
                    action: Action::Rejected,
                    drop_reason: Some(reason),
                    service: None,
                };
                assert_eq!(
                    kind::of_row(kind::rejected(direction, reason)),
                    Some(expected)
                );
            }
            for service in Service::ALL {
                let expected = kind::RowKind {
                    direction,
                    action: Action::Accepted,
                    drop_reason: None,
                    service: Some(service),
                };
                assert_eq!(
                    kind::of_row(kind::service(direction, service)),
                    Some(expected)
                );
            }
            for action in [Action::Accepted, Action::Rejected, Action::Audited] {
                let expected = kind::RowKind {
                    direction,
                    action,
                    drop_reason: None,
                    service: None,
                };
                assert_eq!(kind::of_row(kind::row(direction, action)), Some(expected));
            }
        }
        assert_eq!(kind::of_row(kind::CONNECTION), None);
        assert_eq!(kind::of_row(kind::fragment(Direction::Egress)), None);
    }
}
