//! CreateNetworkInterface and DeleteNetworkInterface.

use super::addresses::{ipv4_addresses, ipv6_addresses};
use super::tags::{TAG_SPECIFICATION, read_specification};
use super::{Operation, Request, Run, describe_enis};
use crate::answer::Xml;
use crate::error::{Ec2Error, Result};
use crate::id::Kind;
use crate::protocol::{Parameter, Parameters, boolean, integer, text};
use crate::state::{ConnectionTracking, InterfaceType, NetworkInterface, State, Subnet, find};

const MAX_DESCRIPTION: usize = 255;

/// Idle timeouts of connections, in CreateNetworkInterface and ModifyNetworkInterfaceAttribute.
pub(super) const CONNECTION_TRACKING: &[Parameter] = &[
    integer("ConnectionTrackingSpecification.TcpEstablishedTimeout"),
    integer("ConnectionTrackingSpecification.UdpStreamTimeout"),
    integer("ConnectionTrackingSpecification.UdpTimeout"),
];

pub(super) const CREATE_NETWORK_INTERFACE: Operation = Operation {
    name: "CreateNetworkInterface",
    parameters: &[
        &[
            text("SubnetId").required(),
            text("SecurityGroupId.N"),
            text("PrivateIpAddress"),
            text("PrivateIpAddresses.N.PrivateIpAddress"),
            boolean("PrivateIpAddresses.N.Primary"),
            integer("SecondaryPrivateIpAddressCount"),
            integer("Ipv6AddressCount"),
            text("Ipv6Addresses.N.Ipv6Address"),
            text("InterfaceType"),
            text("Description"),
            boolean("EnablePrimaryIpv6"),
            text("ClientToken"),
        ],
        TAG_SPECIFICATION,
        CONNECTION_TRACKING,
    ],
    run: Run::Write(create),
};

pub(super) const DELETE_NETWORK_INTERFACE: Operation = Operation {
    name: "DeleteNetworkInterface",
    parameters: &[&[text("NetworkInterfaceId").required()]],
    run: Run::Write(delete),
};

fn create(state: &mut State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let parameters = &request.parameters;
    let operation = CREATE_NETWORK_INTERFACE.name;
    if let Some(answer) = state.tokens.replay(operation, parameters)? {
        *xml = answer;
        return Ok(());
    }
    let subnet = find(
        &state.subnets,
        Kind::Subnet,
        parameters.require("SubnetId")?,
    )?
    .clone();
    let group_ids = groups(state, parameters, &subnet)?;
    let private_ip_addresses = ipv4_addresses(state, parameters, &subnet)?;
    let ipv6_addresses = ipv6_addresses(state, parameters, &subnet)?;
    let primary_ipv6 = parameters.boolean("EnablePrimaryIpv6") == Some(true);
    if primary_ipv6 && ipv6_addresses.is_empty() {
        let message = "EnablePrimaryIpv6 needs an IPv6 address";
        return Err(Ec2Error::combination(message));
    }
    let interface_type = interface_type(parameters)?;
    let connection_tracking = connection_tracking(parameters)?;
    let tags = read_specification(parameters, "network-interface")?;
    let description = description(parameters.text("Description"))?;
    if state.network_interfaces.len() >= state.settings.network_interface_quota {
        let message = "You have reached the limit of network interfaces in this Region.";
        return Err(Ec2Error::new("NetworkInterfaceLimitExceeded", message));
    }
    let id = state.ids.next(Kind::NetworkInterface);
    let eni = NetworkInterface {
        network_interface_id: id.clone(),
        subnet_id: subnet.subnet_id,
        vpc_id: subnet.vpc_id,
        availability_zone: subnet.availability_zone,
        interface_type,
        mac_address: mac_address(state.ids.count(Kind::NetworkInterface)),
        description,
        group_ids,
        private_ip_addresses,
        ipv6_addresses,
        primary_ipv6,
        source_dest_check: true,
        connection_tracking,
        attachment: None,
        tags,
        created: request.now.instant,
    };
    xml.within("networkInterface", |xml| {
        describe_enis::write(xml, state, &eni)
    });
    xml.optional("clientToken", parameters.text("ClientToken"));
    state.network_interfaces.insert(id, eni);
    state.tokens.note(operation, parameters, xml);
    Ok(())
}

