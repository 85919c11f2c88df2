//! Tests of `diff`, and that a printed directory is read back.
#![expect(clippy::unwrap_used, reason = "tests")]

use branchline_common::verdict::Direction;
use proptest::prelude::*;

use super::super::change::{ApplyOptions, apply};
use super::super::file::SecurityGroupFile;
use super::super::group_table::OwnVpc;
use super::super::members::Members;
use super::super::random;
use super::super::rule::{GroupReference, Peer, PortRange, Protocol};
use super::*;

fn rule(port: u16, peer: &str) -> SecurityGroupRule {
    let ports = PortRange {
        first: port,
        last: port,
    };
    let peer: ipnet::IpNet = peer.parse().unwrap();
    let tcp = Protocol::Number(6);
    SecurityGroupRule::new("sg-a", Direction::Ingress, tcp, ports, peer, None)
}

fn with(groups: Vec<SecurityGroup>, prefix_lists: Vec<PrefixList>) -> Directory {
    Directory {
        groups: groups
            .into_iter()
            .map(|group| (group.group_id.clone(), group))
            .collect(),
        prefix_lists: prefix_lists
            .into_iter()
            .map(|list| (list.prefix_list_id.clone(), list))
            .collect(),
    }
}

fn group(rules: Vec<SecurityGroupRule>) -> SecurityGroup {
    SecurityGroup {
        group_id: "sg-a".into(),
        group_name: "a".into(),
        rules,
        ..SecurityGroup::default()
    }
}

#[test]
fn rules_are_compared_by_what_they_allow() {
    let (http, https, ssh) = (
        rule(80, "10.0.0.0/8"),
        rule(443, "10.0.0.0/8"),
        rule(22, "10.0.0.0/8"),
    );
    let renamed = SecurityGroupRule {
        rule_id: "sgr-aws".into(),
        ..https.clone()
    };
    let old = with(vec![group(vec![http.clone(), https.clone()])], vec![]);
    let mut changed = group(vec![ssh.clone(), renamed.clone()]);
    changed.audit = true;
    changed.description = "new".into();
    let change = &diff(&old, &with(vec![changed], vec![])).security_groups[0];
    assert_eq!(change.kind, ChangeKind::Changed);
    assert_eq!(change.rules_added, [ssh]);
    assert_eq!(change.rules_removed, std::slice::from_ref(&http));
    let (old_rule, new_rule) = (https.clone(), renamed);
    let expected = ValueChange {
        old: old_rule,
        new: new_rule,
    };
    assert_eq!(change.rules_changed, [expected]);
    let expected = ValueChange {
        old: false,
        new: true,
    };
    assert_eq!(change.audit, Some(expected));
    assert_eq!(change.description.as_ref().unwrap().new, "new");
    assert_eq!(change.group_name, None);

    let reordered = with(vec![group(vec![https, http])], vec![]);
    assert!(diff(&old, &reordered).is_empty());
}

#[test]
fn a_peering_that_ends_is_a_change_of_its_rule() {
    let to = |status: &str| {
        let peer = Peer::Group(GroupReference {
            peering_status: Some(status.into()),
            ..GroupReference::new("sg-b")
        });
        group(vec![SecurityGroupRule {
            peer,
            ..rule(80, "::/0")
        }])
    };
    let (up, down) = (
        with(vec![to("active")], vec![]),
        with(vec![to("deleted")], vec![]),
    );
    let change = &diff(&up, &down).security_groups[0];
    assert_eq!(
        (change.rules_added.len(), change.rules_changed.len()),
        (0, 1)
    );
}

