//! ICMP of both versions: types and codes, queries, and errors about other packets.

use branchline_common::{conntrack::State, verdict::Verdict::Allow};

use super::{ACK, EGRESS, INGRESS, NO_RULE, SYN};
use crate::{
    case::{Case, case},
    packet::{Packet, icmp, icmp_error, raw, tcp, udp},
    world::{accepted, connection, rejected},
};

const PEER: &str = "198.51.100.7";
const TASK: &str = "10.0.1.10";
const HOP: &str = "203.0.113.9";
const PEER6: &str = "2001:db8:ffff::7";
const TASK6: &str = "2001:db8:1:1::10";
const HOP6: &str = "2001:db8:eeee::9";
const ALL: usize = usize::MAX;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = types();
    cases.extend(related());
    cases.extend(unrelated());
    cases
}

fn types() -> Vec<Case> {
    vec![
        case(
            "a rule for one ICMP type and code allows just these",
            &["ingress icmp 3/4 0.0.0.0/0"],
        )
        .ingress(icmp(PEER, TASK, 3, 4, 0), Allow)
        .ingress(icmp(PEER, TASK, 3, 3, 0), NO_RULE)
        .ingress(icmp(PEER, TASK, 4, 4, 0), NO_RULE),
        case(
            "a rule for one ICMP type allows all its codes",
            &["ingress icmp 3 0.0.0.0/0"],
        )
        .ingress(icmp(PEER, TASK, 3, 0, 0), Allow)
        .ingress(icmp(PEER, TASK, 3, 255, 0), Allow)
        .ingress(icmp(PEER, TASK, 4, 0, 0), NO_RULE)
        .ingress(icmp(PEER, TASK, 2, 255, 0), NO_RULE),
        case(
            "a rule for ICMP says nothing of ICMPv6, nor the other way round",
            &["ingress icmp ::/0", "ingress icmpv6 0.0.0.0/0"],
        )
        .ingress(icmp(PEER, TASK, 8, 0, 1), NO_RULE)
        .ingress(icmp(PEER6, TASK6, 128, 0, 1), NO_RULE),
        case(
            "an ICMPv6 rule for the echo request allows it and its reply",
            &["ingress icmpv6 128/0 ::/0"],
        )
        .ingress(icmp(PEER6, TASK6, 128, 0, 9), Allow)
        .egress(icmp(TASK6, PEER6, 129, 0, 9), Allow)
        .ingress(icmp(PEER6, TASK6, 129, 0, 9), NO_RULE),
        case(
            "a reply with another identifier is no reply",
            &["egress icmp 0.0.0.0/0"],
        )
        .egress(icmp(TASK, PEER, 8, 0, 33), Allow)
        .ingress(icmp(PEER, TASK, 0, 0, 34), NO_RULE)
        .ingress(icmp(PEER, TASK, 0, 0, 33), Allow)
        .leaves([
            connection(State::Icmp, EGRESS, (1, 28, 0), (1, 28, 0)),
            rejected(INGRESS, (0, 0), (1, 28, 0)),
        ]),
        case(
            "a task's own ping lets nobody ping it, even with the same identifier",
            &["egress icmp 0.0.0.0/0"],
        )
        .egress(icmp(TASK, PEER, 8, 0, 33), Allow)
        .ingress(icmp(PEER, TASK, 8, 0, 33), NO_RULE),
        case(
            "two hosts that ping each other with one identifier have two connections",
            &["egress icmp 0.0.0.0/0", "ingress icmp 0.0.0.0/0"],
        )
        .egress(icmp(TASK, PEER, 8, 0, 33), Allow)
        .ingress(icmp(PEER, TASK, 8, 0, 33), Allow)
        .egress(icmp(TASK, PEER, 0, 0, 33).data(8), Allow)
        .ingress(icmp(PEER, TASK, 0, 0, 33).data(12), Allow)
        .leaves([
            connection(State::Icmp, EGRESS, (1, 40, 0), (1, 28, 0)),
            connection(State::Icmp, INGRESS, (1, 28, 0), (1, 36, 0)),
        ]),
        case(
            "the other queries have their replies too",
            &["egress icmp 0.0.0.0/0", "egress icmpv6 ::/0"],
        )
        .egress(icmp(TASK, PEER, 13, 0, 1), Allow)
        .ingress(icmp(PEER, TASK, 14, 0, 1), Allow)
        .egress(icmp(TASK, PEER, 15, 0, 1), Allow)
        .ingress(icmp(PEER, TASK, 16, 0, 1), Allow)
        .egress(icmp(TASK, PEER, 17, 0, 1), Allow)
        .ingress(icmp(PEER, TASK, 18, 0, 1), Allow)
        .egress(icmp(TASK6, PEER6, 139, 0, 1), Allow)
        .ingress(icmp(PEER6, TASK6, 140, 0, 1), Allow)
        .ingress(icmp(PEER, TASK, 0, 0, 1), NO_RULE),
        case(
            "a reply that nobody asked for passes by rule alone and opens nothing",
            &["ingress icmp 0.0.0.0/0"],
        )
        .ingress(icmp(PEER, TASK, 0, 0, 1), Allow)
        .egress(icmp(TASK, PEER, 8, 0, 1), NO_RULE)
        .leaves([
            accepted(INGRESS, (0, 0), (1, 28, 0)),
            rejected(EGRESS, (0, 0), (1, 28, 0)),
        ]),
    ]
}

