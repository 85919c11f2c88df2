//! Exactly once, whatever happens: a fault at every step, a full disk, slots that change
//! hands. The kernel is played by the same counting code that runs in it; store and files are real.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use branchline_common::account::{FlagsSeen, Traffic};
use branchline_common::conntrack::{Connection, State, Tracking, default_timeouts};
use branchline_common::flow::{kind, mapped};
use branchline_common::maps::Row;
use branchline_common::verdict::{self, Direction};
use flate2::read::GzDecoder;
use proptest::prelude::*;

use super::*;
use crate::datapath::{Clock, DatapathError, Entry};
use crate::flows::file::FlowLogDir;
use crate::flows::shelf::OnDisk;
use crate::state::Store;
use crate::test_dir::TestDir;

const RATE: u32 = 100;
const ACCOUNT: &str = "123456789012";
const MINUTE: End = End::Due { interval: 60 };

/// How a run goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The call fails; the agent goes on.
    Failure,
    /// The agent is killed before the call has its effect.
    StopBefore,
    /// The agent is killed after it.
    StopAfter,
}

/// What fails: the call number `at`, and from then on every call until the next act.
#[derive(Default)]
struct Fuse {
    calls: AtomicU32,
    at: AtomicU32,
    fault: Option<Fault>,
    is_burnt: AtomicBool,
}

impl Fuse {
    fn step<T>(&self, act: impl FnOnce() -> Result<T, FlowLogError>) -> Result<T, FlowLogError> {
        let stopped = || Err(FlowLogError::Stopped);
        if self.is_burnt.load(Ordering::Relaxed) {
            return stopped();
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if call != self.at.load(Ordering::Relaxed) {
            return act();
        }
        self.is_burnt.store(true, Ordering::Relaxed);
        if self.fault == Some(Fault::StopAfter) {
            act()?;
        }
        stopped()
    }

    fn kernel<T>(&self, act: impl FnOnce() -> T) -> Result<T, DatapathError> {
        self.step(|| Ok(act()))
            .map_err(|_| DatapathError::Missing("stopped by the test"))
    }
}

/// Maps, epoch and clock; they outlive the agent.
struct Maps {
    epoch: u32,
    ticks: u32,
    entries: BTreeMap<FlowKey, Entry>,
    unlogged: BTreeMap<u32, u64>,
}

struct FakeKernel {
    maps: Arc<Mutex<Maps>>,
    fuse: Arc<Fuse>,
}

impl Kernel for FakeKernel {
    fn epoch(&self) -> Result<u32, DatapathError> {
        self.fuse.kernel(|| lock(&self.maps).epoch)
    }

    fn set_epoch(&self, epoch: u32) -> Result<(), DatapathError> {
        self.fuse.kernel(|| lock(&self.maps).epoch = epoch)
    }

    fn let_programs_end(&self) {}

    fn clock(&self) -> Clock {
        Clock::of(RATE)
    }

    fn now(&self) -> Result<(u32, SystemTime), DatapathError> {
        self.fuse.kernel(|| {
            let ticks = lock(&self.maps).ticks;
            let wall = Duration::from_secs(u64::from(ticks / RATE));
            (ticks, UNIX_EPOCH + wall)
        })
    }

    fn for_each(&self, visit: &mut dyn FnMut(&FlowKey, &Entry)) -> Result<(), DatapathError> {
        let entries = self.fuse.kernel(|| lock(&self.maps).entries.clone())?;
        entries.iter().for_each(|(key, entry)| visit(key, entry));
        Ok(())
    }

    fn unlogged(&self, slot: u32) -> Result<u64, DatapathError> {
        let of = |maps: &Maps| maps.unlogged.get(&slot).copied().unwrap_or(0);
        self.fuse.kernel(|| of(&lock(&self.maps)))
    }

    /// One call an entry: the agent may stop between two.
    fn forget(&self, slot: u32) -> Result<(), DatapathError> {
        let keys: Vec<_> = lock(&self.maps).entries.keys().copied().collect();
        for key in keys.iter().filter(|key| u32::from(key.eni) == slot) {
            self.fuse.kernel(|| lock(&self.maps).entries.remove(key))?;
        }
        self.fuse
            .kernel(|| lock(&self.maps).unlogged.remove(&slot))?;
        Ok(())
    }

