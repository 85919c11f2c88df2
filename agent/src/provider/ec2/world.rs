//! What EC2 describes, in the words that the agent has for it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use branchline_ec2 as ec2;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::reading::Surroundings;
use crate::dns::{DhcpOptions, NameServer, VpcDns};
use crate::provider::vpc::{Foreign, Subnet, Vpc};
use crate::provider::{
    Eni, MacAddress, NoMacAddress, RouteTable, RouteTables, RouteTarget, VlanId,
};
use crate::security_groups::rule_table::{self, SecurityGroupRuleTable};
use crate::security_groups::{
    Directory, GroupReference, Members, PrefixList, PrefixListEntry, SecurityGroup,
};

/// What stands for the VPC's own resolver.
const AMAZON_PROVIDED: &str = "AmazonProvidedDNS";

/// Groups and prefix lists as EC2 has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Groups {
    /// Of the VPC.
    pub(super) groups: Vec<ec2::SecurityGroup>,
    /// Those that somebody here carries.
    pub(super) needed: BTreeSet<String>,
    /// Of those that somebody here carries.
    pub(super) rules: Vec<ec2::SecurityGroupRule>,
    /// Of those that a rule names, with their entries.
    pub(super) prefix_lists: Vec<(ec2::PrefixList, Vec<ec2::PrefixListEntry>)>,
}

/// The directory of `groups` of the VPC `vpc_id`, and a sentence for each rule or entry that cannot be read: it
/// allows nothing.
#[must_use]
pub(super) fn directory(groups: &Groups, vpc_id: &str) -> (Directory, Vec<String>) {
    let mut warnings = Vec::new();
    let mut directory = Directory::default();
    for group in &groups.groups {
        let known = SecurityGroup {
            group_id: group.id.clone(),
            group_name: group.name.clone(),
            description: group.description.clone(),
            vpc_id: Some(group.vpc_id.clone()).filter(|id| id != vpc_id),
            ..SecurityGroup::default()
        };
        directory.groups.insert(group.id.clone(), known);
    }
    for rule in &groups.rules {
        let Some(group) = directory.groups.get_mut(&rule.group_id) else {
            continue;
        };
        let mut notes = Vec::new();
        match rule_table::read(&table(rule, vpc_id), &rule.group_id, &mut notes) {
            Ok(read) => group.rules.push(read),
            Err(error) => warnings.push(format!("{}: {error}; it allows nothing", rule.group_id)),
        }
    }
    for (list, entries) in &groups.prefix_lists {
        let mut known = PrefixList {
            prefix_list_id: list.id.clone(),
            prefix_list_name: list.name.clone(),
            max_entries: list.max_entries,
            entries: Vec::new(),
        };
        for entry in entries {
            match entry.cidr.parse::<IpNet>() {
                Ok(cidr) => known.entries.push(PrefixListEntry {
                    cidr: cidr.trunc(),
                    description: entry.description.clone(),
                }),
                Err(_) => warnings.push(format!(
                    "{}: {:?} is no network; it allows nothing",
                    list.id, entry.cidr
                )),
            }
        }
        known.entries.sort();
        known.entries.dedup();
        directory.prefix_lists.insert(list.id.clone(), known);
    }
    (directory, warnings)
}

/// A rule as DescribeSecurityGroupRules names its fields.
fn table(rule: &ec2::SecurityGroupRule, vpc_id: &str) -> SecurityGroupRuleTable {
    let mut table = SecurityGroupRuleTable {
        security_group_rule_id: Some(rule.id.clone()),
        is_egress: rule.is_egress,
        ip_protocol: rule.ip_protocol.clone(),
        from_port: rule.from_port.map(i64::from),
        to_port: rule.to_port.map(i64::from),
        description: rule.description.clone(),
        ..SecurityGroupRuleTable::default()
    };
    match &rule.peer {
        ec2::RulePeer::Cidr(cidr) if cidr.contains(':') => table.cidr_ipv6 = Some(cidr.clone()),
        ec2::RulePeer::Cidr(cidr) => table.cidr_ipv4 = Some(cidr.clone()),
        ec2::RulePeer::PrefixList(id) => table.prefix_list_id = Some(id.clone()),
        ec2::RulePeer::Group {
            group_id,
            user_id,
            vpc_id: of,
            peering_status,
            vpc_peering_connection_id,
        } => {
            // EC2 names account and VPC also where they are the group's own.
            let is_other =
                vpc_peering_connection_id.is_some() || of.as_ref().is_some_and(|of| of != vpc_id);
            table.referenced_group_info = Some(GroupReference {
                group_id: group_id.clone(),
                user_id: user_id.clone().filter(|_| is_other),
                vpc_id: of.clone().filter(|_| is_other),
                vpc_peering_connection_id: vpc_peering_connection_id.clone(),
                peering_status: peering_status.clone(),
            });
        }
    }
    table
}

