//! IP packets from their network header on, right or wrong in one chosen place.
//!
//! Lengths and checksums are right unless a test sets them. It knows no Ethernet and judges nothing.

use std::net::{IpAddr, SocketAddr};

use branchline_common::headers::{
    icmp, ipv4, ipv6, protocol, tcp as tcp_header, udp as udp_header,
};
use bytes::{BufMut, Bytes, BytesMut};

/// How the transport header is completed once all is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Icmp,
    /// As it is: another protocol, or a later fragment.
    Raw,
}

/// An IP packet under construction.
#[derive(Clone, Debug)]
pub struct Packet {
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    protocol: u8,
    kind: Kind,
    transport: BytesMut,
    /// IPv4 options.
    options: Vec<u8>,
    /// IPv4 identification, and flags with offset.
    fragment: (u16, u16),
    /// IPv6 extension headers: number and content without the first byte.
    extensions: Vec<(u8, Vec<u8>)>,
    version_ihl: Option<u8>,
    length: Option<u16>,
    cut: Option<usize>,
    padding: usize,
}

/// A TCP segment without data between two ends such as `10.0.1.10:80` or `[2001:db8::1]:80`.
#[must_use]
pub fn tcp(from: &str, to: &str, flags: u8) -> Packet {
    let (from, to) = (end(from), end(to));
    let mut header = BytesMut::with_capacity(tcp_header::MIN_LEN);
    header.put_u16(from.port());
    header.put_u16(to.port());
    header.put_u32(0x1234_5678);
    header.put_u32(0x0bad_cafe);
    header.put_u8(5 << 4);
    header.put_u8(flags);
    header.put_u16(0xffff);
    header.put_u32(0);
    Packet::new(from.ip(), to.ip(), protocol::TCP, Kind::Tcp, header)
}

/// A UDP datagram without data between two ends.
#[must_use]
pub fn udp(from: &str, to: &str) -> Packet {
    let (from, to) = (end(from), end(to));
    let mut header = BytesMut::with_capacity(udp_header::LEN);
    header.put_u16(from.port());
    header.put_u16(to.port());
    header.put_u32(0);
    Packet::new(from.ip(), to.ip(), protocol::UDP, Kind::Udp, header)
}

/// An ICMP or ICMPv6 message of 8 bytes, as the addresses have it.
#[must_use]
pub fn icmp(from: &str, to: &str, icmp_type: u8, code: u8, identifier: u16) -> Packet {
    let (from, to) = (address(from), address(to));
    let mut header = BytesMut::with_capacity(icmp::LEN);
    header.put_u8(icmp_type);
    header.put_u8(code);
    header.put_u16(0);
    header.put_u16(identifier);
    header.put_u16(1);
    let protocol = if from.is_ipv4() {
        protocol::ICMP
    } else {
        protocol::ICMPV6
    };
    Packet::new(from, to, protocol, Kind::Icmp, header)
}

/// An ICMP error that quotes the first `len` bytes of `packet`.
#[must_use]
pub fn icmp_error(
    from: &str,
    to: &str,
    (icmp_type, code): (u8, u8),
    packet: &Packet,
    len: usize,
) -> Packet {
    let quoted = packet.bytes();
    let mut error = icmp(from, to, icmp_type, code, 0);
    error.transport.put_slice(&quoted[..len.min(quoted.len())]);
    error
}

/// A neighbour discovery message for `target`, with the link-layer address option if there is a MAC
/// address, and hop limit 255.
#[must_use]
pub fn neighbour(
    from: &str,
    to: &str,
    icmp_type: u8,
    target: &str,
    mac: Option<[u8; 6]>,
) -> Packet {
    let mut message = icmp(from, to, icmp_type, 0, 0).hop_limit(icmp::NEIGHBOUR_HOP_LIMIT);
    message.transport.truncate(icmp::IDENTIFIER);
    message.transport.put_u32(0);
    message.transport.put_slice(&octets(address(target)));
    if let Some(mac) = mac {
        let kind = if icmp_type == icmp::NEIGHBOUR_ADVERTISEMENT {
            2
        } else {
            1
        };
        message.transport.put_slice(&[kind, 1]);
        message.transport.put_slice(&mac);
    }
    message
}

