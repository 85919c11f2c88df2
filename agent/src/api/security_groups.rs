//! What the API says of security groups, in the field names of their files. Pure.

use std::collections::BTreeSet;

use branchline_common::verdict::Direction;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::policy::affected::AffectedFlow;
use crate::security_groups::diff::DirectoryChange;
use crate::security_groups::file::SecurityGroupFile;
use crate::security_groups::{
    Directory, Members, Peer, SecurityGroup, SecurityGroupRule, UnresolvedReason,
};

/// The body of `POST /v1/security-groups` and of `POST /v1/security-groups/diff`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// Whether groups and prefix lists that the file does not name are removed.
    #[serde(default)]
    pub prune: bool,
    /// Groups and prefix lists to be created, or replaced whole.
    pub file: SecurityGroupFile,
}

/// The answer to `POST /v1/security-groups`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecurityGroupsApplied {
    /// What is otherwise than before.
    pub change: DirectoryChange,
    /// What was taken otherwise than written, has no effect, or exceeds a quota of EC2.
    pub notes: Vec<String>,
    /// How many ENIs of this host obey other rules than before.
    pub network_interfaces: usize,
}

/// The answer to `POST /v1/security-groups/diff`: what an apply would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecurityGroupsDiff {
    /// What would be otherwise.
    pub change: DirectoryChange,
    /// As of an apply.
    pub notes: Vec<String>,
    /// How many ENIs of this host would obey other rules.
    pub network_interfaces: usize,
    /// How many live flows would be affected.
    pub flow_count: usize,
    /// The first [`MOST_FLOWS`] of them.
    pub flows: Vec<AffectedFlow>,
}

/// Flows that a diff lists at most.
pub const MOST_FLOWS: usize = 1_000;

/// The answer to `GET /v1/security-groups`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecurityGroupList {
    /// Every group in force, by id.
    pub security_groups: Vec<SecurityGroupSummary>,
    /// Every prefix list in force, by id.
    pub prefix_lists: Vec<PrefixListSummary>,
}

/// A group in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecurityGroupSummary {
    /// `sg-…`.
    pub group_id: String,
    /// Its name.
    pub group_name: String,
    /// Rules towards its ENIs.
    pub ingress_rules: usize,
    /// Rules away from them.
    pub egress_rules: usize,
    /// ENIs that have it, here or elsewhere.
    pub network_interfaces: usize,
    /// Rules whose peer stands for nothing that is known.
    pub unresolved_rules: usize,
    /// Whether what it would deny passes.
    pub audit: bool,
}

/// A prefix list in one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PrefixListSummary {
    /// `pl-…`.
    pub prefix_list_id: String,
    /// Its name.
    pub prefix_list_name: String,
    /// How many networks it has.
    pub entries: usize,
}

/// The answer to `GET /v1/security-groups/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecurityGroupDescription {
    /// `sg-…`.
    pub group_id: String,
    /// Its name.
    pub group_name: String,
    /// The operator's words.
    pub description: String,
    /// Its VPC, where that is not the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    /// Whether what it would deny passes and is counted.
    pub audit: bool,
    /// Whether a removed rule ends the connections that it allowed.
    pub cut_on_revoke: bool,
    /// Whether the group says so itself, and not the agent's configuration.
    pub cut_on_revoke_is_own: bool,
    /// ENIs that have the group, here or elsewhere.
    pub network_interfaces: Vec<String>,
    /// Its rules.
    pub security_group_rules: Vec<RuleDescription>,
}

/// A rule and what its peer stands for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RuleDescription {
    /// The rule.
    pub rule: SecurityGroupRule,
    /// The networks of its prefix list or of its group's members; the network itself of any other peer.
    #[schema(value_type = Vec<String>)]
    pub networks: BTreeSet<IpNet>,
    /// Why the peer stands for nothing that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unresolved: Option<UnresolvedReason>,
}

impl SecurityGroupList {
    /// What is in force.
    #[must_use]
    pub fn of(directory: &Directory, members: &Members) -> Self {
        let group = |group: &SecurityGroup| {
            let rules = |direction| {
                let rules = group.rules.iter();
                rules.filter(|rule| rule.direction == direction).count()
            };
            SecurityGroupSummary {
                group_id: group.group_id.clone(),
                group_name: group.group_name.clone(),
                ingress_rules: rules(Direction::Ingress),
                egress_rules: rules(Direction::Egress),
                network_interfaces: members.enis(&group.group_id).count(),
                unresolved_rules: directory.unresolved([group], members).len(),
                audit: group.audit,
            }
        };
        let lists = directory.prefix_lists.values();
        Self {
            security_groups: directory.groups.values().map(group).collect(),
            prefix_lists: lists
                .map(|list| PrefixListSummary {
                    prefix_list_id: list.prefix_list_id.clone(),
                    prefix_list_name: list.prefix_list_name.clone(),
                    entries: list.entries.len(),
                })
                .collect(),
        }
    }
}

impl SecurityGroupDescription {
    /// A group of `directory`; `cut_on_revoke` is the agent's own setting.
    #[must_use]
    pub fn of(
        group: &SecurityGroup,
        directory: &Directory,
        members: &Members,
        cut_on_revoke: bool,
    ) -> Self {
        let unresolved = directory.unresolved([group], members);
        let rule = |rule: &SecurityGroupRule| RuleDescription {
            rule: rule.clone(),
            networks: directory
                .networks(&rule.peer, members)
                .into_iter()
                .filter(|network| matches!(rule.peer, Peer::Cidr(_)) || rule.has_family_of(network))
                .collect(),
            unresolved: unresolved
                .iter()
                .find(|reference| reference.rule_id == rule.rule_id)
                .map(|reference| reference.reason),
        };
        Self {
            group_id: group.group_id.clone(),
            group_name: group.group_name.clone(),
            description: group.description.clone(),
            vpc_id: group.vpc_id.clone(),
            audit: group.audit,
            cut_on_revoke: group.cut_on_revoke.unwrap_or(cut_on_revoke),
            cut_on_revoke_is_own: group.cut_on_revoke.is_some(),
            network_interfaces: members.enis(&group.group_id).map(str::to_owned).collect(),
            security_group_rules: group.rules.iter().map(rule).collect(),
        }
    }
}
