//! Calls about security groups, their rules, and prefix lists.

use crate::call::{Action, Ec2};
use crate::error::Error;
use crate::interfaces::{action, filter, next};
use crate::model::{PrefixList, PrefixListEntry, SecurityGroup, SecurityGroupRule};
use crate::read::Reader;
use crate::restraint::Kind;

const GROUPS: Action = action("DescribeSecurityGroups", Kind::DearDescribe, true);
const RULES: Action = action("DescribeSecurityGroupRules", Kind::Describe, true);
const PREFIX_LISTS: Action = action("DescribeManagedPrefixLists", Kind::Describe, true);
const PREFIX_LIST_ENTRIES: Action = action("GetManagedPrefixListEntries", Kind::Describe, true);

/// Groups and rules in one page (EC2: 5 to 1,000).
const PAGE: i32 = 1_000;
/// Prefix lists, and entries of one, in one page (EC2: 1 to 100).
const LISTS_PAGE: i32 = 100;
/// Values that one filter takes (EC2: 200).
pub const FILTER_VALUES: usize = 200;

impl Ec2 {
    /// Every group of a VPC, without its rules.
    ///
    /// # Errors
    /// EC2's.
    pub async fn describe_security_groups(
        &self,
        vpc_id: &str,
    ) -> Result<Vec<SecurityGroup>, Error> {
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let request = self
                .sdk
                .describe_security_groups()
                .filters(filter("vpc-id", &[vpc_id]))
                .max_results(PAGE)
                .set_next_token(token);
            let answer = self.call(GROUPS, || request.clone().send()).await?;
            let reader = Reader(GROUPS.name);
            for group in answer.security_groups() {
                found.push(SecurityGroup {
                    id: reader.text("groupId", group.group_id())?,
                    name: reader.text("groupName", group.group_name())?,
                    description: group.description().unwrap_or_default().to_owned(),
                    vpc_id: reader.text("vpcId", group.vpc_id())?,
                });
            }
            token = next(answer.next_token());
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    /// The rules of groups, of any number; as many calls as pages of values and of rules.
    ///
    /// # Errors
    /// EC2's.
    pub async fn describe_security_group_rules(
        &self,
        groups: &[String],
    ) -> Result<Vec<SecurityGroupRule>, Error> {
        let mut found = Vec::new();
        for groups in groups.chunks(FILTER_VALUES) {
            let mut token = None;
            loop {
                let request = self
                    .sdk
                    .describe_security_group_rules()
                    .filters(filter("group-id", groups))
                    .max_results(PAGE)
                    .set_next_token(token);
                let answer = self.call(RULES, || request.clone().send()).await?;
                for rule in answer.security_group_rules() {
                    found.push(Reader(RULES.name).rule(rule)?);
                }
                token = next(answer.next_token());
                if token.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Prefix lists by id, without their entries; one that is not there is left out.
    ///
    /// # Errors
    /// EC2's.
    pub async fn describe_managed_prefix_lists(
        &self,
        ids: &[String],
    ) -> Result<Vec<PrefixList>, Error> {
        let mut found = Vec::new();
        for ids in ids.chunks(FILTER_VALUES) {
            let mut token = None;
            loop {
                let request = self
                    .sdk
                    .describe_managed_prefix_lists()
                    .filters(filter("prefix-list-id", ids))
                    .max_results(LISTS_PAGE)
                    .set_next_token(token);
                let answer = self.call(PREFIX_LISTS, || request.clone().send()).await?;
                let reader = Reader(PREFIX_LISTS.name);
                for list in answer.prefix_lists() {
                    found.push(PrefixList {
                        id: reader.text("prefixListId", list.prefix_list_id())?,
                        name: list.prefix_list_name().unwrap_or_default().to_owned(),
                        max_entries: list.max_entries().and_then(|most| u32::try_from(most).ok()),
                        version: list.version(),
                    });
                }
                token = next(answer.next_token());
                if token.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The entries of a prefix list, of one version of it if it has versions: all pages are of the same.
    ///
    /// # Errors
    /// EC2's.
    pub async fn managed_prefix_list_entries(
        &self,
        id: &str,
        version: Option<i64>,
    ) -> Result<Vec<PrefixListEntry>, Error> {
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let request = self
                .sdk
                .get_managed_prefix_list_entries()
                .prefix_list_id(id)
                .set_target_version(version)
                .max_results(LISTS_PAGE)
                .set_next_token(token);
            let answer = self.call(PREFIX_LIST_ENTRIES, || request.clone().send());
            let answer = answer.await?;
            let reader = Reader(PREFIX_LIST_ENTRIES.name);
            for entry in answer.entries() {
                found.push(PrefixListEntry {
                    cidr: reader.text("cidr", entry.cidr())?,
                    description: entry.description().map(str::to_owned),
                });
            }
            token = next(answer.next_token());
            if token.is_none() {
                return Ok(found);
            }
        }
    }
}
