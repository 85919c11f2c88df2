//! Exactly once, whatever happens: a fault at every step, a full disk, slots that change
//! hands. The kernel is played by the same counting code that runs in it; store and files are real.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use branchline_common::account::{FlagsSeen, Traffic};
use branchline_common::conntrack::{Connection, State, Tracking, default_timeouts};
use branchline_common::flow::{kind, mapped};
use branchline_common::maps::Row;
use branchline_common::verdict::{self, Direction};
use proptest::prelude::*;

use super::*;
use crate::datapath::{Clock, DatapathError, Entry};
use crate::flows::outline::Outline;
use crate::flows::record::Action;
use crate::flows::shelf::OnDisk;
use crate::flows::spool::Spool;
use crate::free_space::MinFreeSpace;
use crate::policy::Forgotten;
use crate::provider::RouteTarget;
use crate::state::{RuleStore, Store};
use crate::test_dir::TestDir;
use crate::test_fuse::{Fault, Fuse};

const RATE: u32 = 100;
const MINUTE: End = End::Due { interval: 60 };

/// The steps of kernel and shelf.
struct Steps(Fuse);

impl Steps {
    fn step<T>(&self, act: impl FnOnce() -> Result<T, FlowLogError>) -> Result<T, FlowLogError> {
        self.0.step(|| FlowLogError::Stopped, act)
    }

