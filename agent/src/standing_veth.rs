//! The veths that stand as long as the agent serves its host: trunk and uplink of the local fabric, and the services'
//! link, each from the host into a namespace of the agent's own.
//!
//! Made with patience, left with what they are to have and nothing else, and removed only if they are veths.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::link::{Link, Mac, VethEnd, VethPair};
use crate::netlink::{Netlink, NetlinkError};
use crate::netns::Origin;
use crate::route::Route;

/// Links of a namespace that has just ended are there for a moment.
const DYING_LINK_CHECKS: u32 = 30;
const DYING_LINK_PAUSE: Duration = Duration::from_millis(100);

/// A pair of such ends: names, hardware addresses, and bytes of the MTU of both.
pub(crate) fn pair(near: (&str, Mac), far: (&str, Mac), mtu: u32) -> VethPair {
    let end = |(name, mac): (&str, Mac)| VethEnd {
        name: name.to_owned(),
        mac: Some(mac),
    };
    VethPair {
        near: end(near),
        far: end(far),
        mtu,
    }
}

/// Makes `pair` or finds it, with patience for one of its names that just goes.
pub(crate) fn ensure(
    host: &Netlink,
    pair: &VethPair,
    far: &Netlink,
) -> Result<(Link, Origin), NetlinkError> {
    let mut checks = 0;
    loop {
        match host.ensure_veth(pair, far) {
            Err(NetlinkError::Conflict { .. }) if checks < DYING_LINK_CHECKS => checks += 1,
            result => return result,
        }
        std::thread::sleep(DYING_LINK_PAUSE);
    }
}

/// Removes the pair whose end on the host is `name`; already gone is success.
///
/// # Errors
/// `Conflict` if a link of another kind has the name; it stays.
pub(crate) fn delete(host: &Netlink, name: &str) -> Result<(), NetlinkError> {
    let Some(link) = host.link_named(name)? else {
        return Ok(());
    };
    if link.kind.as_deref() != Some("veth") {
        let what = format!(
            "delete veth {name} of network namespace {}",
            host.netns().name()
        );
        let found = format!("a link of kind {:?}", link.kind.unwrap_or_default());
        return Err(NetlinkError::Conflict { what, found });
    }
    host.delete_link(link.index)?;
    Ok(())
}

/// Leaves `link` with exactly these routes of ours, and no address but `addresses`.
pub(crate) fn settle(
    netlink: &Netlink,
    link: u32,
    addresses: &[IpNet],
    routes: &[Route],
) -> Result<(), NetlinkError> {
    for found in netlink.addresses()? {
        let ip = found.address.addr();
        let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if found.link == link && !link_local && !addresses.contains(&found.address) {
            netlink.delete_address(&found)?;
        }
    }
    for found in netlink.routes()? {
        // The kernel's own routes are not deleted: ours are marked static.
        if found.link == link && !routes.contains(&found) {
            netlink.delete_route(&found)?;
        }
    }
    for route in routes {
        netlink.ensure_route(route)?;
    }
    Ok(())
}
