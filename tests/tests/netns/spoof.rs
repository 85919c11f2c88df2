//! A task with every privilege over its own network speaks as somebody else: nothing arrives.
//!
//! It sends frames of its own making, by an ordinary packet socket and by one that goes past its
//! own egress hooks (`PACKET_QDISC_BYPASS`).

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use branchline::{netns::Netns, provider::local::addresses::ROUTER_MAC};
use branchline_common::{
    headers::{arp, ethernet, icmp},
    verdict::DropReason,
};
use branchline_tests::{
    frame::{Frame, Mac},
    host::Host,
    packet::{self, Packet},
    settings::{OPEN_PORT, Settings},
    talk::PATIENCE,
    task::Task,
    wire::Wire,
};
use netring::Injector;

const ROUTER: Mac = ROUTER_MAC.0;
const NOBODY: Mac = [0x02, 0, 0, 0, 0x99, 0x99];
/// Behind each frame, past the end of its packet: nothing on the way looks at it or removes it.
const MARK: &[u8; 8] = b"E2E-MARK";

/// One attempt: what it is, the frame, and the reason it must be dropped for.
struct Attempt {
    name: &'static str,
    frame: Frame,
    reason: DropReason,
}

/// Who speaks, as whom, and to whom.
struct Cast {
    spoofer: Task,
    victim: Task,
}

impl Cast {
    fn end(address: impl Into<IpAddr>, port: u16) -> String {
        std::net::SocketAddr::new(address.into(), port).to_string()
    }

    /// A datagram to the victim's open port.
    fn datagram(&self, source: impl Into<IpAddr>) -> Packet {
        let source = source.into();
        let victim = self.victim.addresses()[usize::from(source.is_ipv6())];
        packet::udp(&Self::end(source, 4000), &Self::end(victim, OPEN_PORT)).data(20)
    }

    fn honest(&self) -> [Frame; 2] {
        self.spoofer
            .addresses()
            .map(|own| Frame::of(self.spoofer.mac, ROUTER, &self.datagram(own)))
    }

    fn attempts(&self) -> Vec<Attempt> {
        let mut attempts = self.tagged();
        attempts.extend(self.foreign_macs());
        attempts.extend(self.foreign_sources());
        attempts.extend(self.foreign_arp());
        attempts.extend(self.foreign_discovery());
        attempts.extend(self.malformed());
        attempts
    }

