//! Headers of every length and kind, right and wrong. What cannot be decided is dropped.

use branchline_common::{
    headers::{ethernet, ipv6, protocol},
    verdict::{
        Direction,
        Verdict::{self, Allow, Deny},
    },
};

use super::{DropReason, EGRESS, INGRESS, NO_RULE, SYN};
use crate::{
    case::{Case, EniSpec, case},
    packet::{Packet, icmp, raw, tcp, udp},
    world::connection,
};

const TRUNCATED: Verdict = Deny(DropReason::Truncated);
const BAD: Verdict = Deny(DropReason::BadHeader);
const CHAIN: Verdict = Deny(DropReason::HeaderChain);
const OPEN: &[&str] = &[
    "ingress all 0.0.0.0/0",
    "ingress all ::/0",
    "egress all 0.0.0.0/0",
    "egress all ::/0",
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = truncations();
    cases.extend(ipv4_headers());
    cases.extend(ipv6_headers());
    cases.extend(extensions());
    cases
}

fn out() -> Packet {
    tcp("10.0.1.10:1", "198.51.100.7:80", SYN)
}

fn out6() -> Packet {
    tcp("[2001:db8:1:1::10]:1", "[2001:db8:ffff::7]:80", SYN)
}

/// Every packet cut at every byte, as a frame and as what its own length says.
fn truncations() -> Vec<Case> {
    let mut cases = Vec::new();
    let packets = [
        ("a TCP segment", out(), 40),
        ("a TCP segment over IPv6", out6(), 60),
        ("a UDP datagram", udp("10.0.1.10:1", "198.51.100.7:2"), 28),
        ("a ping", icmp("10.0.1.10", "198.51.100.7", 8, 0, 1), 28),
        (
            "a UDP datagram behind extension headers",
            udp("[2001:db8:1:1::10]:1", "[2001:db8:ffff::7]:2")
                .extension(ipv6::HOP_BY_HOP, 0)
                .extension(ipv6::DESTINATION_OPTIONS, 1),
            72,
        ),
        (
            "a UDP datagram with IP options",
            udp("10.0.1.10:1", "198.51.100.7:2").options(3),
            40,
        ),
    ];
    let eni = EniSpec::new(1, &[]);
    for (name, packet, len) in packets {
        let whole = eni.frame(EGRESS, &packet).bytes();
        assert_eq!(whole.len(), ethernet::LEN + len, "{name}");
        let mut cut = case(&format!("{name} cut at any byte is dropped"), OPEN);
        for end in ethernet::LEN..whole.len() {
            cut = cut.frame(EGRESS, whole.slice(..end), TRUNCATED);
        }
        cases.push(cut.leaves([]));
        cases.push(
            case(
                &format!("{name} with data that is not all there is dropped"),
                OPEN,
            )
            .egress(packet.clone().data(100).cut(len + 99), TRUNCATED)
            .egress(packet.data(100).padding(20), Allow),
        );
    }
    let tagged = eni
        .frame(INGRESS, &udp("198.51.100.7:2", "10.0.1.10:1"))
        .bytes();
    let mut cut = case(
        "a tagged frame cut at any byte of its headers is dropped",
        OPEN,
    );
    for end in ethernet::LEN..tagged.len() {
        cut = cut.frame(Direction::Ingress, tagged.slice(..end), TRUNCATED);
    }
    cases.push(cut.leaves([]));
    cases
}

fn ipv4_headers() -> Vec<Case> {
    let drop =
        |name: &str, packet: Packet, expected| case(name, OPEN).egress(packet, expected).leaves([]);
    vec![
        drop(
            "neighbour discovery in IPv4 is bad, not exempt",
            raw("10.0.1.10", "198.51.100.7", protocol::ICMPV6, 24)
                .transport_byte(0, 135)
                .hop_limit(255),
            BAD,
        ),
        drop(
            "an IPv4 header of less than 5 words is bad",
            raw("10.0.1.10", "198.51.100.7", 50, 20).version_ihl(0x44),
            BAD,
        ),
        drop(
            "an IPv4 header of no words is bad",
            raw("10.0.1.10", "198.51.100.7", 50, 20).version_ihl(0x40),
            BAD,
        ),
        drop(
            "an IPv4 header that says version 6 is bad",
            out().version_ihl(0x65),
            BAD,
        ),
        drop(
            "an IPv4 header that says version 0 is bad",
            out().version_ihl(0x05),
            BAD,
        ),
        drop(
            "an IPv4 header longer than its packet is bad",
            out().version_ihl(0x4f),
            BAD,
        ),
        drop(
            "a total length less than the header is bad",
            out().length(19),
            BAD,
        ),
        drop("a total length of 0 is bad", out().length(0), BAD),
        drop(
            "a total length more than the frame is truncated",
            out().length(41),
            TRUNCATED,
        ),
        drop(
            "a total length that ends inside the TCP header is truncated",
            out().length(39),
            TRUNCATED,
        ),
        drop(
            "a TCP data offset of less than 5 words is bad",
            out().transport_byte(12, 0x40),
            BAD,
        ),
        drop(
            "a TCP data offset beyond the packet is truncated",
            out().transport_byte(12, 0x60),
            TRUNCATED,
        ),
        case(
            "IP options are skipped, up to the longest",
            &["egress tcp 80 0.0.0.0/0"],
        )
        .egress(out().options(1), Allow)
        .egress(out().options(10), Allow)
        .egress(
            tcp("10.0.1.10:1", "198.51.100.7:81", SYN).options(10),
            NO_RULE,
        ),
        case("TCP options are skipped", &["egress tcp 80 0.0.0.0/0"])
            .egress(out().data(40).transport_byte(12, 0xf0), Allow),
        case(
            "padding behind the packet is not counted",
            &["egress tcp 80 0.0.0.0/0"],
        )
        .egress(out().padding(6), Allow)
        .leaves([connection(
            branchline_common::conntrack::State::SynSent,
            EGRESS,
            (0, 0, 0),
            (1, 40, 2),
        )]),
        case(
            "a UDP length field is not what is counted",
            &["egress udp 0.0.0.0/0"],
        )
        .egress(udp("10.0.1.10:1", "198.51.100.7:2").data(4), Allow),
        case(
            "a protocol without ports needs no transport header",
            &["egress 50 0.0.0.0/0"],
        )
        .egress(raw("10.0.1.10", "198.51.100.7", 50, 0), Allow),
    ]
}

