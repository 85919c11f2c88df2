//! What a task is told of names: its hostname, the resolvers and the search list, by the VPC's settings at its start.
//! Pure.
//!
//! AWS: "DNS attributes for your VPC", "DHCP option sets"; ECS rules in the developer guide's "Task networking with the
//! awsvpc network mode". Never changed for a task that runs.

mod options;

pub(crate) use options::is_domain;
pub use options::{DhcpOptions, DhcpOptionsTable, NameServer};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::provider::Eni;

/// The VPC's resolver beside base+2, over IPv4.
pub const RESOLVER_IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
/// The VPC's resolver over IPv6.
pub const RESOLVER_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253);

/// A VPC's settings of DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpcDns {
    /// Whether the VPC's resolvers answer.
    pub enable_dns_support: bool,
    /// Whether its ENIs have private DNS names.
    pub enable_dns_hostnames: bool,
    /// What DHCP would hand out; `None` for AWS's default set.
    pub dhcp_options: Option<DhcpOptions>,
}

impl Default for VpcDns {
    /// As of a VPC that is no default one.
    fn default() -> Self {
        Self {
            enable_dns_support: true,
            enable_dns_hostnames: false,
            dhcp_options: None,
        }
    }
}

/// What one task is told, from its start to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDns {
    /// Whether the VPC's resolvers answer it.
    pub has_resolver: bool,
    /// Its private DNS name, if the VPC gives one; else the container runtime's random name stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// What it asks, in order.
    pub name_servers: Vec<IpAddr>,
    /// What it appends to short names.
    pub search: Vec<String>,
    /// Where it may get the time from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp_servers: Vec<IpAddr>,
}

impl TaskDns {
    /// What a task with `eni` is told in a VPC with these settings, whose primary network is `primary`.
    #[must_use]
    pub fn of(vpc: &VpcDns, primary: Option<Ipv4Net>, eni: &Eni) -> Self {
        let zone = eni.availability_zone.as_deref();
        let region = zone.and_then(region_of);
        let attributes = DnsAttributes {
            enable_dns_support: vpc.enable_dns_support,
            enable_dns_hostnames: vpc.enable_dns_hostnames,
        };
        let ipv4 = eni.ipv4.map(|net| net.addr());
        let host_name = host_name(attributes, region, ipv4, eni.private_dns_name.as_deref());
        let amazons = match (ipv4, primary) {
            (Some(_), Some(primary)) => resolver_of(primary).into(),
            (Some(_), None) => RESOLVER_IPV4.into(),
            (None, _) => RESOLVER_IPV6.into(),
        };
        let (name_servers, search, ntp_servers) = match &vpc.dhcp_options {
            None => (vec![amazons], vec![internal_domain(region)], Vec::new()),
            Some(options) => (
                options.addresses(amazons),
                options.domain_name.clone(),
                options.ntp_servers.clone(),
            ),
        };
        Self {
            has_resolver: vpc.enable_dns_support,
            host_name,
            name_servers,
            search,
            ntp_servers,
        }
    }
}

/// The two attributes of a VPC that decide about names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DnsAttributes {
    /// `enableDnsSupport`.
    pub enable_dns_support: bool,
    /// `enableDnsHostnames`.
    pub enable_dns_hostnames: bool,
}

/// A task's hostname: what EC2 calls its ENI, else what it would call one of this address; `None` leaves the container
/// runtime's random one. Both attributes must be on.
#[must_use]
pub fn host_name(
    attributes: DnsAttributes,
    region: Option<&str>,
    ipv4: Option<Ipv4Addr>,
    described: Option<&str>,
) -> Option<String> {
    if !(attributes.enable_dns_support && attributes.enable_dns_hostnames) {
        return None;
    }
    let described = described.map(str::to_owned);
    described.or_else(|| ipv4.map(|address| private_dns_name(address, region)))
}

/// `ip-10-0-1-10.ec2.internal`; outside us-east-1 the Region stands in the domain.
#[must_use]
pub fn private_dns_name(address: Ipv4Addr, region: Option<&str>) -> String {
    let [a, b, c, d] = address.octets();
    format!("ip-{a}-{b}-{c}-{d}.{}", internal_domain(region))
}

/// The domain of a Region's private DNS names.
#[must_use]
pub fn internal_domain(region: Option<&str>) -> String {
    match region {
        None | Some("us-east-1") => "ec2.internal".to_owned(),
        Some(region) => format!("{region}.compute.internal"),
    }
}

/// The Region of a zone: `us-east-1` of `us-east-1a`.
#[must_use]
pub fn region_of(zone: &str) -> Option<&str> {
    let region = zone.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    (!region.is_empty()).then_some(region)
}

/// The resolver of a VPC's IPv4 network: base+2.
#[must_use]
pub fn resolver_of(cidr: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(cidr.network().to_bits().wrapping_add(2))
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
