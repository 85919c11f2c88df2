//! The local VPC fabric: a namespace that plays the VPC, and its two links.
//!
//! Makes, compares, mends and removes what the fabric consists of. Attaches no
//! program: the trunk stays down until the caller has done so and calls
//! [`Fabric::bring_up`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::ipv6_conf::{only_given, without_ipv6};
use crate::link::{LOOPBACK, Link, LinkChange, Mac, VethPair};
use crate::nat::{self, FabricNat, HostNat, NatError, TableState};
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
/// IPv6 works from 1280 on (RFC 8200 §5); a veth carries up to 65,535.
const TRUNK_MTU: std::ops::RangeInclusive<u32> = 1280..=65_535;

/// What the fabric is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FabricPlan {
    /// Where its namespace is bound.
    pub netns_path: PathBuf,
    /// Bytes.
    pub trunk_mtu: u32,
    /// The VPC router's hardware address.
    pub router_mac: Mac,
    /// What is routed into the VPC.
    pub vpc_cidrs: Vec<IpNet>,
    /// The link between host and fabric: the first address is the host's.
    pub uplink_ipv4: Ipv4Net,
    /// As `uplink_ipv4`.
    pub uplink_ipv6: Ipv6Net,
    /// Whether there is such a link at all; without it no nftables are needed.
    pub uplink: bool,
    /// Whether the VPC reaches the outside over it.
    pub nat_gateway: bool,
}

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
        plan.check_against_host(host)?;
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

impl FabricPlan {
    /// The table of the fabric's namespace.
    #[must_use]
    pub fn fabric_nat(&self) -> FabricNat {
        FabricNat {
            trunk: TRUNK.to_owned(),
            uplink: UPLINK.to_owned(),
            host: (nth_v4(&self.uplink_ipv4, 1), nth_v6(&self.uplink_ipv6, 1)),
            nat_gateway: self.nat_gateway,
        }
    }

    /// The host's table, which the caller applies if the configuration asks for it.
    #[must_use]
    pub fn host_nat(&self) -> HostNat {
        let mut sources = vec![
            IpNet::V4(self.uplink_ipv4.trunc()),
            IpNet::V6(self.uplink_ipv6.trunc()),
        ];
        sources.extend(self.vpc_cidrs.iter().map(IpNet::trunc));
        HostNat {
            uplink: HOST_UPLINK.to_owned(),
            sources,
        }
    }

    fn validate(&self) -> Result<(), FabricError> {
        let wrong = |field, value: String, fix| Err(FabricError::Plan { field, value, fix });
        if self.vpc_cidrs.is_empty() {
            return wrong(
                "vpc_cidrs",
                "[]".to_owned(),
                "give the VPC at least one CIDR",
            );
        }
        if !TRUNK_MTU.contains(&self.trunk_mtu) {
            return wrong(
                "trunk_mtu",
                self.trunk_mtu.to_string(),
                "choose 1280 to 65535 bytes",
            );
        }
        let mac = self.router_mac;
        if mac.0[0] & 1 != 0 || mac.0 == [0; 6] {
            return wrong("router_mac", mac.to_string(), "choose a unicast address");
        }
        let uplinks = [
            ("uplink_ipv4", IpNet::V4(self.uplink_ipv4)),
            ("uplink_ipv6", IpNet::V6(self.uplink_ipv6)),
        ];
        for (field, net) in uplinks {
            if net.max_prefix_len() - net.prefix_len() < 2 {
                return wrong(field, net.to_string(), "leave two bits for the two ends");
            }
            if self.vpc_cidrs.iter().any(|cidr| overlap(cidr, &net)) {
                return wrong(
                    field,
                    net.to_string(),
                    "choose a network outside the VPC's CIDRs",
                );
            }
        }
        Ok(())
    }

