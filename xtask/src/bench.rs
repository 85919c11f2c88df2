//! `cargo xtask bench`: nanoseconds per packet of each kernel program, milliseconds of a change of
//! policies, what a full table takes. Asserts nothing about time.
//!
//! Builds the agent as it is installed, the bench's own programs and the bench itself, and runs it in namespaces of its own.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::build::{self, EBPF_FLAGS};
use crate::process::run as run_command;
use crate::sandbox;
use crate::setup::{self, Group};
use crate::toolchain::{self, TARGET};
use crate::workspace;

/// Measure what each kernel program costs per packet
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write JSON to this file instead of printing a table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rounds of each case, of which the median counts
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Only cases whose program and name contain this; `policies`, `table`
    #[arg(long, default_value = "")]
    only: String,
}

/// Runs the command.
///
/// # Errors
/// A program does not load, or did other than what is to be measured.
pub(crate) fn run(args: &Args) -> Result<()> {
    sandbox::require_privilege("bench")?;
    setup::ensure(&[Group::Build, Group::Run])?;
    let (agent, mut bench) = build::agent_and(true, &["--bench", "programs"])?;
    let object = object()?;
    let bench = bench.pop().context("cargo built no bench")?;
    let mut command = sandbox::command(&bench);
    command
        .env("BRANCHLINE_BENCH_OBJECT", object)
        .env(build::AGENT_VARIABLE, agent)
        .args([args.rounds.to_string(), args.only.clone()]);
    if let Some(path) = &args.json {
        let file = File::create(path).with_context(|| format!("write {}", path.display()))?;
        command.arg("json").stdout(file);
    }
    let status = command.status().context("start the bench")?;
    ensure!(status.success(), "the bench failed ({status})");
    Ok(())
}

/// Compiles the bench's own programs to `target/bpf/branchline-bench.o`.
fn object() -> Result<PathBuf> {
    let mut cargo = toolchain::find_compiler()?.cargo("build")?;
    cargo.args([
        "--quiet",
        "--features",
        "bench",
        "--bin",
        "branchline-bench",
    ]);
    run_command(cargo.env("RUSTFLAGS", EBPF_FLAGS)).context("compile the bench's programs")?;
    let built = workspace::target("ebpf")
        .join(TARGET)
        .join("release/branchline-bench");
    let object = workspace::target("bpf/branchline-bench.o");
    fs::copy(&built, &object).with_context(|| format!("write {}", object.display()))?;
    Ok(object)
}
