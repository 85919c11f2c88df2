//! Which addresses belong to a group: those of every ENI that carries it, here or elsewhere. Pure.
//!
//! Never asks who has an address; ENIs are told to it one by one, and every change says what it changed.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

/// The private addresses and delegated prefixes of each group's ENIs.
///
/// An address counts as long as one ENI with the group has it, even when two do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    enis: BTreeMap<String, Member>,
    /// Group to network to the number of ENIs that give it.
    groups: BTreeMap<String, BTreeMap<IpNet, usize>>,
}

/// The groups that an ENI carries and the networks that it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    groups: BTreeSet<String>,
    networks: BTreeSet<IpNet>,
}

/// What the networks of one group gained and lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberChange {
    /// Networks that were none of the group's before.
    pub added: BTreeSet<IpNet>,
    /// Networks that no ENI with the group has any more.
    pub removed: BTreeSet<IpNet>,
}

impl Member {
    /// An address is a network of full length.
    pub fn new(
        groups: impl IntoIterator<Item = impl Into<String>>,
        networks: impl IntoIterator<Item = IpNet>,
    ) -> Self {
        Self {
            groups: groups.into_iter().map(Into::into).collect(),
            networks: networks.into_iter().map(|net| net.trunc()).collect(),
        }
    }
}

impl Members {
    /// Says that `eni_id` carries `groups` and has `networks`, in place of what was known of it.
    ///
    /// An address is a network of full length. Returns the groups whose networks changed.
    pub fn insert(
        &mut self,
        eni_id: &str,
        groups: impl IntoIterator<Item = impl Into<String>>,
        networks: impl IntoIterator<Item = IpNet>,
    ) -> BTreeMap<String, MemberChange> {
        self.replace(eni_id, Some(Member::new(groups, networks))).1
    }

    /// Forgets `eni_id`; one that is not known changes nothing. Returns the groups whose networks changed.
    pub fn remove(&mut self, eni_id: &str) -> BTreeMap<String, MemberChange> {
        self.replace(eni_id, None).1
    }

    /// Says what `eni_id` is now, `None` for no member. Returns what it was, which takes the change back, and the
    /// groups whose networks changed.
    pub fn replace(
        &mut self,
        eni_id: &str,
        member: Option<Member>,
    ) -> (Option<Member>, BTreeMap<String, MemberChange>) {
        let mut changes = BTreeMap::new();
        let before = match member {
            Some(member) => {
                self.count(&member, &mut changes);
                self.enis.insert(eni_id.to_owned(), member)
            }
            None => self.enis.remove(eni_id),
        };
        if let Some(before) = &before {
            self.discount(before, &mut changes);
        }
        (before, changes)
    }

    /// The networks of the group's ENIs; none for a group that no ENI carries.
    pub fn networks(&self, group_id: &str) -> impl Iterator<Item = IpNet> {
        let networks = self.groups.get(group_id).into_iter();
        networks.flat_map(|networks| networks.keys().copied())
    }

    /// The ENIs that carry the group.
    pub fn enis(&self, group_id: &str) -> impl Iterator<Item = &str> {
        let carries = move |(_, member): &(&String, &Member)| member.groups.contains(group_id);
        self.enis
            .iter()
            .filter(carries)
            .map(|(eni_id, _)| eni_id.as_str())
    }

