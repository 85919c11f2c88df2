#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use branchline_common::memory::{Compiled, Memory};
use proptest::prelude::*;

use super::*;
use crate::config::ConntrackConfig;
use crate::policy::{self, Networks, Trees};
use crate::security_groups::change::{ApplyOptions, apply};
use crate::security_groups::file::SecurityGroupFile;
use crate::security_groups::{OwnVpc, SecurityGroup, random};
use crate::spec::NetworkInterfaceAttributes;
use crate::task_record::tests::record;

/// The policy of `eni` as it would be loaded.
fn load(eni: &Eni, directory: &Directory, members: &Members) -> LoadedPolicy {
    let groups = eni.groups.iter();
    let groups: Vec<&SecurityGroup> = groups.filter_map(|id| directory.groups.get(id)).collect();
    let mut trees = Trees::default();
    let policy =
        policy::compile(&mut trees, &groups, &mut Networks::of(directory, members)).unwrap();
    let writes = trees.unwritten();
    let compiled = Compiled {
        nodes: writes.nodes.into_iter().collect(),
        rule_sets: writes.rule_sets.into_iter().collect(),
        ..Compiled::default()
    };
    LoadedPolicy {
        entry: policy.entry,
        tables: Memory {
            compiled,
            ..Memory::default()
        },
        rules: policy.rules,
    }
}

/// The ENI of the store's tests, 10.0.1.10 and 2001:db8::1, with these groups.
fn eni(groups: &[&str]) -> Eni {
    Eni {
        groups: groups.iter().map(|id| (*id).to_owned()).collect(),
        router_ipv6: "2001:db8::ff".parse().ok(),
        ..record("web").eni
    }
}

fn members(eni: &Eni) -> Members {
    let mut members = Members::default();
    let groups = eni.groups.iter().cloned();
    members.insert(&eni.eni_id, groups, crate::plug::networks(eni));
    members.insert("eni-app", ["sg-app"], ["10.0.2.7/32".parse().unwrap()]);
    members
}

/// What `judge` says with `loaded`, or with the policy that the rules give.
fn judged(
    directory: &Directory,
    eni: &Eni,
    auto_track: &[IpNet],
    (direction, packet): (Direction, &Opening),
    loaded: Option<&LoadedPolicy>,
) -> Result<EniJudgement, Box<Disagreement>> {
    let members = members(eni);
    let vpc_cidrs = ["10.0.0.0/16".parse().unwrap()];
    let scene = Scene {
        directory,
        members: &members,
        vpc_cidrs: &vpc_cidrs,
        auto_track,
    };
    let attributes = NetworkInterfaceAttributes::default();
    let settings = EniSettings::resolve(&ConntrackConfig::default(), &attributes);
    let interface = Interface {
        task_id: "web",
        eni,
        settings: &settings,
    };
    let own = load(eni, directory, &members);
    judge(
        &scene,
        &interface,
        direction,
        packet,
        loaded.unwrap_or(&own),
    )
}

const FILE: &str = "
[[security_groups]]
group_id = 'sg-web'
group_name = 'web'
security_group_rules = [
  {security_group_rule_id = 'sgr-http', is_egress = false, ip_protocol = 'tcp', from_port = 80, to_port = 80, cidr_ipv4 = '0.0.0.0/0'},
  {security_group_rule_id = 'sgr-app', is_egress = false, ip_protocol = 'tcp', from_port = 443, to_port = 443, referenced_group_info = {group_id = 'sg-app'}},
  {security_group_rule_id = 'sgr-list', is_egress = false, ip_protocol = 'udp', from_port = 53, to_port = 54, prefix_list_id = 'pl-a'},
  {security_group_rule_id = 'sgr-ping', is_egress = false, ip_protocol = 'icmp', from_port = 8, to_port = -1, cidr_ipv4 = '10.0.0.0/8'},
  {security_group_rule_id = 'sgr-mtu', is_egress = false, ip_protocol = 'icmp', from_port = 3, to_port = 4, cidr_ipv4 = '10.0.0.0/8'},
  {security_group_rule_id = 'sgr-out', is_egress = true, ip_protocol = '-1', cidr_ipv4 = '0.0.0.0/0'},
]
[[security_groups]]
group_id = 'sg-app'
group_name = 'app'
[[security_groups]]
group_id = 'sg-audit'
group_name = 'audit'
audit = true
ip_permissions_egress = []
[[security_groups]]
group_id = 'sg-dns'
group_name = 'dns'
security_group_rules = [
  {security_group_rule_id = 'sgr-udp', is_egress = false, ip_protocol = 'udp', from_port = 0, to_port = 65535, cidr_ipv4 = '0.0.0.0/0'},
  {security_group_rule_id = 'sgr-back', is_egress = true, ip_protocol = 'udp', from_port = 50000, to_port = 50000, cidr_ipv4 = '0.0.0.0/0'},
]
[[prefix_lists]]
prefix_list_id = 'pl-a'
entries = [{cidr = '192.0.2.0/24'}]
";

