//! Tests of `vpc_file`.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::test_dir::TestDir;

const VPC: &str =
    "vpc_id = 'vpc-1'\ncidr_block = '10.0.0.0/16'\nipv6_cidr_block = 'fd00:10::/56'\n";
const SUBNET: &str = "[[subnets]]\nsubnet_id = 'subnet-a'\ncidr_block = '10.0.1.0/24'\n";

#[test]
fn a_whole_file_is_read() {
    let text = format!(
        "{VPC}cidr_block_association_set = [{{cidr_block = '10.0.0.0/16'}}, {{cidr_block = '10.1.0.0/16'}}]
        {SUBNET}ipv6_cidr_block = 'fd00:10:0:1::/64'\navailability_zone = 'us-east-1a'
        [[subnets]]\nsubnet_id = 'subnet-0123456789abcdef0'\ncidr_block = '10.1.2.3/24'
        [[subnets]]\nsubnet_id = 'subnet-c'
        ipv6_cidr_block_association_set = [{{ipv6_cidr_block = 'fd00:10:0:2::/64'}}]"
    );
    let CheckedVpc { vpc, warnings } = parse(&text).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        format!("{:?}", vpc.cidrs()),
        "[10.0.0.0/16, 10.1.0.0/16, fd00:10::/56]"
    );
    let subnet = vpc.subnet("subnet-a").unwrap();
    assert_eq!(subnet.ipv4, Some("10.0.1.0/24".parse().unwrap()));
    assert_eq!(subnet.ipv6, Some("fd00:10:0:1::/64".parse().unwrap()));
    assert_eq!(subnet.availability_zone.as_deref(), Some("us-east-1a"));
    let masked = vpc.subnet("subnet-0123456789abcdef0").unwrap();
    assert_eq!(
        (masked.ipv4, masked.ipv6),
        (Some("10.1.2.0/24".parse().unwrap()), None)
    );
    assert_eq!(vpc.subnet("subnet-c").unwrap().ipv4, None);
    assert_eq!(vpc.default_group().unwrap().group_id, "sg-default");
}

const WEB: &str = "[[security_groups]]\ngroup_id = 'sg-web'\ngroup_name = 'web'\n";

#[test]
fn the_default_group_is_added_only_when_missing() {
    let to_default = format!(
        "{VPC}{SUBNET}{WEB}ip_permissions = [{{ip_protocol = '-1', user_id_group_pairs = [{{group_id = 'sg-default'}}]}}]"
    );
    let vpc = parse(&to_default).unwrap().vpc;
    let default = vpc.default_group().unwrap();
    assert_eq!(default.group_id, "sg-default");
    assert_eq!(default.rules.len(), 3, "members in, IPv4 and IPv6 out");

    let own = format!("{VPC}{SUBNET}{}", WEB.replace("'web'", "'Default'"));
    for text in [own.clone(), format!("{own}vpc_id = 'vpc-1'")] {
        let vpc = parse(&text).unwrap().vpc;
        assert_eq!(vpc.directory.groups.len(), 1);
        assert_eq!(vpc.default_group().unwrap().group_id, "sg-web");
    }
    let elsewhere = parse(&format!("{own}vpc_id = 'vpc-2'")).unwrap().vpc;
    assert_eq!(elsewhere.default_group().unwrap().group_id, "sg-default");
}

#[test]
fn network_interfaces_are_members_elsewhere() {
    let text = format!(
        "{VPC}{SUBNET}{WEB}ip_permissions = [{{ip_protocol = '-1', user_id_group_pairs = [
            {{group_id = 'sg-theirs', user_id = '123456789012'}}]}}]
        [[network_interfaces]]\nnetwork_interface_id = 'eni-0a'\ngroups = ['sg-web', 'sg-theirs']
        private_ip_addresses = ['10.0.9.10', '10.0.9.11']\nipv6_addresses = ['fd00:10::9']
        ipv4_prefixes = ['10.0.9.65/28']\nipv6_prefixes = ['fd00:10:0:0:1::/80']
        [[network_interfaces]]\ngroups = ['sg-default']\nprivate_ip_addresses = ['10.0.9.12']"
    );
    let CheckedVpc { vpc, warnings } = parse(&text).unwrap();
    let networks = |index: usize| -> Vec<String> {
        let networks = vpc.network_interfaces[index].networks.iter();
        networks.map(ToString::to_string).collect()
    };
    assert_eq!(
        networks(0),
        [
            "10.0.9.10/32",
            "10.0.9.11/32",
            "10.0.9.64/28",
            "fd00:10::9/128",
            "fd00:10:0:0:1::/80"
        ]
    );
    assert_eq!(networks(1), ["10.0.9.12/32"]);
    assert_eq!(vpc.network_interfaces[0].network_interface_id, "eni-0a");
    assert_eq!(
        vpc.network_interfaces[1].network_interface_id,
        "network_interfaces[1]"
    );
    assert_eq!(vpc.network_interfaces[0].groups, ["sg-web", "sg-theirs"]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("123456789012/sg-theirs is of another account"));
    assert_eq!(
        warnings[1],
        "network_interfaces[0].ipv4_prefixes[0]: 10.0.9.65/28 is taken as 10.0.9.64/28"
    );
}

