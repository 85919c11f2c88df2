//! Random flows: their opening packets, and what comes after. It knows no rules.

use std::net::IpAddr;

use branchline_common::headers::{protocol, tcp};

use super::{Generator, MOST_FLOWS};
use crate::scenario::{
    format::Direction,
    packet_format::{Flags, IpPkt, Pkt},
};

/// A flow that packets come back to.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// Its ENI.
    pub(super) eni: String,
    /// Direction of the opening packet.
    opener: Direction,
    /// The opening packet.
    first: IpPkt,
    /// How far an orderly course has come.
    stage: usize,
}

const PEERS_IPV4: [&str; 9] = [
    "198.51.100.7",
    "198.51.100.7",
    "198.51.100.200",
    "203.0.113.9",
    "10.0.1.20",
    "10.0.1.30",
    "10.0.1.21",
    "10.0.1.70",
    "10.0.0.2",
];
const PEERS_IPV6: [&str; 7] = [
    "2001:db8:ffff::7",
    "2001:db8:ffff::7",
    "2001:db8:eeee::9",
    "2001:db8:1:1::20",
    "2001:db8:1:1::21",
    "2001:db8:1:1:8::5",
    "8000::1",
];
/// Addresses that are no ENI's, or the primary one of another.
const FOREIGN_IPV4: [&str; 3] = ["10.0.1.99", "198.51.100.7", "10.0.1.30"];
const FOREIGN_IPV6: [&str; 3] = ["2001:db8:1:1::99", "2001:db8:ffff::7", "2001:db8:1:1::30"];
const SERVER_PORTS: [u16; 8] = [22, 80, 80, 443, 53, 0, 8080, 65535];
const CLIENT_PORTS: [u16; 5] = [40000, 40001, 40002, 40003, 80];

const SYN: u8 = tcp::SYN;
const ACK: u8 = tcp::ACK;
const FIN: u8 = tcp::FIN;
const RST: u8 = tcp::RST;

/// How a TCP flow opens: mostly with a SYN.
const OPENINGS: [u8; 10] = [SYN, SYN, SYN, SYN, SYN, SYN, ACK, FIN | ACK, RST, SYN | ACK];
/// The orderly course of a TCP flow after its SYN: whether the opener sends, and what.
const COURSE: [(bool, u8); 9] = [
    (false, SYN | ACK),
    (true, ACK),
    (true, ACK),
    (false, ACK),
    (false, ACK),
    (true, FIN | ACK),
    (false, FIN | ACK),
    (true, ACK),
    (true, SYN),
];
/// What comes out of course.
const SURPRISES: [u8; 12] = [
    SYN,
    SYN,
    SYN | ACK,
    ACK,
    ACK,
    FIN | ACK,
    FIN,
    RST,
    RST,
    RST | ACK,
    SYN | RST,
    SYN | FIN,
];

impl Flow {
    /// Its packets in a direction: without flags, ICMP as request or reply.
    pub(super) fn packet(&self, direction: Direction) -> IpPkt {
        let mut pkt = self.first.clone();
        pkt.flags = Flags::default();
        if direction != self.opener {
            std::mem::swap(&mut pkt.src, &mut pkt.dst);
            std::mem::swap(&mut pkt.sport, &mut pkt.dport);
            pkt.icmp_type = reply(pkt.proto.0, pkt.icmp_type);
        }
        pkt
    }
}

/// The type that answers an ICMP request; others answer themselves.
fn reply(protocol: u8, icmp_type: u8) -> u8 {
    match (protocol, icmp_type) {
        (protocol::ICMP, 8) => 0,
        (protocol::ICMP, 0) => 8,
        (protocol::ICMP, 13 | 15 | 17) | (protocol::ICMPV6, 128 | 139) => icmp_type + 1,
        _ => icmp_type,
    }
}

impl Generator {
    /// A peer of a family: outside the VPC, or another ENI's address.
    pub(super) fn peer(&mut self, is_ipv4: bool) -> IpAddr {
        let peers: &[&str] = if is_ipv4 { &PEERS_IPV4 } else { &PEERS_IPV6 };
        address(self.random.of(peers))
    }

    /// An address that mostly is not the ENI's.
    pub(super) fn foreign_address(&mut self, is_ipv4: bool) -> IpAddr {
        let foreign = if is_ipv4 {
            &FOREIGN_IPV4
        } else {
            &FOREIGN_IPV6
        };
        address(self.random.of(foreign))
    }

    /// The primary address of an ENI.
    pub(super) fn own(&self, eni: &str, is_ipv4: bool) -> IpAddr {
        let eni = &self.setting.enis[eni].eni;
        if is_ipv4 {
            eni.ipv4[0].into()
        } else {
            eni.ipv6[0].into()
        }
    }

    /// The first packet of a flow that packets will come back to.
    pub(super) fn open(&mut self) -> (String, Direction, IpPkt) {
        let eni = self.eni();
        let opener = self.direction();
        let is_ipv4 = self.random.below(3) < 2;
        let own = self.own(&eni, is_ipv4);
        let peer = self.peer(is_ipv4);
        let first = self.opening(opener, own, peer);
        let flow = Flow {
            eni: eni.clone(),
            opener,
            first: first.clone(),
            stage: 0,
        };
        if self.flows.len() < MOST_FLOWS {
            self.flows.push(flow);
        } else {
            let index = self.random.below(MOST_FLOWS);
            self.flows[index] = flow;
        }
        (eni, opener, first)
    }

