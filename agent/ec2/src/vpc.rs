//! Calls about what an ENI lies in: VPC, subnets, names, routes; and about instance types.

use aws_sdk_ec2::types::{InstanceType, VpcAttributeName};

use crate::call::{Action, Ec2};
use crate::error::Error;
use crate::interfaces::{action, filter};
use crate::model::{DhcpOptions, InstanceTypeLimits, Route, RouteTable, Subnet, Vpc};
use crate::read::{Reader, unsigned};
use crate::restraint::Kind;

const VPCS: Action = action("DescribeVpcs", Kind::Describe, true);
const VPC_ATTRIBUTE: Action = action("DescribeVpcAttribute", Kind::Describe, true);
const DHCP_OPTIONS: Action = action("DescribeDhcpOptions", Kind::Describe, true);
const SUBNETS: Action = action("DescribeSubnets", Kind::Describe, true);
const ROUTE_TABLES: Action = action("DescribeRouteTables", Kind::Describe, true);
const INSTANCE_TYPES: Action = action("DescribeInstanceTypes", Kind::Describe, true);

/// Subnets in one page (EC2: 5 to 1,000).
const SUBNETS_PAGE: i32 = 1_000;
/// Route tables in one page (EC2: 5 to 100).
const ROUTE_TABLES_PAGE: i32 = 100;

impl Ec2 {
    /// One VPC.
    ///
    /// # Errors
    /// EC2's.
    pub async fn describe_vpc(&self, vpc_id: &str) -> Result<Vpc, Error> {
        let request = self.sdk.describe_vpcs().vpc_ids(vpc_id);
        let answer = self.call(VPCS, || request.clone().send()).await?;
        let reader = Reader(VPCS.name);
        reader.vpc(
            answer
                .vpcs()
                .first()
                .ok_or_else(|| reader.wrong("vpcSet"))?,
        )
    }

    /// `enableDnsSupport` and `enableDnsHostnames` of a VPC: EC2 tells one in a call.
    ///
    /// # Errors
    /// EC2's.
    pub async fn describe_vpc_dns(&self, vpc_id: &str) -> Result<(bool, bool), Error> {
        let ask = |name| {
            let request = self
                .sdk
                .describe_vpc_attribute()
                .vpc_id(vpc_id)
                .attribute(name);
            async move { self.call(VPC_ATTRIBUTE, || request.clone().send()).await }
        };
        let support = ask(VpcAttributeName::EnableDnsSupport);
        let hostnames = ask(VpcAttributeName::EnableDnsHostnames);
        let (support, hostnames) = tokio::try_join!(support, hostnames)?;
        let value = |attribute: Option<&aws_sdk_ec2::types::AttributeBooleanValue>| {
            attribute.and_then(aws_sdk_ec2::types::AttributeBooleanValue::value)
        };
        let reader = Reader(VPC_ATTRIBUTE.name);
        let support = value(support.enable_dns_support());
        let hostnames = value(hostnames.enable_dns_hostnames());
        Ok((
            support.ok_or_else(|| reader.wrong("enableDnsSupport"))?,
            hostnames.ok_or_else(|| reader.wrong("enableDnsHostnames"))?,
        ))
    }

    /// The values of a DHCP option set.
    ///
    /// # Errors
    /// EC2's.
    pub async fn describe_dhcp_options(&self, id: &str) -> Result<DhcpOptions, Error> {
        let request = self.sdk.describe_dhcp_options().dhcp_options_ids(id);
        let answer = self.call(DHCP_OPTIONS, || request.clone().send()).await?;
        let set = answer.dhcp_options().first();
        let options = set.map(|set| set.dhcp_configurations()).unwrap_or_default();
        let values = |option: &aws_sdk_ec2::types::DhcpConfiguration| {
            let values = option.values().iter();
            let values = values.filter_map(|value| value.value().map(str::to_owned));
            Some((option.key()?.to_owned(), values.collect()))
        };
        Ok(options.iter().filter_map(values).collect())
    }

