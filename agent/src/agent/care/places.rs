//! Whose a change is: tasks by the links and namespaces that notices name. Pure but for the time at which a task begins.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::changes::{Change, Told};
use crate::link::Link;
use crate::spec::TaskId;

/// Which task a change is of, and what care has done.
#[derive(Debug, Default)]
pub(in crate::agent) struct Care {
    places: Mutex<Places>,
}

/// Where each task is, as notices name it.
#[derive(Debug, Default)]
pub(super) struct Places {
    of_task: HashMap<TaskId, Place>,
    /// Of the host's ends of veths, and of ENIs' own links.
    by_link: HashMap<u32, TaskId>,
    by_netns: HashMap<i32, BTreeSet<TaskId>>,
    pub(super) repairs: u64,
    pub(super) failed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    link: u32,
    eni_link: Option<u32>,
    netns: Option<i32>,
    /// Notices that are older may be of the agent's own work.
    since: Instant,
}

impl Care {
    /// The task is there by `link`, its host's end, and by `eni_link` where its ENI has one of its own; it is looked after
    /// from now on.
    pub(in crate::agent) fn begin(&self, id: &TaskId, link: &Link, eni_link: Option<u32>) {
        let mut places = self.places();
        places.forget(id);
        let place = Place {
            link: link.index,
            eni_link,
            netns: link.peer_netns,
            since: Instant::now(),
        };
        places.of_task.insert(id.clone(), place);
        for index in [Some(link.index), eni_link].into_iter().flatten() {
            places.by_link.insert(index, id.clone());
        }
        if let Some(netns) = link.peer_netns {
            places.by_netns.entry(netns).or_default().insert(id.clone());
        }
    }

    /// The task goes.
    pub(in crate::agent) fn end(&self, id: &TaskId) {
        self.places().forget(id);
    }

    /// Repairs since the agent started, and tasks that had to be given up.
    pub(in crate::agent) fn counts(&self) -> (u64, u64) {
        let places = self.places();
        (places.repairs, places.failed)
    }

    pub(super) fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn forget(&mut self, id: &TaskId) {
        let Some(place) = self.of_task.remove(id) else {
            return;
        };
        for index in [Some(place.link), place.eni_link].into_iter().flatten() {
            self.by_link.remove(&index);
        }
        if let Some(netns) = place.netns
            && let Some(tasks) = self.by_netns.get_mut(&netns)
        {
            tasks.remove(id);
            if tasks.is_empty() {
                self.by_netns.remove(&netns);
            }
        }
    }

    /// Tasks that `told` may be of.
    pub(super) fn touched(&self, told: &Told) -> Touched {
        let mut places = BTreeSet::new();
        for change in &told.changes {
            match change {
                Change::HostLink(link) => places.extend(self.by_link.get(link)),
                Change::Namespace(netns) => {
                    places.extend(self.by_netns.get(netns).into_iter().flatten());
                }
                // A task's own programs are the task's.
                Change::Programs(_) => {}
                // The block is one: to mend it for one task is to mend it for all.
                Change::HostBlock => places.extend(self.of_task.keys().next()),
                Change::Anywhere => places.extend(self.of_task.keys()),
            }
        }
        let mut touched = Touched::default();
        for id in places {
            let Some(own_work) = self.of_task.get(id).map(|place| place.since) else {
                continue;
            };
            if own_work < Instant::from_std(told.since) {
                touched.surely.push(id.clone());
            } else if own_work < Instant::from_std(told.until) {
                touched.perhaps.push(id.clone());
            }
        }
        touched
    }
}

/// Tasks that were changed, by id.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// By somebody.
    pub(super) surely: Vec<TaskId>,
    /// By the agent's own work, and perhaps right after it by somebody: what is told together cannot be told apart.
    pub(super) perhaps: Vec<TaskId>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn link(index: u32, peer_netns: i32) -> Link {
        Link {
            index,
            name: format!("bl{index}"),
            kind: Some("veth".to_owned()),
            mac: None,
            mtu: 1500,
            up: true,
            noarp: false,
            peer_index: Some(2),
            peer_netns: Some(peer_netns),
        }
    }

    #[test]
    fn a_change_is_of_the_task_whose_place_it_is() {
        let (care, before) = (Care::default(), std::time::Instant::now());
        let ids: Vec<TaskId> = ["a", "b", "c"].map(|id| id.parse().unwrap()).to_vec();
        for (id, place) in ids.iter().zip([link(5, 0), link(6, 1), link(7, 1)]) {
            care.begin(id, &place, Some(place.index + 100));
        }
        let now = std::time::Instant::now();
        let touched = |change, [since, until]: [std::time::Instant; 2]| {
            let changes = BTreeSet::from([change]);
            let told = Told {
                since,
                until,
                changes,
            };
            let Touched { surely, perhaps } = care.places().touched(&told);
            [surely, perhaps].map(|ids| ids.into_iter().map(String::from).collect::<Vec<_>>())
        };
        let later = [now + SECOND, now + 2 * SECOND];
        let surely = |change| {
            let [surely, perhaps] = touched(change, later);
            assert_eq!(perhaps, [""; 0]);
            surely
        };
        assert_eq!(surely(Change::HostLink(5)), ["a"]);
        assert_eq!(surely(Change::HostLink(106)), ["b"]);
        assert_eq!(surely(Change::HostLink(9)), [""; 0]);
        assert_eq!(surely(Change::Namespace(1)), ["b", "c"]);
        assert_eq!(surely(Change::Programs(1)), [""; 0]);
        assert_eq!(surely(Change::HostBlock).len(), 1);
        assert_eq!(surely(Change::Anywhere), ["a", "b", "c"]);
        // What the agent did itself while it made them, alone and with what came right after.
        let none: [Vec<String>; 2] = [vec![], vec![]];
        assert_eq!(touched(Change::Anywhere, [before; 2]), none);
        let [surely_then, perhaps] = touched(Change::Namespace(1), [before, now + SECOND]);
        assert_eq!(surely_then, [""; 0]);
        assert_eq!(perhaps, ["b", "c"]);
        care.end(&ids[2]);
        assert_eq!(surely(Change::Namespace(1)), ["b"]);
        assert_eq!(surely(Change::HostLink(7)), [""; 0]);
        assert_eq!(surely(Change::HostLink(107)), [""; 0]);
    }
}