#[test]
fn bad_network_interfaces_name_field_and_fix() {
    let rows = [
        ("groups = []", "groups", "name the groups"),
        ("groups = ['web']", "groups[0]", "write sg-"),
        (
            "groups = ['sg-web', 'sg-x']",
            "groups[1]",
            "no security group sg-x is defined",
        ),
        ("groups = ['sg-web']", "", "add private_ip_addresses"),
        (
            "groups = ['sg-web']\nprivate_ip_addresses = ['fd00::1']",
            "private_ip_addresses[0]",
            "an IPv4 address",
        ),
        (
            "groups = ['sg-web']\nprivate_ip_addresses = ['10.0.0.1/24']",
            "private_ip_addresses[0]",
            "an IPv4 address",
        ),
        (
            "groups = ['sg-web']\nipv6_addresses = ['10.0.0.1']",
            "ipv6_addresses[0]",
            "an IPv6 address",
        ),
        (
            "groups = ['sg-web']\nipv4_prefixes = ['10.0.0.1']",
            "ipv4_prefixes[0]",
            "as 10.0.1.64/28",
        ),
        (
            "groups = ['sg-web']\nipv6_prefixes = ['10.0.0.0/28']",
            "ipv6_prefixes[0]",
            "/80",
        ),
        (
            "network_interface_id = 'x'\ngroups = ['sg-web']",
            "network_interface_id",
            "write eni-",
        ),
        (
            "groups = ['sg-web']\naddresses = []",
            "addresses",
            "unknown field",
        ),
        ("private_ip_addresses = []", "groups", "add it"),
    ];
    for (text, field, says) in rows {
        let text = format!("{VPC}{SUBNET}{WEB}[[network_interfaces]]\n{text}");
        let error = parse(&text).unwrap_err();
        let path = format!("network_interfaces[0].{field}");
        assert_eq!(error.field, path.trim_end_matches('.'), "{text}: {error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
    let one = "[[network_interfaces]]\nnetwork_interface_id = 'eni-1'\ngroups = ['sg-web']
        private_ip_addresses = ['10.0.0.9']\n";
    let error = parse(&format!("{VPC}{SUBNET}{WEB}{one}{one}")).unwrap_err();
    assert_eq!(error.field, "network_interfaces[1].network_interface_id");
}

#[test]
fn bad_networks_name_field_and_fix() {
    let second = "[[subnets]]\nsubnet_id = 'subnet-b'\n";
    let rows = [
        (
            "vpc_id = '1'\ncidr_block = '10.0.0.0/16'".to_owned(),
            "vpc_id",
            "write vpc-",
        ),
        (
            "vpc_id = 'vpc-'\ncidr_block = '10.0.0.0/16'".to_owned(),
            "vpc_id",
            "1 to 64",
        ),
        (
            "vpc_id = 'vpc-a b'\ncidr_block = '10.0.0.0/16'".to_owned(),
            "vpc_id",
            "dashes",
        ),
        ("vpc_id = 'vpc-1'".to_owned(), "cidr_block", "add it"),
        (
            "vpc_id = 'vpc-1'\ncidr_block = '10.0.0.0/8'".to_owned(),
            "cidr_block",
            "between /16 and /28",
        ),
        (
            "vpc_id = 'vpc-1'\ncidr_block = '10.0.0.0'".to_owned(),
            "cidr_block",
            "no IPv4 network",
        ),
        (
            "vpc_id = 'vpc-1'\ncidr_block = '127.0.0.0/16'".to_owned(),
            "cidr_block",
            "another meaning",
        ),
        (
            "vpc_id = 'vpc-1'\ncidr_block = '169.254.0.0/16'".to_owned(),
            "cidr_block",
            "another meaning",
        ),
        (
            "vpc_id = 'vpc-1'\ncidr_block = '224.0.0.0/16'".to_owned(),
            "cidr_block",
            "another meaning",
        ),
        (
            VPC.replace("fd00:10::/56", "fd00:10::/64"),
            "ipv6_cidr_block",
            "44 to 60",
        ),
        (
            VPC.replace("fd00:10::/56", "fe80::/56"),
            "ipv6_cidr_block",
            "another meaning",
        ),
        (VPC.to_owned(), "subnets", "add [[subnets]]"),
        (
            format!(
                "{VPC}cidr_block_association_set = [{{cidr_block = '10.0.128.0/17'}}]\n{SUBNET}"
            ),
            "cidr_block_association_set[0].cidr_block",
            "overlaps 10.0.0.0/16",
        ),
        (
            format!(
                "{VPC}ipv6_cidr_block_association_set = [{{ipv6_cidr_block = 'fd00:10::/48'}}]\n{SUBNET}"
            ),
            "ipv6_cidr_block_association_set[0].ipv6_cidr_block",
            "overlaps fd00:10::/56",
        ),
        (
            format!("{VPC}{SUBNET}{SUBNET}"),
            "subnets[1].subnet_id",
            "its own id",
        ),
        (
            format!("{VPC}{SUBNET}{second}"),
            "subnets[1].cidr_block",
            "or ipv6_cidr_block",
        ),
        (
            format!("{VPC}{SUBNET}{second}cidr_block = '10.0.1.128/28'"),
            "subnets[1].cidr_block",
            "overlaps 10.0.1.0/24",
        ),
        (
            format!("{VPC}{SUBNET}{second}cidr_block = '10.0.0.0/22'"),
            "subnets[1].cidr_block",
            "overlaps",
        ),
        (
            format!("{VPC}{SUBNET}{second}cidr_block = '10.1.0.0/24'"),
            "subnets[1].cidr_block",
            "outside the VPC's networks (10.0.0.0/16)",
        ),
        (
            format!("{VPC}{SUBNET}{second}cidr_block = '10.0.2.0/29'"),
            "subnets[1].cidr_block",
            "/28",
        ),
        (
            format!("{VPC}{SUBNET}{second}ipv6_cidr_block = 'fd00:10::/60'"),
            "subnets[1].ipv6_cidr_block",
            "write a /64",
        ),
        (
            format!("{VPC}{SUBNET}{second}ipv6_cidr_block = 'fd00:11::/64'"),
            "subnets[1].ipv6_cidr_block",
            "outside",
        ),
        (
            format!("{VPC}{SUBNET}{second}ipv6_cidr_block = '10.0.3.0/24'"),
            "subnets[1].ipv6_cidr_block",
            "no IPv6 network",
        ),
        (
            format!("{VPC}{SUBNET}ipv6_cidr = 'x'"),
            "subnets[0].ipv6_cidr",
            "unknown field",
        ),
        (
            format!("{VPC}{SUBNET}cidr_block = '10.0.2.0/24'"),
            "line 7",
            "duplicate key",
        ),
    ];
    for (text, field, says) in rows {
        let error = parse(&text).unwrap_err();
        assert_eq!(error.field, field, "{text}: {error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
}

#[test]
fn a_subnet_needs_the_vpc_to_have_its_family() {
    let text = format!(
        "{}{SUBNET}ipv6_cidr_block = 'fd00:10::/64'",
        VPC.replace("ipv6_", "#")
    );
    let error = parse(&text).unwrap_err().to_string();
    assert!(error.contains("the VPC has none of this family"), "{error}");
}

#[test]
fn errors_name_the_file() {
    let dir = TestDir::new();
    let path = dir.path().join("vpc.toml");
    assert!(matches!(
        load(&path).unwrap_err(),
        VpcFileError::Read { .. }
    ));
    std::fs::write(&path, VPC).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(
        error.contains("vpc.toml: subnets: the VPC has none"),
        "{error}"
    );
}
