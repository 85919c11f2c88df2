//! What differs between two directories, in the terms of the one who reads it: what is allowed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::directory::{Directory, PrefixList, PrefixListEntry, SecurityGroup};
use super::rule::SecurityGroupRule;

/// What differs; empty exactly when the two directories are equal but for the order of rules and entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DirectoryChange {
    /// Groups that are not the same, by id.
    pub security_groups: Vec<GroupChange>,
    /// Prefix lists that are not the same, by id.
    pub prefix_lists: Vec<PrefixListChange>,
}

/// What happens to a group or list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It goes.
    Removed,
    /// It stays and is not the same.
    Changed,
}

/// A value before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ValueChange<T> {
    /// Before.
    pub old: T,
    /// After.
    pub new: T,
}

/// How one group changes. The values of a group that is added or removed are compared with an empty group's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupChange {
    /// The group.
    pub group_id: String,
    /// What happens to it.
    pub kind: ChangeKind,
    /// Its other name.
    pub group_name: Option<ValueChange<String>>,
    /// Its other description.
    pub description: Option<ValueChange<String>>,
    /// Its other VPC.
    pub vpc_id: Option<ValueChange<Option<String>>>,
    /// Audit mode begins or ends.
    pub audit: Option<ValueChange<bool>>,
    /// Removed rules end their connections from now on, or no longer.
    pub cut_on_revoke: Option<ValueChange<Option<bool>>>,
    /// Rules that allow what none allowed.
    pub rules_added: Vec<SecurityGroupRule>,
    /// Rules that allow what none allows any more.
    pub rules_removed: Vec<SecurityGroupRule>,
    /// Rules that allow the same and have another id, description or status of their peering.
    pub rules_changed: Vec<ValueChange<SecurityGroupRule>>,
}

/// How one prefix list changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PrefixListChange {
    /// The list.
    pub prefix_list_id: String,
    /// What happens to it.
    pub kind: ChangeKind,
    /// Its other name.
    pub prefix_list_name: Option<ValueChange<String>>,
    /// Its other weight.
    pub max_entries: Option<ValueChange<Option<u32>>>,
    /// Entries that were not there; one with another description is removed and added.
    pub entries_added: Vec<PrefixListEntry>,
    /// Entries that are no longer there.
    pub entries_removed: Vec<PrefixListEntry>,
}

impl DirectoryChange {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.security_groups.is_empty() && self.prefix_lists.is_empty()
    }
}

/// What changes from `old` to `new`.
pub fn diff(old: &Directory, new: &Directory) -> DirectoryChange {
    DirectoryChange {
        security_groups: pairs(&old.groups, &new.groups)
            .filter_map(|(id, old, new)| group_change(id, old, new))
            .collect(),
        prefix_lists: pairs(&old.prefix_lists, &new.prefix_lists)
            .filter_map(|(id, old, new)| prefix_list_change(id, old, new))
            .collect(),
    }
}

/// Every id of the two maps, in order, with what each has of it.
fn pairs<'a, T>(
    old: &'a BTreeMap<String, T>,
    new: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = (&'a String, Option<&'a T>, Option<&'a T>)> {
    let ids: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    ids.into_iter().map(|id| (id, old.get(id), new.get(id)))
}

fn kind<T>(old: Option<&T>, new: Option<&T>) -> ChangeKind {
    match (old, new) {
        (None, _) => ChangeKind::Added,
        (Some(_), None) => ChangeKind::Removed,
        (Some(_), Some(_)) => ChangeKind::Changed,
    }
}

fn value<T: PartialEq + Clone>(old: &T, new: &T) -> Option<ValueChange<T>> {
    (old != new).then(|| ValueChange {
        old: old.clone(),
        new: new.clone(),
    })
}

fn group_change(
    id: &str,
    old: Option<&SecurityGroup>,
    new: Option<&SecurityGroup>,
) -> Option<GroupChange> {
    let kind = kind(old, new);
    let none = SecurityGroup::default();
    let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
    let change = GroupChange {
        group_id: id.to_owned(),
        kind,
        group_name: value(&old.group_name, &new.group_name),
        description: value(&old.description, &new.description),
        vpc_id: value(&old.vpc_id, &new.vpc_id),
        audit: value(&old.audit, &new.audit),
        cut_on_revoke: value(&old.cut_on_revoke, &new.cut_on_revoke),
        rules_added: rules_only_in(new, old),
        rules_removed: rules_only_in(old, new),
        rules_changed: rules_changed(old, new),
    };
    let same = GroupChange {
        group_id: id.to_owned(),
        kind: ChangeKind::Changed,
        group_name: None,
        description: None,
        vpc_id: None,
        audit: None,
        cut_on_revoke: None,
        rules_added: Vec::new(),
        rules_removed: Vec::new(),
        rules_changed: Vec::new(),
    };
    (change != same).then_some(change)
}

fn rules_only_in(group: &SecurityGroup, other: &SecurityGroup) -> Vec<SecurityGroupRule> {
    let rules = group.rules.iter();
    rules
        .filter(|rule| same(rule, other).is_none())
        .cloned()
        .collect()
}

fn rules_changed(old: &SecurityGroup, new: &SecurityGroup) -> Vec<ValueChange<SecurityGroupRule>> {
    let pairs = old
        .rules
        .iter()
        .filter_map(|rule| Some((rule, same(rule, new)?)));
    pairs.filter_map(|(old, new)| value(old, new)).collect()
}

/// The rule of `group` that allows the same as `rule`.
fn same<'a>(rule: &SecurityGroupRule, group: &'a SecurityGroup) -> Option<&'a SecurityGroupRule> {
    group.rules.iter().find(|other| other.allows_as(rule))
}

fn prefix_list_change(
    id: &str,
    old: Option<&PrefixList>,
    new: Option<&PrefixList>,
) -> Option<PrefixListChange> {
    let kind = kind(old, new);
    let none = PrefixList::default();
    let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
    let before: BTreeSet<&PrefixListEntry> = old.entries.iter().collect();
    let after: BTreeSet<&PrefixListEntry> = new.entries.iter().collect();
    let change = PrefixListChange {
        prefix_list_id: id.to_owned(),
        kind,
        prefix_list_name: value(&old.prefix_list_name, &new.prefix_list_name),
        max_entries: value(&old.max_entries, &new.max_entries),
        entries_added: after.difference(&before).copied().cloned().collect(),
        entries_removed: before.difference(&after).copied().cloned().collect(),
    };
    let is_change = kind != ChangeKind::Changed
        || change.prefix_list_name.is_some()
        || change.max_entries.is_some()
        || before != after;
    is_change.then_some(change)
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
