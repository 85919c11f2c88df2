//! What rules allow, what they do not, and that answers need none.

use branchline_common::{
    conntrack::State,
    verdict::{Action, Verdict::Allow},
};

use super::{ACK, EGRESS, INGRESS, NO_RULE, SYN, SYN_ACK, both_ways};
use crate::{
    case::{Case, case},
    packet::{icmp, raw, tcp, udp},
    world::{Left, accepted, connection, rejected},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = protocols();
    cases.extend(denials());
    cases.extend(matches());
    cases.extend(several_enis());
    cases
}

const PEER: &str = "198.51.100.7:40000";
const PEER6: &str = "[2001:db8:ffff::7]:40000";
const TASK: &str = "10.0.1.10:80";
const TASK6: &str = "[2001:db8:1:1::10]:80";

/// An allowed flow and its answer, although no rule allows the answer's direction.
fn protocols() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, all, peer, task, extra) in [
        ("IPv4", "0.0.0.0/0", PEER, TASK, 0),
        ("IPv6", "::/0", PEER6, TASK6, 20),
    ] {
        for ((opens, from, to), (answers, back_from, back_to)) in pairs(peer, task) {
            let way = if opens == INGRESS {
                "ingress"
            } else {
                "egress"
            };
            let name = |protocol: &str| {
                format!(
                    "{protocol} over {family} that an {way} rule allows passes, and its answer without one"
                )
            };
            let count = |bytes: u64, flags| (1, bytes + extra, flags);
            let both = |first, second| {
                if opens == INGRESS {
                    (first, second)
                } else {
                    (second, first)
                }
            };
            let (i, e) = both(count(40, 2), count(40, 18));
            cases.push(
                case(&name("TCP"), &[&format!("{way} tcp {all}")])
                    .packet(opens, &tcp(from, to, SYN), Allow)
                    .packet(answers, &tcp(back_from, back_to, SYN_ACK), Allow)
                    .leaves([connection(State::SynReceived, opens, i, e)]),
            );
            let (i, e) = both(count(38, 0), count(28, 0));
            cases.push(
                case(&name("UDP"), &[&format!("{way} udp {all}")])
                    .packet(opens, &udp(from, to).data(10), Allow)
                    .packet(answers, &udp(back_from, back_to), Allow)
                    .leaves([connection(State::Udp, opens, i, e)]),
            );
            let (from, to) = (host(from), host(to));
            let (number, request, reply) = if extra == 0 {
                ("icmp", 8, 0)
            } else {
                ("icmpv6", 128, 129)
            };
            let (i, e) = both(count(84, 0), count(84, 0));
            cases.push(
                case(&name("a ping"), &[&format!("{way} {number} {all}")])
                    .packet(opens, &icmp(from, to, request, 0, 7).data(56), Allow)
                    .packet(answers, &icmp(to, from, reply, 0, 7).data(56), Allow)
                    .leaves([connection(State::Icmp, opens, i, e)]),
            );
            let (i, e) = both(count(52, 0), count(24, 0));
            cases.push(
                case(&name("GRE"), &[&format!("{way} 47 {all}")])
                    .packet(opens, &raw(from, to, 47, 32), Allow)
                    .packet(answers, &raw(to, from, 47, 4), Allow)
                    .leaves([connection(State::Other, opens, i, e)]),
            );
        }
    }
    cases
}

type Way<'a> = (branchline_common::verdict::Direction, &'a str, &'a str);

/// Both orders of the two ways.
fn pairs<'a>(peer: &'a str, task: &'a str) -> [(Way<'a>, Way<'a>); 2] {
    let [ingress, egress] = both_ways(peer, task);
    [(ingress, egress), (egress, ingress)]
}

/// The address of an end.
fn host(end: &str) -> &str {
    let (host, _) = end.rsplit_once(':').expect("an end has a port");
    host.trim_matches(['[', ']'])
}

