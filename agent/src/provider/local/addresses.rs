//! Which addresses, VLAN id and MAC the next ENI of the local VPC gets.
//!
//! A pure function of the VPC, of what existing ENIs take up, and of the request: the store stays the only truth.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::{Ipv4AddrRange, Ipv4Net, Ipv6Net};

use crate::dns::{private_dns_name, region_of};
use crate::field_error::FieldError;
use crate::provider::vpc::{Subnet, Vpc};
use crate::provider::{Eni, EniRequest, MacAddress, Occupied, ProviderError, VlanId};
use crate::security_groups::Directory;

/// The MAC address of the VPC's router, on the fabric's end of the trunk.
///
/// Locally administered; ENIs begin with `0a`, so none of them can have it.
pub const ROUTER_MAC: MacAddress = MacAddress([0x0e, 0x62, 0x6c, 0x00, 0x00, 0x01]);

/// Addresses at a subnet's start that are nobody's: network, router, resolver, future use.
const RESERVED_FIRST: u32 = 4;

/// Field of the task specification that lists the subnets.
const SUBNETS: &str = "networkConfiguration.awsvpcConfiguration.subnets";
/// Field of the task specification that lists the groups.
const GROUPS: &str = "networkConfiguration.awsvpcConfiguration.securityGroups";

/// Why there is no ENI for a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// The request names what the VPC does not have.
    #[error("{0}")]
    Invalid(FieldError),
    /// Every address of every listed subnet is taken.
    #[error("no free address in {subnets}; remove tasks, or list another subnet in {SUBNETS}")]
    AddressesExhausted {
        /// Each subnet with the number of addresses that it has for ENIs.
        subnets: String,
    },
    /// Every VLAN id of the trunk, or every ENI that `max_enis` allows, is taken.
    #[error(
        "the trunk carries {limit} ENIs, its most; remove tasks, or raise max_enis (up to 4094 VLAN ids)"
    )]
    TrunkFull {
        /// How many it carries.
        limit: usize,
    },
}

impl From<AllocateError> for ProviderError {
    fn from(error: AllocateError) -> Self {
        match error {
            AllocateError::Invalid(field) => Self::Invalid(field),
            AllocateError::AddressesExhausted { .. } | AllocateError::TrunkFull { .. } => {
                Self::Exhausted(error.to_string())
            }
        }
    }
}

/// The ENI `eni_id` for `request`: in the first listed subnet that has free addresses, the lowest of each family.
/// Its groups are of `directory`, what is in force.
///
/// # Errors
/// See [`AllocateError`]; unknown names are found before anything is counted.
pub fn allocate(
    vpc: &Vpc,
    directory: &Directory,
    occupied: &Occupied,
    request: &EniRequest,
    eni_id: &str,
    max_enis: usize,
) -> Result<Eni, AllocateError> {
    let subnets = subnets(vpc, &request.subnets)?;
    let groups = group_ids(&vpc.vpc_id, directory, &request.security_groups)?;
    let vlan = free_vlan(occupied, max_enis)?;
    let Some((subnet, ipv4, ipv6)) = subnets
        .iter()
        .find_map(|subnet| free_addresses(vpc, subnet, occupied))
    else {
        let subnets: Vec<String> = subnets.iter().map(|subnet| capacity(subnet)).collect();
        return Err(AllocateError::AddressesExhausted {
            subnets: subnets.join(", "),
        });
    };
    Ok(Eni {
        eni_id: eni_id.to_owned(),
        attachment_id: request.attachment_id.clone(),
        subnet_id: subnet.subnet_id.clone(),
        vpc_id: vpc.vpc_id.clone(),
        mac: free_mac(eni_id, occupied),
        vlan: Some(vlan),
        device: None,
        ipv4,
        ipv6,
        router_ipv4: subnet.ipv4.map(router_ipv4),
        router_ipv6: subnet.ipv6.map(router_ipv6),
        router_mac: Some(ROUTER_MAC),
        groups,
        private_dns_name: ipv4.map(|net| {
            let zone = subnet.availability_zone.as_deref();
            private_dns_name(net.addr(), zone.and_then(region_of))
        }),
        availability_zone: subnet.availability_zone.clone(),
    })
}

/// The router of an IPv4 subnet: base+1.
pub fn router_ipv4(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.network().to_bits() | 1)
}

/// The router of an IPv6 subnet: base+1.
pub fn router_ipv6(subnet: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from_bits(subnet.network().to_bits() | 1)
}

fn subnets<'a>(vpc: &'a Vpc, ids: &[String]) -> Result<Vec<&'a Subnet>, AllocateError> {
    let find = |(index, id): (usize, &String)| {
        vpc.subnet(id).ok_or_else(|| {
            let known = vpc.subnets.iter().map(|subnet| subnet.subnet_id.as_str());
            AllocateError::Invalid(unknown(SUBNETS, index, id, "subnet", &vpc.vpc_id, known))
        })
    };
    ids.iter().enumerate().map(find).collect()
}

fn group_ids(
    vpc_id: &str,
    directory: &Directory,
    ids: &[String],
) -> Result<Vec<String>, AllocateError> {
    if ids.is_empty() {
        let default = directory.default_group().ok_or_else(|| {
            let problem = format!("is empty, and {vpc_id} has no default group");
            AllocateError::Invalid(FieldError::new(GROUPS, problem, "name a group"))
        })?;
        return Ok(vec![default.group_id.clone()]);
    }
    known_groups(GROUPS, vpc_id, directory, ids)
}

