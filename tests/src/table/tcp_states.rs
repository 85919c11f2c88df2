//! TCP's and UDP's states and timers as packets make them.

use branchline_common::{
    conntrack::State,
    verdict::Verdict::{Allow, Deny},
};

use super::{ACK, DropReason, EGRESS, FIN_ACK, INGRESS, NO_RULE, RST, RST_ACK, SYN, SYN_ACK};
use crate::{
    case::{Case, case},
    packet::{Packet, icmp, raw, tcp, udp},
    world::{accepted, connection, refused, rejected},
};

const PEER: &str = "198.51.100.7:40000";
const TASK: &str = "10.0.1.10:80";
const RULES: &[&str] = &["ingress tcp 80 0.0.0.0/0"];

/// A segment from the peer.
fn up(flags: u8) -> Packet {
    tcp(PEER, TASK, flags)
}

/// A segment from the task.
fn down(flags: u8) -> Packet {
    tcp(TASK, PEER, flags)
}

/// The case with a handshake in front, which counts 2 packets in and 1 out.
fn established(name: &str) -> Case {
    case(name, RULES)
        .ingress(up(SYN), Allow)
        .egress(down(SYN_ACK), Allow)
        .ingress(up(ACK), Allow)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = openings();
    cases.extend(closings());
    cases.extend(expiries());
    cases
}

fn openings() -> Vec<Case> {
    let answer_rules = &["egress tcp 0.0.0.0/0"];
    vec![
        established("a handshake makes an established connection").leaves([connection(
            State::Established,
            INGRESS,
            (2, 80, 2),
            (1, 40, 18),
        )]),
        established("data of an established connection is counted on its side")
            .egress(down(ACK | 8).data(1000), Allow)
            .egress(down(ACK).data(500), Allow)
            .ingress(up(ACK), Allow)
            .leaves([connection(
                State::Established,
                INGRESS,
                (3, 120, 2),
                (3, 1620, 18),
            )]),
        established("a SYN on an established connection rides it")
            .rules(&[])
            .ingress(up(SYN), Allow)
            .leaves([connection(
                State::Established,
                INGRESS,
                (3, 120, 2),
                (1, 40, 18),
            )]),
        case("a SYN alone waits for its answer", RULES)
            .ingress(up(SYN), Allow)
            .ingress(up(SYN), Allow)
            .leaves([connection(State::SynSent, INGRESS, (2, 80, 2), (0, 0, 0))]),
        case(
            "a flow in the middle is picked up, and established once it is seen both ways",
            RULES,
        )
        .ingress(up(ACK).data(10), Allow)
        .egress(down(ACK), Allow)
        .leaves([connection(
            State::Established,
            INGRESS,
            (1, 50, 0),
            (1, 40, 0),
        )]),
        case(
            "a flow in the middle that no rule allows is not picked up",
            answer_rules,
        )
        .ingress(up(ACK), NO_RULE)
        .ingress(up(SYN_ACK), NO_RULE)
        .leaves([rejected(INGRESS, (80, 40000), (2, 80, 18))]),
        case(
            "where TCP must start with a SYN nothing is picked up",
            RULES,
        )
        .strict()
        .ingress(up(ACK), NO_RULE)
        .ingress(up(RST), NO_RULE)
        .ingress(up(FIN_ACK), NO_RULE)
        .ingress(up(SYN | RST), NO_RULE)
        .ingress(up(SYN), Allow)
        .ingress(up(ACK), Allow),
        case(
            "a reset without a connection passes by rule and leaves none",
            RULES,
        )
        .ingress(up(RST), Allow)
        .leaves([accepted(INGRESS, (80, 40000), (1, 40, 4))]),
        case(
            "a reset without a connection and a rule does not pass",
            answer_rules,
        )
        .ingress(up(RST_ACK), NO_RULE)
        .leaves([rejected(INGRESS, (80, 40000), (1, 40, 4))]),
        case("a SYN with FIN is no opener's SYN", RULES)
            .ingress(up(SYN | 1), Allow)
            .leaves([connection(State::Fin, INGRESS, (1, 40, 3), (0, 0, 0))]),
        case("ECN bits do not change what a SYN is", RULES)
            .ingress(up(SYN | 0xc0), Allow)
            .egress(down(SYN_ACK | 0x40), Allow)
            .leaves([connection(
                State::SynReceived,
                INGRESS,
                (1, 40, 2),
                (1, 40, 18),
            )]),
        case(
            "UDP that goes to and fro becomes a stream at the third turn",
            &["egress udp 0.0.0.0/0"],
        )
        .egress(udp(TASK, PEER), Allow)
        .egress(udp(TASK, PEER), Allow)
        .ingress(udp(PEER, TASK), Allow)
        .egress(udp(TASK, PEER), Allow)
        .ingress(udp(PEER, TASK), Allow)
        .leaves([connection(State::UdpStream, EGRESS, (2, 56, 0), (3, 84, 0))]),
        case(
            "UDP from another port of the peer is another flow",
            &["egress udp 0.0.0.0/0"],
        )
        .egress(udp(TASK, PEER), Allow)
        .ingress(udp("198.51.100.7:40001", TASK), NO_RULE),
    ]
}

