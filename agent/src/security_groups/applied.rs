//! What `sg apply` leaves for the next start of the agent, and what is in force then. Pure.
//!
//! The VPC file says what a fresh VPC starts with; from the first apply on, what was applied wins. Never reads a store.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::directory::Directory;

/// What was applied on this host, as the store keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Every group and prefix list in force after the last apply.
    pub directory: Directory,
    /// Groups and prefix lists that were removed, by id: the VPC file does not bring them back.
    pub removed: BTreeSet<String>,
}

impl Applied {
    /// What to keep when `next` takes the place of `current`, after `before` was kept.
    #[must_use]
    pub fn after(before: Option<Self>, current: &Directory, next: &Directory) -> Self {
        let mut removed = before.unwrap_or_default().removed;
        removed.extend(ids(current).cloned());
        let there: BTreeSet<&String> = ids(next).collect();
        removed.retain(|id| !there.contains(id));
        Self {
            directory: next.clone(),
            removed,
        }
    }

    /// What is in force at a start with a VPC file that says `file`: what was applied, and what the file has beside it.
    ///
    /// Returns with it the ids of the groups and prefix lists that the file has otherwise.
    #[must_use]
    pub fn over(self, file: Directory) -> (Directory, Vec<String>) {
        let mut ignored = Vec::new();
        let Self { directory, removed } = self;
        let mut in_force = directory;
        for (id, group) in file.groups {
            match in_force.groups.get(&id) {
                Some(applied) if *applied == group => {}
                Some(_) => ignored.push(id),
                None if removed.contains(&id) => ignored.push(id),
                None => drop(in_force.groups.insert(id, group)),
            }
        }
        for (id, list) in file.prefix_lists {
            match in_force.prefix_lists.get(&id) {
                Some(applied) if *applied == list => {}
                Some(_) => ignored.push(id),
                None if removed.contains(&id) => ignored.push(id),
                None => drop(in_force.prefix_lists.insert(id, list)),
            }
        }
        (in_force, ignored)
    }
}

fn ids(directory: &Directory) -> impl Iterator<Item = &String> {
    directory.groups.keys().chain(directory.prefix_lists.keys())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security_groups::{PrefixList, SecurityGroup};

    /// Groups by id and name, and a prefix list `pl-a`.
    fn directory(groups: &[(&str, &str)], has_list: bool) -> Directory {
        let group = |(id, name): &(&str, &str)| SecurityGroup {
            group_id: (*id).to_owned(),
            group_name: (*name).to_owned(),
            ..SecurityGroup::default()
        };
        let list = PrefixList {
            prefix_list_id: "pl-a".to_owned(),
            ..PrefixList::default()
        };
        let lists = has_list.then_some(list).into_iter();
        Directory {
            groups: groups
                .iter()
                .map(|each| (each.0.to_owned(), group(each)))
                .collect(),
            prefix_lists: lists
                .map(|list| (list.prefix_list_id.clone(), list))
                .collect(),
        }
    }

    #[test]
    fn what_was_applied_wins_and_what_was_removed_stays_away() {
        let file = directory(&[("sg-a", "a"), ("sg-b", "b")], true);
        let next = directory(&[("sg-a", "other"), ("sg-c", "c")], false);
        let applied = Applied::after(None, &file, &next);
        assert_eq!(applied.removed, ["pl-a".into(), "sg-b".into()].into());

        let (in_force, ignored) = applied.clone().over(file.clone());
        assert_eq!(
            (in_force, ignored.join(" ")),
            (next.clone(), "sg-a sg-b pl-a".into())
        );

        // What comes into the file later is new, and not what was removed.
        let later = directory(&[("sg-a", "other"), ("sg-b", "b"), ("sg-d", "d")], false);
        let (in_force, ignored) = applied.clone().over(later);
        let expected = directory(&[("sg-a", "other"), ("sg-c", "c"), ("sg-d", "d")], false);
        assert_eq!((in_force, ignored.join(" ")), (expected, "sg-b".into()));

        // Removed before and applied again.
        let again = directory(&[("sg-a", "a"), ("sg-b", "b")], true);
        let applied = Applied::after(Some(applied), &next, &again);
        assert_eq!(applied.removed, ["sg-c".into()].into());
        assert_eq!(applied.over(file.clone()), (file, Vec::new()));
    }
}
