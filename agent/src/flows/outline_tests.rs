//! Tests of `outline`.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::delivery::test_epochs::{counts, epoch, tuple};
use crate::flows::FlowTuple;

#[test]
fn an_outline_adds_up_what_logs_choose_by_and_is_read_as_it_was_written() {
    let mut whole = epoch(7, 60, 120, 3);
    let flow = |action, service, dst_port, packets| {
        let tuple = FlowTuple {
            action,
            service,
            dst_port,
            ..tuple()
        };
        (tuple, counts(packets, 60, 119))
    };
    whole.reports[0].flows.extend([
        flow(Action::Accept, None, 80, 10),
        flow(Action::Reject, None, 22, 200),
        flow(Action::Accept, Some(Service::Dns), 53, 4_000),
    ]);
    whole.reports[0].skipped_packets = 5;
    let outline = Outline::of(&whole);
    let [sum] = &outline.sums[..] else {
        panic!("{outline:?}")
    };
    let choice = |action, service| Choice { action, service };
    let expected = [
        (choice(Action::Accept, None), 13),
        (choice(Action::Accept, Some(Service::Dns)), 4_000),
        (choice(Action::Reject, None), 200),
    ];
    assert_eq!(sum.packets, expected);
    assert_eq!((sum.skipped_packets, sum.is_whole), (5, true));
    assert_eq!(sum.interface, whole.reports[0].interface);
    assert_eq!(outline.window, whole.window);
    let bytes = outline.to_bytes();
    assert_eq!(Outline::from_bytes(&bytes).unwrap(), outline);
    assert_eq!(Outline::from_bytes(&bytes[..bytes.len() / 2]), None);
}