    fn kernel<T>(&self, act: impl FnOnce() -> T) -> Result<T, DatapathError> {
        let stopped = || DatapathError::Missing("stopped by the test");
        self.0.step(stopped, || Ok(act()))
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
    fuse: Arc<Steps>,
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
    fuse: Arc<Steps>,
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

    fn spool(&self, epoch: &Epoch) -> Result<(), FlowLogError> {
        self.fuse.step(|| self.disk.spool(epoch))
    }

    fn settle(&self, ledger: &Ledger, outline: &Outline) -> Result<(), FlowLogError> {
        self.fuse.step(|| self.disk.settle(ledger, outline))
    }

    fn forget_rules(&self, forgotten: &Forgotten) -> Result<(), FlowLogError> {
        if forgotten.is_nothing() {
            return Ok(());
        }
        self.fuse.step(|| self.disk.forget_rules(forgotten))
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
    rules: Arc<RuleStore>,
    maps: Arc<Mutex<Maps>>,
    fuse: Arc<Steps>,
    /// ENI number by slot, as the agent's store of tasks has it.
    tasks: BTreeMap<u32, u32>,
    /// From when slot 2's link is taken away until another one is there.
    is_unplugged: bool,
    sent: HashMap<String, u64>,
    min_free: MinFreeSpace,
    agent: Option<Recorder<FakeKernel, FakeShelf>>,
}

impl Host {
    fn new(fault: Option<(u32, Fault)>) -> Self {
        let dir = TestDir::new();
        let fuse = fault.map_or_else(Fuse::default, |(at, fault)| Fuse::new(at, fault));
        let maps = Maps {
            epoch: 1,
            ticks: 6_000 * RATE,
            entries: BTreeMap::new(),
            unlogged: BTreeMap::new(),
        };
        Self {
            store: Arc::new(Store::open(&dir.path().join("state")).unwrap()),
            rules: Arc::new(RuleStore::open(&dir.path().join("run")).unwrap()),
            dir,
            maps: Arc::new(Mutex::new(maps)),
            fuse: Arc::new(Steps(fuse)),
            tasks: BTreeMap::from([(1, 1), (2, 2)]),
            is_unplugged: false,
            sent: HashMap::new(),
            min_free: MinFreeSpace::default(),
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
            let shelf = FakeShelf {
                disk: OnDisk {
                    store: Arc::clone(&self.store),
                    rules: Arc::clone(&self.rules),
                    spool: Spool::new(self.files(), self.min_free),
                },
                fuse: Arc::clone(&self.fuse),
            };
            let (rules, routes) = (RuleBook::default(), routes());
            let agent = Recorder::resume(kernel, shelf, identities, rules, routes)?;
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
        let fault = self.fuse.0.mend().expect("only the test makes it fail");
        if fault != Fault::Failure {
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

    /// Packets by ENI, addresses and action over all epochs; none may say one twice.
    fn recorded(&self) -> HashMap<String, u64> {
        let mut sums: HashMap<String, u64> = HashMap::new();
        for epoch in self.epochs() {
            let mut in_epoch = HashMap::new();
            for report in &epoch.reports {
                for (tuple, counts) in &report.flows {
                    let action = match tuple.action {
                        Action::Accept | Action::Audit => "ACCEPT",
                        Action::Reject => "REJECT",
                    };
                    let eni = &report.interface.interface_id;
                    let key = format!("{eni} {} {} {action}", tuple.src, tuple.dst);
                    assert_eq!(counts.bytes, counts.packets * 100, "{key}");
                    let path = (tuple.direction == Direction::Egress).then_some(1);
                    assert_eq!(tuple.traffic_path, path, "{key}");
                    let before = in_epoch.insert(key.clone(), counts.packets);
                    assert!(before.is_none(), "{key}");
                    *sums.entry(key).or_default() += counts.packets;
                }
            }
        }
        sums
    }

    /// What is in the spool, in order.
    fn epochs(&self) -> Vec<Epoch> {
        let spool = Spool::new(self.files(), MinFreeSpace::default());
        let numbers = spool.sizes().unwrap_or_default();
        let epochs = numbers
            .keys()
            .map(|number| spool.get(*number).unwrap().unwrap());
        epochs.collect()
    }
}

/// The ENIs' own network, and no way out.
fn routes() -> RouteTables {
    let local = ("10.0.0.0/30".parse().unwrap(), RouteTarget::Local);
    RouteTables {
        main: Arc::new([local].into_iter().collect()),
        ..RouteTables::default()
    }
}

fn identity(eni: u32) -> Identity {
    Identity::named(&format!("eni-{eni}"), None)
}

/// Runs the acts with one fault, or none; returns how many steps there were.
fn run(acts: &[Act], fault: Option<(u32, Fault)>) -> u32 {
    let mut host = Host::new(fault);
    for act in acts {
        host.act(*act);
    }
    host.act(Act::Flush);
    // If that was where it failed, this is the next one.
    host.fuse.0.disarm();
    host.act(Act::Flush);
    assert_eq!(host.recorded(), host.sent, "{acts:?}, {fault:?}");
    host.fuse.0.calls()
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
        for fault in Fault::ALL {
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
        fault in prop::sample::select(Fault::ALL.to_vec()),
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
        assert!(matches!(error, FlowLogError::Spool(_)), "{error}");
        host.act(Act::Traffic(10));
        host.act(Act::Sweep);
        // The ENI goes while an interval waits: both intervals' counts go with it.
        host.act(Act::Replace);
        assert_eq!(lock(&host.maps).epoch, 2);
    }
    fs::remove_file(host.files()).unwrap();
    host.act(Act::EndMinute);
    assert_eq!(lock(&host.maps).epoch, 3);
    assert_eq!(host.recorded(), host.sent);
    assert_eq!(host.agent().unwrap().written_epoch(), 2);
    // ENIs 1 and 2 in the first epoch, ENIs 1 to 4 in the second, three flows each.
    let flows = |epoch: &Epoch| epoch.reports.iter().map(|report| report.flows.len()).sum();
    let flows: Vec<usize> = host.epochs().iter().map(flows).collect();
    assert_eq!(flows, [3 * 2, 3 * 4]);
}

#[test]
fn without_room_intervals_end_and_every_packet_is_in_an_outline() {
    let mut host = Host::new(None);
    // No file system is 101 % free.
    host.min_free = MinFreeSpace::percent(101);
    for packets in [1, 10, 100] {
        host.act(Act::Traffic(packets));
        host.try_act(Act::EndMinute).unwrap();
        host.try_act(Act::Replace).unwrap();
    }
    // Killed, and there is room again.
    host.agent = None;
    host.min_free = MinFreeSpace::default();
    host.act(Act::Traffic(1_000));
    host.act(Act::EndMinute);
    let numbers: Vec<u32> = host.epochs().iter().map(|epoch| epoch.number).collect();
    assert_eq!(numbers, [4]);
    let mut lost = 0;
    for number in 1..=3 {
        let outline = host.store.outline(number).unwrap().unwrap();
        let outline = Outline::from_bytes(&outline).unwrap();
        let packets = outline.sums.iter().flat_map(|sum| &sum.packets);
        lost += packets.map(|(_, packets)| packets).sum::<u64>();
    }
    let recorded: u64 = host.recorded().values().sum();
    assert_eq!((lost, recorded), (6 * 111, 6 * 1_000));
    assert_eq!(lost + recorded, host.sent.values().sum::<u64>());
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
fn what_a_drain_found_dead_goes_without_another_walk() {
    let mut host = Host::new(None);
    host.act(Act::Traffic(1));
    host.act(Act::EndMinute);
    let fuse = Arc::clone(&host.fuse);
    let calls = || fuse.0.calls();
    let agent = host.agent().unwrap();
    // The time and the removal; then the time and a walk, which finds nothing.
    for removed in [4, 0] {
        let before = calls();
        assert_eq!(agent.sweep().unwrap(), removed);
        assert_eq!(calls() - before, 2);
    }
    assert!(!agent.take_spent().is_zero());
    assert!(agent.take_spent().is_zero());
}

#[test]
fn silence_and_losses_are_said_once() {
    let mut host = Host::new(None);
    host.act(Act::EndMinute);
    lock(&host.maps).unlogged.insert(2, 7);
    host.act(Act::EndMinute);
    host.act(Act::EndMinute);
    let said: Vec<Vec<_>> = host
        .epochs()
        .into_iter()
        .map(|epoch| {
            let of = |report: Report| (report.is_whole, report.skipped_packets);
            epoch.reports.into_iter().map(of).collect()
        })
        .collect();
    let expected = [
        vec![(true, 0), (true, 0)],
        vec![(true, 0), (true, 7)],
        vec![(true, 0), (true, 0)],
    ];
    assert_eq!(said, expected);
}
