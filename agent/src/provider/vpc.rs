//! A VPC: its networks, subnets, groups and names, as a provider knows them. Pure.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Eni;
use crate::dns::{TaskDns, VpcDns, internal_domain, region_of, resolver_of};
use crate::security_groups::network_interface::NetworkInterface;
use crate::security_groups::{Directory, SecurityGroup};

/// A VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vpc {
    /// `vpc-…`.
    pub vpc_id: String,
    /// IPv4 networks, the primary first; at least one; disjoint, without host bits.
    pub ipv4_cidrs: Vec<Ipv4Net>,
    /// IPv6 networks; disjoint, without host bits.
    pub ipv6_cidrs: Vec<Ipv6Net>,
    /// Subnets; disjoint, inside the VPC's networks.
    pub subnets: Vec<Subnet>,
    /// Its groups, of which one is named `default`, and its prefix lists.
    pub directory: Directory,
    /// ENIs outside this host that carry groups.
    pub network_interfaces: Vec<NetworkInterface>,
    /// Their addresses and networks, which no ENI of this host may have.
    pub foreign: Foreign,
    /// What it says of names.
    pub dns: VpcDns,
}

/// Addresses of ENIs outside this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreign {
    addresses: HashSet<IpAddr>,
    networks: Vec<IpNet>,
}

impl Foreign {
    /// Those of `interfaces`.
    #[must_use]
    pub fn of(interfaces: &[NetworkInterface]) -> Self {
        let mut foreign = Self::default();
        for network in interfaces.iter().flat_map(|interface| &interface.networks) {
            if network.prefix_len() == network.max_prefix_len() {
                foreign.addresses.insert(network.addr());
            } else {
                foreign.networks.push(*network);
            }
        }
        foreign
    }

    /// Whether `address` is one of theirs.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let in_network = || {
            self.networks
                .iter()
                .any(|network| network.contains(&address))
        };
        self.addresses.contains(&address) || in_network()
    }
}

/// A subnet with a network of at least one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// `subnet-…`.
    pub subnet_id: String,
    /// IPv4 network, /16 to /28.
    pub ipv4: Option<Ipv4Net>,
    /// IPv6 network, /64.
    pub ipv6: Option<Ipv6Net>,
    /// Its zone, as `us-east-1a`.
    pub availability_zone: Option<String>,
}

impl Vpc {
    /// Every network of the VPC.
    pub fn cidrs(&self) -> Vec<IpNet> {
        let ipv4 = self.ipv4_cidrs.iter().copied().map(IpNet::V4);
        ipv4.chain(self.ipv6_cidrs.iter().copied().map(IpNet::V6))
            .collect()
    }

    /// The resolver of each of its IPv4 networks.
    pub fn resolvers(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.ipv4_cidrs.iter().copied().map(resolver_of)
    }

    /// The domains of its ENIs' names, by the Regions of its zones.
    pub fn domains(&self) -> Vec<String> {
        let zones = self.subnets.iter();
        let zones = zones.map(|subnet| subnet.availability_zone.as_deref());
        let mut domains: Vec<_> = zones
            .map(|zone| internal_domain(zone.and_then(region_of)))
            .collect();
        domains.sort();
        domains.dedup();
        domains
    }

    /// What a task with `eni` that starts now is told of names.
    pub fn task_dns(&self, eni: &Eni) -> TaskDns {
        TaskDns::of(&self.dns, self.ipv4_cidrs.first().copied(), eni)
    }

    /// The subnet with this id.
    pub fn subnet(&self, subnet_id: &str) -> Option<&Subnet> {
        self.subnets
            .iter()
            .find(|subnet| subnet.subnet_id == subnet_id)
    }

    /// The group named `default`.
    pub fn default_group(&self) -> Option<&SecurityGroup> {
        self.directory.default_group()
    }
}
