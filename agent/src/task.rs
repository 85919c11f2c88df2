//! The steps that give a task its network and take it away, and nothing else.
//!
//! Every step is idempotent, so that a task which was interrupted anywhere can be set up or torn
//! down again. What the steps do is in the modules that they call.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, task::block_in_place};

use crate::{
    api::{Operation, Step},
    config::{ConntrackConfig, FlowRecordConfig},
    datapath::{self, Datapath, DatapathError},
    eni_link::{self, EniLinkError},
    eni_settings::EniSettings,
    fabric::FabricError,
    flows::{Exporter, FlowLogError, Identities, Identity},
    ipv6_conf,
    link::{Link, Mac, VethEnd, VethPair},
    netlink::{Netlink, NetlinkError},
    netns::{Netns, NetnsError, Origin, Traveller},
    netns_number::NetnsNumbers,
    plug::{PlugError, Plugs, Wanted},
    policies::{PolicyError, Unsettled},
    progress::{Events, Progress},
    provider::{Eni, Provider, ProviderError},
    server::causes,
    services::{Rate, Services, Tenants},
    settling::Settling,
    spare_netns::SpareNetns,
    sysctl::SysctlError,
    task_files::{Folders, TaskFileError, TaskFiles},
    task_network::{self, Found, TaskNetwork, TaskNetworkError},
    task_record::TaskRecord,
};

/// What the name of a namespace begins with that the agent makes, before a dash and the task's id.
pub(crate) const NETNS_PREFIX: &str = "branchline";

/// How many tasks are set up at once: most of the time they wait for one lock of the kernel's.
pub(crate) const SET_UPS: usize = 4;

/// What the steps work on.
pub struct Host {
    /// A socket in the host's namespace.
    pub netlink: Netlink,
    /// Namespaces for tasks to come.
    pub spare_netns: SpareNetns,
    /// For namespaces that tasks come with.
    pub netns_numbers: Arc<NetnsNumbers>,
    /// Turns for set-ups, [`SET_UPS`] at first.
    pub set_ups: Semaphore,
    /// Who hands out ENIs.
    pub provider: Box<dyn Provider>,
    /// The data plane.
    pub datapath: Arc<Mutex<Datapath>>,
    /// What is plugged into it.
    pub plugs: Arc<Mutex<Plugs>>,
    /// What changes of its policies leave over.
    pub settling: Settling,
    /// What writes its flow records.
    pub exporter: Exporter,
    /// Whose records a slot's are.
    pub identities: Identities,
    /// This host's own services.
    pub services: Services,
    /// Who is who to them.
    pub tenants: Tenants,
    /// How often a task may ask for its metadata.
    pub metadata_rate: Rate,
    /// Where tasks' files are.
    pub folders: Folders,
    /// MTU of every task, in bytes.
    pub mtu: u32,
    /// How long the link of an attached ENI is waited for.
    pub link_deadline: Duration,
    /// What ENIs have unless their tasks say otherwise.
    pub conntrack: ConntrackConfig,
    /// What flow records say of every ENI.
    pub records: FlowRecordConfig,
    /// Whoever wants to know how tasks get on.
    pub events: Events,
}

