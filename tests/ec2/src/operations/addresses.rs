//! The addresses of a new ENI: those that a request names, counts or leaves to EC2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{Ec2Error, Result};
use crate::protocol::Parameters;
use crate::state::{State, Subnet};

/// The IPv4 addresses that a request asks for, the primary one first.
///
/// # Errors
/// One is not to be had, or the request contradicts itself or the subnet.
pub(super) fn ipv4_addresses(
    state: &State,
    parameters: &Parameters<'_>,
    subnet: &Subnet,
) -> Result<Vec<Ipv4Addr>> {
    let members = parameters.members("PrivateIpAddresses");
    let alone = parameters.text("PrivateIpAddress");
    if alone.is_some() && !members.is_empty() {
        let message = "PrivateIpAddress and PrivateIpAddresses cannot be used together";
        return Err(Ec2Error::combination(message));
    }
    let more = count(parameters, "SecondaryPrivateIpAddressCount")?;
    if subnet.ipv6_native() {
        if alone.is_some() || !members.is_empty() || more > 0 {
            let message = "IPv4 addresses cannot be assigned in an IPv6-only subnet";
            return Err(Ec2Error::combination(message));
        }
        return Ok(Vec::new());
    }
    let mut named: Vec<(bool, &str)> = alone.map(|address| (true, address)).into_iter().collect();
    for member in &members {
        let primary = member.boolean("Primary") == Some(true);
        named.push((primary, member.require("PrivateIpAddress")?));
    }
    if named.iter().filter(|(primary, _)| *primary).count() > 1 {
        return Err(Ec2Error::invalid(
            "Only one primary private IP address can be specified",
        ));
    }
    named.sort_by_key(|(primary, _)| !primary);
    let mut chosen = Vec::new();
    for (_, text) in &named {
        let address = parse::<Ipv4Addr>(text, "PrivateIpAddress")?;
        state.check_address(subnet, IpAddr::V4(address))?;
        if chosen.contains(&address) {
            return Err(Ec2Error::invalid(format!("Duplicate address {text}")));
        }
        chosen.push(address);
    }
    let has_primary = named.first().is_some_and(|(primary, _)| *primary);
    let mut free = state.free_ipv4(subnet, &chosen, more + usize::from(!has_primary))?;
    if !has_primary {
        chosen.insert(0, free.remove(0));
    }
    chosen.extend(free);
    Ok(chosen)
}

/// The IPv6 addresses that a request asks for, or that the subnet gives unasked.
///
/// # Errors
/// As [`ipv4_addresses`].
pub(super) fn ipv6_addresses(
    state: &State,
    parameters: &Parameters<'_>,
    subnet: &Subnet,
) -> Result<Vec<Ipv6Addr>> {
    let members = parameters.members("Ipv6Addresses");
    let counted = parameters.integer("Ipv6AddressCount").is_some();
    if counted && !members.is_empty() {
        let message = "Ipv6AddressCount and Ipv6Addresses cannot be used together";
        return Err(Ec2Error::combination(message));
    }
    let mut chosen = Vec::new();
    for member in &members {
        let text = member.require("Ipv6Address")?;
        let address = parse::<Ipv6Addr>(text, "Ipv6Address")?;
        state.check_address(subnet, IpAddr::V6(address))?;
        if chosen.contains(&address) {
            return Err(Ec2Error::invalid(format!("Duplicate address {text}")));
        }
        chosen.push(address);
    }
    let unasked = !counted && members.is_empty();
    let own = unasked && (subnet.assign_ipv6_address_on_creation || subnet.ipv6_native());
    let more = count(parameters, "Ipv6AddressCount")? + usize::from(own);
    chosen.extend(state.free_ipv6(subnet, more)?);
    Ok(chosen)
}

fn parse<T: std::str::FromStr>(text: &str, parameter: &str) -> Result<T> {
    let invalid = |_| Ec2Error::value(text, parameter, "Invalid IP address.");
    text.parse().map_err(invalid)
}

fn count(parameters: &Parameters<'_>, name: &str) -> Result<usize> {
    let asked = parameters.integer(name).unwrap_or_default();
    let most = 50;
    match usize::try_from(asked) {
        Ok(count) if count <= most => Ok(count),
        Ok(_) | Err(_) => Err(Ec2Error::value(asked, name, "Expecting 0 to 50.")),
    }
}
