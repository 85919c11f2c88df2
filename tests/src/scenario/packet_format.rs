//! A packet as the golden format writes it. It builds no bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use branchline_common::headers::{protocol, tcp};
use serde::{Deserialize, Serialize};

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawPkt", into = "RawPkt")]
pub enum Pkt {
    /// An ARP request.
    Arp(ArpPkt),
    /// An IP packet.
    Ip(Box<IpPkt>),
}

/// An ARP request. Where an address is missing, the ENI and the router ask for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArpPkt {
    /// The sender's protocol address.
    pub src: Option<Ipv4Addr>,
    /// The target's protocol address.
    pub dst: Option<Ipv4Addr>,
}

/// An IP packet. What its protocol does not have is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpPkt {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol.
    pub proto: Protocol,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// TCP flags.
    pub flags: Flags,
    /// TCP sequence number; `None` for one that fits.
    pub seq: Option<u32>,
    /// TCP acknowledgment number; `None` for one that fits.
    pub ack: Option<u32>,
    /// Bytes of data.
    pub len: u16,
    /// ICMP type.
    pub icmp_type: u8,
    /// ICMP code.
    pub code: u8,
    /// ICMP identifier.
    pub id: u16,
    /// Target of neighbour discovery; `None` for one that fits.
    pub target: Option<Ipv6Addr>,
    /// The packet that an ICMP error quotes.
    pub inner: Option<Box<IpPkt>>,
    /// If it is a fragment.
    pub frag: Option<Frag>,
    /// Time to live or hop limit.
    pub hop: u8,
}

/// Where a fragment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frag {
    /// Identification.
    pub id: u32,
    /// Bytes, a multiple of 8.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
}

/// A protocol by name or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawProtocol", into = "String")]
pub struct Protocol(pub u8);

/// TCP control bits, by letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Flags(pub u8);

const NAMES: [(&str, u8); 4] = [
    ("icmp", protocol::ICMP),
    ("tcp", protocol::TCP),
    ("udp", protocol::UDP),
    ("icmpv6", protocol::ICMPV6),
];

/// PSH and URG have no effect.
const LETTERS: [(char, u8); 6] = [
    ('S', tcp::SYN),
    ('F', tcp::FIN),
    ('R', tcp::RST),
    ('P', 0x08),
    ('U', 0x20),
    ('A', tcp::ACK),
];

/// Hop limit where the packet has none.
const HOP: u8 = 255;

impl IpPkt {
    /// A packet without ports and data.
    #[must_use]
    pub fn new(src: IpAddr, dst: IpAddr, protocol: u8) -> Self {
        Self {
            src,
            dst,
            proto: Protocol(protocol),
            sport: 0,
            dport: 0,
            flags: Flags::default(),
            seq: None,
            ack: None,
            len: 0,
            icmp_type: 0,
            code: 0,
            id: 0,
            target: None,
            inner: None,
            frag: None,
            hop: HOP,
        }
    }
}

impl Flags {
    /// Whether it has one of the bits.
    #[must_use]
    pub fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawProtocol {
    Name(String),
    Number(u8),
}

impl TryFrom<RawProtocol> for Protocol {
    type Error = String;

    fn try_from(raw: RawProtocol) -> Result<Self, String> {
        let name = match raw {
            RawProtocol::Number(number) => return Ok(Self(number)),
            RawProtocol::Name(name) => name,
        };
        match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, number)) => Ok(Self(*number)),
            None => name.parse().map(Self).map_err(|_| {
                format!("{name:?} is no protocol; write tcp, udp, icmp, icmpv6 or 0 to 255")
            }),
        }
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> Self {
        let named = NAMES.iter().find(|(_, number)| *number == protocol.0);
        named.map_or_else(|| protocol.0.to_string(), |(name, _)| (*name).to_owned())
    }
}

impl TryFrom<String> for Flags {
    type Error = String;

    fn try_from(letters: String) -> Result<Self, String> {
        let mut bits = 0;
        for letter in letters.chars() {
            let known = LETTERS.iter().find(|(known, _)| *known == letter);
            let (_, bit) = known
                .ok_or_else(|| format!("flag {letter:?} of {letters:?} is not of S A F R P U"))?;
            bits |= bit;
        }
        Ok(Self(bits))
    }
}

