//! The [`World`] of the program tier: the loaded programs under BPF_PROG_TEST_RUN. Needs root.
//!
//! The kernel's clock cannot be moved, so time goes by in the maps: all time stamps are moved into
//! the past.

#![expect(clippy::unwrap_used, reason = "a map that refuses ends the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use crate::{
    case::{Case, EniSpec, LINK, mapped_network},
    pure,
    world::{Tables, World},
};
use aya::{
    TestRunOptions,
    maps::{HashMap, Map, MapData, MapInfo},
    programs::TestRun,
};
use branchline::{
    datapath::{Datapath, DatapathError, Settings, program},
    policy::Trees,
};
use branchline_common::{
    account::Segments,
    conntrack::{Connection, SWEEP_GRACE_SECONDS},
    flow::FlowKey,
    maps::{self, COUNTERS, Control, Endpoint, Eni, FragmentFate, control, name},
    policy::Policy,
    verdict::{Direction, DropReason, Verdict},
};
use zerocopy::IntoBytes;

/// `TC_ACT_OK`, `TC_ACT_SHOT` and `TC_ACT_REDIRECT` (`include/uapi/linux/pkt_cls.h`).
pub const PASSED: u32 = 0;
/// See [`PASSED`].
pub const DROPPED: u32 = 2;
/// See [`PASSED`].
pub const REDIRECTED: u32 = 7;

/// Offsets in `struct __sk_buff`, and its length (`include/uapi/linux/bpf.h`).
const SKB_GSO_SEGS: usize = 164;
const SKB_GSO_SIZE: usize = 176;
const SKB_LEN: usize = 192;

/// What a program made of a frame.
#[derive(Debug)]
pub struct Output {
    /// The TC code.
    pub code: u32,
    /// The frame that it is now.
    pub frame: Vec<u8>,
}

/// The loaded programs and their maps.
pub struct Loaded {
    /// The programs and maps.
    pub datapath: Datapath,
    connections: HashMap<MapData, FlowKey, Connection>,
    fragments: HashMap<MapData, FlowKey, FragmentFate>,
    trees: Trees,
    policies: u32,
    branch: Option<u32>,
    /// Slots of ENIs that are there, and 0.
    slots: BTreeSet<u32>,
    /// Frame that the last packet became.
    pub output: Vec<u8>,
    /// Counters of all slots after the last packet.
    counted: BTreeMap<u32, [u64; COUNTERS]>,
    /// Ticks when all was aged last.
    aged: u32,
}

/// The programs that most tests share, as loading takes longer than a test.
static SHARED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Rows that fit.
const ROWS: u32 = 65_536;
/// Connections that fit into the shared programs' table.
const CONNECTIONS: u32 = 65_536;

/// Runs a test with the shared programs, as the test before left them: it sets up what it needs.
pub fn with_shared<R>(test: impl FnOnce(&mut Loaded) -> R) -> R {
    require_privilege();
    // A test that failed leaves nothing that the next one's set-up does not clear.
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    test(shared.get_or_insert_with(|| {
        Loaded::new(CONNECTIONS).unwrap_or_else(|error| panic!("{}", chain(&error)))
    }))
}

impl Loaded {
    /// Loads the programs, with room for so many connections.
    ///
    /// # Errors
    /// The kernel does not take them.
    pub fn new(connections: u32) -> Result<Self, DatapathError> {
        let settings = Settings {
            pins: None,
            connections,
            rows: ROWS,
            log_drops: false,
            tcp_strict: false,
        };
        let mut datapath = Datapath::load(&settings)?;
        let (connections, fragments) = (
            hash_map(&mut datapath, name::CONNECTIONS),
            hash_map(&mut datapath, name::FRAGMENTS),
        );
        Ok(Self {
            datapath,
            connections,
            fragments,
            trees: Trees::default(),
            policies: 0,
            branch: None,
            slots: BTreeSet::from([0]),
            output: Vec::new(),
            counted: BTreeMap::new(),
            aged: 0,
        })
    }

    /// Ticks of the kernel's clock in a second.
    #[must_use]
    pub fn ticks_per_second(&self) -> u32 {
        self.datapath.clock().ticks_per_second()
    }

    /// Moves all time stamps so many ticks into the past. What the machine itself took since the last
    /// time does not count: an emulated one takes seconds.
    pub fn age(&mut self, ticks: u32) {
        let now = self.datapath.ticks().unwrap();
        let then = std::mem::replace(&mut self.aged, now);
        let aged = |seen: u32| {
            let idle = then.wrapping_sub(seen) as i32;
            now.wrapping_sub(idle.max(0) as u32).wrapping_sub(ticks)
        };
        for (key, mut connection) in self.datapath.connections().unwrap() {
            connection.tracking.last_seen = aged(connection.tracking.last_seen);
            self.connections.insert(key, connection, 0).unwrap();
        }
        let fragments: Vec<_> = self.fragments.iter().collect::<Result<_, _>>().unwrap();
        for (key, mut fate) in fragments {
            fate.seen = aged(fate.seen);
            self.fragments.insert(key, fate, 0).unwrap();
        }
    }

