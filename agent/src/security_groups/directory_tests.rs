//! Tests of `directory`.
#![expect(clippy::unwrap_used, reason = "tests")]

use branchline_common::verdict::Direction;

use super::super::rule::{GroupReference, PortRange, Protocol};
use super::*;

fn nets(texts: &[&str]) -> BTreeSet<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn directory() -> Directory {
    let entry = |cidr: &str| PrefixListEntry {
        cidr: cidr.parse().unwrap(),
        description: None,
    };
    let list = PrefixList {
        prefix_list_id: "pl-a".into(),
        entries: vec![entry("198.51.100.0/24"), entry("2001:db8::/32")],
        ..PrefixList::default()
    };
    let known = SecurityGroup {
        group_id: "sg-a".into(),
        ..SecurityGroup::default()
    };
    Directory {
        groups: [("sg-a".to_owned(), known)].into(),
        prefix_lists: [("pl-a".to_owned(), list)].into(),
    }
}

fn members() -> Members {
    let mut members = Members::default();
    members.insert("eni-1", ["sg-a"], nets(&["10.0.1.4/32", "fd00::4/128"]));
    members.insert("eni-2", ["sg-a", "sg-theirs"], nets(&["10.0.1.64/28"]));
    members
}

fn to_group(id: &str, account: Option<&str>, status: Option<&str>) -> Peer {
    Peer::Group(GroupReference {
        user_id: account.map(Into::into),
        peering_status: status.map(Into::into),
        ..GroupReference::new(id)
    })
}

#[test]
fn peers_stand_for_networks_or_are_unresolved() {
    use UnresolvedReason::{OtherAccount, StalePeering, UnknownGroup, UnknownPrefixList};
    let all: &[&str] = &["10.0.1.4/32", "10.0.1.64/28", "fd00::4/128"];
    let rows: [(Peer, &[&str], Option<UnresolvedReason>); 11] = [
        (
            "10.1.2.3/8".parse::<IpNet>().unwrap().into(),
            &["10.0.0.0/8"],
            None,
        ),
        (
            Peer::PrefixList("pl-a".into()),
            &["198.51.100.0/24", "2001:db8::/32"],
            None,
        ),
        (
            Peer::PrefixList("pl-x".into()),
            &[],
            Some(UnknownPrefixList),
        ),
        (to_group("sg-a", None, None), all, None),
        (to_group("sg-a", Some("123456789012"), None), all, None),
        (to_group("sg-a", None, Some("active")), all, None),
        (
            to_group("sg-a", None, Some("deleted")),
            &[],
            Some(StalePeering),
        ),
        (
            to_group("sg-theirs", Some("123456789012"), None),
            &["10.0.1.64/28"],
            None,
        ),
        (to_group("sg-theirs", None, None), &["10.0.1.64/28"], None),
        (
            to_group("sg-x", Some("123456789012"), None),
            &[],
            Some(OtherAccount),
        ),
        (to_group("sg-x", None, None), &[], Some(UnknownGroup)),
    ];
    let (directory, members) = (directory(), members());
    for (peer, networks, reason) in rows {
        assert_eq!(
            directory.networks(&peer, &members),
            nets(networks),
            "{peer}"
        );
        let rule = SecurityGroupRule::new(
            "sg-b",
            Direction::Ingress,
            Protocol::Any,
            PortRange::ALL,
            peer.clone(),
            None,
        );
        let expected = reason.map(|reason| UnresolvedReference {
            group_id: "sg-b".into(),
            rule_id: rule.rule_id.clone(),
            peer,
            reason,
        });
        let group = SecurityGroup {
            group_id: "sg-b".into(),
            rules: vec![rule],
            ..SecurityGroup::default()
        };
        let found = directory.unresolved([&group], &members);
        assert_eq!(found, Vec::from_iter(expected));
    }
}

#[test]
fn a_known_group_without_members_is_resolved_to_none() {
    let (directory, members) = (directory(), Members::default());
    let peer = to_group("sg-a", None, None);
    assert_eq!(directory.networks(&peer, &members), BTreeSet::new());
    assert_eq!(directory.unresolved_reason(&peer, &members), None);
}

#[test]
fn a_directory_survives_the_store() {
    let mut directory = directory();
    let peers = [
        "10.0.0.0/8".parse::<IpNet>().unwrap().into(),
        Peer::PrefixList("pl-a".into()),
        to_group("sg-a", Some("123456789012"), Some("active")),
    ];
    let group = directory.groups.get_mut("sg-a").unwrap();
    let rule = |peer| {
        let ports = PortRange { first: 1, last: 2 };
        let tcp = Protocol::Number(6);
        SecurityGroupRule::new(
            "sg-a",
            Direction::Egress,
            tcp,
            ports,
            peer,
            Some("x".into()),
        )
    };
    group.rules = peers.map(rule).to_vec();
    group.cut_on_revoke = Some(true);
    let json = serde_json::to_string(&directory).unwrap();
    assert_eq!(serde_json::from_str::<Directory>(&json).unwrap(), directory);
}