    fn check_against_host(&self, host: &Netlink) -> Result<(), FabricError> {
        if !self.uplink {
            return Ok(());
        }
        let own = host.link_named(HOST_UPLINK)?.map(|link| link.index);
        let networks = self
            .vpc_cidrs
            .iter()
            .map(|cidr| ("vpc_cidrs", *cidr))
            .chain([
                ("uplink_ipv4", IpNet::V4(self.uplink_ipv4.trunc())),
                ("uplink_ipv6", IpNet::V6(self.uplink_ipv6.trunc())),
            ]);
        let addresses = host.addresses()?;
        for (field, network) in networks {
            let inside = |found: &&Address| {
                network.contains(&found.address.addr()) && Some(found.link) != own
            };
            if let Some(found) = addresses.iter().find(inside) {
                return Err(FabricError::HostInside {
                    field,
                    network,
                    address: found.address.addr(),
                    link: found.link,
                });
            }
        }
        Ok(())
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
    let ends = |n| uplink_addresses(plan, n).into_iter().filter(usable);
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

/// The `n`th addresses of the uplink's networks: 1 is the host's, 2 the fabric's.
fn uplink_addresses(plan: &FabricPlan, n: u8) -> [IpNet; 2] {
    let (ipv4, ipv6) = (&plan.uplink_ipv4, &plan.uplink_ipv6);
    [
        IpNet::new_assert(nth_v4(ipv4, n).into(), ipv4.prefix_len()),
        IpNet::new_assert(nth_v6(ipv6, n).into(), ipv6.prefix_len()),
    ]
}

fn nth_v4(net: &Ipv4Net, n: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(net.network().to_bits() | u32::from(n))
}

fn nth_v6(net: &Ipv6Net, n: u8) -> Ipv6Addr {
    Ipv6Addr::from_bits(net.network().to_bits() | u128::from(n))
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn plan() -> FabricPlan {
        FabricPlan {
            netns_path: PathBuf::from("/run/netns/unused"),
            trunk_mtu: 9001,
            router_mac: Mac([2, 0, 0, 0, 0, 1]),
            vpc_cidrs: vec!["10.0.0.0/16".parse().unwrap(), "fd00::/56".parse().unwrap()],
            uplink_ipv4: "169.254.77.0/30".parse().unwrap(),
            uplink_ipv6: "fdb1:6272:616e:6368::/126".parse().unwrap(),
            uplink: true,
            nat_gateway: true,
        }
    }

    #[test]
    fn the_hosts_address_is_the_first_and_the_fabrics_the_second() {
        let texts = |n| uplink_addresses(&plan(), n).map(|net| net.to_string());
        assert_eq!(texts(1), ["169.254.77.1/30", "fdb1:6272:616e:6368::1/126"]);
        assert_eq!(texts(2), ["169.254.77.2/30", "fdb1:6272:616e:6368::2/126"]);
    }

    #[test]
    fn a_plan_that_cannot_work_names_its_field() {
        type Spoil = fn(&mut FabricPlan);
        let rows: [(&str, Spoil); 6] = [
            ("vpc_cidrs", |plan| plan.vpc_cidrs.clear()),
            ("trunk_mtu", |plan| plan.trunk_mtu = 1000),
            ("trunk_mtu", |plan| plan.trunk_mtu = 65_536),
            ("router_mac", |plan| {
                plan.router_mac = Mac([1, 0, 0, 0, 0, 0])
            }),
            ("uplink_ipv4", |plan| {
                plan.uplink_ipv4 = "169.254.77.0/31".parse().unwrap()
            }),
            ("uplink_ipv6", |plan| {
                plan.uplink_ipv6 = "fd00::/126".parse().unwrap()
            }),
        ];
        assert!(plan().validate().is_ok());
        for (expected, spoil) in rows {
            let mut spoilt = plan();
            spoil(&mut spoilt);
            match spoilt.validate() {
                Err(FabricError::Plan { field, .. }) => assert_eq!(field, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }
}
