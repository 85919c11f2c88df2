//! What lies beyond a host under test: one further namespace that a link joins to it.

use std::{net::IpAddr, path::Path};

use anyhow::{Context, Result};
use branchline::{
    link::{VethEnd, VethPair},
    netlink::Netlink,
    netns::Netns,
    route::{Address, Route},
};
use ipnet::IpNet;

use crate::host::Host;

/// The link's name at both ends.
pub const LINK: &str = "wan";
/// The host's addresses on it.
pub const HOST: [&str; 2] = ["198.51.100.1/24", "2001:db8:ffff::1/64"];
/// The outside's addresses on it.
pub const OUTSIDE: [&str; 2] = ["198.51.100.2/24", "2001:db8:ffff::2/64"];

const NETNS: &str = "/run/netns/outside";

/// The outside of a host.
#[derive(Debug)]
pub struct Outside {
    /// Its namespace.
    pub netns: Netns,
    netlink_index: u32,
}

impl Outside {
    /// Its addresses, IPv4 first.
    ///
    /// # Panics
    /// Never: they are constants.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        OUTSIDE.map(|text| network(text).addr())
    }

    /// Routes `destination` to the host, as an outside would that wants to reach in.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn route_to_host(&self, destination: IpNet) -> Result<()> {
        let host = HOST
            .map(|text| network(text).addr())
            .into_iter()
            .find(|address| address.is_ipv4() == destination.addr().is_ipv4());
        let route = Route {
            destination,
            gateway: host,
            link: self.netlink_index,
            source: None,
        };
        Netlink::open(&self.netns)?.ensure_route(&route)?;
        Ok(())
    }

    /// Runs `work` on a thread in there and waits for it; a panic goes on here.
    ///
    /// # Panics
    /// If the thread cannot enter, or `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns
            .run(work)
            .unwrap_or_else(|error| panic!("enter the outside: {error}"))
    }
}

impl Host {
    /// Makes this host's outside, over a link of `mtu` bytes. Call it once.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn outside(&self, mtu: u32) -> Result<Outside> {
        let (netns, _) = self.run(|| Netns::create(Path::new(NETNS)))?;
        let netlink_index = join(self.netns(), &netns, mtu).context("join the outside")?;
        Ok(Outside {
            netns,
            netlink_index,
        })
    }
}

/// Joins host and outside; returns the link's index outside.
fn join(host: &Netns, outside: &Netns, mtu: u32) -> Result<u32> {
    let (host, outside) = (Netlink::open(host)?, Netlink::open(outside)?);
    let end = || VethEnd {
        name: LINK.to_owned(),
        mac: None,
    };
    let pair = VethPair {
        near: end(),
        far: end(),
        mtu,
    };
    let (near, _) = host.ensure_veth(&pair, &outside)?;
    let far = outside.existing_link(LINK)?;
    for (netlink, link, addresses) in [(&host, near.index, HOST), (&outside, far.index, OUTSIDE)] {
        for address in addresses {
            let address = Address {
                link,
                address: network(address),
                prefix_route: true,
            };
            netlink.ensure_address(&address)?;
        }
        netlink.set_up(link, true)?;
    }
    host.wait_until_sending(near.index)?;
    outside.wait_until_sending(far.index)?;
    Ok(far.index)
}

fn network(text: &str) -> IpNet {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}
