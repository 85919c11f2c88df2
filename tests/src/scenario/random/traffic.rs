//! Random packets: of flows, and of all that is judged before or beside flows. It knows no rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use branchline_common::headers::{icmp, protocol};

use super::{
    Generator,
    flow::{address, ends, icmp_of},
};
use crate::scenario::{
    format::Direction,
    packet_format::{ArpPkt, Flags, Frag, IpPkt, Pkt},
};

/// Services and routers, and neighbours of theirs that are none.
const SERVICES_IPV4: [&str; 9] = [
    "169.254.169.254",
    "169.254.169.254",
    "169.254.169.253",
    "169.254.169.123",
    "169.254.170.2",
    "169.254.169.250",
    "10.0.0.2",
    "10.0.1.1",
    "169.254.169.1",
];
const SERVICES_IPV6: [&str; 7] = [
    "fd00:ec2::254",
    "fd00:ec2::253",
    "fd00:ec2::123",
    "fd00:ec2::250",
    "2001:db8:1::2",
    "2001:db8:1:1::1",
    "fd00:ec2::1",
];

type Packet = (String, Direction, Pkt);

impl Generator {
    /// The next packet.
    pub(super) fn packet(&mut self) -> Packet {
        match self.random.below(100) {
            0..22 => of_ip(self.open()),
            22..66 => of_ip(self.go_on()),
            66..74 => of_ip(self.error()),
            74..84 => of_ip(self.fragment()),
            84..90 => of_ip(self.service()),
            90..93 => of_ip(self.dhcp()),
            93..95 => of_ip(self.neighbour()),
            95..97 => self.arp(),
            97..99 => of_ip(self.foreign()),
            _ => of_ip(self.malformed()),
        }
    }

    /// An ICMP error, mostly about a packet of a flow that went the other way.
    fn error(&mut self) -> (String, Direction, IpPkt) {
        let index = self.flow();
        let flow = self.flows[index].clone();
        let went = self.direction();
        let mut quoted = flow.packet(went);
        quoted.len = 0;
        match self.random.below(8) {
            0 => quoted.sport ^= 1,
            1 => quoted.id ^= 1,
            2 => quoted.proto.0 = self.random.of(&[protocol::TCP, protocol::UDP]),
            3 => quoted.src = self.foreign_address(quoted.src.is_ipv4()),
            4 => {
                let offset = self.random.of(&[0, 16]);
                quoted.frag = Some(Frag {
                    id: 9,
                    offset,
                    more: true,
                });
            }
            _ => {}
        }
        let dir = if self.random.one_in(6) {
            went
        } else {
            went.opposite()
        };
        let is_ipv4 = quoted.src.is_ipv4();
        let own = self.own(&flow.eni, is_ipv4);
        self.quote_primary(&flow.eni, dir, &mut quoted);
        let peer = self.peer(is_ipv4);
        let (src, dst) = ends(dir, own, peer);
        let mut pkt = IpPkt::new(src, dst, icmp_of(is_ipv4));
        (pkt.icmp_type, pkt.code) = if is_ipv4 {
            self.random
                .of(&[(3, 4), (3, 4), (3, 1), (4, 0), (11, 0), (12, 0), (5, 0)])
        } else {
            self.random
                .of(&[(2, 0), (2, 0), (1, 4), (3, 0), (4, 0), (137, 0)])
        };
        pkt.inner = Some(Box::new(quoted));
        (flow.eni, dir, pkt)
    }

    /// Puts the ENI's primary address in place of another of its own where an error that goes `dir`
    /// quotes it as the local end: the data plane knows no other.
    fn quote_primary(&self, eni: &str, dir: Direction, quoted: &mut IpPkt) {
        let local = match dir {
            Direction::Ingress => &mut quoted.src,
            Direction::Egress => &mut quoted.dst,
        };
        if self.setting.enis[eni].has(*local) {
            *local = self.own(eni, local.is_ipv4());
        }
    }

    /// A part of a datagram, of few datagrams: first or later, in any order.
    fn fragment(&mut self) -> (String, Direction, IpPkt) {
        if self.random.one_in(2) && !self.datagrams.is_empty() {
            let index = self.random.below(self.datagrams.len());
            let (eni, dir, mut pkt) = self.datagrams[index].clone();
            if let Some(frag) = &mut pkt.frag {
                frag.offset = self.random.of(&[1480, 1480, 2960, 0]);
            }
            return (eni, dir, pkt);
        }
        let (eni, dir, mut pkt) = if self.random.one_in(4) {
            self.open()
        } else {
            let index = self.flow();
            let flow = self.flows[index].clone();
            let dir = self.direction();
            let mut pkt = flow.packet(dir);
            pkt.flags = Flags(self.random.of(&[0x02, 0x10, 0x10, 0x11, 0x04]));
            (flow.eni, dir, pkt)
        };
        let offset = self.random.of(&[0, 0, 0, 16, 1480, 1480, 1480, 2960]);
        pkt.frag = Some(Frag {
            id: self.random.below(2) as u32,
            offset,
            more: offset == 0 || self.random.one_in(2),
        });
        (eni, dir, pkt)
    }

