//! Answers about security groups as text for people. Pure.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use branchline_common::flow::is_icmp;
use branchline_common::parse::has_ports;
use branchline_common::verdict::Direction;

use super::{NONE, pairs, table};
use crate::api::{
    PrefixListSummary, RuleDescription, SecurityGroupDescription, SecurityGroupList,
    SecurityGroupSummary, SecurityGroupsApplied, SecurityGroupsDiff,
};
use crate::policy::affected::{AffectedFlow, Effect};
use crate::security_groups::diff::{
    ChangeKind, DirectoryChange, GroupChange, PrefixListChange, ValueChange,
};
use crate::security_groups::{Peer, PortRange, Protocol, SecurityGroupRule, UnresolvedReason};

/// Networks that text shows of one peer.
const MOST_NETWORKS: usize = 4;
/// Flows that text shows.
const MOST_FLOWS: usize = 20;

/// A row for each group, then one for each prefix list.
pub(crate) fn groups(list: &SecurityGroupList) -> String {
    let header = [
        "GROUP ID",
        "NAME",
        "INGRESS",
        "EGRESS",
        "ENIS",
        "UNRESOLVED",
        "AUDIT",
    ];
    let row = |group: &SecurityGroupSummary| {
        vec![
            group.group_id.clone(),
            group.group_name.clone(),
            group.ingress_rules.to_string(),
            group.egress_rules.to_string(),
            group.network_interfaces.to_string(),
            group.unresolved_rules.to_string(),
            yes(group.audit).to_owned(),
        ]
    };
    let mut text = table(Some(&header), list.security_groups.iter().map(row));
    if !list.prefix_lists.is_empty() {
        let row = |list: &PrefixListSummary| {
            vec![
                list.prefix_list_id.clone(),
                list.prefix_list_name.clone(),
                list.entries.to_string(),
            ]
        };
        text.push('\n');
        text += &table(
            Some(&["PREFIX LIST ID", "NAME", "ENTRIES"]),
            list.prefix_lists.iter().map(row),
        );
    }
    text
}

/// What a group is, then a row for each rule.
pub(crate) fn group(group: &SecurityGroupDescription) -> String {
    let by = if group.cut_on_revoke_is_own {
        "the group's own"
    } else {
        "as the agent's"
    };
    let list = |items: &[String]| match items {
        [] => NONE.to_owned(),
        items => items.join(","),
    };
    let mut lines = vec![
        ("groupId", group.group_id.clone()),
        ("groupName", group.group_name.clone()),
        ("description", group.description.clone()),
    ];
    lines.extend(group.vpc_id.clone().map(|id| ("vpcId", id)));
    lines.extend([
        ("audit", yes(group.audit).to_owned()),
        (
            "cutOnRevoke",
            format!("{} ({by})", yes(group.cut_on_revoke)),
        ),
        ("networkInterfaces", list(&group.network_interfaces)),
    ]);
    let lines = lines
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let header = [
        "RULE ID",
        "DIRECTION",
        "PROTOCOL",
        "PORTS",
        "PEER",
        "STANDS FOR",
        "DESCRIPTION",
    ];
    let row = |described: &RuleDescription| {
        let rule = &described.rule;
        vec![
            rule.rule_id.clone(),
            rule.direction.name().to_owned(),
            protocol_name(rule.protocol),
            ports(rule),
            rule.peer.to_string(),
            stands_for(described),
            rule.description.clone().unwrap_or_default(),
        ]
    };
    let rules = group.security_group_rules.iter().map(row);
    format!(
        "{}\n{}",
        pairs(lines.collect()),
        table(Some(&header), rules)
    )
}

/// What an apply has changed.
pub(crate) fn applied(answer: &SecurityGroupsApplied) -> String {
    let mut text = notes(&answer.notes);
    text += &change(&answer.change);
    if !answer.change.is_empty() {
        let count = answer.network_interfaces;
        writeln!(text, "in force: {} switched", enis(count)).ok();
    }
    text
}

/// What an apply would change, and the live flows that it would affect.
pub(crate) fn diff(answer: &SecurityGroupsDiff) -> String {
    let mut text = notes(&answer.notes);
    text += &change(&answer.change);
    if answer.change.is_empty() {
        return text;
    }
    let (count, flows) = (answer.network_interfaces, answer.flow_count);
    let flows_text = match flows {
        0 => "no live flow affected".to_owned(),
        1 => "1 live flow affected".to_owned(),
        flows => format!("{flows} live flows affected"),
    };
    writeln!(text, "would switch {}, {flows_text}", enis(count)).ok();
    let shown = answer.flows.len().min(MOST_FLOWS);
    if shown > 0 {
        let header = ["EFFECT", "ENI", "DIRECTION", "PROTOCOL", "LOCAL", "REMOTE"];
        let rows = answer.flows.iter().take(shown).map(flow);
        text += &table(Some(&header), rows);
    }
    if flows > shown {
        writeln!(
            text,
            "and {} more (--json shows the first 1000)",
            flows - shown
        )
        .ok();
    }
    text
}

fn enis(count: usize) -> String {
    match count {
        1 => "1 network interface".to_owned(),
        count => format!("{count} network interfaces"),
    }
}

fn notes(notes: &[String]) -> String {
    notes.iter().map(|note| format!("note: {note}\n")).collect()
}

