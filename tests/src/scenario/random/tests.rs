#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use branchline_oracle::Step as Decision;

use super::*;
use crate::scenario::{format, runner::Judge};

const SCENARIOS: u64 = 500;
const PACKETS: usize = 60;
/// How often each step has to decide.
const ENOUGH: u64 = 40;
/// How often each state has to be left at the end of a scenario.
const ENOUGH_LEFT: u64 = 5;

#[test]
fn every_step_of_the_specification_decides_often_enough() {
    let mut oracle = Oracle::default();
    let mut states = BTreeMap::new();
    for seed in 0..SCENARIOS {
        let scenario = scenario(seed, PACKETS);
        let mismatches = runner::run(&scenario, &mut [&mut oracle]);
        assert_eq!(mismatches, [], "{scenario:?}");
        for live in oracle.live(scenario.seconds()) {
            *states.entry(live.state).or_insert(0_u64) += 1;
        }
    }
    let steps = &oracle.steps;
    // Every packet meets an ENI that is there.
    let rare: Vec<_> = Decision::ALL
        .iter()
        .filter(|step| **step != Decision::UnknownEni)
        .filter(|step| steps.get(step).copied().unwrap_or_default() < ENOUGH)
        .collect();
    assert!(rare.is_empty(), "{rare:?} are rare of {steps:#?}");
    assert_eq!(states.len(), 11, "{states:?}");
    let is_enough = states.values().all(|count| *count >= ENOUGH_LEFT);
    assert!(is_enough, "{states:?}");
}

#[test]
fn a_scenario_can_be_written_and_run_again() {
    let scenarios: Vec<_> = (0..20).map(|seed| scenario(seed, PACKETS)).collect();
    let text = format::text(&scenarios).unwrap();
    assert_eq!(format::parse(&text).unwrap(), scenarios);
    assert_eq!(scenario(7, PACKETS), scenarios[7]);
}
