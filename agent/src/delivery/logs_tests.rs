//! Several logs over one spool: each at its pace, changed while they work, the spool within bounds.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use super::*;
use crate::delivery::test_epochs::{counts, epoch, tuple};
use crate::flow_log::TrafficType;
use crate::flows::{Action, Epoch, FlowTuple, Outline};
use crate::free_space::MinFreeSpace;
use crate::state::Store;
use crate::test_dir::TestDir;

const ONE: &str = "fl-00000001";
const TWO: &str = "fl-00000002";

struct Host {
    dir: TestDir,
    store: Arc<Store>,
    spool: Spool,
    min_free: MinFreeSpace,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        let dir = TestDir::new();
        let spool = Spool::new(dir.path().join("spool"), MinFreeSpace::default());
        spool.prepare().unwrap();
        Self {
            store: Arc::new(Store::open(&dir.path().join("state")).unwrap()),
            dir,
            spool,
            min_free: MinFreeSpace::default(),
            now: Instant::now(),
        }
    }

    /// A log of 60 s intervals and slots, into a folder of its own.
    fn log(&self, id: &str) -> FlowLog {
        FlowLog {
            flow_log_id: id.to_owned(),
            dir: self.dir.path().join(id),
            rotation: 60,
            ..FlowLog::of_host()
        }
    }

    fn start(&self, logs: &[FlowLog], spool_max_bytes: u64, written: u32) -> FlowLogs {
        let site = Site {
            account_id: "123456789012".to_owned(),
            region: "local".to_owned(),
            ip_ranges: Arc::default(),
        };
        FlowLogs::resume(
            OnDisk {
                store: Arc::clone(&self.store),
                min_free: self.min_free,
                on_finished: Arc::new(|_| {}),
            },
            self.spool.clone(),
            spool_max_bytes,
            site,
            logs.to_vec(),
            written,
        )
        .unwrap()
    }

    /// Spools an epoch of a minute with one packet.
    fn count(&self, number: u32) {
        let start = u64::from(number) * 60;
        self.put(&epoch(number, start, start + 60, 1));
    }

    /// As the recorder does.
    fn put(&self, epoch: &Epoch) {
        self.spool.put(epoch).unwrap();
        self.outline(epoch);
    }

    /// As the recorder does where the spool has no room.
    fn outline(&self, epoch: &Epoch) {
        let outline = Outline::of(epoch).to_bytes();
        let settled = self
            .store
            .settle_flows("ledger", &0, epoch.number, &outline);
        settled.unwrap();
    }

    fn file(&self, number: u32) -> std::path::PathBuf {
        self.dir.path().join(format!("spool/{number:010}.flows"))
    }

    /// Epochs of which spool or store have anything.
    fn epochs_left(&self) -> Vec<u32> {
        let outlines = self.store.outline_sizes().unwrap().into_keys();
        let all: BTreeSet<u32> = outlines.chain(self.spooled()).collect();
        all.into_iter().collect()
    }

    fn spooled(&self) -> Vec<u32> {
        self.spool.sizes().unwrap().into_keys().collect()
    }
}

fn records(logs: &FlowLogs) -> Vec<(u64, u64)> {
    let describe = |state: LogState| (state.totals.records, state.totals.skipped_packets);
    logs.describe().into_iter().map(describe).collect()
}

/// No file can be made below.
fn block(dir: &Path) {
    fs::write(dir, "in the way").unwrap();
}

fn unblock(dir: &Path) {
    fs::remove_file(dir).unwrap();
}