fn directory() -> Directory {
    let members = Members::default();
    let options = ApplyOptions {
        vpc: OwnVpc {
            vpc_id: "vpc-1",
            has_ipv6: false,
        },
        prune: false,
        members: &members,
    };
    let file = SecurityGroupFile::parse(FILE).unwrap();
    apply(&Directory::default(), &file, options).unwrap().0
}

/// A packet by what the command line takes; the other end is 10.0.1.10 or 2001:db8::1.
fn packet(direction: Direction, peer: &str, protocol: &str, port: u16) -> Opening {
    let peer: IpAddr = peer.parse().unwrap();
    let own = address_of(&eni(&[]), peer.is_ipv6()).unwrap();
    let [icmp_type, icmp_code] = port.to_be_bytes();
    let is_icmp = protocol.starts_with("icmp");
    let request = ExplainRequest {
        protocol: protocol.to_owned(),
        port: (!is_icmp && protocol.parse::<u8>().is_err()).then_some(port),
        icmp_type: is_icmp.then_some(icmp_type),
        icmp_code: is_icmp.then_some(icmp_code),
        ..ExplainRequest::default()
    };
    let (source, destination) = match direction {
        Direction::Ingress => (peer, own),
        Direction::Egress => (own, peer),
    };
    request.opening(source, destination).unwrap()
}