    /// An opening packet between two addresses.
    pub(super) fn opening(&mut self, opener: Direction, own: IpAddr, peer: IpAddr) -> IpPkt {
        let (src, dst) = ends(opener, own, peer);
        let is_ipv4 = own.is_ipv4();
        let mut pkt = IpPkt::new(src, dst, 0);
        pkt.hop = 64;
        match self.random.below(12) {
            0..6 => {
                pkt.proto.0 = protocol::TCP;
                pkt.flags = Flags(self.random.of(&OPENINGS));
                pkt.len = self.len();
            }
            6..9 => pkt.proto.0 = protocol::UDP,
            9..11 => {
                let types: &[u8] = if is_ipv4 {
                    &[8, 8, 8, 13, 17, 0, 3, 5]
                } else {
                    &[128, 128, 139, 129, 2, 137]
                };
                pkt.proto.0 = icmp_of(is_ipv4);
                pkt.icmp_type = self.random.of(types);
                pkt.code = self.random.of(&[0, 0, 0, 4]);
                pkt.id = self.random.below(3) as u16;
            }
            _ => pkt.proto.0 = self.random.of(&[47, 50, 132, 255]),
        }
        if matches!(pkt.proto.0, protocol::TCP | protocol::UDP) {
            pkt.sport = self.random.of(&CLIENT_PORTS);
            pkt.dport = self.random.of(&SERVER_PORTS);
        }
        pkt
    }

    /// One of the flows, opening it if there is none.
    pub(super) fn flow(&mut self) -> usize {
        if self.flows.is_empty() {
            let (eni, dir, pkt) = self.open();
            self.arrive(&eni, dir, Pkt::Ip(Box::new(pkt)));
        }
        // Mostly the same one again, that it gets somewhere.
        if self.random.one_in(8) || self.current >= self.flows.len() {
            self.current = self.random.below(self.flows.len());
        }
        self.current
    }

    /// Another packet of a flow: the next of its orderly course, or a surprise.
    pub(super) fn go_on(&mut self) -> (String, Direction, IpPkt) {
        let index = self.flow();
        let is_orderly = !self.random.one_in(4);
        let flow = &mut self.flows[index];
        let (is_opener, flags) = if is_orderly {
            let step = COURSE[flow.stage % COURSE.len()];
            flow.stage += 1;
            step
        } else {
            (self.random.one_in(2), self.random.of(&SURPRISES))
        };
        let flow = flow.clone();
        let dir = if is_opener {
            flow.opener
        } else {
            flow.opener.opposite()
        };
        let mut pkt = flow.packet(dir);
        pkt.len = 0;
        if pkt.proto.0 == protocol::TCP {
            pkt.flags = Flags(flags);
            pkt.len = self.len();
            let ends = flags & (FIN | RST) != 0;
            if self.random.one_in(if ends { 3 } else { 12 }) {
                self.misnumber(&flow.eni, &mut pkt);
            }
        }
        if self.random.one_in(20) {
            pkt.id ^= 1;
        }
        (flow.eni, dir, pkt)
    }

    /// Gives a segment numbers that lie beside those that fit.
    fn misnumber(&mut self, eni: &str, pkt: &mut IpPkt) {
        const REACH: i64 = 1 << 23;
        const OFFSETS: [i64; 14] = [
            -REACH - 1,
            -REACH,
            -1000,
            -60,
            -2,
            -1,
            0,
            1,
            2,
            1000,
            REACH,
            REACH + 1,
            1 << 31,
            (1 << 31) - 1,
        ];
        // With a number of its own the packet leaves no trace in the book.
        pkt.seq = Some(0);
        let (_, ack) = self.book.numbers(eni, pkt);
        (pkt.seq, pkt.ack) = (None, Some(0));
        let (seq, _) = self.book.numbers(eni, pkt);
        let mut beside = |number: u32| {
            if self.random.one_in(8) {
                self.random.next() as u32
            } else {
                number.wrapping_add(self.random.of(&OFFSETS) as u32)
            }
        };
        (pkt.seq, pkt.ack) = (Some(beside(seq)), Some(beside(ack)));
    }

    pub(super) fn direction(&mut self) -> Direction {
        self.random.of(&[Direction::Ingress, Direction::Egress])
    }

    fn len(&mut self) -> u16 {
        self.random.of(&[0, 0, 1, 50, 1400])
    }
}

/// Source and destination of a packet.
pub(super) fn ends(direction: Direction, own: IpAddr, peer: IpAddr) -> (IpAddr, IpAddr) {
    match direction {
        Direction::Ingress => (peer, own),
        Direction::Egress => (own, peer),
    }
}

/// ICMP of a family.
pub(super) fn icmp_of(is_ipv4: bool) -> u8 {
    if is_ipv4 {
        protocol::ICMP
    } else {
        protocol::ICMPV6
    }
}

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address of this file")
}
