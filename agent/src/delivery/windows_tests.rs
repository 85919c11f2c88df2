//! Tests of `windows`.

use std::sync::Arc;

use super::*;
use crate::delivery::test_epochs::{counts, epoch, tuple};
use crate::flows::Interface;

/// Start, end and packets of what closed.
fn told(closed: &[Closed]) -> Vec<(u64, u64, u64)> {
    let packets = |closed: &Closed| {
        let flows = closed.reports.iter().flat_map(|report| &report.flows);
        flows.map(|(_, counts)| counts.packets).sum()
    };
    closed
        .iter()
        .map(|closed| (closed.window.start, closed.window.end, packets(closed)))
        .collect()
}

#[test]
fn a_window_is_the_epochs_that_end_in_it() {
    type Row<'a> = (&'a str, &'a [(u64, u64)], &'a [(u64, u64, u64)]);
    let rows: [Row<'_>; 5] = [
        ("one epoch a window", &[(60, 120)], &[(60, 120, 1)]),
        (
            "several",
            &[(60, 80), (80, 100), (100, 120), (120, 130)],
            &[(60, 120, 3)],
        ),
        (
            "flushed in the middle",
            &[(60, 95), (94, 120)],
            &[(60, 120, 2)],
        ),
        (
            "the agent was away over a window's end",
            &[(60, 100), (100, 200), (200, 240)],
            &[(60, 100, 1), (100, 240, 2)],
        ),
        (
            "the clock was set back",
            &[(130, 150), (60, 120)],
            &[(130, 150, 1), (60, 120, 1)],
        ),
    ];
    for (name, epochs, expected) in rows {
        let mut windows = Windows::new(60, false);
        let mut closed = Vec::new();
        for (number, (start, end)) in (1..).zip(epochs) {
            closed.extend(windows.add(epoch(number, *start, *end, 1), &[]));
        }
        assert_eq!(told(&closed), expected, "{name}");
    }
}

#[test]
fn what_is_open_can_be_closed_early_and_is_not_there_twice() {
    let mut windows = Windows::new(600, false);
    assert!(windows.close().is_none() && !windows.is_open());
    assert!(windows.add(epoch(1, 0, 60, 2), &[]).is_empty());
    assert!(windows.is_open());
    let closed = windows.close().expect("a window was open");
    assert_eq!(told(&[closed]), [(0, 60, 2)]);
    assert!(windows.close().is_none());
    let rest = windows.add(epoch(2, 60, 600, 5), &[]);
    assert_eq!(told(&rest), [(60, 600, 5)]);
}

#[test]
fn an_eni_without_traffic_is_silent_only_if_it_was_there_throughout() {
    let silent = |is_whole| Report {
        interface: Arc::new(Interface {
            interface_id: "eni-2".to_owned(),
            ..Interface::default()
        }),
        flows: Vec::new(),
        skipped_packets: 0,
        is_whole,
    };
    for (first, second, expected) in [(true, true, true), (false, true, false)] {
        let mut windows = Windows::new(60, false);
        let mut one = epoch(1, 0, 30, 1);
        one.reports.push(silent(first));
        let mut other = epoch(2, 30, 60, 1);
        other.reports.push(silent(second));
        assert!(windows.add(one, &[]).is_empty());
        let closed = windows.add(other, &[]);
        let [busy, quiet] = closed[0].reports.as_slice() else {
            panic!("{closed:?}")
        };
        assert_eq!(quiet.is_whole, expected);
        assert_eq!(busy.flows, [(tuple(), counts(2, 0, 59))]);
    }
}
