//! Random groups, prefix lists, ENIs and environments. It makes no packet.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use crate::{
    random::Random,
    scenario::format::{
        Eni, Env, Group, IpPermission, IpRange, Ipv6Range, PrefixListId, Scenario, UserIdGroupPair,
    },
};

/// The prefix lists of every scenario.
pub(super) const PREFIX_LISTS: [&str; 2] = ["pl-1", "pl-2"];

/// Protocols and their ranges; each as often as it stands here.
const PORTS: [(&str, Option<(i64, i64)>); 32] = [
    ("-1", None),
    ("-1", None),
    ("-1", None),
    ("-1", Some((1, 2))),
    ("tcp", Some((0, 65535))),
    ("tcp", Some((0, 65535))),
    ("tcp", None),
    ("tcp", Some((-1, -1))),
    ("tcp", Some((22, 22))),
    ("tcp", Some((80, 443))),
    ("tcp", Some((80, 80))),
    ("tcp", Some((443, 65535))),
    ("TCP", Some((0, 0))),
    ("6", Some((40000, 40003))),
    ("udp", Some((0, 65535))),
    ("udp", Some((0, 65535))),
    ("udp", Some((53, 80))),
    ("udp", Some((0, 40000))),
    ("17", Some((443, 443))),
    ("icmp", Some((-1, -1))),
    ("icmp", Some((8, -1))),
    ("icmp", Some((8, 0))),
    ("icmp", Some((3, 4))),
    ("1", Some((0, -1))),
    ("icmpv6", None),
    ("icmpv6", Some((-1, -1))),
    ("icmpv6", Some((128, -1))),
    ("58", Some((2, 0))),
    ("47", None),
    ("50", Some((80, 90))),
    ("255", None),
    ("0", None),
];

const IPV4_NETWORKS: [&str; 10] = [
    "0.0.0.0/0",
    "0.0.0.0/0",
    "0.0.0.0/0",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "198.51.100.0/24",
    "198.51.100.7/32",
    "203.0.113.77/24",
    "10.0.0.0/16",
    "10.0.1.20/31",
];

const IPV6_NETWORKS: [&str; 7] = [
    "::/0",
    "::/0",
    "::/0",
    "2001:db8:ffff::/48",
    "2001:db8:ffff::7/128",
    "2001:db8:1:1::/64",
    "8000::/1",
];

/// A scenario without steps.
pub(super) fn scenario(random: &mut Random, seed: u64) -> Scenario {
    let groups = 1 + random.below(6);
    let enis = 1 + random.below(3);
    let prefix_lists = PREFIX_LISTS.map(|id| (id.to_owned(), networks(random)));
    Scenario {
        id: format!("random-{seed}"),
        title: String::new(),
        why: String::new(),
        env: env(random),
        prefix_lists: prefix_lists.into(),
        groups: (1..=groups)
            .map(|number| (format!("sg-{number}"), group(random, groups)))
            .collect(),
        enis: (1..=enis)
            .map(|number| (format!("eni-{number}"), eni(random, number, groups)))
            .collect(),
        steps: Vec::new(),
        expect_counters: BTreeMap::new(),
    }
}

fn env(random: &mut Random) -> Env {
    let mut env = Env {
        block_imds: random.one_in(3),
        tcp_loose: !random.one_in(8),
        ..Env::default()
    };
    env.vpc_dns
        .push(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2).into());
    env.router
        .push(Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 0, 1).into());
    if random.one_in(3) {
        env.auto_track = vec![network("198.51.100.200/32"), network("2001:db8:eeee::/48")];
    }
    if random.one_in(4) {
        env.conntrack_limit = 1 + random.below(5);
    }
    if random.one_in(4) {
        env.conntrack_limit_per_eni = Some(1 + random.below(4));
    }
    if random.one_in(3) {
        env.t_tcp_est = random.of(&[60, 350, 3600]);
        env.t_udp = random.of(&[30, 45, 60]);
        env.t_udp_stream = random.of(&[60, 120, 180]);
    }
    env
}

