//! The VPC file: TOML with the field names of EC2's Describe calls in snake case, checked as EC2 checks.
//!
//! Turns text into a `Vpc` or into one error that names field and fix. Never allocates anything.

use std::path::{Path, PathBuf};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;

use crate::dns::{DhcpOptions, DhcpOptionsTable, VpcDns};
use crate::field_error::{FieldError, check_id, from_toml};
use crate::provider::vpc::{Foreign, Subnet, Vpc};
use crate::security_groups::change::{ApplyOptions, apply};
use crate::security_groups::file::{PrefixListTable, SecurityGroupFile, SecurityGroupTable};
use crate::security_groups::network_interface::{self, NetworkInterfaceTable};
use crate::security_groups::{DEFAULT_GROUP_NAME, Directory, Members, OwnVpc};

/// A checked VPC, and what in its file exceeds an EC2 quota or has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedVpc {
    /// The VPC.
    pub vpc: Vpc,
    /// One sentence each, naming the field.
    pub warnings: Vec<String>,
}

/// Why a VPC file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VpcFileError {
    /// The file could not be read.
    #[error("read VPC file {} (local.vpc_file)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A field of it is wrong.
    #[error("VPC file {}: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which field, and what to write.
        #[source]
        source: FieldError,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VpcEntry {
    vpc_id: String,
    cidr_block: String,
    #[serde(default)]
    cidr_block_association_set: Vec<CidrBlockAssociation>,
    ipv6_cidr_block: Option<String>,
    #[serde(default)]
    ipv6_cidr_block_association_set: Vec<Ipv6CidrBlockAssociation>,
    #[serde(default)]
    subnets: Vec<SubnetEntry>,
    #[serde(default)]
    security_groups: Vec<SecurityGroupTable>,
    #[serde(default)]
    prefix_lists: Vec<PrefixListTable>,
    #[serde(default)]
    network_interfaces: Vec<NetworkInterfaceTable>,
    #[serde(default = "default_dns_support")]
    enable_dns_support: bool,
    #[serde(default)]
    enable_dns_hostnames: bool,
    dhcp_options: Option<DhcpOptionsTable>,
}

/// As EC2's CreateVpc.
const fn default_dns_support() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CidrBlockAssociation {
    cidr_block: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ipv6CidrBlockAssociation {
    ipv6_cidr_block: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubnetEntry {
    subnet_id: String,
    cidr_block: Option<String>,
    ipv6_cidr_block: Option<String>,
    #[serde(default)]
    ipv6_cidr_block_association_set: Vec<Ipv6CidrBlockAssociation>,
    availability_zone: Option<String>,
}

/// Reads and checks the VPC file at `path`.
///
/// # Errors
/// `Read` if the file cannot be read; `Invalid` names the first field that is wrong.
pub fn load(path: &Path) -> Result<CheckedVpc, VpcFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| VpcFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|source| VpcFileError::Invalid {
        path: path.to_owned(),
        source,
    })
}

/// Reads and checks the text of a VPC file.
///
/// # Errors
/// The first field that is wrong.
pub fn parse(text: &str) -> Result<CheckedVpc, FieldError> {
    let entry: VpcEntry = from_toml(text)?;
    check_id(&entry.vpc_id, "vpc-", "vpc_id")?;
    let ipv4_cidrs = ipv4_cidrs(&entry)?;
    let ipv6_cidrs = ipv6_cidrs(&entry)?;
    let mut subnets: Vec<Subnet> = Vec::new();
    for (index, subnet) in entry.subnets.iter().enumerate() {
        let subnet = self::subnet(
            subnet,
            &format!("subnets[{index}]"),
            &ipv4_cidrs,
            &ipv6_cidrs,
            &subnets,
        )?;
        subnets.push(subnet);
    }
    if subnets.is_empty() {
        return Err(FieldError::new(
            "subnets",
            "the VPC has none",
            "add [[subnets]] with subnet_id and cidr_block",
        ));
    }
    let own = OwnVpc {
        vpc_id: &entry.vpc_id,
        has_ipv6: !ipv6_cidrs.is_empty(),
    };
    let file = SecurityGroupFile {
        security_groups: entry.security_groups,
        prefix_lists: entry.prefix_lists,
    };
    let (directory, mut warnings) = directory(&file, own)?;
    let mut notes = Vec::new();
    let network_interfaces =
        network_interface::check(&entry.network_interfaces, &directory, &mut notes)?;
    warnings.extend(notes.iter().map(ToString::to_string));
    let dhcp_options = entry.dhcp_options.as_ref().map(DhcpOptions::check);
    let dns = VpcDns {
        enable_dns_support: entry.enable_dns_support,
        enable_dns_hostnames: entry.enable_dns_hostnames,
        dhcp_options: dhcp_options.transpose()?,
    };
    let vpc = Vpc {
        vpc_id: entry.vpc_id,
        ipv4_cidrs,
        ipv6_cidrs,
        subnets,
        directory,
        foreign: Foreign::of(&network_interfaces),
        network_interfaces,
        dns,
    };
    Ok(CheckedVpc { vpc, warnings })
}

