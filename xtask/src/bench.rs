//! `cargo xtask bench`: nanoseconds per packet of each kernel program, milliseconds of a change of
//! policies, what a full table takes, what flow logs take, milliseconds of a task and of a CNI call. Asserts nothing about time.
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
    /// Only cases whose program and name contain this; `policies`, `table`, `accounting`, `flow_log`,
    /// `interval`, `agent`, `tasks`, `cni`; `ec2`, which nothing else runs: three minutes under EC2's token buckets
    #[arg(long, default_value = "")]
    only: String,
}

/// Runs the command.
///
/// # Errors
/// A program does not load, or did other than what is to be measured.
pub(crate) fn run(args: &Args) -> Result<()> {
    sandbox::require_privilege("bench")?;
    setup::ensure(&[Group::Build, Group::Run, Group::Bench])?;
    let (agent, mut bench) = build::agent_and(true, &["--bench", "programs"])?;
    let (object, unaccounted) = (object()?, unaccounted()?);
    let bench = bench.pop().context("cargo built no bench")?;
    let mut command = sandbox::command(&bench.path);
    command
        .env("BRANCHLINE_BENCH_OBJECT", object)
        .env("BRANCHLINE_UNACCOUNTED_OBJECT", unaccounted)
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
    copy("ebpf", "branchline-bench", "bpf/branchline-bench.o")
}

/// Compiles the agent's programs without accounting to `target/bpf/branchline-unaccounted.o`. In a
/// folder of its own: the agent's object never is this one.
fn unaccounted() -> Result<PathBuf> {
    const FOLDER: &str = "ebpf-unaccounted";
    let mut cargo = toolchain::find_compiler()?.cargo_into(FOLDER, "build")?;
    cargo.args(["--quiet", "--features", "unaccounted"]);
    run_command(cargo.env("RUSTFLAGS", EBPF_FLAGS)).context("compile without accounting")?;
    copy(FOLDER, "branchline-ebpf", "bpf/branchline-unaccounted.o")
}

/// Copies a program that was compiled into a folder below `target/`; returns where it is then.
fn copy(folder: &str, program: &str, to: &str) -> Result<PathBuf> {
    let built = workspace::target(folder)
        .join(TARGET)
        .join("release")
        .join(program);
    let object = workspace::target(to);
    fs::copy(&built, &object).with_context(|| format!("write {}", object.display()))?;
    Ok(object)
}
