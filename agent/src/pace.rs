//! How often a task's network may be looked at and mended: soon after a change, rarer and rarer where
//! somebody keeps changing it. Pure: time is what the caller says.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::spec::TaskId;

/// From a change to the look at it: those of one command are one.
const SETTLE: Duration = Duration::from_millis(20);
/// Between two looks that find nothing.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// After the first repair, doubled by each that follows, up to the longest.
const REPAIR_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Without a repair for so long, all is forgotten.
const CALM: Duration = Duration::from_secs(300);
/// Repairs in a row from which on somebody is said to work against the agent.
const FIGHT: u32 = 6;
/// Attempts in a row that fail before a task is given up.
const ATTEMPTS: u32 = 6;

/// What a look at a task's network found, and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// All is well.
    Sound,
    /// Something was mended.
    Mended,
    /// Something could not be mended.
    Unmended,
}

/// What is to be done about a look beyond the look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    GoOn,
    /// To be said, once: somebody keeps changing it.
    Fight,
    /// The task has failed.
    GiveUp,
}

/// The pace of one task.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Before this it is not looked at.
    earliest: Instant,
    /// When it is to be looked at.
    due: Option<Instant>,
    last_repair: Option<Instant>,
    repairs: u32,
    failures: u32,
    /// Whether it has been said that somebody works against the agent.
    is_fight: bool,
}

impl Pace {
    /// Of a task that nobody has changed yet.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            earliest: now,
            due: None,
            last_repair: None,
            repairs: 0,
            failures: 0,
            is_fight: false,
        }
    }

    /// Something of the task has changed at `now`.
    pub fn changed(&mut self, now: Instant) {
        let due = (now + SETTLE).max(self.earliest);
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// When it is to be looked at.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It could not be looked at now: somebody is at work on it.
    pub fn put_off(&mut self, now: Instant) {
        self.due = Some(now + LOOK_PAUSE);
    }

    /// It was looked at.
    pub fn looked(&mut self, now: Instant, look: Look) -> Verdict {
        self.due = None;
        let is_calm = self.last_repair.is_none_or(|last| now >= last + CALM);
        if is_calm {
            self.repairs = 0;
            self.is_fight = false;
        }
        if look == Look::Sound {
            self.failures = 0;
            self.earliest = self.earliest.max(now + LOOK_PAUSE);
            return Verdict::GoOn;
        }
        let pause = REPAIR_PAUSE.saturating_mul(1 << self.repairs.min(16));
        self.earliest = now + pause.min(LONGEST_PAUSE);
        self.last_repair = Some(now);
        self.repairs += 1;
        if look == Look::Mended {
            self.failures = 0;
            // A look in between may have failed: it was changed again before it could be found mended.
            let is_news = self.repairs >= FIGHT && !self.is_fight;
            self.is_fight |= is_news;
            return if is_news {
                Verdict::Fight
            } else {
                Verdict::GoOn
            };
        }
        self.failures += 1;
        if self.failures >= ATTEMPTS {
            return Verdict::GiveUp;
        }
        self.due = Some(self.earliest);
        Verdict::GoOn
    }
}

/// When which task is looked at.
#[derive(Debug, Default)]
pub struct Paces {
    /// Of each task that has been looked at.
    of_task: HashMap<TaskId, Pace>,
    /// Tasks that somebody may have changed.
    in_doubt: BTreeSet<TaskId>,
}

impl Paces {
    /// That of a task, which begins at `now` unless it was looked at before.
    pub fn of(&mut self, id: &TaskId, now: Instant) -> &mut Pace {
        let pace = || Pace::new(now);
        self.of_task.entry(id.clone()).or_insert_with(pace)
    }

    /// Somebody may have changed these tasks.
    pub fn doubt(&mut self, tasks: impl IntoIterator<Item = TaskId>) {
        self.in_doubt.extend(tasks);
    }

