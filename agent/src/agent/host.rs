//! The agent's start: fabric, data plane, tasks of before; and its stop.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::{Duration, Instant},
};

use branchline_common::{
    fabric::{ROUTER, target},
    maps,
};
use ipnet::IpNet;
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};

use super::{
    Agent, FORWARDING_FACT, SPOOL,
    answers::Answers,
    care::Care,
    fabric_plan, folders,
    in_step::Freshness,
    nat_table::NatTable,
    opened::{self, Carrier, Opened},
    pins, previous_forwarding,
    security_groups::applied,
    services_netns,
};
use crate::{
    address::{address, prefix},
    cli::HostError,
    config::{Config, FlowRecordConfig, ProviderKind},
    datapath::{
        Datapath, DatapathError, Settings, attach_fabric, attach_trunk, lock, replace_branches,
    },
    delivery, dns, eni_link,
    field_error::FieldError,
    flow_log::IpRanges,
    flows::{Exporter, ExporterSettings, Identities, Identity},
    life::AttachmentStatus,
    link::Link,
    live::Live,
    metrics::Instruments,
    nat::{self, HostNat},
    netlink::Netlink,
    netns::Netns,
    netns_number::NetnsNumbers,
    plug::{Plugs, Start, Trunk},
    progress::{Events, enter},
    provider::{
        Eni, Measured,
        local::{addresses, routes::nowhere},
        vpc::Vpc,
    },
    resolver::Zone,
    services::{self, Services, ServicesPlan, Tenants},
    settling::Settling,
    spare_netns::SpareNetns,
    state::{RuleStore, Store, TaskStore},
    task::{self, Host},
    task_record::TaskRecord,
    upload::Environment,
    wire::Wire,
};

