//! Tier 2: the table and random frames through the loaded programs. Needs CAP_BPF.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod loaded;

use branchline_tests::{
    case::{Case, Step, Tables, World},
    pure::Pure,
    table,
};
use loaded::Loaded;

/// Runs a case in both worlds; both must say what it says and leave the same.
fn run_in_both(case: &Case, loaded: &mut Loaded) -> Result<(), String> {
    let mut pure = Pure::default();
    let mut case = case.clone();
    case.steps.retain(|step| match step {
        Step::Frame { frame, .. } => loaded::is_runnable(frame),
        Step::Wait(_) | Step::Epoch | Step::Rules(..) => true,
    });
    case.run(loaded)?;
    case.run(&mut pure)?;
    // Timers are in ticks, of which this kernel may have another number in a second.
    let (loaded_left, pure_left) = (scaled(loaded.tables(), loaded.ticks_per_second()), scaled(pure.tables(), branchline_tests::pure::TICKS_PER_SECOND));
    if loaded_left == pure_left {
        Ok(())
    } else {
        Err(format!("{}: the programs left {loaded_left:#?}, the pure pipeline {pure_left:#?}", case.name))
    }
}

fn scaled(mut tables: Tables, ticks_per_second: u32) -> Tables {
    for (tracking, _) in tables.connections.values_mut() {
        tracking.timeout /= ticks_per_second;
    }
    tables
}

#[test]
fn every_case_of_the_table_comes_out_as_it_says() {
    let mut loaded = Loaded::new(4096);
    let cases = table::cases();
    let (small, ordinary): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.max_connections > 0);
    let mut wrong: Vec<_> = ordinary
        .into_iter()
        .filter_map(|case| run_in_both(case, &mut loaded).err())
        .collect();
    for case in small {
        let mut loaded = Loaded::new(case.max_connections as u32);
        wrong.extend(run_in_both(case, &mut loaded).err());
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}
