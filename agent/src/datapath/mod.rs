//! The kernel programs and their maps: load, pin, fill, read.
//!
//! The maps are pinned, so that they and what they count outlive the agent; a start loads this
//! build's programs over them. It decides nothing about tasks and writes no netlink: `attach`
//! says where programs go, `agent` when.

mod attach;

mod clock;

mod drops;

mod flow_tables;

mod tables;

mod policies;

mod error;

pub use attach::{
    BRANCH_BLOCK, TrunkAttachment, attach_branch, attach_eni, attach_fabric, attach_trunk,
    is_eni_attached, is_fabric_attached, is_trunk_attached, replace_branches,
};
pub use clock::Clock;
pub use error::DatapathError;
pub use flow_tables::{Entry, FlowTables};
pub use policies::grace_period;
pub use tables::Leads;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData, PerCpuArray, lpm_trie},
    programs::{ProgramError, SchedClassifier},
};
use branchline_common::{
    conntrack::Connection,
    fabric::Route,
    flow::{Address, FlowKey},
    maps::{Control, Counters, Endpoint, Eni, FragmentFate, LAYOUT_VERSION, Row, control, name},
    policy::{Node, Policy, RuleSet},
};

use error::{map_error, program_error};
use flow_tables::Table;

/// The kernel programs, compiled by `cargo xtask build`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("BRANCHLINE_OBJECT"));

/// Names of the programs in [`OBJECT`].
pub mod program {
    /// On the ingress of a trunk, and of an ENI that has a link of its own.
    pub const TRUNK_INGRESS: &str = "trunk_ingress";
    /// On the ingress of every branch's host side.
    pub const BRANCH_EGRESS: &str = "branch_egress";
    /// On the ingress of the trunk's far end.
    pub const FABRIC: &str = "fabric";
    /// On the egress of the trunk's far end.
    pub const FABRIC_GATEWAY: &str = "fabric_gateway";
    /// Run by the agent to remove entries.
    pub const SWEEP: &str = "sweep";
    /// Run by the agent to let ENIs obey another policy.
    pub const SWITCH_POLICY: &str = "switch_policy";
    /// Run by the agent to read the maps' clock.
    pub const CLOCK: &str = "clock";
    /// Run by the bench.
    pub const EMPTY: &str = "empty";

    /// All of them.
    pub const ALL: [&str; 8] = [
        TRUNK_INGRESS,
        BRANCH_EGRESS,
        FABRIC,
        FABRIC_GATEWAY,
        SWEEP,
        SWITCH_POLICY,
        CLOCK,
        EMPTY,
    ];
}

/// Seconds for which a first fragment's fate is remembered (`ipfrag_time` of Linux).
const FRAGMENT_SECONDS: u32 = 30;

/// How the maps are made; a map that is pinned keeps the size that it was made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder for pins; `None` pins nothing, for tests of programs alone.
    pub pins: Option<PathBuf>,
    /// Connections that fit.
    pub connections: u32,
    /// Rows of rejected and untracked packets that fit.
    pub rows: u32,
    /// Whether each dropped packet is logged.
    pub log_drops: bool,
    /// Whether TCP flows must start with a SYN.
    pub tcp_strict: bool,
}

/// The loaded programs and the open maps.
pub struct Datapath {
    ebpf: Ebpf,
    pins: Option<PathBuf>,
    clock: Clock,
    control: Array<MapData, Control>,
    enis: Array<MapData, Eni>,
    endpoints: HashMap<MapData, Endpoint, u32>,
    branches: HashMap<MapData, u32, u32>,
    endpoint_hints: Array<MapData, u32>,
    branch_hints: Array<MapData, u32>,
    addresses: HashMap<MapData, Address, u32>,
    routes: lpm_trie::LpmTrie<MapData, Address, Route>,
    policies: Array<MapData, Policy>,
    nodes: Array<MapData, Node>,
    rule_sets: Array<MapData, RuleSet>,
    auto_track: lpm_trie::LpmTrie<MapData, Address, u32>,
    tracked: Array<MapData, u64>,
    connections: HashMap<MapData, FlowKey, Connection>,
    rows: HashMap<MapData, FlowKey, Row>,
    fragments: HashMap<MapData, FlowKey, FragmentFate>,
    counters: PerCpuArray<MapData, Counters>,
    eni_table: Table<u32, Eni>,
    flow_tables: FlowTables,
}

