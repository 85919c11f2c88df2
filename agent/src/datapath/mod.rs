//! The kernel programs and their maps: load, pin, fill, read.
//!
//! The maps are pinned, so that they and what they count outlive the agent; a start loads this
//! build's programs over them. It decides nothing about tasks and writes no netlink: `attach`
//! says where programs go, `agent` when.

mod attach;

mod clock;

mod drops;

mod flow_tables;

pub use attach::{
    BRANCH_BLOCK, TrunkAttachment, attach_branch, attach_fabric, attach_trunk, replace_branches,
};
pub use clock::Clock;
pub use flow_tables::{Entry, FlowTables};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader, TestRunOptions,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, lpm_trie},
    programs::{ProgramError, SchedClassifier, TestRun},
};
use branchline_common::{
    conntrack::Connection,
    fabric::Route,
    flow::{Address, FlowKey},
    maps::{
        Control, Counters, Endpoint, Eni, FragmentFate, LAYOUT_VERSION, PeerKey, PortKey, Row,
        SWEEP_KEYS, SweepRequest, control, name,
    },
    memory::Rules,
    security_group::RuleSet,
};
use zerocopy::IntoBytes;

/// The kernel programs, compiled by `cargo xtask build`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("BRANCHLINE_OBJECT"));

/// Names of the programs in [`OBJECT`].
pub mod program {
    /// On a trunk's ingress.
    pub const TRUNK_INGRESS: &str = "trunk_ingress";
    /// On the ingress of every branch's host side.
    pub const BRANCH_EGRESS: &str = "branch_egress";
    /// On the ingress of the trunk's far end.
    pub const FABRIC: &str = "fabric";
    /// On the egress of the trunk's far end.
    pub const FABRIC_GATEWAY: &str = "fabric_gateway";
    /// Run by the agent to remove entries.
    pub const SWEEP: &str = "sweep";
    /// Run by the agent to read the maps' clock.
    pub const CLOCK: &str = "clock";
    /// Run by the bench.
    pub const EMPTY: &str = "empty";

    /// All of them.
    pub const ALL: [&str; 7] = [
        TRUNK_INGRESS,
        BRANCH_EGRESS,
        FABRIC,
        FABRIC_GATEWAY,
        SWEEP,
        CLOCK,
        EMPTY,
    ];
}

/// Seconds for which a first fragment's fate is remembered (`ipfrag_time` of Linux).
const FRAGMENT_SECONDS: u32 = 30;

