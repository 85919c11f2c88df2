//! `sweep`: what is dead and written goes, all else stays.

use branchline_common::{
    account::Segments,
    conntrack::SWEEP_GRACE_SECONDS,
    flow::FlowKey,
    maps::SWEEP_KEYS,
    verdict::{Direction, DropReason, Verdict},
};
use branchline_tests::{
    case::{Case, case},
    packet::{Packet, tcp, udp},
    world::World,
};

use branchline_tests::loaded::{Loaded, with_shared};

/// Runs a test with an ENI that may send UDP.
fn with_sender(test: impl FnOnce(&mut Loaded, &Case)) {
    let case = case("sweep", &["egress udp 0.0.0.0/0"]);
    with_shared(|loaded| {
        loaded.set_up(&case);
        test(loaded, &case);
    });
}

fn send(loaded: &mut Loaded, case: &Case, packet: &Packet) -> Verdict {
    let eni = &case.enis[0];
    let frame = eni.frame(Direction::Egress, packet).bytes();
    loaded.frame(eni, Direction::Egress, &frame, Segments::default())
}

/// A datagram from this port opens a flow, which lives 30 s.
fn from(port: u16) -> Packet {
    udp(&format!("10.0.1.10:{port}"), "198.51.100.7:53")
}

fn connections(loaded: &Loaded) -> Vec<FlowKey> {
    loaded.tables().connections.into_keys().collect()
}

fn local_ports(loaded: &Loaded) -> Vec<u16> {
    connections(loaded)
        .iter()
        .map(|key| key.local_port)
        .collect()
}

#[test]
fn dead_connections_go_and_live_ones_stay() {
    with_sender(|loaded, case| {
        assert_eq!(send(loaded, case, &from(1)), Verdict::Allow);
        loaded.wait(30 + SWEEP_GRACE_SECONDS);
        assert_eq!(send(loaded, case, &from(2)), Verdict::Allow);
        let keys = connections(loaded);
        assert_eq!(loaded.datapath.sweep(&keys, 1).unwrap(), 1);
        assert_eq!(local_ports(loaded), [2]);
        assert_eq!(loaded.datapath.sweep(&keys, 1).unwrap(), 0);
    });
}

#[test]
fn a_connection_that_has_just_died_stays_for_the_grace() {
    with_sender(|loaded, case| {
        send(loaded, case, &from(1));
        loaded.wait(30);
        let keys = connections(loaded);
        assert_eq!(loaded.datapath.sweep(&keys, 1).unwrap(), 0);
        loaded.wait(SWEEP_GRACE_SECONDS);
        assert_eq!(loaded.datapath.sweep(&keys, 1).unwrap(), 1);
    });
}

#[test]
fn a_dead_connection_stays_until_its_records_are_written() {
    with_sender(|loaded, case| {
        send(loaded, case, &from(1));
        loaded.next_epoch();
        send(loaded, case, &from(2));
        loaded.wait(100);
        let keys = connections(loaded);
        assert_eq!(loaded.datapath.sweep(&keys, 0).unwrap(), 0);
        assert_eq!(loaded.datapath.sweep(&keys, 1).unwrap(), 1);
        assert_eq!(local_ports(loaded), [2]);
        assert_eq!(loaded.datapath.sweep(&keys, 2).unwrap(), 1);
        assert!(local_ports(loaded).is_empty());
    });
}

#[test]
fn rows_go_once_they_are_written() {
    with_sender(|loaded, case| {
        let refused = |port: u16| tcp(&format!("10.0.1.10:{port}"), "198.51.100.7:53", 2);
        let denied = Verdict::Deny(DropReason::NoRule);
        assert_eq!(send(loaded, case, &refused(1)), denied);
        loaded.next_epoch();
        assert_eq!(send(loaded, case, &refused(2)), denied);
        let keys: Vec<_> = loaded.tables().rows.into_keys().collect();
        assert_eq!(loaded.datapath.sweep(&keys, 0).unwrap(), 0);
        assert_eq!(loaded.datapath.sweep(&keys, 1).unwrap(), 1);
        let left: Vec<_> = loaded
            .tables()
            .rows
            .into_keys()
            .map(|key| key.local_port)
            .collect();
        assert_eq!(left, [2]);
        // A row that was swept starts anew.
        assert_eq!(send(loaded, case, &refused(1)), denied);
        assert_eq!(loaded.tables().rows.len(), 2);
    });
}

#[test]
fn more_keys_than_one_request_holds_are_all_swept() {
    with_sender(|loaded, case| {
        let count = 3 * SWEEP_KEYS + 7;
        for port in 0..count {
            send(loaded, case, &from(port as u16));
        }
        loaded.wait(100);
        let keys = connections(loaded);
        assert_eq!(keys.len(), count);
        assert_eq!(loaded.datapath.sweep(&keys, 1).unwrap() as usize, count);
        assert!(connections(loaded).is_empty());
    });
}
