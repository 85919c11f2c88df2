//! What is counted: GSO packets as the wire carries them, intervals apart.

use branchline_common::{
    account::Segments,
    conntrack::State,
    headers::protocol,
    verdict::{
        Direction,
        Verdict::{Allow, Deny},
    },
};

use super::{ACK, DropReason, EGRESS, INGRESS, NO_RULE, SYN};
use crate::{
    case::{Case, EniSpec, case},
    packet::{Packet, raw, tcp, udp},
    world::{connection, refused, rejected},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = gso();
    cases.extend(epochs());
    cases.push(reasons());
    cases
}

fn with(
    segments: Segments,
    case: Case,
    direction: Direction,
    packet: &Packet,
    allowed: bool,
) -> Case {
    let frame = EniSpec::new(1, &[]).frame(direction, packet).bytes();
    case.gso(
        direction,
        frame,
        segments,
        if allowed { Allow } else { NO_RULE },
    )
}

fn gso() -> Vec<Case> {
    let four = Segments {
        count: 4,
        size: 500,
    };
    let uncounted = Segments {
        count: 0,
        size: 500,
    };
    let data = tcp("10.0.1.10:1", "198.51.100.7:80", ACK).data(1750);
    let data_in = tcp("198.51.100.7:80", "10.0.1.10:1", ACK).data(1750);
    let data6 = tcp("[2001:db8:1:1::10]:1", "[2001:db8:ffff::7]:80", ACK).data(1750);
    let datagrams = udp("10.0.1.10:1", "198.51.100.7:80").data(1750);
    let out = |count| connection(State::Pickup, EGRESS, (0, 0, 0), count);
    let rules = &["egress all 0.0.0.0/0", "egress all ::/0"];
    vec![
        with(
            four,
            case(
                "a GSO packet counts as its segments, each with headers",
                rules,
            ),
            EGRESS,
            &data,
            true,
        )
        .leaves([out((4, 1750 + 4 * 40, 0))]),
        with(
            uncounted,
            case(
                "segments that nobody counted are counted from their size",
                rules,
            ),
            EGRESS,
            &data,
            true,
        )
        .leaves([out((4, 1750 + 4 * 40, 0))]),
        with(
            four,
            case("a GSO packet over IPv6 counts as its segments", rules),
            EGRESS,
            &data6,
            true,
        )
        .leaves([out((4, 1750 + 4 * 60, 0))]),
        with(
            four,
            case("a UDP GSO packet counts as its datagrams", rules),
            EGRESS,
            &datagrams,
            true,
        )
        .leaves([connection(
            State::Udp,
            EGRESS,
            (0, 0, 0),
            (4, 1750 + 4 * 28, 0),
        )]),
        with(
            four,
            case(
                "a GRO packet that comes in counts as its segments",
                &["ingress all 0.0.0.0/0"],
            ),
            INGRESS,
            &data_in,
            true,
        )
        .leaves([connection(
            State::Pickup,
            INGRESS,
            (4, 1750 + 4 * 40, 0),
            (0, 0, 0),
        )]),
        with(
            four,
            case("a refused GSO packet counts as its segments", &[]),
            EGRESS,
            &data,
            false,
        )
        .leaves([rejected(EGRESS, (1, 80), (4, 1750 + 4 * 40, 0))]),
    ]
}

fn reasons() -> Case {
    let second = || tcp("198.51.100.7:2", "10.0.1.10:80", SYN);
    let later = raw("198.51.100.7", "10.0.1.10", protocol::TCP, 40).fragment(1, 1480, false);
    case(
        "each reason for which packets are refused has a row of its own, also between the same ends",
        &["ingress tcp 80 0.0.0.0/0"],
    )
    .room_for(1)
    .ingress(tcp("198.51.100.7:1", "10.0.1.10:80", SYN), Allow)
    .ingress(second(), Deny(DropReason::ConntrackFull))
    .rules(&[])
    .ingress(second(), NO_RULE)
    .ingress(second(), NO_RULE)
    .ingress(later, Deny(DropReason::OrphanFragment))
    .leaves([
        connection(State::SynSent, INGRESS, (1, 40, 2), (0, 0, 0)),
        refused(DropReason::ConntrackFull, INGRESS, (80, 2), (1, 40, 2)),
        refused(DropReason::NoRule, INGRESS, (80, 2), (2, 80, 2)),
        refused(DropReason::OrphanFragment, INGRESS, (0, 0), (1, 60, 0)),
    ])
}

/// A connection's and a row's account have two slots, for the current and the last interval.
fn epochs() -> Vec<Case> {
    let out = || udp("10.0.1.10:1", "198.51.100.7:2");
    let refused = || tcp("198.51.100.7:1", "10.0.1.10:80", SYN);
    let rules = &["egress udp 0.0.0.0/0"];
    vec![
        case("two intervals are counted apart and both are there", rules)
            .egress(out(), Allow)
            .ingress(refused(), NO_RULE)
            .epoch()
            .egress(out(), Allow)
            .egress(out(), Allow)
            .ingress(refused(), NO_RULE)
            .leaves([
                connection(State::Udp, EGRESS, (0, 0, 0), (3, 84, 0)),
                rejected(INGRESS, (80, 1), (2, 80, 2)),
            ]),
        case("the third interval takes the place of the first", rules)
            .egress(out(), Allow)
            .ingress(refused(), NO_RULE)
            .epoch()
            .egress(out(), Allow)
            .ingress(refused(), NO_RULE)
            .epoch()
            .egress(out(), Allow)
            .ingress(refused(), NO_RULE)
            .leaves([
                connection(State::Udp, EGRESS, (0, 0, 0), (2, 56, 0)),
                rejected(INGRESS, (80, 1), (2, 80, 2)),
            ]),
        case("an interval without packets leaves what was counted", rules)
            .egress(out(), Allow)
            .epoch()
            .epoch()
            .epoch()
            .ingress(udp("198.51.100.7:2", "10.0.1.10:1"), Allow)
            .leaves([connection(State::Udp, EGRESS, (1, 28, 0), (1, 28, 0))]),
    ]
}
