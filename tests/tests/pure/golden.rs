//! Scenarios of security groups through the oracle and the pure core.

use branchline_tests::scenario::{
    data_plane,
    format::{self, Scenario},
    oracle::Oracle,
    random, runner,
};

/// How many scenarios of the specification there are.
const GOLDEN: usize = 56;
/// Random scenarios, and packets of each.
const SCENARIOS: u64 = 300;
const PACKETS: usize = 60;

/// Every judge must say what the scenarios say, and the pure core have the oracle's connections.
fn assert_agreement(scenarios: impl IntoIterator<Item = Scenario>) {
    let (mut oracle, mut pure) = (Oracle::default(), data_plane::pure());
    let mut mismatches = Vec::new();
    for scenario in scenarios {
        mismatches.extend(runner::run(&scenario, &mut [&mut oracle, &mut pure]));
    }
    let lines: Vec<_> = mismatches.iter().map(ToString::to_string).collect();
    assert!(
        lines.is_empty(),
        "{} mismatches:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

#[test]
fn scenarios_of_the_specification_come_out_as_it_says() {
    let scenarios = format::parse(include_str!("../../fixtures/sg_cases.json")).unwrap();
    assert_eq!(scenarios.len(), GOLDEN);
    assert_agreement(scenarios);
}

#[test]
fn our_own_scenarios_come_out_as_they_say() {
    assert_agreement(format::parse(include_str!("../../fixtures/sg_own_cases.json")).unwrap());
}

#[test]
fn random_scenarios_come_out_as_the_oracle_says() {
    assert_agreement((0..SCENARIOS).map(|seed| random::scenario(seed, PACKETS)));
}
