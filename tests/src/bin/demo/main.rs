//! The demo: three tasks, real traffic, some of it denied, and the flow log that proves it.
//!
//! `cargo xtask demo` runs it in namespaces of its own. Prints what it does; fails if any verdict or
//! count is not as expected. Never touches anything outside its namespaces but the folder it is given.
#![forbid(unsafe_code)]

mod attempts;

mod stage;

mod servers;

mod echo;

mod traffic;

mod tcp_counters;

mod judge;

mod screen;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::attempts::{ATTEMPTS, HTTP_PORT, Place, STORE_PORT};
use crate::judge::{Judgement, Verdicts, judge};
use crate::screen::Screen;
use crate::stage::Stage;
use crate::traffic::Outcome;

/// For the last acknowledgements to pass before the agent is stopped.
const SETTLE: Duration = Duration::from_millis(50);

/// How `branchline status` begins lines of which there are too many for a demo.
const HOST_CHANGE: &str = "changed on host";

fn main() -> ExitCode {
    let screen = Screen::new();
    match run(&screen) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            screen.result(false, &format!("demo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Plays the story; true if everything was as expected.
fn run(screen: &Screen) -> Result<bool> {
    let folder = std::env::args_os().nth(1);
    let folder = folder.context("usage: demo FOLDER, to copy the flow log to")?;
    let folder = Path::new(&folder);
    let started = Instant::now();
    let stage = Stage::set()?;
    introduce(screen, &stage)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let outcomes = runtime.block_on(play(&stage))?;
    std::thread::sleep(SETTLE);
    stage.host.stop_agent()?;
    drop(runtime);
    let rows = stage.host.flow_rows()?;
    let files = stage.copy_flows(folder)?;
    ensure!(!files.is_empty(), "the agent has written no flow-log file");
    let verdicts = judge(outcomes, &rows, &stage.enis);
    show(screen, &verdicts);
    let seconds = started.elapsed().as_secs_f64();
    conclude(screen, &verdicts, folder, seconds);
    Ok(verdicts.faults() == 0)
}

/// What the product itself says of the tasks.
fn introduce(screen: &Screen, stage: &Stage) -> Result<()> {
    screen.heading("Three tasks, each with an ENI of its own, in a VPC of two subnets");
    for command in ["task ls", "status"] {
        let words: Vec<&str> = command.split(' ').collect();
        let output = stage.host.branchline_ok(&words)?;
        let (changes, shown): (Vec<&str>, Vec<&str>) = output
            .lines()
            .partition(|line| line.starts_with(HOST_CHANGE));
        screen.command(&format!("branchline {command}"), &shown);
        if !changes.is_empty() {
            let lines = changes.len();
            screen.note(&format!(
                "and {lines} lines of what the NAT gateway changed on the host"
            ));
        }
    }
    Ok(())
}

/// Starts the servers and makes all attempts at once.
async fn play(stage: &Stage) -> Result<Vec<Outcome>> {
    for family in 0..2 {
        let end = |place| &stage.ends(place)[family];
        for place in [Place::Web, Place::Outside] {
            servers::serve_http(&end(place).netns, end(place).address, HTTP_PORT)?;
        }
        let db = end(Place::Db);
        servers::serve_store(&db.netns, db.address, STORE_PORT)?;
    }
    let mut made = Vec::new();
    for attempt in &ATTEMPTS {
        for family in 0..2 {
            let from = stage.ends(attempt.from)[family].clone();
            let to = stage.ends(attempt.to)[family].address;
            made.push((attempt, tokio::spawn(traffic::make(attempt, from, to))));
        }
    }
    let mut outcomes = Vec::new();
    for (attempt, outcome) in made {
        outcomes.push(outcome.await?.with_context(|| attempt.to_string())?);
    }
    for outcome in &mut outcomes {
        let ends = [outcome.attempt.from, outcome.attempt.to];
        for [end, _] in ends.map(|place| stage.ends(place)) {
            outcome.has_repeats |= tcp_counters::has_repeated(&end.netns)?;
        }
    }
    Ok(outcomes)
}

fn show(screen: &Screen, verdicts: &Verdicts) {
    screen
        .heading("Attempts, and the flow-log rows that prove them: sender's ENI │ receiver's ENI");
    screen.judgements(&verdicts.judgements);
    for stray in &verdicts.strays {
        screen.fault(&format!("a row that no attempt explains: {stray}"));
    }
}

fn conclude(screen: &Screen, verdicts: &Verdicts, folder: &Path, seconds: f64) {
    let attempts = verdicts.judgements.len();
    let views = verdicts
        .judgements
        .iter()
        .flat_map(|judgement| &judgement.ways)
        .map(|way| way.views.len());
    let rows: usize = views.sum();
    let faults = verdicts.faults();
    let text = if faults == 0 {
        format!(
            "{attempts} attempts, {rows} rows: every verdict, packet and byte as expected, in {seconds:.1} s"
        )
    } else {
        format!("{faults} faults in {attempts} attempts: see the lines marked ✘")
    };
    screen.result(faults == 0, &text);
    let has_repeats = |judgement: &Judgement| judgement.outcome.has_repeats;
    if verdicts.judgements.iter().any(has_repeats) {
        screen.note("TCP sent some segments twice or out of order: of those connections, bytes were only held against the least");
    }
    screen.note(&format!(
        "flow log: zcat $(find {} -name '*.log.gz')",
        folder.display()
    ));
}