/// Without a rule nothing passes, and it is logged; one direction's rules say nothing of the other.
fn denials() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, peer, task, extra) in [("IPv4", PEER, TASK, 0), ("IPv6", PEER6, TASK6, 20)] {
        for (direction, from, to) in both_ways(peer, task) {
            let ports = (80, 40000);
            let refused =
                |ports, bytes: u64, flags| rejected(direction, ports, (1, bytes + extra, flags));
            let (echo, protocol) = if extra == 0 { (8, 1) } else { (128, 58) };
            cases.push(
                case(
                    &format!("{direction:?} over {family} is denied by default"),
                    &[],
                )
                .packet(direction, &tcp(from, to, SYN), NO_RULE)
                .packet(direction, &udp(from, to).data(12), NO_RULE)
                .packet(direction, &icmp(host(from), host(to), echo, 0, 7), NO_RULE)
                .packet(direction, &raw(host(from), host(to), 50, 20), NO_RULE)
                .leaves([
                    refused(ports, 40, 2),
                    refused(ports, 40, 0),
                    refused((0, 0), 28, 0),
                    refused((0, 0), 40, 0),
                ]),
            );
            let other = if direction == INGRESS {
                "egress"
            } else {
                "ingress"
            };
            cases.push(
                case(
                    &format!("{direction:?} over {family} is denied though the other direction allows all"),
                    &[&format!("{other} all 0.0.0.0/0"), &format!("{other} all ::/0")],
                )
                .packet(direction, &tcp(from, to, SYN), NO_RULE)
                .packet(direction, &raw(host(from), host(to), protocol, 8), NO_RULE)
                .leaves([refused(ports, 40, 2), refused((0, 0), 28, 0)]),
            );
        }
    }
    cases.push(
        case("refused packets of one flow are one row with a count", &[])
            .ingress(tcp(PEER, TASK, SYN), NO_RULE)
            .ingress(tcp(PEER, TASK, SYN), NO_RULE)
            .ingress(tcp(PEER, TASK, ACK).data(100), NO_RULE)
            .leaves([rejected(INGRESS, (80, 40000), (3, 220, 2))]),
    );
    cases
}

