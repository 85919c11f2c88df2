//! Walks and what they tell, as rows. Ticks are hundredths of a second.
#![expect(clippy::unwrap_used, reason = "tests")]

use branchline_common::account::{FlagsSeen, Traffic};
use branchline_common::conntrack::default_timeouts;
use branchline_common::flow::mapped;
use branchline_common::maps::Row;
use branchline_common::verdict::{self, DropReason};

use super::*;
use crate::live::event::Flow;

const HZ: u32 = 100;

fn key(kind: u8) -> FlowKey {
    FlowKey {
        local: mapped([10, 0, 1, 5]),
        remote: mapped([10, 0, 2, 7]),
        local_port: 4711,
        remote_port: 443,
        eni: 3,
        protocol: 6,
        kind,
    }
}

/// Packets of 100 bytes in one epoch, the first at tick `first`.
fn slots(counts: &[(u64, u32, u32)]) -> Account {
    let mut account = Account::default();
    for (packets, epoch, first) in counts {
        let traffic = Traffic {
            packets: *packets,
            bytes: packets * 100,
            flags: FlagsSeen::default(),
        };
        account.add(&traffic, *epoch, *first);
    }
    account
}

/// A connection that the task opened: its state, the tick of its last packet, what it sent.
fn connection(state: State, last: u32, sent: &[(u64, u32, u32)]) -> Entry {
    Entry::Connection(Connection {
        tracking: Tracking::opened(state, Direction::Egress, last, &default_timeouts(HZ)),
        accounts: [slots(&[]), slots(sent)],
        ..Connection::default()
    })
}

fn with(entry: Entry, change: impl FnOnce(&mut Tracking)) -> Entry {
    let Entry::Connection(mut connection) = entry else {
        panic!("not a connection")
    };
    change(&mut connection.tracking);
    Entry::Connection(connection)
}

fn row(counts: &[(u64, u32, u32)]) -> Entry {
    Entry::Row(Row {
        account: slots(counts),
        ..Row::default()
    })
}

/// One walk at a tick in an epoch: what it sees, and the events that come of it: what, packets that
/// the task sent, whether these are all.
type Walk = (u32, u32, Vec<Entry>, Vec<(What, u64, bool)>);

fn run(name: &str, kind: u8, walks: Vec<Walk>) {
    let mut diff = Diff::default();
    for (number, (ticks, epoch, entries, expected)) in walks.into_iter().enumerate() {
        diff.begin(Moment {
            ticks,
            ticks_per_second: HZ,
            epoch,
            ..Moment::default()
        });
        for entry in &entries {
            diff.see(&key(kind), entry);
        }
        let told: Vec<_> = diff
            .finish()
            .iter()
            .map(|change| {
                assert_eq!(change.counts[1].bytes, change.counts[1].packets * 100);
                (change.what, change.counts[1].packets, change.is_complete)
            })
            .collect();
        assert_eq!(told, expected, "{name}, walk {number}");
    }
}