    /// Does to a connection what another CPU might be doing this very moment; `None` takes it out of
    /// the table.
    pub fn set_connection(&mut self, key: FlowKey, connection: Option<Connection>) {
        match connection {
            Some(connection) => self.connections.insert(key, connection, 0).unwrap(),
            None => self.connections.remove(&key).unwrap(),
        }
    }

    /// Changes what the programs are told.
    pub fn control(&mut self, change: impl FnOnce(&mut Control)) {
        let mut control = self.datapath.control().unwrap();
        change(&mut control);
        self.datapath.set_control(control).unwrap();
    }

    /// Runs a program on a frame.
    pub fn run(&mut self, program: &'static str, frame: &[u8], segments: Segments) -> Output {
        let mut context = [0; SKB_LEN];
        context[SKB_GSO_SEGS..SKB_GSO_SEGS + 4].copy_from_slice(segments.count.as_bytes());
        context[SKB_GSO_SIZE..SKB_GSO_SIZE + 4].copy_from_slice(segments.size.as_bytes());
        let mut out = vec![0; 4096];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = self.datapath.classifier(program).unwrap().test_run(options);
        let result =
            result.unwrap_or_else(|error| panic!("{program} on {frame:02x?}: {}", chain(&error)));
        out.truncate(result.data_size_out as usize);
        Output {
            code: result.return_value,
            frame: out,
        }
    }

    /// The counters of a slot.
    #[must_use]
    pub fn counters(&self, slot: u32) -> [u64; COUNTERS] {
        self.datapath.counters(slot).unwrap().packets
    }

    fn all_counters(&self) -> BTreeMap<u32, [u64; COUNTERS]> {
        let slots = self.slots.iter();
        slots.map(|slot| (*slot, self.counters(*slot))).collect()
    }

    /// Takes an ENI out, with all that its packets have left.
    fn forget(&mut self, slot: u32) {
        self.datapath.unplug_eni(slot).unwrap();
        self.datapath.forget_eni(slot).unwrap();
        self.counted.remove(&slot);
    }
}

/// Whether BPF_PROG_TEST_RUN takes the frame on every kernel: newer ones refuse an untagged frame
/// that is too short for the IP header that it announces. Those have their verdict in the pure tier.
#[must_use]
pub fn is_runnable(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x08, 0x00] => frame.len() >= 14 + 20,
        [0x86, 0xdd] => frame.len() >= 14 + 40,
        _ => true,
    }
}

/// An error and its causes.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

/// Fails with one line if programs cannot be loaded and run here.
fn require_privilege() {
    const SYS_ADMIN: u64 = 1 << 21;
    const BPF: u64 = 1 << 39;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(effective.unwrap().trim(), 16).unwrap();
    assert!(
        effective & SYS_ADMIN != 0 && effective & BPF != 0,
        "the program tier lacks CAP_BPF or CAP_SYS_ADMIN; run `cargo xtask test program` as root"
    );
}

/// The map behind a program, opened a second time so that a test may change its entries.
fn hash_map<V: aya::Pod>(datapath: &mut Datapath, name: &str) -> HashMap<MapData, FlowKey, V> {
    let programs = [program::TRUNK_INGRESS, program::BRANCH_EGRESS];
    for program in programs {
        let info = datapath.classifier(program).unwrap().info().unwrap();
        for id in info.map_ids().unwrap().unwrap() {
            if MapInfo::from_id(id).unwrap().name_as_str() == Some(name) {
                let data = MapData::from_id(id).unwrap();
                let map = match name {
                    name::FRAGMENTS => Map::LruHashMap(data),
                    _ => Map::HashMap(data),
                };
                return map.try_into().unwrap();
            }
        }
    }
    panic!("no program uses the map {name}")
}

impl World for Loaded {
    fn set_up(&mut self, case: &Case) {
        for slot in std::mem::replace(&mut self.slots, BTreeSet::from([0])) {
            self.forget(slot);
        }
        self.trees = Trees::default();
        self.policies = 0;
        self.branch = None;
        self.counted = self.all_counters();
        self.aged = self.datapath.ticks().unwrap();
        self.control(|control| {
            control.epoch = 1;
            control.flags = case.services;
            if case.is_strict {
                control.flags |= control::TCP_STRICT;
            }
            control.fragment_ticks = case.fragment_seconds * control.ticks_per_second;
        });
        let networks: Vec<_> = case.auto_track.iter().map(mapped_network).collect();
        let networks: Vec<_> = networks.iter().map(|(bits, of)| (*of, *bits)).collect();
        self.datapath.set_auto_track(&networks).unwrap();
        for eni in &case.enis {
            self.set_rules(eni, &eni.rules);
        }
    }