impl Agent {
    /// Brings the host into the wanted state. Programs that an earlier agent left go on judging
    /// packets until this build's have taken their place, each in one step.
    pub(super) async fn start(
        config: Config,
        store: Arc<Store>,
        task_store: Arc<TaskStore>,
        rules: Arc<RuleStore>,
    ) -> Result<Self, HostError> {
        let instruments = Instruments::default();
        let Opened {
            provider,
            carrier,
            known,
        } = opened::open(&config, &store, &task_store, &instruments).await?;
        let vpc = provider.vpc();
        let ip_ranges = config.flow_records.ip_ranges.as_deref();
        let ip_ranges = ip_ranges.map(IpRanges::load).transpose()?;
        let ip_ranges = ip_ranges.unwrap_or_default();
        let netlink = Netlink::open(&Netns::host()?)?;
        Netns::prepare_folder(&config.netns_dir)?;
        let plan = fabric_plan(&config, &vpc);
        let mut datapath = load(&config)?;
        if config.log_drops {
            datapath.forward_log()?;
        }
        fill_routes(&mut datapath, &config, &vpc)?;
        let tenants = Tenants::default();
        let zone = zone(&vpc, tenants.clone());
        let services_plan = services_plan(&config, &vpc);
        let auto_track = config.conntrack.auto_track.iter();
        let auto_track: Vec<_> = auto_track.map(|network| prefix(network.get())).collect();
        datapath.set_auto_track(&auto_track)?;
        let datapath = Arc::new(Mutex::new(datapath));
        let link_deadline = config.ec2.link_deadline();
        let wire = match carrier {
            Carrier::Embedded => Some(Wire::embedded(&plan, &netlink)?),
            Carrier::Trunk(mac) => Some(Wire::of_trunk(mac, &netlink, link_deadline).await?),
            Carrier::OwnLinks => None,
        };
        let services = Services::ensure(&services_plan, &netlink)?;
        let trunk = Trunk {
            host: wire.as_ref().map_or(0, |wire| wire.index),
            fabric: wire.as_ref().map_or(0, Wire::far_index),
            services: services.host_link,
        };
        let tasks = task_store.tasks();
        check_kinds(&tasks, wire.is_some())?;
        let directory = known.directory;
        let directory = match applied(&store)? {
            // Groups of EC2 are EC2's.
            Some(applied) if config.provider == ProviderKind::Local => {
                let (directory, ignored) = applied.over(directory);
                for id in ignored {
                    tracing::warn!(id, "the VPC file has it otherwise; what was applied stays");
                }
                directory
            }
            Some(_) | None => directory,
        };
        let enis: Vec<&Eni> = tasks.iter().map(|task| &task.eni).collect();
        let start = Start {
            trunk,
            vpc_cidrs: vpc.cidrs(),
            directory,
            members: known.members,
            cut_on_revoke: config.conntrack.cut_on_revoke,
            enis: &enis,
            rules: Arc::clone(&rules),
        };
        let plugs = Plugs::restore(&lock(&datapath), start)?;
        let identities = Identities::default();
        let records = FlowRecordConfig {
            host_id: config.flow_records.host_id.clone().or_else(host_name),
            ..config.flow_records.clone()
        };
        for task in &tasks {
            if let Some(slot) = plugs.slot(&task.eni.eni_id) {
                identities.insert(slot, Identity::of(task, &records));
            }
        }
        // Before any program is attached: what an earlier agent left unwritten comes first.
        let exporter = Exporter::start(
            Arc::clone(&datapath),
            Arc::clone(&store),
            rules,
            ExporterSettings {
                spool: config.state_dir.join(SPOOL),
                records: records.clone(),
                logs: config.flow_logs.clone(),
                rules: plugs.policies().rule_book().clone(),
                traffic: instruments.traffic.clone(),
                routes: known.routes,
                ip_ranges: Arc::new(ip_ranges),
                environment: Environment::of_process(),
            },
            identities.clone(),
        )
        .await?;
        let fabric = wire.as_ref().and_then(|wire| wire.fabric.as_ref());
        if let Some(fabric) = fabric {
            attach_fabric(&datapath, &fabric.netlink, fabric.trunk)?;
        }
        if let Some(wire) = &wire {
            attach_trunk(&datapath, &netlink, &wire.name, wire.index)?;
            wire.bring_up(&netlink)?;
        }
        let (name, link) = (services::HOST_LINK, services.host_link);
        let trunk_attachment = attach_trunk(&datapath, &netlink, name, link)?;
        services.bring_up(&netlink)?;
        services.know_only(&enis)?;
        let answers = Answers::open(&services, &config, zone)?;
        let has_nat = config.local.nat_gateway && fabric.is_some();
        let host_nat = has_nat.then(|| plan.host_nat());
        if let Some(nat) = &host_nat {
            nat_gateway(nat, &netlink, &store)?;
        }
        let netns_numbers = Arc::new(NetnsNumbers::of(netlink.netns())?);
        let host = Host {
            spare_netns: SpareNetns::keep(netlink.netns(), Arc::clone(&netns_numbers))?,
            netns_numbers,
            netlink,
            set_ups: Semaphore::new(task::SET_UPS),
            provider: Box::new(Measured::new(provider, instruments.provider.clone())),
            datapath,
            plugs: Arc::new(Mutex::new(plugs)),
            settling: Settling::default(),
            exporter,
            identities,
            services,
            tenants,
            metadata_rate: config.task_metadata.rate(),
            folders: folders(&config),
            mtu: config.mtu,
            link_deadline,
            conntrack: config.conntrack.clone(),
            records,
            events: Events::timing(instruments.steps.clone()),
        };
        let groups_read = host.provider.groups_read();
        let live = Live::new(
            Arc::clone(&host.datapath),
            host.identities.clone(),
            Duration::from_secs(*delivery::INTERVAL_SECONDS.start()),
        );
        let agent = Self {
            config,
            store,
            tasks: task_store,
            host: Arc::new(host),
            wire,
            trunk_attachment,
            host_nat: host_nat.map(NatTable::applied),
            started: Instant::now(),
            instruments,
            live,
            allocation: AsyncMutex::new(()),
            busy: Mutex::new(HashMap::new()),
            left: Notify::new(),
            care: Care::default(),
            resolvers: answers.resolvers(),
            freshness: Mutex::new(Freshness::at_start(known.stale, groups_read)),
            group_changes: AtomicU64::new(0),
        };
        agent.resume(&tasks).await?;
        let places: Vec<_> = tasks.iter().map(|task| &task.files).collect();
        agent.host.folders.remove_strays(&places)?;
        // What tasks have asked meanwhile has waited in the sockets.
        answers.serve(&agent)?;
        Ok(agent)
    }

