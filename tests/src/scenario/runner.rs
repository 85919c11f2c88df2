//! Runs a scenario through judges and says where they disagree with it, or with each other.
//!
//! It knows no rules and builds no bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use branchline_oracle::{Direction as OracleDirection, Key, State};

use super::{
    format::{Change, Direction, Scenario, Step, Verdict},
    packet_format::Pkt,
    packets::Bookkeeper,
    setting::{Plugged, Setting},
};

/// A packet that meets an ENI, with nothing left open.
#[derive(Clone, Copy, Debug)]
pub struct Meeting<'a> {
    /// Second of the scenario.
    pub t: u64,
    /// Id of the ENI.
    pub eni: &'a str,
    /// The ENI, which makes the [`frame`](Plugged::frame).
    pub plugged: &'a Plugged,
    /// Seen from the ENI.
    pub direction: Direction,
    /// The packet.
    pub pkt: &'a Pkt,
}

/// What a judge says of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What becomes of it.
    pub verdict: Verdict,
    /// Whether it rides or opens a connection; of a refused packet, whether its flow has one. `None`
    /// if the judge cannot tell, which it may of refused packets only.
    pub tracked: Option<bool>,
    /// Why, in the judge's words.
    pub why: String,
}

/// A live connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Live {
    /// Which it is.
    pub key: Key,
    /// Where it is in its life.
    pub state: State,
    /// Who opened it.
    pub opener: OracleDirection,
}

/// Who can judge packets. An error is a sentence about what could not be done.
pub trait Judge {
    /// Its name in messages.
    fn name(&self) -> &'static str;

    /// Forgets everything, and starts with this setting at second 0.
    ///
    /// # Errors
    /// The setting cannot be had.
    fn set_up(&mut self, setting: &Setting) -> Result<(), String>;

    /// Changes the setting: to `setting`, by `change`.
    ///
    /// # Errors
    /// The setting cannot be had.
    fn change(&mut self, setting: &Setting, change: &Change) -> Result<(), String>;

    /// Judges a packet.
    ///
    /// # Errors
    /// The packet could not be judged.
    fn judge(&mut self, meeting: &Meeting<'_>) -> Result<Judged, String>;

    /// Counters, summed over all ENIs, by the names of the golden format, in second `t`.
    fn counters(&mut self, t: u64) -> BTreeMap<&'static str, u64>;

    /// The connections that are alive in second `t`.
    fn live(&mut self, t: u64) -> BTreeSet<Live>;
}

/// Where a judge disagrees with a scenario, or with the first judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The judge's name.
    pub judge: &'static str,
    /// The scenario's id.
    pub case: String,
    /// Index of the step; `None` after the last.
    pub step: Option<usize>,
    /// How.
    pub what: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            judge, case, what, ..
        } = self;
        match self.step {
            Some(step) => write!(f, "{judge}: case {case}, step {step}: {what}"),
            None => write!(f, "{judge}: case {case}, after the last step: {what}"),
        }
    }
}

/// Runs a scenario. Verdicts, tracking and counters are compared with what the scenario expects; live
/// connections with those of the first judge, whenever time goes on and at the end.
pub fn run(scenario: &Scenario, judges: &mut [&mut dyn Judge]) -> Vec<Mismatch> {
    let mut run = Run {
        scenario,
        setting: Setting::of(scenario),
        book: Bookkeeper::default(),
        step: None,
        mismatches: Vec::new(),
    };
    for judge in judges.iter_mut() {
        let done = judge.set_up(&run.setting);
        run.note(judge.name(), done.err());
    }
    let mut now = 0;
    for (index, step) in scenario.steps.iter().enumerate() {
        match step {
            Step::Packet(arrival) => {
                if arrival.t > now {
                    run.compare_live(judges, now);
                    now = arrival.t;
                }
                run.step = Some(index);
                let Some(plugged) = run.setting.enis.get(&arrival.eni).cloned() else {
                    let what = format!("there is no ENI {}", arrival.eni);
                    run.note("scenario", Some(what));
                    continue;
                };
                let place = (arrival.eni.as_str(), &plugged);
                let pkt = run
                    .book
                    .complete(&run.setting, place, arrival.dir, &arrival.pkt);
                let meeting = Meeting {
                    t: now,
                    eni: &arrival.eni,
                    plugged: &plugged,
                    direction: arrival.dir,
                    pkt: &pkt,
                };
                for judge in judges.iter_mut() {
                    let judged = judge.judge(&meeting);
                    let wrong = disagreement(judged, arrival.expect, arrival.tracked);
                    run.note(judge.name(), wrong);
                }
            }
            Step::Change(change) => {
                run.step = Some(index);
                run.setting.apply(change);
                for judge in judges.iter_mut() {
                    let done = judge.change(&run.setting, change);
                    run.note(judge.name(), done.err());
                }
            }
        }
    }
    run.step = None;
    run.compare_live(judges, now);
    for judge in judges.iter_mut() {
        run.compare_counters(*judge, now);
    }
    run.mismatches
}

struct Run<'a> {
    scenario: &'a Scenario,
    setting: Setting,
    book: Bookkeeper,
    step: Option<usize>,
    mismatches: Vec<Mismatch>,
}

impl Run<'_> {
    fn note(&mut self, judge: &'static str, what: Option<String>) {
        self.mismatches.extend(what.map(|what| Mismatch {
            judge,
            case: self.scenario.id.clone(),
            step: self.step,
            what,
        }));
    }

    fn compare_live(&mut self, judges: &mut [&mut dyn Judge], t: u64) {
        let Some((first, others)) = judges.split_first_mut() else {
            return;
        };
        let expected = first.live(t);
        for judge in others {
            let live = judge.live(t);
            let only_there: Vec<_> = expected.difference(&live).collect();
            let only_here: Vec<_> = live.difference(&expected).collect();
            let differs = live != expected;
            let what = format!(
                "live connections in second {t}: lacks {only_there:?}, has {only_here:?} instead"
            );
            self.note(judge.name(), differs.then_some(what));
        }
    }

    fn compare_counters(&mut self, judge: &mut dyn Judge, t: u64) {
        let counters = judge.counters(t);
        for (name, expected) in &self.scenario.expect_counters {
            let counted = counters.get(name.as_str());
            let what = match counted {
                None => Some(format!("no counter {name}")),
                Some(counted) if counted != expected => {
                    Some(format!("{name} is {counted}, expected {expected}"))
                }
                Some(_) => None,
            };
            self.note(judge.name(), what);
        }
    }
}

/// How a judgement differs from what is expected, if it does.
fn disagreement(
    judged: Result<Judged, String>,
    verdict: Option<Verdict>,
    tracked: Option<bool>,
) -> Option<String> {
    let judged = match judged {
        Ok(judged) => judged,
        Err(what) => return Some(what),
    };
    if let Some(verdict) = verdict
        && judged.verdict != verdict
    {
        return Some(format!(
            "{:?} ({}), expected {verdict:?}",
            judged.verdict, judged.why
        ));
    }
    match (judged.verdict, judged.tracked) {
        (Verdict::Accept, None) => Some("does not say whether it is tracked".to_owned()),
        (_, Some(is)) if tracked.is_some_and(|expected| expected != is) => Some(format!(
            "tracked is {is} ({}), expected {}",
            judged.why, !is
        )),
        _ => None,
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
