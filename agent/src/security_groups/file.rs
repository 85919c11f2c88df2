//! The tables `[[security_groups]]` and `[[prefix_lists]]` of `sg apply` and of the VPC file: TOML, or JSON with the
//! same names. Pure.
//!
//! Reads text and prints directories; what the tables mean is `group_table`'s and `prefix_list_table`'s.

use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::ip_permission::IpPermission;
use super::rule_table::SecurityGroupRuleTable;
use crate::field_error::{FieldError, from_json, from_toml};

/// A file of security groups and prefix lists, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroupFile {
    /// The groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<SecurityGroupTable>,
    /// The prefix lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix_lists: Vec<PrefixListTable>,
}

/// One group, as DescribeSecurityGroups names its fields, with its rules in one of two forms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroupTable {
    /// `sg-…`.
    pub group_id: String,
    /// Its name, not beginning with `sg-`.
    pub group_name: String,
    /// The operator's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its VPC, where that is not the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    /// Whether what it would deny passes and is counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub audit: bool,
    /// Whether a removed rule ends its connections; left out, the agent's configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_on_revoke: Option<bool>,
    /// Rules towards the task; none if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_permissions: Vec<IpPermission>,
    /// Rules away from the task; everything out if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_permissions_egress: Option<Vec<IpPermission>>,
    /// All rules in the form that has ids, in place of the two others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_group_rules: Option<Vec<SecurityGroupRuleTable>>,
}

/// One prefix list, as DescribeManagedPrefixLists and GetManagedPrefixListEntries name its fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefixListTable {
    /// `pl-…`.
    pub prefix_list_id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix_list_name: String,
    /// How many entries it may have, which is what it weighs in quotas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_entries: Option<u32>,
    /// Its networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<PrefixListEntryTable>,
}

/// One network of a prefix list, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefixListEntryTable {
    /// The network, with its prefix length.
    pub cidr: String,
    /// The operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl SecurityGroupFile {
    /// Reads JSON if the text begins with `{`, which no TOML does, and else TOML.
    ///
    /// # Errors
    /// The first field that does not fit, or the line where the text stops being JSON or TOML.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        if text.trim_start().starts_with('{') {
            from_json(text.as_bytes())
        } else {
            from_toml(text)
        }
    }

    /// The file that, applied to an empty directory, gives `directory`.
    pub fn of(directory: &Directory) -> Self {
        Self {
            security_groups: directory
                .groups
                .values()
                .map(SecurityGroupTable::of)
                .collect(),
            prefix_lists: directory
                .prefix_lists
                .values()
                .map(PrefixListTable::of)
                .collect(),
        }
    }

    /// The file as TOML.
    ///
    /// # Errors
    /// None that a file can cause.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// The file as JSON.
    ///
    /// # Errors
    /// None that a file can cause.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}
