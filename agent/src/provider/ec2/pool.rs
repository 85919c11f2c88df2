//! Branches that wait on the trunk for tasks: who is taken, what is missing, what a look makes of them. Pure: the time
//! and what was described are what the caller says.
//!
//! A branch is known by the tag of the task store under which it was made: a store tells which of them tasks have or
//! had, and one that a reboot has emptied does not. So no branch is ever taken for waiting that somebody uses.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::provider::{Eni, VlanId};

/// Milliseconds for which a look may not show yet what was made.
const SETTLING_MS: u64 = 60_000;

/// Branches that wait, by ENI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pool {
    members: BTreeMap<String, Waiting>,
    /// One that is being made.
    pub(super) making: Option<Place>,
    /// Whether what an earlier agent left was looked for.
    pub(super) is_adopted: bool,
    /// Tasks that got one, and those that got none.
    pub(super) hits: u64,
    pub(super) misses: u64,
}

/// A branch that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    eni: Eni,
    /// Since when, in milliseconds since 1970.
    since_ms: u64,
    /// A look did not find it, or nobody knows its groups: nobody gets it until a look has found it.
    is_doubtful: bool,
}

/// Whose a branch will be that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) attachment_id: String,
    pub(super) vlan: VlanId,
}

impl Pool {
    /// `eni` waits from `now_ms` on.
    pub(super) fn insert(&mut self, eni: Eni, now_ms: u64) {
        let waiting = Waiting {
            since_ms: now_ms,
            is_doubtful: false,
            eni,
        };
        self.members.insert(waiting.eni.eni_id.clone(), waiting);
    }

    /// `eni` waits again; nobody knows which groups it has by now.
    pub(super) fn insert_doubtful(&mut self, eni: Eni, now_ms: u64) {
        let id = eni.eni_id.clone();
        self.insert(eni, now_ms);
        if let Some(waiting) = self.members.get_mut(&id) {
            waiting.is_doubtful = true;
        }
    }

    /// Takes a branch for a task: in the first of `subnets` that has any, rather one that has `groups`.
    pub(super) fn take<'a>(
        &mut self,
        subnets: impl IntoIterator<Item = &'a str>,
        groups: &BTreeSet<String>,
    ) -> Option<Eni> {
        let id = self.choose(subnets, groups)?;
        self.members.remove(&id).map(|waiting| waiting.eni)
    }

    /// Which branch [`Pool::take`] would take.
    pub(super) fn choose<'a>(
        &self,
        subnets: impl IntoIterator<Item = &'a str>,
        groups: &BTreeSet<String>,
    ) -> Option<String> {
        subnets.into_iter().find_map(|subnet| {
            let here = self.members.values();
            let here = here.filter(|one| one.eni.subnet_id == subnet && !one.is_doubtful);
            let found = here.min_by_key(|one| set(&one.eni.groups) != *groups)?;
            Some(found.eni.eni_id.clone())
        })
    }

    /// Takes any branch, to make room.
    pub(super) fn take_any(&mut self) -> Option<Eni> {
        let (_, waiting) = self.members.pop_last()?;
        Some(waiting.eni)
    }

    /// Whether one more is to be made, where `wanted` shall wait and the trunk takes `most` with the `carried` of
    /// others.
    #[must_use]
    pub(super) fn is_short(&self, wanted: usize, carried: usize, most: usize) -> bool {
        self.is_adopted
            && self.making.is_none()
            && self.members.len() < wanted
            && carried + self.members.len() < most
    }

    /// Whether `eni_id` waits.
    #[must_use]
    pub(super) fn has(&self, eni_id: &str) -> bool {
        self.members.contains_key(eni_id)
    }

    /// What waits, and what is being made for it.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.members.len() + usize::from(self.making.is_some())
    }

    /// What waits.
    pub(super) fn enis(&self) -> impl Iterator<Item = &Eni> {
        self.members.values().map(|waiting| &waiting.eni)
    }

    /// VLAN ids of both.
    #[must_use]
    pub(super) fn vlans(&self) -> BTreeSet<VlanId> {
        let made = self.enis().filter_map(|eni| eni.vlan);
        made.chain(self.making.iter().map(|place| place.vlan))
            .collect()
    }

    /// Attachments of both: no task has them, and nobody has lost them.
    pub(super) fn attachments(&self) -> impl Iterator<Item = &String> {
        let made = self.enis().map(|eni| &eni.attachment_id);
        made.chain(self.making.iter().map(|place| &place.attachment_id))
    }

    /// Takes over what an earlier agent left on the trunk, up to `wanted` and none that a task of `tasks` has or had.
    pub(super) fn adopt(
        &mut self,
        found: impl IntoIterator<Item = Eni>,
        tasks: &HashSet<String>,
        wanted: usize,
        now_ms: u64,
    ) {
        self.is_adopted = true;
        let found = found.into_iter();
        for eni in found.filter(|eni| !tasks.contains(&eni.attachment_id)) {
            if self.members.len() < wanted {
                self.insert(eni, now_ms);
            }
        }
    }

    /// What a look at `now_ms` found on the trunk, with its groups. One that it missed is nobody's for now, and given
    /// up when the next look misses it too; returns those.
    pub(super) fn looked(&mut self, found: &BTreeMap<&str, &[String]>, now_ms: u64) -> Vec<String> {
        let mut gone = Vec::new();
        for (id, waiting) in &mut self.members {
            match found.get(id.as_str()) {
                Some(groups) => {
                    waiting.eni.groups = groups.to_vec();
                    waiting.is_doubtful = false;
                }
                None if waiting.since_ms.saturating_add(SETTLING_MS) > now_ms => {}
                None if waiting.is_doubtful => gone.push(id.clone()),
                None => waiting.is_doubtful = true,
            }
        }
        self.members.retain(|id, _| !gone.contains(id));
        gone
    }
}

