//! How long a change of rules or members takes to be obeyed by 1,000 ENIs, and what policies weigh.
//!
//! From the call to its return, when the last ENI obeys the new policy. No file is read and
//! nothing is stored.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use anyhow::{Result, ensure};
use branchline::{
    datapath::{Datapath, Settings, grace_period},
    policies::{Policies, Unsettled},
    policy::{self, Networks, Trees},
    security_groups::{
        Directory, GroupReference, Member, Members, Peer, PortRange, Protocol, SecurityGroup,
        SecurityGroupRule,
    },
};
use branchline_common::{
    headers::protocol,
    maps::{self, Counters, Eni},
    policy::{Node, Policy, RuleSet},
    verdict::Direction,
};
use branchline_tests::rules;
use ipnet::IpNet;

use crate::{
    cases::median,
    report::{Amount, amount},
};

const ENIS: u32 = 1_000;
/// Different sets of groups that the ENIs have.
const SETS: [u32; 3] = [1, 100, ENIS];
/// The group that every ENI has.
const SHARED: &str = "sg-0";
/// Milliseconds from the request to the last ENI that obeys it: new rules, a new member.
const RULES_GOAL: f64 = 50.0;
const MEMBER_GOAL: f64 = 10.0;

/// Measures all of it, each change as often as there are rounds.
pub(crate) fn measure(rounds: u32) -> Result<Vec<Amount>> {
    let mut amounts = vec![new_rules(rounds)?];
    for sets in SETS {
        amounts.push(new_member(rounds, sets)?);
    }
    amounts.extend(weights()?);
    Ok(amounts)
}

/// Policies that 1,000 ENIs obey.
struct Host {
    datapath: Datapath,
    policies: Policies,
}

impl Host {
    fn start(directory: Directory, sets: u32) -> Result<Self> {
        let mut datapath = Datapath::load(&Settings {
            pins: None,
            connections: 1,
            rows: maps::ROWS,
            log_drops: false,
            tcp_strict: false,
        })?;
        let used = BTreeSet::new();
        let members = members(ENIS, sets);
        let mut policies = Policies::restore(&datapath, directory, members, false, &used)?;
        for slot in 1..=ENIS {
            let policy = policies.join(&mut datapath, slot, &groups_of(slot, sets))?;
            let eni = Eni {
                policy,
                ..Eni::default()
            };
            datapath.set_eni(slot, &eni)?;
        }
        Ok(Self { datapath, policies })
    }

    /// Milliseconds of a change that every ENI has to obey.
    fn timed(
        &mut self,
        change: impl FnOnce(&mut Policies, &mut Datapath) -> Result<Unsettled>,
    ) -> Result<f64> {
        let before = self.generations()?;
        let start = Instant::now();
        let unsettled = change(&mut self.policies, &mut self.datapath)?;
        let took = start.elapsed();
        grace_period()?;
        let _ = self.policies.settle(&mut self.datapath, &unsettled)?;
        let after = self.generations()?;
        let switched = before.iter().zip(&after).filter(|(old, new)| old < new);
        ensure!(switched.count() == ENIS as usize, "an ENI obeys old rules");
        Ok(took.as_secs_f64() * 1e3)
    }

    /// The generation of the policy that each ENI obeys, by the maps.
    fn generations(&self) -> Result<Vec<u32>> {
        let of_slot = |slot| -> Result<u32> {
            let policy = self.datapath.eni(slot)?.policy;
            Ok(self.datapath.policy(policy)?.generation)
        };
        (1..=ENIS).map(of_slot).collect()
    }
}

fn new_rules(rounds: u32) -> Result<Amount> {
    let directory = |group: SecurityGroup| directory([group]);
    let mut host = Host::start(directory(group(SHARED, 1, 0)), 1)?;
    let mut samples = Vec::new();
    for round in 1..=rounds {
        let new = directory(group(SHARED, 1_000, round));
        samples.push(
            host.timed(|policies, datapath| Ok(policies.set_directory(datapath, new, || Ok(()))?))?,
        );
    }
    let what = "1,000 new rules for a policy of 1,000 ENIs: request to last ENI";
    Ok(amount(what, median(samples), "ms", Some(RULES_GOAL)))
}

fn new_member(rounds: u32, sets: u32) -> Result<Amount> {
    let own = (0..sets).map(|set| group(&own_group(set), 5, set));
    let directory = directory(own.chain([group_of_members()]));
    let mut host = Host::start(directory, sets)?;
    let mut samples = Vec::new();
    for round in 1..=rounds {
        let number = ENIS + round;
        samples.push(host.timed(|policies, datapath| {
            let member = Member::new([SHARED], networks(number));
            Ok(policies.set_member(datapath, &eni_id(number), Some(member))?)
        })?);
    }
    let what = match sets {
        1 => "a member joins a group that 1,000 ENIs of 1 policy refer to".to_owned(),
        _ => format!("a member joins a group that 1,000 ENIs of {sets} policies refer to"),
    };
    Ok(amount(&what, median(samples), "ms", Some(MEMBER_GOAL)))
}