    fn tagged(&self) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        for honest in self.honest() {
            for (name, protocol, id) in [
                ("the victim's VLAN id", ethernet::VLAN, self.victim.vlan),
                ("the own VLAN id", ethernet::VLAN, self.spoofer.vlan),
                ("priority only", ethernet::VLAN, 0),
                ("a service tag", ethernet::SERVICE_VLAN, self.victim.vlan),
            ] {
                attempts.push(Attempt {
                    name,
                    frame: honest.clone().tag(protocol, id),
                    reason: DropReason::TaggedByTask,
                });
            }
            attempts.push(Attempt {
                name: "two tags, and the victim's MAC address",
                frame: honest
                    .tag(ethernet::VLAN, self.spoofer.vlan)
                    .tag(ethernet::VLAN, self.victim.vlan)
                    .to(self.victim.mac),
                reason: DropReason::TaggedByTask,
            });
        }
        attempts
    }

    fn foreign_macs(&self) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        for own in self.spoofer.addresses() {
            for (name, mac) in [
                ("the victim's MAC address", self.victim.mac),
                ("the router's MAC address", ROUTER),
                ("nobody's MAC address", NOBODY),
            ] {
                attempts.push(Attempt {
                    name,
                    frame: Frame::of(mac, ROUTER, &self.datagram(own)),
                    reason: DropReason::ForeignMac,
                });
            }
        }
        attempts
    }

    fn foreign_sources(&self) -> Vec<Attempt> {
        let sources: [(&str, IpAddr); 7] = [
            ("the victim's IPv4 address", self.victim.ipv4.into()),
            ("the victim's IPv6 address", self.victim.ipv6.into()),
            ("an unused address of the subnet", [10, 0, 2, 200].into()),
            ("the outside's IPv4 address", [198, 51, 100, 2].into()),
            (
                "the outside's IPv6 address",
                "2001:db8:ffff::2".parse().unwrap(),
            ),
            ("the IPv4 router's address", [10, 0, 2, 1].into()),
            ("loopback", [127, 0, 0, 1].into()),
        ];
        let mut attempts = Vec::new();
        for (name, source) in sources {
            for destination in [ROUTER, self.victim.mac] {
                attempts.push(Attempt {
                    name,
                    frame: Frame::of(self.spoofer.mac, destination, &self.datagram(source)),
                    reason: DropReason::ForeignSource,
                });
            }
        }
        attempts
    }

    fn foreign_arp(&self) -> Vec<Attempt> {
        let (own, own_ip) = (self.spoofer.mac, self.spoofer.ipv4.to_string());
        let (victim, victim_ip) = (self.victim.mac, self.victim.ipv4.to_string());
        let rows = [
            (
                "an ARP reply for the victim's address",
                arp::REPLY,
                (own, victim_ip.as_str()),
                (ROUTER, "10.0.2.1"),
            ),
            (
                "an ARP reply for the router's address",
                arp::REPLY,
                (own, "10.0.1.1"),
                (victim, victim_ip.as_str()),
            ),
            (
                "an ARP announcement of the victim's address",
                arp::REQUEST,
                (own, victim_ip.as_str()),
                ([0; 6], victim_ip.as_str()),
            ),
            (
                "an ARP reply with the victim's MAC address inside",
                arp::REPLY,
                (victim, own_ip.as_str()),
                (ROUTER, "10.0.2.1"),
            ),
        ];
        rows.map(|(name, operation, sender, target)| Attempt {
            name,
            frame: Frame::new(
                own,
                ethernet::BROADCAST,
                ethernet::ARP,
                Frame::arp(operation, sender, target)
                    .bytes()
                    .slice(ethernet::LEN..),
            ),
            reason: DropReason::ForeignNeighbour,
        })
        .into()
    }

    fn foreign_discovery(&self) -> Vec<Attempt> {
        let (own, victim) = (self.spoofer.ipv6.to_string(), self.victim.ipv6.to_string());
        let mac = Some(self.spoofer.mac);
        let rows = [
            (
                "an advertisement of the victim's address",
                own.as_str(),
                icmp::NEIGHBOUR_ADVERTISEMENT,
                victim.as_str(),
            ),
            (
                "an advertisement from the victim's address",
                victim.as_str(),
                icmp::NEIGHBOUR_ADVERTISEMENT,
                victim.as_str(),
            ),
            (
                "a solicitation from the victim's address",
                victim.as_str(),
                icmp::NEIGHBOUR_SOLICITATION,
                own.as_str(),
            ),
            (
                "a probe for the victim's address",
                "::",
                icmp::NEIGHBOUR_SOLICITATION,
                victim.as_str(),
            ),
            ("a router advertisement", own.as_str(), 134, own.as_str()),
            ("a redirect", own.as_str(), 137, victim.as_str()),
        ];
        rows.map(|(name, from, kind, target)| Attempt {
            name,
            frame: Frame::of(
                self.spoofer.mac,
                [0x33, 0x33, 0, 0, 0, 1],
                &packet::neighbour(from, "ff02::1", kind, target, mac),
            ),
            reason: DropReason::ForeignNeighbour,
        })
        .into()
    }

    fn malformed(&self) -> Vec<Attempt> {
        let own = self.spoofer.mac;
        let [ipv4, ipv6] = self.spoofer.addresses().map(|own| self.datagram(own));
        vec![
            Attempt {
                name: "an EtherType that is no IP",
                frame: Frame::new(own, self.victim.mac, 0x88cc, ipv4.bytes()),
                reason: DropReason::EtherType,
            },
            Attempt {
                name: "a header length below 5 words",
                frame: Frame::of(own, ROUTER, &ipv4.clone().version_ihl(0x44)),
                reason: DropReason::BadHeader,
            },
            Attempt {
                name: "IPv6 under the EtherType of IPv4",
                frame: Frame::new(own, ROUTER, ethernet::IPV4, ipv6.bytes()),
                reason: DropReason::BadHeader,
            },
        ]
    }
}

/// The frame with `MARK` and `n` behind it.
fn marked(frame: &Frame, n: usize) -> Vec<u8> {
    let mut bytes = frame.bytes().to_vec();
    bytes.extend(MARK);
    bytes.extend((n as u32).to_be_bytes());
    bytes
}

