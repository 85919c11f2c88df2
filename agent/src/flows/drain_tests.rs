//! Map entries to tuples and seconds.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use branchline_common::account::{FlagsSeen, Traffic};
use branchline_common::conntrack::Connection;
use branchline_common::flow::mapped;
use branchline_common::maps::Row;
use branchline_common::policy::SCOPES;
use branchline_common::verdict::{self, DropReason, Service};
use proptest::prelude::*;

use super::*;
use crate::flows::ledger::Window;
use crate::policy::{KeptPage, NumberedRule, OpenTo, Page, RuleBook};

const CLOCK: Clock = Clock::of(100);

/// Epoch 5 lasted from second 940 to 999 and ended at tick 50,000.
fn closing() -> Closing {
    Closing {
        epoch: 5,
        window: Window {
            start: 940,
            end: 1_000,
        },
        next_start: 1_000,
        ticks: 50_000,
        wall_ms: 1_000_000,
        unlogged: BTreeMap::new(),
    }
}

fn traffic(packets: u64) -> Traffic {
    Traffic {
        packets,
        bytes: packets * 100,
        flags: FlagsSeen::default(),
    }
}

fn key(protocol: u8, local_port: u16) -> FlowKey {
    FlowKey {
        local: mapped([10, 0, 1, 10]),
        remote: mapped([198, 51, 100, 7]),
        local_port,
        remote_port: 443,
        eni: 3,
        protocol,
        kind: kind::CONNECTION,
    }
}

fn drained(entries: &[(FlowKey, Entry)]) -> Vec<(FlowTuple, FlowCounts)> {
    drained_by(entries, &RuleNames::default())
}

fn drained_by(entries: &[(FlowKey, Entry)], rules: &RuleNames) -> Vec<(FlowTuple, FlowCounts)> {
    let closing = closing();
    let reading = Reading {
        clock: CLOCK,
        closing: &closing,
        rules,
    };
    let mut drain = Drain::default();
    for (key, entry) in entries {
        drain.add(key, entry, &reading);
    }
    drain.take(3)
}

fn connection(ingress: u64, egress: u64) -> Entry {
    let mut connection = Connection::default();
    let [to, from] = &mut connection.accounts;
    to.add(&traffic(ingress), 5, 45_000);
    from.add(&traffic(egress), 5, 45_000);
    // The next epoch counts already.
    to.add(&traffic(1_000), 6, 50_001);
    Entry::Connection(connection)
}

#[test]
fn each_direction_of_a_connection_is_a_record() {
    let flows = drained(&[(key(6, 40_000), connection(2, 3))]);
    let (local, remote) = (
        "10.0.1.10".parse().unwrap(),
        "198.51.100.7".parse().unwrap(),
    );
    let ends: Vec<_> = flows
        .iter()
        .map(|(t, c)| (t.direction, t.src, t.src_port, t.dst, t.dst_port, c.packets))
        .collect();
    let expected = [
        (Direction::Ingress, remote, 443, local, 40_000, 2),
        (Direction::Egress, local, 40_000, remote, 443, 3),
    ];
    assert_eq!(ends, expected);
    assert!(flows.iter().all(|(t, _)| t.action == Action::Accept));
    let (_, counts) = flows[0];
    assert_eq!(
        (counts.bytes, counts.start(), counts.end()),
        (200, 950, 950)
    );
}

fn page(rules: [Vec<NumberedRule>; SCOPES]) -> Page {
    Page {
        rules: Arc::new(rules),
        kept: KeptPage {
            numbered_at: 9,
            epoch: 1,
        },
    }
}

