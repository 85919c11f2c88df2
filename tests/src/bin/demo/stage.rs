//! Where the story plays: a host with the agent, three tasks, and the outside.
//!
//! All of it lies in namespaces that end with this process.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use branchline::netns::Netns;
use branchline::sysctl::Sysctls;
use branchline_tests::host::Host;
use branchline_tests::outside::Outside;
use branchline_tests::settings::Settings;
use branchline_tests::task::Task;

use crate::attempts::Place;
use crate::traffic::End;

/// The VPC file.
const VPC: &str = include_str!("vpc.toml");
/// The VPC's CIDRs in it.
const VPC_CIDRS: [&str; 2] = ["10.77.0.0/16", "2001:db8:77::/56"];
/// The host's addresses on its link to the VPC: the configuration's default.
const HOST: [&str; 2] = ["169.254.77.1", "fdb1:6272:616e:6368::1"];
/// Where the agent writes its flow log, in the host's own `/run`.
const FLOWS: &str = "/run/flows";
/// Seconds, the default of VPC Flow Logs on current hosts; the stop ends the last one early.
const INTERVAL: u64 = 60;
const OUTSIDE_MTU: u32 = 1500;

/// Whether TCP sends its last segment again when an answer takes a few milliseconds. Off, so that
/// on a busy machine too as many bytes are sent as can be foretold.
const TAIL_LOSS_PROBES: &str = "net/ipv4/tcp_early_retrans";

/// Tasks with their subnet and group.
const TASKS: [(Place, &str, &str); 3] = [
    (Place::App, "subnet-apps", "sg-app"),
    (Place::Web, "subnet-services", "sg-web"),
    (Place::Db, "subnet-services", "sg-db"),
];

/// The host, with everyone on it.
pub(crate) struct Stage {
    pub(crate) host: Host,
    /// IPv4 first.
    ends: BTreeMap<Place, [End; 2]>,
    pub(crate) enis: HashMap<String, Place>,
}

impl Stage {
    /// Starts the agent and adds the tasks.
    ///
    /// # Errors
    /// What the agent says, or the kernel.
    pub(crate) fn set() -> Result<Self> {
        let settings = Settings {
            interval: INTERVAL,
            flow_log_dir: FLOWS.into(),
            vpc: VPC.to_owned(),
            ..Settings::default()
        };
        let host = Host::new("demo", settings)?;
        let outside = host.outside(OUTSIDE_MTU)?;
        host.start_agent()?;
        let mut stage = Self {
            ends: neutral_ends(&host, &outside)?,
            host,
            enis: HashMap::new(),
        };
        for cidr in VPC_CIDRS {
            // So that nothing but branchline keeps the outside out.
            outside.route_to_host(cidr.parse()?)?;
        }
        for (place, subnet, group) in TASKS {
            let task = stage.host.add_task(place.name(), &[subnet], &[group])?;
            stage.ends.insert(place, task_ends(&task)?);
            stage.enis.insert(task.eni_id, place);
        }
        Ok(stage)
    }

    /// Both families' ends of `place`, IPv4 first.
    ///
    /// # Panics
    /// Never: [`Stage::set`] has put every place on the stage.
    pub(crate) fn ends(&self, place: Place) -> &[End; 2] {
        &self.ends[&place]
    }

    /// Copies the flow-log files to `folder`, in place of what it held; returns their paths.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub(crate) fn copy_flows(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("empty {}", folder.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        // Threads that enter the host lose their working directory.
        let absolute = folder
            .canonicalize()
            .with_context(|| format!("find {}", folder.display()))?;
        let copy = || {
            let mut copies = Vec::new();
            copy_files(Path::new(FLOWS), &absolute, &mut copies)?;
            copies.sort();
            Ok::<_, std::io::Error>(copies)
        };
        self.host
            .run(copy)
            .with_context(|| format!("copy the flow log to {}", folder.display()))
    }
}

/// The ends that are no tasks.
fn neutral_ends(host: &Host, outside: &Outside) -> Result<BTreeMap<Place, [End; 2]>> {
    let host_addresses = [HOST[0].parse()?, HOST[1].parse()?];
    Ok(BTreeMap::from([
        (Place::Host, ends(host.netns(), host_addresses)?),
        (Place::Outside, ends(&outside.netns, outside.addresses())?),
    ]))
}

fn task_ends(task: &Task) -> Result<[End; 2]> {
    ends(&task.netns, task.addresses())
}

fn ends(netns: &Netns, addresses: [IpAddr; 2]) -> Result<[End; 2]> {
    Sysctls::of(netns).set(TAIL_LOSS_PROBES, "0")?;
    let netns = Arc::new(netns.try_clone()?);
    Ok(addresses.map(|address| End {
        netns: Arc::clone(&netns),
        address,
    }))
}

/// Copies every file below `from` to its place below `to`; adds where it is to `copies`.
fn copy_files(from: &Path, to: &Path, copies: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy_files(&entry.path(), &to, copies)?;
        } else {
            fs::copy(entry.path(), &to)?;
            copies.push(to);
        }
    }
    Ok(())
}
