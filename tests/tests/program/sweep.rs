//! `sweep`: what is dead and written goes, all else stays.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use aya::{
    TestRunOptions,
    programs::{SchedClassifier, TestRun},
};
use branchline::datapath::program;
use branchline_common::{
    account::Segments,
    conntrack::{SWEEP_GRACE_SECONDS, SWEPT},
    flow::FlowKey,
    maps::{Eni, SWEEP_KEYS, SweepRequest},
    verdict::{Direction, DropReason, Verdict},
};
use branchline_tests::{
    case::{Case, case},
    packet::{Packet, tcp, udp},
    world::World,
};

use branchline_tests::loaded::{Loaded, REDIRECTED, with_shared};
use zerocopy::IntoBytes;

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

/// Packets that passed from this port without an entry.
fn rows_of(loaded: &Loaded, local_port: u16) -> u64 {
    let rows = loaded.datapath.rows().unwrap();
    let own = rows.iter().filter(|(key, _)| key.local_port == local_port);
    own.flat_map(|(_, row)| &row.account.slots)
        .filter(|slot| slot.epoch != 0)
        .map(|slot| slot.packets)
        .sum()
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

#[test]
fn a_flow_whose_last_packet_another_cpu_saw_later_than_now_stays() {
    with_sender(|loaded, case| {
        send(loaded, case, &from(1));
        let keys = connections(loaded);
        // A program reads the clock before it looks at the entry, so a stamp may be a tick ahead of
        // it: here by an hour, which no run takes.
        let hour = 3600 * loaded.ticks_per_second();
        loaded.age(hour.wrapping_neg());
        assert_eq!(loaded.datapath.sweep(&keys, u32::MAX).unwrap(), 0);
        assert_eq!(connections(loaded), keys);
        // It is no dead flow to its next packet either: no rule admits an answer.
        let eni = &case.enis[0];
        let answer = udp("198.51.100.7:53", "10.0.1.10:1");
        let frame = eni.frame(Direction::Ingress, &answer).bytes();
        let verdict = loaded.frame(eni, Direction::Ingress, &frame, Segments::default());
        assert_eq!(verdict, Verdict::Allow);
    });
}

#[test]
fn a_packet_whose_dead_entry_is_on_its_way_out_passes_by_the_rule_and_the_next_one_opens() {
    with_sender(|loaded, case| {
        send(loaded, case, &from(1));
        let key = connections(loaded)[0];
        loaded.age((30 + SWEEP_GRACE_SECONDS) * loaded.ticks_per_second());
        let mut swept = loaded.datapath.connection(&key).unwrap().unwrap();
        swept.tracking.state = SWEPT;
        loaded.set_connection(key, Some(swept));

        assert_eq!(send(loaded, case, &from(1)), Verdict::Allow);
        let left = loaded.datapath.connection(&key).unwrap().unwrap();
        assert_eq!(left.tracking, swept.tracking);
        assert_eq!(left.accounts, swept.accounts);
        assert_eq!(rows_of(loaded, 1), 1);

        loaded.set_connection(key, None);
        assert_eq!(send(loaded, case, &from(1)), Verdict::Allow);
        assert_eq!(connections(loaded), [key]);
        assert_eq!(rows_of(loaded, 1), 1);
    });
}

/// Sweeps `key` all the time until then, as if everything that it counted were written; returns how
/// often it went.
fn keep_sweeping(pin: &str, key: FlowKey, until: Instant) -> u32 {
    let request = SweepRequest {
        keys: SWEEP_KEYS as u32,
        written_epoch: u32::MAX,
        ..SweepRequest::default()
    };
    let mut data = request.as_bytes().to_vec();
    for _ in 0..SWEEP_KEYS {
        data.extend_from_slice(key.as_bytes());
    }
    let sweep = SchedClassifier::from_pin(pin).unwrap();
    let mut removed = 0;
    while Instant::now() < until {
        let options = TestRunOptions {
            data_in: Some(&data),
            ..TestRunOptions::default()
        };
        removed += sweep.test_run(options).unwrap().return_value;
    }
    removed
}

#[test]
fn no_packet_loses_its_flow_to_a_sweeper_on_another_cpu() {
    const PIN: &str = "/sys/fs/bpf/sweep";
    with_sender(|loaded, case| {
        send(loaded, case, &from(1));
        let key = connections(loaded)[0];
        let second = loaded.ticks_per_second();
        let sweep = loaded.datapath.classifier(program::SWEEP).unwrap();
        sweep.pin(PIN).unwrap();
        let until = Instant::now() + Duration::from_secs(3);
        let (mut packets, mut lost, mut in_rows) = (0, 0, 0);
        thread::scope(|scope| {
            // It may take the flow before a packet comes, so what it took is not counted.
            scope.spawn(|| keep_sweeping(PIN, key, until));
            for round in 0.. {
                if Instant::now() > until {
                    break;
                }
                // The sweeper may take it in the tick after this one; the packet comes before,
                // with it or after.
                loaded.age((30 + SWEEP_GRACE_SECONDS) * second - 1);
                thread::sleep(Duration::from_secs(1) / second / 4 * (round % 8));
                for _ in 0..100 {
                    packets += 1;
                    assert_eq!(send(loaded, case, &from(1)), Verdict::Allow);
                    // One that found its entry on its way out has its row.
                    let passed = rows_of(loaded, 1);
                    let is_in_row = std::mem::replace(&mut in_rows, passed) != passed;
                    let is_gone = loaded.datapath.connection(&key).unwrap().is_none();
                    lost += u32::from(is_gone && !is_in_row);
                }
            }
        });
        fs::remove_file(PIN).unwrap();
        assert_eq!(lost, 0, "of {packets} packets");
    });
}

#[test]
fn a_flow_that_always_has_packets_is_never_swept() {
    const PIN: &str = "/sys/fs/bpf/sweep_busy";
    with_sender(|loaded, case| {
        send(loaded, case, &from(1));
        let key = connections(loaded)[0];
        let slot = u32::from(key.eni);
        // Without VLAN a frame stays as it is, so that one run can send it many times.
        let whole = Eni {
            vlan: 0,
            ..loaded.datapath.eni(slot).unwrap()
        };
        loaded.datapath.set_eni(slot, &whole).unwrap();
        let frame = case.enis[0].frame(Direction::Egress, &from(1)).bytes();
        let sweep = loaded.datapath.classifier(program::SWEEP).unwrap();
        sweep.pin(PIN).unwrap();
        let until = Instant::now() + Duration::from_secs(3);
        let removed = thread::scope(|scope| {
            let sweeper = scope.spawn(|| keep_sweeping(PIN, key, until));
            let sender = loaded.datapath.classifier(program::BRANCH_EGRESS).unwrap();
            while Instant::now() < until {
                let options = TestRunOptions {
                    data_in: Some(&frame),
                    repeat: 50_000,
                    ..TestRunOptions::default()
                };
                assert_eq!(sender.test_run(options).unwrap().return_value, REDIRECTED);
            }
            sweeper.join().unwrap()
        });
        fs::remove_file(PIN).unwrap();
        assert_eq!(removed, 0);
    });
}