    /// Every subnet of a VPC.
    ///
    /// # Errors
    /// EC2's.
    pub async fn describe_subnets(&self, vpc_id: &str) -> Result<Vec<Subnet>, Error> {
        let request = self
            .sdk
            .describe_subnets()
            .filters(filter("vpc-id", &[vpc_id]))
            .max_results(SUBNETS_PAGE);
        let reader = Reader(SUBNETS.name);
        self.pages(
            SUBNETS,
            |token| request.clone().set_next_token(token).send(),
            |answer| {
                answer
                    .subnets()
                    .iter()
                    .map(|subnet| reader.subnet(subnet))
                    .collect()
            },
            |answer| answer.next_token(),
        )
        .await
    }

    /// Every route table of a VPC.
    ///
    /// # Errors
    /// EC2's.
    pub async fn describe_route_tables(&self, vpc_id: &str) -> Result<Vec<RouteTable>, Error> {
        let request = self
            .sdk
            .describe_route_tables()
            .filters(filter("vpc-id", &[vpc_id]))
            .max_results(ROUTE_TABLES_PAGE);
        self.pages(
            ROUTE_TABLES,
            |token| request.clone().set_next_token(token).send(),
            |answer| answer.route_tables().iter().map(route_table).collect(),
            |answer| answer.next_token(),
        )
        .await
    }

    /// What an instance type takes.
    ///
    /// # Errors
    /// EC2's.
    pub async fn describe_instance_type(
        &self,
        instance_type: &str,
    ) -> Result<InstanceTypeLimits, Error> {
        let request = self
            .sdk
            .describe_instance_types()
            .instance_types(InstanceType::from(instance_type));
        let answer = self.call(INSTANCE_TYPES, || request.clone().send()).await?;
        let reader = Reader(INSTANCE_TYPES.name);
        let info = answer.instance_types().first();
        let info = info.ok_or_else(|| reader.wrong("instanceTypeSet"))?;
        let network = info.network_info();
        let network = network.ok_or_else(|| reader.wrong("networkInfo"))?;
        let cards = network.network_cards().iter();
        let hypervisor = info.hypervisor().map(|hypervisor| hypervisor.as_str());
        Ok(InstanceTypeLimits {
            instance_type: instance_type.to_owned(),
            maximum_network_interfaces: unsigned(network.maximum_network_interfaces()),
            network_cards: cards
                .map(|card| unsigned(card.maximum_network_interfaces()))
                .collect(),
            ipv4_addresses_per_interface: unsigned(network.ipv4_addresses_per_interface()),
            hypervisor: hypervisor.unwrap_or_default().to_owned(),
        })
    }
}

fn route_table(from: &aws_sdk_ec2::types::RouteTable) -> Result<RouteTable, Error> {
    let reader = Reader(ROUTE_TABLES.name);
    let associations = from.associations();
    let is_main = associations
        .iter()
        .any(|association| association.main() == Some(true));
    let subnets = associations
        .iter()
        .filter_map(|association| association.subnet_id().map(str::to_owned));
    Ok(RouteTable {
        id: reader.text("routeTableId", from.route_table_id())?,
        is_main,
        subnets: subnets.collect(),
        routes: from.routes().iter().filter_map(route).collect(),
    })
}

/// `None` of a route to nothing that EC2 names.
fn route(from: &aws_sdk_ec2::types::Route) -> Option<Route> {
    let destination = from
        .destination_cidr_block()
        .or(from.destination_ipv6_cidr_block())
        .or(from.destination_prefix_list_id())?;
    let is_active = from.state() != Some(&aws_sdk_ec2::types::RouteState::Blackhole);
    let target = from
        .gateway_id()
        .or(from.nat_gateway_id())
        .or(from.egress_only_internet_gateway_id())
        .or(from.transit_gateway_id())
        .or(from.vpc_peering_connection_id())
        .or(from.local_gateway_id())
        .or(from.carrier_gateway_id())
        .or(from.network_interface_id())
        .or(from.instance_id());
    Some(Route {
        destination: destination.to_owned(),
        target: target.filter(|_| is_active).map(str::to_owned),
    })
}