    /// Decides as the kernel program does.
    fn sweep(&self, keys: &[FlowKey], written_epoch: u32) -> Result<u32, DatapathError> {
        self.fuse.kernel(|| {
            let mut maps = lock(&self.maps);
            let now = Now {
                ticks: maps.ticks,
                grace: SWEEP_GRACE_SECONDS * RATE,
                written_epoch,
            };
            let before = maps.entries.len();
            maps.entries
                .retain(|key, entry| !keys.contains(key) || !is_sweepable(key, entry, now));
            (before - maps.entries.len()) as u32
        })
    }
}

struct FakeShelf {
    disk: OnDisk,
    fuse: Arc<Fuse>,
}

impl Shelf for FakeShelf {
    fn ledger(&self) -> Result<Option<Ledger>, FlowLogError> {
        self.fuse.step(|| self.disk.ledger())
    }

    fn put_ledger(&self, ledger: &Ledger) -> Result<(), FlowLogError> {
        self.fuse.step(|| self.disk.put_ledger(ledger))
    }

    fn retire(&self, eni_id: &str, reports: &[(u32, Report)]) -> Result<(), FlowLogError> {
        self.fuse.step(|| self.disk.retire(eni_id, reports))
    }

    fn retired(&self, epoch: u32) -> Result<Vec<Report>, FlowLogError> {
        self.fuse.step(|| self.disk.retired(epoch))
    }

    fn write_file(&self, closing: &Closing, lines: &[Line<'_>]) -> Result<PathBuf, FlowLogError> {
        self.fuse.step(|| self.disk.write_file(closing, lines))
    }

    fn settle(&self, ledger: &Ledger) -> Result<(), FlowLogError> {
        self.fuse.step(|| self.disk.settle(ledger))
    }
}

/// What a test does. Slots are 1 and 2.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// So many packets each way and so many rejected, a second later.
    Traffic(u64),
    EndMinute,
    Flush,
    /// The ENI in slot 2 goes and another one comes.
    Replace,
    Sweep,
}

/// A host: maps, store, files, the tasks it should have, and what was sent.
struct Host {
    dir: TestDir,
    store: Arc<Store>,
    maps: Arc<Mutex<Maps>>,
    fuse: Arc<Fuse>,
    /// ENI number by slot, as the agent's store of tasks has it.
    tasks: BTreeMap<u32, u32>,
    /// From when slot 2's link is taken away until another one is there.
    is_unplugged: bool,
    sent: HashMap<String, u64>,
    agent: Option<Recorder<FakeKernel, FakeShelf>>,
}

impl Host {
    fn new(fault: Option<(u32, Fault)>) -> Self {
        let dir = TestDir::new();
        let fuse = Fuse {
            at: AtomicU32::new(fault.map_or(0, |(at, _)| at)),
            fault: fault.map(|(_, fault)| fault),
            ..Fuse::default()
        };
        let maps = Maps {
            epoch: 1,
            ticks: 6_000 * RATE,
            entries: BTreeMap::new(),
            unlogged: BTreeMap::new(),
        };
        Self {
            store: Arc::new(Store::open(&dir.path().join("state")).unwrap()),
            dir,
            maps: Arc::new(Mutex::new(maps)),
            fuse: Arc::new(fuse),
            tasks: BTreeMap::from([(1, 1), (2, 2)]),
            is_unplugged: false,
            sent: HashMap::new(),
            agent: None,
        }
    }

    fn files(&self) -> PathBuf {
        self.dir.path().join("flows")
    }

    /// The agent, started if it does not run.
    fn agent(&mut self) -> Result<&Recorder<FakeKernel, FakeShelf>, FlowLogError> {
        if self.agent.is_none() {
            let identities = Identities::default();
            for (slot, eni) in &self.tasks {
                identities.insert(*slot, identity(*eni));
            }
            let kernel = FakeKernel {
                maps: Arc::clone(&self.maps),
                fuse: Arc::clone(&self.fuse),
            };
            let dir = FlowLogDir::new(self.files());
            let shelf = FakeShelf {
                disk: OnDisk {
                    store: Arc::clone(&self.store),
                    dir,
                    account_id: ACCOUNT.to_owned(),
                },
                fuse: Arc::clone(&self.fuse),
            };
            let agent = Recorder::resume(kernel, shelf, ACCOUNT.to_owned(), identities)?;
            agent.catch_up()?;
            self.agent = Some(agent);
        }
        Ok(self.agent.as_ref().unwrap())
    }

    /// Does it, with a new agent in place of one that is killed over it. What removes a task is done
    /// again, but not before time has passed; an interval's end is not done again.
    fn act(&mut self, act: Act) {
        if self.try_act(act).is_ok() {
            return;
        }
        assert!(self.fuse.is_burnt.swap(false, Ordering::Relaxed));
        if self.fuse.fault != Some(Fault::Failure) {
            self.agent = None;
        }
        self.traffic(1);
        if matches!(act, Act::Replace) {
            self.try_act(Act::EndMinute).unwrap();
            self.try_act(act).unwrap();
        }
    }