#[test]
fn a_log_that_fails_waits_alone_and_catches_up() {
    let host = Host::new();
    let (one, two) = (host.log(ONE), host.log(TWO));
    let logs = host.start(&[one.clone(), two], u64::MAX, 0);
    block(&one.dir);
    for number in 1..=3 {
        host.count(number);
        logs.deliver(number, host.now).unwrap();
    }
    assert_eq!(records(&logs), [(0, 0), (3, 0)]);
    assert_eq!(host.spooled(), [1, 2, 3], "kept for the one that waits");
    let [failing, fine] = &logs.describe()[..] else {
        panic!()
    };
    assert!(failing.error.as_ref().unwrap().contains(ONE) && fine.error.is_none());
    assert_eq!((failing.waiting_epochs, fine.waiting_epochs), (3, 0));
    unblock(&one.dir);
    logs.deliver(3, host.now).unwrap();
    assert_eq!(records(&logs)[0], (0, 0), "it waits first");
    logs.deliver(3, host.now + LONGEST_WAIT).unwrap();
    assert_eq!(records(&logs), [(3, 0), (3, 0)]);
    assert!(logs.describe()[0].error.is_none());
    assert!(host.spooled().is_empty());
}

#[test]
fn past_its_bound_the_spool_gives_up_the_oldest_and_its_log_says_so() {
    let host = Host::new();
    let one = host.log(ONE);
    host.count(5);
    let bytes = host.spool.sizes().unwrap()[&5] + host.store.outline_sizes().unwrap()[&5];
    let logs = host.start(&[one.clone(), host.log(TWO)], 2 * bytes, 0);
    block(&one.dir);
    for number in 1..=5 {
        host.count(number);
        logs.deliver(number, host.now).unwrap();
    }
    assert_eq!(host.spooled(), [4, 5]);
    unblock(&one.dir);
    logs.deliver(5, host.now + LONGEST_WAIT).unwrap();
    assert_eq!(
        records(&logs),
        [(2, 3), (5, 0)],
        "three packets are told of"
    );
}

#[test]
fn logs_are_changed_while_they_work_and_no_epoch_is_twice_or_missing() {
    let host = Host::new();
    let mut slow = host.log(ONE);
    slow.max_aggregation_interval = 600;
    let logs = host.start(std::slice::from_ref(&slow), u64::MAX, 0);
    assert_eq!(logs.epoch_seconds(), 600);
    host.count(1);
    logs.deliver(1, host.now).unwrap();
    assert_eq!(records(&logs), [(0, 0)], "its window is open");
    let quick = FlowLog {
        max_aggregation_interval: 60,
        ..slow
    };
    logs.apply(&[quick.clone(), host.log(TWO)], host.now)
        .unwrap();
    assert_eq!(logs.epoch_seconds(), 60);
    assert_eq!(
        records(&logs),
        [(1, 0), (0, 0)],
        "what was open is written first"
    );
    host.count(2);
    logs.deliver(2, host.now).unwrap();
    assert_eq!(records(&logs), [(2, 0), (1, 0)]);
    // Another agent has what was applied, not what is configured.
    drop(logs);
    let logs = host.start(&[], u64::MAX, 2);
    assert_eq!(records(&logs), [(2, 0), (1, 0)]);
    logs.apply(std::slice::from_ref(&quick), host.now).unwrap();
    logs.apply(&[quick, host.log(TWO)], host.now).unwrap();
    assert_eq!(
        records(&logs),
        [(2, 0), (0, 0)],
        "a new one of an old id starts afresh"
    );
    let wrong = FlowLog {
        rotation: 0,
        ..host.log(TWO)
    };
    assert!(matches!(
        logs.apply(&[wrong], host.now),
        Err(FlowLogsError::Field(_))
    ));
    assert_eq!(records(&logs).len(), 2);
}

#[test]
fn services_are_those_that_any_log_includes_through_changes_and_restarts() {
    let host = Host::new();
    let log = |id, services: &[Service]| FlowLog {
        include_services: services.iter().copied().collect(),
        ..host.log(id)
    };
    let logs = host.start(&[host.log(ONE)], u64::MAX, 0);
    assert_eq!(logs.services(), [].into());
    let both = [
        log(ONE, &[Service::Dns]),
        log(TWO, &[Service::Dns, Service::Metadata]),
    ];
    logs.apply(&both, host.now).unwrap();
    drop(logs);
    let logs = host.start(&[], u64::MAX, 0);
    assert_eq!(logs.services(), [Service::Dns, Service::Metadata].into());
    logs.apply(&both[..1], host.now).unwrap();
    assert_eq!(logs.services(), [Service::Dns].into());
}