fn delete(state: &mut State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let id = request.parameters.require("NetworkInterfaceId")?;
    let eni = state.network_interface(id, request.now)?;
    if state.status(eni) != "available" {
        let message = format!("Network interface '{id}' is currently in use.");
        return Err(Ec2Error::new(state.settings.delete_in_use_code, message));
    }
    state.delete(id);
    xml.text("return", true);
    Ok(())
}

/// A locally administered address, as EC2's are.
fn mac_address(number: u64) -> String {
    let [.., a, b, c, d] = number.to_be_bytes();
    format!("0a:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// The groups of a request; the VPC's default group if it names none.
fn groups(state: &State, parameters: &Parameters<'_>, subnet: &Subnet) -> Result<Vec<String>> {
    let named = parameters.list("SecurityGroupId");
    if named.is_empty() {
        let vpc = find(&state.vpcs, Kind::Vpc, &subnet.vpc_id)?;
        return Ok(vec![vpc.default_group_id.clone()]);
    }
    check_groups(state, &named, &subnet.vpc_id)
}

/// Whether an ENI of a VPC may have these groups.
///
/// # Errors
/// One is not of the VPC, there are too many, or one is there twice.
pub(super) fn check_groups(state: &State, named: &[&str], vpc_id: &str) -> Result<Vec<String>> {
    let mut groups: Vec<String> = Vec::new();
    for id in named {
        let group = find(&state.security_groups, Kind::SecurityGroup, id)?;
        if group.vpc_id != vpc_id {
            let message = "You have specified two resources that belong to different networks.";
            return Err(Ec2Error::new("InvalidGroup.NotFound", message));
        }
        if groups.iter().any(|known| known == id) {
            return Err(Ec2Error::invalid(format!("Duplicate security group {id}")));
        }
        groups.push((*id).to_owned());
    }
    let most = state.settings.groups_per_interface;
    if groups.len() > most {
        let message = format!(
            "The maximum number of security groups per interface ({most}) has been reached"
        );
        return Err(Ec2Error::new(
            "SecurityGroupsPerInterfaceLimitExceeded",
            message,
        ));
    }
    Ok(groups)
}

fn interface_type(parameters: &Parameters<'_>) -> Result<InterfaceType> {
    match parameters.text("InterfaceType") {
        None | Some("interface") => Ok(InterfaceType::Interface),
        Some("trunk") => Ok(InterfaceType::Trunk),
        Some(other @ ("branch" | "efa" | "efa-only")) => {
            let message = format!("Interfaces of type {other} are not made here");
            Err(Ec2Error::new("UnsupportedOperation", message))
        }
        Some(other) => Err(Ec2Error::value(
            other,
            "InterfaceType",
            "Expecting interface or trunk.",
        )),
    }
}

/// # Errors
/// It is too long.
pub(super) fn description(text: Option<&str>) -> Result<String> {
    let text = text.unwrap_or_default();
    if text.chars().count() > MAX_DESCRIPTION {
        return Err(Ec2Error::value(
            text,
            "Description",
            "At most 255 characters.",
        ));
    }
    Ok(text.to_owned())
}

/// The idle timeouts that a request sets.
///
/// # Errors
/// One is out of EC2's range.
pub(super) fn connection_tracking(
    parameters: &Parameters<'_>,
) -> Result<Option<ConnectionTracking>> {
    if !parameters.any("ConnectionTrackingSpecification.") {
        return Ok(None);
    }
    let timeout = |name: &str, range: std::ops::RangeInclusive<i64>| {
        let name = format!("ConnectionTrackingSpecification.{name}");
        match parameters.integer(&name) {
            Some(value) if !range.contains(&value) => {
                let why = format!("Expecting {} to {} seconds.", range.start(), range.end());
                Err(Ec2Error::value(value, &name, &why))
            }
            valid => Ok(valid),
        }
    };
    Ok(Some(ConnectionTracking {
        tcp_established_timeout: timeout("TcpEstablishedTimeout", 60..=432_000)?,
        udp_stream_timeout: timeout("UdpStreamTimeout", 60..=180)?,
        udp_timeout: timeout("UdpTimeout", 30..=60)?,
    }))
}
