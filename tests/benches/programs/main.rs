//! What each kernel program costs per packet, a change of policies, a full table, accounting, flow logs, an agent,
//! a task's and a container's network, run by `cargo xtask bench` in namespaces of its own.
//!
//! Every figure is net of the program `empty` in the same round; the median of the rounds counts.
//! That the programs did what was to be measured is asserted, what it took never is.
#![forbid(unsafe_code)]

mod accounting;

mod agent;

mod cases;

mod cni;

mod cpus;

mod ec2;

mod flow_log;

mod interval;

mod frames;

mod policies;

mod report;

mod rig;

mod table;

mod tasks;

use std::env;

use anyhow::{Context, Result};
use branchline_common::maps::CONNECTIONS;

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let object = env::var("BRANCHLINE_BENCH_OBJECT").context("run this by `cargo xtask bench`")?;
    let rounds: u32 = arguments.next().context("no rounds")?.parse()?;
    let only = arguments.next().unwrap_or_default();
    let is_json = arguments.next().is_some();
    let cpus = cpus::Cpus::allowed()?;
    cpus.stay_on_last()?;
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
    if "accounting".contains(&only) {
        let unaccounted = env::var("BRANCHLINE_UNACCOUNTED_OBJECT")?;
        amounts.extend(accounting::measure(&object, &unaccounted, rounds)?);
    }
    if "flow_log".contains(&only) {
        amounts.extend(flow_log::measure(rounds)?);
    }
    if "interval".contains(&only) {
        amounts.extend(interval::measure(&object, &cpus)?);
    }
    if "agent".contains(&only) {
        cpus.use_all()?;
        amounts.extend(agent::measure()?);
    }
    if "tasks".contains(&only) {
        cpus.use_all()?;
        amounts.extend(tasks::measure(rounds)?);
    }
    if "cni".contains(&only) {
        cpus.use_all()?;
        amounts.extend(cni::measure()?);
    }
    // Minutes of waiting for EC2's buckets: only where it is asked for.
    if only == "ec2" {
        cpus.use_all()?;
        amounts.extend(ec2::measure()?);
    }
    report::print(&machine, &results, &amounts, is_json)
}
