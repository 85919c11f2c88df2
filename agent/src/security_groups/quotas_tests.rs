//! Tests of `quotas`.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::super::directory::PrefixListEntry;
use super::super::rule::{GroupReference, PortRange, Protocol};
use super::*;

fn group(id: &str, count: u16, peer: &Peer) -> SecurityGroup {
    let rule = |port| {
        let ports = PortRange {
            first: port,
            last: port,
        };
        let tcp = Protocol::Number(6);
        SecurityGroupRule::new(id, Direction::Ingress, tcp, ports, peer.clone(), None)
    };
    SecurityGroup {
        group_id: id.to_owned(),
        rules: (0..count).map(rule).collect(),
        ..SecurityGroup::default()
    }
}

fn cidr(text: &str) -> Peer {
    text.parse::<IpNet>().unwrap().into()
}

fn lists(name: &str, max_entries: Option<u32>, entries: &[&str]) -> Directory {
    let entry = |cidr: &&str| PrefixListEntry {
        cidr: cidr.parse().unwrap(),
        description: None,
    };
    let list = PrefixList {
        prefix_list_id: "pl-a".into(),
        prefix_list_name: name.into(),
        max_entries,
        entries: entries.iter().map(entry).collect(),
    };
    Directory {
        prefix_lists: [("pl-a".to_owned(), list)].into(),
        ..Directory::default()
    }
}

#[test]
fn sixteen_groups_fit_and_more_than_five_are_said() {
    let groups: Vec<_> = (0..17)
        .map(|n| group(&format!("sg-{n}"), 1, &cidr("10.0.0.0/8")))
        .collect();
    let groups: Vec<_> = groups.iter().collect();
    let none = Directory::default();
    assert_eq!(check(&groups[..5], &none).unwrap(), Vec::<String>::new());
    let warnings = check(&groups[..6], &none).unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].ends_with("6 security groups; EC2's default quota is 5 per network interface")
    );
    assert_eq!(check(&groups[..16], &none).unwrap().len(), 1);
    let error = check(&groups, &none).unwrap_err().to_string();
    assert!(
        error.starts_with("the security groups sg-0, sg-1,"),
        "{error}"
    );
    assert!(
        error.ends_with("are 17, and an ENI can have 16; merge some"),
        "{error}"
    );
}

#[test]
fn rules_are_counted_by_direction_and_family() {
    let none = Directory::default();
    let (a, b) = (
        group("sg-a", 512, &cidr("10.0.0.0/8")),
        group("sg-b", 512, &cidr("10.0.0.0/8")),
    );
    let c = group("sg-c", 1024, &cidr("::/0"));
    let warnings = check(&[&a, &b, &c], &none).unwrap();
    assert_eq!(
        warnings,
        [
            "sg-a, sg-b, sg-c: 1024 ingress rules for IPv4; EC2's quota is 1000 per network interface",
            "sg-a, sg-b, sg-c: 1024 ingress rules for IPv6; EC2's quota is 1000 per network interface",
        ]
    );
    let one = group("sg-d", 1, &Peer::Group(GroupReference::new("sg-a")));
    assert_eq!(
        check(&[&a, &b, &one], &none).unwrap_err().to_string(),
        "the security groups sg-a, sg-b, sg-d have 1025 ingress rules for IPv4 together and 1024 fit; \
         merge networks or port ranges"
    );
    let mut egress = group("sg-e", 600, &cidr("10.0.0.0/8"));
    for rule in &mut egress.rules {
        rule.direction = Direction::Egress;
    }
    assert_eq!(check(&[&a, &egress], &none).unwrap(), Vec::<String>::new());
}

#[test]
fn a_prefix_list_weighs_its_maximum_or_its_length() {
    let rows = [
        ("a", Some(20), &["10.0.0.0/8"][..], (20, 0)),
        ("a", None, &["10.0.0.0/8", "11.0.0.0/8", "::/0"], (2, 1)),
        ("a", Some(20), &[], (20, 20)),
        (
            "com.amazonaws.us-east-1.s3",
            None,
            &["10.0.0.0/8", "11.0.0.0/8"],
            (1, 0),
        ),
        (
            "com.amazonaws.global.cloudfront.origin-facing",
            None,
            &["10.0.0.0/8"],
            (55, 0),
        ),
        (
            "com.amazonaws.us-east-1.s3express",
            None,
            &["10.0.0.0/8"],
            (6, 0),
        ),
        (
            "com.example.s3",
            None,
            &["10.0.0.0/8", "11.0.0.0/8"],
            (2, 0),
        ),
    ];
    for (name, max_entries, entries, expected) in rows {
        let directory = lists(name, max_entries, entries);
        let group = group("sg-a", 1, &Peer::PrefixList("pl-a".into()));
        let weight = |family| weight(&group.rules[0], family, &directory);
        assert_eq!(
            (weight(Family::Ipv4), weight(Family::Ipv6)),
            expected,
            "{name} {entries:?}"
        );
    }
    let directory = lists("a", Some(100), &["10.0.0.0/8"]);
    let group = group("sg-a", 11, &Peer::PrefixList("pl-a".into()));
    let warnings = check(&[&group], &directory).unwrap();
    assert_eq!(
        warnings,
        ["sg-a: 1100 ingress rules for IPv4; EC2's quota is 1000 per network interface"]
    );
}
