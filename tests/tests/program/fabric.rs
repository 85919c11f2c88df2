//! `fabric` and `fabric_gateway`: what the local VPC answers itself and where it sends the rest.

use branchline::datapath::program;
use branchline_common::{
    account::Segments,
    fabric::{ROUTER, target},
    headers::{arp, icmp},
    maps::Eni,
    verdict::DropReason,
};
use branchline_tests::{
    case::{EniSpec, ROUTER_MAC, case, mapped_address},
    frame::{Frame, Mac},
    packet::{Packet, neighbour, udp},
    world::World,
};

use branchline_tests::loaded::{DROPPED, Loaded, Output, PASSED, REDIRECTED, plug, with_shared};

const A: Mac = [2, 0, 0, 0, 0, 1];
const B: Mac = [2, 0, 0, 0, 0, 2];
const NOBODY: Mac = [0; 6];
const ROUTER6: &str = "2001:db8:1:1::1";

/// The router, ENIs A and B (VLAN 101 and 102) and the routes of a VPC.
fn set_up(loaded: &mut Loaded) {
    loaded.set_up(&case("fabric", &[]));
    let router = Eni {
        mac: ROUTER_MAC,
        ..Eni::default()
    };
    loaded.datapath.set_eni(ROUTER, &router).unwrap();
    for address in ["10.0.1.1", ROUTER6] {
        loaded
            .datapath
            .set_address(mapped_address(address), ROUTER)
            .unwrap();
    }
    for slot in [1, 2] {
        plug(loaded, slot, &EniSpec::new(slot as u16, &[]).eni(1, 100));
    }
    for (prefix, bits, target) in [
        ("10.0.0.0", 96 + 16, target::LOCAL),
        ("0.0.0.0", 96, target::GATEWAY),
        ("192.0.2.0", 96 + 24, target::BLACKHOLE),
        ("2001:db8:1::", 48, target::LOCAL),
        ("2001:db8::", 32, target::GATEWAY),
    ] {
        loaded
            .datapath
            .set_route(mapped_address(prefix), bits, target)
            .unwrap();
    }
}

/// Runs a test in that VPC.
fn with_vpc(test: impl FnOnce(&mut Loaded)) {
    with_shared(|loaded| {
        set_up(loaded);
        test(loaded);
    });
}

fn route(loaded: &mut Loaded, frame: &Frame) -> Output {
    loaded.run(program::FABRIC, &frame.bytes(), Segments::default())
}

/// Whether the frame was dropped for this reason alone.
fn drops(loaded: &mut Loaded, program: &'static str, frame: &Frame, reason: DropReason) -> bool {
    let before = loaded.counters(0);
    let code = loaded
        .run(program, &frame.bytes(), Segments::default())
        .code;
    let mut expected = before;
    expected[reason as usize] += 1;
    code == DROPPED && loaded.counters(0) == expected
}

fn from_a(packet: &Packet, to: Mac) -> Frame {
    Frame::of(A, to, packet).tag(0x8100, 101)
}

#[test]
fn it_answers_arp_for_every_address_of_the_vpc() {
    with_vpc(|loaded| {
        for (address, mac) in [("10.0.1.1", ROUTER_MAC), ("10.0.1.20", B)] {
            let request =
                Frame::arp(arp::REQUEST, (A, "10.0.1.10"), (NOBODY, address)).tag(0x8100, 101);
            let reply = Frame::arp(arp::REPLY, (mac, address), (A, "10.0.1.10"))
                .tag(0x8100, 101)
                .to(A);
            let output = route(loaded, &request);
            assert_eq!(
                (output.code, output.frame),
                (REDIRECTED, reply.bytes().to_vec()),
                "{address}"
            );
        }
    });
}

#[test]
fn it_answers_no_other_arp() {
    with_vpc(|loaded| {
        let frames = [
            (
                "its own address",
                Frame::arp(arp::REQUEST, (A, "0.0.0.0"), (NOBODY, "10.0.1.10")),
            ),
            (
                "an unknown address",
                Frame::arp(arp::REQUEST, (A, "10.0.1.10"), (NOBODY, "10.0.1.77")),
            ),
            (
                "a reply",
                Frame::arp(arp::REPLY, (A, "10.0.1.10"), (NOBODY, "10.0.1.1")),
            ),
        ];
        for (what, frame) in frames {
            assert!(
                drops(
                    loaded,
                    program::FABRIC,
                    &frame.tag(0x8100, 101),
                    DropReason::NoRoute
                ),
                "{what}"
            );
        }
    });
}

