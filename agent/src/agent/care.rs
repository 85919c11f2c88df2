//! What tasks have is looked after: a change behind the agent is mended, or the task is marked failed
//! with the reason. Notices say when to look; each task is looked at now and then besides.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep_until};

use super::Agent;
use crate::api::Difference;
use crate::changes::{self, Change, Told};
use crate::cli::HostError;
use crate::datapath::{
    DatapathError, attach_fabric, attach_trunk, is_fabric_attached, is_trunk_attached,
};
use crate::fabric::TRUNK;
use crate::life::AttachmentStatus;
use crate::link::Link;
use crate::netlink::NetlinkError;
use crate::netns::Netns;
use crate::pace::{Look, Pace, Verdict};
use crate::progress::enter;
use crate::server::causes;
use crate::spec::TaskId;
use crate::task_check;
use crate::task_mend;
use crate::task_record::TaskRecord;
use crate::wire::Wire;

/// Each task is looked at once in so many rounds of a second, whatever notices say: they do not tell of the maps.
const ROUNDS: usize = 300;
/// The same where nothing is told.
const DEAF_ROUNDS: usize = 60;
const ROUND: Duration = Duration::from_secs(1);

/// Which task a change is of, and what care has done.
#[derive(Debug, Default)]
pub(super) struct Care {
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    of_task: HashMap<TaskId, Place>,
    /// Of the host's ends of veths, and of ENIs' own links.
    by_link: HashMap<u32, TaskId>,
    by_netns: HashMap<i32, BTreeSet<TaskId>>,
    repairs: u64,
    failed: u64,
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
    pub(super) fn begin(&self, id: &TaskId, link: &Link, eni_link: Option<u32>) {
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
    pub(super) fn end(&self, id: &TaskId) {
        self.places().forget(id);
    }

    /// Repairs since the agent started, and tasks that had to be given up.
    pub(super) fn counts(&self) -> (u64, u64) {
        let places = self.places();
        (places.repairs, places.failed)
    }

    fn places(&self) -> MutexGuard<'_, Places> {
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

    /// Tasks that `changes` may be of, all of them later than `since`.
    fn touched(&self, changes: &BTreeSet<Change>, since: Instant) -> BTreeSet<TaskId> {
        let mut touched = BTreeSet::new();
        for change in changes {
            match change {
                Change::HostLink(link) => touched.extend(self.by_link.get(link).cloned()),
                Change::Namespace(netns) => {
                    touched.extend(self.by_netns.get(netns).into_iter().flatten().cloned());
                }
                // A task's own programs are the task's.
                Change::Programs(_) => {}
                // The block is one: to mend it for one task is to mend it for all.
                Change::HostBlock => touched.extend(self.of_task.keys().next().cloned()),
                Change::Anywhere => touched.extend(self.of_task.keys().cloned()),
            }
        }
        touched.retain(|id| {
            self.of_task
                .get(id)
                .is_some_and(|place| place.since < since)
        });
        touched
    }
}

impl Agent {
    /// Looks after tasks and trunk, for ever.
    pub(super) async fn look_after(self: Arc<Self>) {
        let mut changes = match changes::listen(self.host.netlink.netns()) {
            Ok(changes) => Some(changes),
            Err(error) => {
                tracing::warn!(%error, "changes are not told; tasks are looked at each minute");
                None
            }
        };
        let rounds = if changes.is_some() {
            ROUNDS
        } else {
            DEAF_ROUNDS
        };
        let (mut paces, mut round) = (Paces::default(), Instant::now() + ROUND);
        let mut fabric = Pace::new(Instant::now());
        let mut last = None;
        loop {
            let due = paces.due().into_iter().chain(fabric.due()).min();
            let due = due.unwrap_or(round).min(round);
            tokio::select! {
                () = sleep_until(due) => {}
                found = told(changes.as_mut()) => {
                    self.note(&found, &mut paces).await;
                    if self.is_of_fabric(&found.changes) {
                        fabric.changed(Instant::now());
                    }
                }
            }
            let now = Instant::now();
            if now >= round {
                round = now + ROUND;
                last = self.next_round(last, rounds, &mut paces);
                block_in_place(|| {
                    self.look_after_trunk();
                    self.save_tasks();
                });
                fabric.changed(now);
            }
            if fabric.due().is_some_and(|due| due <= now) {
                let look = block_in_place(|| self.look_at_fabric());
                // It is never given up: the next round tries again.
                fabric.looked(Instant::now(), look);
            }
            for id in paces.take_due(now) {
                self.look_at(&id, &mut paces).await;
            }
        }
    }

    async fn note(&self, told: &Told, paces: &mut Paces) {
        let Told { since, changes } = told;
        let since = Instant::from_std(*since);
        let touched = self.care.places().touched(changes, since);
        for id in touched {
            paces.of(&id).changed(Instant::now());
        }
        let is_trunk = |wire: &Wire| changes.contains(&Change::HostLink(wire.index));
        if self.wire.as_ref().is_some_and(is_trunk) {
            block_in_place(|| self.look_after_trunk());
        }
    }

