//! This host's own services: a namespace with their addresses, its link, and which task is who to them.
//!
//! Tasks reach them because `branch_egress` leads their packets to the link, and the answers come back through
//! `trunk_ingress` on its other end, as from one more trunk. Nothing is forwarded here, and nothing listens in a task's
//! namespace. Answers no request: that is `task_metadata`'s and `resolver`'s.

mod allowance;
mod connections;
mod tenants;

pub use allowance::{Allowance, Rate};
pub use connections::{Connections, Peer};
pub use tenants::{Tenant, Tenants};

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use branchline_common::maps::SERVICES_MAC;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::fabric::FabricError;
use crate::ipv6_conf::{only_given, without_ipv6};
use crate::link::{LOOPBACK, Mac};
use crate::neighbour::Neighbour;
use crate::netlink::{Netlink, NetlinkError};
use crate::netns::{Netns, NetnsError};
use crate::provider::Eni;
use crate::route::{Address, Route};
use crate::standing_veth::{self, settle};
use crate::sysctl::{SysctlError, Sysctls};

/// The link's end on the host, where `trunk_ingress` is.
pub const HOST_LINK: &str = "bl-services";
/// Its end in the services' namespace.
pub const LINK: &str = "services";
/// The task metadata service's address (ECS developer guide, "Task metadata endpoint version 4").
pub const TASK_METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);

const HOST_MAC: Mac = Mac([SERVICES_MAC[0], b'b', b'l', b's', 0, 1]);

/// What the services' namespace is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicesPlan {
    /// Where it is bound.
    pub netns_path: PathBuf,
    /// Bytes, as of every task.
    pub mtu: u32,
    /// The resolvers' addresses; none where the VPC's DNS is not this host's.
    pub resolvers: Vec<IpAddr>,
}

/// The namespace in place; dropping it changes nothing.
#[derive(Debug)]
pub struct Services {
    netlink: Netlink,
    /// The index of `bl-services` on the host.
    pub host_link: u32,
    link: u32,
    addresses: Mutex<Vec<IpNet>>,
    /// By what whoever asks is answered.
    routes: Vec<Route>,
}

impl Services {
    /// Makes the namespace and its link, or compares what exists with `plan` and mends it. A new link is down.
    ///
    /// # Errors
    /// Names what failed. What was made stays, for the next start or [`Services::purge`].
    pub fn ensure(plan: &ServicesPlan, host: &Netlink) -> Result<Self, FabricError> {
        let (netns, _) = Netns::create(&plan.netns_path)?;
        let netlink = Netlink::open(&netns)?;
        netlink.set_up(LOOPBACK, true)?;
        let ends = ((HOST_LINK, HOST_MAC), (LINK, Mac(SERVICES_MAC)));
        let pair = standing_veth::pair(ends.0, ends.1, plan.mtu);
        let (host_link, _) = standing_veth::ensure(host, &pair, &netlink)?;
        let link = netlink.existing_link(LINK)?.index;
        let has_ipv6 = set_sysctls(host.netns(), &netns)?;
        let addresses = plan.resolvers.iter().copied();
        let addresses = addresses.chain([IpAddr::V4(TASK_METADATA)]);
        let addresses = addresses.filter(|address| address.is_ipv4() || has_ipv6);
        let addresses: Vec<IpNet> = addresses.map(IpNet::from).collect();
        for address in &addresses {
            netlink.ensure_address(&own(link, *address))?;
        }
        let ipv4 = Route::on_link(link, Ipv4Net::default().into());
        let ipv6 = Route::on_link(link, Ipv6Net::default().into());
        let routes = [ipv4].into_iter().chain(has_ipv6.then_some(ipv6));
        Ok(Self {
            netlink,
            host_link: host_link.index,
            link,
            addresses: Mutex::new(addresses),
            routes: routes.collect(),
        })
    }

    /// Sets the link up, once its program is attached, and answers whoever asks over it.
    ///
    /// # Errors
    /// Names the link or route; a second call is safe.
    pub fn bring_up(&self, host: &Netlink) -> Result<(), FabricError> {
        self.netlink.set_up(self.link, true)?;
        host.set_up(self.host_link, true)?;
        self.netlink.wait_until_sending(self.link)?;
        let addresses = self.addresses().clone();
        settle(&self.netlink, self.link, &addresses, &self.routes)?;
        Ok(())
    }

