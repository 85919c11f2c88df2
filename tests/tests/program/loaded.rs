//! The [`World`] of the program tier: the loaded programs under BPF_PROG_TEST_RUN.
//!
//! The kernel's clock cannot be moved, so time goes by in the maps: all time stamps are moved into
//! the past.

use std::sync::{Mutex, PoisonError};

use aya::{
    TestRunOptions,
    maps::{HashMap, Map, MapData, MapInfo},
    programs::TestRun,
};
use branchline::{
    datapath::{Datapath, Settings, program},
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
use branchline_tests::{
    case::{Case, EniSpec, LINK},
    pure,
    rules::{self, Rule},
    world::{Tables, World},
};
use zerocopy::IntoBytes;

/// `TC_ACT_OK`, `TC_ACT_SHOT` and `TC_ACT_REDIRECT` (`include/uapi/linux/pkt_cls.h`).
pub(crate) const PASSED: u32 = 0;
pub(crate) const DROPPED: u32 = 2;
pub(crate) const REDIRECTED: u32 = 7;

/// Highest slot that a case uses.
const SLOTS: u32 = 3;
/// Offsets in `struct __sk_buff`, and its length (`include/uapi/linux/bpf.h`).
const SKB_GSO_SEGS: usize = 164;
const SKB_GSO_SIZE: usize = 176;
const SKB_LEN: usize = 192;

/// What a program made of a frame.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: u32,
    pub(crate) frame: Vec<u8>,
}

/// The loaded programs and their maps.
pub(crate) struct Loaded {
    pub(crate) datapath: Datapath,
    connections: HashMap<MapData, FlowKey, Connection>,
    fragments: HashMap<MapData, FlowKey, FragmentFate>,
    trees: Trees,
    policies: u32,
    branch: Option<u32>,
    /// Frame that the last packet became.
    pub(crate) output: Vec<u8>,
    /// All counters after the last packet.
    counted: Vec<[u64; COUNTERS]>,
}

/// The programs that most tests share, as loading takes longer than a test.
static SHARED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Connections that fit into the shared programs' table.
const CONNECTIONS: u32 = 65_536;

/// Runs a test with the shared programs, as the test before left them: it sets up what it needs.
pub(crate) fn with_shared<R>(test: impl FnOnce(&mut Loaded) -> R) -> R {
    require_privilege();
    // A test that failed leaves nothing that the next one's set-up does not clear.
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    test(shared.get_or_insert_with(|| Loaded::new(CONNECTIONS)))
}

impl Loaded {
    /// Loads the programs, with room for so many connections.
    pub(crate) fn new(connections: u32) -> Self {
        let settings = Settings {
            pins: None,
            connections,
            rows: 65_536,
            log_drops: false,
            tcp_strict: false,
        };
        let mut datapath =
            Datapath::load(&settings).unwrap_or_else(|error| panic!("{}", chain(&error)));
        let (connections, fragments) = (
            hash_map(&mut datapath, name::CONNECTIONS),
            hash_map(&mut datapath, name::FRAGMENTS),
        );
        Self {
            datapath,
            connections,
            fragments,
            trees: Trees::default(),
            policies: 0,
            branch: None,
            output: Vec::new(),
            counted: Vec::new(),
        }
    }

    pub(crate) fn ticks_per_second(&self) -> u32 {
        self.datapath.clock().ticks_per_second()
    }

    /// Moves all time stamps so many ticks into the past.
    pub(crate) fn age(&mut self, ticks: u32) {
        for (key, mut connection) in self.datapath.connections().unwrap() {
            let seen = &mut connection.tracking.last_seen;
            *seen = seen.wrapping_sub(ticks);
            self.connections.insert(key, connection, 0).unwrap();
        }
        let fragments: Vec<_> = self.fragments.iter().collect::<Result<_, _>>().unwrap();
        for (key, mut fate) in fragments {
            fate.seen = fate.seen.wrapping_sub(ticks);
            self.fragments.insert(key, fate, 0).unwrap();
        }
    }

