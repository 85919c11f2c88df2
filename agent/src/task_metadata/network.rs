//! The `Networks` of task metadata, version 4: what an ENI is to its task. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::Serialize;

use crate::dns::TaskDns;
use crate::provider::{Eni, MacAddress};

/// An address and whether it is its family's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addressed {
    /// The address.
    pub address: Ipv4Addr,
    /// Whether it is the primary one.
    pub is_primary: bool,
}

/// What the document is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EniNetwork {
    /// The ENI's.
    pub mac: MacAddress,
    /// In any order.
    pub ipv4: Vec<Addressed>,
    /// The primary one first.
    pub ipv6: Vec<Ipv6Addr>,
    /// The subnet's networks.
    pub subnet_ipv4: Option<Ipv4Net>,
    /// See `subnet_ipv4`.
    pub subnet_ipv6: Option<Ipv6Net>,
    /// The IPv6 router, where it is not base+1.
    pub router_ipv6: Option<Ipv6Addr>,
    /// What the task asks.
    pub name_servers: Vec<IpAddr>,
    /// What it appends to short names.
    pub search: Vec<String>,
    /// The ENI's name.
    pub private_dns_name: Option<String>,
}

/// One of `Networks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkDocument {
    network_mode: &'static str,
    #[serde(rename = "IPv4Addresses", skip_serializing_if = "Vec::is_empty")]
    ipv4_addresses: Vec<Ipv4Addr>,
    #[serde(rename = "IPv6Addresses", skip_serializing_if = "Vec::is_empty")]
    ipv6_addresses: Vec<Ipv6Addr>,
    attachment_index: u32,
    #[serde(rename = "MACAddress")]
    mac_address: String,
    #[serde(
        rename = "IPv4SubnetCIDRBlock",
        skip_serializing_if = "Option::is_none"
    )]
    ipv4_subnet: Option<Ipv4Net>,
    #[serde(
        rename = "IPv6SubnetCIDRBlock",
        skip_serializing_if = "Option::is_none"
    )]
    ipv6_subnet: Option<Ipv6Net>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    domain_name_servers: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    domain_name_search_list: Vec<String>,
    #[serde(rename = "PrivateDNSName", skip_serializing_if = "Option::is_none")]
    private_dns_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet_gateway_ipv4_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet_gateway_ipv6_address: Option<String>,
}

impl EniNetwork {
    /// Of an ENI whose task is told `dns`.
    #[must_use]
    pub fn of(eni: &Eni, dns: &TaskDns) -> Self {
        let primary = |net: Ipv4Net| Addressed {
            address: net.addr(),
            is_primary: true,
        };
        Self {
            mac: eni.mac,
            ipv4: eni.ipv4.map(primary).into_iter().collect(),
            ipv6: eni.ipv6.map(|net| net.addr()).into_iter().collect(),
            subnet_ipv4: eni.ipv4.map(|net| net.trunc()),
            subnet_ipv6: eni.ipv6.map(|net| net.trunc()),
            router_ipv6: eni.router_ipv6,
            name_servers: dns.name_servers.clone(),
            search: dns.search.clone(),
            private_dns_name: dns.host_name.clone(),
        }
    }

    /// The document: primary addresses first, the IPv6 router only where there is no IPv4 (else it comes from router
    /// advertisements at AWS).
    #[must_use]
    pub fn document(&self) -> NetworkDocument {
        let mut ipv4 = self.ipv4.clone();
        ipv4.sort_by_key(|one| !one.is_primary);
        let gateway_v6 = self
            .subnet_ipv6
            .filter(|_| self.ipv4.is_empty())
            .map(|net| {
                let first = Ipv6Addr::from_bits(net.network().to_bits() | 1);
                let router = self.router_ipv6.unwrap_or(first);
                format!("{router}/{}", net.prefix_len())
            });
        let gateway_v4 = self.subnet_ipv4.map(|net| {
            let router = Ipv4Addr::from_bits(net.network().to_bits() | 1);
            format!("{router}/{}", net.prefix_len())
        });
        NetworkDocument {
            network_mode: "awsvpc",
            ipv4_addresses: ipv4.iter().map(|one| one.address).collect(),
            ipv6_addresses: self.ipv6.clone(),
            attachment_index: 0,
            mac_address: self.mac.to_string(),
            ipv4_subnet: self.subnet_ipv4.map(|net| net.trunc()),
            ipv6_subnet: self.subnet_ipv6.map(|net| net.trunc()),
            domain_name_servers: self.name_servers.clone(),
            domain_name_search_list: self.search.clone(),
            private_dns_name: self.private_dns_name.clone(),
            subnet_gateway_ipv4_address: gateway_v4,
            subnet_gateway_ipv6_address: gateway_v6,
        }
    }
}