fn matches() -> Vec<Case> {
    let at = |port: u16| format!("10.0.1.10:{port}");
    let syn = |from: &str, port: u16| tcp(from, &at(port), SYN);
    vec![
        case(
            "a port range includes both its ends and nothing beside",
            &["ingress tcp 8000-8010 0.0.0.0/0"],
        )
        .ingress(syn("198.51.100.7:1", 7999), NO_RULE)
        .ingress(syn("198.51.100.7:2", 8000), Allow)
        .ingress(syn("198.51.100.7:3", 8005), Allow)
        .ingress(syn("198.51.100.7:4", 8010), Allow)
        .ingress(syn("198.51.100.7:5", 8011), NO_RULE)
        .ingress(udp("198.51.100.7:6", &at(8005)), NO_RULE),
        case(
            "the source port of an opener does not matter",
            &["ingress tcp 80 0.0.0.0/0"],
        )
        .ingress(syn("198.51.100.7:80", 81), NO_RULE)
        .ingress(syn("198.51.100.7:0", 80), Allow)
        .ingress(syn("198.51.100.7:65535", 80), Allow),
        case(
            "the lowest and the highest port can be allowed alone",
            &["ingress tcp 0 0.0.0.0/0", "ingress tcp 65535 0.0.0.0/0"],
        )
        .ingress(syn(PEER, 0), Allow)
        .ingress(syn(PEER, 65535), Allow)
        .ingress(syn(PEER, 1), NO_RULE)
        .ingress(syn(PEER, 65534), NO_RULE),
        case(
            "an egress rule is about the peer's port",
            &["egress udp 53 198.51.100.0/24"],
        )
        .egress(udp("10.0.1.10:53", "198.51.100.7:40000"), NO_RULE)
        .egress(udp("10.0.1.10:40000", "198.51.100.7:53"), Allow)
        .egress(udp("10.0.1.10:40000", "198.51.101.7:53"), NO_RULE),
        case(
            "a peer's prefix includes its ends and nothing beside",
            &["ingress tcp 198.51.100.64/26"],
        )
        .ingress(syn("198.51.100.63:1", 1), NO_RULE)
        .ingress(syn("198.51.100.64:1", 1), Allow)
        .ingress(syn("198.51.100.127:1", 1), Allow)
        .ingress(syn("198.51.100.128:1", 1), NO_RULE),
        case(
            "an IPv6 prefix includes its ends and nothing beside",
            &["ingress tcp 2001:db8:ffff::/63"],
        )
        .ingress(tcp("[2001:db8:fffe:ffff::1]:1", TASK6, SYN), NO_RULE)
        .ingress(tcp("[2001:db8:ffff::]:1", TASK6, SYN), Allow)
        .ingress(
            tcp("[2001:db8:ffff:1:ffff:ffff:ffff:ffff]:1", TASK6, SYN),
            Allow,
        )
        .ingress(tcp("[2001:db8:ffff:2::]:1", TASK6, SYN), NO_RULE),
        case(
            "rules for all IPv4 peers say nothing of IPv6 ones",
            &["ingress all 0.0.0.0/0"],
        )
        .ingress(tcp(PEER, TASK, SYN), Allow)
        .ingress(tcp(PEER6, TASK6, SYN), NO_RULE),
        case(
            "rules for all IPv6 peers say nothing of IPv4 ones",
            &["ingress all ::/0"],
        )
        .ingress(tcp(PEER, TASK, SYN), NO_RULE)
        .ingress(tcp(PEER6, TASK6, SYN), Allow),
        case(
            "several groups are united: what any of them allows passes",
            &[
                "ingress tcp 80 198.51.100.0/24",
                "ingress tcp 443 0.0.0.0/0",
                "ingress udp 53 198.51.100.7/32",
                "ingress tcp 80-90 203.0.113.0/24",
            ],
        )
        .ingress(syn(PEER, 80), Allow)
        .ingress(syn(PEER, 443), Allow)
        .ingress(syn(PEER, 85), NO_RULE)
        .ingress(syn("203.0.113.9:1", 85), Allow)
        .ingress(syn("203.0.113.9:1", 443), Allow)
        .ingress(udp(PEER, "10.0.1.10:53"), Allow)
        .ingress(udp("198.51.100.8:1", "10.0.1.10:53"), NO_RULE),
        case(
            "a peer and a port that different rules allow do not add up",
            &[
                "ingress tcp 80 198.51.100.7/32",
                "ingress tcp 443 203.0.113.9/32",
            ],
        )
        .ingress(syn(PEER, 443), NO_RULE)
        .ingress(syn("203.0.113.9:1", 80), NO_RULE),
        case(
            "a narrower rule does not take away what a wider one gives",
            &[
                "ingress tcp 198.51.0.0/16",
                "ingress tcp 443 198.51.100.7/32",
                "ingress all 198.51.100.0/28",
            ],
        )
        .ingress(syn(PEER, 80), Allow)
        .ingress(udp(PEER, TASK), Allow)
        .ingress(syn("198.51.200.1:1", 80), Allow)
        .ingress(udp("198.51.200.1:1", TASK), NO_RULE),
        case(
            "protocol 0 and 255 can be allowed by number",
            &["ingress 0 0.0.0.0/0", "ingress 255 0.0.0.0/0"],
        )
        .ingress(raw("198.51.100.7", "10.0.1.10", 0, 8), Allow)
        .ingress(raw("198.51.100.7", "10.0.1.10", 255, 8), Allow)
        .ingress(raw("198.51.100.7", "10.0.1.10", 254, 8), NO_RULE),
        case(
            "SCTP is a protocol by number: its ports are not looked at",
            &["egress 132 0.0.0.0/0"],
        )
        .egress(raw("10.0.1.10", "198.51.100.7", 132, 12), Allow)
        .leaves([connection(State::Other, EGRESS, (0, 0, 0), (1, 32, 0))]),
        case(
            "a flow that was allowed lives on without its rule, a new one does not start",
            &["ingress tcp 22 0.0.0.0/0"],
        )
        .ingress(syn(PEER, 22), Allow)
        .rules(&[])
        .egress(tcp("10.0.1.10:22", PEER, SYN_ACK), Allow)
        .ingress(tcp(PEER, "10.0.1.10:22", ACK), Allow)
        .ingress(syn("198.51.100.7:40001", 22), NO_RULE),
    ]
}