/// The data plane for one caller. A panic of another caller does not matter: each call leaves
/// the maps whole.
pub fn lock(datapath: &Mutex<Datapath>) -> MutexGuard<'_, Datapath> {
    datapath.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all pins: maps and links end with the programs that still use them.
///
/// # Errors
/// `Pins`; none being there is success.
pub fn purge(pins: &Path) -> Result<(), DatapathError> {
    match std::fs::remove_dir_all(pins) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(DatapathError::Pins {
            path: pins.to_owned(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Datapath {
    /// Loads this build's programs over the pinned maps, making those that are not there.
    ///
    /// # Errors
    /// `Layout` if another version's maps are pinned; nothing is changed then.
    pub fn load(settings: &Settings) -> Result<Self, DatapathError> {
        Self::load_object(OBJECT, settings)
    }

    /// As [`Datapath::load`], of another object with the same programs and maps: the bench has one
    /// that counts nothing.
    ///
    /// # Errors
    /// As there.
    pub fn load_object(object: &[u8], settings: &Settings) -> Result<Self, DatapathError> {
        let pins = settings.pins.as_deref().map(map_pins).transpose()?;
        let mut ebpf = load_maps(object, settings, pins.as_deref())?;
        for program in program::ALL {
            classifier(&mut ebpf, program)?
                .load()
                .map_err(|source| program_error("load", program, source))?;
        }
        let clock = Clock::measure(classifier(&mut ebpf, program::CLOCK)?)?;
        let mut datapath = Self {
            clock,
            eni_table: Table::open(&ebpf, name::ENIS)?,
            flow_tables: FlowTables::open(&ebpf)?,
            pins: settings.pins.clone(),
            control: map(&mut ebpf, name::CONTROL)?,
            enis: map(&mut ebpf, name::ENIS)?,
            endpoints: map(&mut ebpf, name::ENDPOINTS)?,
            branches: map(&mut ebpf, name::BRANCHES)?,
            endpoint_hints: map(&mut ebpf, name::ENDPOINT_HINTS)?,
            branch_hints: map(&mut ebpf, name::BRANCH_HINTS)?,
            addresses: map(&mut ebpf, name::ADDRESSES)?,
            routes: map(&mut ebpf, name::ROUTES)?,
            policies: map(&mut ebpf, name::POLICIES)?,
            nodes: map(&mut ebpf, name::NODES)?,
            rule_sets: map(&mut ebpf, name::RULE_SETS)?,
            auto_track: map(&mut ebpf, name::AUTO_TRACK)?,
            tracked: map(&mut ebpf, name::TRACKED)?,
            connections: map(&mut ebpf, name::CONNECTIONS)?,
            rows: map(&mut ebpf, name::ROWS)?,
            fragments: map(&mut ebpf, name::FRAGMENTS)?,
            counters: map(&mut ebpf, name::COUNTERS)?,
            ebpf,
        };
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let ticks = datapath.clock.ticks_per_second();
        let old = datapath.control()?;
        datapath.set_control(Control {
            epoch: old.epoch.max(1),
            flags: old.flags & (control::AUTO_TRACK | control::SERVICES)
                | flag(settings.log_drops, control::LOG_DROPS)
                | flag(settings.tcp_strict, control::TCP_STRICT),
            fragment_ticks: FRAGMENT_SECONDS * ticks,
            ticks_per_second: ticks,
        })?;
        Ok(datapath)
    }

    /// Leads what the programs say of dropped packets into the agent's log. Needs a tokio runtime.
    ///
    /// # Errors
    /// `Missing` if the object has no log.
    pub fn forward_log(&mut self) -> Result<(), DatapathError> {
        drops::start(&mut self.ebpf).map_err(|error| {
            tracing::error!(%error, "the programs' log cannot be read");
            DatapathError::Missing("AYA_LOGS")
        })
    }

    /// Ticks of the maps' clock, and the wall clock behind them.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The maps' clock now, in ticks.
    ///
    /// # Errors
    /// `Program` if the kernel does not run the program.
    pub fn ticks(&mut self) -> Result<u32, DatapathError> {
        clock::ticks(classifier(&mut self.ebpf, program::CLOCK)?)
    }

    /// A program's file descriptor, to attach it with.
    ///
    /// # Errors
    /// `Program` if it cannot be duplicated.
    pub fn program(&mut self, name: &'static str) -> Result<OwnedFd, DatapathError> {
        let program = classifier(&mut self.ebpf, name)?;
        let fd = program
            .fd()
            .map_err(|source| program_error("open", name, source))?;
        fd.as_fd()
            .try_clone_to_owned()
            .map_err(|source| program_error("open", name, ProgramError::IOError(source)))
    }

    /// A loaded program, to be run by tests and the bench.
    ///
    /// # Errors
    /// `Missing` if there is none of this name.
    pub fn classifier(
        &mut self,
        name: &'static str,
    ) -> Result<&mut SchedClassifier, DatapathError> {
        classifier(&mut self.ebpf, name)
    }

    /// What the programs were told.
    ///
    /// # Errors
    /// `Map`.
    pub fn control(&self) -> Result<Control, DatapathError> {
        self.control
            .get(&0, 0)
            .map_err(|source| map_error("read", name::CONTROL, source))
    }

    /// Tells the programs.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_control(&mut self, control: Control) -> Result<(), DatapathError> {
        self.control
            .set(0, control, 0)
            .map_err(|source| map_error("write", name::CONTROL, source))
    }

    /// Ends the current aggregation interval; only the flow log's exporter does.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_epoch(&mut self, epoch: u32) -> Result<(), DatapathError> {
        let control = self.control()?;
        self.set_control(Control { epoch, ..control })
    }

    /// Handles to read what is counted, without this lock.
    #[must_use]
    pub fn flow_tables(&self) -> FlowTables {
        self.flow_tables.clone()
    }
}

/// The folder of this layout's pins, made if need be.
fn map_pins(pins: &Path) -> Result<PathBuf, DatapathError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DatapathError::Pins { path, source }
    };
    let own = format!("maps-v{LAYOUT_VERSION}");
    let dir = pins.join(&own);
    std::fs::create_dir_all(&dir).map_err(failed(&dir))?;
    for entry in std::fs::read_dir(pins).map_err(failed(pins))? {
        let entry = entry.map_err(failed(pins))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("maps-v") && name != own {
            return Err(DatapathError::Layout { path: entry.path() });
        }
    }
    Ok(dir)
}