    /// When the first task is to be looked at.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.of_task.values().filter_map(Pace::due).min()
    }

    /// Tasks that are to be looked at by `now`.
    #[must_use]
    pub fn due_by(&self, now: Instant) -> Vec<TaskId> {
        let is_due = |pace: &Pace| pace.due().is_some_and(|due| due <= now);
        let due = self.of_task.iter().filter(|(_, pace)| is_due(pace));
        due.map(|(id, _)| id.clone()).collect()
    }

    /// Forgets all others.
    pub fn keep(&mut self, is_there: impl Fn(&TaskId) -> bool) {
        self.of_task.retain(|id, _| is_there(id));
        self.in_doubt.retain(is_there);
    }

    /// Forgets a task.
    pub fn forget(&mut self, id: &TaskId) {
        self.of_task.remove(id);
    }

    /// At most so many of those in doubt, who are so no more.
    pub fn take_in_doubt(&mut self, most: usize) -> Vec<TaskId> {
        let next = std::iter::from_fn(|| self.in_doubt.pop_first());
        next.take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Somebody changes it again as soon as it is mended, for so many seconds; milliseconds between repairs.
    fn fight(look: Look, seconds: u64) -> (Vec<u128>, Vec<Verdict>) {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::new(start), start);
        let (mut pauses, mut verdicts) = (Vec::new(), Vec::new());
        while now < start + Duration::from_secs(seconds) {
            pace.changed(now);
            let due = pace.due().unwrap_or(now);
            pauses.push((due - now).as_millis());
            now = due;
            verdicts.push(pace.looked(now, look));
        }
        (pauses, verdicts)
    }

    #[test]
    fn repairs_become_rarer_and_a_fight_is_said_once() {
        let (pauses, verdicts) = fight(Look::Mended, 3_600);
        assert_eq!(pauses[..6], [20, 100, 200, 400, 800, 1_600]);
        assert_eq!(pauses.last(), Some(&60_000));
        assert!(pauses.len() < 72, "{} repairs in an hour", pauses.len());
        let said = verdicts.iter().filter(|one| **one == Verdict::Fight);
        assert_eq!(said.count(), 1);
        assert!(!verdicts.contains(&Verdict::GiveUp));
    }

    #[test]
    fn a_fight_is_said_whichever_of_its_looks_fail() {
        for failing in 0..8 {
            let mut now = Instant::now();
            let (mut pace, mut said) = (Pace::new(now), 0);
            for look in 0..20 {
                pace.changed(now);
                now = pace.due().unwrap_or(now);
                let found = if look == failing {
                    Look::Unmended
                } else {
                    Look::Mended
                };
                said += u32::from(pace.looked(now, found) == Verdict::Fight);
            }
            assert_eq!(said, 1, "look {failing} failed");
        }
    }

    #[test]
    fn what_cannot_be_mended_is_tried_some_times_unasked() {
        let start = Instant::now();
        let (mut pace, mut attempts) = (Pace::new(start), 0);
        pace.changed(start);
        while let Some(due) = pace.due() {
            attempts += 1;
            let verdict = pace.looked(due, Look::Unmended);
            assert_eq!(verdict == Verdict::GiveUp, attempts == ATTEMPTS);
        }
        assert_eq!(attempts, ATTEMPTS);
    }

    #[test]
    fn a_storm_of_changes_that_harm_nothing_is_looked_at_twice_a_second() {
        let (pauses, _) = fight(Look::Sound, 60);
        assert!(pauses.len() <= 121, "{}", pauses.len());
        let mut pace = Pace::new(Instant::now());
        let later = Instant::now() + CALM;
        assert_eq!(pace.looked(later, Look::Mended), Verdict::GoOn);
        pace.changed(later);
        pace.changed(later + Duration::from_secs(1));
        assert_eq!(pace.due(), Some(later + REPAIR_PAUSE));
    }

    #[test]
    fn those_in_doubt_are_looked_at_a_few_at_a_time() {
        let mut paces = Paces::default();
        let all = ["a", "b", "c"].map(|id| id.parse::<TaskId>().unwrap());
        paces.doubt(all.clone());
        let rounds = [(); 3].map(|()| paces.take_in_doubt(2).len());
        assert_eq!(rounds, [2, 1, 0]);
        paces.doubt(all);
        paces.keep(|id| id.as_str() == "b");
        assert_eq!(paces.take_in_doubt(2).len(), 1);
    }
}
