//! The inside of a task's namespace: its link with addresses and routes.
//!
//! Runs while the other end of the veth is down, so nothing flows before the
//! caller sets that end up; the link sends once `Netlink::wait_until_sending`
//! has returned, and a task must not start before. Filters nothing: what a task finds here it may
//! change, and the programs on the host's end decide regardless.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::ipv4_conf::Ipv4Conf;
use crate::ipv6_conf::{ignore_routers, switch_on};
use crate::link::{LOOPBACK, LinkChange, Mac};
use crate::link_name::LinkName;
use crate::neighbour::Neighbour;
use crate::netlink::{Netlink, NetlinkError};
use crate::netns::Netns;
use crate::provider::Eni;
use crate::provider::local::addresses::ROUTER_MAC;
use crate::route::{Address, Route};
use crate::services::TASK_METADATA;
use crate::sysctl::{SysctlError, Sysctls};
use crate::system_controls::SystemControl;

/// The kernel's word for links that are made later (`default` of Documentation/networking/ip-sysctl.rst).
const LINKS_TO_COME: &str = "default";

/// What a task's network is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskNetwork {
    /// The link's name in the task's namespace, mostly `eth0`.
    pub link: String,
    /// The ENI's hardware address.
    pub mac: Mac,
    /// Bytes.
    pub mtu: u32,
    /// The VPC router's hardware address, where it is known beforehand.
    pub router_mac: Option<Mac>,
    /// The ENI's IPv4 address with its subnet's prefix length, and the router's.
    pub ipv4: Option<(Ipv4Net, std::net::Ipv4Addr)>,
    /// The ENI's IPv6 address with its subnet's prefix length, and the router's.
    pub ipv6: Option<(Ipv6Net, std::net::Ipv6Addr)>,
    /// Where it asks for its metadata from, if it has no IPv4 address.
    pub metadata_source: Option<Ipv4Addr>,
}

/// What a task has on its link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OnLink {
    pub(crate) addresses: Vec<Address>,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) routes: Vec<Route>,
}

/// Why a task's network could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TaskNetworkError {
    /// A link, address, route or neighbour was refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A kernel setting was refused.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The task is to have IPv6 and the kernel has none.
    #[error(
        "give {link} in {netns} the address {address}: this kernel has IPv6 switched off; \
         remove ipv6.disable=1 from its command line, or use subnets without IPv6"
    )]
    NoIpv6 {
        /// The link.
        link: String,
        /// The namespace.
        netns: String,
        /// The IPv6 address.
        address: Ipv6Net,
    },
}

/// What is known of a task's namespace and of its link in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: what differs is mended.
    Unknown,
    /// A link of this index, just made as the task wants it.
    NewLink(u32),
    /// The same, made after its namespace had been [`prepare`]d.
    NewNetns(u32),
}

/// Prepares `new`, which the calling thread is in, for any task: its loopback is up, and links that come later do what
/// [`configure`] would tell them. Returns a socket inside.
///
/// # Errors
/// Names the step that failed.
pub fn prepare(new: Netns) -> Result<Netlink, TaskNetworkError> {
    let inside = Netlink::inside(new)?;
    inside.set_up(LOOPBACK, true)?;
    let sysctls = Sysctls::of(inside.netns());
    if sysctls.has_ipv6()? {
        ignore_routers(sysctls, LINKS_TO_COME)?;
        switch_on(sysctls, LINKS_TO_COME)?;
    }
    Ok(inside)
}

/// Configures the namespace of `inside` for a task, and returns its link's index. Every step is idempotent.
///
/// # Errors
/// Names the step that failed. Deleting the veth undoes all steps but `lo`.
pub fn configure(
    inside: &Netlink,
    task: &TaskNetwork,
    found: Found,
) -> Result<u32, TaskNetworkError> {
    let link = match found {
        Found::Unknown => mended_link(inside, task)?,
        Found::NewLink(index) | Found::NewNetns(index) => index,
    };
    let has_ipv6 = Sysctls::of(inside.netns()).has_ipv6()?;
    if let Some((address, _)) = task.ipv6
        && !has_ipv6
    {
        return Err(TaskNetworkError::NoIpv6 {
            link: task.link.clone(),
            netns: inside.netns().name().to_owned(),
            address,
        });
    }
    if !matches!(found, Found::NewNetns(_)) {
        inside.set_up(LOOPBACK, true)?;
        set_sysctls(inside, task, has_ipv6)?;
    }
    let there = task.on_link(link);
    for address in &there.addresses {
        inside.ensure_address(address)?;
    }
    // What is inherited of the host; only one router exists here.
    let quiet = Ipv4Conf {
        accept_redirects: false,
        arp_notify: false,
    };
    let up = LinkChange {
        up: Some(true),
        ipv4: Some(quiet),
        ..LinkChange::default()
    };
    inside.change_link(link, up)?;
    for neighbour in &there.neighbours {
        inside.set_neighbour(neighbour)?;
    }
    for route in &there.routes {
        inside.ensure_route(route)?;
    }
    Ok(link)
}