fn load_maps(
    object: &[u8],
    settings: &Settings,
    pins: Option<&Path>,
) -> Result<Ebpf, DatapathError> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(name::CONNECTIONS, settings.connections);
    loader.map_max_entries(name::ROWS, settings.rows);
    if let Some(pins) = pins {
        for map in name::ALL {
            loader.map_pin_path(map, pins.join(map));
        }
    }
    loader
        .load(object)
        .map_err(|source| DatapathError::Load(Box::new(source)))
}

fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, DatapathError> {
    let program = ebpf.program_mut(name).ok_or(DatapathError::Missing(name))?;
    program.try_into().map_err(|_| DatapathError::Missing(name))
}

fn map<T: TryFrom<aya::maps::Map>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, DatapathError> {
    let map = ebpf.take_map(name).ok_or(DatapathError::Missing(name))?;
    T::try_from(map).map_err(|_| DatapathError::Missing(name))
}

#[cfg(test)]
mod tests {
    use branchline_common::maps;

    #[test]
    fn map_sizes_are_those_that_the_object_declares() {
        // The agent's defaults and the object's declarations are one fact in common.
        assert_eq!(
            crate::config::Config::default().conntrack.max_entries,
            maps::CONNECTIONS
        );
        assert_eq!(crate::config::Config::default().flow_rows_max, maps::ROWS);
    }
}
