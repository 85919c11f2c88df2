//! EC2's `IpPermission`, the form in which people write rules, and its normalisation into rules. Pure.
//!
//! Never looks beyond one permission: duplicates and unknown references are found where all rules are known.

use branchline_common::verdict::Direction;
use serde::{Deserialize, Serialize};

use super::peer::{self, check_description};
use super::protocol_ports::{self, Written};
use super::rule::{GroupReference, Peer, SecurityGroupRule};
use crate::field_error::{FieldError, FieldNote};

/// One protocol and port range, allowed for several peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IpPermission {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number from 0 to 255, or `-1` for all.
    pub ip_protocol: String,
    /// First destination port, or ICMP type; `-1` is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_port: Option<i64>,
    /// Last destination port, or ICMP code; `-1` is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_port: Option<i64>,
    /// IPv4 peers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_ranges: Vec<IpRange>,
    /// IPv6 peers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_ranges: Vec<Ipv6Range>,
    /// Prefix lists as peers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix_list_ids: Vec<PrefixListId>,
    /// Members of groups as peers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user_id_group_pairs: Vec<UserIdGroupPair>,
}

/// An IPv4 peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IpRange {
    /// The network, with its prefix length.
    pub cidr_ip: String,
    /// The operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// An IPv6 peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ipv6Range {
    /// The network, with its prefix length.
    pub cidr_ipv6: String,
    /// The operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A prefix list as peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefixListId {
    /// `pl-…`.
    pub prefix_list_id: String,
    /// The operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A group as peer; the fields are [`GroupReference`]'s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserIdGroupPair {
    /// `sg-…`.
    pub group_id: String,
    /// The group's account, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The group's VPC, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    /// The peering connection to that VPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_peering_connection_id: Option<String>,
    /// The peering's status, `active` if it is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peering_status: Option<String>,
    /// The operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A rule and the field in which its peer was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleAt {
    /// As `security_groups[0].ip_permissions[2].user_id_group_pairs[0].group_id`.
    pub field: String,
    /// The rule.
    pub rule: SecurityGroupRule,
}

/// The rules that `permission`, found at `field`, gives to `group_id`.
///
/// ICMP beside an IPv6 range and ICMPv6 beside an IPv4 range can match no packet and give no rule. What is taken
/// otherwise than written goes to `notes`.
///
/// # Errors
/// The first field that is malformed.
pub fn normalize(
    permission: &IpPermission,
    group_id: &str,
    direction: Direction,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<Vec<RuleAt>, FieldError> {
    let written = Written {
        ip_protocol: &permission.ip_protocol,
        from_port: permission.from_port,
        to_port: permission.to_port,
    };
    let (protocol, ports) = protocol_ports::read(written, field, notes)?;
    let peers = peers(permission, field, notes)?;
    if peers.is_empty() {
        let fix = "add ip_ranges, ipv6_ranges, prefix_list_ids or user_id_group_pairs";
        return Err(FieldError::new(
            field,
            "names no peer, so it allows nothing",
            fix,
        ));
    }
    let mut rules = Vec::new();
    for (field, peer, description) in peers {
        let rule = SecurityGroupRule::new(group_id, direction, protocol, ports, peer, description);
        push(RuleAt { field, rule }, &mut rules, notes);
    }
    Ok(rules)
}

/// Adds a rule, unless it can match no packet because ICMP and its peer are of different families.
pub(super) fn push(at: RuleAt, rules: &mut Vec<RuleAt>, notes: &mut Vec<FieldNote>) {
    match at.rule.peer.cidr() {
        Some(network) if !at.rule.has_family_of(&network) => {
            let protocol = at.rule.protocol;
            let note = format!("dropped: {protocol} never meets {network}, of the other family");
            notes.push(FieldNote::new(at.field, note));
        }
        _ => rules.push(at),
    }
}

type PeerAt = (String, Peer, Option<String>);

fn peers(
    permission: &IpPermission,
    field: &str,
    notes: &mut Vec<FieldNote>,
) -> Result<Vec<PeerAt>, FieldError> {
    let mut peers = Vec::new();
    for (index, range) in permission.ip_ranges.iter().enumerate() {
        let table = format!("{field}.ip_ranges[{index}]");
        let field = format!("{table}.cidr_ip");
        let peer = peer::ipv4(&range.cidr_ip, &field, notes)?;
        peers.push((field, peer, description(&range.description, &table)?));
    }
    for (index, range) in permission.ipv6_ranges.iter().enumerate() {
        let table = format!("{field}.ipv6_ranges[{index}]");
        let field = format!("{table}.cidr_ipv6");
        let peer = peer::ipv6(&range.cidr_ipv6, &field, notes)?;
        peers.push((field, peer, description(&range.description, &table)?));
    }
    for (index, list) in permission.prefix_list_ids.iter().enumerate() {
        let table = format!("{field}.prefix_list_ids[{index}]");
        let field = format!("{table}.prefix_list_id");
        let peer = peer::prefix_list(&list.prefix_list_id, &field)?;
        peers.push((field, peer, description(&list.description, &table)?));
    }
    for (index, pair) in permission.user_id_group_pairs.iter().enumerate() {
        let table = format!("{field}.user_id_group_pairs[{index}]");
        let peer = peer::group(&pair.reference(), &table)?;
        let field = format!("{table}.group_id");
        peers.push((field, peer, description(&pair.description, &table)?));
    }
    Ok(peers)
}

fn description(text: &Option<String>, table: &str) -> Result<Option<String>, FieldError> {
    check_description(text.as_deref(), &format!("{table}.description"))?;
    Ok(text.clone())
}

impl UserIdGroupPair {
    fn reference(&self) -> GroupReference {
        GroupReference {
            group_id: self.group_id.clone(),
            user_id: self.user_id.clone(),
            vpc_id: self.vpc_id.clone(),
            vpc_peering_connection_id: self.vpc_peering_connection_id.clone(),
            peering_status: self.peering_status.clone(),
        }
    }
}

#[cfg(test)]
#[path = "ip_permission_tests.rs"]
mod tests;