    fn try_act(&mut self, act: Act) -> Result<(), FlowLogError> {
        match act {
            Act::Traffic(packets) => {
                self.traffic(packets);
                Ok(())
            }
            Act::EndMinute => {
                lock(&self.maps).ticks += 60 * RATE;
                self.agent()?.end_interval(MINUTE)
            }
            Act::Flush => self.agent()?.end_interval(End::Flush),
            Act::Replace => self.replace(),
            Act::Sweep => self.agent()?.sweep().map(drop),
        }
    }

    fn replace(&mut self) -> Result<(), FlowLogError> {
        let next = self.tasks[&2] + 1;
        self.is_unplugged = true;
        self.agent()?.retire(2)?;
        self.agent()?.identities.insert(2, identity(next));
        self.tasks.insert(2, next);
        self.is_unplugged = false;
        Ok(())
    }

    /// Counts in the maps as the kernel programs do.
    fn traffic(&mut self, packets: u64) {
        let mut maps = lock(&self.maps);
        maps.ticks += RATE;
        let (epoch, now) = (maps.epoch, maps.ticks);
        let traffic = Traffic {
            packets,
            bytes: packets * 100,
            flags: FlagsSeen::default(),
        };
        let is_plugged = |slot: u32| slot != 2 || !self.is_unplugged;
        for (slot, eni) in self.tasks.iter().filter(|(slot, _)| is_plugged(**slot)) {
            let key = |kind| FlowKey {
                local: mapped([10, 0, 0, 1]),
                remote: mapped([10, 0, 0, 2]),
                local_port: 80,
                remote_port: 4_000,
                eni: *slot as u16,
                protocol: 6,
                kind,
            };
            let opened =
                || Tracking::opened(State::Udp, Direction::Egress, now, &default_timeouts(RATE));
            let entry = maps.entries.entry(key(kind::CONNECTION));
            let entry = entry.or_insert_with(|| {
                Entry::Connection(Connection {
                    tracking: opened(),
                    ..Connection::default()
                })
            });
            if let Entry::Connection(connection) = entry {
                connection.tracking.last_seen = now;
                for account in &mut connection.accounts {
                    account.add(&traffic, epoch, now);
                }
            }
            let row = key(kind::row(Direction::Ingress, verdict::Action::Rejected));
            let row = maps.entries.entry(row);
            if let Entry::Row(row) = row.or_insert(Entry::Row(Row::default())) {
                row.account.add(&traffic, epoch, now);
            }
            for tuple in ["10.0.0.2 10.0.0.1", "10.0.0.1 10.0.0.2"] {
                *self
                    .sent
                    .entry(format!("eni-{eni} {tuple} ACCEPT"))
                    .or_default() += packets;
            }
            let rejected = format!("eni-{eni} 10.0.0.2 10.0.0.1 REJECT");
            *self.sent.entry(rejected).or_default() += packets;
        }
    }

