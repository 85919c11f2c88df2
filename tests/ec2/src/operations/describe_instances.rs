//! DescribeInstances and DescribeInstanceTypes.

use super::describe_enis::{write_attachment, write_groups, write_private_ip_addresses};
use super::{Describe, Operation, Request, Run, one, tags};
use crate::answer::Xml;
use crate::error::{Ec2Error, Result};
use crate::filter::{FILTERS, Field, Filters};
use crate::id::Kind;
use crate::paging::{self, PAGES, Paging};
use crate::protocol::text;
use crate::state::{Instance, InstanceType, NetworkInterface, State, Tagged, Tags, zone_id};

pub(super) const DESCRIBE_INSTANCES: Operation = Operation {
    name: "DescribeInstances",
    parameters: &[&[text("InstanceId.N")], FILTERS, PAGES],
    run: Run::Read(describe_instances),
};

pub(super) const DESCRIBE_INSTANCE_TYPES: Operation = Operation {
    name: "DescribeInstanceTypes",
    parameters: &[&[text("InstanceType.N")], FILTERS, PAGES],
    run: Run::Read(describe_instance_types),
};

const INSTANCE_FIELDS: &[Field<Instance>] = &[
    ("availability-zone", |_, instance| {
        one(&instance.availability_zone)
    }),
    ("instance-id", |_, instance| one(&instance.instance_id)),
    ("instance-state-code", |_, instance| {
        one(instance.state.shown().0)
    }),
    ("instance-state-name", |_, instance| {
        one(instance.state.shown().1)
    }),
    ("instance-type", |_, instance| one(&instance.instance_type)),
    (
        "network-interface.network-interface-id",
        |state, instance| {
            let attached = state.attached_to(&instance.instance_id).into_iter();
            attached
                .map(|(eni, _)| eni.network_interface_id.clone())
                .collect()
        },
    ),
    ("subnet-id", |_, instance| one(&instance.subnet_id)),
    ("vpc-id", |_, instance| one(&instance.vpc_id)),
];

fn describe_instances(state: &State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let describe = Describe {
        all: &state.instances,
        kind: Kind::Instance,
        ids: "InstanceId",
        fields: INSTANCE_FIELDS,
        limits: 5..=1000,
    };
    let found = describe.select(state, request)?;
    paging::write(xml, "reservationSet", found, |xml, instance| {
        xml.text("reservationId", &instance.reservation_id)
            .text("ownerId", &state.account_id)
            .list("groupSet", [(); 0], |_, ()| {})
            .list("instancesSet", [instance], |xml, instance| {
                write_instance(xml, state, instance)
            });
    });
    Ok(())
}

fn write_instance(xml: &mut Xml, state: &State, instance: &Instance) {
    let (code, name) = instance.state.shown();
    let attached = state.attached_to(&instance.instance_id);
    let primary = attached
        .first()
        .and_then(|(eni, _)| eni.private_ip_addresses.first());
    xml.text("instanceId", &instance.instance_id)
        .text("imageId", "ami-00000000000000001")
        .within("instanceState", |xml| {
            xml.text("code", code).text("name", name);
        })
        .text("amiLaunchIndex", 0)
        .text("instanceType", &instance.instance_type)
        .time("launchTime", instance.launch_time)
        .within("placement", |xml| {
            xml.text("availabilityZone", &instance.availability_zone)
                .text("availabilityZoneId", zone_id(&instance.availability_zone))
                .text("tenancy", "default");
        })
        .text("subnetId", &instance.subnet_id)
        .text("vpcId", &instance.vpc_id)
        .optional("privateIpAddress", primary)
        .text("hypervisor", "xen")
        .text("enaSupport", true)
        .list("networkInterfaceSet", attached, |xml, (eni, attachment)| {
            xml.within("attachment", |xml| write_attachment(xml, attachment, None));
            write_interface(xml, state, eni);
        });
    tags::write(xml, &instance.tags);
}

