//! `cargo xtask cases`: runs files of golden cases through everything that can judge a packet.
//!
//! Builds the program `cases` of the crate `branchline-tests` and starts it; decides nothing itself.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::build::executables;
use crate::process;

/// Run files of golden cases and print each mismatch with its case and step
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the cases are about
    topic: Topic,
    /// Files in the format of tests/fixtures/sg_cases.json
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// What cases can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Topic {
    /// Security groups
    Sg,
}

/// Runs the command.
///
/// # Errors
/// A case came out otherwise than it says, or a file is malformed (the program has said where), or the program does
/// not compile.
pub(crate) fn run(args: &Args) -> Result<()> {
    let bin = match args.topic {
        Topic::Sg => "cases",
    };
    let mut cargo = process::cargo("build");
    cargo.args(["--package", "branchline-tests", "--bin", bin]);
    let program = executables(&mut cargo)?
        .pop()
        .with_context(|| format!("cargo built no {bin}"))?;
    let status = std::process::Command::new(&program.path)
        .args(&args.files)
        .status()
        .with_context(|| format!("start {bin}"))?;
    ensure!(status.success(), "the cases failed ({status})");
    Ok(())
}