fn set(groups: &[String]) -> BTreeSet<String> {
    groups.iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::task_record::tests::record;

    fn eni(number: u16, subnet: &str, groups: &[&str]) -> Eni {
        Eni {
            eni_id: format!("eni-{number}"),
            attachment_id: format!("a{number}"),
            subnet_id: subnet.to_owned(),
            vlan: Some(VlanId::try_from(number).unwrap()),
            groups: groups.iter().map(ToString::to_string).collect(),
            ..record("any").eni
        }
    }

    fn pool(enis: impl IntoIterator<Item = Eni>) -> Pool {
        let mut pool = Pool {
            is_adopted: true,
            ..Pool::default()
        };
        enis.into_iter().for_each(|eni| pool.insert(eni, 0));
        pool
    }

    fn groups(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_task_gets_one_of_its_subnets_and_rather_one_with_its_groups() {
        let mut pool = pool([
            eni(1, "subnet-a", &["sg-1"]),
            eni(2, "subnet-a", &["sg-2", "sg-3"]),
            eni(3, "subnet-b", &["sg-1"]),
        ]);
        let mut take = |subnets: &[&str], ids: &[&str]| {
            let taken = pool.take(subnets.iter().copied(), &groups(ids));
            taken.map(|eni| eni.eni_id)
        };
        assert_eq!(take(&["subnet-c"], &["sg-1"]), None);
        assert_eq!(
            take(&["subnet-c", "subnet-a"], &["sg-3", "sg-2"]).unwrap(),
            "eni-2"
        );
        // The task's first choice of subnet goes before its groups.
        assert_eq!(take(&["subnet-a", "subnet-b"], &["sg-9"]).unwrap(), "eni-1");
        assert_eq!(take(&["subnet-a"], &["sg-1"]), None);
        assert_eq!(take(&["subnet-a", "subnet-b"], &["sg-1"]).unwrap(), "eni-3");
        assert_eq!(pool.len(), 0);
    }

    #[test]
    fn one_is_made_at_a_time_as_far_as_there_is_room() {
        let mut pool = pool([eni(1, "subnet-a", &[])]);
        assert!(pool.is_short(2, 5, 7));
        assert!(!pool.is_short(2, 6, 7), "the trunk is full");
        assert!(!pool.is_short(1, 0, 7), "as many as are wanted");
        pool.making = Some(Place {
            attachment_id: "a2".to_owned(),
            vlan: VlanId::try_from(2).unwrap(),
        });
        assert!(!pool.is_short(3, 0, 7), "one is on its way");
        assert_eq!((pool.len(), pool.vlans().len()), (2, 2));
        assert_eq!(pool.attachments().count(), 2);
        pool.making = None;
        pool.is_adopted = false;
        assert!(!pool.is_short(3, 0, 7), "nobody knows yet what is there");
    }

    #[test]
    fn what_a_task_has_or_had_is_never_adopted_and_no_more_than_are_wanted() {
        let mut pool = Pool::default();
        let tasks = HashSet::from(["a1".to_owned()]);
        let found = (1..=4).map(|number| eni(number, "subnet-a", &[]));
        pool.adopt(found, &tasks, 2, 0);
        let ids: Vec<_> = pool.enis().map(|eni| eni.eni_id.as_str()).collect();
        assert_eq!((ids, pool.is_adopted), (vec!["eni-2", "eni-3"], true));
    }

    #[test]
    fn what_two_looks_miss_is_given_up_and_nobodys_meanwhile() {
        let one = || eni(1, "subnet-a", &["sg-1"]);
        let mut pool = pool([one()]);
        let missed = BTreeMap::new();
        assert_eq!(pool.looked(&missed, SETTLING_MS - 1), [""; 0]);
        assert!(pool.choose(["subnet-a"], &groups(&["sg-1"])).is_some());
        assert_eq!(pool.looked(&missed, SETTLING_MS), [""; 0]);
        assert!(pool.choose(["subnet-a"], &groups(&["sg-1"])).is_none());
        // It is there after all, with groups that somebody gave it.
        let others = ["sg-2".to_owned()];
        let found = BTreeMap::from([("eni-1", &others[..])]);
        assert_eq!(pool.looked(&found, SETTLING_MS + 1), [""; 0]);
        let taken = pool.take(["subnet-a"], &groups(&["sg-2"])).unwrap();
        assert_eq!(taken.groups, others);
        pool.insert_doubtful(taken, 0);
        assert!(pool.choose(["subnet-a"], &groups(&["sg-2"])).is_none());
        assert_eq!(pool.looked(&missed, SETTLING_MS + 2), ["eni-1"]);
        assert_eq!(pool.len(), 0);
    }

    #[test]
    fn room_is_made_by_whichever_waits() {
        let mut pool = pool([eni(1, "subnet-a", &[])]);
        assert_eq!(pool.take_any().unwrap().eni_id, "eni-1");
        assert_eq!(pool.take_any(), None);
    }
}