impl From<Flags> for String {
    fn from(flags: Flags) -> Self {
        let set = LETTERS.iter().filter(|(_, bit)| flags.has(*bit));
        set.map(|(letter, _)| letter).collect()
    }
}

/// A packet as it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPkt {
    #[serde(skip_serializing_if = "Option::is_none")]
    ethertype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    src: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proto: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<Flags>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    len: Option<u16>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Ipv6Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inner: Option<Box<Pkt>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frag: Option<Frag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hop: Option<u8>,
}

impl TryFrom<RawPkt> for Pkt {
    type Error = String;

    fn try_from(raw: RawPkt) -> Result<Self, String> {
        match raw.ethertype.as_deref() {
            None => {}
            Some("arp") => {
                return Ok(Self::Arp(ArpPkt {
                    src: ipv4(raw.src, "src")?,
                    dst: ipv4(raw.dst, "dst")?,
                }));
            }
            Some(other) => return Err(format!("ethertype {other:?} is not \"arp\"")),
        }
        let missing = |name: &str| format!("a packet needs `{name}`");
        let src = raw.src.ok_or_else(|| missing("src"))?;
        let dst = raw.dst.ok_or_else(|| missing("dst"))?;
        if src.is_ipv4() != dst.is_ipv4() {
            return Err(format!("src {src} and dst {dst} are of two families"));
        }
        if let Some(frag) = raw.frag
            && frag.offset % 8 != 0
        {
            return Err(format!("frag.offset {} is no multiple of 8", frag.offset));
        }
        let inner = match raw.inner.map(|inner| *inner) {
            None => None,
            Some(Self::Ip(inner)) => Some(inner),
            Some(Self::Arp(_)) => return Err("inner: no ICMP error quotes ARP".to_owned()),
        };
        Ok(Self::Ip(Box::new(IpPkt {
            src,
            dst,
            proto: raw.proto.ok_or_else(|| missing("proto"))?,
            sport: raw.sport.unwrap_or_default(),
            dport: raw.dport.unwrap_or_default(),
            flags: raw.flags.unwrap_or_default(),
            seq: raw.seq,
            ack: raw.ack,
            len: raw.len.unwrap_or_default(),
            icmp_type: raw.icmp_type.unwrap_or_default(),
            code: raw.code.unwrap_or_default(),
            id: raw.id.unwrap_or_default(),
            target: raw.target,
            inner,
            frag: raw.frag,
            hop: raw.hop.unwrap_or(HOP),
        })))
    }
}

fn ipv4(address: Option<IpAddr>, name: &str) -> Result<Option<Ipv4Addr>, String> {
    match address {
        None => Ok(None),
        Some(IpAddr::V4(address)) => Ok(Some(address)),
        Some(IpAddr::V6(address)) => Err(format!("{name} {address} of ARP is no IPv4 address")),
    }
}

impl From<Pkt> for RawPkt {
    /// Without what is 0 or the default.
    fn from(pkt: Pkt) -> Self {
        fn unless<T: PartialEq>(value: T, default: &T) -> Option<T> {
            (value != *default).then_some(value)
        }
        match pkt {
            Pkt::Arp(arp) => Self {
                ethertype: Some("arp".to_owned()),
                src: arp.src.map(IpAddr::V4),
                dst: arp.dst.map(IpAddr::V4),
                ..Self::default()
            },
            Pkt::Ip(pkt) => Self {
                ethertype: None,
                src: Some(pkt.src),
                dst: Some(pkt.dst),
                proto: Some(pkt.proto),
                sport: unless(pkt.sport, &0),
                dport: unless(pkt.dport, &0),
                flags: unless(pkt.flags, &Flags::default()),
                seq: pkt.seq,
                ack: pkt.ack,
                len: unless(pkt.len, &0),
                icmp_type: unless(pkt.icmp_type, &0),
                code: unless(pkt.code, &0),
                id: unless(pkt.id, &0),
                target: pkt.target,
                inner: pkt.inner.map(|inner| Box::new(Pkt::Ip(inner))),
                frag: pkt.frag,
                hop: unless(pkt.hop, &HOP),
            },
        }
    }
}
