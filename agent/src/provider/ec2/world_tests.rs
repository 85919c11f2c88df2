#![expect(clippy::unwrap_used, reason = "tests")]

use branchline_common::verdict::Direction;

use super::*;
use crate::security_groups::{Peer, PortRange, Protocol};

fn group(id: &str, name: &str) -> ec2::SecurityGroup {
    ec2::SecurityGroup {
        id: id.to_owned(),
        name: name.to_owned(),
        vpc_id: "vpc-1".to_owned(),
        ..ec2::SecurityGroup::default()
    }
}

fn rule(id: &str, peer: ec2::RulePeer) -> ec2::SecurityGroupRule {
    ec2::SecurityGroupRule {
        id: id.to_owned(),
        group_id: "sg-web".to_owned(),
        ip_protocol: "tcp".to_owned(),
        from_port: Some(443),
        to_port: Some(444),
        peer,
        ..ec2::SecurityGroupRule::default()
    }
}

fn of_group(group_id: &str, user_id: &str, vpc_id: &str) -> ec2::RulePeer {
    ec2::RulePeer::Group {
        group_id: group_id.to_owned(),
        user_id: Some(user_id.to_owned()),
        vpc_id: Some(vpc_id.to_owned()),
        peering_status: None,
        vpc_peering_connection_id: None,
    }
}

#[test]
fn rules_mean_what_ec2_means_by_them() {
    let groups = Groups {
        groups: vec![group("sg-web", "web"), group("sg-0", "default")],
        rules: vec![
            rule("sgr-1", ec2::RulePeer::Cidr("10.0.0.0/8".to_owned())),
            rule("sgr-2", ec2::RulePeer::Cidr("2001:db8::/32".to_owned())),
            rule("sgr-3", ec2::RulePeer::PrefixList("pl-1".to_owned())),
            rule("sgr-4", of_group("sg-0", "123456789012", "vpc-1")),
            ec2::SecurityGroupRule {
                is_egress: true,
                ip_protocol: "-1".to_owned(),
                from_port: Some(-1),
                to_port: Some(-1),
                ..rule("sgr-5", ec2::RulePeer::Cidr("0.0.0.0/0".to_owned()))
            },
        ],
        prefix_lists: vec![(
            ec2::PrefixList {
                id: "pl-1".to_owned(),
                max_entries: Some(20),
                ..ec2::PrefixList::default()
            },
            vec![ec2::PrefixListEntry {
                cidr: "192.0.2.0/24".to_owned(),
                description: None,
            }],
        )],
        ..Groups::default()
    };
    let (directory, warnings) = directory(&groups, "vpc-1");
    assert_eq!(warnings, [""; 0]);
    let web = &directory.groups["sg-web"];
    let peers: Vec<String> = web.rules.iter().map(|rule| rule.peer.to_string()).collect();
    assert_eq!(
        peers,
        ["10.0.0.0/8", "2001:db8::/32", "pl-1", "sg-0", "0.0.0.0/0"]
    );
    let first = &web.rules[0];
    assert_eq!(
        (first.rule_id.as_str(), first.direction),
        ("sgr-1", Direction::Ingress)
    );
    assert_eq!(first.protocol, Protocol::Number(6));
    assert_eq!(
        first.ports,
        PortRange {
            first: 443,
            last: 444
        }
    );
    assert_eq!(
        (web.rules[4].direction, web.rules[4].protocol),
        (Direction::Egress, Protocol::Any)
    );
    assert_eq!(web.vpc_id, None);
    assert_eq!(directory.default_group().unwrap().group_id, "sg-0");
    assert_eq!(directory.prefix_lists["pl-1"].entries.len(), 1);
    assert_eq!(referenced_lists(&groups.rules), ["pl-1"]);
    assert_eq!(referenced_groups(&groups.rules), ["sg-0"]);
}