fn ipv6_headers() -> Vec<Case> {
    let drop =
        |name: &str, packet: Packet, expected| case(name, OPEN).egress(packet, expected).leaves([]);
    vec![
        drop(
            "an IPv6 packet from a mapped IPv4 address is bad",
            udp("[::ffff:10.0.1.10]:1", "[2001:db8:ffff::7]:2"),
            BAD,
        ),
        drop(
            "an IPv6 packet for a mapped IPv4 address is bad",
            udp("[2001:db8:1:1::10]:1", "[::ffff:198.51.100.7]:2"),
            BAD,
        ),
        drop(
            "ICMP in IPv6 is bad",
            raw("2001:db8:1:1::10", "2001:db8:ffff::7", protocol::ICMP, 28),
            BAD,
        ),
        drop(
            "an IPv6 header that says version 4 is bad",
            out6().version_ihl(0x45),
            BAD,
        ),
        drop(
            "an IPv6 header that says version 15 is bad",
            out6().version_ihl(0xf0),
            BAD,
        ),
        drop(
            "a payload length more than the frame is truncated",
            out6().length(21),
            TRUNCATED,
        ),
        drop(
            "a payload length that ends inside the TCP header is truncated",
            out6().length(19),
            TRUNCATED,
        ),
        drop(
            "a payload length of 0 is truncated",
            out6().length(0),
            TRUNCATED,
        ),
        drop(
            "a payload length that ends inside an extension header is bad",
            out6().extension(ipv6::HOP_BY_HOP, 1).length(12),
            BAD,
        ),
    ]
}

const KINDS: [(&str, u8); 3] = [
    ("hop-by-hop options", ipv6::HOP_BY_HOP),
    ("a routing header", ipv6::ROUTING),
    ("destination options", ipv6::DESTINATION_OPTIONS),
];

fn extensions() -> Vec<Case> {
    let rules = &["egress udp 53 ::/0"];
    let to = |port: u16| {
        udp(
            "[2001:db8:1:1::10]:1",
            &format!("[2001:db8:ffff::7]:{port}"),
        )
    };
    let times = |packet: Packet, count: usize, number| {
        (0..count).fold(packet, |packet, _| packet.extension(number, 0))
    };
    let mut cases = Vec::new();
    for (name, number) in KINDS {
        cases.push(
            case(&format!("the ports behind {name} are found"), rules)
                .egress(to(53).extension(number, 0), Allow)
                .egress(to(53).extension(number, 2), Allow)
                .egress(to(54).extension(number, 2), NO_RULE),
        );
        cases.push(
            case(
                &format!("eight times {name} are walked, nine are not"),
                rules,
            )
            .egress(times(to(53), 8, number), Allow)
            .egress(times(to(54), 8, number), NO_RULE)
            .egress(times(to(53), 9, number), CHAIN),
        );
        cases.push(
            case(
                &format!("{name} may reach to where headers are read, and no further"),
                rules,
            )
            .egress(to(53).extension(number, 56), Allow)
            .egress(to(53).extension(number, 57), TRUNCATED)
            .egress(to(53).extension(number, 255), TRUNCATED),
        );
    }
    cases.push(
        case(
            "the ports behind every kind of extension header together are found",
            rules,
        )
        .egress(
            to(53)
                .extension(ipv6::HOP_BY_HOP, 0)
                .extension(ipv6::DESTINATION_OPTIONS, 1)
                .extension(ipv6::ROUTING, 2)
                .fragment(1, 0, true)
                .extension(ipv6::DESTINATION_OPTIONS, 0),
            Allow,
        ),
    );
    let last = [
        (51, "AH"),
        (protocol::TCP, "TCP"),
        (50, "ESP"),
        (59, "no next header"),
        (135, "mobility"),
    ];
    for (number, name) in last {
        let packet = raw("2001:db8:1:1::10", "2001:db8:ffff::7", number, 24)
            .transport_byte(12, 0x50)
            .extension(ipv6::HOP_BY_HOP, 0);
        cases.push(
            case(
                &format!("{name} ends the chain of extension headers"),
                &[&format!("egress {number} ::/0")],
            )
            .egress(packet, Allow),
        );
    }
    cases.push(
        case(
            "an extension header's number is a protocol in IPv4",
            &["egress 44 0.0.0.0/0"],
        )
        .egress(raw("10.0.1.10", "198.51.100.7", 44, 8), Allow)
        .egress(raw("10.0.1.10", "198.51.100.7", 43, 8), NO_RULE),
    );
    cases
}
