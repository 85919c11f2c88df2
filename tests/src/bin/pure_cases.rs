//! Runs golden files through the agent's pure code and prints where it comes out otherwise. The first
//! argument is their topic: `flow-logs` (packets and lines, published lines), `paths`, `hostnames` or
//! `metadata`.
//!
//! Exits with 1 if there is a mismatch, with 2 if a file cannot be read.
#![forbid(unsafe_code)]

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use branchline_tests::{
    awsvpc::{run_hostnames, run_metadata},
    flow_log::{Outcome, run_flow_logs, run_paths},
};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the files; true if every case comes out as it says.
fn run(arguments: &[OsString], out: &mut impl Write) -> Result<bool> {
    let (topic, files) = arguments.split_first().context("name a topic")?;
    ensure!(!files.is_empty(), "name at least one file of cases");
    let run: fn(&str) -> Result<Outcome> = match topic.to_str() {
        Some("flow-logs") => run_flow_logs,
        Some("paths") => run_paths,
        Some("hostnames") => run_hostnames,
        Some("metadata") => run_metadata,
        _ => bail!("{} is no topic", topic.display()),
    };
    let mut is_right = true;
    for file in files.iter().map(Path::new) {
        let name = file.display();
        let text = fs::read_to_string(file).with_context(|| format!("read {name}"))?;
        let outcome = run(&text).with_context(|| name.to_string())?;
        for mismatch in &outcome.mismatches {
            writeln!(out, "{mismatch}")?;
        }
        let (cases, mismatches) = (outcome.cases, outcome.mismatches.len());
        writeln!(out, "{name}: {cases} cases: {mismatches} mismatches")?;
        is_right &= outcome.mismatches.is_empty();
    }
    Ok(is_right)
}