/// Who carries which group.
#[must_use]
pub(super) fn members(interfaces: &[ec2::NetworkInterface]) -> Members {
    let mut members = Members::default();
    for interface in interfaces {
        let ipv4 = interface.ipv4.iter().copied().map(IpAddr::V4);
        let ipv6 = interface.ipv6.iter().copied().map(IpAddr::V6);
        let addresses = ipv4.chain(ipv6).map(IpNet::from);
        let prefixes = interface.ipv4_prefixes.iter().copied().map(IpNet::V4);
        let prefixes = prefixes.chain(interface.ipv6_prefixes.iter().copied().map(IpNet::V6));
        let groups = interface.groups.iter().cloned();
        members.insert(&interface.id, groups, addresses.chain(prefixes));
    }
    members
}

/// A VPC with its subnets and what it says of names.
#[must_use]
pub(super) fn vpc(read: &Surroundings) -> Vpc {
    let (vpc, (enable_dns_support, enable_dns_hostnames)) = (&read.vpc, read.dns);
    let subnet = |subnet: &ec2::Subnet| Subnet {
        subnet_id: subnet.id.clone(),
        ipv4: subnet.ipv4,
        ipv6: subnet.ipv6,
        availability_zone: Some(subnet.availability_zone.clone()),
    };
    Vpc {
        vpc_id: vpc.id.clone(),
        ipv4_cidrs: vpc.ipv4.clone(),
        ipv6_cidrs: vpc.ipv6.clone(),
        subnets: read.subnets.iter().map(subnet).collect(),
        directory: Directory::default(),
        network_interfaces: Vec::new(),
        foreign: Foreign::default(),
        dns: VpcDns {
            enable_dns_support,
            enable_dns_hostnames,
            dhcp_options: read.dhcp_options.as_ref().map(options),
        },
    }
}

/// What is no address is left out, as DHCP clients do.
fn options(from: &ec2::DhcpOptions) -> DhcpOptions {
    let values = |key: &str| from.get(key).map(Vec::as_slice).unwrap_or_default();
    let server = |text: &String| match text.parse() {
        Ok(address) => Some(NameServer::Address(address)),
        Err(_) if text == AMAZON_PROVIDED => Some(NameServer::AmazonProvided),
        Err(_) => None,
    };
    let domains = values("domain-name").iter();
    DhcpOptions {
        domain_name_servers: values("domain-name-servers")
            .iter()
            .filter_map(server)
            .collect(),
        // Linux takes several, with blanks between.
        domain_name: domains
            .flat_map(|text| text.split_whitespace().map(str::to_owned))
            .collect(),
        ntp_servers: values("ntp-servers")
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect(),
    }
}

/// Route tables; a route to a prefix list is left out: its networks are not known.
#[must_use]
pub(super) fn route_tables(tables: &[ec2::RouteTable]) -> RouteTables {
    let mut found = RouteTables::default();
    for table in tables {
        let routes = table.routes.iter().filter_map(|route| {
            let network: IpNet = route.destination.parse().ok()?;
            Some((network, target(route.target.as_deref())))
        });
        let routes = Arc::new(routes.collect::<RouteTable>());
        for subnet in &table.subnets {
            found.of_subnets.insert(subnet.clone(), Arc::clone(&routes));
        }
        if table.is_main {
            found.main = routes;
        }
    }
    found
}

