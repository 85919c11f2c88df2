//! EC2's `SecurityGroupRule`, the form with one table per rule and peer, to and from a rule. Pure.
//!
//! The only form that holds a rule's id; directories are printed in it.

use branchline_common::verdict::Direction;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::ip_permission::{RuleAt, push};
use super::peer::{self, check_description};
use super::protocol_ports::{self, Written};
use super::rule::{GroupReference, Peer, SecurityGroupRule};
use crate::field_error::{FieldError, FieldNote, check_id};

/// One rule, as DescribeSecurityGroupRules names its fields; it has exactly one of the four peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroupRuleTable {
    /// `sgr-…`; left out, the rule's content gives it one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_group_rule_id: Option<String>,
    /// Whether it is about connections that the task opens.
    pub is_egress: bool,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number from 0 to 255, or `-1` for all.
    pub ip_protocol: String,
    /// First destination port, or ICMP type; `-1` is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_port: Option<i64>,
    /// Last destination port, or ICMP code; `-1` is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_port: Option<i64>,
    /// An IPv4 network as peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr_ipv4: Option<String>,
    /// An IPv6 network as peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr_ipv6: Option<String>,
    /// A prefix list as peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_list_id: Option<String>,
    /// The members of a group as peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referenced_group_info: Option<GroupReference>,
    /// The operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The rules that `tables`, found at `field`, give to `group_id`.
///
/// # Errors
/// The first field that is malformed.
pub(super) fn normalize(
    tables: &[SecurityGroupRuleTable],
    group_id: &str,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<Vec<RuleAt>, FieldError> {
    let mut rules = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let at = format!("{field}[{index}]");
        let rule = rule(table, group_id, &at, notes).map_err(|error| {
            match &table.security_group_rule_id {
                Some(id) => error.within(id),
                None => error,
            }
        })?;
        push(rule, &mut rules, notes);
    }
    Ok(rules)
}

/// The rule that `table` means.
///
/// # Errors
/// The first field that is malformed.
pub fn read(
    table: &SecurityGroupRuleTable,
    group_id: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<SecurityGroupRule, FieldError> {
    let field = table.security_group_rule_id.as_deref();
    rule(table, group_id, field.unwrap_or(group_id), notes).map(|at| at.rule)
}

fn rule(
    table: &SecurityGroupRuleTable,
    group_id: &str,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<RuleAt, FieldError> {
    if let Some(id) = &table.security_group_rule_id {
        check_id(id, "sgr-", &format!("{field}.security_group_rule_id"))?;
    }
    let written = Written {
        ip_protocol: &table.ip_protocol,
        from_port: table.from_port,
        to_port: table.to_port,
    };
    let (protocol, ports) = protocol_ports::read(written, field, notes)?;
    let (peer_field, peer) = peer(table, field, notes)?;
    let description = table.description.as_deref();
    check_description(description, &format!("{field}.description"))?;
    let direction = if table.is_egress {
        Direction::Egress
    } else {
        Direction::Ingress
    };
    let description = table.description.clone();
    let mut rule = SecurityGroupRule::new(group_id, direction, protocol, ports, peer, description);
    if let Some(id) = &table.security_group_rule_id {
        rule.rule_id.clone_from(id);
    }
    Ok(RuleAt {
        field: peer_field,
        rule,
    })
}

fn peer(
    table: &SecurityGroupRuleTable,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<(String, Peer), FieldError> {
    let at = |name: &str| format!("{field}.{name}");
    let mut peers = Vec::new();
    if let Some(text) = &table.cidr_ipv4 {
        let field = at("cidr_ipv4");
        let peer = peer::ipv4(text, &field, notes)?;
        peers.push((field, peer));
    }
    if let Some(text) = &table.cidr_ipv6 {
        let field = at("cidr_ipv6");
        let peer = peer::ipv6(text, &field, notes)?;
        peers.push((field, peer));
    }
    if let Some(id) = &table.prefix_list_id {
        let field = at("prefix_list_id");
        let peer = peer::prefix_list(id, &field)?;
        peers.push((field, peer));
    }
    if let Some(group) = &table.referenced_group_info {
        let field = at("referenced_group_info");
        let peer = peer::group(group, &field)?;
        peers.push((format!("{field}.group_id"), peer));
    }
    let count = peers.len();
    match (peers.pop(), count) {
        (Some(peer), 1) => Ok(peer),
        _ => {
            let fix = "write one of cidr_ipv4, cidr_ipv6, prefix_list_id and referenced_group_info";
            let problem = format!("names {count} peers");
            Err(FieldError::new(field, problem, fix))
        }
    }
}

impl SecurityGroupRuleTable {
    /// The table that reads back as `rule` of `group_id`; an id that the content gives is left out.
    pub(super) fn of(rule: &SecurityGroupRule, group_id: &str) -> Self {
        let (ip_protocol, from_port, to_port) = protocol_ports::write(rule.protocol, rule.ports);
        let own_id = rule.rule_id != rule.content_id(group_id);
        let table = Self {
            security_group_rule_id: own_id.then(|| rule.rule_id.clone()),
            is_egress: rule.direction == Direction::Egress,
            ip_protocol,
            from_port,
            to_port,
            description: rule.description.clone(),
            ..Self::default()
        };
        match &rule.peer {
            Peer::Cidr(IpNet::V4(network)) => Self {
                cidr_ipv4: Some(network.to_string()),
                ..table
            },
            Peer::Cidr(IpNet::V6(network)) => Self {
                cidr_ipv6: Some(network.to_string()),
                ..table
            },
            Peer::PrefixList(id) => Self {
                prefix_list_id: Some(id.clone()),
                ..table
            },
            Peer::Group(group) => Self {
                referenced_group_info: Some(group.clone()),
                ..table
            },
        }
    }
}
