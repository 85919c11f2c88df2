//! What an EC2 instance's hardware does with attached ENIs: a link appears in the host's namespace, with the ENI's MAC
//! address, and goes when the ENI is detached. Behind it is the VPC: a namespace that routes as any Linux does, with
//! none of branchline's programs.
//!
//! A link is a veth, down and without a configuration, as a driver makes it, and renamed at once, as udev does; its
//! other end leads to the router, which answers for the subnets' routers and for the other ENIs (proxy ARP and ND), as a VPC does.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use branchline::netns::Netns;
use branchline_ec2_stand_in::{Ec2, Event};
use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};

/// Longest wait for an event, so that the thread sees that it is to end.
const BEAT: Duration = Duration::from_millis(20);
/// What Nitro's links take at most.
const MTU: u32 = 9001;

/// How late the hardware is, and who is earlier than the agent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delays {
    /// From `attached` to the link.
    pub plug: Duration,
    /// From `detaching` to the link's end.
    pub unplug: Duration,
    /// Whether a network manager gives each new link addresses and sets it up.
    pub is_managed: bool,
}

/// The hardware of one instance, and the VPC behind it, until it is dropped.
#[derive(Debug)]
pub struct EniLinks {
    /// The VPC's router.
    pub router: Arc<Netns>,
    shared: Arc<Mutex<Shared>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    delays: Delays,
    is_over: bool,
    /// What the thread could not do.
    problem: Option<String>,
}

/// An ENI as it is plugged in.
#[derive(Clone, Debug)]
struct Plugged {
    /// The router's end of its link.
    port: String,
    ipv6: Vec<Ipv6Addr>,
}

/// Something that comes later.
enum Later {
    Plug {
        id: String,
        mac: String,
        number: usize,
    },
    Unplug {
        id: String,
    },
}

impl EniLinks {
    /// Follows `ec2` for links in the namespace `host`, from now on.
    ///
    /// # Errors
    /// The router cannot be made.
    pub fn start(ec2: &Arc<Ec2>, host: &Netns) -> Result<Self> {
        let router = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            anyhow::Ok(Netns::host()?)
        });
        let router = Arc::new(
            router
                .join()
                .map_err(|_| anyhow::anyhow!("no namespace"))??,
        );
        router.run(|| {
            for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                write(key, "1")?;
            }
            ip(&["link", "set", "lo", "up"])
        })??;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let mut hardware = Hardware {
            events: ec2.events(),
            ec2: Arc::clone(ec2),
            host: host.try_clone()?,
            router: Arc::clone(&router),
            shared: Arc::clone(&shared),
            later: Vec::new(),
            plugged: BTreeMap::new(),
            number: 0,
        };
        let thread = thread::spawn(move || {
            if let Err(error) = hardware.run() {
                lock(&hardware.shared).problem = Some(format!("{error:#}"));
            }
        });
        Ok(Self {
            router,
            shared,
            thread: Some(thread),
        })
    }

    /// How late it is from now on.
    pub fn set_delays(&self, delays: Delays) {
        lock(&self.shared).delays = delays;
    }

    /// What it could not do; `None` if all went well.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        lock(&self.shared).problem.clone()
    }
}

impl Drop for EniLinks {
    fn drop(&mut self) {
        lock(&self.shared).is_over = true;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        if thread::panicking() {
            eprintln!("--- hardware: {:?}", self.problem());
        }
    }
}

struct Hardware {
    events: Receiver<Event>,
    ec2: Arc<Ec2>,
    host: Netns,
    router: Arc<Netns>,
    shared: Arc<Mutex<Shared>>,
    later: Vec<(Instant, Later)>,
    plugged: BTreeMap<String, Plugged>,
    number: usize,
}

