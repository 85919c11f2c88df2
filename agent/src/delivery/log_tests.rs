//! Each row in one file, whatever happens: a fault at every step, a full disk. Store and files are
//! real.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use branchline_common::verdict::Service;
use flate2::read::GzDecoder;

use super::*;
use crate::delivery::ground::{FinishedFile, OnDisk};
use crate::delivery::progress::Publication;
use crate::delivery::test_epochs::{ENI, counts, epoch, tuple};
use crate::flow_log::TrafficType;
use crate::flows::{FlowTuple, Interface};
use crate::free_space::MinFreeSpace;
use crate::state::Store;
use crate::test_dir::TestDir;
use crate::test_fuse::{Fault, Fuse};

/// Seconds of an epoch.
const EPOCH: u64 = 30;
const EPOCHS: u32 = 13;

struct Faulty {
    disk: OnDisk,
    fuse: Arc<Fuse>,
}

impl Faulty {
    fn step<T>(&self, act: impl FnOnce() -> Result<T, DeliveryError>) -> Result<T, DeliveryError> {
        let stopped = || DeliveryError::File {
            attempt: "stopped by the test",
            path: PathBuf::new(),
            source: io::Error::other("stopped"),
        };
        self.fuse.step(stopped, act)
    }
}

impl Ground for Faulty {
    fn progress(&self, flow_log_id: &str) -> Result<Option<Progress>, DeliveryError> {
        self.step(|| self.disk.progress(flow_log_id))
    }

    fn put_progress(&self, flow_log_id: &str, progress: &Progress) -> Result<(), DeliveryError> {
        self.step(|| self.disk.put_progress(flow_log_id, progress))
    }

    fn check_room(&self, dir: &Path) -> Result<(), DeliveryError> {
        self.step(|| self.disk.check_room(dir))
    }

    fn create(&self, path: &Path) -> Result<File, DeliveryError> {
        self.step(|| self.disk.create(path))
    }

    fn sync(&self, path: &Path, file: &File) -> Result<(), DeliveryError> {
        self.step(|| self.disk.sync(path, file))
    }

    fn name(&self, publication: &Publication) -> Result<(), DeliveryError> {
        self.step(|| self.disk.name(publication))
    }

    fn tell(&self, file: FinishedFile<'_>) {
        self.disk.tell(file);
    }

    fn discard(&self, path: &Path) {
        // A killed agent discards nothing.
        if !self.fuse.is_stopped() {
            self.disk.discard(path);
        }
    }

    fn discard_others(&self, log: &FlowLog, kept: &[Publication]) -> Result<(), DeliveryError> {
        self.step(|| self.disk.discard_others(log, kept))
    }
}