/// A group that may name groups up to a number, itself among them, and one that is gone.
pub(super) fn group(random: &mut Random, groups: usize) -> Group {
    let mut permissions = |most: usize| -> Vec<IpPermission> {
        let count = random.below(most + 1);
        (0..count).map(|_| permission(random, groups)).collect()
    };
    let mut group = Group {
        ingress: permissions(6),
        egress: permissions(3),
    };
    // As a new group has it.
    if random.one_in(2) {
        group.egress.push(IpPermission {
            ip_protocol: "-1".to_owned(),
            ip_ranges: vec![ipv4_range("0.0.0.0/0")],
            ipv6_ranges: vec![ipv6_range("::/0")],
            ..IpPermission::default()
        });
    }
    group
}

fn permission(random: &mut Random, groups: usize) -> IpPermission {
    let (protocol, range) = random.of(&PORTS);
    let mut permission = IpPermission {
        ip_protocol: protocol.to_owned(),
        from_port: range.map(|(from, _)| from),
        to_port: range.map(|(_, to)| to),
        ..IpPermission::default()
    };
    for _ in 0..=random.below(3) {
        match random.below(8) {
            0..4 => permission
                .ip_ranges
                .push(ipv4_range(random.of(&IPV4_NETWORKS))),
            4..6 => permission
                .ipv6_ranges
                .push(ipv6_range(random.of(&IPV6_NETWORKS))),
            6 => permission.prefix_list_ids.push(PrefixListId {
                prefix_list_id: random.of(&PREFIX_LISTS).to_owned(),
                description: None,
            }),
            _ => permission.user_id_group_pairs.push(UserIdGroupPair {
                // One past the last is a stale reference.
                group_id: format!("sg-{}", 1 + random.below(groups + 1)),
                ..UserIdGroupPair::default()
            }),
        }
    }
    permission
}

/// The networks of a prefix list.
pub(super) fn networks(random: &mut Random) -> Vec<IpNet> {
    let count = random.below(4);
    let one = |random: &mut Random| {
        network(if random.one_in(3) {
            random.of(&IPV6_NETWORKS)
        } else {
            random.of(&IPV4_NETWORKS)
        })
    };
    (0..count).map(|_| one(random)).collect()
}

/// The ENI of a place in the subnet; two may have the same.
pub(super) fn eni(random: &mut Random, place: usize, groups: usize) -> Eni {
    let place = place as u16;
    let ipv4 = |last: u16| Ipv4Addr::new(10, 0, 1, last as u8);
    let ipv6 = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 0, last);
    let mut eni = Eni {
        ipv4: vec![ipv4(10 * place + 10)],
        ipv6: vec![ipv6(16 * place + 16)],
        groups: members(random, groups),
        source_dest_check: !random.one_in(8),
        ..Eni::default()
    };
    if random.one_in(3) {
        eni.ipv4.push(ipv4(10 * place + 11));
        eni.ipv6.push(ipv6(16 * place + 17));
    }
    if random.one_in(4) {
        eni.prefixes = vec![network("10.0.1.64/28"), network("2001:db8:1:1:8::/80")];
    }
    eni
}

/// Some of the groups; at least one.
pub(super) fn members(random: &mut Random, groups: usize) -> Vec<String> {
    let mut members: Vec<usize> = (0..=random.below(3))
        .map(|_| random.below(groups))
        .collect();
    members.sort_unstable();
    members.dedup();
    members
        .iter()
        .map(|index| format!("sg-{}", index + 1))
        .collect()
}

fn network(text: &str) -> IpNet {
    text.parse().expect("a network of this file")
}

fn ipv4_range(text: &str) -> IpRange {
    IpRange {
        cidr_ip: text.parse().expect("a network of this file"),
        description: None,
    }
}

fn ipv6_range(text: &str) -> Ipv6Range {
    Ipv6Range {
        cidr_ipv6: text.parse().expect("a network of this file"),
        description: None,
    }
}