impl Hardware {
    fn run(&mut self) -> Result<()> {
        while !lock(&self.shared).is_over {
            match self.events.recv_timeout(BEAT) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            let now = Instant::now();
            let waiting = std::mem::take(&mut self.later).into_iter();
            let (due, later): (Vec<_>, Vec<_>) = waiting.partition(|(at, _)| *at <= now);
            self.later = later;
            for (_, one) in due {
                match one {
                    Later::Plug { id, mac, number } => self.plug(id, &mac, number)?,
                    Later::Unplug { id } => self.unplug(&id)?,
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, event: Event) {
        let delays = lock(&self.shared).delays;
        match event {
            Event::Attached {
                network_interface_id: id,
                mac_address: mac,
                ..
            } => {
                self.number += 1;
                let number = self.number;
                let plug = Later::Plug { id, mac, number };
                self.later.push((Instant::now() + delays.plug, plug));
            }
            Event::Detaching {
                network_interface_id: id,
                ..
            } => {
                // What has not come does not come any more.
                self.later.retain(
                    |(_, one)| !matches!(one, Later::Plug { id: other, .. } if *other == id),
                );
                let unplug = Later::Unplug { id };
                self.later.push((Instant::now() + delays.unplug, unplug));
            }
            Event::Detached { .. }
            | Event::Associated { .. }
            | Event::Disassociated { .. }
            | Event::Deleted { .. } => {}
        }
    }

    fn plug(&mut self, id: String, mac: &str, number: usize) -> Result<()> {
        let state = self.ec2.state();
        let eni = state.network_interfaces.get(&id);
        let eni = eni.with_context(|| format!("{id} has gone"))?;
        let subnet = state.subnets.get(&eni.subnet_id).context("no subnet")?;
        let (link, name) = (format!("eth{number}"), format!("ens{}", number + 5));
        let port = format!("port{number}");
        let mtu = MTU.to_string();
        let made = self.router.run(|| {
            let peer = ["peer", "name", &link];
            let port = ["link", "add", &port, "mtu", &mtu, "type", "veth"];
            ip(&[&port[..], &peer, &["address", mac, "mtu", &mtu]].concat())
        });
        made??;
        let routers = [
            subnet.cidr_block.map(IpNet::from),
            subnet.ipv6_cidr_block.map(IpNet::from),
        ];
        let routers: Vec<_> = routers.into_iter().flatten().map(router).collect();
        let ipv4 = eni.private_ip_addresses.iter().copied().map(IpAddr::V4);
        let ipv6 = eni.ipv6_addresses.iter().copied().map(IpAddr::V6);
        let own: Vec<_> = ipv4.chain(ipv6).collect();
        let others = self.plugged.values();
        let others: Vec<_> = others
            .flat_map(|other| {
                other
                    .ipv6
                    .iter()
                    .map(|address| (other.port.clone(), *address))
            })
            .collect();
        self.router.run(|| {
            for (family, key, value) in
                [("ipv4", "conf", "proxy_arp"), ("ipv6", "conf", "proxy_ndp")]
            {
                write(&format!("{family}/{key}/{port}/{value}"), "1")?;
                write(&format!("{family}/neigh/{port}/proxy_delay"), "0")?;
            }
            ip(&["link", "set", &port, "up"])?;
            for address in &routers {
                ip(&[
                    "address",
                    "add",
                    &address.to_string(),
                    "dev",
                    &port,
                    "nodad",
                ])?;
            }
            for address in &own {
                ip(&["route", "replace", &address.to_string(), "dev", &port])?;
                let IpAddr::V6(_) = address else { continue };
                for (other, of_other) in &others {
                    let (own, of_other) = (address.to_string(), of_other.to_string());
                    ip(&["-6", "neigh", "replace", "proxy", &of_other, "dev", &port])?;
                    ip(&["-6", "neigh", "replace", "proxy", &own, "dev", other])?;
                }
            }
            anyhow::Ok(())
        })??;
        let plugged = Plugged {
            port,
            ipv6: eni.ipv6_addresses.clone(),
        };
        self.plugged.insert(id, plugged);
        // Only now: it is there when it can carry.
        let host = format!("/proc/{}/fd/{}", std::process::id(), fd(&self.host));
        self.router
            .run(|| ip(&["link", "set", &link, "netns", &host]))??;
        // Before Linux 6.2 too late, once it is up.
        drop(
            self.host
                .run(|| ip(&["link", "set", &link, "name", &name]))?,
        );
        if lock(&self.shared).delays.is_managed {
            let address = own.first().context("no address")?.to_string();
            let manage = || {
                ip(&["address", "add", &address, "dev", &name])?;
                ip(&["link", "set", &name, "up"])
            };
            self.host.run(manage)??;
        }
        Ok(())
    }

    fn unplug(&mut self, id: &str) -> Result<()> {
        let Some(gone) = self.plugged.remove(id) else {
            return Ok(());
        };
        for address in &gone.ipv6 {
            for other in self.plugged.values() {
                let arguments = ["-6", "neigh", "del", "proxy"];
                let address = address.to_string();
                let of = [&address, "dev", &other.port];
                self.router.run(|| ip(&[&arguments[..], &of].concat()))??;
            }
        }
        // Somebody may have deleted the host's end, and the pair with it.
        drop(self.router.run(|| ip(&["link", "del", &gone.port]))?);
        Ok(())
    }
}

fn fd(netns: &Netns) -> i32 {
    use std::os::fd::{AsFd, AsRawFd};
    netns.as_fd().as_raw_fd()
}

/// The router of a subnet, as a host of its own.
fn router(net: IpNet) -> IpNet {
    match net {
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from_bits(net.network().to_bits() + 1)).into(),
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from_bits(net.network().to_bits() + 1)).into(),
    }
}

fn write(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{key}");
    fs::write(&path, value).with_context(|| path)
}

fn ip(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("ip");
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let output = output.context("start ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments:?}: {said}");
    Ok(())
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