#[test]
fn it_answers_neighbour_solicitations_with_a_valid_advertisement() {
    with_vpc(|loaded| {
        let own = "2001:db8:1:1::10";
        // Solicitations with and without the option: the answer has its own length.
        for (address, mac, option) in [
            (ROUTER6, ROUTER_MAC, Some(A)),
            ("2001:db8:1:1::20", B, None),
        ] {
            let request = neighbour(
                own,
                "ff02::1:ff00:1",
                icmp::NEIGHBOUR_SOLICITATION,
                address,
                option,
            );
            let reply = neighbour(
                address,
                own,
                icmp::NEIGHBOUR_ADVERTISEMENT,
                address,
                Some(mac),
            )
            .transport_byte(4, 0x60);
            for tag in [None, Some(101)] {
                let tagged = |frame: Frame| match tag {
                    Some(vlan) => frame.tag(0x8100, vlan),
                    None => frame,
                };
                let output = route(
                    loaded,
                    &tagged(Frame::of(A, [0x33, 0x33, 0xff, 0, 0, 1], &request)),
                );
                let reply = tagged(Frame::of(mac, A, &reply)).bytes();
                assert_eq!(
                    (output.code, output.frame),
                    (REDIRECTED, reply.to_vec()),
                    "{address}, tag {tag:?}"
                );
            }
        }
    });
}

#[test]
fn it_answers_no_other_neighbour_discovery() {
    with_vpc(|loaded| {
        let own = "2001:db8:1:1::10";
        let ask = |from, address| {
            neighbour(
                from,
                "ff02::1:ff00:1",
                icmp::NEIGHBOUR_SOLICITATION,
                address,
                None,
            )
        };
        let packets = [
            ("its own address", ask(own, own)),
            ("a probe", ask("::", "2001:db8:1:1::20")),
            ("an unknown address", ask(own, "2001:db8:1:1::77")),
            (
                "an advertisement",
                neighbour(own, ROUTER6, icmp::NEIGHBOUR_ADVERTISEMENT, own, Some(A)),
            ),
            (
                "a router solicitation",
                neighbour(own, "ff02::2", icmp::ROUTER_SOLICITATION, "::", None),
            ),
        ];
        for (what, packet) in packets {
            let frame = from_a(&packet, [0x33, 0x33, 0, 0, 0, 1]);
            assert!(
                drops(loaded, program::FABRIC, &frame, DropReason::NoRoute),
                "{what}"
            );
        }
    });
}

#[test]
fn it_sends_packets_to_another_enis_mac_and_vlan() {
    with_vpc(|loaded| {
        for packet in [
            udp("10.0.1.10:1", "10.0.1.20:2").data(50),
            udp("[2001:db8:1:1::10]:1", "[2001:db8:1:1::20]:2").data(50),
        ] {
            // By the router the router's address becomes the source, directly the peer's own stays. The
            // new tag is in the packet's metadata, which BPF_PROG_TEST_RUN does not show.
            for (to, source) in [(ROUTER_MAC, ROUTER_MAC), (B, A)] {
                let output = route(loaded, &from_a(&packet, to));
                let expected = Frame::of(source, B, &packet).bytes();
                assert_eq!((output.code, output.frame), (REDIRECTED, expected.to_vec()));
            }
        }
    });
}

#[test]
fn a_packet_that_stays_in_its_vlan_keeps_its_tag() {
    with_vpc(|loaded| {
        let mut eni = EniSpec::new(2, &[]).eni(1, 100);
        eni.vlan = 101;
        loaded.datapath.set_eni(2, &eni).unwrap();
        let packet = udp("10.0.1.10:1", "10.0.1.20:2");
        let output = route(loaded, &from_a(&packet, ROUTER_MAC));
        let expected = Frame::of(ROUTER_MAC, B, &packet).tag(0x8100, 101).bytes();
        assert_eq!((output.code, output.frame), (REDIRECTED, expected.to_vec()));
    });
}

#[test]
fn it_leads_what_leaves_the_vpc_to_the_gateway_untagged() {
    with_vpc(|loaded| {
        for packet in [
            udp("10.0.1.10:1", "198.51.100.7:2"),
            udp("[2001:db8:1:1::10]:1", "[2001:db8:ffff::7]:2"),
        ] {
            let output = route(loaded, &from_a(&packet, ROUTER_MAC));
            let expected = Frame::of(A, ROUTER_MAC, &packet).bytes();
            assert_eq!((output.code, output.frame), (PASSED, expected.to_vec()));
        }
    });
}