/// The task's link, which is there, with its MAC address and MTU.
fn mended_link(inside: &Netlink, task: &TaskNetwork) -> Result<u32, NetlinkError> {
    let link = inside.existing_link(&task.link)?;
    let change = LinkChange {
        mac: Some(task.mac).filter(|mac| link.mac != Some(*mac)),
        mtu: Some(task.mtu).filter(|mtu| link.mtu != *mtu),
        ..LinkChange::default()
    };
    if change != LinkChange::default() {
        inside.change_link(link.index, change)?;
    }
    Ok(link.index)
}

impl TaskNetwork {
    /// What a task with `eni` has behind a link called `link`.
    #[must_use]
    pub fn of(link: &LinkName, eni: &Eni, mtu: u32) -> Self {
        Self {
            link: link.to_string(),
            mac: Mac(eni.mac.0),
            mtu,
            router_mac: eni.router_mac.map(|mac| Mac(mac.0)),
            ipv4: eni.ipv4.zip(eni.router_ipv4),
            ipv6: eni.ipv6.zip(eni.router_ipv6),
            metadata_source: eni.metadata_source(),
        }
    }

    /// Its addresses, IPv4 first, each with its router.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (IpNet, IpAddr)> {
        let ipv4 = self.ipv4.map(|(net, router)| (net.into(), router.into()));
        let ipv6 = self.ipv6.map(|(net, router)| (net.into(), router.into()));
        ipv4.into_iter().chain(ipv6)
    }

    /// What there is on its link, whose index is `link`: its addresses, a default route for each over the VPC's router,
    /// and the router as a neighbour where its MAC address is known. A task without IPv4 has an address and a route
    /// besides, for the one service that it reaches by it.
    pub(crate) fn on_link(&self, link: u32) -> OnLink {
        let mut there = OnLink::default();
        let mut add = |address: IpNet, far_end: IpAddr, mac: Option<Mac>, route: Route| {
            there.addresses.push(Address {
                link,
                address,
                prefix_route: true,
            });
            there.neighbours.extend(mac.map(|mac| Neighbour {
                link,
                address: far_end,
                mac,
            }));
            there.routes.push(route);
        };
        for (address, router) in self.addresses() {
            let route = Route::default_over(link, router);
            add(address, router, self.router_mac, route);
        }
        if let Some(source) = self.metadata_source.map(IpAddr::V4) {
            let route = Route {
                destination: IpAddr::V4(TASK_METADATA).into(),
                gateway: None,
                link,
                source: Some(source),
            };
            // Such packets leave the VPC's way before anybody reads the MAC address.
            let mac = self.router_mac.unwrap_or(Mac(ROUTER_MAC.0));
            add(source.into(), TASK_METADATA.into(), Some(mac), route);
        }
        there
    }
}

/// Sets what the task itself wants set in its namespace.
///
/// # Errors
/// Names the setting that the kernel does not have or whose value it refuses.
pub fn set_controls(inside: &Netlink, controls: &[SystemControl]) -> Result<(), TaskNetworkError> {
    let sysctls = Sysctls::of(inside.netns());
    for control in controls {
        sysctls.set(&control.key(), &control.value)?;
    }
    Ok(())
}

fn set_sysctls(inside: &Netlink, task: &TaskNetwork, has_ipv6: bool) -> Result<(), SysctlError> {
    let sysctls = Sysctls::of(inside.netns());
    if has_ipv6 {
        ignore_routers(sysctls, &task.link)?;
    }
    if task.ipv6.is_some() {
        switch_on(sysctls, &task.link)?;
    }
    Ok(())
}
