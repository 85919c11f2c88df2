//! `cargo xtask cases`: runs files of golden cases through everything that they are about.
//!
//! Builds the kernel programs and the topic's program of the crate `branchline-tests`, and starts it, where it loads
//! programs in namespaces of its own; decides nothing itself.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::build::{self, executables};
use crate::process;
use crate::sandbox;
use crate::setup::{self, Group};

/// Run files of golden cases and print each mismatch with its case
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the cases are about
    topic: Topic,
    /// Files in the format of tests/fixtures/sg_cases.json, flowlog_cases.json or flowlog_samples.json,
    /// flowlog_paths.json, hostnames.json, tmds_network.json
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// What cases can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Topic {
    /// Security groups: rules, packets and verdicts; root
    Sg,
    /// Flow logs: packets and the lines they make, published lines
    FlowLogs,
    /// Paths of flow-log files
    Paths,
    /// Hostnames of tasks, by their VPC's settings
    Hostnames,
    /// Networks as task metadata shows them
    Metadata,
}

/// Runs the command.
///
/// # Errors
/// A case came out otherwise than it says, or a file is malformed (the program has said where), or the programs do
/// not compile, or the command lacks root where it needs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (bin, topic) = match args.topic {
        Topic::Sg => ("cases", None),
        Topic::FlowLogs => ("pure_cases", Some("flow-logs")),
        Topic::Paths => ("pure_cases", Some("paths")),
        Topic::Hostnames => ("pure_cases", Some("hostnames")),
        Topic::Metadata => ("pure_cases", Some("metadata")),
    };
    let needs_root = args.topic == Topic::Sg;
    if needs_root {
        sandbox::require_privilege("cases")?;
        setup::ensure(&[Group::Build, Group::Run])?;
    } else {
        setup::ensure(&[Group::Build])?;
    }
    build::object()?;
    let program = program(bin)?;
    let mut command = if needs_root {
        sandbox::command(&program)
    } else {
        Command::new(&program)
    };
    let status = command
        .args(topic)
        .args(&args.files)
        .status()
        .with_context(|| format!("start {bin}"))?;
    ensure!(status.success(), "the cases failed ({status})");
    Ok(())
}

/// Builds a program of the tests.
fn program(bin: &str) -> Result<PathBuf> {
    let mut cargo = process::cargo("build");
    cargo.args(["--package", "branchline-tests", "--bin", bin]);
    let built = executables(&mut cargo)?.pop();
    let built = built.with_context(|| format!("cargo built no {bin}"))?;
    Ok(built.path)
}
