//! `cargo xtask test`: runs the tiers pure, program, netns, containers, interop, query and package on this kernel.
//!
//! Chooses tiers and gives them what they need; a tier that cannot run fails with one line and is never skipped.

use std::env;
use std::num::NonZero;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use crate::build;
use crate::package;
use crate::process::{self, say};
use crate::python;
use crate::sandbox;
use crate::setup::{self, Group};
use crate::vrl;
use crate::workspace;

/// Tests of tier netns that run at once, for each processor: they wait more than they work.
const NETNS_TESTS: usize = 2;

/// By what libtest is told how many tests it runs at once.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// Test programs of tier pure, besides those in the crates themselves.
const PURE: [&str; 4] = ["calls", "command_line", "pure", "wire"];
/// Of tier interop.
const INTEROP: [&str; 2] = ["interop", "readers"];

/// Random cases of each property under `--long`; proptest's own default is 256.
const LONG_CASES: &str = "20000";

/// Run the tests of this kernel: pure, program, netns, containers, interop, query and package
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The tiers to run; all if none is named
    tiers: Vec<Tier>,
    /// Also run the tests marked `#[ignore]`, and many more random cases
    #[arg(long)]
    long: bool,
    /// What follows `--` goes to the test programs, such as a test's name
    #[arg(last = true)]
    libtest: Vec<String>,
}

/// A tier of tests that runs on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// Unit and property tests; no privilege
    Pure,
    /// The loaded programs under BPF_PROG_TEST_RUN; root
    Program,
    /// Real links and sockets in throw-away namespaces; root
    Netns,
    /// The CNI plugin under runc, crun, podman and containerd; root
    Containers,
    /// The agent's parts against servers and readers that others wrote, on loopback; no privilege
    Interop,
    /// `branchline flows query` on files of the agent's writers, its engine built for it; no privilege
    Query,
    /// The Debian package, run under its unit on a machine of its own; root
    Package,
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Query => "query",
            Self::Interop => "interop",
            Self::Program => "program",
            Self::Netns => "netns",
            Self::Containers => "containers",
            Self::Package => "package",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A test failed (the test program has said which), or a tier lacks its privilege or its tools.
pub(crate) fn run(args: &Args) -> Result<()> {
    let tiers = if args.tiers.is_empty() {
        Tier::value_variants()
    } else {
        &args.tiers
    };
    for (number, tier) in tiers.iter().enumerate() {
        let later = tiers.get(number + 1..).unwrap_or_default();
        let started = Instant::now();
        match tier {
            Tier::Pure => pure(args)?,
            Tier::Query => query(args)?,
            Tier::Interop => interop(args)?,
            Tier::Program | Tier::Netns | Tier::Containers => privileged(*tier, later, args)?,
            // Of the programs that tier query has built.
            Tier::Package => package::run(&package::Args {
                dev: true,
                trial: true,
            })?,
        }
        say(
            "test",
            &format!(
                "tier {} passed in {:.1} s",
                tier.name(),
                started.elapsed().as_secs_f64()
            ),
        );
    }
    Ok(())
}

fn pure(args: &Args) -> Result<()> {
    build::object()?;
    let mut product = build::tested("test");
    // Not the other tiers, which are test programs of the same crates.
    product.args(["--lib", "--bins"]);
    for test in PURE {
        product.args(["--test", test]);
    }
    let mut own = process::cargo("test");
    own.args(["--package", "xtask"]);
    for mut cargo in [product, own] {
        cargo.args(["--quiet", "--"]);
        run_tier(Tier::Pure, with_options(&mut cargo, args))?;
    }
    Ok(())
}

/// The tests start the agent's program, which becomes the one beside it.
fn query(args: &Args) -> Result<()> {
    let (agent, _) = build::agent_and(false, &[])?;
    build::query(false)?;
    let mut cargo = process::cargo("test");
    cargo
        .args(["--quiet", "-p", "branchline-query", "--"])
        .env(build::AGENT_VARIABLE, agent);
    run_tier(Tier::Query, with_options(&mut cargo, args))
}