    /// Changes what the programs are told.
    pub(crate) fn control(&mut self, change: impl FnOnce(&mut Control)) {
        let mut control = self.datapath.control().unwrap();
        change(&mut control);
        self.datapath.set_control(control).unwrap();
    }

    /// Runs a program on a frame.
    pub(crate) fn run(
        &mut self,
        program: &'static str,
        frame: &[u8],
        segments: Segments,
    ) -> Output {
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
    pub(crate) fn counters(&self, slot: u32) -> [u64; COUNTERS] {
        self.datapath.counters(slot).unwrap().packets
    }

    fn all_counters(&self) -> Vec<[u64; COUNTERS]> {
        (0..=SLOTS).map(|slot| self.counters(slot)).collect()
    }
}

impl Loaded {
    /// The trees that policies for [`Loaded::obey`] are compiled into.
    pub(crate) fn trees(&mut self) -> &mut Trees {
        &mut self.trees
    }

    /// Lets an ENI obey a policy.
    pub(crate) fn obey(&mut self, eni: &EniSpec, policy: &Policy) {
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
    }
}

/// Whether BPF_PROG_TEST_RUN takes the frame on every kernel: newer ones refuse an untagged frame
/// that is too short for the IP header that it announces. Those have their verdict in the pure tier.
pub(crate) fn is_runnable(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x08, 0x00] => frame.len() >= 14 + 20,
        [0x86, 0xdd] => frame.len() >= 14 + 40,
        _ => true,
    }
}

/// An error and its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
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
        for slot in 0..=SLOTS {
            self.datapath.unplug_eni(slot).unwrap();
            self.datapath.forget_eni(slot).unwrap();
        }
        self.trees = Trees::default();
        self.policies = 0;
        self.branch = None;
        self.counted = self.all_counters();
        self.control(|control| {
            control.epoch = 1;
            control.flags = if case.is_strict {
                control::TCP_STRICT
            } else {
                0
            };
        });
        for eni in &case.enis {
            self.set_rules(eni, &eni.rules);
            for endpoint in pure::endpoints(eni) {
                self.datapath
                    .set_endpoint(endpoint, u32::from(eni.slot))
                    .unwrap();
            }
        }
    }

    fn set_rules(&mut self, eni: &EniSpec, rules: &[Rule]) {
        let policy = rules::compile(&mut self.trees, rules);
        self.obey(eni, &policy.entry);
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
        let counted: Vec<usize> = before
            .iter()
            .flatten()
            .zip(self.counted.iter().flatten())
            .enumerate()
            .filter(|(_, (before, after))| after > before)
            .map(|(index, _)| index % COUNTERS)
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
        let connections = self.datapath.connections().unwrap();
        let grace = SWEEP_GRACE_SECONDS * self.ticks_per_second();
        // What is dead by now may go at once: no packet is on its way.
        let keys: Vec<_> = connections.iter().map(|(key, _)| *key).collect();
        self.age(grace);
        self.datapath.sweep(&keys, u32::MAX).unwrap();
        self.age(grace.wrapping_neg());
    }

    fn next_epoch(&mut self) {
        self.control(|control| control.epoch += 1);
    }

    fn tables(&self) -> Tables {
        let mut tables = Tables::default();
        for (key, connection) in self.datapath.connections().unwrap() {
            tables.add_connection(key, &connection);
        }
        for (key, row) in self.datapath.rows().unwrap() {
            tables.add_row(key, &row);
        }
        for slot in 0..=SLOTS {
            let counters = self.counters(slot);
            if counters.iter().any(|count| *count > 0) {
                tables.counters.insert(slot as u16, counters);
            }
        }
        tables
    }
}

/// An ENI's entries besides its rules, for tests of the fabric.
pub(crate) fn plug(loaded: &mut Loaded, slot: u32, eni: &Eni) {
    loaded.datapath.set_eni(slot, eni).unwrap();
    let endpoint = Endpoint::of(eni.trunk_ifindex, Some(eni.vlan), eni.mac);
    loaded.datapath.set_endpoint(endpoint, slot).unwrap();
    for address in [eni.ipv4, eni.ipv6] {
        loaded.datapath.set_address(address, slot).unwrap();
    }
}
