//! Flows that need no connection: the rows that the loaded programs count, and the rules that the
//! flow log names for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use branchline::{
    datapath::{Clock, Entry},
    flows::{Closing, Drain, Reading, Window},
    policy::{KeptPage, Page, RuleBook, Trees},
};
use branchline_common::{
    account::Segments,
    headers::tcp::{ACK, SYN},
    verdict::{Direction, Verdict},
};
use branchline_tests::{
    case::case,
    loaded::with_shared,
    packet::{tcp, udp},
    rules::{compile, group},
    world::World,
};

/// All in and out by TCP; UDP to port 53 out to anybody, and in from one network.
const RULES: [&str; 4] = [
    "ingress udp 198.51.100.0/24",
    "ingress all 0.0.0.0/0",
    "egress udp 53 0.0.0.0/0",
    "egress tcp 0.0.0.0/0",
];

/// The epoch that a case starts in.
const EPOCH: u32 = 1;

#[test]
fn rows_of_the_programs_tell_the_rule_that_let_them_pass() {
    let case = case("untracked", &RULES);
    let eni = &case.enis[0];
    let rules = group(&eni.rules).rules;
    let id = |place: usize| rules[place].rule_id.clone();
    let book = RuleBook::default();
    let compiled = compile(&mut Trees::default(), &eni.rules);
    let kept = KeptPage {
        numbered_at: 1,
        epoch: 1,
    };
    let page = Page {
        rules: Arc::clone(&compiled.rules),
        kept,
    };
    book.enter(1, page);
    book.obey([u32::from(eni.slot)], 1);
    let names = book.names();
    with_shared(|loaded| {
        loaded.set_up(&case);
        let ticks = loaded.ticks_per_second();
        for (direction, packet) in [
            // The opener's direction, and the answers'.
            (
                Direction::Ingress,
                tcp("198.51.100.7:5000", "10.0.1.10:80", SYN),
            ),
            (
                Direction::Egress,
                tcp("10.0.1.10:80", "198.51.100.7:5000", SYN | ACK),
            ),
            (Direction::Egress, udp("10.0.1.10:6000", "198.51.100.7:53")),
            (Direction::Ingress, udp("198.51.100.7:53", "10.0.1.10:6000")),
        ] {
            let frame = eni.frame(direction, &packet).bytes();
            let verdict = loaded.frame(eni, direction, &frame, Segments::default());
            assert_eq!(verdict, Verdict::Allow, "{packet:?}");
        }
        let mut found = BTreeSet::new();
        let mut drain = Drain::default();
        let closing = Closing {
            epoch: EPOCH,
            window: Window { start: 0, end: 60 },
            next_start: 60,
            ticks: loaded.datapath.ticks().unwrap(),
            wall_ms: 60_000,
            unlogged: BTreeMap::new(),
        };
        let reading = Reading {
            clock: Clock::of(ticks),
            closing: &closing,
            rules: &names,
        };
        for (key, row) in loaded.datapath.rows().unwrap() {
            drain.add(&key, &Entry::Row(row), &reading);
        }
        for (tuple, _) in drain.take(eni.slot.into()) {
            let rule = tuple.rule.as_ref().map(|rule| rule.rule_id().to_owned());
            found.insert((tuple.direction, tuple.protocol, tuple.dst_port, rule));
        }
        let expected = [
            (Direction::Ingress, 6, 80, Some(id(1))),
            (Direction::Egress, 6, 5_000, Some(id(3))),
            (Direction::Egress, 17, 53, Some(id(2))),
            (Direction::Ingress, 17, 6_000, Some(id(1))),
        ];
        assert_eq!(found, expected.into());
    });
}
