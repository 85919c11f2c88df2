//! Tier 1: the table and random frames through the pure pipeline. Needs no privilege.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod awsvpc;

mod flow_log;

mod golden;

mod policy;

mod properties;

use branchline_tests::{pure::Pure, table};

#[test]
fn every_case_of_the_table_comes_out_as_it_says() {
    let wrong: Vec<_> = table::cases()
        .iter()
        .filter_map(|case| case.run(&mut Pure::default()).err())
        .collect();
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
