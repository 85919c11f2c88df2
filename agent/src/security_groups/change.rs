//! A file applied to a directory: checked as a whole, then a new directory or one error. Pure.
//!
//! Never changes the directory it is given, so that a file that is refused changes nothing.

use std::collections::HashMap;

use super::directory::{Directory, SecurityGroup};
use super::file::SecurityGroupFile;
use super::group_table::{self, CheckedGroup, OwnVpc};
use super::members::Members;
use super::rule::Peer;
use super::{prefix_list_table, quotas};
use crate::field_error::{FieldError, FieldNote};

/// What beside the file decides what becomes of it.
#[derive(Debug, Clone, Copy)]
pub struct ApplyOptions<'a> {
    /// The VPC.
    pub vpc: OwnVpc<'a>,
    /// Whether groups and prefix lists that the file does not name are removed.
    ///
    /// The default group stays: EC2's cannot be deleted.
    pub prune: bool,
    /// Who carries which group: a group that an ENI carries is not removed.
    pub members: &'a Members,
}

/// The directory in which the groups and prefix lists of `file` are created, or replaced whole.
///
/// The notes say what was taken otherwise than written, what has no effect, and which of EC2's quotas are exceeded.
///
/// # Errors
/// The first field that is wrong alone, beside the rest of the file, or beside `current`.
pub fn apply(
    current: &Directory,
    file: &SecurityGroupFile,
    options: ApplyOptions<'_>,
) -> Result<(Directory, Vec<String>), FieldError> {
    let mut notes = Vec::new();
    let groups = groups(file, options.vpc, &mut notes)?;
    let mut next = kept(current, options);
    for group in &groups {
        next.groups
            .insert(group.group.group_id.clone(), group.group.clone());
    }
    add_prefix_lists(file, &mut next, &mut notes)?;
    check_names(&groups, &next)?;
    check_default_group(current, &groups, &next)?;
    check_references(&groups, &next, &mut notes)?;
    check_removed(current, &next, options)?;

    let mut notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
    for group in &groups {
        notes.extend(quotas::of_group(&group.group, &group.field, &next));
    }
    for (index, table) in file.prefix_lists.iter().enumerate() {
        let list = next.prefix_lists.get(&table.prefix_list_id);
        let field = format!("prefix_lists[{index}]");
        notes.extend(list.and_then(|list| quotas::of_prefix_list(list, &field)));
    }
    notes.extend(quotas::of_directory(&next));
    Ok((next, notes))
}

fn groups(
    file: &SecurityGroupFile,
    vpc: OwnVpc<'_>,
    notes: &mut Vec<FieldNote>,
) -> Result<Vec<CheckedGroup>, FieldError> {
    let mut groups: Vec<CheckedGroup> = Vec::new();
    let (mut ids, mut names) = (HashMap::new(), HashMap::new());
    for (index, table) in file.security_groups.iter().enumerate() {
        let field = format!("security_groups[{index}]");
        let group = group_table::check(table, &field, vpc, notes)?;
        if ids.insert(table.group_id.clone(), index).is_some() {
            let problem = format!("{} is the id of an earlier group", table.group_id);
            let fix = "give each group its own id";
            return Err(FieldError::new(format!("{field}.group_id"), problem, fix));
        }
        if let Some(earlier) = names.insert(name(&group.group), table.group_id.clone()) {
            return Err(name_taken(&group, &earlier));
        }
        groups.push(group);
    }
    Ok(groups)
}

fn add_prefix_lists(
    file: &SecurityGroupFile,
    next: &mut Directory,
    notes: &mut Vec<FieldNote>,
) -> Result<(), FieldError> {
    let mut ids = HashMap::new();
    for (index, table) in file.prefix_lists.iter().enumerate() {
        let field = format!("prefix_lists[{index}]");
        let list = prefix_list_table::check(table, &field, notes)?;
        if ids.insert(table.prefix_list_id.clone(), index).is_some() {
            let problem = format!(
                "{} is the id of an earlier prefix list",
                table.prefix_list_id
            );
            let fix = "give each prefix list its own id";
            return Err(FieldError::new(
                format!("{field}.prefix_list_id"),
                problem,
                fix,
            ));
        }
        next.prefix_lists.insert(list.prefix_list_id.clone(), list);
    }
    Ok(())
}

/// What of `current` is there before the file is read.
fn kept(current: &Directory, options: ApplyOptions<'_>) -> Directory {
    if !options.prune {
        return current.clone();
    }
    let default = current.default_group().cloned();
    Directory {
        groups: default
            .into_iter()
            .map(|group| (group.group_id.clone(), group))
            .collect(),
        ..Directory::default()
    }
}

