//! `cargo xtask check`: format, lints, licences, and the size of the kernel programs. Changes no source file.

use anyhow::{Context, Result, bail};

use crate::bounds::{self, Sizes};
use crate::build::{self, EBPF_FLAGS};
use crate::licences;
use crate::process::{self, run as run_command, say};
use crate::programs;
use crate::setup::{self, Group};
use crate::toolchain;
use crate::unit;

/// Check format, lints, licences, and the eBPF programs' size
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Record the programs' size in xtask/bounds.toml instead of comparing with it
    #[arg(long)]
    record: bool,
}

/// Runs the command.
///
/// # Errors
/// The first check that failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Group::Build, Group::Check])?;
    run_command(process::cargo("fmt").args(["--all", "--check"]))
        .context("format; run: cargo fmt --all")?;
    say("check", "format: as rustfmt wants it");
    let object = build::object()?;
    lint()?;
    let packages = licences::check()?;
    say(
        "check",
        &format!(
            "licences: {packages} packages allowed by deny.toml (advisories need the network: not checked)"
        ),
    );
    unit::check(&unit::packaging())?;
    say(
        "check",
        "units: as systemd-analyze verify and security want them",
    );
    let sizes = programs::sizes(&object)?;
    let recorded = bounds::load()?;
    print(&sizes, &recorded);
    if args.record {
        bounds::record(&sizes)?;
        say("check", "programs: recorded in xtask/bounds.toml");
        return Ok(());
    }
    let broken = bounds::broken(&recorded, &sizes);
    if !broken.is_empty() {
        bail!(
            "{}; if it has to be so, run: cargo xtask check --record",
            broken.join(", ")
        );
    }
    say("check", "programs: within xtask/bounds.toml");
    Ok(())
}

/// Clippy on all that runs on the host, then on the eBPF crate with its own compiler; warnings are errors.
fn lint() -> Result<()> {
    let mut host = process::cargo("clippy");
    host.args([
        "--quiet",
        "--workspace",
        "--exclude",
        "branchline-ebpf",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    run_command(&mut host).context("lints")?;
    say("check", "lints: clean on the host");
    let compiler = toolchain::find_compiler()?;
    if let Some(mut clippy) = compiler.clippy()? {
        clippy
            .env("RUSTFLAGS", EBPF_FLAGS)
            .args(["--quiet", "--", "-D", "warnings"]);
        run_command(&mut clippy).context("lints of the eBPF crate")?;
        say("check", "lints: clean in the eBPF crate");
    } else {
        let mut check = compiler.cargo("check")?;
        check
            .env("RUSTFLAGS", format!("{EBPF_FLAGS} -D warnings"))
            .arg("--quiet");
        run_command(&mut check).context("warnings of the eBPF crate")?;
        say(
            "check",
            "lints: the eBPF crate compiles without warnings (its compiler brings no clippy)",
        );
    }
    Ok(())
}

fn print(sizes: &Sizes, recorded: &Sizes) {
    println!(
        "{:<20} {:>12} {:>8}  recorded",
        "program", "instructions", "stack"
    );
    for (name, size) in sizes {
        let bound = recorded.get(name);
        let bound = bound.map_or("-".to_owned(), |bound| {
            format!("{} / {}", bound.instructions, bound.stack)
        });
        println!(
            "{name:<20} {:>12} {:>6} B  {bound}",
            size.instructions, size.stack
        );
    }
}