/// The number behind the mark, if there is one.
fn mark(frame: &[u8]) -> Option<usize> {
    let at = frame
        .windows(MARK.len())
        .rposition(|window| window == MARK)?;
    let number = frame.get(at + MARK.len()..)?.first_chunk()?;
    Some(u32::from_be_bytes(*number) as usize)
}

fn drops(host: &Host) -> BTreeMap<String, u64> {
    let drops = host.status().unwrap().drops;
    drops
        .into_iter()
        .map(|drop| (drop.reason, drop.packets))
        .collect()
}

/// Sends the frames from inside the calling thread's namespace.
type Send = fn(&[Vec<u8>]);

fn by_packet_socket(frames: &[Vec<u8>]) {
    let wire = Wire::open("eth0").unwrap();
    for frame in frames {
        wire.send(frame).unwrap();
    }
}

fn past_the_queue(frames: &[Vec<u8>]) {
    let mut injector = Injector::builder()
        .interface("eth0")
        .qdisc_bypass(true)
        .build()
        .unwrap();
    for frame in frames {
        let mut slot = injector.allocate(frame.len()).unwrap();
        slot.data_mut()[..frame.len()].copy_from_slice(frame);
        slot.set_len(frame.len());
        slot.send();
        injector.flush().unwrap();
    }
    injector.wait_drained(PATIENCE).unwrap();
}

#[test]
fn a_task_that_speaks_as_somebody_else_is_not_heard() {
    nothing_arrives("spoof", by_packet_socket);
}

#[test]
fn a_task_that_goes_past_its_own_egress_is_not_heard() {
    nothing_arrives("bypass", past_the_queue);
}

fn nothing_arrives(name: &str, send: Send) {
    let host = Host::new(name, Settings::default()).unwrap();
    host.start_agent().unwrap();
    let cast = Cast {
        victim: host
            .add_task("victim", &["subnet-a"], &["sg-server"])
            .unwrap(),
        spoofer: host
            .add_task("spoofer", &["subnet-b"], &["sg-client"])
            .unwrap(),
    };
    let fabric = host
        .run(|| Netns::open("/run/netns/branchline-fabric".as_ref()))
        .unwrap();
    // Wherever a frame could turn up: at the victim, in the VPC, and beyond it on the host.
    let taps = [
        ("victim", cast.victim.run(|| Wire::open("eth0")).unwrap()),
        (
            "fabric's trunk",
            fabric.run(|| Wire::open("trunk")).unwrap().unwrap(),
        ),
        (
            "fabric's uplink",
            fabric.run(|| Wire::open("uplink")).unwrap().unwrap(),
        ),
    ];
    let attempts = cast.attempts();
    let mut frames: Vec<_> = attempts
        .iter()
        .enumerate()
        .map(|(n, attempt)| marked(&attempt.frame, n))
        .collect();
    // The honest ones come last, and have overtaken nothing.
    let honest = cast.honest();
    frames.extend(
        (attempts.len()..)
            .zip(&honest)
            .map(|(n, frame)| marked(frame, n)),
    );
    let last = frames.len() - 1;

    let before = drops(&host);
    cast.spoofer.run(|| send(&frames));
    for (place, tap) in taps {
        let seen = if place == "fabric's uplink" {
            std::thread::sleep(Duration::from_millis(20));
            tap.waiting().unwrap()
        } else {
            tap.until(PATIENCE, |frame| mark(frame) == Some(last))
                .unwrap()
        };
        let numbers: Vec<usize> = seen.iter().filter_map(|frame| mark(frame)).collect();
        let forged: Vec<_> = numbers
            .iter()
            .filter_map(|n| attempts.get(*n))
            .map(|a| a.name)
            .collect();
        assert!(forged.is_empty(), "{place} sees {forged:?}");
        if place == "victim" {
            assert_eq!(numbers, [last - 1, last], "both honest frames");
        }
    }
    let after = drops(&host);
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for attempt in &attempts {
        *expected
            .entry(attempt.reason.name().to_owned())
            .or_default() += 1;
    }
    for (reason, count) in &expected {
        let found = after.get(reason).unwrap_or(&0) - before.get(reason).unwrap_or(&0);
        if reason == DropReason::ForeignSource.name() {
            // The spoofer's own stack announces its multicast groups from addresses that are not the ENI's.
            assert!(found >= *count, "{reason}: {found} of {count}");
        } else {
            assert_eq!(found, *count, "{reason}");
        }
    }
}
