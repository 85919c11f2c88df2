//! Fragments: later ones follow their first, orphans pass where ports do not matter.

use branchline_common::{
    conntrack::State,
    headers::{ipv6, protocol},
    verdict::Verdict::{self, Allow, Deny, Exempt},
};

use super::{DropReason, EGRESS, INGRESS, NO_RULE, SYN};
use crate::{
    case::{Case, case},
    packet::{Packet, icmp, raw, tcp, udp},
    world::{Count, Left, accepted, connection, refused, rejected},
};

const ORPHAN: Verdict = Deny(DropReason::OrphanFragment);
const PEER: &str = "198.51.100.7";
const TASK: &str = "10.0.1.10";
const PEER6: &str = "2001:db8:ffff::7";
const TASK6: &str = "2001:db8:1:1::10";

fn first(id: u32, port: u16) -> Packet {
    udp("198.51.100.7:40000", &format!("10.0.1.10:{port}"))
        .data(1472)
        .fragment(id, 0, true)
}

fn later(id: u32) -> Packet {
    raw(PEER, TASK, protocol::UDP, 100).fragment(id, 1480, false)
}

fn first6(id: u32, port: u16) -> Packet {
    udp(
        "[2001:db8:ffff::7]:40000",
        &format!("[2001:db8:1:1::10]:{port}"),
    )
    .extension(ipv6::HOP_BY_HOP, 0)
    .fragment(id, 0, true)
    .data(1400)
}

fn later6(id: u32) -> Packet {
    raw(PEER6, TASK6, protocol::UDP, 100)
        .extension(ipv6::HOP_BY_HOP, 0)
        .fragment(id, 1408, false)
}

const ONE_PORT: &[&str] = &["ingress udp 5000 0.0.0.0/0", "ingress udp 5000 ::/0"];

/// A row of orphans, which have no ports.
fn orphan(count: Count) -> Left {
    refused(DropReason::OrphanFragment, INGRESS, (0, 0), count)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = following();
    cases.extend(orphans());
    cases
}

fn following() -> Vec<Case> {
    vec![
        case(
            "a later fragment follows its first one and is counted with it",
            ONE_PORT,
        )
        .ingress(first(7, 5000), Allow)
        .ingress(later(7), Allow)
        .ingress(later(7), Allow)
        .leaves([connection(State::Udp, INGRESS, (3, 1740, 0), (0, 0, 0))]),
        case("a later IPv6 fragment follows its first one", ONE_PORT)
            .ingress(first6(0x12_3456, 5000), Allow)
            .ingress(later6(0x12_3456), Allow)
            .ingress(later6(0x3456), ORPHAN)
            .leaves([
                connection(State::Udp, INGRESS, (2, 1464 + 156, 0), (0, 0, 0)),
                orphan((1, 156, 0)),
            ]),
        case(
            "a later fragment of a refused datagram is refused, in the same row",
            ONE_PORT,
        )
        .ingress(first(8, 5001), NO_RULE)
        .ingress(later(8), NO_RULE)
        .leaves([rejected(INGRESS, (5001, 40000), (2, 1620, 0))]),
        case(
            "a later fragment of a datagram that passed without a connection passes",
            &["ingress icmp 0.0.0.0/0"],
        )
        .ingress(
            icmp(PEER, TASK, 0, 0, 1).data(1472).fragment(9, 0, true),
            Allow,
        )
        .ingress(
            raw(PEER, TASK, protocol::ICMP, 100).fragment(9, 1480, false),
            Allow,
        )
        .leaves([accepted(INGRESS, (0, 0), (2, 1620, 0))]),
        case(
            "fragments of an outgoing datagram follow too",
            &["egress udp 0.0.0.0/0"],
        )
        .egress(
            udp("10.0.1.10:1", "198.51.100.7:2")
                .data(1472)
                .fragment(3, 0, true),
            Allow,
        )
        .egress(
            raw(TASK, PEER, protocol::UDP, 8).fragment(3, 1480, true),
            Allow,
        )
        .ingress(
            raw(PEER, TASK, protocol::UDP, 8).fragment(3, 1480, true),
            ORPHAN,
        )
        .leaves([
            connection(State::Udp, EGRESS, (0, 0, 0), (2, 1528, 0)),
            orphan((1, 28, 0)),
        ]),
        case("fragments of a datagram of the resolver are exempt", &[])
            .ingress(
                udp("10.0.0.2:53", "10.0.1.10:40000")
                    .data(1472)
                    .fragment(81, 0, true),
                Exempt,
            )
            .ingress(
                raw("10.0.0.2", TASK, protocol::UDP, 100).fragment(81, 1480, false),
                Exempt,
            )
            .ingress(
                raw("10.0.0.2", TASK, protocol::UDP, 100).fragment(82, 1480, false),
                ORPHAN,
            )
            .leaves([orphan((1, 120, 0))]),
        case("a first fragment's fate is forgotten after 30 s", ONE_PORT)
            .ingress(first(7, 5000), Allow)
            .wait(28)
            .ingress(later(7), Allow)
            .wait(2)
            .ingress(later(7), ORPHAN),
        case("an atomic IPv6 fragment is a whole packet", ONE_PORT)
            .ingress(
                udp("[2001:db8:ffff::7]:40000", "[2001:db8:1:1::10]:5000").fragment(1, 0, false),
                Allow,
            )
            .ingress(later6(1), ORPHAN),
        case(
            "a reused identification follows the newest first fragment",
            ONE_PORT,
        )
        .ingress(first(7, 5000), Allow)
        .ingress(first(7, 5001), NO_RULE)
        .ingress(later(7), NO_RULE),
        case(
            "a fragment of another protocol or peer follows nobody",
            ONE_PORT,
        )
        .ingress(first(7, 5000), Allow)
        .ingress(
            raw(PEER, TASK, protocol::TCP, 100).fragment(7, 1480, false),
            ORPHAN,
        )
        .ingress(
            raw("198.51.100.8", TASK, protocol::UDP, 100).fragment(7, 1480, false),
            ORPHAN,
        ),
    ]
}

