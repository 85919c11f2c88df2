//! The local VPC fabric: a namespace that plays the VPC, and its two links.
//!
//! Makes, compares, mends and removes what the fabric consists of. Attaches no
//! program: the trunk stays down until the caller has done so and calls
//! [`Fabric::bring_up`].

mod plan;

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

pub use self::plan::FabricPlan;
use crate::ipv6_conf::{only_given, without_ipv6};
use crate::link::{LOOPBACK, Link, LinkChange, Mac, VethPair};
use crate::nat::{self, NatError, TableState};
use crate::neighbour::Neighbour;
use crate::netlink::{Netlink, NetlinkError};
use crate::netns::{Netns, NetnsError, Origin};
use crate::route::{Address, Route};
use crate::standing_veth::{self, settle};
use crate::sysctl::{SysctlError, Sysctls};

/// The trunk's end on the host, where `trunk_ingress` is.
pub const HOST_TRUNK: &str = "bl-trunk";
/// The trunk's end in the fabric, where `fabric` and `fabric_gateway` are.
pub const TRUNK: &str = "trunk";
/// The uplink's end on the host.
pub const HOST_UPLINK: &str = "bl-uplink";
/// The uplink's end in the fabric.
pub const UPLINK: &str = "uplink";

/// Addresses that are set are left alone by udev, which replaces the kernel's random ones.
const HOST_TRUNK_MAC: Mac = Mac([0x02, b'b', b'l', b't', 0, 1]);
const HOST_UPLINK_MAC: Mac = Mac([0x02, b'b', b'l', b'u', 0, 1]);
const UPLINK_MAC: Mac = Mac([0x02, b'b', b'l', b'u', 0, 2]);
/// What an internet gateway carries (AWS: "Network MTU for your EC2 instance").
const UPLINK_MTU: u32 = 1500;

/// Why the fabric could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// The plan cannot work.
    #[error("{field} = {value}: {fix}")]
    Plan {
        /// The plan's field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What to write instead.
        fix: &'static str,
    },
    /// The host itself is inside a network that the fabric would take over.
    #[error(
        "{field} = {network} holds the address {address} of this host's link {link}: \
         choose a network that the host has no part in"
    )]
    HostInside {
        /// The plan's field.
        field: &'static str,
        /// Its network.
        network: IpNet,
        /// The host's address.
        address: IpAddr,
        /// The host's link's index.
        link: u32,
    },
    /// Its namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A link, address or route.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A kernel setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// Its nftables.
    #[error(transparent)]
    Nat(#[from] NatError),
}

/// The fabric in place; dropping it changes nothing. While it is open the
/// namespace lives on, also after [`Fabric::purge`].
#[derive(Debug)]
pub struct Fabric {
    /// The fabric's namespace.
    pub netns: Netns,
    /// A socket in it.
    pub netlink: Netlink,
    /// The index of `bl-trunk` on the host.
    pub host_trunk: u32,
    /// The index of `trunk` in the fabric.
    pub trunk: u32,
    /// The fabric's namespace, as the host's numbers others.
    pub number: Option<i32>,
    /// Whether the trunk is new, and so without programs.
    pub trunk_origin: Origin,
    vpc_cidrs: Vec<IpNet>,
}

/// What one call has made, to be undone if it fails.
#[derive(Debug, Default)]
struct Made {
    netns: bool,
    table: bool,
    links: Vec<String>,
}

impl Fabric {
    /// Makes the fabric, or compares what exists with `plan` and mends it. New
    /// trunk ends are down.
    ///
    /// # Errors
    /// `Plan` and `HostInside` before anything is done. After any other error
    /// what this call made is undone; a link of a stranger that has one of
    /// our names is a `Conflict` and stays.
    pub fn ensure(plan: &FabricPlan, host: &Netlink) -> Result<Self, FabricError> {
        plan.validate()?;
        if plan.uplink {
            let own = host.link_named(HOST_UPLINK)?.map(|link| link.index);
            plan.check_against(&host.addresses()?, own)?;
        }
        let mut made = Made::default();
        match build(plan, host, &mut made) {
            Ok(fabric) => Ok(fabric),
            Err(error) => {
                for also in undo(&plan.netns_path, host, &made) {
                    tracing::error!(error = %also, "a part of the fabric could not be undone");
                }
                Err(error)
            }
        }
    }