#[test]
fn connections_start_and_end_with_all_that_they_counted() {
    use Ending::{Closed, Removed, Reset, Revoked, Timeout};
    use State::{Close, Established, Fin, SynSent, TimeWait, Udp};
    use What::{End, Start};
    let rows: Vec<(&str, Vec<Walk>)> = vec![
        (
            "starts, goes on, closes",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(SynSent, 199, &[(1, 8, 150)])],
                    vec![(Start, 1, true)],
                ),
                (
                    300,
                    8,
                    vec![connection(Established, 290, &[(5, 8, 150)])],
                    vec![],
                ),
                (
                    400,
                    8,
                    vec![connection(TimeWait, 350, &[(9, 8, 150)])],
                    vec![(End(Closed), 9, true)],
                ),
                (
                    500,
                    8,
                    vec![connection(TimeWait, 350, &[(9, 8, 150)])],
                    vec![],
                ),
                (600, 8, vec![], vec![]),
            ],
        ),
        (
            "starts and ends between two walks",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(TimeWait, 180, &[(9, 8, 150)])],
                    vec![(Start, 9, true), (End(Closed), 9, true)],
                ),
            ],
        ),
        (
            "packets still cross as it closes: the next walk tells the end",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(TimeWait, 195, &[(9, 8, 150)])],
                    vec![(Start, 9, true)],
                ),
                (
                    300,
                    8,
                    vec![connection(TimeWait, 201, &[(10, 8, 150)])],
                    vec![(End(Closed), 10, true)],
                ),
            ],
        ),
        (
            "both FINs, and the last ACK was lost",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![with(connection(Fin, 190, &[(2, 8, 150)]), |tracking| {
                        tracking.fins = 3
                    })],
                    vec![(Start, 2, true)],
                ),
                (
                    500,
                    8,
                    vec![with(connection(Fin, 190, &[(2, 8, 150)]), |tracking| {
                        tracking.fins = 3
                    })],
                    vec![(End(Closed), 2, true)],
                ),
            ],
        ),
        (
            "half closed is not ended",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(Fin, 150, &[(2, 8, 150)])],
                    vec![(Start, 2, true)],
                ),
                (5_000, 8, vec![connection(Fin, 150, &[(2, 8, 150)])], vec![]),
            ],
        ),
        (
            "reset",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(Close, 150, &[(2, 8, 150)])],
                    vec![(Start, 2, true), (End(Reset), 2, true)],
                ),
            ],
        ),
        (
            "its rule is revoked",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(Udp, 190, &[(2, 8, 150)])],
                    vec![(Start, 2, true)],
                ),
                (
                    300,
                    8,
                    vec![with(connection(Close, 250, &[(2, 8, 150)]), |tracking| {
                        tracking.timeout = ENDED_SECONDS * HZ;
                    })],
                    vec![(End(Revoked), 2, true)],
                ),
            ],
        ),
        (
            "dies of its timeout, at which it is still there",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(Udp, 150, &[(2, 8, 150)])],
                    vec![(Start, 2, true)],
                ),
                (3_149, 8, vec![connection(Udp, 150, &[(2, 8, 150)])], vec![]),
                (
                    3_150,
                    8,
                    vec![connection(Udp, 150, &[(2, 8, 150)])],
                    vec![(End(Timeout), 2, true)],
                ),
            ],
        ),
        (
            "dies of its timeout and is swept before the next walk",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(Udp, 150, &[(2, 8, 150)])],
                    vec![(Start, 2, true)],
                ),
                (3_400, 8, vec![], vec![(End(Timeout), 2, true)]),
            ],
        ),
        (
            "its task is removed",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(Udp, 150, &[(2, 8, 150)])],
                    vec![(Start, 2, true)],
                ),
                (300, 8, vec![], vec![(End(Removed), 2, true)]),
            ],
        ),
        (
            "was there before, so its counts are not all",
            vec![
                (
                    100,
                    8,
                    vec![connection(Established, 90, &[(7, 8, 1)])],
                    vec![],
                ),
                (
                    200,
                    8,
                    vec![connection(TimeWait, 150, &[(9, 8, 1)])],
                    vec![(End(Closed), 9, false)],
                ),
            ],
        ),
        (
            "had ended before",
            vec![
                (100, 8, vec![connection(TimeWait, 50, &[(7, 8, 1)])], vec![]),
                (200, 8, vec![connection(TimeWait, 50, &[(7, 8, 1)])], vec![]),
                (300, 8, vec![], vec![]),
            ],
        ),
        (
            "counts over epochs",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(Established, 190, &[(5, 8, 150)])],
                    vec![(Start, 5, true)],
                ),
                (
                    300,
                    9,
                    vec![connection(Established, 290, &[(6, 8, 150), (3, 9, 250)])],
                    vec![],
                ),
                (
                    400,
                    10,
                    vec![connection(
                        Established,
                        390,
                        &[(6, 8, 150), (4, 9, 250), (2, 10, 350)],
                    )],
                    vec![],
                ),
                (
                    500,
                    11,
                    vec![connection(
                        TimeWait,
                        450,
                        &[(4, 9, 250), (2, 10, 350), (1, 11, 450)],
                    )],
                    vec![(End(Closed), 13, true)],
                ),
            ],
        ),
        (
            "an epoch was emptied before it was seen",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(Established, 190, &[(5, 8, 150)])],
                    vec![(Start, 5, true)],
                ),
                (
                    900,
                    10,
                    vec![connection(
                        TimeWait,
                        800,
                        &[(7, 8, 150), (3, 9, 250), (2, 10, 350)],
                    )],
                    vec![(End(Closed), 10, false)],
                ),
            ],
        ),
        (
            "opened again on the same ports",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(TimeWait, 150, &[(9, 8, 110)])],
                    vec![(Start, 9, true), (End(Closed), 9, true)],
                ),
                (
                    300,
                    8,
                    vec![connection(SynSent, 250, &[(10, 8, 110)])],
                    vec![(Start, 1, true)],
                ),
                (
                    400,
                    8,
                    vec![connection(TimeWait, 350, &[(14, 8, 110)])],
                    vec![(End(Closed), 5, true)],
                ),
            ],
        ),
        (
            "closed and opened again between two walks: whose packets were whose is not known",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(Established, 190, &[(5, 8, 110)])],
                    vec![(Start, 5, true)],
                ),
                (
                    300,
                    8,
                    vec![connection(SynSent, 290, &[(9, 8, 110)])],
                    vec![(End(Closed), 5, true), (Start, 4, false)],
                ),
            ],
        ),
        (
            "swept, and another in its place",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(Udp, 150, &[(5, 8, 110)])],
                    vec![(Start, 5, true)],
                ),
                (
                    4_000,
                    9,
                    vec![connection(Udp, 3_990, &[(2, 9, 3_990)])],
                    vec![(End(Timeout), 5, true), (Start, 2, true)],
                ),
            ],
        ),
        (
            "shown twice in a walk",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![
                        connection(Established, 190, &[(5, 8, 150)]),
                        connection(Established, 195, &[(6, 8, 150)]),
                    ],
                    vec![(Start, 5, true)],
                ),
                (
                    300,
                    8,
                    vec![connection(TimeWait, 250, &[(8, 8, 150)])],
                    vec![(End(Closed), 8, true)],
                ),
            ],
        ),
        (
            "on its way out of the table",
            vec![
                (100, 8, vec![], vec![]),
                (
                    200,
                    8,
                    vec![connection(Udp, 150, &[(2, 8, 150)])],
                    vec![(Start, 2, true)],
                ),
                (
                    3_400,
                    8,
                    vec![with(connection(Udp, 150, &[(2, 8, 150)]), |tracking| {
                        tracking.state = SWEPT;
                    })],
                    vec![(End(Timeout), 2, true)],
                ),
            ],
        ),
    ];
    for (name, walks) in rows {
        run(name, kind::CONNECTION, walks);
    }
}