#[test]
fn a_row_that_passed_tells_the_open_rule() {
    let rule = |id: &str, protocol, ports| NumberedRule {
        group_id: "sg-a".to_owned(),
        rule_id: id.to_owned(),
        opens: Some(OpenTo { protocol, ports }),
    };
    let mut rules: [Vec<NumberedRule>; SCOPES] = Default::default();
    rules[scope(Direction::Ingress, true)] = vec![rule("sgr-in", Some(6), (80, 80))];
    rules[scope(Direction::Egress, true)] = vec![rule("sgr-out", None, (0, u16::MAX))];
    let book = RuleBook::default();
    book.enter(9, page(rules));
    book.obey([3], 9);
    let found = |kind, key: FlowKey| {
        let mut row = Row::default();
        row.account.add(&traffic(1), 5, 45_000);
        let flows = drained_by(&[(FlowKey { kind, ..key }, Entry::Row(row))], &book.names());
        let rule = flows[0].0.rule.as_ref();
        rule.map(|rule| rule.rule_id().to_owned())
    };
    let row = kind::row;
    let (ingress, egress) = (Direction::Ingress, Direction::Egress);
    let no_port = FlowKey {
        remote_port: 0,
        ..key(6, 0)
    };
    let (accepted, audited) = (verdict::Action::Accepted, verdict::Action::Audited);
    let dns = kind::service(egress, Service::Dns);
    let rejected = kind::rejected(ingress, DropReason::NoRule);
    for (kind, key, expected) in [
        (row(ingress, accepted), key(6, 80), Some("sgr-in")),
        (row(egress, accepted), key(6, 80), Some("sgr-out")),
        (row(ingress, accepted), key(6, 81), None),
        (row(ingress, accepted), key(17, 80), None),
        (row(egress, accepted), key(1, 80), None),
        (row(egress, accepted), no_port, None),
        (row(ingress, audited), key(6, 80), None),
        (dns, key(17, 80), None),
        (rejected, key(6, 80), None),
    ] {
        assert_eq!(found(kind, key).as_deref(), expected, "{kind} {key:?}");
    }
}

#[test]
fn a_connection_tells_the_rule_that_let_it_be_opened() {
    let book = RuleBook::default();
    let rule = |id: &str| NumberedRule {
        group_id: "sg-a".to_owned(),
        rule_id: id.to_owned(),
        opens: None,
    };
    let mut rules: [Vec<NumberedRule>; SCOPES] = Default::default();
    rules[scope(Direction::Ingress, true)] = vec![rule("sgr-0"), rule("sgr-1")];
    book.enter(9, page(rules));
    let opened = |number, generation, opener| {
        let Entry::Connection(mut connection) = connection(1, 1) else {
            panic!()
        };
        connection.tracking.rule = number;
        connection.tracking.generation = generation;
        connection.tracking.opener = opener as u8;
        Entry::Connection(connection)
    };
    let rows = [
        (opened(1, 9, Direction::Ingress), Some("sgr-1")),
        (opened(2, 9, Direction::Ingress), None),
        (opened(1, 9, Direction::Egress), None),
        (opened(1, 8, Direction::Ingress), None),
    ];
    for (entry, expected) in rows {
        let flows = drained_by(&[(key(6, 40_000), entry)], &book.names());
        for (tuple, _) in &flows {
            let id = tuple.rule.as_ref().map(|rule| rule.rule_id());
            assert_eq!(id, expected, "{entry:?}");
        }
        assert_eq!(flows.len(), 2, "both directions");
    }
}

#[test]
fn icmp_identifiers_are_no_ports_and_no_records() {
    let entries = [
        (key(1, 7), connection(1, 1)),
        (key(1, 8), connection(10, 10)),
    ];
    let flows = drained(&entries);
    let found: Vec<_> = flows
        .iter()
        .map(|(t, c)| (t.direction, t.src_port, t.dst_port, c.packets))
        .collect();
    let expected = [
        (Direction::Ingress, 0, 0, 11),
        (Direction::Egress, 0, 0, 11),
    ];
    assert_eq!(found, expected);
}

#[test]
fn each_action_has_a_record_of_its_own_and_rows_merge_with_none_but_their_own() {
    let row = |action, packets| {
        let mut row = Row::default();
        row.account.add(&traffic(packets), 5, 45_000);
        let kind = kind::row(Direction::Ingress, action);
        (FlowKey { kind, ..key(6, 80) }, Entry::Row(row))
    };
    let mut audited = connection(7, 0);
    if let Entry::Connection(connection) = &mut audited {
        connection.tracking.rule = AUDITED;
    }
    let flows = drained(&[
        row(verdict::Action::Accepted, 1),
        row(verdict::Action::Rejected, 2),
        row(verdict::Action::Audited, 3),
        (key(6, 80), connection(4, 8)),
        (key(6, 80), audited),
    ]);
    let found: Vec<_> = flows
        .iter()
        .map(|(t, c)| (t.direction, t.action, c.packets))
        .collect();
    let expected = [
        (Direction::Ingress, Action::Accept, 5),
        (Direction::Ingress, Action::Reject, 2),
        (Direction::Ingress, Action::Audit, 10),
        (Direction::Egress, Action::Accept, 8),
    ];
    assert_eq!(found, expected);
}