#[test]
fn each_packet_has_its_rule_its_step_and_its_tracking() {
    use Direction::{Egress, Ingress};
    let directory = directory();
    let auto_track: [IpNet; 1] = ["198.51.100.0/24".parse().unwrap()];
    let echo = 8 << 8;
    #[rustfmt::skip]
    let rows = [
        (Ingress, "203.0.113.9", "tcp", 80, "ALLOW sgr-http 0.0.0.0/0", Some(false), "rules for 0.0.0.0/0 allow it, and all ports in egress"),
        (Ingress, "198.51.100.9", "tcp", 80, "ALLOW sgr-http 0.0.0.0/0", Some(true), "conntrack.auto_track names the peer"),
        (Ingress, "10.0.2.7", "tcp", 443, "ALLOW sgr-app 10.0.2.7/32 eni-app", Some(true), "no rule for 0.0.0.0/0 allows it"),
        (Ingress, "10.0.2.8", "tcp", 443, "DENY no rule of any group allows it", None, ""),
        (Ingress, "192.0.2.1", "udp", 54, "ALLOW sgr-list 192.0.2.0/24", Some(true), "no rule for 0.0.0.0/0 allows it"),
        (Ingress, "192.0.2.1", "udp", 55, "DENY no rule of any group allows it", None, ""),
        (Ingress, "10.9.9.9", "icmp", echo, "ALLOW sgr-ping 10.0.0.0/8", Some(true), "only flows of TCP and UDP are ever untracked"),
        (Ingress, "10.9.9.9", "icmp", 8 << 8 | 3, "ALLOW sgr-ping 10.0.0.0/8", Some(true), "only flows of TCP and UDP are ever untracked"),
        (Ingress, "10.9.9.9", "icmp", 3 << 8 | 4, "ALLOW sgr-mtu 10.0.0.0/8", Some(false), "only flows of TCP and UDP are ever untracked"),
        (Ingress, "10.9.9.9", "icmp", 3 << 8 | 5, "DENY no rule of any group allows it", None, ""),
        (Egress, "203.0.113.9", "tcp", 443, "ALLOW sgr-out 0.0.0.0/0", Some(true), "no ingress rule for 0.0.0.0/0 allows all ports"),
        (Egress, "203.0.113.9", "47", 0, "ALLOW sgr-out 0.0.0.0/0", Some(true), "only flows of TCP and UDP are ever untracked"),
        (Egress, "2001:db8::9", "tcp", 443, "DENY no rule of any group allows it", None, ""),
        (Egress, "169.254.169.254", "tcp", 80, "DENY the ENI blocks instance metadata", None, ""),
        (Egress, "10.0.0.2", "udp", 53, "ALLOW the VPC's resolver is never filtered", None, ""),
        (Egress, "10.0.1.1", "icmp", echo, "ALLOW the subnet's router is never filtered", None, ""),
    ];
    for (direction, peer, protocol, port, expected, tracked, reason) in rows {
        let packet = packet(direction, peer, protocol, port);
        let judgement = judged(
            &directory,
            &eni(&["sg-web"]),
            &auto_track,
            (direction, &packet),
            None,
        );
        let judgement = judgement.unwrap();
        let by = judgement
            .rule
            .as_ref()
            .map_or(judgement.reason.clone(), |found| {
                let member = found.member.iter().map(|eni| format!(" {eni}"));
                let member: String = member.collect();
                format!("{} {}{member}", found.rule.rule_id, found.network)
            });
        let verdict = if judgement.allowed { "ALLOW" } else { "DENY" };
        assert_eq!(
            format!("{verdict} {by}"),
            expected,
            "{peer} {protocol} {port}"
        );
        assert_eq!(judgement.tracked, tracked, "{expected}");
        assert_eq!(
            judgement.tracking_reason.unwrap_or_default(),
            reason,
            "{expected}"
        );
    }
}

#[test]
fn udp_that_may_be_an_answer_is_untracked() {
    let directory = directory();
    let eni = eni(&["sg-dns"]);
    let mut packet = packet(Direction::Ingress, "203.0.113.9", "udp", 53);
    let mut tracked = |source_port| {
        packet.source_port = source_port;
        let asked = (Direction::Ingress, &packet);
        let judgement = judged(&directory, &eni, &[], asked, None).unwrap();
        (judgement.tracked, judgement.tracking_reason.unwrap())
    };
    let answer = "it may be the answer of an untracked flow".to_owned();
    assert_eq!(tracked(50_000), (Some(false), answer));
    let asks = "no egress rule for 0.0.0.0/0 allows all ports".to_owned();
    assert_eq!(tracked(50_001), (Some(true), asks));
}

#[test]
fn audit_mode_lets_pass_what_no_rule_allows() {
    let packet = packet(Direction::Ingress, "10.9.9.9", "tcp", 22);
    let asked = (Direction::Ingress, &packet);
    let eni = eni(&["sg-web", "sg-audit"]);
    let judgement = judged(&directory(), &eni, &[], asked, None).unwrap();
    assert!(judgement.allowed && judgement.audited && judgement.rule.is_none());
    assert_eq!(judgement.reason, "no rule of any group allows it");
}

#[test]
fn a_loaded_policy_that_says_otherwise_is_a_failure() {
    let directory = directory();
    let eni = eni(&["sg-web"]);
    let packet = packet(Direction::Ingress, "203.0.113.9", "tcp", 80);
    let asked = (Direction::Ingress, &packet);
    let load = || load(&eni, &directory, &members(&eni));
    let mut none = load();
    // Every peer meets the empty set.
    none.entry.peers = [branchline_common::policy::LEAF; 4];
    let mut tracked = load();
    tracked.entry.all_ports = 0;
    let mut other_names = load();
    for rules in Arc::make_mut(&mut other_names.rules) {
        rules.reverse();
    }
    let rows = [
        (
            &none,
            "allowed and untracked (a rule allows it; its flow is untracked), by the loaded policy denied",
        ),
        (
            &tracked,
            "by the loaded policy allowed and tracked (sgr-http of sg-web)",
        ),
        (
            &other_names,
            "by the loaded policy allowed and untracked (sgr-list of sg-web)",
        ),
    ];
    for (loaded, says) in rows {
        let error = judged(&directory, &eni, &[], asked, Some(loaded)).unwrap_err();
        assert!(error.to_string().ends_with(says), "{error}");
    }
}