    /// Sets the trunk up, once its programs are attached, and routes the VPC over it.
    ///
    /// # Errors
    /// Names the link or route; nothing is undone, a second call is safe.
    pub fn bring_up(&self, host: &Netlink) -> Result<(), FabricError> {
        self.netlink.set_up(self.trunk, true)?;
        let routes: Vec<_> = self
            .vpc_cidrs
            .iter()
            .map(|cidr| Route::on_link(self.trunk, *cidr))
            .collect();
        settle(&self.netlink, self.trunk, &[], &routes)?;
        host.set_up(self.host_trunk, true)?;
        self.netlink.wait_until_sending(self.trunk)?;
        host.wait_until_sending(self.host_trunk)?;
        Ok(())
    }

    /// Removes the fabric: its links, with the host's routes over them, and
    /// its namespace with all that is in it. Already gone is success. Goes on
    /// past errors and returns them all.
    pub fn purge(netns_path: &Path, host: &Netlink) -> Vec<FabricError> {
        let made = Made {
            netns: true,
            table: false,
            links: vec![HOST_UPLINK.to_owned(), HOST_TRUNK.to_owned()],
        };
        undo(netns_path, host, &made)
    }
}

fn build(plan: &FabricPlan, host: &Netlink, made: &mut Made) -> Result<Fabric, FabricError> {
    let (netns, origin) = Netns::create(&plan.netns_path)?;
    made.netns = origin == Origin::Created;
    let netlink = Netlink::open(&netns)?;
    netlink.set_up(LOOPBACK, true)?;
    let pair = standing_veth::pair(
        (HOST_TRUNK, HOST_TRUNK_MAC),
        (TRUNK, plan.router_mac),
        plan.trunk_mtu,
    );
    let (host_trunk, trunk_origin) = ensure_pair(host, &pair, &netlink, made)?;
    let trunk = netlink.existing_link(TRUNK)?;
    if !trunk.noarp {
        let change = LinkChange {
            noarp: Some(true),
            ..LinkChange::default()
        };
        netlink.change_link(trunk.index, change)?;
    }
    set_trunk_sysctls(host.netns(), &netns)?;
    if plan.uplink {
        ensure_table(plan, &netns, made)?;
        ensure_uplink(plan, host, &netlink, made)?;
    } else if let Some(left) = netlink.link_named(UPLINK)? {
        netlink.delete_link(left.index)?;
    }
    Ok(Fabric {
        netns,
        netlink,
        host_trunk: host_trunk.index,
        trunk: trunk.index,
        number: host_trunk.peer_netns,
        trunk_origin,
        vpc_cidrs: plan.vpc_cidrs.iter().map(IpNet::trunc).collect(),
    })
}

fn undo(netns_path: &Path, host: &Netlink, made: &Made) -> Vec<FabricError> {
    let mut errors = Vec::new();
    for name in made.links.iter().rev() {
        let deleted = standing_veth::delete(host, name);
        errors.extend(deleted.err().map(FabricError::from));
    }
    if made.netns {
        errors.extend(Netns::remove(netns_path).err().map(FabricError::from));
    } else if made.table {
        let removed = Netns::open(netns_path).map_err(FabricError::from);
        errors.extend(removed.and_then(|netns| Ok(nat::remove(&netns)?)).err());
    }
    errors
}

fn ensure_pair(
    host: &Netlink,
    pair: &VethPair,
    fabric: &Netlink,
    made: &mut Made,
) -> Result<(Link, Origin), FabricError> {
    let (link, origin) = standing_veth::ensure(host, pair, fabric)?;
    if origin == Origin::Created {
        made.links.push(pair.near.name.clone());
    }
    Ok((link, origin))
}

fn ensure_table(plan: &FabricPlan, netns: &Netns, made: &mut Made) -> Result<(), FabricError> {
    let nat = plan.fabric_nat();
    let found = nat.check(netns)?;
    if found != TableState::Equal {
        nat.apply(netns)?;
        made.table = found == TableState::Absent;
    }
    Ok(())
}