/// A host with a log, and the packets of each epoch.
struct Host {
    /// Removed with the host.
    _dir: TestDir,
    store: Arc<Store>,
    fuse: Arc<Fuse>,
    log: FlowLog,
    /// Files that uploads know of: found at an agent's start, or told of since.
    known: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Host {
    fn new(fuse: Fuse, log: impl FnOnce(FlowLog) -> FlowLog) -> Self {
        let dir = TestDir::new();
        let own = FlowLog {
            dir: dir.path().join("flows"),
            rotation: 120,
            ..FlowLog::of_host()
        };
        Self {
            store: Arc::new(Store::open(&dir.path().join("state")).unwrap()),
            log: log(own),
            _dir: dir,
            fuse: Arc::new(fuse),
            known: Arc::default(),
        }
    }

    fn try_start(&self) -> Result<Delivery<Faulty>, DeliveryError> {
        let found = files(&self.log.dir).into_iter();
        let found = found.filter(|path| is_named(path));
        self.known.lock().unwrap().extend(found);
        let (known, dir) = (Arc::clone(&self.known), self.log.dir.clone());
        let id = self.log.flow_log_id.clone();
        let disk = OnDisk {
            store: Arc::clone(&self.store),
            min_free: MinFreeSpace::default(),
            on_finished: Arc::new(move |file| {
                let path = dir.join(file.relative);
                let size = fs::metadata(&path).unwrap().len();
                assert_eq!((file.flow_log_id, file.bytes), (id.as_str(), size));
                known.lock().unwrap().insert(path);
            }),
        };
        let ground = Faulty {
            disk,
            fuse: Arc::clone(&self.fuse),
        };
        let site = Site {
            account_id: "123456789012".to_owned(),
            region: "local".to_owned(),
            ip_ranges: Arc::new(IpRanges::parse(IP_RANGES).unwrap()),
        };
        let format = self.log.format("log").unwrap();
        Delivery::resume(self.log.clone(), format, site, ground, 1)
    }

    /// A delivery, by a second agent if the first is killed over it.
    fn start(&self) -> Delivery<Faulty> {
        self.try_start().unwrap_or_else(|_| {
            self.fuse.mend();
            self.try_start().unwrap()
        })
    }

    /// Delivers every epoch up to `last`. After a failure it is tried again, after a kill another
    /// agent goes on.
    fn deliver(&self, delivery: &mut Delivery<Faulty>, last: u32) {
        while delivery.next() <= last {
            let number = delivery.next();
            let start = u64::from(number) * EPOCH;
            let step = delivery.take(epoch(number, start, start + EPOCH, packets(number)));
            self.survive(delivery, step);
        }
    }

    fn survive(&self, delivery: &mut Delivery<Faulty>, step: Result<(), DeliveryError>) {
        if step.is_ok() {
            return;
        }
        let fault = self.fuse.mend().expect("only the test makes it fail");
        if fault != Fault::Failure {
            *delivery = self.start();
        }
    }

    /// Packets by first second, of every row of every file that has its name.
    fn rows(&self) -> BTreeMap<u64, u64> {
        let mut rows = BTreeMap::new();
        for path in files(&self.log.dir) {
            assert!(!path.to_string_lossy().contains(".tmp-"), "{path:?}");
            let mut text = String::new();
            let mut file = GzDecoder::new(File::open(&path).unwrap());
            file.read_to_string(&mut text).unwrap();
            for line in text.lines().filter(|line| line.ends_with(" OK")) {
                let words: Vec<&str> = line.split(' ').collect();
                assert_eq!(words[2], ENI);
                let packets: u64 = words[8].parse().unwrap();
                *rows.entry(words[10].parse().unwrap()).or_default() += packets;
            }
        }
        rows
    }
}

const IP_RANGES: &[u8] =
    br#"{"prefixes": [{"ip_prefix": "198.51.100.0/24", "service": "S3"}], "ipv6_prefixes": []}"#;

/// Different in each epoch, so that no sum hides a mistake.
fn packets(number: u32) -> u64 {
    1 << number
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn each_packet_is_in_one_file_whatever_step_fails_or_is_the_last() {
    let mut steps = 0;
    for fault in Fault::ALL {
        for at in 1.. {
            let host = Host::new(Fuse::new(at, fault), |log| log);
            let mut delivery = host.start();
            host.deliver(&mut delivery, EPOCHS);
            let flushed = delivery.flush();
            host.survive(&mut delivery, flushed);
            host.deliver(&mut delivery, EPOCHS);
            delivery.flush().unwrap();
            let total: u64 = host.rows().values().sum();
            let expected: u64 = (1..=EPOCHS).map(packets).sum();
            assert_eq!(total, expected, "{fault:?} at step {at}: {:?}", host.rows());
            assert_eq!(delivery.first_unpublished(), EPOCHS + 1);
            let written: BTreeSet<PathBuf> = files(&host.log.dir).into_iter().collect();
            assert_eq!(*host.known.lock().unwrap(), written, "{fault:?} at {at}");
            if !host.fuse.has_burnt() {
                steps = at;
                break;
            }
        }
    }
    assert!(steps > 20, "only {steps} steps could fail");
}

#[test]
fn a_file_is_finished_when_its_slot_is_over_or_it_is_full() {
    let host = Host::new(Fuse::default(), |log| log);
    let mut delivery = host.start();
    // Windows end at 60, 120, ...; slots at 120, 240.
    for (last, expected) in [(2, 0), (3, 1), (6, 1), (7, 2)] {
        host.deliver(&mut delivery, last);
        assert_eq!(
            files(&host.log.dir)
                .iter()
                .filter(|path| is_named(path))
                .count(),
            expected
        );
    }
    let full = Host::new(Fuse::default(), |log| FlowLog {
        max_file_bytes: 0,
        rotation: 86_400,
        ..log
    });
    let mut delivery = full.start();
    full.deliver(&mut delivery, 5);
    assert_eq!(
        files(&full.log.dir)
            .iter()
            .filter(|path| is_named(path))
            .count(),
        3
    );
    assert_eq!(delivery.totals().files, 3);
}

#[test]
fn a_clock_that_is_set_back_ends_the_slot() {
    let host = Host::new(Fuse::default(), |log| log);
    let mut delivery = host.start();
    let hour = 3_600;
    delivery.take(epoch(1, hour, hour + 60, 1)).unwrap();
    assert_eq!(delivery.totals().files, 0);
    // As the recorder has it: the interval that is open then is of a second.
    delivery.take(epoch(2, hour + 60, hour + 61, 2)).unwrap();
    delivery.take(epoch(3, 60, 120, 4)).unwrap();
    assert_eq!(delivery.totals().files, 2);
    let rows = BTreeMap::from([(hour, 1), (hour + 60, 2), (60, 4)]);
    assert_eq!(host.rows(), rows);
}

fn is_named(path: &Path) -> bool {
    !path.to_string_lossy().contains(".tmp-")
}

#[test]
fn what_is_given_up_is_told_by_one_row_of_its_eni() {
    let host = Host::new(Fuse::default(), |log| log);
    let mut delivery = host.start();
    let lost = epoch(1, 30, 60, 7);
    delivery.give_up(Some(&Outline::of(&lost))).unwrap();
    let lost = epoch(2, 60, 90, 5);
    delivery.give_up(Some(&Outline::of(&lost))).unwrap();
    drop(delivery);
    let mut delivery = host.start();
    host.deliver(&mut delivery, 5);
    delivery.flush().unwrap();
    let totals = delivery.totals();
    assert_eq!(totals.skipped_packets, 12);
    assert_eq!(
        host.rows().values().sum::<u64>(),
        packets(3) + packets(4) + packets(5)
    );
    host.deliver(&mut delivery, 9);
    delivery.flush().unwrap();
    assert_eq!(delivery.totals().skipped_packets, 12, "told once");
}

#[test]
fn a_log_takes_only_the_enis_and_actions_that_it_is_for() {
    let host = Host::new(Fuse::default(), |log| FlowLog {
        task_ids: ["other".to_owned()].into(),
        ..log
    });
    let mut delivery = host.start();
    host.deliver(&mut delivery, 3);
    delivery.flush().unwrap();
    assert_eq!(delivery.totals().records, 0);
    let rejects = Host::new(Fuse::default(), |log| FlowLog {
        traffic_type: TrafficType::Reject,
        ..log
    });
    let mut delivery = rejects.start();
    rejects.deliver(&mut delivery, 3);
    delivery.flush().unwrap();
    assert_eq!((delivery.totals().records, rejects.rows().len()), (0, 0));
}

/// Log status and destination port of every row.
fn said(host: &Host) -> Vec<(String, String)> {
    let mut said = Vec::new();
    for path in files(&host.log.dir) {
        let mut text = String::new();
        let mut file = GzDecoder::new(File::open(path).unwrap());
        file.read_to_string(&mut text).unwrap();
        said.extend(text.lines().skip(1).map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[13].to_owned(), words[6].to_owned())
        }));
    }
    said.sort();
    said
}