fn target(id: Option<&str>) -> RouteTarget {
    let kind = id.and_then(|id| id.split('-').next());
    match kind {
        Some("local") => RouteTarget::Local,
        Some("nat") => RouteTarget::NatGateway,
        Some("tgw") => RouteTarget::TransitGateway,
        Some("igw") => RouteTarget::InternetGateway,
        Some("eigw") => RouteTarget::EgressOnlyInternetGateway,
        Some("vgw") => RouteTarget::VpnGateway,
        Some("vpce") => RouteTarget::GatewayEndpoint,
        Some("eni" | "i") => RouteTarget::NetworkInterface,
        Some("cagw") => RouteTarget::CarrierGateway,
        Some("lgw") => RouteTarget::LocalGateway { outpost: true },
        // EC2 does not say here whether the peer is in the same Region.
        Some(_) | None => RouteTarget::Unknown,
    }
}

/// An ENI that cannot be a task's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoBranch {
    /// Its MAC address.
    #[error("{0}: {1}")]
    Mac(String, NoMacAddress),
    /// An address outside its subnet.
    #[error("{0}: {1} is no address of {2}")]
    Address(String, IpAddr, String),
    /// It has no address.
    #[error("{0} has no address")]
    NoAddress(String),
}

/// The ENI that `interface` of `subnet` is to a task, `vlan` on the trunk if it goes there.
///
/// # Errors
/// See [`NoBranch`].
pub(super) fn branch(
    interface: &ec2::NetworkInterface,
    subnet: &ec2::Subnet,
    attachment_id: &str,
    vlan: Option<VlanId>,
    router_mac: Option<MacAddress>,
) -> Result<Eni, NoBranch> {
    let id = || interface.id.clone();
    let mac = interface
        .mac
        .parse()
        .map_err(|error| NoBranch::Mac(id(), error))?;
    let outside = |address: IpAddr| NoBranch::Address(id(), address, subnet.id.clone());
    let ipv4 = match (interface.ipv4.first(), subnet.ipv4) {
        (Some(address), Some(net)) if net.contains(address) => {
            Some(ipnet::Ipv4Net::new_assert(*address, net.prefix_len()))
        }
        (Some(address), _) => return Err(outside((*address).into())),
        (None, _) => None,
    };
    let ipv6 = match (interface.ipv6.first(), subnet.ipv6) {
        (Some(address), Some(net)) if net.contains(address) => {
            Some(ipnet::Ipv6Net::new_assert(*address, net.prefix_len()))
        }
        (Some(address), _) => return Err(outside((*address).into())),
        (None, _) => None,
    };
    if ipv4.is_none() && ipv6.is_none() {
        return Err(NoBranch::NoAddress(id()));
    }
    Ok(Eni {
        eni_id: id(),
        attachment_id: attachment_id.to_owned(),
        subnet_id: interface.subnet_id.clone(),
        vpc_id: interface.vpc_id.clone(),
        mac,
        vlan,
        device: None,
        router_ipv4: ipv4.map(|net| first(net.network())),
        router_ipv6: ipv6.map(|net| first_v6(net.network())),
        ipv4,
        ipv6,
        router_mac,
        groups: interface.groups.clone(),
        private_dns_name: interface.private_dns_name.clone(),
        availability_zone: Some(subnet.availability_zone.clone()),
    })
}

/// The VPC's router is at base+1 of each subnet ("VPC CIDR blocks").
fn first(network: std::net::Ipv4Addr) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from_bits(network.to_bits() + 1)
}

fn first_v6(network: std::net::Ipv6Addr) -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::from_bits(network.to_bits() + 1)
}

/// Groups that the rules of `rules` name as peers.
#[must_use]
pub(super) fn referenced_groups(rules: &[ec2::SecurityGroupRule]) -> Vec<String> {
    let mut ids: Vec<_> = rules
        .iter()
        .filter_map(|rule| match &rule.peer {
            ec2::RulePeer::Group { group_id, .. } => Some(group_id.clone()),
            ec2::RulePeer::Cidr(_) | ec2::RulePeer::PrefixList(_) => None,
        })
        .collect();
    ids.sort();
    ids.dedup();
    ids
}

/// Prefix lists that the rules of `rules` name as peers.
#[must_use]
pub(super) fn referenced_lists(rules: &[ec2::SecurityGroupRule]) -> Vec<String> {
    let lists: BTreeMap<_, ()> = rules
        .iter()
        .filter_map(|rule| match &rule.peer {
            ec2::RulePeer::PrefixList(id) => Some((id.clone(), ())),
            ec2::RulePeer::Cidr(_) | ec2::RulePeer::Group { .. } => None,
        })
        .collect();
    lists.into_keys().collect()
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