    fn trees(&mut self) -> &mut Trees {
        &mut self.trees
    }

    fn obey(&mut self, eni: &EniSpec, policy: &Policy) {
        let writes = self.trees.unwritten();
        self.datapath.write_trees(&writes).unwrap();
        self.trees.written(&writes);
        self.policies = self.policies % (maps::POLICIES - 1) + 1;
        let index = self.policies;
        let policy = Policy {
            generation: index,
            ..*policy
        };
        self.datapath.write_policy(index, &policy).unwrap();
        let slot = u32::from(eni.slot);
        let value = eni.eni(index, self.ticks_per_second());
        self.datapath.set_eni(slot, &value).unwrap();
        if self.slots.insert(slot) {
            self.counted.insert(slot, self.counters(slot));
            for endpoint in pure::endpoints(eni) {
                self.datapath.set_endpoint(endpoint, slot).unwrap();
            }
        }
    }

    fn unplug(&mut self, eni: &EniSpec) {
        let slot = u32::from(eni.slot);
        self.forget(slot);
        self.slots.remove(&slot);
        if self.branch == Some(slot) {
            self.branch = None;
        }
    }

    fn frame(
        &mut self,
        eni: &EniSpec,
        direction: Direction,
        frame: &[u8],
        segments: Segments,
    ) -> Verdict {
        let slot = u32::from(eni.slot);
        let program = match direction {
            Direction::Ingress => program::TRUNK_INGRESS,
            Direction::Egress => program::BRANCH_EGRESS,
        };
        if self.branch != Some(slot) {
            self.datapath.set_branch(LINK, slot).unwrap();
            self.branch = Some(slot);
        }
        let output = self.run(program, frame, segments);
        self.output = output.frame;
        let after = self.all_counters();
        let before = std::mem::replace(&mut self.counted, after);
        let none = [0; COUNTERS];
        let counted: Vec<usize> = self
            .counted
            .iter()
            .flat_map(|(slot, after)| {
                before
                    .get(slot)
                    .unwrap_or(&none)
                    .iter()
                    .zip(after)
                    .enumerate()
            })
            .filter(|(_, (before, after))| after > before)
            .map(|(index, _)| index)
            .collect();
        match (output.code, &counted[..]) {
            (REDIRECTED, []) => Verdict::Allow,
            (REDIRECTED, [0]) => Verdict::Exempt,
            (DROPPED, [reason]) if *reason > 0 => {
                Verdict::Deny(DropReason::from_number(*reason as u8).unwrap())
            }
            (code, counted) => panic!("TC code {code} with counters {counted:?}"),
        }
    }

    fn wait(&mut self, seconds: u32) {
        self.age(seconds * self.ticks_per_second());
    }

    fn sweep(&mut self) {
        let grace = SWEEP_GRACE_SECONDS * self.ticks_per_second();
        let now = self.datapath.ticks().unwrap();
        let mut dead = Vec::new();
        for (key, mut connection) in self.connections() {
            if !connection.tracking.is_live(now) {
                // What is dead by now may go at once: no packet is on its way.
                let seen = &mut connection.tracking.last_seen;
                *seen = seen.wrapping_sub(grace);
                self.connections.insert(key, connection, 0).unwrap();
                dead.push(key);
            }
        }
        self.datapath.sweep(&dead, u32::MAX).unwrap();
    }

    fn next_epoch(&mut self) {
        self.control(|control| control.epoch += 1);
    }

    fn connections(&self) -> Vec<(FlowKey, Connection)> {
        self.datapath.connections().unwrap()
    }

    fn tables(&self) -> Tables {
        let mut tables = Tables::default();
        for (key, connection) in self.datapath.connections().unwrap() {
            tables.add_connection(key, &connection);
        }
        for (key, row) in self.datapath.rows().unwrap() {
            tables.add_row(key, &row);
        }
        for (slot, counters) in self.all_counters() {
            if counters.iter().any(|count| *count > 0) {
                tables.counters.insert(slot as u16, counters);
            }
        }
        tables
    }
}

/// An ENI's entries besides its rules, for tests of the fabric.
pub fn plug(loaded: &mut Loaded, slot: u32, eni: &Eni) {
    loaded.slots.insert(slot);
    loaded.datapath.set_eni(slot, eni).unwrap();
    let endpoint = Endpoint::of(eni.trunk_ifindex, Some(eni.vlan), eni.mac);
    loaded.datapath.set_endpoint(endpoint, slot).unwrap();
    for address in [eni.ipv4, eni.ipv6] {
        loaded.datapath.set_address(address, slot).unwrap();
    }
}