fn sent(name: &str, packet: Packet) -> Case {
    case(name, &["egress all 0.0.0.0/0", "egress all ::/0"]).egress(packet, Allow)
}

fn related() -> Vec<Case> {
    let syn = tcp("10.0.1.10:40000", "198.51.100.7:443", SYN);
    let syn6 = tcp("[2001:db8:1:1::10]:40000", "[2001:db8:ffff::7]:443", SYN);
    let datagram = udp("10.0.1.10:40000", "198.51.100.7:53")
        .options(2)
        .data(1400);
    let mut cases = Vec::new();
    for error in [(3, 4), (3, 1), (4, 0), (11, 0), (12, 0)] {
        cases.push(
            sent(
                &format!("an ICMP error {error:?} about the task's own connection passes"),
                syn.clone(),
            )
            .ingress(icmp_error(HOP, TASK, error, &syn, 28), Allow),
        );
    }
    for error in [(1, 0), (2, 0), (3, 0), (4, 1)] {
        cases.push(
            sent(
                &format!("an ICMPv6 error {error:?} about the task's own connection passes"),
                syn6.clone(),
            )
            .ingress(icmp_error(HOP6, TASK6, error, &syn6, ALL), Allow),
        );
    }
    let ping = icmp(TASK, PEER, 8, 0, 33);
    let extended = udp("[2001:db8:1:1::10]:1", "[2001:db8:ffff::7]:2").extension(60, 0);
    let first = udp("10.0.1.10:1", "198.51.100.7:2")
        .data(16)
        .fragment(5, 0, true);
    let gre = raw(TASK, PEER, 47, 8);
    cases.extend([
        sent(
            "an ICMP error about a packet with IP options passes",
            datagram.clone(),
        )
        .ingress(icmp_error(HOP, TASK, (3, 3), &datagram, 28 + 8), Allow)
        .leaves([
            connection(State::Udp, EGRESS, (0, 0, 0), (1, 1436, 0)),
            accepted(INGRESS, (0, 0), (1, 64, 0)),
        ]),
        sent(
            "an ICMPv6 error about a packet with an extension header passes",
            extended.clone(),
        )
        .ingress(icmp_error(HOP6, TASK6, (1, 4), &extended, ALL), Allow),
        sent("an ICMP error about a first fragment passes", first.clone())
            .ingress(icmp_error(HOP, TASK, (11, 1), &first, 28), Allow),
        sent(
            "an ICMP error about another protocol's packet passes",
            gre.clone(),
        )
        .ingress(icmp_error(HOP, TASK, (3, 2), &gre, 28), Allow),
        sent(
            "an ICMP error about the task's own ping passes",
            ping.clone(),
        )
        .ingress(icmp_error(HOP, TASK, (11, 0), &ping, 28), Allow)
        .ingress(
            icmp_error(HOP, TASK, (11, 0), &icmp(TASK, PEER, 8, 0, 34), 28),
            NO_RULE,
        ),
        sent(
            "an ICMP error keeps no connection alive",
            udp("10.0.1.10:1", "198.51.100.7:2"),
        )
        .wait(20)
        .ingress(
            icmp_error(HOP, TASK, (3, 3), &udp("10.0.1.10:1", "198.51.100.7:2"), 28),
            Allow,
        )
        .wait(20)
        .ingress(
            icmp_error(HOP, TASK, (3, 3), &udp("10.0.1.10:1", "198.51.100.7:2"), 28),
            NO_RULE,
        ),
        case(
            "the task's own ICMP error about a packet that it got leaves without a rule",
            &["ingress udp 0.0.0.0/0"],
        )
        .ingress(udp("198.51.100.7:1", "10.0.1.10:2"), Allow)
        .egress(
            icmp_error(
                TASK,
                PEER,
                (3, 3),
                &udp("198.51.100.7:1", "10.0.1.10:2"),
                28,
            ),
            Allow,
        )
        .leaves([
            connection(State::Udp, INGRESS, (1, 28, 0), (0, 0, 0)),
            accepted(EGRESS, (0, 0), (1, 56, 0)),
        ]),
    ]);
    cases
}