/// The tests find Python's programs in the folder `BRANCHLINE_VENV`, and VRL's as `BRANCHLINE_VRL`.
fn interop(args: &Args) -> Result<()> {
    setup::ensure(&[Group::Interop, Group::Readers])?;
    build::object()?;
    let mut cargo = build::tested("test");
    for test in INTEROP {
        cargo.args(["--test", test]);
    }
    cargo
        .args(["--quiet", "--"])
        // What the SDK of AWS signs with; moto looks at neither.
        .envs([
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ])
        .env("BRANCHLINE_VENV", python::venv())
        .env("BRANCHLINE_VRL", vrl::program());
    run_tier(Tier::Interop, with_options(&mut cargo, args))
}

/// Builds the agent and the tier's tests, then runs them in namespaces of their own.
fn privileged(tier: Tier, later: &[Tier], args: &Args) -> Result<()> {
    sandbox::require_privilege(&format!("tier {}", tier.name()))?;
    setup::ensure(&[Group::Build, Group::Run])?;
    match tier {
        // For the S3 server.
        Tier::Netns => setup::ensure(&[Group::Interop])?,
        Tier::Containers => setup::ensure(&[Group::Containers, Group::Interop])?,
        Tier::Pure | Tier::Query | Tier::Interop | Tier::Program | Tier::Package => {}
    }
    // Unoptimised, the oracle and the pure core take longer than the kernel.
    let (agent, tests) = build::agent_and_tests(args.long, &["--test", tier.name()])?;
    thread::scope(|scope| {
        if tier == Tier::Netns {
            scope.spawn(|| make_ahead(later));
        }
        for test in tests {
            let mut command = sandbox::command(&test.path);
            command
                .env(build::AGENT_VARIABLE, &agent)
                .env("BRANCHLINE_VENV", python::venv())
                .current_dir(workspace::root().join("tests"));
            if tier == Tier::Netns && env::var_os(TEST_THREADS).is_none() {
                let processors = thread::available_parallelism().map_or(1, NonZero::get);
                command.env(TEST_THREADS, (NETNS_TESTS * processors).to_string());
            }
            run_tier(tier, with_options(&mut command, args))?;
        }
        Ok(())
    })
}

/// Makes what `later` tiers need, by what the tests of tier netns leave of the processors while they wait. What fails
/// fails again, and is told of, where it is needed.
fn make_ahead(later: &[Tier]) {
    let mut errands = Vec::new();
    if later.contains(&Tier::Interop)
        && let Ok(own) = env::current_exe()
    {
        let mut readers = Command::new(own);
        readers.args(["setup", "readers"]);
        errands.push(readers);
    }
    if later.contains(&Tier::Query) || later.contains(&Tier::Package) {
        // Not the agent: the tests run the one that is there.
        errands.push(build::query_alone(false));
    }
    for errand in errands {
        let mut errand = process::patient(&errand);
        errand.stdout(Stdio::null()).stderr(Stdio::null());
        if let Err(error) = errand.status() {
            say("test", &format!("nothing is made ahead: {error}"));
        }
    }
}

/// Runs the tests of `tier`, which say themselves what is wrong.
fn run_tier(tier: Tier, command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start tier {}", tier.name()))?;
    ensure!(status.success(), "tier {} failed ({status})", tier.name());
    Ok(())
}

/// Adds what the user asked of the test programs.
fn with_options<'a>(command: &'a mut Command, args: &Args) -> &'a mut Command {
    if args.long {
        command
            .arg("--include-ignored")
            .env("PROPTEST_CASES", LONG_CASES);
    }
    command.args(&args.libtest)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::fs;

    use super::*;

    /// They are named here one by one, so one that is nowhere named would never run.
    #[test]
    fn every_test_program_is_of_a_tier() {
        let manifest = fs::read_to_string(workspace::root().join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let members = manifest["workspace"]["members"].as_array().unwrap();
        // `guest` is of `cargo xtask vm`.
        let mut named = vec!["guest"];
        named.extend(PURE.iter().chain(&INTEROP));
        named.extend(Tier::value_variants().iter().map(|tier| tier.name()));
        let mut found = 0;
        for member in members {
            let folder = workspace::root()
                .join(member.as_str().unwrap())
                .join("tests");
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let is_program = path.extension().is_some_and(|end| end == "rs")
                    || path.join("main.rs").is_file();
                if is_program {
                    let name = path.file_stem().unwrap().to_str().unwrap();
                    assert!(named.contains(&name), "{} never runs", path.display());
                    found += 1;
                }
            }
        }
        assert!(found > PURE.len() + INTEROP.len(), "{found} found");
    }
}