fn orphans() -> Vec<Case> {
    let tcp_later = |offset| raw(PEER, TASK, protocol::TCP, 40).fragment(1, offset, true);
    let first_tcp = |cut: usize| {
        tcp("198.51.100.7:1", "10.0.1.10:80", SYN)
            .fragment(1, 0, true)
            .length(cut as u16)
            .cut(cut)
    };
    vec![
        case("a later fragment before its first is an orphan", ONE_PORT)
            .ingress(later(7), ORPHAN)
            .ingress(first(7, 5000), Allow)
            .ingress(later(7), Allow)
            .leaves([
                connection(State::Udp, INGRESS, (2, 1620, 0), (0, 0, 0)),
                orphan((1, 120, 0)),
            ]),
        case(
            "an orphan passes where a rule allows all ports of its protocol",
            &["ingress udp 198.51.100.0/24"],
        )
        .ingress(later(7), Allow)
        .leaves([accepted(INGRESS, (0, 0), (1, 120, 0))]),
        case(
            "an orphan passes where a rule allows all protocols",
            &["ingress all 198.51.100.0/24"],
        )
        .ingress(later(7), Allow)
        .ingress(tcp_later(1480), Allow),
        case(
            "an orphan passes where a rule allows its protocol by number",
            &["ingress 47 0.0.0.0/0"],
        )
        .ingress(raw(PEER, TASK, 47, 8).fragment(1, 1480, false), Allow)
        .leaves([accepted(INGRESS, (0, 0), (1, 28, 0))]),
        case(
            "two rules that only together allow all ports let no orphan pass",
            &[
                "ingress udp 0-32767 0.0.0.0/0",
                "ingress udp 32768-65535 0.0.0.0/0",
            ],
        )
        .ingress(later(7), ORPHAN)
        .ingress(first(7, 40000), Allow),
        case(
            "an IPv6 orphan is judged by the protocol behind its fragment header",
            &["ingress udp ::/0"],
        )
        .ingress(later6(1), Allow)
        .ingress(
            raw(PEER6, TASK6, protocol::TCP, 8).fragment(1, 1400, false),
            ORPHAN,
        ),
        case(
            "an orphan for another's address is dropped",
            &["ingress all 0.0.0.0/0"],
        )
        .ingress(
            raw(PEER, "10.0.1.99", protocol::UDP, 100).fragment(1, 1480, false),
            Deny(DropReason::ForeignDestination),
        )
        .leaves([]),
        case(
            "a TCP fragment that starts inside the TCP header is dropped",
            &["ingress all 0.0.0.0/0"],
        )
        .ingress(tcp_later(8), Deny(DropReason::TinyFragment))
        .ingress(tcp_later(16), Allow),
        case(
            "a UDP fragment at offset 8 is an ordinary later fragment",
            &["ingress udp 0.0.0.0/0"],
        )
        .ingress(
            raw(PEER, TASK, protocol::UDP, 8).fragment(1, 8, false),
            Allow,
        ),
        case(
            "a first TCP fragment without its whole header is dropped",
            &["ingress all 0.0.0.0/0"],
        )
        .ingress(first_tcp(20 + 16), Deny(DropReason::Truncated))
        .ingress(first_tcp(20 + 20), Allow),
        case(
            "later fragments carry no TCP flags",
            &["ingress tcp 0.0.0.0/0"],
        )
        .ingress(
            raw(PEER, TASK, protocol::TCP, 16)
                .transport_byte(13, 0xff)
                .fragment(1, 1480, false),
            Allow,
        )
        .leaves([accepted(INGRESS, (0, 0), (1, 36, 0))]),
    ]
}