    fn is_of_fabric(&self, changes: &BTreeSet<Change>) -> bool {
        changes.iter().any(|change| match change {
            Change::Programs(netns) | Change::Namespace(netns) => {
                self.fabric().and_then(|fabric| fabric.number) == Some(*netns)
            }
            Change::Anywhere => true,
            Change::HostLink(_) | Change::HostBlock => false,
        })
    }

    /// Lets the next tasks by id be looked at, from the one after `last` on; forgets those that have gone.
    fn next_round(&self, last: Option<TaskId>, rounds: usize, paces: &mut Paces) -> Option<TaskId> {
        let ids: Vec<TaskId> = {
            let table = self.tasks.table();
            let there = table.live().filter(|task| task.is_attached());
            there.map(|task| task.spec.task_id.clone()).collect()
        };
        paces.0.retain(|id, _| ids.binary_search(id).is_ok());
        let start = last.map_or(0, |last| ids.partition_point(|id| *id <= last));
        let (before, after) = ids.split_at(start);
        let turn = after.iter().chain(before).take(ids.len().div_ceil(rounds));
        let now = Instant::now();
        turn.inspect(|id| paces.of(id).changed(now)).last().cloned()
    }

    async fn look_at(&self, id: &TaskId, paces: &mut Paces) {
        let turn = self.turn(id);
        let Ok(_turn) = turn.try_lock() else {
            paces.of(id).put_off(Instant::now());
            return;
        };
        let Some(task) = self.tasks.task(id).filter(TaskRecord::is_attached) else {
            paces.0.remove(id);
            return;
        };
        let (look, reason) = block_in_place(|| self.mend(&task));
        let is_gone = look != Look::Sound && Netns::open(&task.netns).is_err();
        match paces.of(id).looked(Instant::now(), look) {
            Verdict::GoOn if is_gone => self.give_up(task, reason).await,
            Verdict::GoOn => {}
            Verdict::Fight => {
                tracing::warn!(task = %id, reason, "somebody keeps changing it; mended more rarely from now on");
            }
            Verdict::GiveUp => self.give_up(task, reason).await,
        }
    }

    /// The task is there by `link`, and is looked after.
    pub(super) fn begin_care(&self, task: &TaskRecord, link: &Link) {
        let eni_link = self.host.plugs().own_link(&task.eni.eni_id);
        self.care.begin(&task.spec.task_id, link, eni_link);
    }

    /// Looks at a task and mends it; and what was wrong.
    fn mend(&self, task: &TaskRecord) -> (Look, String) {
        let id = &task.spec.task_id;
        let differences = match task_check::check(&self.host, task) {
            Ok(differences) if differences.is_empty() => return (Look::Sound, String::new()),
            Ok(differences) => differences,
            Err(error) => return (Look::Unmended, causes(&error)),
        };
        let mended = task_mend::mend(&self.host, task);
        let left = match &mended {
            Ok(_) => task_check::check(&self.host, task).unwrap_or_default(),
            Err(_) => differences.clone(),
        };
        match mended {
            Ok(link) if left.is_empty() => {
                self.begin_care(task, &link);
                self.care.places().repairs += 1;
                self.instruments.repairs.mended(&differences);
                tracing::info!(task = %id, what = text(&differences), "changed by somebody, mended");
                self.host.events.mended(id, differences.clone());
                (Look::Mended, text(&differences))
            }
            Ok(_) => (Look::Unmended, text(&left)),
            Err(error) => (
                Look::Unmended,
                format!("{}: {}", text(&left), causes(&error)),
            ),
        }
    }

    /// The task's network is not what it should be and cannot be made so: nothing of it is left.
    async fn give_up(&self, mut task: TaskRecord, reason: String) {
        tracing::warn!(task = %task.spec.task_id, reason, "its network cannot be mended; removed");
        task.life.stopped_reason = Some(format!(
            "its network was changed and cannot be mended: {reason}"
        ));
        enter(&self.host.events, &mut task, AttachmentStatus::Failed);
        self.care.places().failed += 1;
        self.instruments.repairs.gave_up();
        self.undo(task).await;
    }

    /// What tasks have come to in the last round is on disk from then on. What cannot be stored is no loss: a start finds
    /// it out by itself.
    pub(super) fn save_tasks(&self) {
        if let Err(error) = self.tasks.save() {
            tracing::error!(error = %causes(&error), "what tasks have come to is not stored yet");
        }
    }

    /// The trunk's program, and the trunk up: every task's packets go through it.
    fn look_after_trunk(&self) {
        // Without one, each task's ENI has a link of its own.
        let Some(wire) = &self.wire else { return };
        if let Err(error) = self.mend_trunk(wire.index) {
            tracing::error!(error = %causes(&error), "mend the trunk {}", wire.name);
        }
    }