    /// Packets by ENI, addresses and action over all files; no file may say one twice.
    fn recorded(&self) -> HashMap<String, u64> {
        let mut sums: HashMap<String, u64> = HashMap::new();
        for file in files(&self.files()) {
            let mut in_file = HashMap::new();
            for line in file.iter().filter(|line| line.ends_with("OK")) {
                let fields: Vec<_> = line.split(' ').collect();
                let key = format!("{} {} {} {}", fields[2], fields[3], fields[4], fields[12]);
                let packets: u64 = fields[8].parse().unwrap();
                assert_eq!(fields[9], (packets * 100).to_string(), "{line}");
                assert!(in_file.insert(key.clone(), packets).is_none(), "{line}");
                *sums.entry(key).or_default() += packets;
            }
        }
        sums
    }
}

/// The lines of every file but the first of each.
fn files(dir: &Path) -> Vec<Vec<String>> {
    let mut paths: Vec<_> = match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    paths.sort();
    let read = |path: &PathBuf| {
        let mut text = String::new();
        GzDecoder::new(fs::File::open(path).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        text.lines().skip(1).map(str::to_owned).collect()
    };
    paths.iter().map(read).collect()
}

fn identity(eni: u32) -> Identity {
    Identity {
        task_id: None,
        eni_id: format!("eni-{eni}"),
        primary_ipv4: None,
        since: 0,
    }
}

/// Runs the acts with one fault, or none; returns how many steps there were.
fn run(acts: &[Act], fault: Option<(u32, Fault)>) -> u32 {
    let mut host = Host::new(fault);
    for act in acts {
        host.act(*act);
    }
    host.act(Act::Flush);
    // If that was where it failed, this is the next one.
    host.fuse.at.store(0, Ordering::Relaxed);
    host.act(Act::Flush);
    assert_eq!(host.recorded(), host.sent, "{acts:?}, {fault:?}");
    host.fuse.calls.load(Ordering::Relaxed)
}

#[test]
fn every_packet_is_recorded_once_with_a_fault_at_any_step() {
    use Act::{EndMinute, Replace, Sweep, Traffic};
    let acts = [
        Traffic(1),
        EndMinute,
        Traffic(10),
        Replace,
        Traffic(100),
        EndMinute,
        Sweep,
        Traffic(1_000),
        Replace,
        EndMinute,
        Sweep,
    ];
    let steps = run(&acts, None);
    assert!(steps > 50, "{steps} steps");
    for at in 1..=steps {
        for fault in [Fault::Failure, Fault::StopBefore, Fault::StopAfter] {
            run(&acts, Some((at, fault)));
        }
    }
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (1..50u64).prop_map(Act::Traffic),
        2 => Just(Act::EndMinute),
        1 => Just(Act::Flush),
        1 => Just(Act::Replace),
        1 => Just(Act::Sweep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_packet_is_recorded_once_in_any_order(
        acts in proptest::collection::vec(any_act(), 1..12),
        at in 1..120u32,
        fault in prop::sample::select(vec![Fault::Failure, Fault::StopBefore, Fault::StopAfter]),
    ) {
        run(&acts, Some((at, fault)));
    }
}

#[test]
fn while_the_disk_is_full_no_second_interval_ends_and_nothing_is_lost() {
    let mut host = Host::new(None);
    host.act(Act::Traffic(1));
    fs::write(host.files(), "in the way").unwrap();
    for _ in 0..3 {
        let error = host.try_act(Act::EndMinute).unwrap_err();
        assert!(matches!(error, FlowLogError::File(_)), "{error}");
        host.act(Act::Traffic(10));
        host.act(Act::Sweep);
        // The ENI goes while an interval waits: both intervals' counts go with it.
        host.act(Act::Replace);
        assert_eq!(lock(&host.maps).epoch, 2);
    }
    fs::remove_file(host.files()).unwrap();
    host.act(Act::EndMinute);
    assert_eq!(lock(&host.maps).epoch, 3);
    assert_eq!(files(&host.files()).len(), 2);
    assert_eq!(host.recorded(), host.sent);
    let written = host.agent().unwrap().written();
    // ENIs 1 and 2 in the first file, ENIs 1 to 4 in the second, three rows each.
    assert_eq!(written.records, 3 * (2 + 4));
}

#[test]
fn sweeping_takes_what_is_written_and_dead_and_nothing_else() {
    let mut host = Host::new(None);
    host.act(Act::Traffic(1));
    assert_eq!(host.agent().unwrap().sweep().unwrap(), 0);
    host.act(Act::EndMinute);
    host.agent().unwrap();
    // The UDP connections have been idle for 60 s; all is written.
    assert_eq!(host.agent().unwrap().sweep().unwrap(), 4);
    host.act(Act::Traffic(1));
    host.act(Act::Flush);
    // The connections are alive, and the rows' last packets have just come.
    assert_eq!(host.agent().unwrap().sweep().unwrap(), 0);
    host.act(Act::EndMinute);
    assert_eq!(host.agent().unwrap().sweep().unwrap(), 4);
}

#[test]
fn silence_and_losses_are_said_once() {
    let mut host = Host::new(None);
    host.act(Act::EndMinute);
    lock(&host.maps).unlogged.insert(2, 7);
    host.act(Act::EndMinute);
    host.act(Act::EndMinute);
    let said: Vec<Vec<_>> = files(&host.files())
        .iter()
        .map(|lines| {
            let word = |line: &String| {
                let fields: Vec<_> = line.split(' ').collect();
                (fields[2].to_owned(), fields[13].to_owned())
            };
            lines.iter().map(word).collect()
        })
        .collect();
    let lines = |one: &str, two: &str| {
        [("eni-1", one), ("eni-2", two)].map(|(eni, word)| (eni.to_owned(), word.to_owned()))
    };
    let expected = [
        lines("NODATA", "NODATA"),
        lines("NODATA", "SKIPDATA"),
        lines("NODATA", "NODATA"),
    ];
    assert_eq!(said, expected);
}