/// Lines of every file below `dir`, without the first of each, in order.
fn lines(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            lines.extend(self::lines(&path));
        } else {
            let mut text = String::new();
            let mut file = GzDecoder::new(File::open(path).unwrap());
            file.read_to_string(&mut text).unwrap();
            lines.extend(text.lines().skip(1).map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

/// A minute in which one ENI counted `10 ^ number` packets that passed and twice as many that did
/// not, and another one nothing.
fn two_enis(number: u32) -> Epoch {
    let start = u64::from(number) * 60;
    let mut epoch = epoch(number, start, start + 60, 10_u64.pow(number));
    let mut idle = epoch.reports[0].clone();
    Arc::make_mut(&mut idle.interface).interface_id = "eni-2".to_owned();
    idle.flows.clear();
    let rejected = FlowTuple {
        action: Action::Reject,
        ..tuple()
    };
    let packets = counts(2 * 10_u64.pow(number), start, start + 59);
    epoch.reports[0].flows.push((rejected, packets));
    epoch.reports.push(idle);
    epoch
}

/// Ways in which a file is lost.
const DAMAGES: [fn(&Path); 5] = [
    |path| {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(70)
            .unwrap()
    },
    |path| File::create(path).unwrap().set_len(0).unwrap(),
    |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[40] ^= 4;
        fs::write(path, bytes).unwrap();
    },
    |path| fs::write(path, vec![b'x'; 4_096]).unwrap(),
    |path| fs::remove_file(path).unwrap(),
];

#[test]
fn what_a_damaged_file_held_is_said_by_each_log_and_the_rest_is_written() {
    const FORMAT: &str =
        "${start} ${interface-id} ${action} ${packets} ${bl-skipped-packets} ${log-status}";
    for (index, damage) in DAMAGES.iter().enumerate() {
        let host = Host::new();
        let all = FlowLog {
            log_format: FORMAT.to_owned(),
            ..host.log(ONE)
        };
        let rejects = FlowLog {
            traffic_type: TrafficType::Reject,
            max_aggregation_interval: 600,
            ..FlowLog {
                log_format: FORMAT.to_owned(),
                ..host.log(TWO)
            }
        };
        let both = [all, rejects];
        let logs = host.start(&both, u64::MAX, 0);
        (1..=4).for_each(|number| host.put(&two_enis(number)));
        damage(&host.file(2));
        logs.deliver(2, host.now).unwrap();
        // Killed: the window of the second log is still open.
        drop(logs);
        let logs = host.start(&both, u64::MAX, 2);
        logs.flush(4, host.now).unwrap();
        assert_eq!(
            lines(&both[0].dir),
            [
                "120 eni-1 - - 300 SKIPDATA",
                "120 eni-2 - - - NODATA",
                "180 eni-1 ACCEPT 1000 - OK",
                "180 eni-1 REJECT 2000 - OK",
                "180 eni-2 - - - NODATA",
                "240 eni-1 ACCEPT 10000 - OK",
                "240 eni-1 REJECT 20000 - OK",
                "240 eni-2 - - - NODATA",
                "60 eni-1 ACCEPT 10 - OK",
                "60 eni-1 REJECT 20 - OK",
                "60 eni-2 - - - NODATA",
            ],
            "damage {index}"
        );
        assert_eq!(
            lines(&both[1].dir),
            [
                "60 eni-1 - - 200 SKIPDATA",
                "60 eni-1 REJECT 22020 - OK",
                "60 eni-2 - - - NODATA",
            ],
            "damage {index}"
        );
        for state in logs.describe() {
            assert_eq!(state.totals.lost_epochs, 1, "{state:?}");
            assert!(
                state.error.is_none() && state.waiting_epochs == 0,
                "{state:?}"
            );
        }
        assert!(host.epochs_left().is_empty());
        let is_aside = host.dir.path().join("spool/damaged").exists();
        assert_eq!(is_aside, index < 4, "damage {index}");
    }
}

#[test]
fn hidden_traffic_of_a_lost_epoch_is_traffic_nevertheless() {
    let host = Host::new();
    let rejects = FlowLog {
        traffic_type: TrafficType::Reject,
        ..host.log(ONE)
    };
    let logs = host.start(std::slice::from_ref(&rejects), u64::MAX, 0);
    host.count(1);
    host.spool.remove(1).unwrap();
    logs.flush(1, host.now).unwrap();
    assert_eq!(lines(&rejects.dir), [""; 0]);
    assert_eq!(logs.describe()[0].totals.lost_epochs, 1);
}

#[test]
fn an_epoch_of_which_nothing_is_known_holds_nobody_up() {
    let host = Host::new();
    let logs = host.start(&[host.log(ONE)], u64::MAX, 0);
    for number in 1..=3 {
        host.count(number);
    }
    host.spool.remove(2).unwrap();
    let first = Outline::of(&epoch(1, 60, 120, 1)).to_bytes();
    host.store.forget_outlines(3).unwrap();
    host.store.settle_flows("ledger", &0, 1, &first).unwrap();
    logs.deliver(3, host.now).unwrap();
    assert_eq!(records(&logs), [(2, 0)]);
    assert_eq!(logs.describe()[0].totals.lost_epochs, 1);
    assert!(host.spooled().is_empty());
}

#[test]
fn below_the_floor_a_log_waits_and_catches_up_when_there_is_room() {
    let mut host = Host::new();
    // No file system is 101 % free.
    host.min_free = MinFreeSpace::percent(101);
    let one = host.log(ONE);
    let logs = host.start(std::slice::from_ref(&one), u64::MAX, 0);
    host.count(1);
    host.outline(&epoch(2, 120, 180, 7));
    logs.flush(2, host.now).unwrap();
    let state = &logs.describe()[0];
    let error = state.error.as_ref().unwrap();
    assert!(error.contains("min_free_space_percent is 101"), "{error}");
    assert_eq!((state.waiting_epochs, records(&logs)[0]), (2, (0, 0)));
    assert!(!one.dir.exists());
    drop(logs);
    host.min_free = MinFreeSpace::default();
    let logs = host.start(std::slice::from_ref(&one), u64::MAX, 2);
    logs.flush(2, host.now).unwrap();
    assert_eq!(records(&logs), [(1, 7)]);
}

#[test]
fn outlines_without_files_are_given_up_before_they_fill_the_store() {
    let host = Host::new();
    let one = FlowLog {
        log_format: "${bl-skipped-packets} ${log-status}".to_owned(),
        ..host.log(ONE)
    };
    let logs = host.start(std::slice::from_ref(&one), u64::MAX, 0);
    block(&one.dir);
    let mut wide = epoch(1, 60, 120, 1);
    Arc::make_mut(&mut wide.reports[0].interface).group_ids = vec!["sg-0".repeat(20_000); 5];
    for number in 1..=5 {
        (wide.number, wide.window.start, wide.window.end) = (number, 0, u64::from(number) * 60);
        host.outline(&wide);
        logs.deliver(number, host.now).unwrap();
    }
    let left: Vec<u32> = host.epochs_left();
    assert_eq!(left, [4, 5], "400,000 bytes each");
    unblock(&one.dir);
    logs.flush(5, host.now + LONGEST_WAIT).unwrap();
    assert_eq!(records(&logs), [(0, 5)], "every packet is told of");
    assert_eq!(logs.describe()[0].totals.lost_epochs, 5);
    assert!(host.epochs_left().is_empty());
}

#[test]
fn without_logs_nothing_is_kept() {
    let host = Host::new();
    let logs = host.start(&[], u64::MAX, 0);
    host.count(1);
    logs.deliver(1, host.now).unwrap();
    assert!(host.spooled().is_empty());
    assert_eq!(logs.epoch_seconds(), 60);
}