fn several_enis() -> Vec<Case> {
    let second = |direction, ports, count| Left::Row {
        slot: 2,
        direction,
        action: Action::Rejected,
        drop_reason: Some(super::DropReason::NoRule),
        service: None,
        ports,
        count,
    };
    vec![
        case(
            "two ENIs with one address have connections of their own",
            &["egress tcp 0.0.0.0/0"],
        )
        .egress(tcp("10.0.1.10:40000", "198.51.100.7:443", SYN), Allow)
        .eni(2, &[])
        .address("10.0.1.10")
        .ingress(tcp("198.51.100.7:443", "10.0.1.10:40000", SYN_ACK), NO_RULE)
        .on(0)
        .ingress(tcp("198.51.100.7:443", "10.0.1.10:40000", SYN_ACK), Allow)
        .leaves([
            connection(State::SynReceived, EGRESS, (1, 40, 18), (1, 40, 2)),
            second(INGRESS, (40000, 443), (1, 40, 18)),
        ]),
        case(
            "two tasks that talk are judged and counted at both ENIs",
            &["egress tcp 5432 10.0.1.20/32"],
        )
        .egress(tcp("10.0.1.10:40000", "10.0.1.20:5432", SYN), Allow)
        .eni(2, &["ingress tcp 5432 10.0.1.10/32"])
        .ingress(tcp("10.0.1.10:40000", "10.0.1.20:5432", SYN), Allow)
        .egress(tcp("10.0.1.20:5432", "10.0.1.10:40000", SYN_ACK), Allow)
        .on(0)
        .ingress(tcp("10.0.1.20:5432", "10.0.1.10:40000", SYN_ACK), Allow)
        .leaves([
            connection(State::SynReceived, EGRESS, (1, 40, 18), (1, 40, 2)),
            Left::Connection {
                slot: 2,
                state: State::SynReceived as u8,
                opener: INGRESS,
                ingress: (1, 40, 2),
                egress: (1, 40, 18),
            },
        ]),
        case(
            "one ENI's rules say nothing of another",
            &["ingress all 0.0.0.0/0"],
        )
        .ingress(udp("198.51.100.7:1", "10.0.1.10:1"), Allow)
        .eni(2, &[])
        .ingress(udp("198.51.100.7:1", "10.0.1.20:1"), NO_RULE)
        .leaves([
            connection(State::Udp, INGRESS, (1, 28, 0), (0, 0, 0)),
            second(INGRESS, (1, 1), (1, 28, 0)),
        ]),
        case(
            "an ENI without source and destination check forwards for others by its rules",
            &["ingress tcp 80 198.51.100.0/24", "egress tcp 80 0.0.0.0/0"],
        )
        .flags(0)
        .ingress(tcp("198.51.100.7:1", "10.0.9.9:80", SYN), Allow)
        .ingress(tcp("203.0.113.9:1", "10.0.9.9:80", SYN), NO_RULE)
        .egress(tcp("10.0.8.8:1", "203.0.113.9:80", SYN), Allow),
        case(
            "a task without an address of a family gets nothing of it",
            &["ingress all ::/0", "egress all ::/0"],
        )
        .ipv6("")
        .ingress(
            tcp(PEER6, TASK6, SYN),
            super::Deny(super::DropReason::ForeignDestination),
        )
        .egress(
            tcp(TASK6, PEER6, SYN),
            super::Deny(super::DropReason::ForeignSource),
        )
        .leaves([]),
        case(
            "an ICMP message outside the queries passes by rule alone and is counted in a row",
            &["ingress icmp 0.0.0.0/0"],
        )
        .ingress(icmp("198.51.100.7", "10.0.1.10", 9, 0, 0), Allow)
        .leaves([accepted(INGRESS, (0, 0), (1, 28, 0))]),
    ]
}