#[test]
fn a_group_of_another_vpc_keeps_its_account_and_its_peering() {
    let peer = ec2::RulePeer::Group {
        group_id: "sg-far".to_owned(),
        user_id: Some("210987654321".to_owned()),
        vpc_id: Some("vpc-2".to_owned()),
        peering_status: Some("deleted".to_owned()),
        vpc_peering_connection_id: Some("pcx-1".to_owned()),
    };
    let groups = Groups {
        groups: vec![group("sg-web", "web")],
        rules: vec![rule("sgr-1", peer)],
        ..Groups::default()
    };
    let (directory, _) = directory(&groups, "vpc-1");
    let Peer::Group(reference) = &directory.groups["sg-web"].rules[0].peer else {
        panic!("{directory:?}");
    };
    assert!(reference.is_stale() && reference.is_foreign());
}

#[test]
fn what_cannot_be_read_allows_nothing_and_is_said() {
    let groups = Groups {
        groups: vec![group("sg-web", "web")],
        rules: vec![
            ec2::SecurityGroupRule {
                ip_protocol: "carrier-pigeon".to_owned(),
                ..rule("sgr-1", ec2::RulePeer::Cidr("10.0.0.0/8".to_owned()))
            },
            rule("sgr-2", ec2::RulePeer::Cidr("10.0.0.0/33".to_owned())),
            rule("sgr-3", ec2::RulePeer::Cidr("10.0.0.0/8".to_owned())),
        ],
        prefix_lists: vec![(
            ec2::PrefixList {
                id: "pl-1".to_owned(),
                ..ec2::PrefixList::default()
            },
            vec![ec2::PrefixListEntry {
                cidr: "here".to_owned(),
                description: None,
            }],
        )],
        ..Groups::default()
    };
    let (directory, warnings) = directory(&groups, "vpc-1");
    let rules = &directory.groups["sg-web"].rules;
    assert_eq!(
        rules
            .iter()
            .map(|rule| rule.rule_id.as_str())
            .collect::<Vec<_>>(),
        ["sgr-3"]
    );
    assert!(directory.prefix_lists["pl-1"].entries.is_empty());
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(
        warnings[0].contains("sgr-1") && warnings[1].contains("sgr-2"),
        "{warnings:?}"
    );
}

#[test]
fn members_have_addresses_and_prefixes() {
    let interface = ec2::NetworkInterface {
        id: "eni-1".to_owned(),
        groups: vec!["sg-web".to_owned()],
        ipv4: vec!["10.0.1.10".parse().unwrap(), "10.0.1.11".parse().unwrap()],
        ipv4_prefixes: vec!["10.0.2.0/28".parse().unwrap()],
        ipv6: vec!["2001:db8::1".parse().unwrap()],
        ..ec2::NetworkInterface::default()
    };
    let members = members(&[interface]);
    let networks: Vec<String> = members
        .networks("sg-web")
        .map(|net| net.to_string())
        .collect();
    assert_eq!(
        networks,
        [
            "10.0.1.10/32",
            "10.0.1.11/32",
            "10.0.2.0/28",
            "2001:db8::1/128"
        ]
    );
}