#[test]
fn a_question_that_makes_no_packet_names_its_field() {
    let four = ("10.0.0.1", "10.0.0.2");
    let six = ("fd00::1", "fd00::2");
    let request = |protocol: &str, port, icmp_type| ExplainRequest {
        protocol: protocol.to_owned(),
        port,
        icmp_type,
        ..ExplainRequest::default()
    };
    let rows = [
        (
            request("tcp", None, None),
            four,
            "port: is missing, and tcp packets have one; write it",
        ),
        (
            request("TCP", Some(1), Some(8)),
            four,
            "icmp_type: TCP packets have none; leave it out",
        ),
        (
            request("47", Some(1), None),
            four,
            "port: 47 packets have none; leave it out",
        ),
        (
            request("icmp", None, None),
            four,
            "icmp_type: is missing, and icmp packets have one; write it",
        ),
        (
            request("icmp", None, Some(8)),
            six,
            "protocol: \"icmp\" does not exist between these ends; icmp is of IPv4, icmpv6 of IPv6",
        ),
        (
            request("58", None, Some(128)),
            four,
            "protocol: \"58\" does not exist between these ends; icmp is of IPv4, icmpv6 of IPv6",
        ),
        (
            request("256", None, None),
            four,
            "protocol: \"256\" is no protocol; write tcp, udp, icmp, icmpv6 or a number from 0 to 255",
        ),
        (
            request("tcp", Some(1), None),
            ("10.0.0.1", "fd00::1"),
            "to: 10.0.0.1 and fd00::1 are of two families; give ends of one family",
        ),
    ];
    for (request, (source, destination), expected) in rows {
        let error = request.opening(source.parse().unwrap(), destination.parse().unwrap());
        assert_eq!(error.unwrap_err().to_string(), expected);
    }
}

/// Addresses that the rules of a directory name, and one that none does.
fn named(directory: &Directory) -> Vec<IpAddr> {
    let rules = directory.groups.values().flat_map(|group| &group.rules);
    let entries = directory
        .prefix_lists
        .values()
        .flat_map(|list| &list.entries);
    let networks = rules
        .filter_map(|rule| rule.peer.cidr())
        .chain(entries.map(|entry| entry.cidr));
    let addresses = networks.map(|network| network.addr());
    addresses.chain(["203.0.113.9".parse().unwrap()]).collect()
}

proptest! {
    #[test]
    fn what_is_compiled_agrees_with_the_rules(
        directory in random::directory(),
        questions in proptest::collection::vec(
            (any::<proptest::sample::Index>(), any::<bool>(), 0_usize..4, 0_u16..4, 0_u16..4),
            1..16,
        ),
    ) {
        let groups: Vec<&str> = directory.groups.keys().map(String::as_str).collect();
        let eni = eni(&groups);
        let named = named(&directory);
        for (peer, is_egress, protocol, source_port, port) in questions {
            let direction = if is_egress { Direction::Egress } else { Direction::Ingress };
            let peer = peer.get(&named);
            let icmp = if peer.is_ipv6() { "icmpv6" } else { "icmp" };
            let protocol = ["tcp", "udp", "47", icmp][protocol];
            let mut packet = packet(direction, &peer.to_string(), protocol, port << 8 | port);
            if matches!(protocol, "tcp" | "udp") {
                (packet.source_port, packet.destination_port) = (source_port, port);
            }
            let judgement = judged(&directory, &eni, &[], (direction, &packet), None);
            prop_assert!(judgement.is_ok(), "{}", judgement.unwrap_err());
        }
    }
}