    fn mend_trunk(&self, trunk: u32) -> Result<(), DatapathError> {
        let (datapath, host) = (&self.host.datapath, &self.host.netlink);
        let Some(link) = host.link_at(trunk)? else {
            // `status` says so; only a start makes it anew.
            return Ok(());
        };
        let is_attached = is_trunk_attached(datapath, host, &link.name, trunk)?;
        if link.up && is_attached {
            return Ok(());
        }
        attach_trunk(datapath, host, &link.name, trunk)?;
        host.set_up(trunk, true)?;
        self.care.places().repairs += 1;
        self.instruments.repairs.trunk_mended();
        tracing::warn!(
            link = link.name,
            is_attached,
            up = link.up,
            "the trunk was changed by somebody, mended"
        );
        Ok(())
    }

    /// The local VPC's router: its programs, and its end of the trunk up.
    fn look_at_fabric(&self) -> Look {
        match self.mend_fabric() {
            Ok(look) => look,
            Err(error) => {
                let error = causes(error.as_ref());
                tracing::error!(error, "mend the local VPC's end of the trunk, {TRUNK}");
                Look::Unmended
            }
        }
    }

    fn mend_fabric(&self) -> Result<Look, HostError> {
        let Some(own) = self.fabric() else {
            return Ok(Look::Sound);
        };
        let (fabric, trunk) = (&own.netlink, own.trunk);
        let Some(link) = fabric.link_at(trunk)? else {
            // As of the trunk: both ends go together.
            return Ok(Look::Sound);
        };
        let is_attached = is_fabric_attached(fabric, trunk)?;
        if link.up && is_attached {
            return Ok(Look::Sound);
        }
        if !is_attached {
            let datapath = &self.host.datapath;
            match attach_fabric(datapath, fabric, trunk) {
                Err(DatapathError::Netlink(NetlinkError::Conflict { .. })) => {
                    fabric.delete_clsact(trunk)?;
                    attach_fabric(datapath, fabric, trunk)?;
                }
                other => other?,
            }
        }
        // After its programs, as at the start; what was set down has lost its routes besides.
        if !link.up {
            own.bring_up(&self.host.netlink)?;
        }
        self.care.places().repairs += 1;
        tracing::warn!(
            is_attached,
            up = link.up,
            "the local VPC's end of the trunk was changed by somebody, mended"
        );
        Ok(Look::Mended)
    }
}

/// The next changes; never, where nothing is told.
async fn told(changes: Option<&mut UnboundedReceiver<Told>>) -> Told {
    let told = match changes {
        Some(changes) => changes.recv().await,
        None => None,
    };
    match told {
        Some(told) => told,
        None => std::future::pending().await,
    }
}

fn text(differences: &[Difference]) -> String {
    let each =
        |one: &Difference| format!("{}: {} instead of {}", one.what, one.found, one.expected);
    differences.iter().map(each).collect::<Vec<_>>().join("; ")
}

/// The pace of each task that has been looked at.
#[derive(Default)]
struct Paces(HashMap<TaskId, Pace>);

impl Paces {
    fn of(&mut self, id: &TaskId) -> &mut Pace {
        let pace = || Pace::new(Instant::now());
        self.0.entry(id.clone()).or_insert_with(pace)
    }

    fn due(&self) -> Option<Instant> {
        self.0.values().filter_map(Pace::due).min()
    }

    fn take_due(&self, now: Instant) -> Vec<TaskId> {
        let is_due = |pace: &Pace| pace.due().is_some_and(|due| due <= now);
        let due = self.0.iter().filter(|(_, pace)| is_due(pace));
        due.map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

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
        let (care, before) = (Care::default(), Instant::now());
        let ids: Vec<TaskId> = ["a", "b", "c"].map(|id| id.parse().unwrap()).to_vec();
        for (id, place) in ids.iter().zip([link(5, 0), link(6, 1), link(7, 1)]) {
            care.begin(id, &place, Some(place.index + 100));
        }
        let touched = |change, since| {
            let found = care.places().touched(&BTreeSet::from([change]), since);
            found.into_iter().map(String::from).collect::<Vec<_>>()
        };
        let later = Instant::now() + ROUND;
        assert_eq!(touched(Change::HostLink(5), later), ["a"]);
        assert_eq!(touched(Change::HostLink(106), later), ["b"]);
        assert_eq!(touched(Change::HostLink(9), later), [""; 0]);
        assert_eq!(touched(Change::Namespace(1), later), ["b", "c"]);
        assert_eq!(touched(Change::Programs(1), later), [""; 0]);
        assert_eq!(touched(Change::HostBlock, later).len(), 1);
        assert_eq!(touched(Change::Anywhere, later), ["a", "b", "c"]);
        // What the agent did itself while it made them.
        assert_eq!(touched(Change::Anywhere, before), [""; 0]);
        care.end(&ids[2]);
        assert_eq!(touched(Change::Namespace(1), later), ["b"]);
        assert_eq!(touched(Change::HostLink(7), later), [""; 0]);
        assert_eq!(touched(Change::HostLink(107), later), [""; 0]);
    }
}