    /// Every ENI with its groups and its networks.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>, &BTreeSet<IpNet>)> {
        let enis = self.enis.iter();
        enis.map(|(eni_id, member)| (eni_id.as_str(), &member.groups, &member.networks))
    }

    fn count(&mut self, member: &Member, changes: &mut BTreeMap<String, MemberChange>) {
        for group_id in &member.groups {
            for network in &member.networks {
                let group = self.groups.entry(group_id.clone()).or_default();
                let enis = group.entry(*network).or_default();
                *enis += 1;
                if *enis == 1 {
                    let change = changes.entry(group_id.clone()).or_default();
                    change.added.insert(*network);
                }
            }
        }
    }

    /// Comes after `count` when an ENI is replaced, so that what it keeps is never counted as gone.
    fn discount(&mut self, member: &Member, changes: &mut BTreeMap<String, MemberChange>) {
        for group_id in &member.groups {
            let Some(group) = self.groups.get_mut(group_id) else {
                continue;
            };
            for network in &member.networks {
                let Some(enis) = group.get_mut(network) else {
                    continue;
                };
                *enis -= 1;
                if *enis == 0 {
                    group.remove(network);
                    let change = changes.entry(group_id.clone()).or_default();
                    change.removed.insert(*network);
                }
            }
            if group.is_empty() {
                self.groups.remove(group_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> BTreeSet<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn of(members: &Members, group_id: &str) -> BTreeSet<IpNet> {
        members.networks(group_id).collect()
    }

    #[test]
    fn an_address_counts_as_long_as_one_eni_gives_it() {
        let mut members = Members::default();
        let shared = nets(&["10.0.1.4/32", "fd00::4/128"]);
        let first = members.insert("eni-1", ["sg-a", "sg-b"], shared.clone());
        assert_eq!(first["sg-a"].added, shared);
        assert_eq!(first["sg-b"].added, shared);
        let second = members.insert("eni-2", ["sg-a"], nets(&["10.0.1.4/32", "10.0.1.64/28"]));
        assert_eq!(second["sg-a"].added, nets(&["10.0.1.64/28"]));

        let gone = members.remove("eni-1");
        assert_eq!(gone["sg-a"].removed, nets(&["fd00::4/128"]));
        assert_eq!(gone["sg-b"].removed, shared);
        assert_eq!(of(&members, "sg-a"), nets(&["10.0.1.4/32", "10.0.1.64/28"]));
        assert_eq!(members.enis("sg-a").collect::<Vec<_>>(), ["eni-2"]);
        assert_eq!(members.enis("sg-b").count(), 0);
    }

    #[test]
    fn an_eni_told_again_changes_only_what_differs() {
        let mut members = Members::default();
        members.insert("eni-1", ["sg-a"], nets(&["10.0.1.4/32", "10.0.1.5/32"]));
        let again = members.insert("eni-1", ["sg-a"], nets(&["10.0.1.5/32", "10.0.1.6/32"]));
        let change = MemberChange {
            added: nets(&["10.0.1.6/32"]),
            removed: nets(&["10.0.1.4/32"]),
        };
        assert_eq!(again, BTreeMap::from([("sg-a".to_owned(), change)]));
        let same = members.insert("eni-1", ["sg-a"], nets(&["10.0.1.5/32", "10.0.1.6/32"]));
        assert_eq!(same, BTreeMap::new());
        assert_eq!(members.remove("eni-9"), BTreeMap::new());
    }

    proptest! {
        #[test]
        fn members_are_the_sum_of_their_enis(
            steps in proptest::collection::vec(
                (0_u8..4, proptest::option::of((
                    proptest::collection::btree_set(0_u8..3, 0..3),
                    proptest::collection::btree_set(0_u8..5, 0..4),
                ))),
                0..30,
            ),
        ) {
            let mut members = Members::default();
            let mut told = BTreeMap::new();
            let mut followed: BTreeMap<String, BTreeSet<IpNet>> = BTreeMap::new();
            for (eni, step) in steps {
                let changes = match step {
                    None => {
                        told.remove(&eni);
                        let before = members.clone();
                        let eni = format!("eni-{eni}");
                        let (member, changes) = members.replace(&eni, None);
                        let mut back = members.clone();
                        back.replace(&eni, member);
                        prop_assert_eq!(back, before);
                        changes
                    }
                    Some((groups, hosts)) => {
                        let networks: BTreeSet<IpNet> = hosts
                            .iter()
                            .map(|host| IpNet::from(std::net::IpAddr::from([10, 0, 0, *host])))
                            .collect();
                        let groups: BTreeSet<String> =
                            groups.iter().map(|group| format!("sg-{group}")).collect();
                        told.insert(eni, (groups.clone(), networks.clone()));
                        members.insert(&format!("eni-{eni}"), groups, networks)
                    }
                };
                for (group, change) in changes {
                    let followed = followed.entry(group).or_default();
                    followed.retain(|network| !change.removed.contains(network));
                    followed.extend(change.added);
                }
                for group in ["sg-0", "sg-1", "sg-2"] {
                    let expected: BTreeSet<IpNet> = told
                        .values()
                        .filter(|(groups, _)| groups.contains(group))
                        .flat_map(|(_, networks)| networks.iter().copied())
                        .collect();
                    prop_assert_eq!(&of(&members, group), &expected);
                    prop_assert_eq!(&followed.get(group).cloned().unwrap_or_default(), &expected);
                }
            }
        }
    }
}