#[test]
fn rejects_are_told_with_what_came_since_the_walk_before() {
    use What::Reject;
    let rejected = kind::row(Direction::Egress, verdict::Action::Rejected);
    let walks = vec![
        // What is there at first is no news.
        (100, 8, vec![row(&[(3, 8, 50)])], vec![]),
        (200, 8, vec![row(&[(3, 8, 50)])], vec![]),
        (300, 8, vec![row(&[(5, 8, 50)])], vec![(Reject, 2, false)]),
        (
            400,
            9,
            vec![row(&[(5, 8, 50), (4, 9, 350)])],
            vec![(Reject, 4, false)],
        ),
        // Shown twice, once before the second packet.
        (
            500,
            9,
            vec![
                row(&[(5, 8, 50), (5, 9, 350)]),
                row(&[(5, 8, 50), (6, 9, 350)]),
            ],
            vec![(Reject, 2, false)],
        ),
        // Written and swept; then a new one.
        (600, 10, vec![], vec![]),
        (700, 10, vec![row(&[(1, 10, 690)])], vec![(Reject, 1, true)]),
        // Swept, and a new one in its place before the next walk.
        (800, 11, vec![row(&[(7, 11, 790)])], vec![(Reject, 7, true)]),
    ];
    run("reject", rejected, walks);
}