/// What policies take in the maps.
fn weights() -> Result<Vec<Amount>> {
    let mut amounts = Vec::new();
    let cases = [
        ("1 rule", group(SHARED, 1, 0)),
        ("60 rules", group(SHARED, 60, 0)),
        ("1,000 rules", group(SHARED, 1_000, 0)),
        ("1 rule for a group of 1,000 members", group_of_members()),
    ];
    for (name, group) in cases {
        let mut trees = Trees::default();
        let members = members(ENIS, 1);
        let directory = Directory::default();
        let networks = &mut Networks::of(&directory, &members);
        policy::compile(&mut trees, &[&group], networks)?;
        let (nodes, sets) = trees.len();
        let bytes = size_of::<Policy>() + nodes * size_of::<Node>() + sets * size_of::<RuleSet>();
        let what = format!("policy of {name}: {nodes} nodes, {sets} rule sets");
        amounts.push(amount(&what, bytes as f64, "bytes", None));
    }
    let cpus = std::thread::available_parallelism()?.get();
    let eni = size_of::<Eni>() + size_of::<u64>();
    let what = format!(
        "ENI: {eni} bytes and its counters, {} bytes per CPU",
        size_of::<Counters>()
    );
    let bytes = eni + cpus * size_of::<Counters>();
    amounts.push(amount(&what, bytes as f64, "bytes", None));
    Ok(amounts)
}

fn directory(groups: impl IntoIterator<Item = SecurityGroup>) -> Directory {
    let groups = groups.into_iter();
    Directory {
        groups: groups
            .map(|group| (group.group_id.clone(), group))
            .collect(),
        prefix_lists: BTreeMap::new(),
    }
}

/// A group of `count` rules that differ with `seed`: both families, hosts and networks, ports and
/// ranges, spread by Knuth's multiplicative hash.
fn group(group_id: &str, count: u32, seed: u32) -> SecurityGroup {
    let line = |number: u32| {
        let spread = (number + seed * count).wrapping_mul(0x9e37_79b1);
        let [a, b, c, d] = spread.to_be_bytes();
        let first = u16::from_be_bytes([c, d]);
        let ports = match number % 3 {
            0 => format!("{first}-{}", first.saturating_add(1_000)),
            _ => first.to_string(),
        };
        let peer = match number % 4 {
            0 => format!("10.{a}.{b}.{c}/32"),
            1 => format!("172.{a}.{b}.0/24"),
            2 => format!("fd00:{a:x}{b:02x}::{c:x}/128"),
            _ => format!("fd01:{a:x}{b:02x}:{c:x}::/64"),
        };
        let transport = if number.is_multiple_of(5) {
            "udp"
        } else {
            "tcp"
        };
        let direction = if number % 10 == 9 {
            "egress"
        } else {
            "ingress"
        };
        format!("{direction} {transport} {ports} {peer}")
    };
    let lines: Vec<String> = (0..count).map(line).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    SecurityGroup {
        group_id: group_id.to_owned(),
        ..rules::group(&rules::rules(&lines))
    }
}

/// The group whose members may reach each other, which every ENI has.
fn group_of_members() -> SecurityGroup {
    let rule = SecurityGroupRule::new(
        SHARED,
        Direction::Ingress,
        Protocol::Number(protocol::TCP),
        PortRange {
            first: 443,
            last: 443,
        },
        Peer::Group(GroupReference::new(SHARED)),
        None,
    );
    SecurityGroup {
        group_id: SHARED.to_owned(),
        rules: vec![rule],
        ..SecurityGroup::default()
    }
}

fn members(enis: u32, sets: u32) -> Members {
    let mut members = Members::default();
    for number in 1..=enis {
        members.insert(&eni_id(number), groups_of(number, sets), networks(number));
    }
    members
}

/// An ENI has the shared group, and one of its own set if there are several.
fn groups_of(number: u32, sets: u32) -> Vec<String> {
    let mut groups = vec![SHARED.to_owned()];
    if sets > 1 {
        groups.push(own_group(number % sets));
    }
    groups
}

fn own_group(set: u32) -> String {
    format!("sg-own-{set}")
}

fn eni_id(number: u32) -> String {
    format!("eni-{number}")
}

/// An address of each family, all over a /16 and a /112: an odd factor makes them differ.
fn networks(number: u32) -> [IpNet; 2] {
    let host = number.wrapping_mul(0x9e37) & 0xffff;
    let ipv4 = std::net::Ipv4Addr::from(0x0a00_0000 + host);
    let ipv6 = std::net::Ipv6Addr::from((0xfd02_u128 << 112) + u128::from(host));
    [
        IpNet::from(std::net::IpAddr::from(ipv4)),
        IpNet::from(std::net::IpAddr::from(ipv6)),
    ]
}
