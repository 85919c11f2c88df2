//! A packet as decoded headers. It judges nothing but whether the headers contradict each other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IANA number of ICMP for IPv4.
pub const ICMP: u8 = 1;
/// IANA number of TCP.
pub const TCP: u8 = 6;
/// IANA number of UDP.
pub const UDP: u8 = 17;
/// IANA number of ICMP for IPv6.
pub const ICMPV6: u8 = 58;

/// Which way a packet goes, seen from the ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the ENI.
    Ingress,
    /// From the ENI.
    Egress,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }

    /// As the EC2 API and the flow log write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// What arrives at an ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// EtherType 0x0806.
    Arp(Arp),
    /// IPv4 or IPv6.
    Ip(Ip),
}

/// An ARP message for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Whether the sender's hardware address is the ENI's.
    pub is_own_mac: bool,
    /// The sender's protocol address.
    pub sender: Ipv4Addr,
    /// The target's protocol address.
    pub target: Ipv4Addr,
}

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// IANA number of the protocol behind all extension headers.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// Which part of a datagram it carries.
    pub fragment: Fragment,
    /// The header behind IP.
    pub transport: Transport,
}

/// Which part of a datagram a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// Its start, with the transport header; more follows.
    First {
        /// Identification of the datagram.
        id: u32,
    },
    /// A later part, without a transport header.
    Later {
        /// Identification of the datagram.
        id: u32,
        /// Where the part starts, in bytes.
        offset: u16,
    },
}

/// The header behind IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
    },
    /// ICMP or ICMPv6.
    Icmp(Icmp),
    /// None that is read: another protocol, or a later fragment.
    Other,
}

/// A TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Control bit SYN.
    pub syn: bool,
    /// Control bit ACK.
    pub ack: bool,
    /// Control bit FIN.
    pub fin: bool,
    /// Control bit RST.
    pub rst: bool,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number; counts with the control bit ACK only.
    pub acknowledgment: u32,
    /// Bytes of data in this packet.
    pub data: u32,
}

impl Tcp {
    /// A SYN that asks for a new connection: without ACK, FIN and RST.
    #[must_use]
    pub const fn is_bare_syn(&self) -> bool {
        self.syn && !self.ack && !self.fin && !self.rst
    }

    /// The sequence numbers that it takes up: its data, and one each for SYN and FIN (RFC 9293 §3.4).
    #[must_use]
    pub fn length(&self) -> u32 {
        self.data
            .wrapping_add(u32::from(self.syn))
            .wrapping_add(u32::from(self.fin))
    }
}

/// An ICMP or ICMPv6 message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub icmp_type: u8,
    /// Code.
    pub code: u8,
    /// Identifier of a query.
    pub identifier: u16,
    /// The packet that an error quotes, if at least 8 bytes of its transport header are there. Of
    /// those, TCP flags and sequence numbers need not be right.
    pub quoted: Option<Box<Ip>>,
    /// The target address of a neighbour solicitation or advertisement.
    pub target: Option<Ipv6Addr>,
}

impl Ip {
    /// Whether the headers contradict each other. Such a packet is dropped and not logged. `[OWN]`
    ///
    /// - A mapped IPv4 address in an IPv6 header is forged (RFC 4291 §2.5.5.2 keeps it off the wire).
    /// - ICMPv6 is of IPv6 only and ICMP of IPv4 only.
    /// - The transport header is not the protocol's: it is cut off (§7).
    /// - A TCP fragment of IPv4 that starts at byte 8 would hide the flags of the first one (§7).
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        let is_mapped = |address: &IpAddr| match address {
            IpAddr::V4(_) => false,
            IpAddr::V6(address) => address.to_ipv4_mapped().is_some(),
        };
        let is_icmp_of_other_family = match self.source {
            IpAddr::V4(_) => self.protocol == ICMPV6,
            IpAddr::V6(_) => self.protocol == ICMP,
        };
        let is_later = matches!(self.fragment, Fragment::Later { .. });
        let is_cut = match (&self.transport, self.protocol) {
            (Transport::Tcp(_), TCP)
            | (Transport::Udp { .. }, UDP)
            | (Transport::Icmp(_), ICMP | ICMPV6) => is_later,
            (Transport::Other, TCP | UDP | ICMP | ICMPV6) => !is_later,
            (Transport::Other, _) => false,
            (Transport::Tcp(_) | Transport::Udp { .. } | Transport::Icmp(_), _) => true,
        };
        let is_tiny = self.source.is_ipv4()
            && self.protocol == TCP
            && matches!(self.fragment, Fragment::Later { offset, .. } if offset / 8 == 1);
        self.source.is_ipv4() != self.destination.is_ipv4()
            || is_mapped(&self.source)
            || is_mapped(&self.destination)
            || is_icmp_of_other_family
            || is_cut
            || is_tiny
    }

    /// Source and destination port; `None` if it carries none.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match &self.transport {
            Transport::Tcp(tcp) => Some((tcp.source_port, tcp.destination_port)),
            Transport::Udp {
                source_port,
                destination_port,
            } => Some((*source_port, *destination_port)),
            Transport::Icmp(_) | Transport::Other => None,
        }
    }

    /// The end on the ENI: of ingress the destination, of egress the source.
    #[must_use]
    pub const fn local(&self, direction: Direction) -> IpAddr {
        match direction {
            Direction::Ingress => self.destination,
            Direction::Egress => self.source,
        }
    }

    /// The other end, the peer.
    #[must_use]
    pub const fn remote(&self, direction: Direction) -> IpAddr {
        self.local(direction.opposite())
    }

    /// The peer's port; `None` if the packet carries none.
    #[must_use]
    pub fn remote_port(&self, direction: Direction) -> Option<u16> {
        self.ports().map(|(source, destination)| match direction {
            Direction::Ingress => source,
            Direction::Egress => destination,
        })
    }

    /// Its TCP header, if it has one.
    #[must_use]
    pub const fn tcp(&self) -> Option<&Tcp> {
        match &self.transport {
            Transport::Tcp(tcp) => Some(tcp),
            Transport::Udp { .. } | Transport::Icmp(_) | Transport::Other => None,
        }
    }

    /// Its ICMP header, if it has one.
    #[must_use]
    pub const fn icmp(&self) -> Option<&Icmp> {
        match &self.transport {
            Transport::Icmp(icmp) => Some(icmp),
            Transport::Tcp(_) | Transport::Udp { .. } | Transport::Other => None,
        }
    }
}