    /// Writes the last flow records and uploads what it can in a few seconds. Programs, maps and tasks stay.
    pub(super) async fn stop(&self) -> Result<(), HostError> {
        self.save_tasks();
        self.host.exporter.finish().await?;
        Ok(())
    }

    /// Takes up the tasks of the store: those that were there are refreshed, those that were under
    /// way or have gone are removed. What was set up up to its last step is there: the agent was only
    /// killed before it could say so.
    async fn resume(&self, tasks: &[TaskRecord]) -> Result<(), HostError> {
        let mut gone = Vec::new();
        let links = self.host.netlink.links()?;
        for task in tasks {
            match task::link_in_use(&self.host, task) {
                Some(link) if eni_link::take_up(&self.host, &task.eni, &links)? => {
                    self.take_up(task, &link)?;
                }
                Some(_) | None => gone.push(task),
            }
        }
        let is_tasks = |eni_id: &str| tasks.iter().any(|task| task.eni.eni_id == eni_id);
        lock(&self.host.datapath).drop_eni_pins(is_tasks)?;
        if gone.len() < tasks.len() {
            replace_branches(&self.host.datapath, &self.host.netlink)?;
        }
        // Last: what goes takes along every policy that no resumed task obeys.
        self.drop_ownerless()?;
        for task in gone {
            tracing::warn!(task = %task.spec.task_id, status = task.status().name(), "not there any more");
            let mut task = task.clone();
            if task.life.stopped_reason.is_none() && task.status() <= AttachmentStatus::Attached {
                let reason = "its network was not there when the agent started";
                task.life.stopped_reason = Some(reason.to_owned());
            }
            enter(&self.host.events, &mut task, AttachmentStatus::Detaching);
            self.undo(task).await;
        }
        let unsettled = self.host.plugs().policies_mut().drop_earlier();
        task::settle(&self.host, unsettled);
        Ok(())
    }

    fn take_up(&self, task: &TaskRecord, link: &Link) -> Result<(), HostError> {
        let (datapath, netlink) = (&self.host.datapath, &self.host.netlink);
        task::plug(&self.host, task, link.index)?;
        task::join_services(&self.host, task)?;
        task::write_files(task)?;
        crate::datapath::attach_branch(datapath, netlink, link.index)?;
        self.begin_care(task, link);
        if !task.is_attached() {
            let mut task = task.clone();
            enter(&self.host.events, &mut task, AttachmentStatus::Attached);
            self.tasks.update(&task)?;
        }
        tracing::info!(task = %task.spec.task_id, eni = %task.eni.eni_id, "resumed");
        Ok(())
    }

    /// Frees slots that no task of the store has.
    fn drop_ownerless(&self) -> Result<(), DatapathError> {
        let mut plugs = self.host.plugs();
        for slot in plugs.ownerless() {
            tracing::warn!(
                slot,
                "the data plane has an ENI that the store does not know; removed"
            );
            lock(&self.host.datapath).unplug_eni(slot)?;
            lock(&self.host.datapath).forget_eni(slot)?;
            task::settle(&self.host, plugs.free(slot));
        }
        Ok(())
    }
}

/// Tasks keep the ENIs that they have: those of another mode have nothing to carry their frames.
fn check_kinds(tasks: &[TaskRecord], has_trunk: bool) -> Result<(), FieldError> {
    let is_there = |task: &&TaskRecord| task.is_attached() || task.is_on_its_way();
    let fits = |task: &TaskRecord| task.eni.device.is_none() == has_trunk;
    match tasks.iter().filter(is_there).find(|task| !fits(task)) {
        None => Ok(()),
        Some(task) => Err(FieldError::new(
            "ec2.mode",
            format!("task {} has an ENI of the other mode", task.spec.task_id),
            "set it back, remove the tasks (branchline task rm), then change it",
        )),
    }
}