/// An ENI as DescribeInstances has it: less than DescribeNetworkInterfaces says.
fn write_interface(xml: &mut Xml, state: &State, eni: &NetworkInterface) {
    xml.text("description", &eni.description);
    write_groups(xml, state, eni);
    xml.list("ipv6AddressesSet", &eni.ipv6_addresses, |xml, address| {
        xml.text("ipv6Address", address);
    })
    .text("macAddress", &eni.mac_address)
    .text("networkInterfaceId", &eni.network_interface_id)
    .text("ownerId", &state.account_id)
    .optional("privateIpAddress", eni.private_ip_addresses.first());
    write_private_ip_addresses(xml, state, eni);
    xml.text("sourceDestCheck", eni.source_dest_check)
        .text("status", state.status(eni))
        .text("subnetId", &eni.subnet_id)
        .text("vpcId", &eni.vpc_id)
        .text("interfaceType", state.shown_type(eni));
}

/// A type has no tags.
impl Tagged for InstanceType {
    fn tags(&self) -> &Tags {
        static NONE: Tags = Tags::new();
        &NONE
    }
}

const TYPE_FIELDS: &[Field<InstanceType>] = &[
    ("instance-type", |_, of| one(&of.name)),
    ("network-info.maximum-network-interfaces", |_, of| {
        one(of.maximum_network_interfaces())
    }),
    ("processor-info.supported-architecture", |_, of| {
        one(&of.architecture)
    }),
];

fn describe_instance_types(state: &State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let filters = Filters::read(&request.parameters, TYPE_FIELDS)?;
    let names = request.parameters.list("InstanceType");
    let unknown = names
        .iter()
        .filter(|name| !state.instance_types.contains_key(**name));
    let unknown: Vec<&str> = unknown.copied().collect();
    if !unknown.is_empty() {
        let message = format!(
            "The following supplied instance types do not exist: [{}]",
            unknown.join(", ")
        );
        return Err(Ec2Error::new("InvalidInstanceType", message));
    }
    let all = state.instance_types.iter();
    let asked = all.filter(|(name, of)| {
        (names.is_empty() || names.contains(&name.as_str())) && filters.matches(state, of)
    });
    let paging = Paging {
        limits: 5..=100,
        ids: "InstanceType",
        page_size: request.page_size,
    };
    let found = asked.map(|(name, of)| (name.clone(), of)).collect();
    let found = paging::page(&request.parameters, &paging, found)?;
    paging::write(xml, "instanceTypeSet", found, write_type);
    Ok(())
}

fn write_type(xml: &mut Xml, of: &InstanceType) {
    xml.text("instanceType", &of.name)
        .text("currentGeneration", true)
        .text("bareMetal", false)
        .text("hypervisor", "nitro")
        .within("processorInfo", |xml| {
            xml.list("supportedArchitectures", [&of.architecture], |xml, name| {
                xml.bare(name)
            });
        })
        .within("networkInfo", |xml| write_network_info(xml, of));
}

fn write_network_info(xml: &mut Xml, of: &InstanceType) {
    xml.text("maximumNetworkInterfaces", of.maximum_network_interfaces())
        .text("maximumNetworkCards", of.network_cards.len())
        .text("defaultNetworkCardIndex", 0)
        .list(
            "networkCards",
            of.network_cards.iter().enumerate(),
            |xml, (at, interfaces)| {
                xml.text("networkCardIndex", at)
                    .text("maximumNetworkInterfaces", interfaces);
            },
        )
        .text("ipv4AddressesPerInterface", of.addresses_per_interface)
        .text("ipv6AddressesPerInterface", of.addresses_per_interface)
        .text("ipv6Supported", true)
        .text("enaSupport", "required")
        .within("connectionTrackingConfiguration", |xml| {
            xml.text("defaultTcpEstablishedTimeout", of.tcp_established_timeout)
                .text("defaultUdpTimeout", 30)
                .text("defaultUdpStreamTimeout", 180);
        });
}