#[test]
fn names_are_those_of_the_option_set() {
    let set = ec2::DhcpOptions::from([
        (
            "domain-name-servers".to_owned(),
            vec![
                "AmazonProvidedDNS".to_owned(),
                "10.0.0.53".to_owned(),
                "dns".to_owned(),
            ],
        ),
        (
            "domain-name".to_owned(),
            vec!["corp.example lab.example".to_owned()],
        ),
        ("ntp-servers".to_owned(), vec!["169.254.169.123".to_owned()]),
    ]);
    let vpc = vpc(&Surroundings {
        dns: (true, false),
        dhcp_options: Some(set),
        ..Surroundings::default()
    });
    let options = vpc.dns.dhcp_options.unwrap();
    let amazons = "10.0.0.2".parse().unwrap();
    assert_eq!(
        options.addresses(amazons),
        [amazons, "10.0.0.53".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(options.domain_name, ["corp.example", "lab.example"]);
    assert_eq!(options.ntp_servers.len(), 1);
    assert!(vpc.dns.enable_dns_support && !vpc.dns.enable_dns_hostnames);
}

#[test]
fn subnets_have_the_routes_of_their_table() {
    let route = |destination: &str, target: Option<&str>| ec2::Route {
        destination: destination.to_owned(),
        target: target.map(str::to_owned),
    };
    let main = ec2::RouteTable {
        is_main: true,
        routes: vec![
            route("10.0.0.0/16", Some("local")),
            route("0.0.0.0/0", Some("nat-1")),
        ],
        ..ec2::RouteTable::default()
    };
    let public = ec2::RouteTable {
        subnets: vec!["subnet-p".to_owned()],
        routes: vec![
            route("0.0.0.0/0", Some("igw-1")),
            route("198.51.100.0/24", None),
            route("pl-1", Some("vpce-1")),
        ],
        ..ec2::RouteTable::default()
    };
    let tables = route_tables(&[public, main]);
    let path = |subnet, address: &str| tables.traffic_path(Some(subnet), address.parse().unwrap());
    assert_eq!(path("subnet-a", "10.0.9.9"), Some(1));
    assert_eq!(path("subnet-a", "192.0.2.1"), Some(1));
    assert_eq!(path("subnet-p", "192.0.2.1"), Some(8));
    assert_eq!(path("subnet-p", "198.51.100.1"), None);
}

fn interface() -> ec2::NetworkInterface {
    ec2::NetworkInterface {
        id: "eni-1".to_owned(),
        mac: "0a:00:00:00:00:01".to_owned(),
        subnet_id: "subnet-a".to_owned(),
        vpc_id: "vpc-1".to_owned(),
        ipv4: vec!["10.0.1.10".parse().unwrap()],
        ipv6: vec!["2001:db8::a".parse().unwrap()],
        groups: vec!["sg-web".to_owned()],
        ..ec2::NetworkInterface::default()
    }
}

fn subnet() -> ec2::Subnet {
    ec2::Subnet {
        id: "subnet-a".to_owned(),
        vpc_id: "vpc-1".to_owned(),
        availability_zone: "eu-west-1a".to_owned(),
        ipv4: Some("10.0.1.0/24".parse().unwrap()),
        ipv6: Some("2001:db8::/64".parse().unwrap()),
        available: 9,
    }
}

#[test]
fn a_branch_has_its_subnets_routers() {
    let vlan = VlanId::try_from(7).unwrap();
    let eni = branch(&interface(), &subnet(), "a", Some(vlan), None).unwrap();
    assert_eq!(eni.ipv4, Some("10.0.1.10/24".parse().unwrap()));
    assert_eq!(eni.router_ipv4, Some("10.0.1.1".parse().unwrap()));
    assert_eq!(eni.router_ipv6, Some("2001:db8::1".parse().unwrap()));
    assert_eq!((eni.vlan, eni.router_mac), (Some(vlan), None));
}

#[test]
fn an_eni_that_cannot_be_a_tasks_is_refused() {
    let vlan = VlanId::try_from(7).unwrap();
    let refused = |change: fn(&mut ec2::NetworkInterface)| {
        let mut interface = interface();
        change(&mut interface);
        branch(&interface, &subnet(), "a", Some(vlan), None).unwrap_err()
    };
    assert!(matches!(
        refused(|it| it.mac = "no".to_owned()),
        NoBranch::Mac(..)
    ));
    let outside = refused(|it| it.ipv4 = vec!["10.0.2.10".parse().unwrap()]);
    assert!(matches!(outside, NoBranch::Address(..)), "{outside}");
    let without = refused(|it| (it.ipv4, it.ipv6) = (Vec::new(), Vec::new()));
    assert!(matches!(without, NoBranch::NoAddress(_)));
}
