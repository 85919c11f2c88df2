//! `cargo xtask bench`: nanoseconds per packet of each kernel program, milliseconds of a change of
//! policies, what a full table takes, rows of flow logs per second. Asserts nothing about time.
//!
//! Builds the agent's object, the bench's own programs and the bench itself, and runs it in namespaces of its own.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::build::{self, EBPF_FLAGS, executables};
use crate::process::{self, run as run_command};
use crate::sandbox;
use crate::setup::{self, Group};
use crate::toolchain::{self, TARGET};
use crate::workspace;

/// The bench of flow logs, and what selects it.
const FLOW_LOG: &str = "flow_log";

/// Measure what each kernel program costs per packet, and each row of a flow log
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write JSON to this file instead of printing a table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Rounds of each case, of which the median counts
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Only cases whose program and name contain this; `policies`, `table`; `flow_log`, which is measured only if it
    /// is named, and needs no root
    #[arg(long, default_value = "")]
    only: String,
}

/// Runs the command.
///
/// # Errors
/// A program does not load, or did other than what is to be measured.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.only == FLOW_LOG {
        return flow_log(args);
    }
    sandbox::require_privilege("bench")?;
    setup::ensure(&[Group::Build, Group::Run])?;
    build::object()?;
    let object = object()?;
    let mut command = sandbox::command(&program("programs")?);
    command
        .env("BRANCHLINE_BENCH_OBJECT", object)
        .args([args.rounds.to_string(), args.only.clone()]);
    measure(&mut command, args)
}

/// Measures rows of flow logs.
fn flow_log(args: &Args) -> Result<()> {
    setup::ensure(&[Group::Build])?;
    build::object()?;
    let mut command = Command::new(program(FLOW_LOG)?);
    measure(command.arg(args.rounds.to_string()), args)
}

/// Builds a bench.
fn program(name: &str) -> Result<PathBuf> {
    let mut cargo = process::cargo("build");
    cargo.args(["--release", "--package", "branchline-tests"]);
    // Cargo names the package's programs beside it.
    let built = executables(cargo.args(["--bench", name]))?;
    let built = built.into_iter().find(|built| built.target == name);
    Ok(built.context("cargo built no bench")?.path)
}

/// Runs a bench, which prints a table, or JSON if it is told so.
fn measure(command: &mut Command, args: &Args) -> Result<()> {
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
