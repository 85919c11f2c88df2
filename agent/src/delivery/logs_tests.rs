//! Several logs over one spool: each at its pace, changed while they work, the spool within bounds.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use super::*;
use crate::delivery::test_epochs::epoch;
use crate::test_dir::TestDir;

const ONE: &str = "fl-00000001";
const TWO: &str = "fl-00000002";

struct Host {
    dir: TestDir,
    store: Arc<Store>,
    spool: Spool,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        let dir = TestDir::new();
        let spool = Spool::new(dir.path().join("spool"));
        spool.prepare().unwrap();
        Self {
            store: Arc::new(Store::open(&dir.path().join("state")).unwrap()),
            dir,
            spool,
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
            Arc::clone(&self.store),
            self.spool.clone(),
            spool_max_bytes,
            site,
            logs.to_vec(),
            written,
            Arc::new(|_| {}),
        )
        .unwrap()
    }

    /// Spools an epoch of a minute with one packet.
    fn count(&self, number: u32) {
        let start = u64::from(number) * 60;
        self.spool
            .put(&epoch(number, start, start + 60, 1))
            .unwrap();
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
    let bytes = host.spool.sizes().unwrap()[&5];
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

#[test]
fn an_epoch_that_is_damaged_or_gone_holds_nobody_up() {
    let host = Host::new();
    let logs = host.start(&[host.log(ONE)], u64::MAX, 0);
    for number in 1..=4 {
        host.count(number);
    }
    fs::write(host.dir.path().join("spool/0000000002.flows"), "x").unwrap();
    host.spool.remove(3).unwrap();
    logs.deliver(4, host.now).unwrap();
    assert_eq!(records(&logs)[0].0, 2);
    assert!(host.spooled().is_empty());
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