fn flow(flow: &AffectedFlow) -> Vec<String> {
    let effect = match flow.effect {
        Effect::CutAtOnce => "cut at once",
        Effect::Ended => "ended",
        Effect::GoesOn => "goes on",
    };
    let end = |address: IpAddr, port| match has_ports(flow.protocol) {
        true => SocketAddr::new(address, port).to_string(),
        false => address.to_string(),
    };
    vec![
        effect.to_owned(),
        flow.network_interface_id.clone(),
        flow.direction.name().to_owned(),
        Protocol::Number(flow.protocol).to_string(),
        end(flow.local_address, flow.local_port),
        end(flow.remote_address, flow.remote_port),
    ]
}

/// A line for each thing that changes, `+` for what comes, `-` for what goes, `~` for what stays and differs.
fn change(change: &DirectoryChange) -> String {
    if change.is_empty() {
        return "nothing differs\n".to_owned();
    }
    let mut lines: Vec<String> = Vec::new();
    for group in &change.security_groups {
        group_lines(group, &mut lines);
    }
    for list in &change.prefix_lists {
        list_lines(list, &mut lines);
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn group_lines(group: &GroupChange, lines: &mut Vec<String>) {
    lines.push(format!("{} {}", sign(group.kind), group.group_id));
    if group.kind != ChangeKind::Removed {
        value(lines, "group_name", &group.group_name, String::clone);
        value(lines, "description", &group.description, String::clone);
        value(lines, "vpc_id", &group.vpc_id, |id| {
            id.clone().unwrap_or_else(|| NONE.to_owned())
        });
        value(lines, "audit", &group.audit, |audit| yes(*audit).to_owned());
        value(lines, "cut_on_revoke", &group.cut_on_revoke, |cut| {
            cut.map_or("as the agent's", yes).to_owned()
        });
    }
    let rule = |sign, rule: &SecurityGroupRule| format!("    {sign} {}", rule_line(rule));
    lines.extend(group.rules_removed.iter().map(|each| rule('-', each)));
    lines.extend(group.rules_added.iter().map(|each| rule('+', each)));
    lines.extend(group.rules_changed.iter().map(|each| rule('~', &each.new)));
}

fn list_lines(list: &PrefixListChange, lines: &mut Vec<String>) {
    lines.push(format!("{} {}", sign(list.kind), list.prefix_list_id));
    if list.kind != ChangeKind::Removed {
        let name = &list.prefix_list_name;
        value(lines, "prefix_list_name", name, String::clone);
        value(lines, "max_entries", &list.max_entries, |max| {
            max.map_or(NONE.to_owned(), |max| max.to_string())
        });
    }
    let entries = list.entries_removed.iter();
    lines.extend(entries.map(|entry| format!("    - {}", entry.cidr)));
    let entries = list.entries_added.iter();
    lines.extend(entries.map(|entry| format!("    + {}", entry.cidr)));
}

fn sign(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Added => '+',
        ChangeKind::Removed => '-',
        ChangeKind::Changed => '~',
    }
}

fn value<T>(
    lines: &mut Vec<String>,
    name: &str,
    change: &Option<ValueChange<T>>,
    text: impl Fn(&T) -> String,
) {
    if let Some(ValueChange { old, new }) = change {
        lines.push(format!("    ~ {name}: {:?} -> {:?}", text(old), text(new)));
    }
}

/// As `ingress tcp 8080 from 10.0.0.0/16 (sgr-…)`.
pub(crate) fn rule_line(rule: &SecurityGroupRule) -> String {
    let preposition = match rule.direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    format!(
        "{} {} {} {preposition} {} ({})",
        rule.direction.name(),
        protocol_name(rule.protocol),
        ports(rule),
        rule.peer,
        rule.rule_id
    )
}

fn protocol_name(protocol: Protocol) -> String {
    match protocol {
        Protocol::Any => "all".to_owned(),
        Protocol::Number(_) => protocol.to_string(),
    }
}

/// Ports, or ICMP type and code as `type 8 code 0`.
fn ports(rule: &SecurityGroupRule) -> String {
    let PortRange { first, last } = rule.ports;
    let is_icmp = matches!(rule.protocol, Protocol::Number(number) if is_icmp(number));
    let [icmp_type, code] = first.to_be_bytes();
    match (first, last) {
        _ if rule.ports == PortRange::ALL => "all".to_owned(),
        _ if is_icmp && first == last => format!("type {icmp_type} code {code}"),
        _ if is_icmp => format!("type {icmp_type}"),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

fn stands_for(described: &RuleDescription) -> String {
    if let Some(reason) = described.unresolved {
        return format!("nothing: {}", reason_text(reason));
    }
    if matches!(described.rule.peer, Peer::Cidr(_)) {
        return NONE.to_owned();
    }
    let networks = &described.networks;
    if networks.is_empty() {
        return "nothing now".to_owned();
    }
    let shown: Vec<String> = networks
        .iter()
        .take(MOST_NETWORKS)
        .map(ToString::to_string)
        .collect();
    match networks.len().saturating_sub(MOST_NETWORKS) {
        0 => shown.join(","),
        more => format!("{} and {more} more", shown.join(",")),
    }
}

fn reason_text(reason: UnresolvedReason) -> &'static str {
    match reason {
        UnresolvedReason::UnknownPrefixList => "no such prefix list",
        UnresolvedReason::UnknownGroup => "no such group",
        UnresolvedReason::OtherAccount => "another account's group without known ENIs",
        UnresolvedReason::StalePeering => "its peering is not active",
    }
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[cfg(test)]
#[path = "security_groups_tests.rs"]
mod tests;