fn closings() -> Vec<Case> {
    let closed = |name: &str| {
        established(name)
            .ingress(up(FIN_ACK), Allow)
            .egress(down(FIN_ACK), Allow)
            .ingress(up(ACK), Allow)
    };
    vec![
        established("after one FIN the other side may go on")
            .egress(down(FIN_ACK), Allow)
            .ingress(up(ACK).data(100), Allow)
            .leaves([connection(State::Fin, INGRESS, (3, 220, 2), (2, 80, 19))]),
        closed("both FINs and the last ACK end in TIME_WAIT").leaves([connection(
            State::TimeWait,
            INGRESS,
            (4, 160, 3),
            (2, 80, 19),
        )]),
        closed("in TIME_WAIT late segments pass")
            .rules(&[])
            .egress(down(FIN_ACK), Allow)
            .ingress(up(ACK), Allow),
        closed("a SYN in TIME_WAIT is a new flow in the old one's entry")
            .ingress(up(SYN), Allow)
            .leaves([connection(
                State::SynSent,
                INGRESS,
                (5, 200, 3),
                (2, 80, 19),
            )]),
        closed("a SYN in TIME_WAIT that no rule allows leaves the entry alone")
            .rules(&[])
            .ingress(up(SYN), NO_RULE)
            .leaves([
                connection(State::TimeWait, INGRESS, (4, 160, 3), (2, 80, 19)),
                rejected(INGRESS, (80, 40000), (1, 40, 2)),
            ]),
        established("a reset closes, and later packets are the rules' business")
            .egress(down(RST_ACK), Allow)
            .egress(down(ACK), NO_RULE)
            .ingress(up(ACK), Allow)
            .leaves([
                connection(State::Close, INGRESS, (2, 80, 2), (2, 80, 22)),
                rejected(EGRESS, (80, 40000), (1, 40, 0)),
                accepted(INGRESS, (80, 40000), (1, 40, 0)),
            ]),
        established("a SYN on a closed connection opens a new one")
            .ingress(up(RST), Allow)
            .ingress(up(SYN), Allow)
            .egress(down(SYN_ACK), Allow)
            .leaves([connection(
                State::SynReceived,
                INGRESS,
                (4, 160, 6),
                (2, 80, 18),
            )]),
        established("a SYN on a closed connection that no rule allows does not pass")
            .ingress(up(RST), Allow)
            .rules(&[])
            .ingress(up(SYN), NO_RULE),
    ]
}