#[test]
fn rejects_for_two_reasons_are_two_flows_of_the_same_ends() {
    let mut diff = Diff::default();
    let reasons = [DropReason::NoRule, DropReason::ConntrackFull];
    let mut told = Vec::new();
    for (ticks, entry) in [(100, row(&[(1, 8, 50)])), (200, row(&[(3, 8, 50)]))] {
        diff.begin(Moment {
            ticks,
            ticks_per_second: HZ,
            epoch: 8,
            ..Moment::default()
        });
        for reason in reasons {
            diff.see(&key(kind::rejected(Direction::Egress, reason)), &entry);
        }
        told = diff
            .finish()
            .iter()
            .map(|change| {
                let flow = Flow::of(&change.key, change.opener, change.action, None);
                (flow.drop_reason, change.counts[1].packets)
            })
            .collect();
    }
    told.sort();
    assert_eq!(told, reasons.map(|reason| (Some(reason), 2)));
}

#[test]
fn a_flow_without_a_connection_lives_over_its_rows() {
    use What::{End, Start};
    let accepted = kind::row(Direction::Egress, verdict::Action::Accepted);
    let walks = vec![
        (100, 8, vec![], vec![]),
        (200, 8, vec![row(&[(3, 8, 150)])], vec![(Start, 3, true)]),
        (300, 8, vec![row(&[(5, 8, 150)])], vec![]),
        // The row is written and swept; the flow goes on in a new one.
        (400, 9, vec![], vec![]),
        (500, 9, vec![row(&[(2, 9, 450)])], vec![]),
        (6_449, 9, vec![], vec![]),
        (6_450, 9, vec![], vec![(End(Ending::Timeout), 7, true)]),
        (
            6_500,
            9,
            vec![row(&[(1, 9, 6_490)])],
            vec![(Start, 1, true)],
        ),
    ];
    run("untracked", accepted, walks);
}

/// Rows of both directions of an untracked TCP connection: one packet each at a tick, with flags.
fn both(ingress: (u8, u32), egress: (u8, u32)) -> [(FlowKey, Entry); 2] {
    let row = |direction, (flags, tick)| {
        let mut account = Account::default();
        let traffic = Traffic {
            packets: 1,
            bytes: 100,
            flags: FlagsSeen::of(flags),
        };
        account.add(&traffic, 8, tick);
        let entry = Entry::Row(Row {
            account,
            ..Row::default()
        });
        (key(kind::row(direction, verdict::Action::Accepted)), entry)
    };
    [
        row(Direction::Ingress, ingress),
        row(Direction::Egress, egress),
    ]
}

