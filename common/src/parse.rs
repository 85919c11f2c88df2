//! Frame bytes to [`Packet`], the only place that knows header layouts.
//!
//! Byte order and the difference between IPv4 and IPv6 end here. It decides nothing: what it
//! cannot read is an error with its reason, never a guess.

use crate::{
    flow::{Address, is_icmp, is_ipv4, joined, mapped},
    headers::{ethernet, icmp, ipv4, ipv6, protocol, tcp, udp, vlan},
    verdict::DropReason,
};

/// Furthest offset that is read: a bound that the kernel's verifier can follow. A frame whose
/// headers go beyond it counts as `Truncated`.
pub const MAX_OFFSET: usize = 511;

/// Where a parser reads: the kernel's packet, or a slice in a test.
pub trait Bytes {
    /// The `N` bytes from `offset` bytes into the frame; `None` past its end or if `offset` is
    /// past [`MAX_OFFSET`].
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Bytes of the whole frame, also those that [`Bytes::read`] cannot reach.
    fn len(&self) -> usize;

    /// Whether there is no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Bytes for [u8] {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if offset > MAX_OFFSET {
            return None;
        }
        self.get(offset..)?.first_chunk().copied()
    }

    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

/// The Ethernet header of a frame, its VLAN tag taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination MAC address.
    pub destination: [u8; ethernet::MAC_LEN],
    /// Source MAC address.
    pub source: [u8; ethernet::MAC_LEN],
    /// VLAN id of the outermost tag.
    pub vlan: Option<u16>,
    /// Host order, of the payload behind the tag. A second tag shows as its EtherType.
    pub ether_type: u16,
    /// Bytes into the frame at which the payload starts.
    pub payload: usize,
}

/// Reads the Ethernet header. `tag` is the tag control information that the NIC has already taken
/// out of the frame, if any; else the tag is looked for in the frame.
///
/// # Errors
/// `Truncated` if the frame ends first.
#[inline(always)]
pub fn ethernet(frame: &(impl Bytes + ?Sized), tag: Option<u16>) -> Result<Ethernet, DropReason> {
    let header: [u8; ethernet::LEN] = frame.read(0).ok_or(DropReason::Truncated)?;
    let mut ether_type = be16(&header, ethernet::ETHER_TYPE);
    let mut payload = ethernet::LEN;
    let mut is_tagged = tag.is_some();
    let mut id = tag.unwrap_or(0) & vlan::ID_MASK;
    if !is_tagged && matches!(ether_type, ethernet::VLAN | ethernet::SERVICE_VLAN) {
        let tag: [u8; vlan::LEN] = frame.read(ethernet::LEN).ok_or(DropReason::Truncated)?;
        is_tagged = true;
        id = be16(&tag, 0) & vlan::ID_MASK;
        ether_type = be16(&tag, 2);
        payload += vlan::LEN;
    }
    Ok(Ethernet {
        destination: mac(&header, 0),
        source: mac(&header, ethernet::SOURCE),
        vlan: is_tagged.then_some(id),
        ether_type,
        payload,
    })
}

/// Which part of a datagram a packet carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    #[default]
    Whole,
    /// Its start, with the ports, and more follows.
    First,
    /// A later part, without ports.
    Later,
}

/// What branchline looks at in an IP packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Host order; 0 where the protocol has no ports and in later fragments.
    pub source_port: u16,
    /// Host order; 0 where the protocol has no ports and in later fragments.
    pub destination_port: u16,
    /// IANA number of the protocol behind all extension headers.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// TCP control bits.
    pub tcp_flags: u8,
    /// TCP sequence number, host order.
    pub tcp_sequence: u32,
    /// TCP acknowledgment number, host order.
    pub tcp_acknowledgment: u32,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// ICMP identifier of a query, host order.
    pub icmp_identifier: u16,
    /// Which part of a datagram this is.
    pub fragment: Fragment,
    /// Identification of the datagram that a fragment is part of.
    pub fragment_id: u32,
    /// Bytes from the IP header to the end of the packet, without link-layer padding.
    pub length: u32,
    /// Bytes of the IP header with its extensions and of the transport header.
    pub header_length: u32,
    /// Bytes into the frame at which the transport header starts.
    pub transport: usize,
}

