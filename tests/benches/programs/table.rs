//! A table of connections with 1,000,000 flows: its memory, and what filling, walking and sweeping
//! it takes.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use branchline::{
    datapath::{FlowTables, program::TRUNK_INGRESS},
    flows::{collect, pause},
};
use branchline_common::{conntrack::SWEEP_GRACE_SECONDS, maps::Eni};

use nix::time::{ClockId, clock_gettime};

use crate::{
    cases::{PASS, REDIRECT, SHOT, opening},
    report::{Amount, amount},
    rig::{EMPTY, Measured, Rig, Which, eni_of},
};

const CONNECTIONS: u32 = 1_048_576;
const FLOWS: u32 = 1_000_000;

/// Fills a table, walks it while all live, and sweeps it when all are dead.
pub(crate) fn measure(object: &str) -> Result<Vec<Amount>> {
    let mut rig = Rig::load(object, CONNECTIONS)?;
    let bytes = memory()? as f64;
    rig.reset(Which::Branch)?;
    let insertion = fill(&mut rig)?;

    let tables = rig.datapath.flow_tables();
    let mut keys = Vec::new();
    let start = processor_time()?;
    tables.each_connection(|key, _| keys.push(*key))?;
    let walk = processor_time()? - start;
    let epoch = rig.datapath.control()?.epoch;
    ensure!(
        keys.len() == FLOWS as usize,
        "{} flows are there",
        keys.len()
    );
    let share = share(&mut rig, &tables)?;
    ensure!(rig.datapath.sweep(&keys, epoch)? == 0, "a live flow went");

    rig.reset(Which::Branch)?;
    kill_at_once(&mut rig)?;
    fill(&mut rig)?;
    // A flow dies a tick after its packet.
    sleep(Duration::from_secs(u64::from(SWEEP_GRACE_SECONDS) + 1));
    let start = Instant::now();
    let removed = rig.datapath.sweep(&keys, epoch)?;
    let removal = start.elapsed();
    ensure!(removed == FLOWS, "{removed} dead flows went");
    Ok(vec![
        amount(
            "table of 1,048,576 connections: memory",
            bytes / 1e6,
            "MB",
            None,
        ),
        amount(
            "... per connection",
            bytes / f64::from(CONNECTIONS),
            "bytes",
            None,
        ),
        amount("... opening 1,000,000 flows, each", insertion, "ns", None),
        amount(
            "... a walk over 1,000,000 live flows, processor time",
            walk.as_secs_f64(),
            "s",
            None,
        ),
        amount(
            "... the same, ns per entry read",
            walk.as_secs_f64() * 1e9 / f64::from(FLOWS),
            "ns",
            None,
        ),
        amount(
            "... drain and sweep of a minute, share of a core",
            share * 100.0,
            "%",
            Some(2.0),
        ),
        amount(
            "... removing 1,000,000 dead ones",
            removal.as_secs_f64(),
            "s",
            None,
        ),
    ])
}

/// Processor time of a flow log's drain when every flow was active in its minute, and of the sweeps
/// that come beside it, as a part of the minute. Writing the file is not in it.
fn share(rig: &mut Rig, tables: &FlowTables) -> Result<f64> {
    let (clock, ticks) = (*rig.datapath.clock(), rig.datapath.ticks()?);
    let epoch = rig.datapath.control()?.epoch;
    let start = processor_time()?;
    let collected = collect(tables, clock, epoch, ticks)?;
    let drain = processor_time()? - start;
    ensure!(
        collected.records == FLOWS as usize,
        "{} records",
        collected.records
    );
    ensure!(collected.dead == 0, "{} live flows may go", collected.dead);
    // An epoch that nothing was counted in: only what may go.
    let start = processor_time()?;
    collect(tables, clock, epoch + 1, ticks)?;
    let sweep = processor_time()? - start;
    let minute = Duration::from_secs(60);
    // Each sweep is followed by its pause, whose length the drain's time adds to.
    let sweeps =
        (minute.as_secs_f64() - pause(drain).as_secs_f64()) / (sweep + pause(sweep)).as_secs_f64();
    let spent = drain.as_secs_f64() + sweeps.max(0.0) * sweep.as_secs_f64();
    Ok(spent / minute.as_secs_f64())
}

/// Processor time of this process, in its own code and in the kernel.
pub(crate) fn processor_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into())
}

/// Lets the flows that come be dead in the next tick.
fn kill_at_once(rig: &mut Rig) -> Result<()> {
    let eni = Eni {
        timeouts: [1; 16],
        ..eni_of(&rig.datapath, Which::Branch)
    };
    Ok(rig.datapath.set_eni(Which::Branch as u32, &eni)?)
}

/// Opens the flows; returns net nanoseconds of each.
fn fill(rig: &mut Rig) -> Result<f64> {
    let (frame, mut tagged, mut bare) = opening();
    let base = rig.prepared(EMPTY, &frame, &mut bare, FLOWS, SHOT)?;
    let pair = rig.prepared(Measured::Pop, &frame, &mut tagged.clone(), FLOWS, PASS)? - base;
    let program = Measured::Program(TRUNK_INGRESS);
    let all = rig.prepared(program, &frame, &mut tagged, FLOWS, REDIRECT)?;
    // `prepare` puts the tag on that the program takes off.
    Ok(all - base - pair / 2.0)
}

/// Bytes that the kernel accounts for the table, of which this process has the only one.
fn memory() -> Result<u64> {
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.strip_prefix(':')?.trim().parse::<u64>().ok()
        };
        if field("max_entries") == Some(u64::from(CONNECTIONS)) {
            return field("memlock").context("the kernel does not say what a map takes");
        }
    }
    anyhow::bail!("no map has {CONNECTIONS} entries")
}