/// Timers, a second before they end and when they do.
fn expiries() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut timer = |name: &str, seconds: u32, opened: fn(&str) -> Case, next: Packet| {
        cases.push(
            opened(&format!("{name} lives {seconds} s less one"))
                .wait(seconds - 1)
                .rules(&[])
                .egress(next.clone(), Allow),
        );
        cases.push(
            opened(&format!("{name} is dead after {seconds} s"))
                .wait(seconds)
                .rules(&[])
                .egress(next, NO_RULE),
        );
    };
    timer(
        "an unanswered SYN",
        120,
        |name| case(name, RULES).ingress(up(SYN), Allow),
        down(SYN_ACK),
    );
    timer(
        "a half-open connection",
        60,
        |name| {
            case(name, RULES)
                .ingress(up(SYN), Allow)
                .egress(down(SYN_ACK), Allow)
        },
        down(SYN_ACK),
    );
    timer("an established connection", 432_000, established, down(ACK));
    timer(
        "a connection with a FIN",
        120,
        |name| established(name).ingress(up(FIN_ACK), Allow),
        down(ACK),
    );
    timer(
        "a pick-up",
        300,
        |name| case(name, RULES).ingress(up(ACK), Allow),
        down(ACK),
    );
    timer(
        "one-way UDP",
        30,
        |name| case(name, &["ingress udp 0.0.0.0/0"]).ingress(udp(PEER, TASK), Allow),
        udp(TASK, PEER),
    );
    timer(
        "a UDP stream",
        180,
        |name| {
            case(name, &["ingress udp 0.0.0.0/0"])
                .ingress(udp(PEER, TASK), Allow)
                .egress(udp(TASK, PEER), Allow)
                .ingress(udp(PEER, TASK), Allow)
                .egress(udp(TASK, PEER), Allow)
        },
        udp(TASK, PEER),
    );
    timer(
        "a ping",
        30,
        |name| {
            case(name, &["ingress icmp 0.0.0.0/0"])
                .ingress(icmp("198.51.100.7", "10.0.1.10", 8, 0, 1), Allow)
        },
        icmp("10.0.1.10", "198.51.100.7", 0, 0, 1),
    );
    timer(
        "another protocol's flow",
        600,
        |name| {
            case(name, &["ingress 47 0.0.0.0/0"])
                .ingress(raw("198.51.100.7", "10.0.1.10", 47, 4), Allow)
        },
        raw("10.0.1.10", "198.51.100.7", 47, 4),
    );
    cases.extend(after_expiry());
    cases
}

fn after_expiry() -> Vec<Case> {
    vec![
        case("every packet of a flow starts its timer anew", &["ingress udp 0.0.0.0/0"])
            .ingress(udp(PEER, TASK), Allow)
            .wait(29)
            .ingress(udp(PEER, TASK), Allow)
            .wait(29)
            .egress(udp(TASK, PEER), Allow),
        case("a new flow takes over the entry of a dead one and counts on", &["ingress udp 198.51.100.0/24", "egress udp 198.51.100.0/24"])
            .ingress(udp(PEER, TASK), Allow)
            .wait(40)
            .egress(udp(TASK, PEER), Allow)
            .leaves([connection(State::Udp, EGRESS, (1, 28, 0), (1, 28, 0))]),
        case("in a full table a new flow is refused, a known one goes on, a dead one's is taken over", &["ingress all 0.0.0.0/0"])
            .room_for(2)
            .ingress(udp(PEER, TASK), Allow)
            .ingress(tcp(PEER, TASK, SYN), Allow)
            .ingress(tcp("198.51.100.7:2", TASK, SYN), Deny(DropReason::ConntrackFull))
            .egress(tcp(TASK, PEER, SYN_ACK), Allow)
            .ingress(tcp("198.51.100.7:3", TASK, RST), Allow)
            .wait(40)
            .ingress(udp(PEER, TASK), Allow)
            .leaves([
                connection(State::Udp, INGRESS, (2, 56, 0), (0, 0, 0)),
                connection(State::SynReceived, INGRESS, (1, 40, 2), (1, 40, 18)),
                refused(DropReason::ConntrackFull, INGRESS, (80, 2), (1, 40, 2)),
                accepted(INGRESS, (80, 3), (1, 40, 4)),
            ]),
    ]
}