impl Host {
    /// What is plugged in, for one caller.
    pub fn plugs(&self) -> MutexGuard<'_, Plugs> {
        self.plugs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which step failed. The steps before it have been undone.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The provider.
    #[error("attach the ENI {eni_id}")]
    Attach {
        /// The ENI.
        eni_id: String,
        /// Why.
        source: ProviderError,
    },
    /// The link of an ENI that has one of its own.
    #[error("use the link of the ENI {eni_id}")]
    EniLink {
        /// The ENI.
        eni_id: String,
        /// Why.
        source: EniLinkError,
    },
    /// The namespace.
    #[error("prepare the network namespace {}", path.display())]
    Netns {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: NetnsError,
    },
    /// The namespace that was handed in is the host's.
    #[error("the network namespace that was handed in is the host's own")]
    HostNetns,
    /// The veth or the filter on it.
    #[error("connect the task")]
    Netlink(#[from] NetlinkError),
    /// The host's end.
    #[error("prepare the host's end of the veth")]
    HostEnd(#[source] SysctlError),
    /// The inside of the namespace.
    #[error("configure the link in the task's namespace")]
    Inside(#[from] TaskNetworkError),
    /// The maps.
    #[error("put the ENI into the data plane")]
    Plug(#[from] PlugError),
    /// The program.
    #[error("attach the branch's program")]
    Program(#[from] DatapathError),
    /// The task's files.
    #[error(transparent)]
    Files(#[from] TaskFileError),
    /// The host's services.
    #[error("mend the host's services")]
    Services(#[from] FabricError),
}

/// What one step of taking a network away could not do. The others were still tried.
#[derive(Debug, thiserror::Error)]
pub enum TearDownError {
    /// The veth.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The maps.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The policies that trust the ENI's addresses.
    #[error("take the ENI's addresses out of the security groups")]
    Policy(#[from] PolicyError),
    /// The flow records.
    #[error("keep the task's flow records")]
    Flows(#[from] FlowLogError),
    /// The namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The task's files.
    #[error(transparent)]
    Files(#[from] TaskFileError),
    /// The link of an ENI that has one of its own.
    #[error("let go of the ENI's link")]
    EniLink(#[from] EniLinkError),
    /// The provider.
    #[error("release the ENI")]
    Release(#[source] ProviderError),
}

/// Gives a task its network. Policy is in force before the link goes up, so before the first
/// packet. Returns the host's end of its veth.
///
/// # Errors
/// Names the step that failed. What was done stays for [`tear_down`].
pub async fn set_up(host: &Host, task: &TaskRecord) -> Result<Link, SetUpError> {
    let progress = Progress::new(&host.events, &task.spec.task_id, Operation::Add);
    let attach = attach(host, &task.eni);
    progress.long_step(Step::AttachEni, attach).await?;
    // It is never closed.
    let _turn = host.set_ups.acquire().await.ok();
    let (link, inside) = match block_in_place(|| set_up_here(host, task)) {
        Ok((link, inside)) => (Ok(link), Some(inside)),
        Err(error) => (Err(error), None),
    };
    // Not before: the kernel's locks are this task's until then.
    host.spare_netns.replace(inside);
    link
}

/// All that the kernel does; none of it waits for anybody else, so one thread does it in one go: first in the task's
/// namespace, then in the host's. Returns the host's end, and the socket in the task's namespace.
fn set_up_here(host: &Host, task: &TaskRecord) -> Result<(Link, Netlink), SetUpError> {
    let progress = Progress::new(&host.events, &task.spec.task_id, Operation::Add);
    let made = Traveller::and_back(host.netlink.netns(), |traveller| {
        let (inside, netns) =
            progress.step(Step::Namespace, || namespace(host, task, traveller))?;
        let (link, veth) = progress.step(Step::Veth, || connect(host, task, &inside))?;
        let found = match (link.peer_index, veth, netns) {
            (Some(far), Origin::Created, Origin::Created) => Found::NewNetns(far),
            (Some(far), Origin::Created, Origin::Existing) => Found::NewLink(far),
            _ => Found::Unknown,
        };
        let far = progress.step(Step::Inside, || configure(host, task, &inside, found))?;
        Ok::<_, SetUpError>((inside, link, far))
    });
    let (inside, link, far) = made?;
    progress.step(Step::HostEnd, || quiet(host, &link))?;
    progress.step(Step::Plug, || {
        Ok::<_, SetUpError>(plug(host, task, link.index)?)
    })?;
    progress.step(Step::Program, || program(host, link.index))?;
    progress.step(Step::LinkUp, || {
        Ok::<_, SetUpError>(host.netlink.set_up(link.index, true)?)
    })?;
    // The kernel needs a moment until the link sends; the task does not run yet.
    progress.step(Step::Services, || {
        Ok::<_, SetUpError>(join_services(host, task)?)
    })?;
    progress.step(Step::Files, || Ok::<_, SetUpError>(write_files(task)?))?;
    progress.step(Step::Carrier, || carrier(task, &inside, far))?;
    Ok((link, inside))
}

/// Takes a task's network away; what is gone already is success. Goes on past errors and returns
/// them all.
pub async fn tear_down(host: &Host, task: &TaskRecord) -> Vec<TearDownError> {
    let eni = &task.eni;
    let progress = Progress::new(&host.events, &task.spec.task_id, Operation::Remove);
    let release = async {
        block_in_place(|| eni_link::let_go(host, eni))?;
        let released = host.provider.release(eni).await;
        released.map_err(TearDownError::Release)
    };
    let here = block_in_place(|| {
        [
            progress.step(Step::Distrust, || distrust(host, eni)),
            progress.step(Step::Disconnect, || remove_veth(&host.netlink, task)),
            progress.step(Step::RemoveNamespace, || remove_netns(task)),
            progress.step(Step::RemoveFiles, || remove_files(task)),
            progress.step(Step::LeaveServices, || leave_services(host, task)),
        ]
    });
    let then = [
        progress.long_step(Step::Unplug, unplug(host, eni)).await,
        progress.long_step(Step::Release, release).await,
    ];
    let results = here.into_iter().chain(then);
    results.filter_map(Result::err).collect()
}

/// Removes a task's veth, its files and, if it is its own, its namespace, and switches its ENI's own link off: the part
/// of [`tear_down`] that needs no agent.
pub fn disconnect(host: &Netlink, task: &TaskRecord) -> Vec<TearDownError> {
    let results = [
        remove_veth(host, task),
        eni_link::switch_off(host, &task.eni).map_err(TearDownError::from),
        remove_netns(task),
        remove_files(task),
    ];
    results.into_iter().filter_map(Result::err).collect()
}

/// The host's end of a task that is wanted and there: its namespace, and the link into it, which is
/// up if every step before was done. The steps after it every start does again.
pub fn link_in_use(host: &Host, task: &TaskRecord) -> Option<Link> {
    let link = host.netlink.link_named(&task.host_link).ok()??;
    let is_done = task.is_attached() || (task.is_on_its_way() && link.up);
    (is_done && Netns::open(&task.netns).is_ok()).then_some(link)
}

async fn attach(host: &Host, eni: &Eni) -> Result<(), SetUpError> {
    let attached = host.provider.attach(eni).await;
    let eni_id = || eni.eni_id.clone();
    attached.map_err(|source| SetUpError::Attach {
        eni_id: eni_id(),
        source,
    })?;
    let there = eni_link::wait_for(host, eni).await;
    there.map_err(|source| SetUpError::EniLink {
        eni_id: eni_id(),
        source,
    })
}

fn remove_veth(host: &Netlink, task: &TaskRecord) -> Result<(), TearDownError> {
    host.delete_link_named(&task.host_link)?;
    Ok(())
}

fn remove_netns(task: &TaskRecord) -> Result<(), TearDownError> {
    if task.owned_netns {
        Netns::remove(&task.netns)?;
    }
    Ok(())
}

pub(crate) fn configure(
    host: &Host,
    task: &TaskRecord,
    inside: &Netlink,
    found: Found,
) -> Result<u32, SetUpError> {
    let link = task_network::configure(inside, &network(host, task), found)?;
    task_network::set_controls(inside, &task.spec.system_controls)?;
    Ok(link)
}

fn program(host: &Host, link: u32) -> Result<(), SetUpError> {
    datapath::attach_branch(&host.datapath, &host.netlink, link)?;
    Ok(())
}

/// The host's services answer the task from now on. Idempotent.
///
/// # Errors
/// The kernel's answer.
pub fn join_services(host: &Host, task: &TaskRecord) -> Result<(), NetlinkError> {
    host.tenants
        .insert(task, host.metadata_rate, std::time::Instant::now());
    host.services.know(&task.eni)
}

fn leave_services(host: &Host, task: &TaskRecord) -> Result<(), TearDownError> {
    host.tenants.remove(task);
    host.services.forget(&task.eni)?;
    Ok(())
}

/// Writes the task's files. Idempotent.
///
/// # Errors
/// Names the file.
pub fn write_files(task: &TaskRecord) -> Result<(), TaskFileError> {
    task.files.write(&TaskFiles::of(&task.dns, &task.eni))
}

fn remove_files(task: &TaskRecord) -> Result<(), TearDownError> {
    task.files.remove()?;
    Ok(())
}

pub(crate) fn carrier(task: &TaskRecord, inside: &Netlink, link: u32) -> Result<(), SetUpError> {
    inside.wait_until_sending(link)?;
    if let Some(address) = task.eni.ipv6 {
        inside.wait_until_local(address.addr().into())?;
    }
    Ok(())
}

/// A socket in the task's namespace, which is made if it is its own and none waits; `traveller` may be in it then.
fn namespace(
    host: &Host,
    task: &TaskRecord,
    traveller: &Traveller,
) -> Result<(Netlink, Origin), SetUpError> {
    let path = task.netns.as_path();
    let failed = |source| SetUpError::Netns {
        path: path.to_owned(),
        source,
    };
    if task.owned_netns && Netns::make_way(path).map_err(failed)? {
        let new = match host.spare_netns.take() {
            Some(spare) => spare,
            None => host.spare_netns.make(traveller, path)?,
        };
        return Ok((new.bind_to(path).map_err(failed)?, Origin::Created));
    }
    let netns = traveller.open(path).map_err(failed)?;
    let hosts = host.netlink.netns().id().map_err(failed)?;
    if !task.owned_netns && netns.id().map_err(failed)? == hosts {
        return Err(SetUpError::HostNetns);
    }
    host.netns_numbers.give(&netns);
    Ok((Netlink::inside(netns)?, Origin::Existing))
}

pub(crate) fn connect(
    host: &Host,
    task: &TaskRecord,
    inside: &Netlink,
) -> Result<(Link, Origin), SetUpError> {
    let mac = task.eni.mac.0;
    let pair = VethPair {
        near: VethEnd {
            name: task.host_link.clone(),
            mac: Some(host_mac(mac)),
        },
        far: VethEnd {
            name: task.spec.link_name.to_string(),
            mac: Some(Mac(mac)),
        },
        mtu: host.mtu,
    };
    Ok(host.netlink.ensure_veth(&pair, inside)?)
}

/// The host's end has a MAC address of its own, which nothing ever sends to. It is set so that
/// udev leaves it alone.
fn host_mac(eni: [u8; 6]) -> Mac {
    let [_, b, c, d, e, f] = eni;
    Mac([0x06, b, c, d, e, f])
}

/// The host's stack has no part in a branch: no IPv6 of its own speaks there.
pub(crate) fn quiet(host: &Host, link: &Link) -> Result<(), SetUpError> {
    ipv6_conf::without_ipv6(host.netlink.netns(), &link.name).map_err(SetUpError::HostEnd)
}

/// What the task finds in its namespace.
pub(crate) fn network(host: &Host, task: &TaskRecord) -> TaskNetwork {
    TaskNetwork::of(&task.spec.link_name, &task.eni, host.mtu)
}

/// Puts the ENI into the data plane with the rules of its groups.
///
/// # Errors
/// As [`Plugs::plug`].
pub fn plug(host: &Host, task: &TaskRecord, branch_ifindex: u32) -> Result<(), PlugError> {
    let attributes = task.spec.network_interface_attributes();
    let settings = EniSettings::resolve(&host.conntrack, attributes);
    let wanted = Wanted {
        eni: &task.eni,
        settings: &settings,
        has_dns: task.dns.has_resolver,
        branch_ifindex,
    };
    let plugged = host.plugs().plug(&host.datapath, wanted);
    let (slot, unsettled) = plugged?;
    settle(host, unsettled);
    host.identities
        .insert(slot, Identity::of(task, &host.records));
    Ok(())
}

/// From now on nobody trusts the ENI's addresses for its groups' sake.
fn distrust(host: &Host, eni: &Eni) -> Result<(), TearDownError> {
    let unsettled = host.plugs().distrust(&host.datapath, &eni.eni_id)?;
    settle(host, unsettled);
    Ok(())
}

/// Sees to what a change of policies leaves over, in the background: it waits for programs that
/// still run. One at a time does, for all that is left over meanwhile.
pub fn settle(host: &Host, unsettled: Unsettled) {
    let settling = host.settling.clone();
    if !settling.add(unsettled) {
        return;
    }
    let (plugs, datapath) = (Arc::clone(&host.plugs), Arc::clone(&host.datapath));
    tokio::task::spawn_blocking(move || {
        while let Some(unsettled) = settling.take() {
            settle_now(&plugs, &datapath, &unsettled);
        }
    });
}

fn settle_now(plugs: &Mutex<Plugs>, datapath: &Mutex<Datapath>, unsettled: &Unsettled) {
    let settled = datapath::grace_period().and_then(|()| {
        let mut plugs = plugs.lock().unwrap_or_else(PoisonError::into_inner);
        plugs
            .policies_mut()
            .settle(&mut datapath::lock(datapath), unsettled)
    });
    match settled {
        Ok(0) => {}
        Ok(ended) => tracing::info!(ended, "connections that no rule allows any more ended"),
        Err(error) => tracing::warn!(error = causes(&error), "settle a change of policies"),
    }
}

/// Takes the ENI out of the data plane. Its counts are kept for the flow log before the maps
/// forget them.
async fn unplug(host: &Host, eni: &Eni) -> Result<(), TearDownError> {
    let unplugged = host.plugs().unplug(&host.datapath, &eni.eni_id);
    let Some(slot) = unplugged? else {
        return Ok(());
    };
    host.exporter.retire(slot).await?;
    let unsettled = host.plugs().free(slot);
    settle(host, unsettled);
    Ok(())
}

/// The namespace that a task has: its own by name, or the one that was handed in.
#[must_use]
pub fn netns_path(netns_dir: &Path, task_id: &str, handed_in: Option<&PathBuf>) -> PathBuf {
    match handed_in {
        Some(path) => path.clone(),
        None => netns_dir.join(format!("{NETNS_PREFIX}-{task_id}")),
    }
}
