//! DescribeNetworkInterfaces, and an ENI in any answer.

use super::{Describe, Operation, Request, Run, maybe, one, tags};
use crate::answer::Xml;
use crate::error::Result;
use crate::filter::{FILTERS, Field};
use crate::id::Kind;
use crate::paging::{self, PAGES};
use crate::protocol::text;
use crate::state::{Attachment, NetworkInterface, State, zone_id};

pub(super) const DESCRIBE_NETWORK_INTERFACES: Operation = Operation {
    name: "DescribeNetworkInterfaces",
    parameters: &[&[text("NetworkInterfaceId.N")], FILTERS, PAGES],
    run: Run::Read(describe),
};

fn of_attachment<T: ToString>(
    eni: &NetworkInterface,
    of: impl Fn(&Attachment) -> T,
) -> Vec<String> {
    maybe(eni.attachment.as_ref().map(of))
}

const FIELDS: &[Field<NetworkInterface>] = &[
    ("addresses.private-ip-address", |_, eni| {
        eni.private_ip_addresses
            .iter()
            .map(ToString::to_string)
            .collect()
    }),
    ("attachment.attachment-id", |_, eni| {
        of_attachment(eni, |at| at.attachment_id.clone())
    }),
    ("attachment.delete-on-termination", |_, eni| {
        of_attachment(eni, |at| at.delete_on_termination)
    }),
    ("attachment.device-index", |_, eni| {
        of_attachment(eni, |at| at.device_index)
    }),
    ("attachment.instance-id", |_, eni| {
        of_attachment(eni, |at| at.instance_id.clone())
    }),
    ("attachment.instance-owner-id", |state, eni| {
        of_attachment(eni, |_| state.account_id.clone())
    }),
    ("attachment.status", |_, eni| {
        of_attachment(eni, |at| at.status.name())
    }),
    ("availability-zone", |_, eni| one(&eni.availability_zone)),
    ("description", |_, eni| one(&eni.description)),
    ("group-id", |_, eni| eni.group_ids.clone()),
    ("group-name", |state, eni| {
        eni.group_ids
            .iter()
            .map(|id| group_name(state, id))
            .collect()
    }),
    ("interface-type", |state, eni| one(state.shown_type(eni))),
    ("ipv6-addresses.ipv6-address", |_, eni| {
        eni.ipv6_addresses.iter().map(ToString::to_string).collect()
    }),
    ("mac-address", |_, eni| one(&eni.mac_address)),
    ("network-interface-id", |_, eni| {
        one(&eni.network_interface_id)
    }),
    ("owner-id", |state, _| one(&state.account_id)),
    ("private-dns-name", |state, eni| {
        maybe(private_dns_name(state, eni))
    }),
    ("private-ip-address", |_, eni| {
        eni.private_ip_addresses
            .iter()
            .map(ToString::to_string)
            .collect()
    }),
    ("requester-managed", |_, _| one(false)),
    ("source-dest-check", |_, eni| one(eni.source_dest_check)),
    ("status", |state, eni| one(state.status(eni))),
    ("subnet-id", |_, eni| one(&eni.subnet_id)),
    ("vpc-id", |_, eni| one(&eni.vpc_id)),
];

fn describe(state: &State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let describe = Describe {
        all: &state.network_interfaces,
        kind: Kind::NetworkInterface,
        ids: "NetworkInterfaceId",
        fields: FIELDS,
        limits: 5..=1000,
    };
    let found = describe.select(state, request)?;
    paging::write(xml, "networkInterfaceSet", found, |xml, eni| {
        write(xml, state, eni)
    });
    Ok(())
}

