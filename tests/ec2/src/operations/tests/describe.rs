use super::refused;
use crate::testing::Site;

/// Describes with the parameter of their ids and an id of nobody.
const DESCRIBES: [(&str, &str, &str, &str); 10] = [
    (
        "DescribeNetworkInterfaces",
        "NetworkInterfaceId",
        "eni-01234567",
        "InvalidNetworkInterfaceID.NotFound",
    ),
    (
        "DescribeTrunkInterfaceAssociations",
        "AssociationId",
        "trunk-assoc-01234567",
        "InvalidAssociationID.NotFound",
    ),
    (
        "DescribeInstances",
        "InstanceId",
        "i-01234567",
        "InvalidInstanceID.NotFound",
    ),
    (
        "DescribeSubnets",
        "SubnetId",
        "subnet-01234567",
        "InvalidSubnetID.NotFound",
    ),
    (
        "DescribeVpcs",
        "VpcId",
        "vpc-01234567",
        "InvalidVpcID.NotFound",
    ),
    (
        "DescribeDhcpOptions",
        "DhcpOptionsId",
        "dopt-01234567",
        "InvalidDhcpOptionID.NotFound",
    ),
    (
        "DescribeRouteTables",
        "RouteTableId",
        "rtb-01234567",
        "InvalidRouteTableID.NotFound",
    ),
    (
        "DescribeSecurityGroups",
        "GroupId",
        "sg-01234567",
        "InvalidGroup.NotFound",
    ),
    (
        "DescribeSecurityGroupRules",
        "SecurityGroupRuleId",
        "sgr-01234567",
        "InvalidSecurityGroupRuleId.NotFound",
    ),
    (
        "DescribeManagedPrefixLists",
        "PrefixListId",
        "pl-01234567",
        "InvalidPrefixListID.NotFound",
    ),
];

#[test]
fn every_describe_checks_ids_filters_and_pages() {
    let mut site = Site::new();
    for (describe, parameter, nobody, not_found) in DESCRIBES {
        let rows = [
            (
                "an id of nobody",
                format!("{describe}&{parameter}.1={nobody}"),
                not_found,
            ),
            (
                "an unknown filter",
                format!("{describe}&Filter.1.Name=colour&Filter.1.Value.1=red"),
                "InvalidParameterValue",
            ),
            (
                "a filter without value",
                format!("{describe}&Filter.1.Name=tag:a"),
                "InvalidParameterValue",
            ),
            (
                "a filter without name",
                format!("{describe}&Filter.1.Value.1=red"),
                "MissingParameter",
            ),
            (
                "no page",
                format!("{describe}&MaxResults=0"),
                "InvalidParameterValue",
            ),
            (
                "too large a page",
                format!("{describe}&MaxResults=1001"),
                "InvalidParameterValue",
            ),
            (
                "a token of nobody",
                format!("{describe}&NextToken=x"),
                "InvalidNextToken",
            ),
            (
                "ids and a page",
                format!("{describe}&MaxResults=5&{parameter}.1={nobody}"),
                not_found,
            ),
        ];
        refused(&mut site, &rows);
        site.must(describe);
        assert_eq!(
            site.code(&format!("{describe}&DryRun=true")),
            "DryRunOperation"
        );
    }
    let values: String = (1..=201)
        .map(|number| format!("&Filter.1.Value.{number}=v"))
        .collect();
    let query = format!("DescribeNetworkInterfaces&Filter.1.Name=vpc-id{values}");
    assert_eq!(site.code(&query), "FilterLimitExceeded");
    assert_eq!(
        site.code("DescribeInstanceTypes&InstanceType.1=z9.huge"),
        "InvalidInstanceType"
    );
    assert_eq!(
        site.code("DescribeVpcAttribute&VpcId=vpc-01234567&Attribute=enableDnsSupport"),
        "InvalidVpcID.NotFound"
    );
    let query = "DescribeVpcAttribute&VpcId=vpc-00000000000000001&Attribute=colour";
    assert_eq!(site.code(query), "InvalidParameterValue");
}

#[test]
fn filters_pick_enis() {
    let mut site = Site::new();
    let subnet = site.subnet.clone();
    let one = site.create(&subnet, "&Description=one&TagSpecification.1.ResourceType=network-interface&TagSpecification.1.Tag.1.Key=owner&TagSpecification.1.Tag.1.Value=a");
    let two = site.create(
        &subnet,
        &format!(
            "&Description=two&SecurityGroupId.1={}&Ipv6AddressCount=1",
            site.group
        ),
    );
    site.attach(&two, 1);
    let (group, instance) = (site.group.clone(), site.instance.clone());
    let mac = site.eni(&one).mac_address.clone();
    let address = site.eni(&one).private_ip_addresses[0].to_string();
    for (filters, expected) in [
        (vec![("description", "one")], vec![&one]),
        (vec![("description", "o*"), ("status", "in-use")], vec![]),
        (vec![("tag:owner", "a")], vec![&one]),
        (vec![("tag:owner", "b")], vec![]),
        (vec![("tag-key", "owner")], vec![&one]),
        (vec![("group-id", &group)], vec![&two]),
        (vec![("mac-address", &mac)], vec![&one]),
        (vec![("private-ip-address", &address)], vec![&one]),
        (
            vec![("ipv6-addresses.ipv6-address", "2001:db8:0:1::*")],
            vec![&two],
        ),
        (
            vec![
                ("attachment.instance-id", &instance),
                ("attachment.device-index", "1"),
            ],
            vec![&two],
        ),
        (
            vec![("attachment.status", "attached"), ("description", "t*")],
            vec![&two],
        ),
        (vec![("status", "available")], vec![&one]),
    ] {
        let numbered = filters.iter().enumerate();
        let query: String = numbered
            .map(|(at, (name, value))| {
                format!("&Filter.{0}.Name={name}&Filter.{0}.Value.1={value}", at + 1)
            })
            .collect();
        site.later(std::time::Duration::from_secs(1));
        let body = site.must(&format!("DescribeNetworkInterfaces{query}"));
        let found: Vec<&String> = [&one, &two]
            .into_iter()
            .filter(|id| body.contains(&format!("<networkInterfaceId>{id}<")))
            .collect();
        assert_eq!(found, expected, "{query}");
    }
    let by_id = site.must(&format!(
        "DescribeNetworkInterfaces&NetworkInterfaceId.1={two}"
    ));
    assert_eq!(by_id.matches("<networkInterfaceId>").count(), 1);
    assert!(by_id.contains(&two));
}

#[test]
fn a_vpc_has_the_blocks_that_it_was_given() {
    let mut site = Site::new();
    let state = &mut site.account.state;
    let vpc = state.subnets[&site.subnet].vpc_id.clone();
    let block = "10.1.0.0/16".parse().expect("a network");
    state.associate_cidr_block(&vpc, block);
    let vpcs = format!("DescribeVpcs&VpcId.1={vpc}");
    let tables = format!("DescribeRouteTables&Filter.1.Name=vpc-id&Filter.1.Value.1={vpc}");
    for query in [&vpcs, &tables] {
        assert!(site.must(query).contains("10.1.0.0/16"), "{query}");
    }
    site.account.state.disassociate_cidr_block(&vpc, block);
    for query in [&vpcs, &tables] {
        assert!(!site.must(query).contains("10.1.0.0/16"), "{query}");
    }
}