/// Why the data plane cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The folder of the pins cannot be used.
    #[error("make {} for pinned maps; is a bpffs mounted at its top? (mount -t bpf bpf /sys/fs/bpf)", path.display())]
    Pins {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another version's maps are pinned.
    #[error(
        "{} holds maps of another version of branchline and this one has layout {LAYOUT_VERSION}; \
         run the version that made them, or `branchline purge` with it first",
        path.display()
    )]
    Layout {
        /// The other version's folder.
        path: PathBuf,
    },
    /// The object does not load.
    #[error("load the kernel programs")]
    Load(#[source] Box<EbpfError>),
    /// A program does not load or run.
    #[error("{attempt} the kernel program {program}")]
    Program {
        /// What was attempted.
        attempt: &'static str,
        /// Its name.
        program: &'static str,
        /// Why.
        source: Box<ProgramError>,
    },
    /// The object has no such map or program, or one of another type.
    #[error("the kernel object has no {0} of the expected type; rebuild with `cargo xtask build`")]
    Missing(&'static str),
    /// A map cannot be read or written.
    #[error("{attempt} the map {map}")]
    Map {
        /// What was attempted.
        attempt: &'static str,
        /// Its name.
        map: &'static str,
        /// Why.
        source: Box<MapError>,
    },
    /// A link on bpffs cannot be pinned or read.
    #[error("{attempt} {}", path.display())]
    Pin {
        /// What was attempted.
        attempt: &'static str,
        /// The pin.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A filter cannot be attached.
    #[error(transparent)]
    Netlink(#[from] crate::netlink::NetlinkError),
    /// A namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] crate::netns::NetnsError),
    /// The kernel's clock makes no sense.
    #[error("the kernel's clock runs at {ticks} ticks in {millis} ms, which no known HZ explains")]
    Clock {
        /// Ticks seen.
        ticks: u32,
        /// Time they took.
        millis: u64,
    },
}

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
    addresses: HashMap<MapData, Address, u32>,
    routes: lpm_trie::LpmTrie<MapData, Address, Route>,
    peers: lpm_trie::LpmTrie<MapData, PeerKey, RuleSet>,
    ports: lpm_trie::LpmTrie<MapData, PortKey, RuleSet>,
    connections: HashMap<MapData, FlowKey, Connection>,
    rows: HashMap<MapData, FlowKey, Row>,
    fragments: HashMap<MapData, FlowKey, FragmentFate>,
    counters: PerCpuArray<MapData, Counters>,
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
        let pins = settings.pins.as_deref().map(map_pins).transpose()?;
        let mut ebpf = load_object(settings, pins.as_deref())?;
        for program in program::ALL {
            classifier(&mut ebpf, program)?
                .load()
                .map_err(|source| program_error("load", program, source))?;
        }
        let clock = Clock::measure(classifier(&mut ebpf, program::CLOCK)?)?;
        let mut datapath = Self {
            clock,
            flow_tables: FlowTables::open(&ebpf)?,
            pins: settings.pins.clone(),
            control: map(&mut ebpf, name::CONTROL)?,
            enis: map(&mut ebpf, name::ENIS)?,
            endpoints: map(&mut ebpf, name::ENDPOINTS)?,
            branches: map(&mut ebpf, name::BRANCHES)?,
            addresses: map(&mut ebpf, name::ADDRESSES)?,
            routes: map(&mut ebpf, name::ROUTES)?,
            peers: map(&mut ebpf, name::PEERS)?,
            ports: map(&mut ebpf, name::PORTS)?,
            connections: map(&mut ebpf, name::CONNECTIONS)?,
            rows: map(&mut ebpf, name::ROWS)?,
            fragments: map(&mut ebpf, name::FRAGMENTS)?,
            counters: map(&mut ebpf, name::COUNTERS)?,
            ebpf,
        };
        let ticks = datapath.clock.ticks_per_second();
        let old = datapath.control()?;
        datapath.set_control(Control {
            epoch: old.epoch.max(1),
            flags: if settings.log_drops {
                control::LOG_DROPS
            } else {
                0
            },
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

    /// Writes an ENI into its slot.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_eni(&mut self, slot: u32, eni: &Eni) -> Result<(), DatapathError> {
        self.enis
            .set(slot, eni, 0)
            .map_err(|source| map_error("write", name::ENIS, source))
    }

    /// The ENI in a slot; all zero if the slot is free.
    ///
    /// # Errors
    /// `Map`.
    pub fn eni(&self, slot: u32) -> Result<Eni, DatapathError> {
        self.enis
            .get(&slot, 0)
            .map_err(|source| map_error("read", name::ENIS, source))
    }

    /// Leads frames for `endpoint` to a slot.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_endpoint(&mut self, endpoint: Endpoint, slot: u32) -> Result<(), DatapathError> {
        self.endpoints
            .insert(endpoint, slot, 0)
            .map_err(|source| map_error("write", name::ENDPOINTS, source))
    }

    /// Says which slot's branch a link is.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_branch(&mut self, ifindex: u32, slot: u32) -> Result<(), DatapathError> {
        self.branches
            .insert(ifindex, slot, 0)
            .map_err(|source| map_error("write", name::BRANCHES, source))
    }

    /// Says which slot an address of the VPC belongs to.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_address(&mut self, address: Address, slot: u32) -> Result<(), DatapathError> {
        self.addresses
            .insert(address, slot, 0)
            .map_err(|source| map_error("write", name::ADDRESSES, source))
    }

    /// Sets a route of the VPC; `bits` count from the start of the mapped address.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_route(
        &mut self,
        address: Address,
        bits: u32,
        target: u32,
    ) -> Result<(), DatapathError> {
        self.routes
            .insert(&lpm_trie::Key::new(bits, address), Route { target }, 0)
            .map_err(|source| map_error("write", name::ROUTES, source))
    }

    /// Enters compiled rules. No ENI obeys them before [`Datapath::set_eni`] names their policy.
    ///
    /// # Errors
    /// `Map`, with a part of the rules entered.
    pub fn insert_rules(&mut self, rules: &Rules) -> Result<(), DatapathError> {
        for ((bits, key), set) in &rules.peers {
            self.peers
                .insert(&lpm_trie::Key::new(*bits, *key), set, 0)
                .map_err(|source| map_error("write", name::PEERS, source))?;
        }
        for ((bits, key), set) in &rules.ports {
            self.ports
                .insert(&lpm_trie::Key::new(*bits, *key), set, 0)
                .map_err(|source| map_error("write", name::PORTS, source))?;
        }
        Ok(())
    }

    /// Removes every rule whose policy `keep` refuses.
    ///
    /// # Errors
    /// `Map`.
    pub fn retain_policies(&mut self, keep: impl Fn(u32) -> bool) -> Result<(), DatapathError> {
        let stale: Vec<_> = keys(self.peers.keys(), name::PEERS)?
            .into_iter()
            .filter(|key| !keep(u32::from_be_bytes(key.data().policy)))
            .collect();
        for key in stale {
            gone(self.peers.remove(&key), name::PEERS)?;
        }
        let stale: Vec<_> = keys(self.ports.keys(), name::PORTS)?
            .into_iter()
            .filter(|key| !keep(u32::from_be_bytes(key.data().policy)))
            .collect();
        for key in stale {
            gone(self.ports.remove(&key), name::PORTS)?;
        }
        Ok(())
    }

    /// Takes an ENI out: no frame finds it any more. What it counted stays for
    /// [`Datapath::forget_eni`].
    ///
    /// # Errors
    /// `Map`.
    pub fn unplug_eni(&mut self, slot: u32) -> Result<(), DatapathError> {
        for key in keys_of(self.endpoints.iter(), slot, name::ENDPOINTS)? {
            gone(self.endpoints.remove(&key), name::ENDPOINTS)?;
        }
        for key in keys_of(self.branches.iter(), slot, name::BRANCHES)? {
            gone(self.branches.remove(&key), name::BRANCHES)?;
        }
        for key in keys_of(self.addresses.iter(), slot, name::ADDRESSES)? {
            gone(self.addresses.remove(&key), name::ADDRESSES)?;
        }
        Ok(())
    }

    /// Removes all that an unplugged ENI left, its connections and counts among it, and frees its
    /// slot.
    ///
    /// # Errors
    /// `Map`.
    pub fn forget_eni(&mut self, slot: u32) -> Result<(), DatapathError> {
        let is_its = |key: &FlowKey| u32::from(key.eni) == slot;
        for key in keys(self.connections.keys(), name::CONNECTIONS)?
            .iter()
            .filter(|k| is_its(k))
        {
            gone(self.connections.remove(key), name::CONNECTIONS)?;
        }
        for key in keys(self.rows.keys(), name::ROWS)?
            .iter()
            .filter(|k| is_its(k))
        {
            gone(self.rows.remove(key), name::ROWS)?;
        }
        for key in keys(self.fragments.keys(), name::FRAGMENTS)?
            .iter()
            .filter(|k| is_its(k))
        {
            gone(self.fragments.remove(key), name::FRAGMENTS)?;
        }
        let cpus = self
            .counters
            .get(&slot, 0)
            .map_err(|source| map_error("read", name::COUNTERS, source))?;
        let zero = vec![Counters::default(); cpus.len()];
        let zero = aya::maps::PerCpuValues::try_from(zero)
            .map_err(|source| map_error("write", name::COUNTERS, MapError::IoError(source)))?;
        self.counters
            .set(slot, zero, 0)
            .map_err(|source| map_error("write", name::COUNTERS, source))?;
        self.set_eni(slot, &Eni::default())
    }

    /// What all CPUs counted of an ENI; slot 0 is frames that belong to none.
    ///
    /// # Errors
    /// `Map`.
    pub fn counters(&self, slot: u32) -> Result<Counters, DatapathError> {
        let cpus = self
            .counters
            .get(&slot, 0)
            .map_err(|source| map_error("read", name::COUNTERS, source))?;
        let mut sum = Counters::default();
        for cpu in cpus.iter() {
            for (total, packets) in sum.packets.iter_mut().zip(cpu.packets) {
                *total += packets;
            }
            sum.unlogged += cpu.unlogged;
        }
        Ok(sum)
    }

    /// The connection of a key.
    ///
    /// # Errors
    /// `Map`.
    pub fn connection(&self, key: &FlowKey) -> Result<Option<Connection>, DatapathError> {
        found(self.connections.get(key, 0), name::CONNECTIONS)
    }

    /// Every connection. Those that come or go meanwhile may be in it or not.
    ///
    /// # Errors
    /// `Map`.
    pub fn connections(&self) -> Result<Vec<(FlowKey, Connection)>, DatapathError> {
        pairs(self.connections.iter(), name::CONNECTIONS)
    }

    /// Every row, as [`Datapath::connections`].
    ///
    /// # Errors
    /// `Map`.
    pub fn rows(&self) -> Result<Vec<(FlowKey, Row)>, DatapathError> {
        pairs(self.rows.iter(), name::ROWS)
    }

    /// Removes those of `keys` that are dead or written by now; returns how many were.
    ///
    /// # Errors
    /// `Program` if the kernel does not run the program.
    pub fn sweep(&mut self, keys: &[FlowKey], written_epoch: u32) -> Result<u32, DatapathError> {
        let mut removed = 0;
        for keys in keys.chunks(SWEEP_KEYS) {
            let request = SweepRequest {
                keys: keys.len() as u32,
                written_epoch,
                ..SweepRequest::default()
            };
            let mut data = request.as_bytes().to_vec();
            data.extend_from_slice(keys.as_bytes());
            let options = TestRunOptions {
                data_in: Some(&data),
                ..TestRunOptions::default()
            };
            let result = classifier(&mut self.ebpf, program::SWEEP)?
                .test_run(options)
                .map_err(|source| program_error("run", program::SWEEP, source))?;
            removed += result.return_value;
        }
        Ok(removed)
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

fn load_object(settings: &Settings, pins: Option<&Path>) -> Result<Ebpf, DatapathError> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(name::CONNECTIONS, settings.connections);
    loader.map_max_entries(name::ROWS, settings.rows);
    if let Some(pins) = pins {
        for map in name::ALL {
            loader.map_pin_path(map, pins.join(map));
        }
    }
    loader
        .load(OBJECT)
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

fn program_error(
    attempt: &'static str,
    program: &'static str,
    source: ProgramError,
) -> DatapathError {
    DatapathError::Program {
        attempt,
        program,
        source: Box::new(source),
    }
}

fn map_error(attempt: &'static str, map: &'static str, source: MapError) -> DatapathError {
    DatapathError::Map {
        attempt,
        map,
        source: Box::new(source),
    }
}

/// A removal, for which "already gone" is success.
fn gone(result: Result<(), MapError>, map: &'static str) -> Result<(), DatapathError> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        Err(source) => Err(map_error("remove an entry of", map, source)),
    }
}