/// Writes the elements of an ENI.
pub(super) fn write(xml: &mut Xml, state: &State, eni: &NetworkInterface) {
    if let Some(attachment) = &eni.attachment {
        xml.within("attachment", |xml| {
            write_attachment(xml, attachment, Some(state))
        });
    }
    xml.text("availabilityZone", &eni.availability_zone)
        .text("availabilityZoneId", zone_id(&eni.availability_zone));
    if let Some(tracking) = &eni.connection_tracking {
        xml.within("connectionTrackingConfiguration", |xml| {
            xml.optional("tcpEstablishedTimeout", tracking.tcp_established_timeout)
                .optional("udpStreamTimeout", tracking.udp_stream_timeout)
                .optional("udpTimeout", tracking.udp_timeout);
        });
    }
    xml.text("description", &eni.description);
    write_groups(xml, state, eni);
    let native = eni.private_ip_addresses.is_empty();
    xml.text("interfaceType", state.shown_type(eni))
        .list(
            "ipv6AddressesSet",
            eni.ipv6_addresses.iter().enumerate(),
            |xml, (at, address)| {
                xml.text("ipv6Address", address)
                    .text("isPrimaryIpv6", at == 0 && eni.primary_ipv6);
            },
        )
        .text("macAddress", &eni.mac_address)
        .text("networkInterfaceId", &eni.network_interface_id)
        .text("ownerId", &state.account_id)
        .optional("privateDnsName", private_dns_name(state, eni))
        .optional("privateIpAddress", eni.private_ip_addresses.first());
    write_private_ip_addresses(xml, state, eni);
    xml.text("requesterManaged", false)
        .text("sourceDestCheck", eni.source_dest_check)
        .text("status", state.status(eni))
        .text("subnetId", &eni.subnet_id);
    tags::write(xml, &eni.tags);
    xml.text("vpcId", &eni.vpc_id)
        .text("denyAllIgwTraffic", false)
        .text("ipv6Native", native)
        .optional("ipv6Address", eni.ipv6_addresses.first());
}

/// Writes an attachment; with the instance where the ENI is told of, without where the instance is.
pub(super) fn write_attachment(xml: &mut Xml, attachment: &Attachment, of_eni: Option<&State>) {
    xml.time("attachTime", attachment.attach_time)
        .text("attachmentId", &attachment.attachment_id)
        .text("deleteOnTermination", attachment.delete_on_termination)
        .text("deviceIndex", attachment.device_index)
        .text("networkCardIndex", attachment.network_card_index)
        .text("status", attachment.status.name());
    if let Some(state) = of_eni {
        xml.text("instanceId", &attachment.instance_id)
            .text("instanceOwnerId", &state.account_id);
    }
}

pub(super) fn write_groups(xml: &mut Xml, state: &State, eni: &NetworkInterface) {
    xml.list("groupSet", &eni.group_ids, |xml, id| {
        xml.text("groupId", id)
            .text("groupName", group_name(state, id));
    });
}

pub(super) fn write_private_ip_addresses(xml: &mut Xml, state: &State, eni: &NetworkInterface) {
    let addresses = eni.private_ip_addresses.iter().enumerate();
    xml.list("privateIpAddressesSet", addresses, |xml, (at, address)| {
        xml.text("primary", at == 0)
            .optional("privateDnsName", dns_name(state, eni, *address))
            .text("privateIpAddress", address);
    });
}

fn group_name(state: &State, id: &str) -> String {
    let group = state.security_groups.get(id);
    group
        .map(|group| group.group_name.clone())
        .unwrap_or_default()
}

/// The name of an ENI's primary address, in a VPC that gives names.
pub(crate) fn private_dns_name(state: &State, eni: &NetworkInterface) -> Option<String> {
    dns_name(state, eni, *eni.private_ip_addresses.first()?)
}

fn dns_name(state: &State, eni: &NetworkInterface, address: std::net::Ipv4Addr) -> Option<String> {
    let vpc = state.vpcs.get(&eni.vpc_id)?;
    let named = vpc.enable_dns_support && vpc.enable_dns_hostnames;
    let domain = match state.region.as_str() {
        "us-east-1" => "ec2.internal".to_owned(),
        region => format!("{region}.compute.internal"),
    };
    let dashes = address.to_string().replace('.', "-");
    named.then(|| format!("ip-{dashes}.{domain}"))
}