/// `len` bytes of any protocol, which may be a later fragment of one that has a header.
#[must_use]
pub fn raw(from: &str, to: &str, protocol: u8, len: usize) -> Packet {
    let packet = Packet::new(
        address(from),
        address(to),
        protocol,
        Kind::Raw,
        BytesMut::new(),
    );
    packet.data(len)
}

impl Packet {
    fn new(
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        kind: Kind,
        transport: BytesMut,
    ) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "one IP version");
        Self {
            source,
            destination,
            hop_limit: 64,
            protocol,
            kind,
            transport,
            options: Vec::new(),
            fragment: (0, 0),
            extensions: Vec::new(),
            version_ihl: None,
            length: None,
            cut: None,
            padding: 0,
        }
    }

    /// Appends `len` bytes of data.
    #[must_use]
    pub fn data(mut self, len: usize) -> Self {
        let pattern = (0..len).map(|index| (index % 251) as u8);
        self.transport.extend(pattern);
        self
    }

    /// Sets time to live or hop limit.
    #[must_use]
    pub fn hop_limit(mut self, hop_limit: u8) -> Self {
        self.hop_limit = hop_limit;
        self
    }

    /// Adds `words` words of IPv4 options: no-operations.
    #[must_use]
    pub fn options(mut self, words: usize) -> Self {
        self.options = vec![1; words * 4];
        self
    }

    /// Sets the IPv4 options, whole words of bytes.
    #[must_use]
    pub fn option_bytes(mut self, bytes: &[u8]) -> Self {
        self.options = bytes.to_vec();
        self
    }

    /// Adds an IPv6 extension header of 8 bytes and `units` times 8 more.
    #[must_use]
    pub fn extension(mut self, number: u8, units: u8) -> Self {
        let mut content = vec![units];
        // Options: PadN that fills the header. A routing header reads it as type 1, no segments.
        let rest = 6 + 8 * usize::from(units);
        content.push(1);
        content.push((rest - 2).min(255) as u8);
        content.resize(1 + rest, 0);
        self.extensions.push((number, content));
        self
    }

    /// Makes it a fragment: `offset` in bytes, `more` if it is not the last. In IPv6 the header goes
    /// behind the extensions added so far.
    #[must_use]
    pub fn fragment(mut self, id: u32, offset: u16, more: bool) -> Self {
        if self.source.is_ipv4() {
            let more = if more { ipv4::MORE_FRAGMENTS } else { 0 };
            self.fragment = (id as u16, (offset / 8) | more);
        } else {
            let mut content = vec![0];
            content.put_u16((offset & ipv6::OFFSET_MASK) | u16::from(more));
            content.put_u32(id);
            self.extensions.push((ipv6::FRAGMENT, content));
        }
        self
    }

    /// Overwrites the first byte of the IP header.
    #[must_use]
    pub fn version_ihl(mut self, byte: u8) -> Self {
        self.version_ihl = Some(byte);
        self
    }

    /// Overwrites the total length (IPv4) or payload length (IPv6).
    #[must_use]
    pub fn length(mut self, length: u16) -> Self {
        self.length = Some(length);
        self
    }

    /// Sets the sequence and acknowledgment number of a TCP segment.
    #[must_use]
    pub fn numbers(mut self, sequence: u32, acknowledgment: u32) -> Self {
        self.transport[4..8].copy_from_slice(&sequence.to_be_bytes());
        self.transport[8..12].copy_from_slice(&acknowledgment.to_be_bytes());
        self
    }

    /// Overwrites a byte of the transport header.
    #[must_use]
    pub fn transport_byte(mut self, at: usize, byte: u8) -> Self {
        self.transport[at] = byte;
        self
    }

    /// Cuts the finished packet to `len` bytes; its headers still promise all.
    #[must_use]
    pub fn cut(mut self, len: usize) -> Self {
        self.cut = Some(len);
        self
    }

    /// Appends `len` bytes of link-layer padding behind the packet.
    #[must_use]
    pub fn padding(mut self, len: usize) -> Self {
        self.padding = len;
        self
    }

    /// Whether it is IPv4.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// The finished packet.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let transport = self.finished_transport();
        let mut packet = if self.is_ipv4() {
            self.ipv4(&transport)
        } else {
            self.ipv6(&transport)
        };
        if let Some(first) = self.version_ihl {
            packet[0] = first;
        }
        if let Some(len) = self.cut {
            packet.truncate(len);
        }
        packet.put_bytes(0, self.padding);
        packet.freeze()
    }

    fn finished_transport(&self) -> BytesMut {
        let mut transport = self.transport.clone();
        let at = match self.kind {
            Kind::Tcp => 16,
            Kind::Udp => {
                let len = transport.len() as u16;
                transport[4..6].copy_from_slice(&len.to_be_bytes());
                6
            }
            Kind::Icmp => 2,
            Kind::Raw => return transport,
        };
        let mut covered = BytesMut::new();
        if self.protocol != protocol::ICMP {
            covered.put_slice(&octets(self.source));
            covered.put_slice(&octets(self.destination));
            covered.put_u32(transport.len() as u32);
            covered.put_u32(u32::from(self.protocol));
        }
        covered.put_slice(&transport);
        transport[at..at + 2].copy_from_slice(&checksum(&covered).to_be_bytes());
        transport
    }

    fn ipv4(&self, transport: &[u8]) -> BytesMut {
        let header_len = ipv4::MIN_LEN + self.options.len();
        let mut packet = BytesMut::with_capacity(header_len + transport.len());
        packet.put_u8(0x40 | (header_len / 4) as u8);
        packet.put_u8(0);
        packet.put_u16(self.length.unwrap_or((header_len + transport.len()) as u16));
        packet.put_u16(self.fragment.0);
        packet.put_u16(self.fragment.1);
        packet.put_u8(self.hop_limit);
        packet.put_u8(self.protocol);
        packet.put_u16(0);
        packet.put_slice(&octets(self.source));
        packet.put_slice(&octets(self.destination));
        packet.put_slice(&self.options);
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.put_slice(transport);
        packet
    }

    fn ipv6(&self, transport: &[u8]) -> BytesMut {
        let mut payload = BytesMut::new();
        let following = self.extensions.iter().skip(1).map(|(number, _)| *number);
        for ((_, content), next) in self.extensions.iter().zip(following.chain([self.protocol])) {
            payload.put_u8(next);
            payload.put_slice(content);
        }
        payload.put_slice(transport);
        let mut packet = BytesMut::with_capacity(ipv6::LEN + payload.len());
        packet.put_u32(0x6000_0000);
        packet.put_u16(self.length.unwrap_or(payload.len() as u16));
        packet.put_u8(
            self.extensions
                .first()
                .map_or(self.protocol, |(number, _)| *number),
        );
        packet.put_u8(self.hop_limit);
        packet.put_slice(&octets(self.source));
        packet.put_slice(&octets(self.destination));
        packet.put_slice(&payload);
        packet
    }
}

