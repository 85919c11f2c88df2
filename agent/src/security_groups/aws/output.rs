//! The JSON that `aws ec2` prints, in the AWS CLI's field names, and each part's form in a file. Pure.
//!
//! What has no counterpart here (tags, ARNs, page tokens, fields that AWS adds) is ignored.

use serde::Deserialize;

use super::super::file::{PrefixListEntryTable, PrefixListTable, SecurityGroupTable};
use super::super::ip_permission as written;
use super::super::rule::GroupReference;
use super::super::rule_table::SecurityGroupRuleTable;

/// What one of the four commands prints; which one shows in what is there.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Output {
    pub(super) security_groups: Option<Vec<SecurityGroup>>,
    pub(super) security_group_rules: Option<Vec<SecurityGroupRule>>,
    pub(super) prefix_lists: Option<Vec<PrefixList>>,
    pub(super) entries: Option<Vec<PrefixListEntry>>,
    /// Not printed: whose the entries are, for who wants to say it in the file.
    pub(super) prefix_list_id: Option<String>,
    pub(super) next_token: Option<String>,
}

impl Output {
    /// Whether it is the output of one of the commands at all.
    pub(super) fn is_known(&self) -> bool {
        self.security_groups.is_some()
            || self.security_group_rules.is_some()
            || self.prefix_lists.is_some()
            || self.entries.is_some()
    }
}

/// `SecurityGroup` of DescribeSecurityGroups.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SecurityGroup {
    group_id: String,
    group_name: String,
    #[serde(default)]
    description: String,
    owner_id: Option<String>,
    vpc_id: Option<String>,
    #[serde(default)]
    ip_permissions: Vec<IpPermission>,
    #[serde(default)]
    ip_permissions_egress: Vec<IpPermission>,
}

/// `SecurityGroupRule` of DescribeSecurityGroupRules.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SecurityGroupRule {
    security_group_rule_id: Option<String>,
    pub(super) group_id: String,
    group_owner_id: Option<String>,
    is_egress: bool,
    ip_protocol: String,
    from_port: Option<i64>,
    to_port: Option<i64>,
    cidr_ipv4: Option<String>,
    cidr_ipv6: Option<String>,
    prefix_list_id: Option<String>,
    referenced_group_info: Option<GroupPair>,
    description: Option<String>,
}

/// `IpPermission` of the EC2 API: one protocol and port range for several peers.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpPermission {
    ip_protocol: String,
    from_port: Option<i64>,
    to_port: Option<i64>,
    #[serde(default)]
    ip_ranges: Vec<IpRange>,
    #[serde(default)]
    ipv6_ranges: Vec<Ipv6Range>,
    #[serde(default)]
    prefix_list_ids: Vec<PrefixListId>,
    #[serde(default)]
    user_id_group_pairs: Vec<GroupPair>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IpRange {
    cidr_ip: String,
    description: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ipv6Range {
    cidr_ipv6: String,
    description: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PrefixListId {
    prefix_list_id: String,
    description: Option<String>,
}

/// `UserIdGroupPair` and `ReferencedSecurityGroup`, which differ in the description only.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GroupPair {
    group_id: String,
    user_id: Option<String>,
    vpc_id: Option<String>,
    vpc_peering_connection_id: Option<String>,
    peering_status: Option<String>,
    description: Option<String>,
}

/// `ManagedPrefixList`, and `PrefixList` of DescribePrefixLists, which has the networks in it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PrefixList {
    prefix_list_id: String,
    #[serde(default)]
    prefix_list_name: String,
    max_entries: Option<u32>,
    #[serde(default)]
    cidrs: Vec<String>,
}

/// `PrefixListEntry` of GetManagedPrefixListEntries.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PrefixListEntry {
    cidr: String,
    description: Option<String>,
}

impl From<SecurityGroup> for SecurityGroupTable {
    fn from(group: SecurityGroup) -> Self {
        let owner = group.owner_id.as_deref();
        let permissions = |permissions: Vec<IpPermission>| {
            let permissions = permissions.into_iter();
            permissions
                .map(|permission| permission.of_owner(owner))
                .collect()
        };
        Self {
            ip_permissions: permissions(group.ip_permissions),
            ip_permissions_egress: Some(permissions(group.ip_permissions_egress)),
            group_id: group.group_id,
            group_name: group.group_name,
            description: group.description,
            vpc_id: group.vpc_id,
            ..Self::default()
        }
    }
}

impl From<SecurityGroupRule> for SecurityGroupRuleTable {
    fn from(rule: SecurityGroupRule) -> Self {
        let owner = rule.group_owner_id.as_deref();
        Self {
            referenced_group_info: rule.referenced_group_info.map(|pair| GroupReference {
                user_id: foreign(pair.user_id, owner),
                group_id: pair.group_id,
                vpc_id: pair.vpc_id,
                vpc_peering_connection_id: pair.vpc_peering_connection_id,
                peering_status: pair.peering_status,
            }),
            security_group_rule_id: rule.security_group_rule_id,
            is_egress: rule.is_egress,
            ip_protocol: rule.ip_protocol,
            from_port: rule.from_port,
            to_port: rule.to_port,
            cidr_ipv4: rule.cidr_ipv4,
            cidr_ipv6: rule.cidr_ipv6,
            prefix_list_id: rule.prefix_list_id,
            description: rule.description,
        }
    }
}

impl IpPermission {
    /// The permission's form in a file, in a group of the account `owner`.
    pub fn of_owner(self, owner: Option<&str>) -> written::IpPermission {
        let ip_range = |range: IpRange| written::IpRange {
            cidr_ip: range.cidr_ip,
            description: range.description,
        };
        let ipv6_range = |range: Ipv6Range| written::Ipv6Range {
            cidr_ipv6: range.cidr_ipv6,
            description: range.description,
        };
        let prefix_list = |list: PrefixListId| written::PrefixListId {
            prefix_list_id: list.prefix_list_id,
            description: list.description,
        };
        let pair = |pair: GroupPair| written::UserIdGroupPair {
            user_id: foreign(pair.user_id, owner),
            group_id: pair.group_id,
            vpc_id: pair.vpc_id,
            vpc_peering_connection_id: pair.vpc_peering_connection_id,
            peering_status: pair.peering_status,
            description: pair.description,
        };
        written::IpPermission {
            ip_protocol: self.ip_protocol,
            from_port: self.from_port,
            to_port: self.to_port,
            ip_ranges: self.ip_ranges.into_iter().map(ip_range).collect(),
            ipv6_ranges: self.ipv6_ranges.into_iter().map(ipv6_range).collect(),
            prefix_list_ids: self.prefix_list_ids.into_iter().map(prefix_list).collect(),
            user_id_group_pairs: self.user_id_group_pairs.into_iter().map(pair).collect(),
        }
    }
}

/// AWS prints the account of every referenced group; a file names it only where it is another one.
fn foreign(user_id: Option<String>, owner: Option<&str>) -> Option<String> {
    user_id.filter(|id| Some(id.as_str()) != owner)
}

impl From<PrefixList> for PrefixListTable {
    fn from(list: PrefixList) -> Self {
        let entry = |cidr| PrefixListEntryTable {
            cidr,
            description: None,
        };
        Self {
            prefix_list_id: list.prefix_list_id,
            prefix_list_name: list.prefix_list_name,
            max_entries: list.max_entries,
            entries: list.cidrs.into_iter().map(entry).collect(),
        }
    }
}

impl From<PrefixListEntry> for PrefixListEntryTable {
    fn from(entry: PrefixListEntry) -> Self {
        Self {
            cidr: entry.cidr,
            description: entry.description,
        }
    }
}
