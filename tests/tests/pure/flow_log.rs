//! Golden files of flow logs through the agent's pure code.

use branchline_tests::flow_log::{Outcome, run_flow_logs, run_paths};

fn assert_right(outcome: &Outcome, cases: usize) {
    let lines: Vec<_> = outcome.mismatches.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
    assert_eq!(outcome.cases, cases);
}

#[test]
fn packets_make_the_lines_of_the_specification() {
    let text = include_str!("../../fixtures/flowlog_cases.json");
    assert_right(&run_flow_logs(text).unwrap(), 15);
}

#[test]
fn packets_make_the_lines_of_our_own_cases() {
    let text = include_str!("../../fixtures/flowlog_own_cases.json");
    assert_right(&run_flow_logs(text).unwrap(), 10);
}

#[test]
fn published_lines_are_read_and_written_again() {
    let text = include_str!("../../fixtures/flowlog_samples.json");
    assert_right(&run_flow_logs(text).unwrap(), 23);
}

#[test]
fn records_go_to_the_files_of_the_specification() {
    let text = include_str!("../../fixtures/flowlog_paths.json");
    assert_right(&run_paths(text).unwrap(), 7);
}
