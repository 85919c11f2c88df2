//! Scenarios of security groups through the oracle, the pure core and the loaded programs.

use branchline_tests::scenario::{
    data_plane,
    format::{self, Scenario},
    oracle::Oracle,
    random, runner,
};

/// Random scenarios of the short run and of the long one, and packets of each.
const SCENARIOS: u64 = 50;
const LONG_SCENARIOS: u64 = 10_000;
const PACKETS: usize = 100;

/// All three must say what the scenarios say, and have the same connections.
fn assert_agreement(scenarios: impl IntoIterator<Item = Scenario>) {
    let (mut oracle, mut pure) = (Oracle::default(), data_plane::pure());
    let mut program = data_plane::program();
    for scenario in scenarios {
        let judges: &mut [&mut dyn runner::Judge] = &mut [&mut oracle, &mut pure, &mut program];
        let mismatches = runner::run(&scenario, judges);
        let lines: Vec<_> = mismatches.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}

#[test]
fn scenarios_of_the_specification_and_our_own_come_out_as_they_say() {
    let golden = format::parse(include_str!("../../fixtures/sg_cases.json")).unwrap();
    let own = format::parse(include_str!("../../fixtures/sg_own_cases.json")).unwrap();
    assert_agreement(golden.into_iter().chain(own));
}

#[test]
fn random_scenarios_come_out_as_the_oracle_says() {
    assert_agreement((0..SCENARIOS).map(|seed| random::scenario(seed, PACKETS)));
}

#[test]
#[ignore = "a million packets; `cargo xtask test program --long` runs it"]
fn a_million_packets_over_ten_thousand_rule_sets_come_out_as_the_oracle_says() {
    let seeds = SCENARIOS..SCENARIOS + LONG_SCENARIOS;
    assert_agreement(seeds.map(|seed| random::scenario(seed, PACKETS)));
}
