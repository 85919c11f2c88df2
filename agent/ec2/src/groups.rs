//! Calls about security groups, their rules, and prefix lists.

use crate::call::{Action, Ec2};
use crate::error::Error;
use crate::interfaces::{action, filter};
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
        let shared = &self.shared.groups;
        let found = shared
            .ask(vpc_id.to_owned(), || self.groups(vpc_id))
            .await?;
        Ok(found.unwrap_or_default())
    }

    async fn groups(&self, vpc_id: &str) -> Result<Vec<SecurityGroup>, Error> {
        let request = self
            .sdk
            .describe_security_groups()
            .filters(filter("vpc-id", &[vpc_id]))
            .max_results(PAGE);
        let reader = Reader(GROUPS.name);
        self.pages(
            GROUPS,
            |token| request.clone().set_next_token(token).send(),
            |answer| {
                answer
                    .security_groups()
                    .iter()
                    .map(|group| reader.group(group))
                    .collect()
            },
            |answer| answer.next_token(),
        )
        .await
    }

    /// The rules of groups, of any number; as many calls as pages of values and of rules.
    ///
    /// # Errors
    /// EC2's.
    pub async fn describe_security_group_rules(
        &self,
        groups: &[String],
    ) -> Result<Vec<SecurityGroupRule>, Error> {
        let shared = &self.shared.rules;
        let found = shared.ask(groups.to_vec(), || self.rules(groups)).await?;
        Ok(found.unwrap_or_default())
    }

    async fn rules(&self, groups: &[String]) -> Result<Vec<SecurityGroupRule>, Error> {
        let mut found = Vec::new();
        for groups in groups.chunks(FILTER_VALUES) {
            let request = self
                .sdk
                .describe_security_group_rules()
                .filters(filter("group-id", groups))
                .max_results(PAGE);
            let rules = self.pages(
                RULES,
                |token| request.clone().set_next_token(token).send(),
                |answer| {
                    let rules = answer.security_group_rules().iter();
                    rules.map(|rule| Reader(RULES.name).rule(rule)).collect()
                },
                |answer| answer.next_token(),
            );
            found.extend(rules.await?);
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
            let request = self
                .sdk
                .describe_managed_prefix_lists()
                .filters(filter("prefix-list-id", ids))
                .max_results(LISTS_PAGE);
            let reader = Reader(PREFIX_LISTS.name);
            let lists = self.pages(
                PREFIX_LISTS,
                |token| request.clone().set_next_token(token).send(),
                |answer| {
                    answer
                        .prefix_lists()
                        .iter()
                        .map(|list| reader.prefix_list(list))
                        .collect()
                },
                |answer| answer.next_token(),
            );
            found.extend(lists.await?);
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
        let request = self
            .sdk
            .get_managed_prefix_list_entries()
            .prefix_list_id(id)
            .set_target_version(version)
            .max_results(LISTS_PAGE);
        let reader = Reader(PREFIX_LIST_ENTRIES.name);
        self.pages(
            PREFIX_LIST_ENTRIES,
            |token| request.clone().set_next_token(token).send(),
            |answer| {
                answer
                    .entries()
                    .iter()
                    .map(|entry| reader.entry(entry))
                    .collect()
            },
            |answer| answer.next_token(),
        )
        .await
    }
}