#[test]
fn a_service_is_traffic_only_for_a_log_that_includes_it() {
    let flow = |service, dst_port| {
        let tuple = FlowTuple {
            service,
            dst_port,
            ..tuple()
        };
        (tuple, counts(1, 60, 119))
    };
    let (dns, clock) = (
        flow(Some(Service::Dns), 53),
        flow(Some(Service::TimeSync), 123),
    );
    let (web, none) = (flow(None, 443), BTreeSet::new());
    let row = |status: &str, port: &str| (status.to_owned(), port.to_owned());
    let rows = [
        (
            none.clone(),
            vec![dns.clone(), clock.clone()],
            vec![row("NODATA", "-")],
        ),
        (none, vec![dns.clone(), web], vec![row("OK", "443")]),
        (
            [Service::Dns].into(),
            vec![dns.clone(), clock.clone()],
            vec![row("OK", "53")],
        ),
        (
            Service::ALL.into(),
            vec![dns, clock],
            vec![row("OK", "123"), row("OK", "53")],
        ),
    ];
    for (include_services, flows, expected) in rows {
        let packets = expected.iter().filter(|(status, _)| status == "OK").count() as u64;
        let log = |log| FlowLog {
            include_services,
            ..log
        };
        let host = Host::new(Fuse::default(), log);
        let mut minute = epoch(1, 60, 120, 1);
        minute.reports[0].flows = flows;
        let mut delivery = host.start();
        delivery.take(minute.clone()).unwrap();
        delivery.flush().unwrap();
        assert_eq!(said(&host), expected, "{:?}", host.log.include_services);
        // What is given up counts as much as its rows would have.
        minute.number = 2;
        delivery.give_up(Some(&Outline::of(&minute))).unwrap();
        let lost = delivery.progress.lost.values().map(|lost| lost.packets);
        assert_eq!(lost.sum::<u64>(), packets);
    }
}

