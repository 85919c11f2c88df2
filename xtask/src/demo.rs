//! `cargo xtask demo`: shows branchline at work, in namespaces that end with it.
//!
//! Builds what it needs and starts the demo program of the crate `branchline-tests`, which tells the story and checks
//! it. Leaves only `target/demo`.

use anyhow::{Context, Result, ensure};

use crate::build;
use crate::process::say;
use crate::sandbox;
use crate::setup::{self, Group};
use crate::workspace;

/// Show three tasks, allowed and denied traffic, and the flow log that proves it
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
///
/// # Errors
/// A privilege or tool is missing, something does not compile, or a verdict or count was not as expected (the demo
/// has said which).
pub(crate) fn run(_: &Args) -> Result<()> {
    sandbox::require_privilege("the demo")?;
    setup::ensure(&[Group::Build, Group::Run])?;
    let (agent, mut demo) = build::agent_and(false, &["--bin", "demo"])?;
    let demo = demo.pop().context("cargo built no demo")?;
    say("demo", "in namespaces of its own, of which nothing remains");
    let flows = workspace::target("demo/flows");
    let status = sandbox::command(&demo.path)
        .env(build::AGENT_VARIABLE, &agent)
        .arg(workspace::relative(&flows))
        .current_dir(workspace::root())
        .status()
        .context("start the demo")?;
    ensure!(status.success(), "the demo failed ({status})");
    Ok(())
}
