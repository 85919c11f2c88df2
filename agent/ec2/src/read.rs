//! From the SDK's types to ours. Pure.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use aws_sdk_ec2::types;

use crate::error::Error;
use crate::model::{
    Attachment, NetworkInterface, PrefixList, PrefixListEntry, RulePeer, SecurityGroup,
    SecurityGroupRule, Subnet, Tags, TrunkAssociation, Vpc,
};

/// Reads the answer of one action.
#[derive(Clone, Copy)]
pub(crate) struct Reader(pub(crate) &'static str);

impl Reader {
    /// An answer that cannot be understood.
    pub(crate) fn wrong(self, what: &str) -> Error {
        Error {
            action: self.0,
            code: Some("BadAnswer".to_owned()),
            message: format!("the answer's {what} is missing or wrong"),
            request_id: None,
        }
    }

    pub(crate) fn text(self, field: &str, value: Option<&str>) -> Result<String, Error> {
        value
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .ok_or_else(|| self.wrong(field))
    }

    pub(crate) fn parse<T: FromStr>(self, field: &str, value: &str) -> Result<T, Error> {
        value.parse().map_err(|_| self.wrong(field))
    }

    fn parse_all<'a, T: FromStr>(
        self,
        field: &str,
        values: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Result<Vec<T>, Error> {
        let given = values.into_iter().flatten();
        given.map(|value| self.parse(field, value)).collect()
    }

    pub(crate) fn interface(
        self,
        from: &types::NetworkInterface,
    ) -> Result<NetworkInterface, Error> {
        let status = from.status().map(types::NetworkInterfaceStatus::as_str);
        let kind = from
            .interface_type()
            .map(types::NetworkInterfaceType::as_str);
        Ok(NetworkInterface {
            id: self.text("networkInterfaceId", from.network_interface_id())?,
            status: self.text("status", status)?,
            interface_type: kind.unwrap_or("interface").to_owned(),
            mac: self.text("macAddress", from.mac_address())?,
            subnet_id: self.text("subnetId", from.subnet_id())?,
            vpc_id: self.text("vpcId", from.vpc_id())?,
            availability_zone: from.availability_zone().unwrap_or_default().to_owned(),
            ipv4: self.ipv4(from)?,
            ipv4_prefixes: self.parse_all(
                "ipv4Prefix",
                from.ipv4_prefixes()
                    .iter()
                    .map(types::Ipv4PrefixSpecification::ipv4_prefix),
            )?,
            ipv6: self.ipv6(from)?,
            ipv6_prefixes: self.parse_all(
                "ipv6Prefix",
                from.ipv6_prefixes()
                    .iter()
                    .map(types::Ipv6PrefixSpecification::ipv6_prefix),
            )?,
            groups: from
                .groups()
                .iter()
                .filter_map(|group| group.group_id().map(str::to_owned))
                .collect(),
            private_dns_name: from
                .private_dns_name()
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            source_dest_check: from.source_dest_check().unwrap_or(true),
            tags: tags(from.tag_set()),
            attachment: from
                .attachment()
                .map(|attachment| self.attachment(attachment))
                .transpose()?,
        })
    }

    fn ipv4(self, from: &types::NetworkInterface) -> Result<Vec<Ipv4Addr>, Error> {
        let primary = from.private_ip_address();
        let others = from
            .private_ip_addresses()
            .iter()
            .filter(|address| address.primary() != Some(true));
        let others = others.map(types::NetworkInterfacePrivateIpAddress::private_ip_address);
        let others = others.filter(|address| *address != primary);
        self.parse_all("privateIpAddress", [primary].into_iter().chain(others))
    }

    fn ipv6(self, from: &types::NetworkInterface) -> Result<Vec<Ipv6Addr>, Error> {
        let mut addresses: Vec<_> = from.ipv6_addresses().iter().collect();
        addresses.sort_by_key(|address| address.is_primary_ipv6() != Some(true));
        let addresses = addresses.iter().map(|address| address.ipv6_address());
        self.parse_all("ipv6Address", addresses)
    }

    fn attachment(self, from: &types::NetworkInterfaceAttachment) -> Result<Attachment, Error> {
        let status = from.status().map(types::AttachmentStatus::as_str);
        Ok(Attachment {
            id: self.text("attachmentId", from.attachment_id())?,
            status: self.text("attachment.status", status)?,
            instance_id: from.instance_id().map(str::to_owned),
            device_index: unsigned(from.device_index()),
            network_card_index: unsigned(from.network_card_index()),
            delete_on_termination: from.delete_on_termination().unwrap_or(false),
        })
    }

    pub(crate) fn association(
        self,
        from: &types::TrunkInterfaceAssociation,
    ) -> Result<TrunkAssociation, Error> {
        let vlan = from.vlan_id().and_then(|vlan| u16::try_from(vlan).ok());
        Ok(TrunkAssociation {
            id: self.text("associationId", from.association_id())?,
            branch_id: self.text("branchInterfaceId", from.branch_interface_id())?,
            trunk_id: self.text("trunkInterfaceId", from.trunk_interface_id())?,
            vlan: vlan.ok_or_else(|| self.wrong("vlanId"))?,
        })
    }

    pub(crate) fn subnet(self, from: &types::Subnet) -> Result<Subnet, Error> {
        let ipv6 = from.ipv6_cidr_block_association_set();
        let ipv6 = ipv6.iter().find(|association| {
            association.ipv6_cidr_block_state().is_none_or(|state| {
                state.state() == Some(&types::SubnetCidrBlockStateCode::Associated)
            })
        });
        let ipv6 = ipv6.and_then(types::SubnetIpv6CidrBlockAssociation::ipv6_cidr_block);
        let ipv4 = from.cidr_block().filter(|cidr| !cidr.is_empty());
        Ok(Subnet {
            id: self.text("subnetId", from.subnet_id())?,
            vpc_id: self.text("vpcId", from.vpc_id())?,
            availability_zone: self.text("availabilityZone", from.availability_zone())?,
            ipv4: ipv4.map(|cidr| self.parse("cidrBlock", cidr)).transpose()?,
            ipv6: ipv6
                .map(|cidr| self.parse("ipv6CidrBlock", cidr))
                .transpose()?,
            available: unsigned(from.available_ip_address_count()),
        })
    }

    pub(crate) fn vpc(self, from: &types::Vpc) -> Result<Vpc, Error> {
        let primary = from.cidr_block();
        let others = from.cidr_block_association_set().iter();
        let others = others.filter(|association| {
            association.cidr_block_state().is_none_or(|state| {
                state.state() == Some(&types::VpcCidrBlockStateCode::Associated)
            })
        });
        let others = others.map(types::VpcCidrBlockAssociation::cidr_block);
        let others = others.filter(|cidr| *cidr != primary);
        // EC2 promises no order, and not every one of many may fit where they go.
        let others = others.collect::<BTreeSet<_>>();
        let ipv6 = from.ipv6_cidr_block_association_set().iter();
        let ipv6 = ipv6.filter(|association| {
            association.ipv6_cidr_block_state().is_none_or(|state| {
                state.state() == Some(&types::VpcCidrBlockStateCode::Associated)
            })
        });
        Ok(Vpc {
            id: self.text("vpcId", from.vpc_id())?,
            ipv4: self.parse_all("cidrBlock", [primary].into_iter().chain(others))?,
            ipv6: self.parse_all(
                "ipv6CidrBlock",
                ipv6.map(types::VpcIpv6CidrBlockAssociation::ipv6_cidr_block),
            )?,
            dhcp_options_id: from.dhcp_options_id().unwrap_or("default").to_owned(),
        })
    }

    pub(crate) fn group(self, from: &types::SecurityGroup) -> Result<SecurityGroup, Error> {
        Ok(SecurityGroup {
            id: self.text("groupId", from.group_id())?,
            name: self.text("groupName", from.group_name())?,
            description: from.description().unwrap_or_default().to_owned(),
            vpc_id: self.text("vpcId", from.vpc_id())?,
        })
    }

    pub(crate) fn prefix_list(self, from: &types::ManagedPrefixList) -> Result<PrefixList, Error> {
        let most = from.max_entries();
        Ok(PrefixList {
            id: self.text("prefixListId", from.prefix_list_id())?,
            name: from.prefix_list_name().unwrap_or_default().to_owned(),
            max_entries: most.and_then(|most| u32::try_from(most).ok()),
            version: from.version(),
        })
    }

    pub(crate) fn entry(self, from: &types::PrefixListEntry) -> Result<PrefixListEntry, Error> {
        Ok(PrefixListEntry {
            cidr: self.text("cidr", from.cidr())?,
            description: from.description().map(str::to_owned),
        })
    }

    pub(crate) fn rule(self, from: &types::SecurityGroupRule) -> Result<SecurityGroupRule, Error> {
        let cidr = from.cidr_ipv4().or(from.cidr_ipv6());
        let peer = match (cidr, from.prefix_list_id(), from.referenced_group_info()) {
            (Some(cidr), _, _) => RulePeer::Cidr(cidr.to_owned()),
            (None, Some(list), _) => RulePeer::PrefixList(list.to_owned()),
            (None, None, Some(group)) => RulePeer::Group {
                group_id: self.text("referencedGroupInfo.groupId", group.group_id())?,
                user_id: group.user_id().map(str::to_owned),
                vpc_id: group.vpc_id().map(str::to_owned),
                peering_status: group.peering_status().map(str::to_owned),
                vpc_peering_connection_id: group.vpc_peering_connection_id().map(str::to_owned),
            },
            (None, None, None) => return Err(self.wrong("securityGroupRule's peer")),
        };
        Ok(SecurityGroupRule {
            id: self.text("securityGroupRuleId", from.security_group_rule_id())?,
            group_id: self.text("groupId", from.group_id())?,
            is_egress: from.is_egress().ok_or_else(|| self.wrong("isEgress"))?,
            ip_protocol: self.text("ipProtocol", from.ip_protocol())?,
            from_port: from.from_port(),
            to_port: from.to_port(),
            peer,
            description: from
                .description()
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
        })
    }
}

/// EC2 counts with signed numbers; one below 0 is none.
pub(crate) fn unsigned(number: Option<i32>) -> u32 {
    number
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or(0)
}

pub(crate) fn tags(from: &[types::Tag]) -> Tags {
    let pair = |tag: &types::Tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()));
    from.iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    const READER: Reader = Reader("DescribeNetworkInterfaces");

    fn interface() -> types::builders::NetworkInterfaceBuilder {
        let address = |text: &str, primary| {
            types::NetworkInterfacePrivateIpAddress::builder()
                .private_ip_address(text)
                .primary(primary)
                .build()
        };
        types::NetworkInterface::builder()
            .network_interface_id("eni-1")
            .status(types::NetworkInterfaceStatus::InUse)
            .mac_address("0a:00:00:00:00:01")
            .subnet_id("subnet-1")
            .vpc_id("vpc-1")
            .private_ip_address("10.0.1.10")
            .private_ip_addresses(address("10.0.1.11", false))
            .private_ip_addresses(address("10.0.1.10", true))
    }

    #[test]
    fn the_primary_address_comes_first() {
        let ipv6 = |text: &str, primary| {
            types::NetworkInterfaceIpv6Address::builder()
                .ipv6_address(text)
                .is_primary_ipv6(primary)
                .build()
        };
        let read = interface()
            .ipv6_addresses(ipv6("2001:db8::2", false))
            .ipv6_addresses(ipv6("2001:db8::1", true))
            .build();
        let read = READER.interface(&read).unwrap();
        assert_eq!(
            read.ipv4,
            [Ipv4Addr::new(10, 0, 1, 10), Ipv4Addr::new(10, 0, 1, 11)]
        );
        assert_eq!(read.ipv6[0], "2001:db8::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(
            (read.status.as_str(), read.interface_type.as_str()),
            ("in-use", "interface")
        );
    }

    #[test]
    fn an_answer_without_what_it_must_have_names_the_field() {
        let rows = [
            (
                "networkInterfaceId",
                interface().set_network_interface_id(None),
            ),
            ("macAddress", interface().set_mac_address(None)),
            ("privateIpAddress", interface().private_ip_address("10.0.1")),
            ("status", interface().set_status(None)),
        ];
        for (field, answer) in rows {
            let error = READER.interface(&answer.build()).unwrap_err();
            assert!(error.message.contains(field), "{error}");
        }
        let rule = types::SecurityGroupRule::builder()
            .security_group_rule_id("sgr-1")
            .group_id("sg-1")
            .is_egress(false)
            .ip_protocol("tcp")
            .build();
        assert!(READER.rule(&rule).unwrap_err().message.contains("peer"));
    }

    #[test]
    fn networks_that_go_are_none_of_a_vpc() {
        let network = |cidr: &str, state| {
            types::VpcCidrBlockAssociation::builder()
                .cidr_block(cidr)
                .cidr_block_state(types::VpcCidrBlockState::builder().state(state).build())
                .build()
        };
        let vpc = types::Vpc::builder()
            .vpc_id("vpc-1")
            .cidr_block("10.0.0.0/16")
            .cidr_block_association_set(network(
                "10.0.0.0/16",
                types::VpcCidrBlockStateCode::Associated,
            ))
            .cidr_block_association_set(network(
                "10.1.0.0/16",
                types::VpcCidrBlockStateCode::Associated,
            ))
            .cidr_block_association_set(network(
                "10.2.0.0/16",
                types::VpcCidrBlockStateCode::Disassociated,
            ))
            .build();
        let read = Reader("DescribeVpcs").vpc(&vpc).unwrap();
        let networks: Vec<String> = read.ipv4.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/16", "10.1.0.0/16"]);
        assert_eq!(read.dhcp_options_id, "default");
    }
}
