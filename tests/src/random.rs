//! Random frames that are worth judging: of few ends, so that they meet again, and often damaged.
//!
//! A seed gives the same frames on every machine.

use bytes::Bytes;

use branchline_common::{account::Segments, headers::icmp, verdict::Direction};

use crate::{
    case::EniSpec,
    packet::{self, Packet},
};

/// Numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

const PEERS: [&str; 6] = [
    "198.51.100.7",
    "198.51.100.200",
    "203.0.113.9",
    "10.0.1.20",
    "10.0.0.2",
    "169.254.169.254",
];
const PEERS6: [&str; 6] = [
    "::ffff:198.51.100.7",
    "2001:db8:ffff::7",
    "2001:db8:eeee::9",
    "2001:db8:1:1::20",
    "fd00:ec2::253",
    "2001:db8:1:1::1",
];
const PORTS: [u16; 8] = [53, 67, 68, 80, 443, 546, 547, 40000];
const TCP_FLAGS: [u8; 10] = [0x02, 0x02, 0x12, 0x12, 0x10, 0x10, 0x18, 0x11, 0x04, 0x14];
const ICMP_TYPES: [u8; 8] = [0, 8, 8, 0, 3, 5, 13, 14];
const ICMPV6_TYPES: [u8; 8] = [128, 129, 128, 129, 1, 2, 137, 143];
const EXTENSIONS: [u8; 3] = [0, 43, 60];

impl Random {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// One of these.
    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A frame, the ENI at whose hook it arrives, the hook, and how many segments it stands for.
    pub fn arrival(&mut self, enis: &[EniSpec]) -> (usize, Direction, Bytes, Segments) {
        let index = self.below(enis.len());
        let eni = &enis[index];
        let direction = Direction::from_byte(self.below(2) as u8);
        let packet = self.packet(eni, direction);
        let mut frame = eni.frame(direction, &packet);
        if self.one_in(40) {
            frame = frame.tag(0x8100, self.below(4096) as u16);
        }
        if self.one_in(40) {
            frame = frame.to([self.below(4) as u8, 0, 0, 0, 0, self.below(4) as u8]);
        }
        let mut bytes = frame.bytes().to_vec();
        if self.one_in(3) {
            self.damage(&mut bytes);
        }
        let segments = if self.one_in(10) && bytes.len() > 100 {
            Segments {
                count: self.below(4) as u32,
                size: 50,
            }
        } else {
            Segments::default()
        };
        (index, direction, bytes.into(), segments)
    }

    /// A well-formed packet between the ENI and a peer.
    pub fn packet(&mut self, eni: &EniSpec, direction: Direction) -> Packet {
        let is_ipv4 = self.below(5) < 3;
        let task = if self.one_in(30) {
            if is_ipv4 { "10.0.1.99" } else { "fe80::99" }
        } else if is_ipv4 {
            &eni.ipv4
        } else {
            &eni.ipv6
        };
        let peer = if is_ipv4 {
            self.of(&PEERS)
        } else {
            self.of(&PEERS6)
        };
        let (from, to) = match direction {
            Direction::Ingress => (peer, task),
            Direction::Egress => (task, peer),
        };
        let mut packet = self.transport(from, to, is_ipv4);
        if is_ipv4 && self.one_in(8) {
            packet = packet.options(1 + self.below(10));
        }
        if !is_ipv4 && self.one_in(4) {
            for _ in 0..self.below(10) {
                packet = packet.extension(self.of(&EXTENSIONS), self.below(3) as u8);
            }
        }
        if self.one_in(8) {
            let offset = if self.one_in(2) {
                0
            } else {
                8 * self.below(4) as u16
            };
            packet = packet.fragment(self.below(4) as u32, offset, !self.one_in(3));
        }
        if self.one_in(10) {
            packet = packet.padding(self.below(30));
        }
        packet
    }

    fn transport(&mut self, from: &str, to: &str, is_ipv4: bool) -> Packet {
        let (from_end, to_end) = (self.end(from, is_ipv4), self.end(to, is_ipv4));
        let len = if self.one_in(3) { self.below(300) } else { 0 };
        match self.below(10) {
            0..4 => packet::tcp(&from_end, &to_end, self.of(&TCP_FLAGS)).data(len),
            4..7 => packet::udp(&from_end, &to_end).data(len),
            7 => {
                let types = if is_ipv4 { &ICMP_TYPES } else { &ICMPV6_TYPES };
                packet::icmp(from, to, self.of(types), 0, self.below(3) as u16).data(len)
            }
            8 if self.one_in(2) => {
                // About a packet that went the other way.
                let quoted = self.quotable(to, from, is_ipv4);
                let kind = if is_ipv4 { (3, 4) } else { (2, 0) };
                packet::icmp_error(from, to, kind, &quoted, 20 + self.below(80))
            }
            8 if !is_ipv4 => {
                let kind = icmp::ROUTER_SOLICITATION + self.below(5) as u8;
                let target = if self.one_in(2) { from } else { to };
                packet::neighbour(from, to, kind, target, None)
            }
            _ => packet::raw(from, to, self.of(&[47, 50, 132, 6, 17]), len),
        }
    }

    fn quotable(&mut self, from: &str, to: &str, is_ipv4: bool) -> Packet {
        let (from_end, to_end) = (self.end(from, is_ipv4), self.end(to, is_ipv4));
        match self.below(3) {
            0 => packet::udp(&from_end, &to_end),
            1 => packet::tcp(&from_end, &to_end, 0x02),
            _ => packet::icmp(
                from,
                to,
                if is_ipv4 { 8 } else { 128 },
                0,
                self.below(3) as u16,
            ),
        }
    }

    fn end(&mut self, address: &str, is_ipv4: bool) -> String {
        let port = self.of(&PORTS);
        if is_ipv4 {
            format!("{address}:{port}")
        } else {
            format!("[{address}]:{port}")
        }
    }

    /// Changes some bytes, mostly of headers; cuts or extends.
    pub fn damage(&mut self, frame: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let header_end = frame.len().min(90);
            // Behind the MAC addresses, that the frame still finds its ENI.
            let at = 12 + self.below(header_end - 12);
            frame[at] = match self.below(3) {
                0 => self.next() as u8,
                1 => frame[at] ^ (1 << self.below(8)),
                _ => self.of(&[0, 1, 4, 5, 6, 17, 44, 58, 60, 0x45, 0x60, 0x81, 0xff]),
            };
        }
        if self.one_in(4) {
            let len = 14 + self.below(frame.len() - 13);
            frame.truncate(len);
        }
        if self.one_in(10) {
            let len = frame.len() + self.below(600);
            frame.resize(len, 0x3c);
        }
    }
}
