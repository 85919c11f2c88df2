//! From a packet of the golden format to the frame that a hook gets. It judges nothing.
//!
//! What the format leaves open is filled in first, so that every judge sees the same packet: a
//! [`Bookkeeper`] gives TCP segments the numbers that real ones would have.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use branchline_common::headers::{arp, icmp, protocol, tcp};

use super::{
    format::Direction,
    packet_format::{ArpPkt, IpPkt, Pkt},
    setting::{Plugged, Setting},
};
use crate::{
    case::ROUTER_MAC,
    frame::{Frame, Mac},
    packet::{self, Packet},
};

/// Bytes behind a header without ports. An ICMP message then has room for all that its type needs,
/// and its data reads as no quoted packet.
const REST: usize = 40;

impl Plugged {
    /// Its MAC address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        let [high, low] = self.slot.to_be_bytes();
        [2, 0, 0, 0, high, low]
    }

    /// Its VLAN id.
    #[must_use]
    pub fn vlan(&self) -> u16 {
        100 + self.slot
    }

    /// A packet as this ENI's hook gets it. What [`Bookkeeper::complete`] fills in must be there.
    #[must_use]
    pub fn frame(&self, direction: Direction, pkt: &Pkt) -> Frame {
        let frame = match (pkt, direction) {
            (Pkt::Arp(arp), Direction::Ingress) => arp_request(ROUTER_MAC, arp),
            (Pkt::Arp(arp), Direction::Egress) => arp_request(self.mac(), arp),
            (Pkt::Ip(pkt), Direction::Ingress) => {
                Frame::of(ROUTER_MAC, self.mac(), &ip_packet(pkt))
            }
            (Pkt::Ip(pkt), Direction::Egress) => Frame::of(self.mac(), ROUTER_MAC, &ip_packet(pkt)),
        };
        match direction {
            Direction::Ingress => frame.tag(0x8100, self.vlan()),
            Direction::Egress => frame,
        }
    }
}

fn arp_request(sender: Mac, arp: &ArpPkt) -> Frame {
    let text = |address: Option<Ipv4Addr>| address.unwrap_or(Ipv4Addr::UNSPECIFIED).to_string();
    let (src, dst) = (text(arp.src), text(arp.dst));
    Frame::arp(arp::REQUEST, (sender, &src), ([0; 6], &dst))
}

/// The packet from its network header on.
fn ip_packet(pkt: &IpPkt) -> Packet {
    let (from, to) = (pkt.src.to_string(), pkt.dst.to_string());
    let socket = |address, port| std::net::SocketAddr::new(address, port).to_string();
    let (from_end, to_end) = (socket(pkt.src, pkt.sport), socket(pkt.dst, pkt.dport));
    let is_later = pkt.frag.is_some_and(|frag| frag.offset > 0);
    let icmp_of_family = if pkt.src.is_ipv4() {
        protocol::ICMP
    } else {
        protocol::ICMPV6
    };
    let len = usize::from(pkt.len);
    let mut made = match pkt.proto.0 {
        number if is_later => packet::raw(&from, &to, number, REST),
        protocol::TCP => packet::tcp(&from_end, &to_end, pkt.flags.0)
            .numbers(pkt.seq.unwrap_or_default(), pkt.ack.unwrap_or_default())
            .data(len),
        protocol::UDP => packet::udp(&from_end, &to_end).data(len),
        number if number == icmp_of_family => icmp_message(pkt, &from, &to),
        number => packet::raw(&from, &to, number, REST + len),
    };
    if let Some(frag) = pkt.frag {
        made = made.fragment(frag.id, frag.offset, frag.more);
    }
    made.hop_limit(pkt.hop)
}

fn icmp_message(pkt: &IpPkt, from: &str, to: &str) -> Packet {
    if let Some(inner) = &pkt.inner {
        let kind = (pkt.icmp_type, pkt.code);
        return packet::icmp_error(from, to, kind, &ip_packet(inner), usize::MAX);
    }
    match pkt.target {
        Some(target) => packet::neighbour(from, to, pkt.icmp_type, &target.to_string(), None),
        None => packet::icmp(from, to, pkt.icmp_type, pkt.code, pkt.id)
            .data(REST + usize::from(pkt.len)),
    }
}

