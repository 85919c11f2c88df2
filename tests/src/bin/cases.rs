//! Runs files of scenarios through every judge and prints where they disagree: the oracle, the pure
//! core, and the loaded programs, which need root.
//!
//! Exits with 1 if there is a mismatch, with 2 if a file cannot be read.
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use branchline_tests::scenario::{
    data_plane,
    format::{self, Scenario},
    oracle::Oracle,
    runner::{self, Judge, Mismatch},
};

fn main() -> ExitCode {
    let files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match run(&files, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the files; true if every judge agrees with every case.
fn run(files: &[PathBuf], out: &mut impl Write) -> Result<bool> {
    ensure!(!files.is_empty(), "name at least one file of cases");
    let mut scenarios = Vec::new();
    for file in files {
        scenarios.extend(read(file)?);
    }
    // The first is the measure of the others where a case says nothing.
    let mut oracle = Oracle::default();
    let (mut pure, mut program) = (data_plane::pure(), data_plane::program());
    let judges: &mut [&mut dyn Judge] = &mut [&mut oracle, &mut pure, &mut program];
    let mut mismatches = Vec::new();
    for scenario in &scenarios {
        mismatches.extend(runner::run(scenario, judges));
    }
    for mismatch in &mismatches {
        writeln!(out, "{mismatch}")?;
    }
    for judge in judges.iter() {
        writeln!(out, "{}", summary(judge.name(), &scenarios, &mismatches))?;
    }
    Ok(mismatches.is_empty())
}

fn read(file: &Path) -> Result<Vec<Scenario>> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    format::parse(&text).with_context(|| file.display().to_string())
}

/// How many cases a judge agrees with.
fn summary(judge: &str, scenarios: &[Scenario], mismatches: &[Mismatch]) -> String {
    let own = mismatches.iter().filter(|mismatch| mismatch.judge == judge);
    let mut cases: Vec<_> = own.clone().map(|mismatch| &mismatch.case).collect();
    cases.dedup();
    let steps: usize = scenarios.iter().map(|scenario| scenario.steps.len()).sum();
    format!(
        "{judge}: {} cases, {steps} steps: {} mismatches in {} cases",
        scenarios.len(),
        own.count(),
        cases.len()
    )
}