fn found<T>(result: Result<T, MapError>, map: &'static str) -> Result<Option<T>, DatapathError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(source) => Err(map_error("read", map, source)),
    }
}

fn keys<K>(
    keys: impl Iterator<Item = Result<K, MapError>>,
    map: &'static str,
) -> Result<Vec<K>, DatapathError> {
    keys.collect::<Result<_, _>>()
        .map_err(|source| map_error("list", map, source))
}

fn pairs<K, V>(
    pairs: impl Iterator<Item = Result<(K, V), MapError>>,
    map: &'static str,
) -> Result<Vec<(K, V)>, DatapathError> {
    pairs
        .collect::<Result<_, _>>()
        .map_err(|source| map_error("list", map, source))
}

fn keys_of<K>(
    entries: impl Iterator<Item = Result<(K, u32), MapError>>,
    slot: u32,
    map: &'static str,
) -> Result<Vec<K>, DatapathError> {
    let entries = pairs(entries, map)?;
    Ok(entries
        .into_iter()
        .filter(|(_, of)| *of == slot)
        .map(|(key, _)| key)
        .collect())
}

#[cfg(test)]
mod tests {
    use branchline_common::maps;

    #[test]
    fn map_sizes_are_those_that_the_object_declares() {
        // The agent's defaults and the object's declarations are one fact in common.
        assert_eq!(
            crate::config::Config::default().conntrack_max_entries,
            maps::CONNECTIONS
        );
        assert_eq!(crate::config::Config::default().flow_rows_max, maps::ROWS);
    }
}
