//! `cargo xtask cases`: runs files of golden cases through everything that can judge a packet.
//!
//! Builds the kernel programs and the program `cases` of the crate `branchline-tests`, and starts it in namespaces of
//! its own; decides nothing itself.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::build::{self, executables};
use crate::process;
use crate::sandbox;
use crate::setup::{self, Group};

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
/// A case came out otherwise than it says, or a file is malformed (the program has said where), or the programs do
/// not compile, or the command lacks root.
pub(crate) fn run(args: &Args) -> Result<()> {
    let bin = match args.topic {
        Topic::Sg => "cases",
    };
    sandbox::require_privilege("cases")?;
    setup::ensure(&[Group::Build, Group::Run])?;
    build::object()?;
    let mut cargo = process::cargo("build");
    cargo.args(["--package", "branchline-tests", "--bin", bin]);
    let program = executables(&mut cargo)?
        .pop()
        .with_context(|| format!("cargo built no {bin}"))?;
    let status = sandbox::command(&program.path)
        .args(&args.files)
        .status()
        .with_context(|| format!("start {bin}"))?;
    ensure!(status.success(), "the cases failed ({status})");
    Ok(())
}