/// The groups and prefix lists of the file, with a default group where it has none.
fn directory(
    file: &SecurityGroupFile,
    vpc: OwnVpc<'_>,
) -> Result<(Directory, Vec<String>), FieldError> {
    let is_default = |table: &SecurityGroupTable| {
        let name = table.group_name.trim_end();
        name.eq_ignore_ascii_case(DEFAULT_GROUP_NAME)
            && table.vpc_id.as_deref().is_none_or(|id| id == vpc.vpc_id)
    };
    let before = if file.security_groups.iter().any(is_default) {
        Directory::default()
    } else {
        Directory::of_new_vpc(vpc.has_ipv6)
    };
    let members = Members::default();
    let options = ApplyOptions {
        vpc,
        prune: false,
        members: &members,
    };
    apply(&before, file, options)
}

fn ipv4_cidrs(entry: &VpcEntry) -> Result<Vec<Ipv4Net>, FieldError> {
    let mut cidrs = vec![vpc_ipv4(&entry.cidr_block, "cidr_block")?];
    for (index, association) in entry.cidr_block_association_set.iter().enumerate() {
        let field = format!("cidr_block_association_set[{index}].cidr_block");
        let cidr = vpc_ipv4(&association.cidr_block, &field)?;
        // DescribeVpcs lists the primary network here as well.
        if cidr != cidrs[0] {
            check_disjoint(&cidr, &cidrs, &field)?;
            cidrs.push(cidr);
        }
    }
    Ok(cidrs)
}

fn ipv6_cidrs(entry: &VpcEntry) -> Result<Vec<Ipv6Net>, FieldError> {
    let mut cidrs = Vec::new();
    if let Some(text) = &entry.ipv6_cidr_block {
        cidrs.push(vpc_ipv6(text, "ipv6_cidr_block")?);
    }
    for (index, association) in entry.ipv6_cidr_block_association_set.iter().enumerate() {
        let field = format!("ipv6_cidr_block_association_set[{index}].ipv6_cidr_block");
        let cidr = vpc_ipv6(&association.ipv6_cidr_block, &field)?;
        if entry.ipv6_cidr_block.is_none() || cidrs.first() != Some(&cidr) {
            check_disjoint(&cidr, &cidrs, &field)?;
            cidrs.push(cidr);
        }
    }
    Ok(cidrs)
}

fn vpc_ipv4(text: &str, field: &str) -> Result<Ipv4Net, FieldError> {
    let cidr = ipv4(text, field)?;
    let address = cidr.network();
    let first = address.octets()[0];
    if first == 0 || first >= 224 || address.is_loopback() || address.is_link_local() {
        let problem = format!("{cidr} has another meaning in IPv4");
        return Err(FieldError::new(
            field,
            problem,
            "take a private network, as 10.0.0.0/16",
        ));
    }
    Ok(cidr)
}

fn vpc_ipv6(text: &str, field: &str) -> Result<Ipv6Net, FieldError> {
    let cidr = ipv6(text, field)?;
    let address = cidr.network();
    if !(44..=60).contains(&cidr.prefix_len()) {
        let fix = "write a prefix length from 44 to 60, as fd00:10::/56";
        return Err(FieldError::new(
            field,
            format!("{cidr} has a size no VPC has"),
            fix,
        ));
    }
    if address.is_multicast() || address.is_unicast_link_local() || address.to_bits() >> 96 == 0 {
        let problem = format!("{cidr} has another meaning in IPv6");
        return Err(FieldError::new(
            field,
            problem,
            "take a unique local network, as fd00:10::/56",
        ));
    }
    Ok(cidr)
}

/// An IPv4 network of VPC or subnet, with the host bits masked as EC2 does.
fn ipv4(text: &str, field: &str) -> Result<Ipv4Net, FieldError> {
    let fix = "write an IPv4 network from /16 to /28, as 10.0.1.0/24";
    let cidr: Ipv4Net = text
        .parse()
        .map_err(|_| FieldError::new(field, format!("{text:?} is no IPv4 network"), fix))?;
    if !(16..=28).contains(&cidr.prefix_len()) {
        return Err(FieldError::new(
            field,
            format!("{text} is not between /16 and /28"),
            fix,
        ));
    }
    Ok(cidr.trunc())
}

fn ipv6(text: &str, field: &str) -> Result<Ipv6Net, FieldError> {
    let fix = "write an IPv6 network, as fd00:10:0:1::/64";
    let cidr: Ipv6Net = text
        .parse()
        .map_err(|_| FieldError::new(field, format!("{text:?} is no IPv6 network"), fix))?;
    Ok(cidr.trunc())
}

