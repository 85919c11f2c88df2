//! What tasks have is looked after: a change behind the agent is mended, or the task is marked failed
//! with the reason. Notices say when to look; each task is looked at now and then besides.

mod places;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep_until};

pub(super) use self::places::Care;
use self::places::Touched;
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
use crate::pace::{Look, Pace, Paces, Verdict};
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
/// So many of those in doubt are looked at in a round besides: about 2 % of a core while there are more.
const IN_DOUBT_A_ROUND: usize = 32;

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
            for id in paces.due_by(now) {
                self.look_at(&id, &mut paces).await;
            }
        }
    }

    async fn note(&self, told: &Told, paces: &mut Paces) {
        let now = Instant::now();
        let Touched { surely, perhaps } = self.care.places().touched(told);
        for id in surely {
            paces.of(&id, now).changed(now);
        }
        paces.doubt(perhaps);
        let is_trunk = |wire: &Wire| told.changes.contains(&Change::HostLink(wire.index));
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

    /// Lets the next tasks by id be looked at, from the one after `last` on, and some of those in doubt; forgets those
    /// that have gone.
    fn next_round(&self, last: Option<TaskId>, rounds: usize, paces: &mut Paces) -> Option<TaskId> {
        let ids: Vec<TaskId> = {
            let table = self.tasks.table();
            let there = table.live().filter(|task| task.is_attached());
            there.map(|task| task.spec.task_id.clone()).collect()
        };
        let now = Instant::now();
        paces.keep(|id| ids.binary_search(id).is_ok());
        for id in paces.take_in_doubt(IN_DOUBT_A_ROUND) {
            paces.of(&id, now).changed(now);
        }
        let start = last.map_or(0, |last| ids.partition_point(|id| *id <= last));
        let (before, after) = ids.split_at(start);
        let turn = after.iter().chain(before).take(ids.len().div_ceil(rounds));
        turn.inspect(|id| paces.of(id, now).changed(now))
            .last()
            .cloned()
    }

    async fn look_at(&self, id: &TaskId, paces: &mut Paces) {
        let turn = self.turn(id);
        let Ok(_turn) = turn.try_lock() else {
            let now = Instant::now();
            paces.of(id, now).put_off(now);
            return;
        };
        let Some(task) = self.tasks.task(id).filter(TaskRecord::is_attached) else {
            paces.forget(id);
            return;
        };
        let (look, reason) = block_in_place(|| self.mend(&task));
        let is_gone = look != Look::Sound && Netns::open(&task.netns).is_err();
        let now = Instant::now();
        match paces.of(id, now).looked(now, look) {
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
                    fabric.delete_ingress_qdisc(trunk)?;
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
