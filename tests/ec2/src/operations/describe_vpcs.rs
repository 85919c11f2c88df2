//! Describes of VPCs, subnets, DHCP options and route tables.

use std::net::IpAddr;

use super::{Describe, Operation, Request, Run, maybe, one, tags};
use crate::answer::Xml;
use crate::error::{Ec2Error, Result};
use crate::filter::{FILTERS, Field};
use crate::id::Kind;
use crate::paging::{self, PAGES};
use crate::protocol::text;
use crate::state::{
    DhcpOptions, Route, RouteTable, RouteTarget, State, Subnet, Vpc, find, zone_id,
};

pub(super) const DESCRIBE_SUBNETS: Operation = Operation {
    name: "DescribeSubnets",
    parameters: &[&[text("SubnetId.N")], FILTERS, PAGES],
    run: Run::Read(describe_subnets),
};

pub(super) const DESCRIBE_VPCS: Operation = Operation {
    name: "DescribeVpcs",
    parameters: &[&[text("VpcId.N")], FILTERS, PAGES],
    run: Run::Read(describe_vpcs),
};

pub(super) const DESCRIBE_VPC_ATTRIBUTE: Operation = Operation {
    name: "DescribeVpcAttribute",
    parameters: &[&[text("VpcId").required(), text("Attribute").required()]],
    run: Run::Read(describe_vpc_attribute),
};

pub(super) const DESCRIBE_DHCP_OPTIONS: Operation = Operation {
    name: "DescribeDhcpOptions",
    parameters: &[&[text("DhcpOptionsId.N")], FILTERS, PAGES],
    run: Run::Read(describe_dhcp_options),
};

pub(super) const DESCRIBE_ROUTE_TABLES: Operation = Operation {
    name: "DescribeRouteTables",
    parameters: &[&[text("RouteTableId.N")], FILTERS, PAGES],
    run: Run::Read(describe_route_tables),
};

const SUBNET_FIELDS: &[Field<Subnet>] = &[
    ("availability-zone", |_, subnet| {
        one(&subnet.availability_zone)
    }),
    ("availability-zone-id", |_, subnet| {
        one(zone_id(&subnet.availability_zone))
    }),
    ("available-ip-address-count", |state, subnet| {
        one(state.available_ip_address_count(subnet))
    }),
    ("cidr-block", |_, subnet| maybe(subnet.cidr_block)),
    (
        "ipv6-cidr-block-association.ipv6-cidr-block",
        |_, subnet| maybe(subnet.ipv6_cidr_block),
    ),
    ("ipv6-native", |_, subnet| one(subnet.ipv6_native())),
    ("owner-id", |state, _| one(&state.account_id)),
    ("state", |_, _| one("available")),
    ("subnet-id", |_, subnet| one(&subnet.subnet_id)),
    ("vpc-id", |_, subnet| one(&subnet.vpc_id)),
];

fn describe_subnets(state: &State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let describe = Describe {
        all: &state.subnets,
        kind: Kind::Subnet,
        ids: "SubnetId",
        fields: SUBNET_FIELDS,
        limits: 5..=1000,
    };
    let found = describe.select(state, request)?;
    paging::write(xml, "subnetSet", found, |xml, subnet| {
        xml.text("subnetId", &subnet.subnet_id)
            .text("vpcId", &subnet.vpc_id)
            .text("availabilityZone", &subnet.availability_zone)
            .text("availabilityZoneId", zone_id(&subnet.availability_zone))
            .text("ownerId", &state.account_id)
            .text("state", "available")
            .optional("cidrBlock", subnet.cidr_block)
            .text(
                "availableIpAddressCount",
                state.available_ip_address_count(subnet),
            )
            .text("defaultForAz", false)
            .text("mapPublicIpOnLaunch", false)
            .text(
                "assignIpv6AddressOnCreation",
                subnet.assign_ipv6_address_on_creation,
            )
            .text("ipv6Native", subnet.ipv6_native());
        let ipv6 = subnet.ipv6_cidr_block.iter();
        xml.list("ipv6CidrBlockAssociationSet", ipv6, |xml, block| {
            xml.text("associationId", &subnet.association_id)
                .text("ipv6CidrBlock", block);
            xml.within("ipv6CidrBlockState", |xml| {
                xml.text("state", "associated");
            });
        });
        tags::write(xml, &subnet.tags);
    });
    Ok(())
}

const VPC_FIELDS: &[Field<Vpc>] = &[
    ("cidr", |_, vpc| one(vpc.cidr_block)),
    ("dhcp-options-id", |_, vpc| one(&vpc.dhcp_options_id)),
    ("ipv6-cidr-block-association.ipv6-cidr-block", |_, vpc| {
        maybe(vpc.ipv6_cidr_block)
    }),
    ("owner-id", |state, _| one(&state.account_id)),
    ("state", |_, _| one("available")),
    ("vpc-id", |_, vpc| one(&vpc.vpc_id)),
];