/// `ids`, which `field` lists, if there are such groups.
///
/// # Errors
/// The first that there is not.
pub(super) fn known_groups(
    field: &str,
    vpc_id: &str,
    directory: &Directory,
    ids: &[String],
) -> Result<Vec<String>, AllocateError> {
    let find = |(index, id): (usize, &String)| {
        let group = directory.groups.get(id).ok_or_else(|| {
            let known = directory.groups.keys().map(String::as_str);
            AllocateError::Invalid(unknown(field, index, id, "security group", vpc_id, known))
        })?;
        Ok(group.group_id.clone())
    };
    ids.iter().enumerate().map(find).collect()
}

fn unknown<'a>(
    field: &str,
    index: usize,
    id: &str,
    kind: &str,
    vpc_id: &str,
    known: impl Iterator<Item = &'a str>,
) -> FieldError {
    let some: Vec<&str> = known.take(10).collect();
    let fix = format!("write one that there is, as {}", some.join(", "));
    FieldError::new(
        format!("{field}[{index}]"),
        format!("{id:?} is no {kind} of {vpc_id}"),
        fix,
    )
}

fn free_vlan(occupied: &Occupied, max_enis: usize) -> Result<VlanId, AllocateError> {
    let full = AllocateError::TrunkFull {
        limit: occupied.len(),
    };
    if occupied.len() >= max_enis {
        return Err(full);
    }
    let free = occupied.vlans.free_among(VlanId::ALL).next();
    free.or_else(|| occupied.vlans.coolest(|_| true))
        .ok_or(full)
}

type Addresses<'a> = (&'a Subnet, Option<Ipv4Net>, Option<Ipv6Net>);

/// An address of every family the subnet has, or nothing.
fn free_addresses<'a>(vpc: &Vpc, subnet: &'a Subnet, occupied: &Occupied) -> Option<Addresses<'a>> {
    let ipv4 = match subnet.ipv4 {
        Some(net) => Some(free_ipv4(vpc, net, occupied)?),
        None => None,
    };
    let ipv6 = match subnet.ipv6 {
        Some(net) => Some(free_ipv6(vpc, net, occupied)?),
        None => None,
    };
    Some((subnet, ipv4, ipv6))
}

/// Addresses that an ENI may have in an IPv4 subnet: not the first four and not the last.
fn ipv4_addresses(subnet: Ipv4Net) -> RangeInclusive<Ipv4Addr> {
    let first = subnet.network().to_bits() | RESERVED_FIRST;
    let last = subnet.broadcast().to_bits() - 1;
    Ipv4Addr::from_bits(first)..=Ipv4Addr::from_bits(last)
}

fn each(addresses: RangeInclusive<Ipv4Addr>) -> Ipv4AddrRange {
    let (first, last) = addresses.into_inner();
    Ipv4AddrRange::new(first, last)
}

fn free_ipv4(vpc: &Vpc, subnet: Ipv4Net, occupied: &Occupied) -> Option<Ipv4Net> {
    let is_ours = |address: &Ipv4Addr| !vpc.foreign.has((*address).into());
    let free = occupied
        .ipv4
        .free_among(ipv4_addresses(subnet))
        .find(is_ours);
    let coolest = || {
        let wanted = |address: &Ipv4Addr| subnet.contains(address) && is_ours(address);
        occupied.ipv4.coolest(wanted)
    };
    Ipv4Net::new(free.or_else(coolest)?, subnet.prefix_len()).ok()
}

/// A subnet of 2^64 addresses always has one that nobody had a moment ago.
fn free_ipv6(vpc: &Vpc, subnet: Ipv6Net, occupied: &Occupied) -> Option<Ipv6Net> {
    let first = subnet.network().to_bits() | u128::from(RESERVED_FIRST);
    let last = subnet.broadcast().to_bits() - 1;
    let addresses = Ipv6Addr::from_bits(first)..=Ipv6Addr::from_bits(last);
    let is_ours = |address: &Ipv6Addr| !vpc.foreign.has((*address).into());
    let address = occupied.ipv6.free_among(addresses).find(is_ours)?;
    Ipv6Net::new(address, subnet.prefix_len()).ok()
}

/// Addresses for ENIs that are free in `subnet`; what cools down is. Without IPv4 there is no end of them.
pub fn available(vpc: &Vpc, subnet: &Subnet, occupied: &Occupied) -> u64 {
    let Some(net) = subnet.ipv4 else {
        return u64::MAX;
    };
    let is_available = |address: &Ipv4Addr| {
        !occupied.ipv4.is_taken(address) && !vpc.foreign.has((*address).into())
    };
    each(ipv4_addresses(net)).filter(is_available).count() as u64
}

fn capacity(subnet: &Subnet) -> String {
    match subnet.ipv4 {
        Some(net) => format!(
            "{} ({net}, {} addresses for ENIs)",
            subnet.subnet_id,
            each(ipv4_addresses(net)).count()
        ),
        None => format!("{} (IPv6 only)", subnet.subnet_id),
    }
}

/// `0a` and the last ten digits of the id; the next number where another ENI has that one.
fn free_mac(eni_id: &str, occupied: &Occupied) -> MacAddress {
    let start = eni_id.len().saturating_sub(10);
    let mut number = eni_id
        .get(start..)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .unwrap_or_default();
    loop {
        let [_, _, _, a, b, c, d, e] = number.to_be_bytes();
        let mac = MacAddress([0x0a, a, b, c, d, e]);
        if occupied.macs.is_free(&mac) {
            return mac;
        }
        number += 1;
    }
}

#[cfg(test)]
#[path = "addresses_tests.rs"]
mod tests;
