//! Every header offset, length and number that branchline reads from a packet.
//!
//! No other file states one. Offsets count from the start of the header they belong to.

/// Ethernet II (IEEE 802.3 clause 3).
pub mod ethernet {
    /// Bytes before the payload of an untagged frame.
    pub const LEN: usize = 14;
    /// Bytes of a MAC address.
    pub const MAC_LEN: usize = 6;
    /// Offset of the source MAC address.
    pub const SOURCE: usize = 6;
    /// Offset of the EtherType.
    pub const ETHER_TYPE: usize = 12;
    /// EtherType of IPv4.
    pub const IPV4: u16 = 0x0800;
    /// EtherType of ARP.
    pub const ARP: u16 = 0x0806;
    /// EtherType of IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// EtherType of an 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// EtherType of an 802.1ad service tag.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// The broadcast address.
    pub const BROADCAST: [u8; MAC_LEN] = [0xff; MAC_LEN];
}

/// 802.1Q tag, the four bytes after the source address (IEEE 802.1Q clause 9.6).
pub mod vlan {
    /// Bytes that the tag adds to a frame.
    pub const LEN: usize = 4;
    /// The bits of the tag control information that hold the VLAN id.
    pub const ID_MASK: u16 = 0x0fff;
}

/// ARP for IPv4 over Ethernet (RFC 826).
pub mod arp {
    /// Bytes of the message.
    pub const LEN: usize = 28;
    /// Hardware type, protocol type and address lengths that such a message starts with.
    pub const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
    /// Offset of the operation.
    pub const OPERATION: usize = 6;
    /// Operation: who has this address?
    pub const REQUEST: [u8; 2] = [0, 1];
    /// Operation: this address is at.
    pub const REPLY: [u8; 2] = [0, 2];
    /// Offset of the sender's MAC address.
    pub const SENDER_MAC: usize = 8;
    /// Offset of the sender's IPv4 address.
    pub const SENDER_IP: usize = 14;
    /// Offset of the target's MAC address.
    pub const TARGET_MAC: usize = 18;
    /// Offset of the target's IPv4 address.
    pub const TARGET_IP: usize = 24;
}

/// IPv4 (RFC 791 section 3.1).
pub mod ipv4 {
    /// Bytes of the header without options.
    pub const MIN_LEN: usize = 20;
    /// Offset of version and header length.
    pub const VERSION_IHL: usize = 0;
    /// Offset of the total length.
    pub const TOTAL_LENGTH: usize = 2;
    /// Offset of the identification.
    pub const IDENTIFICATION: usize = 4;
    /// Offset of flags and fragment offset.
    pub const FRAGMENT: usize = 6;
    /// Offset of the time to live.
    pub const TTL: usize = 8;
    /// Offset of the protocol.
    pub const PROTOCOL: usize = 9;
    /// Offset of the source address.
    pub const SOURCE: usize = 12;
    /// Offset of the destination address.
    pub const DESTINATION: usize = 16;
    /// Flag: more fragments follow.
    pub const MORE_FRAGMENTS: u16 = 0x2000;
    /// The bits that hold the fragment offset, in units of 8 bytes.
    pub const OFFSET_MASK: u16 = 0x1fff;
}

/// IPv6 and its extension headers (RFC 8200).
pub mod ipv6 {
    /// Bytes of the fixed header.
    pub const LEN: usize = 40;
    /// Offset of the payload length.
    pub const PAYLOAD_LENGTH: usize = 4;
    /// Offset of the next header.
    pub const NEXT_HEADER: usize = 6;
    /// Offset of the hop limit.
    pub const HOP_LIMIT: usize = 7;
    /// Offset of the source address.
    pub const SOURCE: usize = 8;
    /// Offset of the destination address.
    pub const DESTINATION: usize = 24;
    /// Next header: hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Next header: routing.
    pub const ROUTING: u8 = 43;
    /// Next header: fragment.
    pub const FRAGMENT: u8 = 44;
    /// Next header: destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Most extension headers that are walked; a longer chain is dropped.
    pub const MAX_EXTENSIONS: usize = 8;
    /// The bits of the fragment header's third and fourth byte that hold the offset.
    pub const OFFSET_MASK: u16 = 0xfff8;
    /// The bit of the same bytes that says more fragments follow.
    pub const MORE_FRAGMENTS: u16 = 1;
}

/// Protocol numbers (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// TCP (RFC 9293 section 3.1).
pub mod tcp {
    /// Port of HTTP.
    pub const HTTP: u16 = 80;
    /// Bytes of the header without options.
    pub const MIN_LEN: usize = 20;
    /// Offset of the sequence number.
    pub const SEQUENCE: usize = 4;
    /// Offset of the acknowledgment number.
    pub const ACKNOWLEDGMENT: usize = 8;
    /// Offset of the data offset.
    pub const DATA_OFFSET: usize = 12;
    /// Offset of the control bits.
    pub const FLAGS: usize = 13;
    /// Control bit: no more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Control bit: synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Control bit: reset the connection.
    pub const RST: u8 = 0x04;
    /// Control bit: the acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
}

/// UDP (RFC 768).
pub mod udp {
    /// Bytes of the header.
    pub const LEN: usize = 8;
    /// Port of a DNS server (RFC 1035 section 4.2).
    pub const DNS: u16 = 53;
    /// Ports of DHCP (RFC 2131 section 4.1): server, client.
    pub const DHCP: [u16; 2] = [67, 68];
    /// Ports of DHCPv6 (RFC 8415 section 7.2): client, server.
    pub const DHCPV6: [u16; 2] = [546, 547];
}

/// ICMP (RFC 792) and ICMPv6 (RFC 4443, neighbour discovery RFC 4861).
pub mod icmp {
    /// Bytes of the header, up to the quoted packet of an error message.
    pub const LEN: usize = 8;
    /// Offset of the identifier of a query.
    pub const IDENTIFIER: usize = 4;
    /// ICMPv6: router solicitation.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// ICMPv6: neighbour solicitation.
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// ICMPv6: neighbour advertisement.
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// The hop limit that neighbour discovery must arrive with (RFC 4861 section 7.1).
    pub const NEIGHBOUR_HOP_LIMIT: u8 = 255;
    /// Offset of the target address in a neighbour message.
    pub const NEIGHBOUR_TARGET: usize = 8;
    /// Bytes of a neighbour message without options.
    pub const NEIGHBOUR_LEN: usize = 24;
    /// Bytes of a link-layer address option for Ethernet.
    pub const LINK_LAYER_OPTION_LEN: usize = 8;
}