    /// One more of the services' addresses. Idempotent.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn add_resolver(&self, address: Ipv4Addr) -> Result<(), NetlinkError> {
        let address = IpNet::from(IpAddr::V4(address));
        self.netlink.ensure_address(&own(self.link, address))?;
        let mut addresses = self.addresses();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
        Ok(())
    }

    fn addresses(&self) -> MutexGuard<'_, Vec<IpNet>> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What lacks for answers to reach the task with `eni`, in words; empty if nothing does.
    ///
    /// # Errors
    /// It could not be looked at.
    pub fn lacks(&self, eni: &Eni) -> Result<Vec<String>, FabricError> {
        let mut lacks = Vec::new();
        let found = self.netlink.routes()?;
        for route in &self.routes {
            if !found.contains(route) {
                lacks.push(format!("route {} over {LINK}", route.destination));
            }
        }
        for neighbour in self.neighbours(eni) {
            let (link, address) = (neighbour.link, neighbour.address);
            let found = self.netlink.permanent_neighbour(link, address)?;
            if found != Some(neighbour) {
                let mac = neighbour.mac;
                lacks.push(format!("permanent neighbour {address} at {mac} on {LINK}"));
            }
        }
        Ok(lacks)
    }

    fn neighbours(&self, eni: &Eni) -> impl Iterator<Item = Neighbour> {
        let (link, mac) = (self.link, Mac(eni.mac.0));
        let addresses = eni.service_addresses();
        addresses.map(move |address| Neighbour { link, address, mac })
    }

    /// Answers reach the task with `eni` from now on. Idempotent.
    ///
    /// # Errors
    /// The kernel's answer; [`Services::forget`] removes what was made.
    pub fn know(&self, eni: &Eni) -> Result<(), NetlinkError> {
        let mut neighbours = self.neighbours(eni);
        neighbours.try_for_each(|one| self.netlink.set_neighbour(&one))
    }

    /// Answers reach the task no more; already so is success.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn forget(&self, eni: &Eni) -> Result<(), NetlinkError> {
        let mut addresses = eni.service_addresses();
        addresses.try_for_each(|address| {
            self.netlink.delete_neighbour(self.link, address)?;
            Ok(())
        })
    }

    /// Forgets whoever has none of `enis`.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn know_only(&self, enis: &[&Eni]) -> Result<(), NetlinkError> {
        for found in self.netlink.permanent_neighbours()? {
            let is_of = |eni: &&&Eni| eni.service_addresses().any(|one| one == found.address);
            if found.link == self.link && !enis.iter().any(|eni| is_of(&eni)) {
                let address = found.address;
                self.netlink.delete_neighbour(self.link, address)?;
            }
        }
        Ok(())
    }

    /// The addresses at which there are resolvers.
    pub fn resolvers(&self) -> Vec<IpAddr> {
        let addresses = self.addresses();
        let all = addresses.iter().map(IpNet::addr);
        all.filter(|address| *address != IpAddr::V4(TASK_METADATA))
            .collect()
    }

    /// Listens for TCP at `port` of one of the services' addresses.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the kernel's answer.
    pub fn listen(&self, address: IpAddr, port: u16) -> std::io::Result<TcpListener> {
        let listen = || {
            let listener = TcpListener::bind((address, port))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        self.netlink.netns().run(listen).map_err(entered)?
    }

    /// A UDP socket at `port` of one of the services' addresses.
    ///
    /// # Errors
    /// As [`Services::listen`].
    pub fn socket(&self, address: IpAddr, port: u16) -> std::io::Result<UdpSocket> {
        let bind = || {
            let socket = UdpSocket::bind((address, port))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        self.netlink.netns().run(bind).map_err(entered)?
    }

    /// Removes namespace and link. Already gone is success. Goes on past errors and returns them all.
    pub fn purge(netns_path: &Path, host: &Netlink) -> Vec<FabricError> {
        let link = standing_veth::delete(host, HOST_LINK);
        let link = link.err().map(FabricError::from);
        let netns = Netns::remove(netns_path).err().map(FabricError::from);
        link.into_iter().chain(netns).collect()
    }
}

fn own(link: u32, address: IpNet) -> Address {
    Address {
        link,
        address,
        prefix_route: true,
    }
}

fn entered(error: NetnsError) -> std::io::Error {
    std::io::Error::other(error)
}

/// What a new namespace inherits of the host's settings is set all the same. Returns whether there is IPv6.
fn set_sysctls(host: &Netns, services: &Netns) -> Result<bool, SysctlError> {
    // Frames of the services never concern the host's own stack.
    without_ipv6(host, HOST_LINK)?;
    let sysctls = Sysctls::of(services);
    sysctls.set("net/ipv4/ip_forward", "0")?;
    // HTTP and DNS, of both families, without CAP_NET_BIND_SERVICE.
    sysctls.set("net/ipv4/ip_unprivileged_port_start", "0")?;
    for scope in ["all", "default", LINK] {
        sysctls.set(&format!("net/ipv4/conf/{scope}/forwarding"), "0")?;
        sysctls.set(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
    }
    let has_ipv6 = sysctls.has_ipv6()?;
    if has_ipv6 {
        sysctls.set("net/ipv6/conf/all/forwarding", "0")?;
        only_given(sysctls, LINK)?;
    }
    Ok(has_ipv6)
}
