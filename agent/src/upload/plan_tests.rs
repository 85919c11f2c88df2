use proptest::prelude::*;

use super::State::{Refused, Settled, Waiting};
use super::*;

/// (bytes, time, state), from old to new; named by their place.
fn files(rows: &[(u64, u64, State)]) -> Vec<File> {
    let file = |(place, &(bytes, time, state))| File {
        relative: format!("{place}"),
        bytes,
        time,
        state,
    };
    rows.iter().enumerate().map(file).collect()
}

/// `give up 0, expire 1, upload 2`.
fn text(actions: &[Action<'_>]) -> String {
    let word = |action: &Action<'_>| match action {
        Action::GiveUp(file) => format!("give up {}", file.relative),
        Action::Expire(file) => format!("expire {}", file.relative),
        Action::Upload(file) => format!("upload {}", file.relative),
    };
    actions.iter().map(word).collect::<Vec<_>>().join(", ")
}

#[test]
fn what_is_due() {
    let none = Limits::default();
    let backlog = |max| Limits {
        backlog_max_bytes: Some(max),
        ..none
    };
    let age = |max| Limits {
        max_age: Some(max),
        ..none
    };
    let bytes = |max| Limits {
        max_bytes: Some(max),
        ..none
    };
    let all = Limits {
        backlog_max_bytes: Some(20),
        max_age: Some(50),
        max_bytes: Some(35),
    };
    let waiting = [(10, 1, Waiting), (10, 2, Waiting), (10, 3, Waiting)];
    let settled = [(10, 1, Settled), (10, 2, Settled), (10, 3, Settled)];
    let mixed = [(10, 1, Settled), (10, 2, Waiting), (10, 3, Settled)];
    let refused = [(10, 1, Refused), (10, 2, Waiting)];
    let much = [
        (10, 1, Waiting),
        (10, 40, Settled),
        (10, 60, Settled),
        (10, 61, Waiting),
        (10, 62, Settled),
        (10, 63, Waiting),
    ];
    for (name, rows, limits, expected) in [
        ("nothing there", &[][..], all, ""),
        ("no bounds", &waiting, none, "upload 0, upload 1, upload 2"),
        (
            "a backlog at its bound",
            &waiting,
            backlog(30),
            "upload 0, upload 1, upload 2",
        ),
        (
            "a backlog over it",
            &waiting,
            backlog(29),
            "give up 0, upload 1, upload 2",
        ),
        (
            "far over it",
            &waiting,
            backlog(9),
            "give up 0, give up 1, give up 2",
        ),
        ("settled files are no backlog", &settled, backlog(0), ""),
        (
            "a refused file is one",
            &refused,
            backlog(10),
            "give up 0, upload 1",
        ),
        (
            "a refused file is not tried again",
            &refused,
            none,
            "upload 1",
        ),
        ("files at the age", &settled, age(99), ""),
        ("a file over the age", &settled, age(98), "expire 0"),
        (
            "no age at all",
            &settled,
            Limits {
                max_age: Some(0),
                ..none
            },
            "expire 0, expire 1, expire 2",
        ),
        (
            "a waiting file has no age",
            &mixed,
            age(97),
            "expire 0, upload 1",
        ),
        ("a refused file has no age", &refused, age(0), "upload 1"),
        ("bytes at the bound", &settled, bytes(30), ""),
        ("bytes over it", &settled, bytes(29), "expire 0"),
        (
            "waiting files count and stay",
            &mixed,
            bytes(15),
            "expire 0, expire 2, upload 1",
        ),
        (
            "all bounds at once: what is given up makes room",
            &much,
            all,
            "give up 0, expire 1, expire 2, upload 3, upload 5",
        ),
    ] {
        let files = files(rows);
        assert_eq!(text(&plan(&files, 100, &limits)), expected, "{name}");
    }
}

proptest! {
    /// Bounds hold afterwards, and no file that waits goes while the backlog is within its own.
    #[test]
    fn bounds_hold_and_only_a_full_backlog_takes_what_waits(
        rows in prop::collection::vec((0..50_u64, prop_oneof![Just(Waiting), Just(Refused), Just(Settled)]), 0..20),
        backlog in prop::option::of(0..300_u64),
        max_age in prop::option::of(0..30_u64),
        max_bytes in prop::option::of(0..500_u64),
    ) {
        let rows: Vec<_> = rows.iter().zip(0_u64..).map(|(&(bytes, state), time)| (bytes, time, state)).collect();
        let files = files(&rows);
        let limits = Limits { backlog_max_bytes: backlog, max_age, max_bytes };
        let actions = plan(&files, 20, &limits);
        let gone = |file: &File| actions.iter().any(|action| matches!(action, Action::GiveUp(of) | Action::Expire(of) if *of == file));
        let left: Vec<&File> = files.iter().filter(|file| !gone(file)).collect();
        let waits = |file: &&&File| file.state != Settled;
        let waiting: u64 = left.iter().filter(waits).map(|file| file.bytes).sum();
        let before: u64 = files.iter().filter(|file| file.state != Settled).map(|file| file.bytes).sum();
        prop_assert!(waiting <= backlog.unwrap_or(u64::MAX));
        if before <= backlog.unwrap_or(u64::MAX) {
            prop_assert_eq!(waiting, before);
        }
        let settled = left.iter().any(|file| file.state == Settled);
        let kept: u64 = left.iter().map(|file| file.bytes).sum();
        prop_assert!(!settled || kept <= max_bytes.unwrap_or(u64::MAX));
        for action in &actions {
            if let Action::Upload(file) = action {
                prop_assert!(file.state == Waiting && !gone(file));
            }
        }
    }
}