#[test]
fn rows_are_numbered_through_restarts() {
    let host = Host::new(Fuse::default(), |log| FlowLog {
        log_format: "${bl-sequence} ${start} ${packets} ${log-status}".to_owned(),
        ..log
    });
    for last in [4, 8, 13] {
        let mut delivery = host.start();
        host.deliver(&mut delivery, last);
        delivery.flush().unwrap();
    }
    let mut numbers = Vec::new();
    for path in files(&host.log.dir) {
        let mut text = String::new();
        GzDecoder::new(File::open(path).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        numbers.extend(
            text.lines()
                .skip(1)
                .map(|line| line.split(' ').next().unwrap().parse::<u64>().unwrap()),
        );
    }
    numbers.sort_unstable();
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected);
}

/// An epoch in which ENI 1 has had packets from its peer, which is there in the second epoch only.
fn with_peer(number: u32) -> Epoch {
    let start = u64::from(number) * EPOCH;
    let mut minute = epoch(number, start, start + EPOCH, 1);
    let mut peer = minute.reports[0].clone();
    peer.interface = Arc::new(Interface {
        account_id: "123456789012".to_owned(),
        interface_id: "eni-peer".to_owned(),
        primary_ipv4: Some([198, 51, 100, 7].into()),
        ..Interface::default()
    });
    if number == 2 {
        minute.reports.push(peer);
    }
    minute
}

#[test]
fn a_row_names_its_peer_and_service_if_the_format_shows_them() {
    let (hop, service) = ("next-hop-interface-id", "pkt-src-aws-service");
    for (fields, expected) in [
        (format!("{hop} {service}"), ["- S3", "eni-peer S3"]),
        (format!("pkt-dst-aws-service {hop}"), ["- -", "- eni-peer"]),
        (format!("{service} srcport"), ["S3 40000", "S3 40000"]),
    ] {
        let host = Host::new(Fuse::default(), |log| FlowLog {
            log_format: format!("start interface-id {fields}"),
            max_aggregation_interval: EPOCH,
            // The peer's own rows are not this log's.
            group_ids: ["sg-own".to_owned()].into(),
            ..log
        });
        let mut delivery = host.start();
        for number in [1, 2] {
            let mut minute = with_peer(number);
            let own = Arc::make_mut(&mut minute.reports[0].interface);
            own.group_ids = vec!["sg-own".to_owned()];
            delivery.take(minute).unwrap();
        }
        delivery.flush().unwrap();
        let mut lines = Vec::new();
        for path in files(&host.log.dir) {
            let mut text = String::new();
            let mut file = GzDecoder::new(File::open(path).unwrap());
            file.read_to_string(&mut text).unwrap();
            lines.extend(text.lines().skip(1).map(str::to_owned));
        }
        lines.sort();
        let starts = [EPOCH, 2 * EPOCH];
        let expected: Vec<String> = starts
            .iter()
            .zip(expected)
            .map(|(start, said)| format!("{start} {ENI} {said}"))
            .collect();
        assert_eq!(lines, expected);
    }
}
