//! Tags, MAC addresses, foreign addresses, ARP and neighbour discovery: what a task may not say.

use branchline_common::{
    headers::{arp, ethernet, icmp},
    verdict::Verdict::{self, Allow, Deny, Exempt},
};
use bytes::Bytes;

use super::{DropReason, EGRESS, INGRESS, NO_RULE, SYN};
use crate::{
    case::{Case, ROUTER_MAC, case},
    frame::{Frame, Mac},
    packet::{neighbour, tcp, udp},
};

const TASK_MAC: Mac = [2, 0, 0, 0, 0, 1];
const FOREIGN_MAC: Mac = [2, 0, 0, 0, 0, 9];
const NOBODY: Mac = [0; 6];
const TAGGED: Verdict = Deny(DropReason::TaggedByTask);
const UNKNOWN: Verdict = Deny(DropReason::UnknownEndpoint);
const FORGED: Verdict = Deny(DropReason::ForeignNeighbour);
const OPEN: &[&str] = &[
    "ingress all 0.0.0.0/0",
    "ingress all ::/0",
    "egress all 0.0.0.0/0",
    "egress all ::/0",
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = tags();
    cases.extend(addresses());
    cases.extend(arp_cases());
    cases.extend(neighbour_cases());
    cases
}

fn syn_out() -> Frame {
    let packet = tcp("10.0.1.10:1", "198.51.100.7:80", SYN);
    Frame::of(TASK_MAC, ROUTER_MAC, &packet)
}

fn syn_in() -> Frame {
    let packet = tcp("198.51.100.7:1", "10.0.1.10:80", SYN);
    Frame::of(ROUTER_MAC, TASK_MAC, &packet)
}

fn tags() -> Vec<Case> {
    let send = |name: &str, frame: Frame, expected| {
        case(name, OPEN)
            .frame(EGRESS, frame.bytes(), expected)
            .leaves([])
    };
    let get = |name: &str, frame: Frame, expected| {
        case(name, OPEN).frame(INGRESS, frame.bytes(), expected)
    };
    vec![
        send(
            "a task's own VLAN tag is dropped",
            syn_out().tag(0x8100, 101),
            TAGGED,
        ),
        send(
            "a task's priority tag is dropped",
            syn_out().tag(0x8100, 0xe000),
            TAGGED,
        ),
        send(
            "a task's service tag is dropped",
            syn_out().tag(0x88a8, 102),
            TAGGED,
        ),
        send(
            "a task's double tag is dropped",
            syn_out().tag(0x8100, 101).tag(0x8100, 102),
            TAGGED,
        ),
        send(
            "a task's double service tag is dropped",
            syn_out().tag(0x88a8, 101).tag(0x8100, 102),
            TAGGED,
        ),
        send(
            "a tagged ARP message of a task is dropped",
            own_request().tag(0x8100, 101),
            TAGGED,
        ),
        get(
            "a frame with the ENI's tag arrives",
            syn_in().tag(0x8100, 101),
            Allow,
        ),
        get(
            "priority bits of the tag do not matter",
            syn_in().tag(0x8100, 0xf065),
            Allow,
        ),
        get(
            "a frame with the ENI's id in a service tag arrives",
            syn_in().tag(0x88a8, 101),
            Allow,
        ),
        get("a frame without a tag is nobody's", syn_in(), UNKNOWN).leaves([]),
        get(
            "a frame with another tag is nobody's",
            syn_in().tag(0x8100, 102),
            UNKNOWN,
        )
        .leaves([]),
        get(
            "a frame for another MAC address is nobody's",
            syn_in().tag(0x8100, 101).to(FOREIGN_MAC),
            UNKNOWN,
        )
        .leaves([]),
        get(
            "a second tag inside the ENI's own is no packet",
            syn_in().tag(0x8100, 101).tag(0x8100, 5),
            Deny(DropReason::EtherType),
        )
        .leaves([]),
        get(
            "a broadcast in the ENI's VLAN is judged by its address",
            syn_in().tag(0x8100, 101).to([0xff; 6]),
            Allow,
        ),
        get(
            "a multicast frame in the ENI's VLAN is judged by its address",
            syn_in().tag(0x8100, 101).to([1, 0, 0x5e, 0, 0, 1]),
            Allow,
        ),
    ]
}