    /// Traffic with a service.
    fn service(&mut self) -> (String, Direction, IpPkt) {
        let eni = self.eni();
        let dir = self.direction();
        let is_ipv4 = self.random.below(3) < 2;
        let peer = if is_ipv4 {
            address(self.random.of(&SERVICES_IPV4))
        } else {
            address(self.random.of(&SERVICES_IPV6))
        };
        let own = self.own(&eni, is_ipv4);
        let mut pkt = self.opening(dir, own, peer);
        if self.random.one_in(2) {
            match dir {
                Direction::Egress => pkt.dport = 53,
                Direction::Ingress => (pkt.sport, pkt.dport) = (53, 40000),
            }
        }
        if self.random.one_in(4) {
            let offset = self.random.of(&[0, 0, 1480]);
            pkt.frag = Some(Frag {
                id: 5,
                offset,
                more: true,
            });
        }
        (eni, dir, pkt)
    }

    /// DHCP, and what looks like it.
    fn dhcp(&mut self) -> (String, Direction, IpPkt) {
        let eni = self.eni();
        let dir = self.direction();
        let is_ipv4 = self.random.one_in(2);
        let own = match self.random.below(4) {
            0 if is_ipv4 => Ipv4Addr::UNSPECIFIED.into(),
            0 => self.link_local(&eni),
            1 => self.foreign_address(is_ipv4),
            _ => self.own(&eni, is_ipv4),
        };
        let peer = match self.random.below(5) {
            0 if is_ipv4 => Ipv4Addr::BROADCAST.into(),
            0 => address("ff02::1:2"),
            1 if is_ipv4 => address("169.254.169.254"),
            1 => address("fd00:ec2::254"),
            _ => self.peer(is_ipv4),
        };
        let (src, dst) = ends(dir, own, peer);
        let mut pkt = IpPkt::new(src, dst, protocol::UDP);
        let (client, server) = self.random.of(&[
            (68, 67),
            (68, 67),
            (546, 547),
            (67, 67),
            (67, 68),
            (68, 547),
        ]);
        (pkt.sport, pkt.dport) = match dir {
            Direction::Egress => (client, server),
            Direction::Ingress => (server, client),
        };
        if self.random.one_in(6) {
            let offset = self.random.of(&[0, 1480]);
            pkt.frag = Some(Frag {
                id: 6,
                offset,
                more: true,
            });
        }
        (eni, dir, pkt)
    }

    /// Neighbour discovery, honest or not.
    fn neighbour(&mut self) -> (String, Direction, IpPkt) {
        let eni = self.eni();
        let dir = self.direction();
        let own = self.some_ipv6(&eni);
        let peer = if self.random.one_in(5) {
            address("fd00:ec2::254")
        } else {
            self.some_ipv6(&eni)
        };
        let (src, dst) = ends(dir, own, peer);
        let mut pkt = IpPkt::new(src, dst, protocol::ICMPV6);
        pkt.icmp_type = icmp::ROUTER_SOLICITATION + self.random.below(5) as u8;
        pkt.hop = self.random.of(&[255, 255, 255, 64]);
        if self.random.one_in(2)
            && let IpAddr::V6(target) = self.some_ipv6(&eni)
            && matches!(
                pkt.icmp_type,
                icmp::NEIGHBOUR_SOLICITATION | icmp::NEIGHBOUR_ADVERTISEMENT
            )
        {
            pkt.target = Some(target);
        }
        (eni, dir, pkt)
    }

    /// ARP, honest or not.
    fn arp(&mut self) -> Packet {
        let eni = self.eni();
        let dir = self.direction();
        let mut some = || match self.random.below(4) {
            0 => Some(Ipv4Addr::UNSPECIFIED),
            1 => Some(Ipv4Addr::new(10, 0, 1, 99)),
            _ => None,
        };
        let mut arp = ArpPkt {
            src: some(),
            dst: some(),
        };
        if let (IpAddr::V4(own), true) = (self.own(&eni, true), self.random.one_in(3)) {
            arp.dst = Some(own);
        }
        (eni, dir, Pkt::Arp(arp))
    }

    /// A packet whose local address is not the ENI's.
    fn foreign(&mut self) -> (String, Direction, IpPkt) {
        let eni = self.eni();
        let dir = self.direction();
        let is_ipv4 = self.random.one_in(2);
        let (own, peer) = (self.foreign_address(is_ipv4), self.peer(is_ipv4));
        let pkt = self.opening(dir, own, peer);
        (eni, dir, pkt)
    }

    /// A packet whose headers contradict each other.
    fn malformed(&mut self) -> (String, Direction, IpPkt) {
        let eni = self.eni();
        let dir = self.direction();
        let kind = self.random.below(4);
        let is_ipv4 = kind < 2;
        let own = self.own(&eni, is_ipv4);
        let peer = match kind {
            3 => address("::ffff:198.51.100.7"),
            _ => self.peer(is_ipv4),
        };
        let mut pkt = self.opening(dir, own, peer);
        match kind {
            0 => pkt.proto.0 = protocol::ICMPV6,
            1 => {
                pkt.proto.0 = protocol::TCP;
                pkt.frag = Some(Frag {
                    id: 0,
                    offset: 8,
                    more: true,
                });
            }
            2 => pkt.proto.0 = protocol::ICMP,
            _ => {}
        }
        (eni, dir, pkt)
    }

    /// An address that neighbour discovery may be about.
    fn some_ipv6(&mut self, eni: &str) -> IpAddr {
        match self.random.below(5) {
            0 => Ipv6Addr::UNSPECIFIED.into(),
            1 => self.link_local(eni),
            2 => self.foreign_address(false),
            _ => self.own(eni, false),
        }
    }

    fn link_local(&self, eni: &str) -> IpAddr {
        self.setting.enis[eni].link_local().into()
    }
}

fn of_ip((eni, dir, pkt): (String, Direction, IpPkt)) -> Packet {
    (eni, dir, Pkt::Ip(Box::new(pkt)))
}
