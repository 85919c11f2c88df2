//! The `[[network_interfaces]]` of a VPC file: ENIs outside this host, for what their groups mean to rules. Pure.
//!
//! Field names are DescribeNetworkInterfaces', the lists flat. Never an ENI of a task.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

use super::directory::Directory;
use super::rule::Peer;
use crate::dns::is_domain;
use crate::field_error::{FieldError, FieldNote, check_id};

/// An ENI that carries groups, with its private addresses and delegated prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInterface {
    /// `eni-…`, or the field where it is written if that names none.
    pub network_interface_id: String,
    /// Its groups, at least one.
    pub groups: Vec<String>,
    /// Its addresses and prefixes, at least one, without host bits.
    pub networks: BTreeSet<IpNet>,
    /// What the VPC's resolver calls it, if anything.
    pub private_dns_name: Option<String>,
}

impl NetworkInterface {
    /// Its addresses, without its prefixes.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let is_one = |net: &&IpNet| net.prefix_len() == net.max_prefix_len();
        self.networks.iter().filter(is_one).map(IpNet::addr)
    }
}

/// One network interface, as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkInterfaceTable {
    /// `eni-…`.
    pub network_interface_id: Option<String>,
    /// Ids of its groups.
    pub groups: Vec<String>,
    /// As `ip-10-0-1-10.ec2.internal`.
    pub private_dns_name: Option<String>,
    /// IPv4 addresses, primary and secondary.
    #[serde(default)]
    pub private_ip_addresses: Vec<String>,
    /// IPv6 addresses.
    #[serde(default)]
    pub ipv6_addresses: Vec<String>,
    /// Delegated IPv4 networks; EC2's are /28.
    #[serde(default)]
    pub ipv4_prefixes: Vec<String>,
    /// Delegated IPv6 networks; EC2's are /80.
    #[serde(default)]
    pub ipv6_prefixes: Vec<String>,
}

/// Checks the tables `network_interfaces`, whose groups are `directory`'s, or those of other accounts and VPCs that
/// its rules name.
///
/// # Errors
/// The first field that is wrong.
pub fn check(
    tables: &[NetworkInterfaceTable],
    directory: &Directory,
    notes: &mut Vec<FieldNote>,
) -> Result<Vec<NetworkInterface>, FieldError> {
    let mut ids = BTreeSet::new();
    let mut interfaces = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let field = format!("network_interfaces[{index}]");
        let id_field = format!("{field}.network_interface_id");
        if let Some(id) = &table.network_interface_id {
            check_id(id, "eni-", &id_field)?;
        }
        let id = table.network_interface_id.clone().unwrap_or(field.clone());
        if !ids.insert(id.clone()) {
            let problem = format!("{id} is the id of an earlier network interface");
            let fix = "give each its own id, or leave it out";
            return Err(FieldError::new(id_field, problem, fix));
        }
        check_groups(&table.groups, &field, directory)?;
        interfaces.push(NetworkInterface {
            network_interface_id: id,
            groups: table.groups.clone(),
            networks: networks(table, &field, notes)?,
            private_dns_name: name(table, &field)?,
        });
    }
    Ok(interfaces)
}

fn name(table: &NetworkInterfaceTable, field: &str) -> Result<Option<String>, FieldError> {
    match &table.private_dns_name {
        Some(name) if !is_domain(name) => Err(FieldError::new(
            format!("{field}.private_dns_name"),
            format!("{name:?} is no DNS name"),
            "write one as ip-10-0-1-10.ec2.internal, or leave it out",
        )),
        name => Ok(name.clone()),
    }
}

fn check_groups(groups: &[String], field: &str, directory: &Directory) -> Result<(), FieldError> {
    let field = format!("{field}.groups");
    if groups.is_empty() {
        let fix = "name the groups whose members these addresses are";
        return Err(FieldError::new(field, "is empty", fix));
    }
    for (index, id) in groups.iter().enumerate() {
        let field = format!("{field}[{index}]");
        check_id(id, "sg-", &field)?;
        if !directory.groups.contains_key(id) && !is_foreign_peer(id, directory) {
            let problem = format!("no security group {id} is defined, and no rule names it");
            let fix = "add it to security_groups, or to a rule with its user_id";
            return Err(FieldError::new(field, problem, fix));
        }
    }
    Ok(())
}

fn is_foreign_peer(group_id: &str, directory: &Directory) -> bool {
    let mut rules = directory.groups.values().flat_map(|group| &group.rules);
    rules.any(|rule| matches!(&rule.peer, Peer::Group(peer) if peer.group_id == group_id))
}

fn networks(
    table: &NetworkInterfaceTable,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<BTreeSet<IpNet>, FieldError> {
    let mut networks = BTreeSet::new();
    let at = |name: &str, index: usize| format!("{field}.{name}[{index}]");
    for (index, text) in table.private_ip_addresses.iter().enumerate() {
        let field = at("private_ip_addresses", index);
        let address: Ipv4Addr = parse(text, &field, "an IPv4 address, as 10.0.1.10")?;
        networks.insert(IpNet::from(std::net::IpAddr::V4(address)));
    }
    for (index, text) in table.ipv6_addresses.iter().enumerate() {
        let field = at("ipv6_addresses", index);
        let address: Ipv6Addr = parse(text, &field, "an IPv6 address, as fd00:10::10")?;
        networks.insert(IpNet::from(std::net::IpAddr::V6(address)));
    }
    for (index, text) in table.ipv4_prefixes.iter().enumerate() {
        let field = at("ipv4_prefixes", index);
        let network: Ipv4Net = parse(text, &field, "an IPv4 network, as 10.0.1.64/28")?;
        networks.insert(masked(network.into(), text, field, notes));
    }
    for (index, text) in table.ipv6_prefixes.iter().enumerate() {
        let field = at("ipv6_prefixes", index);
        let network: Ipv6Net = parse(text, &field, "an IPv6 network, as fd00:10:0:0:1::/80")?;
        networks.insert(masked(network.into(), text, field, notes));
    }
    if networks.is_empty() {
        let fix = "add private_ip_addresses, ipv6_addresses, ipv4_prefixes or ipv6_prefixes";
        return Err(FieldError::new(field, "has no address", fix));
    }
    Ok(networks)
}

fn parse<T: FromStr>(text: &str, field: &str, what: &str) -> Result<T, FieldError> {
    let error = || FieldError::new(field, format!("{text:?} is none"), format!("write {what}"));
    text.parse().map_err(|_| error())
}

fn masked(network: IpNet, text: &str, field: String, notes: &mut Vec<FieldNote>) -> IpNet {
    let kept = network.trunc();
    if kept != network {
        notes.push(FieldNote::new(field, format!("{text} is taken as {kept}")));
    }
    kept
}