#[test]
fn groups_and_lists_come_go_and_change() {
    let entry = |cidr: &str, description: Option<&str>| PrefixListEntry {
        cidr: cidr.parse().unwrap(),
        description: description.map(Into::into),
    };
    let list = |entries: &[PrefixListEntry]| PrefixList {
        prefix_list_id: "pl-a".into(),
        entries: entries.to_vec(),
        ..PrefixList::default()
    };
    let (ten, eleven) = (entry("10.0.0.0/8", None), entry("11.0.0.0/8", None));
    let old = with(
        vec![group(vec![rule(80, "::/0")])],
        vec![list(&[ten.clone(), eleven.clone()])],
    );
    let gone = diff(&old, &Directory::default());
    assert_eq!(gone.security_groups[0].kind, ChangeKind::Removed);
    assert_eq!(gone.security_groups[0].rules_removed.len(), 1);
    assert_eq!(
        gone.prefix_lists[0].entries_removed,
        [ten.clone(), eleven.clone()]
    );
    let new = diff(&Directory::default(), &old);
    assert_eq!(new.security_groups[0].kind, ChangeKind::Added);
    assert_eq!(new.prefix_lists[0].kind, ChangeKind::Added);

    let said = entry("11.0.0.0/8", Some("said"));
    let changed = diff(
        &old,
        &with(
            old.groups.values().cloned().collect(),
            vec![list(&[ten, said.clone()])],
        ),
    );
    assert_eq!(changed.security_groups, []);
    assert_eq!(changed.prefix_lists[0].entries_added, [said]);
    assert_eq!(changed.prefix_lists[0].entries_removed, [eleven]);
}

fn read_back(text: &str) -> Directory {
    let members = Members::default();
    let vpc = OwnVpc {
        vpc_id: "vpc-1",
        has_ipv6: true,
    };
    let options = ApplyOptions {
        vpc,
        prune: false,
        members: &members,
    };
    let file = SecurityGroupFile::parse(text).unwrap();
    apply(&Directory::default(), &file, options).unwrap().0
}

proptest! {
    #[test]
    fn nothing_differs_exactly_when_all_is_equal(a in random::directory(), b in random::directory()) {
        prop_assert_eq!(diff(&a, &b).is_empty(), a == b);
        prop_assert!(diff(&a, &a.clone()).is_empty());
    }

    #[test]
    fn one_change_is_one_difference(a in random::directory(), at: proptest::sample::Index, what in 0..8) {
        prop_assume!(!a.groups.is_empty());
        let mut b = a.clone();
        let id = at.get(&a.groups.keys().cloned().collect::<Vec<_>>()).clone();
        let group = b.groups.get_mut(&id).unwrap();
        match what {
            0 => group.audit = !group.audit,
            1 => group.cut_on_revoke = if group.cut_on_revoke.is_some() { None } else { Some(true) },
            2 => group.description.push('x'),
            3 => group.group_name.push('x'),
            4 => group.vpc_id = Some("vpc-other".into()),
            5 => group.rules.push(rule(1, "203.0.113.0/24")),
            6 => drop(b.groups.remove(&id)),
            _ => match group.rules.first_mut() {
                Some(rule) => rule.description = Some("changed".into()),
                None => group.audit = !group.audit,
            },
        }
        let change = diff(&a, &b);
        prop_assert_eq!(change.security_groups.len(), 1);
        prop_assert_eq!(&change.security_groups[0].group_id, &id);
        prop_assert_eq!(change.prefix_lists, []);
    }

    #[test]
    fn a_printed_directory_is_read_back(directory in random::directory()) {
        let file = SecurityGroupFile::of(&directory);
        prop_assert_eq!(&read_back(&file.to_toml().unwrap()), &directory);
        prop_assert_eq!(&read_back(&file.to_json().unwrap()), &directory);
    }

    #[test]
    fn applying_what_is_there_changes_nothing(directory in random::directory(), prune: bool) {
        let members = Members::default();
        let vpc = OwnVpc { vpc_id: "vpc-1", has_ipv6: false };
        let options = ApplyOptions { vpc, prune, members: &members };
        let file = SecurityGroupFile::of(&directory);
        prop_assert_eq!(&apply(&directory, &file, options).unwrap().0, &directory);
    }
}
