//! What branchline could leave on a host: links, namespaces, addresses, kernel settings,
//! nftables, pins, and entries of pinned maps.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context, Result};
use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, lpm_trie::LpmTrie},
};
use branchline::{netlink::Netlink, netns::Netns};
use branchline_common::{
    conntrack::Connection,
    fabric::Route,
    flow::{Address, FlowKey},
    maps::{Counters, Endpoint, Eni, FragmentFate, Row, name},
};

use crate::{host::Host, settings::ETC_NETNS};

/// Folders of tasks' files.
const TASK_FILES: [&str; 2] = [ETC_NETNS, "/run/branchline/tasks"];
const SERVICES_NETNS: &str = "/run/netns/branchline-services";
const BPFFS: &str = "/sys/fs/bpf";
/// Folders of settings that a host with forwarding changes.
const SETTINGS: [&str; 4] = [
    "/proc/sys/net/ipv4",
    "/proc/sys/net/ipv4/conf",
    "/proc/sys/net/ipv6/conf",
    "/proc/sys/net/core",
];

/// What lies on a host, one line each, by kind. Two that are equal print equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces(BTreeMap<&'static str, Vec<String>>);

impl Traces {
    /// Everything.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn of(host: &Host) -> Result<Self> {
        let mut traces = Self::outside_maps(host)?;
        traces.0.insert("map entries", host.run(map_entries)?);
        Ok(traces)
    }

    /// Everything but map entries, of which there are none once the pins are gone.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn outside_maps(host: &Host) -> Result<Self> {
        let netlink = Netlink::open(host.netns())?;
        let links = netlink.links()?;
        let links = links.into_iter().map(|link| link.name).collect();
        let addresses = lines(netlink.addresses()?);
        let routes = lines(netlink.routes()?);
        let known = known_to_services(host)?;
        host.run(|| {
            let mut files = Vec::new();
            for folder in TASK_FILES.map(Path::new) {
                if folder.exists() {
                    files.extend(tree(folder)?);
                }
            }
            Ok(Self(BTreeMap::from([
                ("task files", files),
                ("services", known),
                ("links", links),
                ("addresses", addresses),
                ("routes", routes),
                ("namespaces", tree(Path::new("/run/netns"))?),
                ("pins", tree(Path::new(BPFFS))?),
                ("settings", settings()),
                ("nftables", nftables()?),
            ])))
        })
    }

    /// What `self` has more than `before`, and what it lacks; empty if nothing differs.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (kind, now) in &self.0 {
            let then = before.0.get(kind).map(Vec::as_slice).unwrap_or_default();
            let more = now.iter().filter(|line| !then.contains(line));
            differences.extend(more.map(|line| format!("{kind}: + {line}")));
            let less = then.iter().filter(|line| !now.contains(line));
            differences.extend(less.map(|line| format!("{kind}: - {line}")));
        }
        differences
    }
}

/// Whom the host's services know.
fn known_to_services(host: &Host) -> Result<Vec<String>> {
    let netns = host.run(|| {
        let path = Path::new(SERVICES_NETNS);
        path.exists().then(|| Netns::open(path)).transpose()
    })?;
    let Some(netns) = netns else {
        return Ok(Vec::new());
    };
    let neighbours = Netlink::open(&netns)?.permanent_neighbours()?;
    Ok(lines(neighbours))
}

fn lines<T: std::fmt::Debug>(things: Vec<T>) -> Vec<String> {
    things.iter().map(|thing| format!("{thing:?}")).collect()
}

fn tree(folder: &Path) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        paths.push(entry.path().display().to_string());
        if entry.file_type()?.is_dir() {
            paths.extend(tree(&entry.path())?);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Every kernel setting that can be read.
fn settings() -> Vec<String> {
    let mut settings = Vec::new();
    for folder in SETTINGS {
        read_settings(Path::new(folder), &mut settings);
    }
    settings.sort();
    settings.dedup();
    settings
}

fn read_settings(folder: &Path, settings: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && folder.ends_with("conf") {
            read_settings(&path, settings);
        } else if let Ok(value) = fs::read_to_string(&path) {
            settings.push(format!("{} = {}", path.display(), value.trim()));
        }
    }
}

fn nftables() -> Result<Vec<String>> {
    let output = Command::new("nft").args(["list", "ruleset"]).output();
    let output = output.context("start nft")?;
    let rules = String::from_utf8(output.stdout)?;
    Ok(rules.lines().map(str::to_owned).collect())
}

/// Keys of all hashes and tries, and indices of array entries that are not empty; but not compiled
/// policies, which stay where they are until others take their place. The entry 0 of the counters
/// is what belongs to no ENI.
fn map_entries() -> Result<Vec<String>> {
    let mut entries = Vec::new();
    keys::<Endpoint, u32>(name::ENDPOINTS, &mut entries)?;
    keys::<u32, u32>(name::BRANCHES, &mut entries)?;
    keys::<Address, u32>(name::ADDRESSES, &mut entries)?;
    keys::<FlowKey, Connection>(name::CONNECTIONS, &mut entries)?;
    keys::<FlowKey, Row>(name::ROWS, &mut entries)?;
    keys::<FlowKey, FragmentFate>(name::FRAGMENTS, &mut entries)?;
    prefixes::<Address, Route>(name::ROUTES, &mut entries)?;
    prefixes::<Address, u32>(name::AUTO_TRACK, &mut entries)?;
    let enis: Array<_, Eni> = open(name::ENIS)?.try_into()?;
    for (slot, eni) in enis.iter().enumerate() {
        if eni? != Eni::default() {
            entries.push(format!("{} {slot}", name::ENIS));
        }
    }
    let tracked: Array<_, u64> = open(name::TRACKED)?.try_into()?;
    for (slot, connections) in tracked.iter().enumerate() {
        if connections? != 0 {
            entries.push(format!("{} {slot}", name::TRACKED));
        }
    }
    let counters: PerCpuArray<_, Counters> = open(name::COUNTERS)?.try_into()?;
    for (slot, cpus) in counters.iter().enumerate().skip(1) {
        let cpus = cpus?;
        if cpus.iter().any(|cpu| *cpu != Counters::default()) {
            entries.push(format!("{} {slot}", name::COUNTERS));
        }
    }
    entries.sort();
    Ok(entries)
}

fn keys<K: Pod + std::fmt::Debug, V: Pod>(name: &str, entries: &mut Vec<String>) -> Result<()> {
    let map: HashMap<_, K, V> = open(name)?.try_into()?;
    for key in map.keys() {
        entries.push(format!("{name} {:?}", key?));
    }
    Ok(())
}

fn prefixes<K: Pod + std::fmt::Debug, V: Pod>(name: &str, entries: &mut Vec<String>) -> Result<()> {
    let map: LpmTrie<_, K, V> = open(name)?.try_into()?;
    for key in map.keys() {
        let key = key?;
        entries.push(format!("{name} {}/{:?}", key.prefix_len(), key.data()));
    }
    Ok(())
}

fn open(name: &str) -> Result<Map> {
    let version = branchline_common::maps::LAYOUT_VERSION;
    let path = format!("{BPFFS}/branchline/maps-v{version}/{name}");
    let data = MapData::from_pin(&path).with_context(|| format!("open {path}"))?;
    Ok(Map::from_map_data(data)?)
}