impl Packet {
    /// Clears what not every packet has, field by field: left to the compiler, clearing all would
    /// be a loop over bytes in the kernel.
    #[inline(always)]
    const fn clear(&mut self) {
        self.source_port = 0;
        self.destination_port = 0;
        self.tcp_flags = 0;
        self.tcp_sequence = 0;
        self.tcp_acknowledgment = 0;
        self.icmp_type = 0;
        self.icmp_code = 0;
        self.icmp_identifier = 0;
        self.fragment = Fragment::Whole;
        self.fragment_id = 0;
        self.length = 0;
    }
}

/// Reads the IP packet that starts `at` bytes into the frame into `packet`, whose old content does
/// not matter; after an error it is undefined. (It is filled in place, as a kernel program's stack
/// has no room for a second one.)
///
/// # Errors
/// `EtherType` if it is neither IPv4 nor IPv6; `Truncated`, `BadHeader`, `HeaderChain`,
/// `TinyFragment` as they say.
#[inline(always)]
pub fn packet(
    frame: &(impl Bytes + ?Sized),
    at: usize,
    ether_type: u16,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    match ether_type {
        ethernet::IPV4 => ipv4_header(frame, at, packet)?,
        ethernet::IPV6 => ipv6_header(frame, at, packet)?,
        _ => return Err(DropReason::EtherType),
    }
    if packet.fragment == Fragment::Later {
        Ok(())
    } else {
        transport(frame, at, packet)
    }
}

/// Reads the packet that an ICMP error quotes into `packet`, as [`packet`](self::packet) does. Only
/// the first 8 bytes of its transport header are needed (RFC 792; RFC 4443 section 2.4c), so
/// lengths and flags are not read.
///
/// `None` if it is quoted too shortly, is a later fragment, or cannot be read.
#[must_use]
#[inline(always)]
pub fn quoted(frame: &(impl Bytes + ?Sized), error: &Packet, packet: &mut Packet) -> Option<()> {
    let at = error.transport + icmp::LEN;
    if error.protocol == protocol::ICMP {
        let header: [u8; ipv4::MIN_LEN] = frame.read(at)?;
        ipv4_fields(&header, at, packet).ok()?;
    } else {
        let header: [u8; ipv6::LEN] = frame.read(at)?;
        ipv6_fields(frame, &header, at, packet).ok()?;
    }
    if packet.fragment == Fragment::Later {
        return None;
    }
    let start: [u8; icmp::LEN] = frame.read(packet.transport)?;
    if is_icmp(packet.protocol) {
        set_icmp(packet, &start);
    } else if has_ports(packet.protocol) {
        set_ports(packet, be16(&start, 0), be16(&start, 2));
    }
    Some(())
}

/// Whether the protocol starts with a source and a destination port that branchline reads.
#[must_use]
#[inline(always)]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP)
}

/// IPv4 header (RFC 791 section 3.1), options skipped by the header length.
#[inline(always)]
fn ipv4_header(
    frame: &(impl Bytes + ?Sized),
    at: usize,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    let header: [u8; ipv4::MIN_LEN] = frame.read(at).ok_or(DropReason::Truncated)?;
    ipv4_fields(&header, at, packet)?;
    let present = frame.len().checked_sub(at).ok_or(DropReason::Truncated)?;
    // A GSO packet over 64 KiB has no length here (BIG TCP): the frame's own counts.
    let length = match be16(&header, ipv4::TOTAL_LENGTH) {
        0 if present > usize::from(u16::MAX) => present,
        total => usize::from(total),
    };
    if length < packet.header_length as usize {
        return Err(DropReason::BadHeader);
    }
    if length > present {
        return Err(DropReason::Truncated);
    }
    packet.length = length as u32;
    let offset = be16(&header, ipv4::FRAGMENT) & ipv4::OFFSET_MASK;
    if offset == 1 && packet.protocol == protocol::TCP {
        return Err(DropReason::TinyFragment);
    }
    Ok(())
}

