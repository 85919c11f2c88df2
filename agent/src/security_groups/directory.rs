//! Every security group and prefix list that is known, and what the peers of their rules stand for. Pure.
//!
//! Never decides who may be whose peer, nor who carries a group: that is `members`'.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::members::Members;
use super::rule::{Peer, SecurityGroupRule};

/// The name of the group that tasks get which name none; every VPC has one, and it cannot be deleted.
pub const DEFAULT_GROUP_NAME: &str = "default";

/// A named set of rules; what no rule allows is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// `sg-…`, the key.
    pub group_id: String,
    /// For display, and `default` for the group of tasks that name none. Unique in a VPC; case does not count.
    pub group_name: String,
    /// The operator's words; no effect.
    pub description: String,
    /// `vpc-…` of a group of another VPC than the host's.
    pub vpc_id: Option<String>,
    /// Allow rules, each once; what is made of a file is ordered by what the rules allow.
    pub rules: Vec<SecurityGroupRule>,
    /// Whether what no rule allows passes, and is counted and logged as a denial that would have been.
    ///
    /// branchline's own; it counts for an ENI if any of its groups has it.
    pub audit: bool,
    /// Whether a removed rule ends the connections it allowed; `None` is the agent's own setting.
    ///
    /// branchline's own; EC2 never ends a tracked connection.
    pub cut_on_revoke: Option<bool>,
}

/// A named set of networks, of either family.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixList {
    /// `pl-…`, the key.
    pub prefix_list_id: String,
    /// For display.
    pub prefix_list_name: String,
    /// How many rules the list weighs in EC2's quotas, whatever its length.
    pub max_entries: Option<u32>,
    /// Its networks, each once, in order.
    pub entries: Vec<PrefixListEntry>,
}

/// One network of a prefix list.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
pub struct PrefixListEntry {
    /// The network, without host bits.
    #[schema(value_type = String)]
    pub cidr: IpNet,
    /// The operator's words; no effect.
    pub description: Option<String>,
}

/// All groups and prefix lists, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// The groups.
    pub groups: BTreeMap<String, SecurityGroup>,
    /// The prefix lists.
    pub prefix_lists: BTreeMap<String, PrefixList>,
}

/// A rule that matches nothing because its peer stands for nothing that is known here.
///
/// A group that is known and that no ENI carries is no such case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnresolvedReference {
    /// The rule's group.
    pub group_id: String,
    /// The rule.
    pub rule_id: String,
    /// Its peer.
    pub peer: Peer,
    /// Why it stands for nothing.
    pub reason: UnresolvedReason,
}

/// Why a peer stands for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnresolvedReason {
    /// No prefix list has this id.
    UnknownPrefixList,
    /// No group has this id, and no ENI carries it.
    UnknownGroup,
    /// The group is another account's, and no ENI is known to carry it.
    OtherAccount,
    /// The peering to the group's VPC is not active.
    StalePeering,
}

impl Directory {
    /// The networks that `peer` stands for; none if that is not known.
    ///
    /// A group is resolved by its members alone, so that one whose rules are not known here (another account's, a
    /// peered VPC's) can still be a peer. Of both families: see [`SecurityGroupRule::has_family_of`].
    pub fn networks(&self, peer: &Peer, members: &Members) -> BTreeSet<IpNet> {
        match peer {
            Peer::Cidr(network) => BTreeSet::from([*network]),
            Peer::PrefixList(id) => self
                .prefix_lists
                .get(id)
                .into_iter()
                .flat_map(|list| list.entries.iter().map(|entry| entry.cidr))
                .collect(),
            Peer::Group(group) if group.is_stale() => BTreeSet::new(),
            Peer::Group(group) => members.networks(&group.group_id).collect(),
        }
    }

    /// The rules of `groups` whose peers cannot be resolved, in order.
    pub fn unresolved<'a>(
        &self,
        groups: impl IntoIterator<Item = &'a SecurityGroup>,
        members: &Members,
    ) -> Vec<UnresolvedReference> {
        let of_rule = |group: &SecurityGroup, rule: &SecurityGroupRule| {
            let reason = self.unresolved_reason(&rule.peer, members)?;
            Some(UnresolvedReference {
                group_id: group.group_id.clone(),
                rule_id: rule.rule_id.clone(),
                peer: rule.peer.clone(),
                reason,
            })
        };
        groups
            .into_iter()
            .flat_map(|group| {
                group
                    .rules
                    .iter()
                    .filter_map(move |rule| of_rule(group, rule))
            })
            .collect()
    }

    fn unresolved_reason(&self, peer: &Peer, members: &Members) -> Option<UnresolvedReason> {
        match peer {
            Peer::Cidr(_) => None,
            Peer::PrefixList(id) => {
                (!self.prefix_lists.contains_key(id)).then_some(UnresolvedReason::UnknownPrefixList)
            }
            Peer::Group(group) if group.is_stale() => Some(UnresolvedReason::StalePeering),
            Peer::Group(group)
                if self.groups.contains_key(&group.group_id)
                    || members.enis(&group.group_id).next().is_some() =>
            {
                None
            }
            Peer::Group(group) if group.user_id.is_some() => Some(UnresolvedReason::OtherAccount),
            Peer::Group(_) => Some(UnresolvedReason::UnknownGroup),
        }
    }

    /// The VPC's group named `default`.
    pub fn default_group(&self) -> Option<&SecurityGroup> {
        self.groups
            .values()
            .find(|group| group.vpc_id.is_none() && group.is_default())
    }
}

impl SecurityGroup {
    /// Whether it is the default group of its VPC.
    pub fn is_default(&self) -> bool {
        self.group_name.eq_ignore_ascii_case(DEFAULT_GROUP_NAME)
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