/// The Internet checksum (RFC 1071).
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An address as a test writes it.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn address(text: &str) -> IpAddr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no address"))
}

fn end(text: &str) -> SocketAddr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no address with a port"))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_request_is_what_ping_sends() {
        // Checked by hand: RFC 792 layout, sums of RFC 1071.
        let packet = icmp("10.0.0.1", "10.0.0.2", 8, 0, 0x0102).bytes();
        let expected = [
            0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0x66, 0xdf, 10, 0, 0, 1, 10, 0, 0, 2, 8, 0, 0xf6,
            0xfc, 1, 2, 0, 1,
        ];
        assert_eq!(packet[..], expected);
    }

    #[test]
    fn transport_checksums_cover_the_pseudo_header() {
        let packet = udp("[fd00::1]:1000", "[fd00::2]:2000").data(3).bytes();
        let mut covered = packet[8..].to_vec();
        // Odd length: the next header and length of the pseudo-header go behind the padding.
        covered.push(0);
        covered.extend([0, protocol::UDP, 0, 11]);
        assert_eq!(checksum(&covered), 0);
    }

    #[test]
    fn extension_headers_are_chained_in_the_order_given() {
        let packet = udp("[fd00::1]:1", "[fd00::2]:2")
            .extension(ipv6::HOP_BY_HOP, 0)
            .fragment(9, 0, true)
            .bytes();
        assert_eq!(packet[6], ipv6::HOP_BY_HOP);
        assert_eq!(packet[40..42], [ipv6::FRAGMENT, 0]);
        assert_eq!(packet[48..56], [protocol::UDP, 0, 0, 1, 0, 0, 0, 9]);
        assert_eq!(packet[4..6], [0, 24]);
    }
}