fn unrelated() -> Vec<Case> {
    let syn = tcp("10.0.1.10:40000", "198.51.100.7:443", SYN);
    let about = |name: &str, quoted: &Packet, len: usize| {
        sent(name, syn.clone()).ingress(icmp_error(HOP, TASK, (3, 4), quoted, len), NO_RULE)
    };
    vec![
        about(
            "an ICMP error that quotes less than 8 bytes of the transport header is unrelated",
            &syn,
            27,
        ),
        about(
            "an ICMP error that quotes half an IP header is unrelated",
            &syn,
            10,
        ),
        about("an ICMP error that quotes nothing is unrelated", &syn, 0),
        about(
            "an ICMP error about another connection is unrelated",
            &tcp("10.0.1.10:40001", "198.51.100.7:443", SYN),
            28,
        ),
        about(
            "an ICMP error about another's packet is unrelated",
            &tcp("10.0.1.99:40000", "198.51.100.7:443", SYN),
            28,
        ),
        about(
            "an ICMP error about a packet of the wrong direction is unrelated",
            &tcp("198.51.100.7:443", "10.0.1.10:40000", ACK),
            28,
        ),
        about(
            "an ICMP error about a later fragment is unrelated",
            &raw(TASK, PEER, 6, 20).fragment(1, 64, false),
            40,
        ),
        about(
            "an ICMP error whose quote has a wrong version is unrelated",
            &syn.clone().version_ihl(0x65),
            28,
        ),
        about(
            "an ICMP error whose quote has a wrong header length is unrelated",
            &syn.clone().version_ihl(0x44),
            28,
        ),
        sent("an ICMP redirect is never related", syn.clone())
            .ingress(icmp_error(HOP, TASK, (5, 0), &syn, 28), NO_RULE),
        sent(
            "an unrelated ICMP error passes if a rule allows it",
            syn.clone(),
        )
        .rules(&["ingress icmp 3 0.0.0.0/0"])
        .ingress(
            icmp_error(HOP, TASK, (3, 4), &udp("10.0.1.10:1", "198.51.100.7:2"), 28),
            Allow,
        ),
        sent(
            "an ICMPv6 error about an IPv4 packet is unrelated",
            syn.clone(),
        )
        .ingress(icmp_error(HOP6, TASK6, (2, 0), &syn, 28), NO_RULE),
    ]
}
