#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::security_groups::change::{ApplyOptions, apply};
use crate::security_groups::diff::diff as directory_diff;
use crate::security_groups::file::SecurityGroupFile;
use crate::security_groups::{Directory, Members, OwnVpc};

const FILE: &str = "
[[security_groups]]
group_id = 'sg-web'
group_name = 'web'
description = 'HTTP'
audit = true
security_group_rules = [
  {security_group_rule_id = 'sgr-1', is_egress = false, ip_protocol = 'tcp', from_port = 8080, to_port = 8080, cidr_ipv4 = '10.0.0.0/16', description = 'office'},
  {security_group_rule_id = 'sgr-2', is_egress = false, ip_protocol = 'udp', from_port = 5000, to_port = 5010, prefix_list_id = 'pl-a'},
  {security_group_rule_id = 'sgr-3', is_egress = false, ip_protocol = 'icmp', from_port = 8, to_port = -1, referenced_group_info = {group_id = 'sg-web'}},
  {security_group_rule_id = 'sgr-4', is_egress = false, ip_protocol = 'icmp', from_port = 3, to_port = 4, referenced_group_info = {group_id = 'sg-theirs', user_id = '123456789012'}},
  {security_group_rule_id = 'sgr-5', is_egress = true, ip_protocol = '-1', cidr_ipv6 = '::/0'},
]
[[prefix_lists]]
prefix_list_id = 'pl-a'
prefix_list_name = 'offices'
entries = [{cidr = '10.1.0.0/16'}, {cidr = '10.2.0.0/16'}, {cidr = '10.3.0.0/16'}, {cidr = '10.4.0.0/16'}, {cidr = '10.5.0.0/16'}]
";

fn directory(file: &str) -> Directory {
    let members = Members::default();
    let options = ApplyOptions {
        vpc: OwnVpc {
            vpc_id: "vpc-1",
            has_ipv6: true,
        },
        prune: false,
        members: &members,
    };
    let file = SecurityGroupFile::parse(file).unwrap();
    apply(&Directory::default(), &file, options).unwrap().0
}

fn members() -> Members {
    let mut members = Members::default();
    members.insert("eni-1", ["sg-web"], ["10.0.1.4/32".parse().unwrap()]);
    members
}

#[test]
fn groups_and_prefix_lists_are_columns() {
    let expected = "\
GROUP ID  NAME  INGRESS  EGRESS  ENIS  UNRESOLVED  AUDIT
sg-web    web   4        1       1     1           yes

PREFIX LIST ID  NAME     ENTRIES
pl-a            offices  5
";
    let list = SecurityGroupList::of(&directory(FILE), &members());
    assert_eq!(groups(&list), expected);
}

#[test]
fn a_group_shows_its_rules_and_what_their_peers_stand_for() {
    let directory = directory(FILE);
    let described =
        SecurityGroupDescription::of(&directory.groups["sg-web"], &directory, &members(), false);
    let expected = "\
groupId            sg-web
groupName          web
description        HTTP
audit              yes
cutOnRevoke        no (as the agent's)
networkInterfaces  eni-1

RULE ID  DIRECTION  PROTOCOL  PORTS          PEER                    STANDS FOR                                                  DESCRIPTION
sgr-4    ingress    icmp      type 3 code 4  123456789012/sg-theirs  nothing: another account's group without known ENIs
sgr-3    ingress    icmp      type 8         sg-web                  10.0.1.4/32
sgr-1    ingress    tcp       8080           10.0.0.0/16             -                                                           office
sgr-2    ingress    udp       5000-5010      pl-a                    10.1.0.0/16,10.2.0.0/16,10.3.0.0/16,10.4.0.0/16 and 1 more
sgr-5    egress     all       all            ::/0                    -
";
    assert_eq!(group(&described), expected);
}

#[test]
fn a_change_is_lines_with_signs() {
    let old = directory(FILE);
    let new = FILE
        .replace("to_port = 8080", "to_port = 8081")
        .replace("audit = true", "cut_on_revoke = true")
        .replace(", {cidr = '10.5.0.0/16'}", "")
        .replace("description = 'HTTP'", "description = 'web'");
    let new = directory(&new);
    let expected = "\
note: n
~ sg-web
    ~ description: \"HTTP\" -> \"web\"
    ~ audit: \"yes\" -> \"no\"
    ~ cut_on_revoke: \"as the agent's\" -> \"yes\"
    - ingress tcp 8080 from 10.0.0.0/16 (sgr-1)
    + ingress tcp 8080-8081 from 10.0.0.0/16 (sgr-1)
~ pl-a
    - 10.5.0.0/16
in force: 2 network interfaces switched
";
    let answer = SecurityGroupsApplied {
        change: directory_diff(&old, &new),
        notes: vec!["n".into()],
        network_interfaces: 2,
    };
    assert_eq!(applied(&answer), expected);
    let nothing = SecurityGroupsApplied::default();
    assert_eq!(applied(&nothing), "nothing differs\n");
}

#[test]
fn a_diff_says_what_becomes_of_live_flows() {
    let flow = |effect, protocol, local: &str, remote: &str| AffectedFlow {
        effect,
        slot: 1,
        network_interface_id: "eni-1".into(),
        direction: Direction::Ingress,
        protocol,
        local_address: local.parse().unwrap(),
        local_port: 80,
        remote_address: remote.parse().unwrap(),
        remote_port: 5555,
    };
    let answer = SecurityGroupsDiff {
        change: directory_diff(&directory(FILE), &Directory::default()),
        notes: Vec::new(),
        network_interfaces: 1,
        flow_count: 1_002,
        flows: vec![
            flow(Effect::CutAtOnce, 6, "10.0.1.4", "10.9.0.1"),
            flow(Effect::GoesOn, 17, "fd00::4", "fd00::9"),
            flow(Effect::Ended, 1, "10.0.1.4", "10.9.0.1"),
        ],
    };
    let text = diff(&answer);
    let (change, flows) = text.split_once("would switch").unwrap();
    assert!(
        change.starts_with("- sg-web\n    - ingress icmp"),
        "{change}"
    );
    assert!(change.ends_with("- pl-a\n    - 10.1.0.0/16\n    - 10.2.0.0/16\n    - 10.3.0.0/16\n    - 10.4.0.0/16\n    - 10.5.0.0/16\n"), "{change}");
    let expected = " 1 network interface, 1002 live flows affected
EFFECT       ENI    DIRECTION  PROTOCOL  LOCAL         REMOTE
cut at once  eni-1  ingress    tcp       10.0.1.4:80   10.9.0.1:5555
goes on      eni-1  ingress    udp       [fd00::4]:80  [fd00::9]:5555
ended        eni-1  ingress    icmp      10.0.1.4      10.9.0.1
and 999 more (--json shows the first 1000)
";
    assert_eq!(flows, expected);
}