fn subnet(
    entry: &SubnetEntry,
    field: &str,
    vpc_ipv4: &[Ipv4Net],
    vpc_ipv6: &[Ipv6Net],
    before: &[Subnet],
) -> Result<Subnet, FieldError> {
    let id_field = format!("{field}.subnet_id");
    check_id(&entry.subnet_id, "subnet-", &id_field)?;
    if before
        .iter()
        .any(|subnet| subnet.subnet_id == entry.subnet_id)
    {
        let problem = format!("{} is the id of an earlier subnet", entry.subnet_id);
        return Err(FieldError::new(
            id_field,
            problem,
            "give each subnet its own id",
        ));
    }
    let (ipv4, ipv6) = (subnet_ipv4(entry, field)?, subnet_ipv6(entry, field)?);
    if let Some(cidr) = &ipv4 {
        let field = format!("{field}.cidr_block");
        check_inside(cidr, vpc_ipv4, |outer, inner| outer.contains(inner), &field)?;
        check_disjoint(
            cidr,
            before.iter().filter_map(|subnet| subnet.ipv4.as_ref()),
            &field,
        )?;
    }
    if let Some(cidr) = &ipv6 {
        let field = format!("{field}.ipv6_cidr_block");
        check_inside(cidr, vpc_ipv6, |outer, inner| outer.contains(inner), &field)?;
        check_disjoint(
            cidr,
            before.iter().filter_map(|subnet| subnet.ipv6.as_ref()),
            &field,
        )?;
    }
    if ipv4.is_none() && ipv6.is_none() {
        return Err(FieldError::new(
            format!("{field}.cidr_block"),
            "is missing",
            "add it, or ipv6_cidr_block",
        ));
    }
    let availability_zone = entry.availability_zone.clone();
    Ok(Subnet {
        subnet_id: entry.subnet_id.clone(),
        ipv4,
        ipv6,
        availability_zone,
    })
}

fn subnet_ipv4(entry: &SubnetEntry, field: &str) -> Result<Option<Ipv4Net>, FieldError> {
    entry
        .cidr_block
        .as_deref()
        .map(|text| ipv4(text, &format!("{field}.cidr_block")))
        .transpose()
}

fn subnet_ipv6(entry: &SubnetEntry, field: &str) -> Result<Option<Ipv6Net>, FieldError> {
    let set = &entry.ipv6_cidr_block_association_set;
    let text = entry
        .ipv6_cidr_block
        .as_ref()
        .or(set.first().map(|association| &association.ipv6_cidr_block));
    let field = format!("{field}.ipv6_cidr_block");
    if let Some(other) = set
        .iter()
        .map(|association| &association.ipv6_cidr_block)
        .find(|other| Some(*other) != text)
    {
        let problem = format!("{other} would be a second IPv6 network");
        return Err(FieldError::new(
            field,
            problem,
            "keep one: a subnet has one IPv6 network",
        ));
    }
    let cidr = text.map(|text| ipv6(text, &field)).transpose()?;
    match cidr {
        Some(cidr) if cidr.prefix_len() != 64 => Err(FieldError::new(
            field,
            format!("{cidr} is not a /64"),
            "write a /64, as fd00:10:0:1::/64",
        )),
        cidr => Ok(cidr),
    }
}

fn check_inside<N: std::fmt::Display>(
    cidr: &N,
    outer: &[N],
    contains: impl Fn(&N, &N) -> bool,
    field: &str,
) -> Result<(), FieldError> {
    if outer.iter().any(|outer| contains(outer, cidr)) {
        return Ok(());
    }
    let known = outer
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let known = if known.is_empty() {
        "the VPC has none of this family".to_owned()
    } else {
        known
    };
    let problem = format!("{cidr} lies outside the VPC's networks ({known})");
    Err(FieldError::new(
        field,
        problem,
        "choose a part of one of them, or add a network to the VPC",
    ))
}

/// Networks without host bits overlap exactly when one contains the other.
fn check_disjoint<'a, N>(
    cidr: &N,
    others: impl IntoIterator<Item = &'a N>,
    field: &str,
) -> Result<(), FieldError>
where
    N: std::fmt::Display + Copy + Into<ipnet::IpNet> + 'a,
{
    let net: ipnet::IpNet = (*cidr).into();
    let overlaps = |other: &&N| {
        let other: ipnet::IpNet = (**other).into();
        other.contains(&net) || net.contains(&other)
    };
    match others.into_iter().find(overlaps) {
        None => Ok(()),
        Some(other) => {
            let problem = format!("{cidr} overlaps {other}");
            Err(FieldError::new(
                field,
                problem,
                "choose networks that do not overlap",
            ))
        }
    }
}

#[cfg(test)]
#[path = "vpc_file_tests.rs"]
mod tests;