/// This host's services: task metadata, and the VPC's resolvers, whose addresses are there whatever the VPC says now:
/// a task keeps what was said when it started.
fn services_plan(config: &Config, vpc: &Vpc) -> ServicesPlan {
    let of_vpc = vpc.resolvers().map(IpAddr::V4);
    let resolvers = of_vpc.chain([dns::RESOLVER_IPV4.into(), dns::RESOLVER_IPV6.into()]);
    ServicesPlan {
        netns_path: services_netns(config),
        mtu: config.mtu,
        resolvers: resolvers.collect(),
    }
}

/// The VPC's names: of its tasks here, and of what its file names elsewhere.
fn zone(vpc: &Vpc, tenants: Tenants) -> Zone {
    let others = vpc.network_interfaces.iter().filter_map(|interface| {
        let name = interface.private_dns_name.clone()?;
        Some((name, interface.addresses().collect()))
    });
    Zone::new(&vpc.domains(), vpc.cidrs(), tenants, others)
}

/// The host's name, where it is one word.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_word.then(|| name.to_owned())
}

fn load(config: &Config) -> Result<Datapath, DatapathError> {
    Datapath::load(&Settings {
        pins: Some(pins(config)),
        connections: config.conntrack.max_entries,
        rows: config.flow_rows_max,
        log_drops: config.log_drops,
        tcp_strict: config.conntrack.tcp_strict,
    })
}

/// The VPC's route table and its router: itself, what is outside if there is an uplink, and
/// nothing for what a VPC does not carry.
fn fill_routes(datapath: &mut Datapath, config: &Config, vpc: &Vpc) -> Result<(), DatapathError> {
    let mut routes: Vec<(IpNet, u32)> = nowhere()
        .map(|network| (network, target::BLACKHOLE))
        .collect();
    let local = vpc.ipv4_cidrs.iter().map(|cidr| IpNet::V4(*cidr));
    let local = local.chain(vpc.ipv6_cidrs.iter().map(|cidr| IpNet::V6(*cidr)));
    routes.extend(local.map(|cidr| (cidr, target::LOCAL)));
    let outside = [
        IpNet::V4(config.local.uplink_ipv4),
        IpNet::V6(config.local.uplink_ipv6),
        IpNet::V4(ipnet::Ipv4Net::default()),
        IpNet::V6(ipnet::Ipv6Net::default()),
    ];
    let beyond = if config.local.uplink {
        target::GATEWAY
    } else {
        target::BLACKHOLE
    };
    routes.extend(outside.map(|network| (network, beyond)));
    for (network, target) in routes {
        let (address, bits) = prefix(network);
        datapath.set_route(address, bits, target)?;
    }
    let router = maps::Eni {
        mac: addresses::ROUTER_MAC.0,
        ..maps::Eni::default()
    };
    datapath.set_eni(ROUTER, &router)?;
    for subnet in &vpc.subnets {
        let ipv4 = subnet
            .ipv4
            .map(|net| IpAddr::V4(addresses::router_ipv4(net)));
        let ipv6 = subnet
            .ipv6
            .map(|net| IpAddr::V6(addresses::router_ipv6(net)));
        for address in ipv4.into_iter().chain(ipv6) {
            datapath.set_address(self::address(address), ROUTER)?;
        }
    }
    Ok(())
}

/// Lets the host forward and translate what tasks send outside; what it changes is stored first,
/// for `purge`.
fn nat_gateway(table: &HostNat, host: &Netlink, store: &Store) -> Result<(), HostError> {
    // The table first: the host must not forward into the VPC for a moment without it.
    table.apply(host.netns())?;
    let changed = nat::enable_forwarding(host.netns())?;
    if previous_forwarding(store)?.is_none() {
        store.put_fact(FORWARDING_FACT, &changed)?;
    }
    Ok(())
}