#[test]
fn each_reason_has_a_record_of_its_own_which_standard_records_do_not() {
    let row = |kind, packets| {
        let mut row = Row::default();
        row.account.add(&traffic(packets), 5, 45_000);
        (FlowKey { kind, ..key(6, 80) }, Entry::Row(row))
    };
    let rejected = |reason| kind::rejected(Direction::Ingress, reason);
    let flows = drained(&[
        row(rejected(DropReason::ConntrackFull), 1),
        row(rejected(DropReason::NoRule), 2),
        row(rejected(DropReason::OrphanFragment), 4),
        // Of programs that told no reason.
        row(kind::row(Direction::Ingress, verdict::Action::Rejected), 8),
        row(kind::row(Direction::Ingress, verdict::Action::Accepted), 16),
    ]);
    let found: Vec<_> = flows
        .iter()
        .map(|(tuple, counts)| (tuple.action, tuple.drop_reason, counts.packets))
        .collect();
    let expected = [
        (Action::Accept, None, 16),
        (Action::Reject, None, 8),
        (Action::Reject, Some(DropReason::NoRule), 2),
        (Action::Reject, Some(DropReason::OrphanFragment), 4),
        (Action::Reject, Some(DropReason::ConntrackFull), 1),
    ];
    assert_eq!(found, expected);
    let standard: BTreeSet<_> = flows
        .into_iter()
        .map(|(tuple, _)| tuple.standard())
        .collect();
    assert_eq!(standard.len(), 2, "{standard:?}");
}

#[test]
fn each_service_has_a_record_of_its_own() {
    let row = |kind, packets| {
        let mut row = Row::default();
        row.account.add(&traffic(packets), 5, 45_000);
        (
            FlowKey {
                kind,
                ..key(17, 80)
            },
            Entry::Row(row),
        )
    };
    let of = |service| kind::service(Direction::Egress, service);
    let flows = drained(&[
        row(of(Service::Metadata), 1),
        row(of(Service::TimeSync), 2),
        row(of(Service::Dns), 4),
        row(kind::row(Direction::Egress, verdict::Action::Accepted), 8),
    ]);
    let found: Vec<_> = flows
        .iter()
        .map(|(tuple, counts)| (tuple.action, tuple.service, counts.packets))
        .collect();
    let expected = [
        (Action::Accept, None, 8),
        (Action::Accept, Some(Service::Dns), 4),
        (Action::Accept, Some(Service::Metadata), 1),
        (Action::Accept, Some(Service::TimeSync), 2),
    ];
    assert_eq!(found, expected);
}

proptest! {
    #[test]
    fn start_and_end_lie_in_the_window_and_in_order(first: u32, last: u32) {
        let slot = Slot { packets: 1, last, ..Slot::opened(5, first) };
        let closing = closing();
        let reading = Reading { clock: CLOCK, closing: &closing, rules: &RuleNames::default() };
        let counts = reading.counts(&slot);
        prop_assert!(closing.window.start <= counts.start());
        prop_assert!(counts.first_ms <= counts.last_ms);
        prop_assert!(counts.end() <= closing.window.last());
    }

    #[test]
    fn no_packet_is_lost_or_doubled_by_merging(
        entries in proptest::collection::hash_map((0..3u16, prop::sample::select(vec![1u8, 6, 17, 50])), (1..1_000u64, 1..1_000u64), 0..12)
    ) {
        let pairs: Vec<_> = entries
            .iter()
            .map(|((port, protocol), (to, from))| (key(*protocol, *port), connection(*to, *from)))
            .collect();
        let sent: u64 = entries.values().map(|(to, from)| to + from).sum();
        let flows = drained(&pairs);
        prop_assert_eq!(flows.iter().map(|(_, counts)| counts.packets).sum::<u64>(), sent);
        prop_assert_eq!(flows.iter().map(|(_, counts)| counts.bytes).sum::<u64>(), sent * 100);
    }
}
