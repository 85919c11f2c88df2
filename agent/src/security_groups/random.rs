//! Random directories such as `change` makes, for property tests.

use std::collections::BTreeMap;

use branchline_common::verdict::Direction;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::option;
use proptest::prelude::*;

use super::directory::{Directory, PrefixList, PrefixListEntry, SecurityGroup};
use super::rule::{GroupReference, Peer, PortRange, Protocol, SecurityGroupRule};

/// Few ids, so that references and clashes are frequent.
const GROUPS: [&str; 4] = ["sg-a", "sg-b", "sg-0123456789abcdef0", "sg-d"];
const LISTS: [&str; 2] = ["pl-a", "pl-0123456789abcdef0"];

/// A directory whose references are all to groups and lists that it has, or abroad.
pub(crate) fn directory() -> impl Strategy<Value = Directory> {
    let rules = proptest::collection::vec(rule(), 0..6);
    let flags = (any::<bool>(), option::of(any::<bool>()), vpc());
    let groups = proptest::collection::vec(option::of((rules, description(), flags)), GROUPS.len());
    let lists = proptest::collection::vec(option::of(list()), LISTS.len());
    (groups, lists).prop_map(|(groups, lists)| {
        let lists = LISTS.iter().zip(lists).filter_map(|(id, list)| {
            let mut list = list?;
            list.prefix_list_id = (*id).to_owned();
            Some(((*id).to_owned(), list))
        });
        let mut directory = Directory {
            prefix_lists: lists.collect(),
            ..Directory::default()
        };
        for (id, group) in GROUPS.iter().zip(groups) {
            let Some((rules, description, (audit, cut_on_revoke, vpc_id))) = group else {
                continue;
            };
            let group = SecurityGroup {
                group_id: (*id).to_owned(),
                group_name: format!("Name {}", id.trim_start_matches("sg-")),
                description: description.unwrap_or_default(),
                vpc_id,
                rules: kept(rules, id),
                audit,
                cut_on_revoke,
            };
            directory.groups.insert(group.group_id.clone(), group);
        }
        drop_dangling(&mut directory);
        directory
    })
}

/// Each rule once and in order, with the id that its group gives it where it has none.
fn kept(mut rules: Vec<SecurityGroupRule>, group_id: &str) -> Vec<SecurityGroupRule> {
    rules.sort_by(SecurityGroupRule::order);
    rules.dedup_by(|a, b| a.allows_as(b));
    for (number, rule) in rules.iter_mut().enumerate() {
        rule.rule_id = if rule.rule_id.is_empty() {
            rule.content_id(group_id)
        } else {
            format!("sgr-{number:017x}")
        };
    }
    rules
}

fn drop_dangling(directory: &mut Directory) {
    let groups: Vec<_> = directory
        .groups
        .values()
        .map(|group| (group.group_id.clone(), group.vpc_id.clone()))
        .collect();
    let lists: Vec<_> = directory.prefix_lists.keys().cloned().collect();
    for group in directory.groups.values_mut() {
        let own_vpc = group.vpc_id.as_deref().unwrap_or("vpc-1").to_owned();
        group.rules.retain(|rule| match &rule.peer {
            Peer::Cidr(network) => rule.has_family_of(network),
            Peer::PrefixList(id) => lists.contains(id),
            Peer::Group(peer) if peer.vpc_id.as_ref() == Some(&own_vpc) => false,
            Peer::Group(peer) => {
                peer.is_foreign() || groups.iter().any(|(id, _)| *id == peer.group_id)
            }
        });
    }
}

fn rule() -> impl Strategy<Value = SecurityGroupRule> {
    let direction = prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)];
    (
        direction,
        protocol_ports(),
        peer(),
        description(),
        any::<bool>(),
    )
        .prop_map(
            |(direction, (protocol, ports), peer, description, has_id)| SecurityGroupRule {
                rule_id: if has_id {
                    "given".into()
                } else {
                    String::new()
                },
                direction,
                protocol,
                ports,
                peer,
                description,
            },
        )
}

fn protocol_ports() -> impl Strategy<Value = (Protocol, PortRange)> {
    let range = (0_u16..4, 0_u16..4).prop_map(|(a, b)| PortRange {
        first: a.min(b),
        last: a.max(b),
    });
    let icmp = (any::<u8>(), option::of(any::<u8>())).prop_map(|(icmp_type, code)| {
        let icmp_type = u16::from(icmp_type) << 8;
        PortRange {
            first: icmp_type | u16::from(code.unwrap_or(0)),
            last: icmp_type | u16::from(code.unwrap_or(255)),
        }
    });
    let with_ports = prop_oneof![Just(Protocol::Number(6)), Just(Protocol::Number(17))];
    let with_types = prop_oneof![Just(Protocol::Number(1)), Just(Protocol::Number(58))];
    let without = prop_oneof![Just(Protocol::Any), Just(Protocol::Number(47))];
    prop_oneof![
        (with_ports, range),
        (with_types, icmp),
        (without, Just(PortRange::ALL)),
    ]
}

fn peer() -> impl Strategy<Value = Peer> {
    let account = option::of(Just("123456789012".to_owned()));
    let status = option::of(prop_oneof![
        Just("active".to_owned()),
        Just("deleted".to_owned())
    ]);
    let reference = (
        proptest::sample::select(&GROUPS[..]),
        account,
        vpc(),
        status,
    )
        .prop_map(|(group_id, user_id, vpc_id, peering_status)| {
            Peer::Group(GroupReference {
                user_id,
                vpc_peering_connection_id: vpc_id.as_ref().map(|_| "pcx-a".to_owned()),
                vpc_id,
                peering_status,
                ..GroupReference::new(group_id)
            })
        });
    prop_oneof![
        network().prop_map(Peer::from),
        proptest::sample::select(&LISTS[..]).prop_map(|id| Peer::PrefixList(id.to_owned())),
        reference,
    ]
}

fn vpc() -> impl Strategy<Value = Option<String>> {
    option::of(Just("vpc-2".to_owned()))
}

fn network() -> impl Strategy<Value = IpNet> {
    let ipv4 = (any::<u32>(), 0_u8..=32)
        .prop_map(|(bits, len)| IpNet::V4(Ipv4Net::new_assert(bits.into(), len).trunc()));
    let ipv6 = (any::<u128>(), 0_u8..=128)
        .prop_map(|(bits, len)| IpNet::V6(Ipv6Net::new_assert(bits.into(), len).trunc()));
    prop_oneof![ipv4, ipv6]
}

fn description() -> impl Strategy<Value = Option<String>> {
    let allowed: Vec<char> = "abcXYZ019 ._-:/()#,@[]+=&;{}!$*".chars().collect();
    let text = proptest::collection::vec(proptest::sample::select(allowed), 0..20);
    option::of(text.prop_map(String::from_iter))
}

fn list() -> impl Strategy<Value = PrefixList> {
    let entries = proptest::collection::btree_map(network(), description(), 0..5);
    (entries, description(), option::of(5_u32..20)).prop_map(|(entries, name, max_entries)| {
        let entries: BTreeMap<IpNet, Option<String>> = entries;
        let entry = |(cidr, description)| PrefixListEntry { cidr, description };
        PrefixList {
            prefix_list_id: String::new(),
            prefix_list_name: name.unwrap_or_default(),
            max_entries,
            entries: entries.into_iter().map(entry).collect(),
        }
    })
}