/// The fields of an IPv4 header at `at`; an error if version, length or protocol contradict its
/// standard.
#[inline(always)]
fn ipv4_fields(
    header: &[u8; ipv4::MIN_LEN],
    at: usize,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    let [version_ihl, ..] = *header;
    let header_length = usize::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || header_length < ipv4::MIN_LEN {
        return Err(DropReason::BadHeader);
    }
    // ICMPv6 is of IPv6 only (RFC 4443), so that neighbour discovery always is.
    if header[ipv4::PROTOCOL] == protocol::ICMPV6 {
        return Err(DropReason::BadHeader);
    }
    let fragment = be16(header, ipv4::FRAGMENT);
    packet.clear();
    packet.source = mapped(four(header, ipv4::SOURCE));
    packet.destination = mapped(four(header, ipv4::DESTINATION));
    packet.protocol = header[ipv4::PROTOCOL];
    packet.hop_limit = header[ipv4::TTL];
    packet.fragment = fragment_of(
        fragment & ipv4::OFFSET_MASK,
        fragment & ipv4::MORE_FRAGMENTS,
    );
    packet.fragment_id = u32::from(be16(header, ipv4::IDENTIFICATION));
    packet.header_length = header_length as u32;
    packet.transport = at + header_length;
    Ok(())
}

/// IPv6 header and its extension headers (RFC 8200 sections 3 and 4).
#[inline(always)]
fn ipv6_header(
    frame: &(impl Bytes + ?Sized),
    at: usize,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    let header: [u8; ipv6::LEN] = frame.read(at).ok_or(DropReason::Truncated)?;
    let present = frame.len().checked_sub(at).ok_or(DropReason::Truncated)?;
    // A GSO packet over 64 KiB has no length here (RFC 2675): the frame's own counts.
    let length = match be16(&header, ipv6::PAYLOAD_LENGTH) {
        0 if present > usize::from(u16::MAX) => present,
        payload => ipv6::LEN + usize::from(payload),
    };
    if length > present {
        return Err(DropReason::Truncated);
    }
    ipv6_fields(frame, &header, at, packet)?;
    packet.length = length as u32;
    if packet.header_length > packet.length {
        return Err(DropReason::BadHeader);
    }
    Ok(())
}

#[inline(always)]
fn ipv6_fields(
    frame: &(impl Bytes + ?Sized),
    header: &[u8; ipv6::LEN],
    at: usize,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    let [version, ..] = *header;
    if version >> 4 != 6 {
        return Err(DropReason::BadHeader);
    }
    packet.clear();
    packet.source = sixteen(header, ipv6::SOURCE);
    packet.destination = sixteen(header, ipv6::DESTINATION);
    packet.protocol = header[ipv6::NEXT_HEADER];
    packet.hop_limit = header[ipv6::HOP_LIMIT];
    packet.transport = at + ipv6::LEN;
    if is_extension(packet.protocol) {
        let mut chain = Chain {
            protocol: packet.protocol,
            transport: packet.transport,
            fragment: Fragment::Whole,
            fragment_id: 0,
        };
        if let Some(reason) = extensions(frame, &mut chain) {
            return Err(reason);
        }
        packet.protocol = chain.protocol;
        packet.transport = chain.transport;
        packet.fragment = chain.fragment;
        packet.fragment_id = chain.fragment_id;
    }
    // On the wire a mapped address is forged: here it would pass for an IPv4 one. Nor is ICMP of
    // IPv6.
    if is_ipv4(&packet.source) || is_ipv4(&packet.destination) || packet.protocol == protocol::ICMP
    {
        return Err(DropReason::BadHeader);
    }
    packet.header_length = (packet.transport - at) as u32;
    Ok(())
}

/// Where a chain of extension headers ends.
struct Chain {
    protocol: u8,
    transport: usize,
    fragment: Fragment,
    fragment_id: u32,
}

/// Whether a next header is an extension that is walked. AH, ESP and all others end the chain.
#[inline(always)]
const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS | ipv6::FRAGMENT
    )
}

