//! Where a start goes on, for every pair of store and maps that a stop can leave.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

const NOW: u64 = 1_000;

fn closing(epoch: u32) -> Closing {
    Closing {
        epoch,
        window: Window {
            start: 60,
            end: 120,
        },
        next_start: 120,
        ticks: 7,
        wall_ms: 120_000,
        unlogged: BTreeMap::new(),
    }
}

fn ledger(written_epoch: u32, ended: Option<u32>) -> Ledger {
    Ledger {
        closing: ended.map(closing),
        ..Ledger::new(written_epoch, 60)
    }
}

#[test]
fn a_start_goes_on_where_the_last_one_stopped() {
    use Surprise::{NewMaps, NewStore};
    type Row = (
        &'static str,
        Option<Ledger>,
        u32,
        // Written epoch, pending epoch, current epoch, start of the current epoch's window.
        (u32, Option<u32>, u32, u64),
        Option<Surprise>,
    );
    let rows: [Row; 10] = [
        ("first start", None, 1, (0, None, 1, NOW), None),
        ("maps never numbered", None, 0, (0, None, 1, NOW), None),
        (
            "in an interval",
            Some(ledger(4, None)),
            5,
            (4, None, 5, 60),
            None,
        ),
        (
            "before the kernel heard of the end",
            Some(ledger(4, Some(5))),
            5,
            (4, None, 5, 60),
            None,
        ),
        (
            "before the file was settled",
            Some(ledger(4, Some(5))),
            6,
            (4, Some(5), 6, 120),
            None,
        ),
        (
            "reboot in an interval",
            Some(ledger(4, None)),
            1,
            (4, None, 5, NOW),
            Some(NewMaps),
        ),
        (
            "reboot before the file was settled",
            Some(ledger(4, Some(5))),
            1,
            (4, Some(5), 6, NOW),
            Some(NewMaps),
        ),
        (
            "reboot before the file was settled, as many epochs on",
            Some(ledger(4, Some(5))),
            4,
            (4, Some(5), 6, NOW),
            Some(NewMaps),
        ),
        ("store lost", None, 9, (8, None, 9, NOW), Some(NewStore)),
        (
            "store from a backup",
            Some(ledger(4, Some(5))),
            9,
            (8, None, 9, NOW),
            Some(NewStore),
        ),
    ];
    for (name, stored, epoch, expected, surprise) in rows {
        let resume = resume(stored, epoch, NOW);
        let pending = resume.ledger.pending(resume.epoch);
        let start = pending.map_or(resume.ledger.start, |closing| closing.next_start);
        let found = (
            resume.ledger.written_epoch,
            pending.map(|closing| closing.epoch),
            resume.epoch,
            start,
        );
        assert_eq!(found, expected, "{name}");
        assert_eq!(resume.surprise, surprise, "{name}");
        // What is neither written nor pending is counted now.
        let newest = pending.map_or(resume.ledger.written_epoch, |closing| closing.epoch);
        assert_eq!(newest + 1, resume.epoch, "{name}");
    }
}

#[test]
fn windows_follow_one_another_and_have_at_least_a_second() {
    let due = End::Due { interval: 60 };
    let rows = [
        ("on time", due, 60, 120, (120, 120)),
        ("late", due, 60, 125, (120, 120)),
        ("after a long stop", due, 60, 1_000, (960, 960)),
        ("wall clock set back", due, 600, 300, (601, 300)),
        ("flushed", End::Flush, 60, 75, (76, 75)),
        ("flushed in its first second", End::Flush, 60, 60, (61, 60)),
    ];
    for (name, end, start, now, expected) in rows {
        let (window, next_start) = end.window(start, now);
        assert_eq!(window.start, start, "{name}");
        assert_eq!((window.end, next_start), expected, "{name}");
        assert!(window.last() >= window.start, "{name}");
    }
}

#[test]
fn packets_are_skipped_only_in_the_interval_that_lost_them() {
    let mut settled = closing(5);
    settled.unlogged.insert("eni-0a".to_owned(), 10);
    let ledger = Ledger::settled(&settled);
    for (name, eni, unlogged, expected) in [
        ("nothing new", "eni-0a", 10, 0),
        ("new ones", "eni-0a", 11, 1),
        ("never any", "eni-0b", 0, 0),
        ("the first", "eni-0b", 1, 1),
        ("after a reboot", "eni-0a", 3, 3),
        ("none after a reboot", "eni-0a", 0, 0),
    ] {
        assert_eq!(ledger.skipped(eni, unlogged), expected, "{name}");
    }
}

#[test]
fn the_ledger_survives_the_store() {
    let ledger = ledger(4, Some(5));
    let json = serde_json::to_vec(&ledger).unwrap();
    assert_eq!(serde_json::from_slice::<Ledger>(&json).unwrap(), ledger);
}