fn addresses() -> Vec<Case> {
    let packet = udp("10.0.1.10:1", "198.51.100.7:2");
    let source = Deny(DropReason::ForeignSource);
    let destination = Deny(DropReason::ForeignDestination);
    let raw_frame = |ether_type| {
        Frame::new(
            TASK_MAC,
            ROUTER_MAC,
            ether_type,
            Bytes::from_static(&[0; 60]),
        )
        .bytes()
    };
    vec![
        case("a frame from a foreign MAC address is dropped", OPEN)
            .frame(
                EGRESS,
                Frame::of(FOREIGN_MAC, ROUTER_MAC, &packet).bytes(),
                Deny(DropReason::ForeignMac),
            )
            .frame(
                EGRESS,
                Frame::of([0xff; 6], ROUTER_MAC, &packet).bytes(),
                Deny(DropReason::ForeignMac),
            )
            .leaves([]),
        case("a packet from a foreign IPv4 address is dropped", OPEN)
            .egress(udp("10.0.1.11:1", "198.51.100.7:2"), source)
            .egress(udp("0.0.0.0:1", "198.51.100.7:2"), source)
            .egress(udp("127.0.0.1:1", "198.51.100.7:2"), source)
            .leaves([]),
        case("a packet from a foreign IPv6 address is dropped", OPEN)
            .egress(udp("[2001:db8:1:1::11]:1", "[2001:db8:ffff::7]:2"), source)
            .egress(udp("[::]:1", "[2001:db8:ffff::7]:2"), source)
            .egress(udp("[fe80::ff:fe00:1]:1", "[2001:db8:ffff::7]:2"), source)
            .leaves([]),
        case("a packet for a foreign address is dropped", OPEN)
            .ingress(udp("198.51.100.7:1", "10.0.1.11:2"), destination)
            .ingress(udp("198.51.100.7:1", "255.255.255.255:2"), destination)
            .ingress(udp("198.51.100.7:1", "224.0.0.1:2"), destination)
            .ingress(
                udp("[2001:db8:ffff::7]:1", "[2001:db8:1:1::11]:2"),
                destination,
            )
            .ingress(udp("[2001:db8:ffff::7]:1", "[ff02::1]:2"), destination)
            .leaves([]),
        case("what is neither IP nor ARP is dropped", OPEN)
            .frame(EGRESS, raw_frame(0x88cc), Deny(DropReason::EtherType))
            .frame(EGRESS, raw_frame(0x0026), Deny(DropReason::EtherType))
            .frame(EGRESS, raw_frame(0x8847), Deny(DropReason::EtherType))
            .leaves([]),
    ]
}

fn own_request() -> Frame {
    Frame::arp(arp::REQUEST, (TASK_MAC, "10.0.1.10"), (NOBODY, "10.0.1.1"))
}

fn arp_cases() -> Vec<Case> {
    let send = |name: &str, frame: Frame, expected| {
        case(name, OPEN)
            .frame(EGRESS, frame.bytes(), expected)
            .leaves([])
    };
    let short = own_request().bytes().slice(..14 + 27);
    let mut other_hardware = own_request().bytes().to_vec();
    other_hardware[15] = 6;
    let request = |sender, target| Frame::arp(arp::REQUEST, sender, (NOBODY, target));
    vec![
        send(
            "a task may ask by ARP with its own address",
            own_request(),
            Exempt,
        ),
        send(
            "a task may answer ARP for its own address",
            Frame::arp(
                arp::REPLY,
                (TASK_MAC, "10.0.1.10"),
                (ROUTER_MAC, "10.0.1.1"),
            ),
            Exempt,
        ),
        send(
            "a task may announce its own address by ARP",
            request((TASK_MAC, "10.0.1.10"), "10.0.1.10"),
            Exempt,
        ),
        send(
            "a task may probe for its own address by ARP",
            request((TASK_MAC, "0.0.0.0"), "10.0.1.10"),
            Exempt,
        ),
        send(
            "a task may not probe for another's address by ARP",
            request((TASK_MAC, "0.0.0.0"), "10.0.1.11"),
            FORGED,
        ),
        send(
            "a task may not ask by ARP with another's address",
            request((TASK_MAC, "10.0.1.1"), "10.0.1.20"),
            FORGED,
        ),
        send(
            "a task may not answer ARP for another's address",
            Frame::arp(
                arp::REPLY,
                (TASK_MAC, "10.0.1.1"),
                (FOREIGN_MAC, "10.0.1.20"),
            ),
            FORGED,
        ),
        case("a task may not give another's MAC address in ARP", OPEN)
            .frame(
                EGRESS,
                {
                    let message = Frame::arp(
                        arp::REPLY,
                        (FOREIGN_MAC, "10.0.1.10"),
                        (ROUTER_MAC, "10.0.1.1"),
                    )
                    .bytes();
                    Frame::new(TASK_MAC, ROUTER_MAC, ethernet::ARP, message.slice(14..)).bytes()
                },
                FORGED,
            )
            .leaves([]),
        case("an ARP message that ends early is dropped", OPEN).frame(
            EGRESS,
            short,
            Deny(DropReason::Truncated),
        ),
        case("an ARP message for other hardware is dropped", OPEN).frame(
            EGRESS,
            other_hardware.into(),
            Deny(DropReason::BadHeader),
        ),
        case("ARP of others arrives", &[])
            .frame(
                INGRESS,
                Frame::arp(
                    arp::REQUEST,
                    (ROUTER_MAC, "10.0.1.1"),
                    (NOBODY, "10.0.1.10"),
                )
                .tag(0x8100, 101)
                .bytes(),
                Exempt,
            )
            .frame(
                INGRESS,
                Frame::arp(
                    arp::REPLY,
                    (ROUTER_MAC, "10.0.1.1"),
                    (TASK_MAC, "10.0.1.10"),
                )
                .tag(0x8100, 101)
                .to(TASK_MAC)
                .bytes(),
                Exempt,
            )
            .leaves([]),
    ]
}