/// Fills in what packets leave open, as real ends would.
#[derive(Clone, Debug, Default)]
pub struct Bookkeeper {
    flows: HashMap<(String, [End; 2]), [Side; 2]>,
    /// Flows begun, from which initial sequence numbers are made.
    begun: u32,
}

/// An address with a port.
type End = (IpAddr, u16);

/// What one end of a TCP flow has sent.
#[derive(Clone, Copy, Debug)]
struct Side {
    /// Its initial sequence number.
    initial: u32,
    /// The number of its next byte.
    next: u32,
    has_sent: bool,
    has_ended: bool,
}

impl Bookkeeper {
    /// The packet with all that it leaves open filled in.
    pub fn complete(
        &mut self,
        setting: &Setting,
        (id, plugged): (&str, &Plugged),
        direction: Direction,
        pkt: &Pkt,
    ) -> Pkt {
        match pkt {
            Pkt::Arp(arp) => {
                let own = plugged.eni.ipv4.first().copied();
                let own = own.unwrap_or(Ipv4Addr::UNSPECIFIED);
                let (src, dst) = match direction {
                    Direction::Ingress => (setting.router(), own),
                    Direction::Egress => (own, setting.router()),
                };
                Pkt::Arp(ArpPkt {
                    src: Some(arp.src.unwrap_or(src)),
                    dst: Some(arp.dst.unwrap_or(dst)),
                })
            }
            Pkt::Ip(pkt) => {
                let mut pkt = pkt.clone();
                if pkt.proto.0 == protocol::TCP {
                    let (seq, ack) = self.numbers(id, &pkt);
                    pkt.seq = Some(seq);
                    pkt.ack = Some(ack);
                }
                pkt.target = target(plugged, &pkt);
                Pkt::Ip(pkt)
            }
        }
    }

    /// Sequence and acknowledgment number of a segment. One that brings its own leaves no trace.
    pub fn numbers(&mut self, eni: &str, pkt: &IpPkt) -> (u32, u32) {
        let (from, to) = ((pkt.src, pkt.sport), (pkt.dst, pkt.dport));
        let is_first = from <= to;
        let ends = if is_first { [from, to] } else { [to, from] };
        let begun = self.begun;
        let known = self.flows.get(&(eni.to_owned(), ends)).copied();
        let [first, second] = known.unwrap_or_else(|| self.begin());
        let (mut own, mut other) = if is_first {
            (first, second)
        } else {
            (second, first)
        };
        let syn = pkt.flags.has(tcp::SYN);
        let (fin, rst) = (pkt.flags.has(tcp::FIN), pkt.flags.has(tcp::RST));
        let is_over = own.has_ended && other.has_ended;
        if syn && !pkt.flags.has(tcp::ACK) && is_over {
            [own, other] = self.begin();
        }
        let seq = if syn {
            own.initial
        } else if fin && own.has_ended {
            own.next.wrapping_sub(1)
        } else if rst && pkt.flags.has(tcp::ACK) && !own.has_sent {
            // The answer to a SYN that nobody listens for (RFC 9293 section 3.10.7.1).
            0
        } else {
            own.next
        };
        let ack = other.next;
        if pkt.seq.is_none() && pkt.ack.is_none() {
            let is_repeated = fin && own.has_ended;
            if rst {
                own.has_ended = true;
                other.has_ended = true;
            } else if !is_repeated {
                let end = seq
                    .wrapping_add(u32::from(pkt.len))
                    .wrapping_add(u32::from(syn))
                    .wrapping_add(u32::from(fin));
                if end.wrapping_sub(own.next).cast_signed() > 0 {
                    own.next = end;
                }
                own.has_sent = true;
                own.has_ended |= fin;
            }
            let sides = if is_first { [own, other] } else { [other, own] };
            self.flows.insert((eni.to_owned(), ends), sides);
        } else {
            self.begun = begun;
        }
        (pkt.seq.unwrap_or(seq), pkt.ack.unwrap_or(ack))
    }

