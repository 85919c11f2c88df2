//! The agent: brings the host into the wanted state, then answers requests until it is told to
//! stop.
//!
//! It joins the modules and holds no logic of theirs. What is wanted is in the store before it is
//! done, so an agent that was killed anywhere goes on from there.

mod answers;

mod care;

mod checks;

mod explanation;

mod host;

mod in_step;

mod leftovers;

mod life_cycle;

mod nat_table;

mod networks;

mod observation;

mod opened;

mod purge;

mod requests;

mod security_groups;

mod task_groups;

mod warm_pool;

pub use purge::purge;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::{Duration, Instant},
};

use answers::Resolvers;
use care::Care;
use in_step::Freshness;
use nat_table::NatTable;
use nix::unistd::geteuid;
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    task::JoinSet,
};

use crate::{
    cli::HostError,
    config::{Config, ProviderKind},
    datapath::TrunkAttachment,
    fabric::{Fabric, FabricPlan},
    fault,
    live::Live,
    metrics::Instruments,
    nat,
    provider::{local::addresses, vpc::Vpc},
    server, service,
    spec::TaskId,
    state::{RuleStore, Store, TaskStore},
    task::Host,
    task_files::Folders,
    wire::Wire,
};

/// Below bpffs, the folder of all pins.
const PINS: &str = "branchline";
/// Below `run_dir`, the folder of the stores of tasks and rules.
const RUN_STATE: &str = "state";
/// Below `state_dir`, the folder of the spool.
const SPOOL: &str = "spool";
/// Name of the fabric's namespace.
const FABRIC_NETNS: &str = "branchline-fabric";
/// Name of the services' namespace.
const SERVICES_NETNS: &str = "branchline-services";
/// Below `run_dir`, the folder of the tasks' files.
const TASK_FILES: &str = "tasks";
/// The store's fact: forwarding settings as they were before the agent changed them.
const FORWARDING_FACT: &str = "host_forwarding";
/// The store's fact: what was last read of EC2.
const EC2_FACT: &str = "ec2";

/// A running agent.
pub struct Agent {
    config: Config,
    store: Arc<Store>,
    tasks: Arc<TaskStore>,
    host: Arc<Host>,
    /// The trunk; `None` where each task's ENI has a link of its own.
    wire: Option<Wire>,
    trunk_attachment: TrunkAttachment,
    /// The host's table, where the configuration asks for a NAT gateway.
    host_nat: Option<NatTable>,
    started: Instant,
    instruments: Instruments,
    live: Live,
    /// Held from the choice of an ENI until it is stored, and while groups change.
    allocation: AsyncMutex<()>,
    /// One request at a time for each task.
    busy: Mutex<HashMap<TaskId, Arc<AsyncMutex<()>>>>,
    /// Told when something of a task could not be removed.
    left: Notify,
    care: Care,
    resolvers: Resolvers,
    freshness: Mutex<Freshness>,
    /// Grows with each change of a task's groups that is made here, as it begins and as it ends.
    group_changes: AtomicU64,
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// What kept it from starting, or from stopping cleanly.
pub async fn run(config: Config) -> Result<(), HostError> {
    if fault::IS_COMPILED_IN {
        tracing::warn!("a build for tests: it has fault points");
    }
    let store = Arc::new(Store::open(&config.state_dir)?);
    let tasks = Arc::new(TaskStore::open(&run_state(&config))?);
    let rules = Arc::new(RuleStore::open(&run_state(&config))?);
    let socket = config.socket();
    let readers = config.api.readers()?;
    let listener = server::bind(&socket, readers)?;
    let metrics = match config.metrics.listen {
        Some(address) => Some(server::bind_metrics(address).await?),
        None => None,
    };
    let agent = Arc::new(Agent::start(config, store, tasks, rules).await?);
    let mut beside = JoinSet::new();
    if let Some(listener) = metrics {
        let agent = Arc::clone(&agent);
        beside.spawn(async move { server::serve_metrics(listener, agent).await });
    }
    let (asked, alive) = (socket.clone(), Arc::clone(&agent));
    beside.spawn(async move {
        service::keep_alive(&asked, alive.as_ref()).await;
        Ok(())
    });
    tokio::spawn(Arc::clone(&agent).retry_removals());
    tokio::spawn(Arc::clone(&agent).finish_group_changes());
    if agent.config.provider == ProviderKind::Ec2 {
        let interval = agent.config.ec2.poll();
        tokio::spawn(Arc::clone(&agent).keep_in_step(interval));
        tokio::spawn(Arc::clone(&agent).keep_pool());
    }
    if agent.config.mend {
        tokio::spawn(Arc::clone(&agent).look_after());
    }
    tokio::spawn(Arc::clone(&agent).look_at_nat());
    tracing::info!(socket = %socket.display(), "ready");
    service::ready(&service::Parts::summary(agent.as_ref()));
    let access = server::Access::root(readers).with_agent(geteuid().as_raw());
    server::serve(
        listener,
        &socket,
        Arc::clone(&agent),
        access,
        stop_signal()?,
    )
    .await?;
    agent.stop().await
}

impl Agent {
    /// The embedded VPC, where that carries the trunk.
    fn fabric(&self) -> Option<&Fabric> {
        self.wire.as_ref()?.fabric.as_ref()
    }
}

impl service::Parts for Agent {
    fn silence(&self) -> Duration {
        self.host.exporter.silence()
    }

    fn summary(&self) -> String {
        let tasks = self.tasks.table().live().count();
        format!("{tasks} tasks of at most {}", self.config.max_enis)
    }
}

/// The local VPC's fabric as configuration and VPC file want it.
fn fabric_plan(config: &Config, vpc: &Vpc) -> FabricPlan {
    FabricPlan {
        netns_path: fabric_netns(config),
        trunk_mtu: config.mtu,
        router_mac: crate::link::Mac(addresses::ROUTER_MAC.0),
        vpc_cidrs: vpc.cidrs(),
        uplink_ipv4: config.local.uplink_ipv4,
        uplink_ipv6: config.local.uplink_ipv6,
        uplink: config.local.uplink,
        nat_gateway: config.local.nat_gateway,
    }
}

fn fabric_netns(config: &Config) -> PathBuf {
    config.netns_dir.join(FABRIC_NETNS)
}

fn services_netns(config: &Config) -> PathBuf {
    config.netns_dir.join(SERVICES_NETNS)
}

/// Where tasks' files are.
fn folders(config: &Config) -> Folders {
    Folders {
        netns: config.netns_dir.clone(),
        etc_netns: config.etc_netns_dir.clone(),
        tasks: config.run_dir.join(TASK_FILES),
    }
}

/// The folder of what is known of tasks and rules; a reboot empties it.
fn run_state(config: &Config) -> PathBuf {
    config.run_dir.join(RUN_STATE)
}

fn pins(config: &Config) -> PathBuf {
    config.bpffs_dir.join(PINS)
}

/// What the host's own table and forwarding were before.
fn previous_forwarding(store: &Store) -> Result<Option<nat::PreviousForwarding>, HostError> {
    Ok(store.fact(FORWARDING_FACT)?)
}

fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        service::stopping();
        tracing::info!("stopping; programs stay in force");
    })
}