fn neighbour_cases() -> Vec<Case> {
    const OWN: &str = "2001:db8:1:1::10";
    const LINK_LOCAL: &str = "fe80::ff:fe00:1";
    const OTHER: &str = "2001:db8:1:1::11";
    const ROUTER: &str = "2001:db8:1:1::1";
    const GROUP: &str = "ff02::1:ff00:1";
    let ask = |from, target| neighbour(from, GROUP, icmp::NEIGHBOUR_SOLICITATION, target, None);
    let tell = |from, target| {
        neighbour(
            from,
            "ff02::1",
            icmp::NEIGHBOUR_ADVERTISEMENT,
            target,
            Some(TASK_MAC),
        )
    };
    let router = |icmp_type| neighbour(LINK_LOCAL, "ff02::1", icmp_type, "::", None);
    vec![
        case("a task may ask for neighbours with its own addresses", &[])
            .egress(ask(OWN, ROUTER), Exempt)
            .egress(ask(LINK_LOCAL, ROUTER), Exempt)
            .leaves([]),
        case("a task may probe for its own addresses", &[])
            .egress(ask("::", OWN), Exempt)
            .egress(ask("::", LINK_LOCAL), Exempt)
            .egress(ask("::", OTHER), FORGED)
            .leaves([]),
        case("a task may advertise its own addresses only", OPEN)
            .egress(tell(OWN, OWN), Exempt)
            .egress(tell(LINK_LOCAL, OWN), Exempt)
            .egress(tell(OWN, LINK_LOCAL), Exempt)
            .egress(tell(OWN, OTHER), FORGED)
            .egress(tell(OWN, ROUTER), FORGED)
            .egress(tell(OTHER, OWN), FORGED)
            .egress(tell("::", OWN), FORGED)
            .leaves([]),
        case("a task may not ask with another's address", OPEN)
            .egress(ask(OTHER, ROUTER), FORGED)
            .leaves([]),
        case("a task may solicit routers but is none", OPEN)
            .egress(router(icmp::ROUTER_SOLICITATION), Exempt)
            .egress(
                neighbour("::", "ff02::2", icmp::ROUTER_SOLICITATION, "::", None),
                Exempt,
            )
            .egress(router(134), FORGED)
            .leaves([]),
        case(
            "a redirect of a task is no neighbour discovery but a packet with a foreign source",
            OPEN,
        )
        .egress(
            neighbour(LINK_LOCAL, OTHER, 137, "::", None),
            Deny(DropReason::ForeignSource),
        ),
        case(
            "neighbour discovery that was forwarded is judged by the rules",
            &[],
        )
        .ingress(
            neighbour(OTHER, OWN, icmp::NEIGHBOUR_ADVERTISEMENT, OTHER, None).hop_limit(64),
            NO_RULE,
        )
        .egress(tell(OWN, OTHER).hop_limit(254), NO_RULE),
        case(
            "neighbour discovery in a fragment is judged by the rules",
            &[],
        )
        .ingress(
            ask(OTHER, OWN).fragment(1, 0, true),
            Deny(DropReason::ForeignDestination),
        )
        .egress(
            neighbour(OWN, OTHER, icmp::NEIGHBOUR_ADVERTISEMENT, OTHER, None).fragment(1, 0, true),
            NO_RULE,
        ),
        case("neighbour discovery of others arrives", &[])
            .ingress(ask("fe80::1", OWN), Exempt)
            .ingress(
                neighbour(
                    "fe80::1",
                    OWN,
                    icmp::NEIGHBOUR_ADVERTISEMENT,
                    ROUTER,
                    Some(ROUTER_MAC),
                ),
                Exempt,
            )
            .leaves([]),
        case(
            "a solicitation that ends before its target is dropped",
            OPEN,
        )
        .egress(
            ask(OWN, ROUTER).cut(40 + 23).length(23),
            Deny(DropReason::Truncated),
        )
        .leaves([]),
    ]
}