fn describe_vpcs(state: &State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let describe = Describe {
        all: &state.vpcs,
        kind: Kind::Vpc,
        ids: "VpcId",
        fields: VPC_FIELDS,
        limits: 5..=1000,
    };
    let found = describe.select(state, request)?;
    paging::write(xml, "vpcSet", found, |xml, vpc| {
        let [_, ipv6] = &vpc.association_ids;
        xml.text("vpcId", &vpc.vpc_id)
            .text("ownerId", &state.account_id)
            .text("state", "available")
            .text("cidrBlock", vpc.cidr_block)
            .text("dhcpOptionsId", &vpc.dhcp_options_id)
            .text("instanceTenancy", "default")
            .text("isDefault", false)
            .list(
                "cidrBlockAssociationSet",
                vpc.cidr_associations(),
                |xml, (block, id)| {
                    xml.text("associationId", id).text("cidrBlock", block);
                    xml.within("cidrBlockState", |xml| {
                        xml.text("state", "associated");
                    });
                },
            )
            .list(
                "ipv6CidrBlockAssociationSet",
                vpc.ipv6_cidr_block,
                |xml, block| {
                    xml.text("associationId", ipv6).text("ipv6CidrBlock", block);
                    xml.within("ipv6CidrBlockState", |xml| {
                        xml.text("state", "associated");
                    });
                },
            );
        tags::write(xml, &vpc.tags);
    });
    Ok(())
}

fn describe_vpc_attribute(state: &State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let vpc = find(&state.vpcs, Kind::Vpc, request.parameters.require("VpcId")?)?;
    let attribute = request.parameters.require("Attribute")?;
    let value = match attribute {
        "enableDnsSupport" => vpc.enable_dns_support,
        "enableDnsHostnames" => vpc.enable_dns_hostnames,
        "enableNetworkAddressUsageMetrics" => false,
        other => return Err(Ec2Error::value(other, "attribute", "Unknown VPC attribute")),
    };
    xml.text("vpcId", &vpc.vpc_id);
    xml.within(attribute, |xml| {
        xml.text("value", value);
    });
    Ok(())
}

const DHCP_FIELDS: &[Field<DhcpOptions>] = &[
    (
        "dhcp-options-id",
        |_, options| one(&options.dhcp_options_id),
    ),
    ("key", |_, options| {
        options
            .configurations
            .iter()
            .map(|(key, _)| key.clone())
            .collect()
    }),
    ("owner-id", |state, _| one(&state.account_id)),
    ("value", |_, options| {
        options
            .configurations
            .iter()
            .flat_map(|(_, values)| values.clone())
            .collect()
    }),
];

fn describe_dhcp_options(state: &State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let describe = Describe {
        all: &state.dhcp_options,
        kind: Kind::DhcpOptions,
        ids: "DhcpOptionsId",
        fields: DHCP_FIELDS,
        limits: 5..=1000,
    };
    let found = describe.select(state, request)?;
    paging::write(xml, "dhcpOptionsSet", found, |xml, options| {
        xml.text("dhcpOptionsId", &options.dhcp_options_id)
            .text("ownerId", &state.account_id);
        xml.list(
            "dhcpConfigurationSet",
            &options.configurations,
            |xml, (key, values)| {
                xml.text("key", key).list("valueSet", values, |xml, value| {
                    xml.text("value", value);
                });
            },
        );
        tags::write(xml, &options.tags);
    });
    Ok(())
}

const ROUTE_TABLE_FIELDS: &[Field<RouteTable>] = &[
    ("association.main", |_, table| one(table.main)),
    ("association.subnet-id", |_, table| {
        table
            .subnets
            .iter()
            .map(|(subnet, _)| subnet.clone())
            .collect()
    }),
    ("owner-id", |state, _| one(&state.account_id)),
    ("route-table-id", |_, table| one(&table.route_table_id)),
    ("vpc-id", |_, table| one(&table.vpc_id)),
];

fn describe_route_tables(state: &State, request: &Request<'_>, xml: &mut Xml) -> Result<()> {
    let describe = Describe {
        all: &state.route_tables,
        kind: Kind::RouteTable,
        ids: "RouteTableId",
        fields: ROUTE_TABLE_FIELDS,
        limits: 5..=100,
    };
    let found = describe.select(state, request)?;
    paging::write(xml, "routeTableSet", found, |xml, table| {
        let main = (None, &table.main_association_id);
        let subnets = table
            .subnets
            .iter()
            .map(|(subnet, association)| (Some(subnet), association));
        let associations = table.main.then_some(main).into_iter().chain(subnets);
        xml.text("routeTableId", &table.route_table_id)
            .text("vpcId", &table.vpc_id)
            .text("ownerId", &state.account_id)
            .list(
                "associationSet",
                associations,
                |xml, (subnet, association)| {
                    xml.text("main", subnet.is_none())
                        .text("routeTableAssociationId", association)
                        .text("routeTableId", &table.route_table_id)
                        .optional("subnetId", subnet)
                        .within("associationState", |xml| {
                            xml.text("state", "associated");
                        });
                },
            )
            .list("propagatingVgwSet", [(); 0], |_, ()| {})
            .list("routeSet", &table.routes, write_route);
        tags::write(xml, &table.tags);
    });
    Ok(())
}

fn write_route(xml: &mut Xml, route: &Route) {
    let destination = match route.destination.network() {
        IpAddr::V4(_) => "destinationCidrBlock",
        IpAddr::V6(_) => "destinationIpv6CidrBlock",
    };
    xml.text(destination, route.destination);
    let local = route.target == RouteTarget::Local;
    let origin = if local {
        "CreateRouteTable"
    } else {
        "CreateRoute"
    };
    match &route.target {
        RouteTarget::Local => xml.text("gatewayId", "local"),
        RouteTarget::InternetGateway(id) => xml.text("gatewayId", id),
        RouteTarget::NatGateway(id) => xml.text("natGatewayId", id),
        RouteTarget::EgressOnlyInternetGateway(id) => xml.text("egressOnlyInternetGatewayId", id),
        RouteTarget::NetworkInterface(id) => xml.text("networkInterfaceId", id),
    };
    xml.text("origin", origin).text("state", "active");
}
