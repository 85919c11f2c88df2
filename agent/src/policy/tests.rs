#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use branchline_common::{
    admission::{Question, UNTRACKED, answer, ask},
    maps::NODES,
};
use proptest::prelude::*;

use super::*;
use crate::{
    address::address,
    security_groups::{Directory, GroupReference, Members, PrefixList, PrefixListEntry},
};

const TCP: Protocol = Protocol::Number(protocol::TCP);

fn rule(ports: (u16, u16), peer: impl Into<Peer>) -> SecurityGroupRule {
    let ports = PortRange {
        first: ports.0,
        last: ports.1,
    };
    SecurityGroupRule::new("sg-a", Direction::Ingress, TCP, ports, peer, None)
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn group(rules: Vec<SecurityGroupRule>) -> SecurityGroup {
    SecurityGroup {
        group_id: "sg-a".to_owned(),
        rules,
        ..SecurityGroup::default()
    }
}

fn compiled(trees: &mut Trees, group: &SecurityGroup, members: &Members) -> Policy {
    let directory = Directory::default();
    compile(trees, &[group], &mut Networks::of(&directory, members)).unwrap()
}

fn find(trees: &Trees, policy: &Policy, peer: &str, port: u16) -> Option<u16> {
    let peer: std::net::IpAddr = peer.parse().unwrap();
    let scope = scope(Direction::Ingress, peer.is_ipv4());
    let rule = policy
        .entry
        .rule(trees, scope, &address(peer), protocol::TCP, Some(port));
    // By its place in the group, as the tests write it.
    rule.map(|rule| policy.rules[scope][usize::from(rule)].rule_id.clone())
        .map(|id| {
            let digits = id.trim_start_matches("sgr-");
            digits.parse().unwrap()
        })
}

/// The rules with their places as ids.
fn numbered(rules: Vec<SecurityGroupRule>) -> SecurityGroup {
    let mut group = group(rules);
    for (place, rule) in group.rules.iter_mut().enumerate() {
        rule.rule_id = format!("sgr-{place}");
    }
    group
}

#[test]
fn open_rules_come_first_and_the_others_keep_their_order() {
    let mut trees = Trees::default();
    let group = numbered(vec![
        rule((80, 90), net("10.0.0.0/8")),
        rule((443, 443), net("10.1.0.0/16")),
        rule((85, 85), net("0.0.0.0/0")),
        rule((1, 1), net("::/0")),
    ]);
    let policy = compiled(&mut trees, &group, &Members::default());
    let rows = [
        ("10.9.9.9", 80, Some(0)),
        ("10.9.9.9", 85, Some(2)),
        ("192.0.2.1", 85, Some(2)),
        ("10.9.9.9", 443, None),
        ("10.1.9.9", 443, Some(1)),
        ("10.1.9.9", 91, None),
        ("2001:db8::1", 1, Some(3)),
        ("2001:db8::1", 85, None),
        ("192.0.2.1", 1, None),
    ];
    for (peer, port, expected) in rows {
        assert_eq!(find(&trees, &policy, peer, port), expected, "{peer} {port}");
    }
    assert_eq!(policy.entry.open, [1, 0, 1, 0]);
}

#[test]
fn prefix_lists_and_groups_stand_for_their_networks() {
    let list = PrefixList {
        prefix_list_id: "pl-1".to_owned(),
        entries: ["10.0.0.0/24", "2001:db8::/32"]
            .map(|cidr| PrefixListEntry {
                cidr: net(cidr),
                description: None,
            })
            .to_vec(),
        ..PrefixList::default()
    };
    let directory = Directory {
        prefix_lists: [("pl-1".to_owned(), list)].into(),
        ..Directory::default()
    };
    let mut members = Members::default();
    members.insert("eni-1", ["sg-b"], [net("10.9.0.7/32"), net("0.0.0.0/0")]);
    let group = numbered(vec![
        rule((1, 1), Peer::PrefixList("pl-1".to_owned())),
        rule((2, 2), Peer::Group(GroupReference::new("sg-b"))),
    ]);
    let mut trees = Trees::default();
    let policy = compile(
        &mut trees,
        &[&group],
        &mut Networks::of(&directory, &members),
    )
    .unwrap();
    assert_eq!(find(&trees, &policy, "10.0.0.9", 1), Some(0));
    assert_eq!(find(&trees, &policy, "2001:db8::9", 1), Some(0));
    assert_eq!(find(&trees, &policy, "10.9.0.7", 2), Some(1));
    assert_eq!(find(&trees, &policy, "10.9.0.7", 1), None);
    // What a member has is never a literal /0.
    assert_eq!(policy.entry.open, [0; 4]);
}

#[test]
fn a_new_member_makes_a_path_of_new_nodes_and_no_more() {
    let mut trees = Trees::default();
    let mut members = Members::default();
    for number in 0..1_000_u32 {
        let [_, _, a, b] = number.to_be_bytes();
        let address = net(&format!("10.{a}.{b}.7/32"));
        members.insert(&format!("eni-{number}"), ["sg-a"], [address]);
    }
    let group = numbered(vec![rule((1, 1), Peer::Group(GroupReference::new("sg-a")))]);
    let old = compiled(&mut trees, &group, &members);
    let before = trees.len();
    members.insert("eni-x", ["sg-a"], [net("10.200.1.1/32")]);
    let new = compiled(&mut trees, &group, &members);
    let after = trees.len();
    assert!(after.0 - before.0 <= 8, "{before:?} {after:?}");
    assert_eq!(after.1, before.1);
    release(&mut trees, &old.entry);
    assert_eq!(find(&trees, &new, "10.200.1.1", 1), Some(0));
    assert_eq!(find(&trees, &new, "10.1.2.7", 1), Some(0));
    release(&mut trees, &new.entry);
    assert_eq!(trees.len(), (0, 0));
}

#[test]
fn indices_are_used_again_only_after_their_rest() {
    let mut trees = Trees::default();
    let one = compiled(
        &mut trees,
        &group(vec![rule((1, 1), net("10.0.0.0/8"))]),
        &Members::default(),
    );
    let taken: BTreeSet<u32> = trees.unwritten().nodes.iter().map(|(at, _)| *at).collect();
    release(&mut trees, &one.entry);
    let two = compiled(
        &mut trees,
        &group(vec![rule((2, 2), net("11.0.0.0/8"))]),
        &Members::default(),
    );
    let fresh = |trees: &Trees| -> BTreeSet<u32> {
        trees.unwritten().nodes.iter().map(|(at, _)| *at).collect()
    };
    assert!(fresh(&trees).is_disjoint(&taken));
    let resting = trees.resting();
    release(&mut trees, &two.entry);
    trees.rested(resting);
    compiled(
        &mut trees,
        &group(vec![rule((3, 3), net("12.0.0.0/8"))]),
        &Members::default(),
    );
    assert_eq!(fresh(&trees), taken);
}

#[test]
fn trees_leave_alone_what_an_earlier_agent_uses() {
    let taken = Taken {
        nodes: (1..NODES - 1).collect(),
        rule_sets: BTreeSet::from([1]),
    };
    let mut trees = Trees::beside(taken);
    let small = group(vec![rule((0, u16::MAX), net("10.0.0.0/4"))]);
    let (directory, members) = <(Directory, Members)>::default();
    let policy = compile(
        &mut trees,
        &[&small],
        &mut Networks::of(&directory, &members),
    );
    let error = policy.unwrap_err();
    assert!(matches!(error, CompileError::NoRoom { .. }), "{error}");
    assert_eq!(trees.len(), (0, 0), "a failure holds nothing");
    trees.rested(trees.resting());
    trees.reclaim();
    let policy = compiled(&mut trees, &small, &Members::default());
    assert!(find_first(&trees, &policy));
}

fn find_first(trees: &Trees, policy: &Policy) -> bool {
    let peer = address("10.1.1.1".parse().unwrap());
    let scope = scope(Direction::Ingress, true);
    let rule = policy
        .entry
        .rule(trees, scope, &peer, protocol::TCP, Some(5));
    rule == Some(0)
}

#[test]
fn too_many_rules_are_an_error_that_counts_them() {
    let rules = (0..=MAX_RULES as u16).map(|port| rule((port, port), net("0.0.0.0/0")));
    let group = group(rules.collect());
    let mut trees = Trees::default();
    let (directory, members) = <(Directory, Members)>::default();
    let error = compile(
        &mut trees,
        &[&group],
        &mut Networks::of(&directory, &members),
    );
    let error = error.unwrap_err();
    let CompileError::TooManyRules {
        direction,
        family,
        count,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((direction, family, count), ("ingress", "IPv4", 1025));
    assert_eq!(trees.len(), (0, 0));
}

proptest::proptest! {
    #[test]
    fn blocks_make_up_exactly_their_range(a: u16, b: u16, probe: u16) {
        let range = PortRange { first: a.min(b), last: a.max(b) };
        let blocks = blocks_of(range);
        proptest::prop_assert!(blocks.len() <= 30);
        let last = |block: &Block| block.first | u16::MAX.checked_shr(block.bits).unwrap_or(0);
        let hits = blocks
            .iter()
            .filter(|block| (block.first..=last(block)).contains(&probe))
            .count();
        proptest::prop_assert_eq!(hits, usize::from(range.contains(probe)));
    }
}

/// Networks that members have: hosts, delegated prefixes, nested ones and all addresses.
const MEMBER_NETWORKS: [&str; 10] = [
    "10.0.0.4/32",
    "10.0.0.5/32",
    "10.0.0.0/28",
    "10.0.0.0/30",
    "10.64.0.0/10",
    "0.0.0.0/0",
    "fd00::4/128",
    "fd00::/80",
    "fd00::/83",
    "::/0",
];

/// A group whose rules name networks, a list and groups, with every kind of protocol.
fn mixed_group() -> SecurityGroup {
    let of = |direction, protocol, ports: (u16, u16), peer: Peer| {
        let ports = PortRange {
            first: ports.0,
            last: ports.1,
        };
        SecurityGroupRule::new("sg-a", direction, protocol, ports, peer, None)
    };
    let sg = |id| Peer::Group(GroupReference::new(id));
    let (into, out) = (Direction::Ingress, Direction::Egress);
    let all = (0, u16::MAX);
    numbered(vec![
        of(into, TCP, (80, 80), sg("sg-b")),
        of(into, TCP, (81, 81), sg("sg-c")),
        of(into, Protocol::Any, all, sg("sg-b")),
        of(into, Protocol::Number(protocol::ICMP), all, sg("sg-c")),
        of(into, TCP, (443, 443), net("0.0.0.0/0").into()),
        of(into, TCP, (444, 444), net("10.0.0.4/30").into()),
        of(into, TCP, (445, 445), net("fd00::/64").into()),
        of(out, Protocol::Any, all, Peer::PrefixList("pl-1".to_owned())),
        of(out, TCP, all, sg("sg-c")),
    ])
}

proptest::proptest! {
    /// Members that come, change and go: each time the policy that follows is the one compiled anew.
    #[test]
    fn a_policy_that_follows_its_members_is_the_one_compiled_of_them(
        steps in proptest::collection::vec(
            (0_u8..4, proptest::option::of((
                proptest::collection::btree_set(proptest::sample::select(vec!["sg-b", "sg-c"]), 0..3),
                proptest::collection::btree_set(0..MEMBER_NETWORKS.len(), 0..4),
            ))),
            0..25,
        ),
    ) {
        let entries = ["10.0.0.0/29", "fd00::/48"].map(|cidr| PrefixListEntry {
            cidr: net(cidr),
            description: None,
        });
        let list = PrefixList { entries: entries.to_vec(), ..PrefixList::default() };
        let directory = Directory {
            prefix_lists: [("pl-1".to_owned(), list)].into(),
            ..Directory::default()
        };
        let group = mixed_group();
        let (mut trees, mut members) = <(Trees, Members)>::default();
        let networks = &mut Networks::of(&directory, &members);
        let mut policy = compile(&mut trees, &[&group], networks).unwrap();
        for (eni, step) in steps {
            let eni = format!("eni-{eni}");
            let changes = match step {
                None => members.remove(&eni),
                Some((groups, numbers)) => {
                    let networks = numbers.iter().map(|number| net(MEMBER_NETWORKS[*number]));
                    members.insert(&eni, groups, networks)
                }
            };
            let networks = &mut Networks::of(&directory, &members);
            let new = with_members(&mut trees, &policy, networks, &changes).unwrap();
            release(&mut trees, &policy.entry);
            let held = trees.len();
            let compiled = compile(&mut trees, &[&group], networks).unwrap();
            proptest::prop_assert_eq!(&new, &compiled);
            proptest::prop_assert_eq!(!changes.is_empty(), new.refers_to(&changes));
            release(&mut trees, &compiled.entry);
            proptest::prop_assert_eq!(trees.len(), held);
            policy = new;
        }
        release(&mut trees, &policy.entry);
        proptest::prop_assert_eq!(trees.len(), (0, 0));
    }
}

/// A rule of any direction, protocol and ports, open or not.
fn any_rule() -> impl Strategy<Value = SecurityGroupRule> {
    let direction = prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)];
    let protocol = prop_oneof![
        Just(Protocol::Any),
        Just(TCP),
        Just(Protocol::Number(protocol::UDP))
    ];
    let ports = prop_oneof![
        Just((0, u16::MAX)),
        Just((1, u16::MAX)),
        (0..4_u16, 0..4_u16).prop_map(|(first, more)| (first, first + more)),
    ];
    let peer = prop::sample::select(vec!["0.0.0.0/0", "::/0", "10.0.0.0/8", "0.0.0.0/1"]);
    (direction, protocol, ports, peer).prop_map(|(direction, protocol, ports, peer)| {
        let ports = match protocol {
            Protocol::Any => PortRange::ALL,
            Protocol::Number(_) => PortRange {
                first: ports.0,
                last: ports.1,
            },
        };
        SecurityGroupRule::new("sg-a", direction, protocol, ports, net(peer), None)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// What the book makes of a row is what the programs found for its packets.
    #[test]
    fn a_packet_that_needs_no_connection_passes_by_the_rule_that_the_book_names(
        rules in prop::collection::vec(any_rule(), 1..10),
        is_ingress: bool, is_tcp: bool, is_opener: bool,
        port in 1..9_u16, answered_port in 1..9_u16,
        peer in prop::sample::select(vec!["10.9.9.9", "192.0.2.1"]),
    ) {
        let mut trees = Trees::default();
        let mut policy = compiled(&mut trees, &numbered(rules), &Members::default());
        policy.entry.generation = 7;
        let direction = if is_ingress { Direction::Ingress } else { Direction::Egress };
        let protocol = if is_tcp { protocol::TCP } else { protocol::UDP };
        let peer = address(peer.parse().unwrap());
        let question = Question {
            peer,
            port,
            answered_port,
            protocol,
            direction: direction as u8,
            ask: if is_opener { 0 } else { ask::ANSWERS },
            ..Question::default()
        };
        let book = RuleBook::default();
        let kept = KeptPage { numbered_at: 7, epoch: 1 };
        book.enter(7, Page { rules: Arc::clone(&policy.rules), kept });
        book.obey([3], 7);
        let scope = scope(direction, true);
        let named = book.names().open_rule(3, scope, protocol, port);
        let found = policy.entry.rule(&trees, scope, &peer, protocol, Some(port));
        if answer(&trees, &policy.entry, &question) == UNTRACKED {
            prop_assert!(named.is_some(), "a flow without a rule");
        }
        if named.is_some() {
            prop_assert_eq!(named, found.map(|number| (7, number)));
        }
    }
}
