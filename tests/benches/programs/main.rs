//! What each kernel program costs per packet, a change of policies and a full table, run by `cargo xtask bench` in namespaces of its own.
//!
//! Every figure is net of the program `empty` in the same round; the median of the rounds counts.
//! That the programs did what was to be measured is asserted, what it took never is.
#![forbid(unsafe_code)]

mod cases;

mod frames;

mod policies;

mod report;

mod rig;

mod table;

use std::env;

use anyhow::{Context, Result};
use branchline_common::maps::CONNECTIONS;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let object = env::var("BRANCHLINE_BENCH_OBJECT").context("run this by `cargo xtask bench`")?;
    let rounds: u32 = arguments.next().context("no rounds")?.parse()?;
    let only = arguments.next().unwrap_or_default();
    let is_json = arguments.next().is_some();
    stay_on_one_cpu()?;
    let rounds = rounds.max(1);
    let mut rig = rig::Rig::load(&object, CONNECTIONS)?;
    let machine = cases::machine(&mut rig, rounds)?;
    let mut results = Vec::new();
    for group in cases::groups() {
        results.extend(cases::measure(&mut rig, &group, rounds, &only)?);
    }
    drop(rig);
    let mut amounts = report::ratios(&results);
    if "policies".contains(&only) {
        amounts.extend(policies::measure(rounds)?);
    }
    if "table".contains(&only) {
        amounts.extend(table::measure(&object)?);
    }
    report::print(&machine, &results, &amounts, is_json)
}

/// The maps of a CPU are in that CPU's cache.
fn stay_on_one_cpu() -> Result<()> {
    let me = Pid::from_raw(0);
    let allowed = sched_getaffinity(me)?;
    let last = (0..CpuSet::count())
        .rev()
        .find(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .context("no CPU")?;
    let mut one = CpuSet::new();
    one.set(last)?;
    Ok(sched_setaffinity(me, &one)?)
}