fn ensure_uplink(
    plan: &FabricPlan,
    host: &Netlink,
    fabric: &Netlink,
    made: &mut Made,
) -> Result<(), FabricError> {
    let mtu = plan.trunk_mtu.min(UPLINK_MTU);
    let pair = standing_veth::pair((HOST_UPLINK, HOST_UPLINK_MAC), (UPLINK, UPLINK_MAC), mtu);
    let (near, _) = ensure_pair(host, &pair, fabric, made)?;
    let far = fabric.existing_link(UPLINK)?;
    let host_ipv6 = set_uplink_sysctls(host.netns(), HOST_UPLINK)?;
    let fabric_ipv6 = set_uplink_sysctls(fabric.netns(), UPLINK)?;
    let usable = |net: &IpNet| net.addr().is_ipv4() || (host_ipv6 && fabric_ipv6);
    let ends = |n| plan.uplink_addresses(n).into_iter().filter(usable);
    let (host_end, fabric_end): (Vec<_>, Vec<_>) = (ends(1).collect(), ends(2).collect());
    add_addresses(host, near.index, &host_end)?;
    add_addresses(fabric, far.index, &fabric_end)?;
    host.set_up(near.index, true)?;
    fabric.set_up(far.index, true)?;
    host.wait_until_sending(near.index)?;
    fabric.wait_until_sending(far.index)?;
    know_neighbours(host, near.index, &fabric_end, UPLINK_MAC)?;
    know_neighbours(fabric, far.index, &host_end, HOST_UPLINK_MAC)?;
    let same_family = |ends: &[IpNet], cidr: &IpNet| {
        let v4 = cidr.addr().is_ipv4();
        ends.iter().map(IpNet::addr).find(|end| end.is_ipv4() == v4)
    };
    let into_vpc: Vec<_> = plan
        .vpc_cidrs
        .iter()
        .filter_map(|cidr| {
            Some(Route {
                destination: cidr.trunc(),
                gateway: Some(same_family(&fabric_end, cidr)?),
                link: near.index,
                source: same_family(&host_end, cidr),
            })
        })
        .collect();
    settle(host, near.index, &host_end, &into_vpc)?;
    let outward: Vec<_> = host_end
        .iter()
        .map(|net| Route::default_over(far.index, net.addr()))
        .collect();
    settle(fabric, far.index, &fabric_end, &outward)?;
    Ok(())
}

fn add_addresses(netlink: &Netlink, link: u32, nets: &[IpNet]) -> Result<(), FabricError> {
    for address in nets {
        let address = Address {
            link,
            address: *address,
            prefix_route: true,
        };
        netlink.ensure_address(&address)?;
    }
    Ok(())
}

/// A router without a link-local address, which is what both ends are, asks for no neighbour.
fn know_neighbours(
    netlink: &Netlink,
    link: u32,
    nets: &[IpNet],
    mac: Mac,
) -> Result<(), FabricError> {
    for net in nets {
        let address = net.addr();
        let neighbour = Neighbour { link, address, mac };
        netlink.set_neighbour(&neighbour)?;
    }
    Ok(())
}

fn set_trunk_sysctls(host: &Netns, fabric: &Netns) -> Result<(), SysctlError> {
    // Frames of the trunk never concern the host's own stack.
    without_ipv6(host, HOST_TRUNK)?;
    let sysctls = Sysctls::of(fabric);
    sysctls.set("net/ipv4/ip_forward", "1")?;
    for scope in ["all", "default", TRUNK] {
        sysctls.set(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
        sysctls.set(&format!("net/ipv4/conf/{scope}/send_redirects"), "0")?;
    }
    refuse_source_routes(sysctls, TRUNK)?;
    if sysctls.has_ipv6()? {
        sysctls.set("net/ipv6/conf/all/forwarding", "1")?;
        // The router's own addresses are played by a program, not by the stack.
        only_given(sysctls, TRUNK)?;
    }
    Ok(())
}

/// Returns whether the namespace has IPv6.
fn set_uplink_sysctls(netns: &Netns, link: &str) -> Result<bool, SysctlError> {
    let sysctls = Sysctls::of(netns);
    refuse_source_routes(sysctls, link)?;
    let has_ipv6 = sysctls.has_ipv6()?;
    if has_ipv6 {
        // Its two addresses are enough, and a link-local one would come late.
        only_given(sysctls, link)?;
    }
    Ok(has_ipv6)
}

/// Nobody says by which way his packets go on: a task would reach through us what its ENI keeps it from.
fn refuse_source_routes(sysctls: Sysctls<'_>, link: &str) -> Result<(), SysctlError> {
    sysctls.set(&format!("net/ipv4/conf/{link}/accept_source_route"), "0")
}