#[test]
fn it_drops_what_has_no_way() {
    with_vpc(|loaded| {
        let packets = [
            (
                "an address of the VPC that no ENI has",
                udp("10.0.1.10:1", "10.0.1.77:2"),
            ),
            ("the router itself", udp("10.0.1.10:1", "10.0.1.1:2")),
            ("a blackhole", udp("10.0.1.10:1", "192.0.2.9:2")),
            ("no route", udp("[2001:db8:1:1::10]:1", "[2620::1]:2")),
        ];
        for (what, packet) in packets {
            assert!(
                drops(
                    loaded,
                    program::FABRIC,
                    &from_a(&packet, ROUTER_MAC),
                    DropReason::NoRoute
                ),
                "{what}"
            );
        }
        let short = udp("10.0.1.10:1", "10.0.1.20:2").cut(27);
        assert!(drops(
            loaded,
            program::FABRIC,
            &from_a(&short, ROUTER_MAC),
            DropReason::Truncated
        ));
        let other = Frame::new(A, B, 0x88cc, bytes::Bytes::from_static(&[0; 40])).tag(0x8100, 101);
        assert!(drops(
            loaded,
            program::FABRIC,
            &other,
            DropReason::EtherType
        ));
    });
}

#[test]
fn the_gateway_gives_an_enis_packets_its_macs() {
    with_vpc(|loaded| {
        for packet in [
            udp("198.51.100.7:2", "10.0.1.10:1"),
            udp("[2001:db8:ffff::7]:2", "[2001:db8:1:1::10]:1"),
        ] {
            let frame = Frame::of(ROUTER_MAC, ROUTER_MAC, &packet).bytes();
            let output = loaded.run(program::FABRIC_GATEWAY, &frame, Segments::default());
            let expected = Frame::of(ROUTER_MAC, A, &packet).bytes();
            assert_eq!((output.code, output.frame), (PASSED, expected.to_vec()));
        }
        // An ENI on another trunk is reached by that trunk.
        let mut eni = EniSpec::new(2, &[]).eni(1, 100);
        eni.fabric_ifindex = 77;
        loaded.datapath.set_eni(2, &eni).unwrap();
        let frame = Frame::of(
            ROUTER_MAC,
            ROUTER_MAC,
            &udp("198.51.100.7:2", "10.0.1.20:1"),
        )
        .bytes();
        let output = loaded.run(program::FABRIC_GATEWAY, &frame, Segments::default());
        assert_eq!((output.code, &output.frame[..6]), (REDIRECTED, &B[..]));
    });
}

#[test]
fn the_gateway_lets_nothing_else_into_the_vpc() {
    with_vpc(|loaded| {
        let gateway = program::FABRIC_GATEWAY;
        let frame = |packet: &Packet| Frame::of(ROUTER_MAC, ROUTER_MAC, packet);
        let own = udp("198.51.100.7:2", "10.0.1.10:1");
        let rows = [
            (
                "an unknown address",
                frame(&udp("198.51.100.7:2", "10.0.1.77:1")),
            ),
            ("the router", frame(&udp("198.51.100.7:2", "10.0.1.1:1"))),
            ("a tagged frame", frame(&own).tag(0x8100, 101)),
        ];
        for (what, frame) in rows {
            assert!(
                drops(loaded, gateway, &frame, DropReason::NoRoute),
                "{what}"
            );
        }
        let multicast = frame(&own).to([1, 0, 0x5e, 0, 0, 1]);
        assert!(drops(loaded, gateway, &multicast, DropReason::NoRoute));
        let arp = Frame::arp(
            arp::REQUEST,
            (ROUTER_MAC, "198.51.100.7"),
            (NOBODY, "10.0.1.10"),
        );
        assert!(drops(loaded, gateway, &arp, DropReason::NoRoute));
        let arp = arp.to(ROUTER_MAC);
        assert!(drops(loaded, gateway, &arp, DropReason::EtherType));
    });
}

#[test]
fn the_gateway_leaves_alone_what_the_router_has_sent() {
    with_vpc(|loaded| {
        let frame = from_a(&udp("10.0.1.10:1", "10.0.1.20:2"), B).bytes();
        let output = loaded.run(program::FABRIC_GATEWAY, &frame, Segments::default());
        assert_eq!((output.code, output.frame), (PASSED, frame.to_vec()));
    });
}