    fn begin(&mut self) -> [Side; 2] {
        [0, 1].map(|_| {
            self.begun += 1;
            // Well spread, and now and then close to the wrap.
            let initial = self.begun.wrapping_mul(0x9e37_79b9);
            Side {
                initial,
                next: initial,
                has_sent: false,
                has_ended: false,
            }
        })
    }
}

/// The target of a neighbour solicitation or advertisement: an advertisement is of its sender, a
/// solicitation asks for its destination, a probe from `::` for the ENI's own address.
fn target(plugged: &Plugged, pkt: &IpPkt) -> Option<Ipv6Addr> {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (pkt.src, pkt.dst) else {
        return None;
    };
    let is_whole = pkt.frag.is_none();
    match (pkt.proto.0, pkt.icmp_type) {
        (protocol::ICMPV6, icmp::NEIGHBOUR_SOLICITATION) if is_whole => {
            let own = plugged.eni.ipv6.first().copied();
            let asked = if src.is_unspecified() {
                own.unwrap_or(dst)
            } else {
                dst
            };
            Some(pkt.target.unwrap_or(asked))
        }
        (protocol::ICMPV6, icmp::NEIGHBOUR_ADVERTISEMENT) if is_whole => {
            Some(pkt.target.unwrap_or(src))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::scenario::packet_format::Flags;

    /// Numbers relative to the initial ones, which the first segment of each side tells.
    fn relative(lines: &[(&str, bool, u16)]) -> Vec<(u32, u32)> {
        let mut book = Bookkeeper::default();
        let mut initial: [Option<u32>; 2] = [None; 2];
        let ends: [IpAddr; 2] = [
            "10.0.1.10".parse().unwrap(),
            "198.51.100.7".parse().unwrap(),
        ];
        let mut numbers = Vec::new();
        for (flags, is_answer, len) in lines {
            let (from, to) = if *is_answer { (1, 0) } else { (0, 1) };
            let mut pkt = IpPkt::new(ends[from], ends[to], protocol::TCP);
            pkt.flags = Flags::try_from((*flags).to_owned()).unwrap();
            pkt.len = *len;
            pkt.sport = if *is_answer { 443 } else { 40000 };
            pkt.dport = if *is_answer { 40000 } else { 443 };
            let (seq, ack) = book.numbers("a", &pkt);
            let own = *initial[from].get_or_insert(seq);
            let acknowledged = match (pkt.flags.has(tcp::ACK), initial[to]) {
                (true, Some(initial)) => ack.wrapping_sub(initial),
                _ => 0,
            };
            numbers.push((seq.wrapping_sub(own), acknowledged));
        }
        numbers
    }

    #[test]
    fn numbers_are_those_of_a_real_flow() {
        let flow = [
            ("S", false, 0),
            ("S", false, 0),
            ("SA", true, 0),
            ("A", false, 0),
            ("A", false, 100),
            ("A", true, 50),
            ("FA", false, 0),
            ("FA", false, 0),
            ("FA", true, 0),
            ("A", false, 0),
        ];
        let expected = [
            (0, 0),
            (0, 0),
            (0, 1),
            (1, 1),
            (1, 1),
            (1, 101),
            (101, 51),
            (101, 51),
            (51, 102),
            (102, 52),
        ];
        assert_eq!(relative(&flow), expected);
    }

    #[test]
    fn a_syn_after_the_end_starts_a_new_flow() {
        let numbers = relative(&[("S", false, 0), ("R", false, 0), ("S", false, 0)]);
        assert_eq!(numbers[..2], [(0, 0), (1, 0)]);
        assert!(numbers[2].0 > 1, "{numbers:?}");
    }
}