#[test]
fn both_rows_of_a_flow_without_a_connection_are_one_flow() {
    const SYN: u8 = 2;
    const SYN_ACK: u8 = 18;
    const FIN: u8 = 1;
    const RST: u8 = 4;
    // (name, flags and ticks of the ingress and the egress packet, opener, end at tick 500)
    type Rows<'a> = (&'a str, (u8, u32), (u8, u32), Direction, Option<Ending>);
    let rows: [Rows<'_>; 6] = [
        (
            "the earlier opens",
            (0, 110),
            (0, 120),
            Direction::Ingress,
            None,
        ),
        (
            "the other is earlier",
            (0, 120),
            (0, 110),
            Direction::Egress,
            None,
        ),
        (
            "in one tick the SYN opens",
            (SYN, 110),
            (SYN_ACK, 110),
            Direction::Ingress,
            None,
        ),
        (
            "in one tick the higher port opens",
            (0, 110),
            (0, 110),
            Direction::Egress,
            None,
        ),
        (
            "both FINs",
            (FIN, 110),
            (FIN, 120),
            Direction::Ingress,
            Some(Ending::Closed),
        ),
        (
            "a RST",
            (0, 110),
            (RST, 120),
            Direction::Ingress,
            Some(Ending::Reset),
        ),
    ];
    for (name, ingress, egress, opener, end) in rows {
        let mut diff = Diff::default();
        let mut told = Vec::new();
        for (ticks, entries) in [
            (100, Vec::new()),
            (200, both(ingress, egress).to_vec()),
            (500, both(ingress, egress).to_vec()),
        ] {
            diff.begin(Moment {
                ticks,
                ticks_per_second: HZ,
                epoch: 8,
                ..Moment::default()
            });
            for (key, entry) in &entries {
                diff.see(key, entry);
            }
            told.extend(diff.finish());
        }
        let whats: Vec<_> = told.iter().map(|change| change.what).collect();
        let expected: Vec<_> = [What::Start]
            .into_iter()
            .chain(end.map(What::End))
            .collect();
        assert_eq!(whats, expected, "{name}");
        for change in told {
            assert_eq!((change.opener, change.first), (opener, Some(110)), "{name}");
            assert_eq!(change.counts.map(|count| count.packets), [1, 1], "{name}");
        }
    }
}

#[test]
fn rates_are_what_came_since_the_walk_before_and_name_idle_flows() {
    let mut diff = Diff::default();
    let mut walk = |ticks, epoch, entries: &[(u8, Entry)]| {
        diff.begin(Moment {
            ticks,
            ticks_per_second: HZ,
            epoch,
            ..Moment::default()
        });
        for (kind, entry) in entries {
            diff.see(&key(*kind), entry);
        }
        diff.finish();
        let mut flowing: Vec<_> = diff
            .flowing()
            .iter()
            .map(|flow| (flow.action, flow.fresh[1].packets))
            .collect();
        flowing.sort_unstable();
        flowing
    };
    let rejected = kind::row(Direction::Egress, verdict::Action::Rejected);
    let live =
        |sent: &[(u64, u32, u32)]| (kind::CONNECTION, connection(State::Established, 90, sent));
    walk(
        100,
        8,
        &[live(&[(5, 8, 50)]), (rejected, row(&[(3, 8, 50)]))],
    );
    let next = walk(
        200,
        8,
        &[live(&[(9, 8, 50)]), (rejected, row(&[(4, 8, 50)]))],
    );
    assert_eq!(next, [(Action::Accept, 4), (Action::Reject, 1)]);
    // An epoch ends: the sum of both slots would drop.
    let next = walk(
        300,
        9,
        &[
            live(&[(9, 8, 50), (2, 9, 250)]),
            (rejected, row(&[(4, 8, 50)])),
        ],
    );
    assert_eq!(next, [(Action::Accept, 2)]);
    let next = walk(400, 10, &[live(&[(9, 8, 50), (2, 9, 250), (1, 10, 350)])]);
    assert_eq!(next, [(Action::Accept, 1)]);
    let idle = walk(500, 10, &[live(&[(9, 8, 50), (2, 9, 250), (1, 10, 350)])]);
    assert_eq!(idle, [(Action::Accept, 0)]);
    let ended = connection(State::TimeWait, 450, &[(2, 9, 250), (1, 10, 350)]);
    assert_eq!(walk(600, 10, &[(kind::CONNECTION, ended)]), []);
}

#[test]
fn a_start_says_when_its_first_packet_came() {
    let entry = connection(State::Established, 290, &[(5, 8, 150), (2, 9, 250)]);
    let mut diff = Diff::default();
    for (ticks, entries) in [(100, vec![]), (300, vec![entry])] {
        diff.begin(Moment {
            ticks,
            ticks_per_second: HZ,
            epoch: 8,
            ..Moment::default()
        });
        for entry in &entries {
            diff.see(&key(kind::CONNECTION), entry);
        }
        let changes = diff.finish();
        if ticks == 300 {
            let start = changes.first().unwrap();
            assert_eq!((start.first, start.last), (Some(150), 290));
        }
    }
}