/// What of a group's name must be unique: with its VPC, and without case.
fn name(group: &SecurityGroup) -> (Option<String>, String) {
    (group.vpc_id.clone(), group.group_name.to_ascii_lowercase())
}

fn name_taken(group: &CheckedGroup, other_id: &str) -> FieldError {
    FieldError::new(
        format!("{}.group_name", group.field),
        format!("{:?} is the name of {other_id}", group.group.group_name),
        "give each group its own name; case does not count",
    )
}

fn check_names(groups: &[CheckedGroup], next: &Directory) -> Result<(), FieldError> {
    let names = next
        .groups
        .values()
        .map(|group| (&group.group_id, name(group)));
    let names: Vec<_> = names.collect();
    for group in groups {
        let (id, own) = (&group.group.group_id, name(&group.group));
        if let Some((other, _)) = names
            .iter()
            .find(|(other, name)| *other != id && *name == own)
        {
            return Err(name_taken(group, other));
        }
    }
    Ok(())
}

fn check_default_group(
    current: &Directory,
    groups: &[CheckedGroup],
    next: &Directory,
) -> Result<(), FieldError> {
    let renamed = current.default_group().and_then(|default| {
        let is_it = |group: &&CheckedGroup| group.group.group_id == default.group_id;
        groups.iter().find(is_it)
    });
    match renamed {
        Some(group) if next.default_group().is_none() => Err(FieldError::new(
            format!("{}.group_name", group.field),
            format!("{} is the VPC's default group", group.group.group_id),
            "name it default and leave it in the host's VPC",
        )),
        _ => Ok(()),
    }
}

/// Refuses a rule whose peer is defined nowhere; a group of another account or VPC need not be.
fn check_references(
    groups: &[CheckedGroup],
    next: &Directory,
    notes: &mut Vec<FieldNote>,
) -> Result<(), FieldError> {
    for group in groups {
        for (field, rule) in group.rule_fields.iter().zip(&group.group.rules) {
            let (what, fix) = match &rule.peer {
                Peer::PrefixList(id) if !next.prefix_lists.contains_key(id) => {
                    ("prefix list", "add it to prefix_lists")
                }
                Peer::Group(group) if group.is_stale() => {
                    let note = format!("{} matches nothing: its peering is not active", rule.peer);
                    notes.push(FieldNote::new(field, note));
                    continue;
                }
                Peer::Group(group) if next.groups.contains_key(&group.group_id) => continue,
                Peer::Group(group) if group.is_foreign() => {
                    let note = format!(
                        "{} is of another account or VPC: it matches only ENIs that are made known \
                         (network_interfaces of the VPC file)",
                        rule.peer
                    );
                    notes.push(FieldNote::new(field, note));
                    continue;
                }
                Peer::Group(_) => (
                    "security group",
                    "add it to security_groups, or its user_id if it is another account's",
                ),
                Peer::Cidr(_) | Peer::PrefixList(_) => continue,
            };
            let problem = format!("no {what} {} is defined", rule.peer);
            return Err(FieldError::new(field, problem, fix).within(&group.group.group_id));
        }
    }
    Ok(())
}

/// Refuses to remove what is in use: by an ENI, or by a rule of a group that stays.
fn check_removed(
    current: &Directory,
    next: &Directory,
    options: ApplyOptions<'_>,
) -> Result<(), FieldError> {
    let gone = |id: &&String| !next.groups.contains_key(*id);
    for id in current.groups.keys().filter(gone) {
        if let Some(eni_id) = options.members.enis(id).next() {
            let problem = format!("{id} would be removed, and {eni_id} has it");
            let fix = "add it to the file, or take it from its network interfaces first";
            return Err(FieldError::new("security_groups", problem, fix));
        }
    }
    let rules = next
        .groups
        .values()
        .flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
    for (group, rule) in rules {
        let (field, removed) = match &rule.peer {
            Peer::Cidr(_) => continue,
            Peer::PrefixList(id) => (
                "prefix_lists",
                !next.prefix_lists.contains_key(id) && current.prefix_lists.contains_key(id),
            ),
            Peer::Group(peer) => (
                "security_groups",
                !next.groups.contains_key(&peer.group_id)
                    && current.groups.contains_key(&peer.group_id),
            ),
        };
        if removed {
            let (peer, id) = (&rule.peer, &group.group_id);
            let problem = format!(
                "{peer} would be removed, and {} of {id} names it",
                rule.rule_id
            );
            let fix = "add it to the file, or change that rule too";
            return Err(FieldError::new(field, problem, fix));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