/// Walks the extension headers from the chain's current end on. A later fragment's own headers end
/// at its fragment header.
///
/// Not inlined, since packets with extensions are rare and the program is smaller so; and with its
/// result in `chain`, since the kernel's machine returns one word.
#[inline(never)]
fn extensions(frame: &(impl Bytes + ?Sized), chain: &mut Chain) -> Option<DropReason> {
    for _ in 0..ipv6::MAX_EXTENSIONS {
        let Some(start) = frame.read::<8>(chain.transport) else {
            return Some(DropReason::Truncated);
        };
        let [next, units, ..] = start;
        if chain.protocol == ipv6::FRAGMENT {
            let offset = be16(&start, 2);
            chain.fragment = fragment_of(offset & ipv6::OFFSET_MASK, offset & ipv6::MORE_FRAGMENTS);
            chain.fragment_id = u32::from_be_bytes(four(&start, 4));
            chain.transport += 8;
        } else {
            chain.transport += (usize::from(units) + 1) * 8;
        }
        chain.protocol = next;
        if chain.fragment == Fragment::Later || !is_extension(next) {
            return None;
        }
    }
    Some(DropReason::HeaderChain)
}

/// Ports, flags and ICMP fields of a packet or a first fragment, whose transport header must be
/// there in full.
#[inline(always)]
fn transport(
    frame: &(impl Bytes + ?Sized),
    at: usize,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    let header_length = match packet.protocol {
        protocol::TCP => {
            let header: [u8; tcp::MIN_LEN] =
                frame.read(packet.transport).ok_or(DropReason::Truncated)?;
            set_ports(packet, be16(&header, 0), be16(&header, 2));
            packet.tcp_flags = header[tcp::FLAGS];
            packet.tcp_sequence = u32::from_be_bytes(four(&header, tcp::SEQUENCE));
            packet.tcp_acknowledgment = u32::from_be_bytes(four(&header, tcp::ACKNOWLEDGMENT));
            let length = usize::from(header[tcp::DATA_OFFSET] >> 4) * 4;
            if length < tcp::MIN_LEN {
                return Err(DropReason::BadHeader);
            }
            length
        }
        protocol::UDP => {
            let header: [u8; udp::LEN] =
                frame.read(packet.transport).ok_or(DropReason::Truncated)?;
            set_ports(packet, be16(&header, 0), be16(&header, 2));
            udp::LEN
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let header: [u8; icmp::LEN] =
                frame.read(packet.transport).ok_or(DropReason::Truncated)?;
            set_icmp(packet, &header);
            icmp::LEN
        }
        _ => 0,
    };
    let end = (packet.transport - at + header_length) as u32;
    if end > packet.length {
        return Err(DropReason::Truncated);
    }
    packet.header_length = end;
    Ok(())
}

#[inline(always)]
fn set_ports(packet: &mut Packet, source: u16, destination: u16) {
    packet.source_port = source;
    packet.destination_port = destination;
}

#[inline(always)]
fn set_icmp(packet: &mut Packet, header: &[u8; icmp::LEN]) {
    let [icmp_type, code, ..] = *header;
    packet.icmp_type = icmp_type;
    packet.icmp_code = code;
    packet.icmp_identifier = be16(header, icmp::IDENTIFIER);
}

#[inline(always)]
const fn fragment_of(offset: u16, more: u16) -> Fragment {
    match (offset, more) {
        (0, 0) => Fragment::Whole,
        (0, _) => Fragment::First,
        (_, _) => Fragment::Later,
    }
}

/// The big-endian number at a constant offset; the compiler proves the bounds.
#[inline(always)]
fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes(part(bytes, at))
}

#[inline(always)]
fn four<const N: usize>(bytes: &[u8; N], at: usize) -> [u8; 4] {
    part(bytes, at)
}

/// The MAC address at a constant offset.
#[inline(always)]
fn mac(bytes: &[u8; ethernet::LEN], at: usize) -> [u8; ethernet::MAC_LEN] {
    let [a, b] = part(bytes, at);
    let [c, d, e, f] = part(bytes, at + 2);
    [a, b, c, d, e, f]
}

/// The address at a constant offset.
#[inline(always)]
fn sixteen(bytes: &[u8; ipv6::LEN], at: usize) -> Address {
    let high = u64::from_ne_bytes(part(bytes, at));
    joined((high, u64::from_ne_bytes(part(bytes, at + 8))))
}

/// The bytes at a constant offset, as one load where single bytes would be many.
#[inline(always)]
fn part<const N: usize, const M: usize>(bytes: &[u8; N], at: usize) -> [u8; M] {
    let mut part = [0; M];
    part.copy_from_slice(&bytes[at..at + M]);
    part
}
