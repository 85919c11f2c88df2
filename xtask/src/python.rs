//! The Python programs that read flow logs, in an environment of their own below `target/`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{output, say};
use crate::workspace;

/// Readers of flow logs, and an S3 for the one that reads from there.
const PACKAGES: [&str; 4] = [
    "duckdb==2.0.1",
    "pyarrow==26.0.1",
    "flowlogs-reader==5.0.1",
    "moto[s3,server]==5.2.5",
];

/// The environment's interpreter.
pub(crate) fn interpreter() -> PathBuf {
    environment().join("bin/python")
}

/// Makes the environment, or changes it to what is wanted now; says what is in it.
///
/// # Errors
/// Python has no `venv`, or a package cannot be installed: what it said.
pub(crate) fn ensure() -> Result<String> {
    let wanted = PACKAGES.join("\n");
    let installed = environment().join("packages.txt");
    if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return Ok(describe());
    }
    say("setup", &format!("installing {}", PACKAGES.join(", ")));
    let mut venv = Command::new("python3");
    output(venv.args(["-m", "venv"]).arg(environment()))
        .context("make a Python environment; on Debian, run: apt-get install python3-venv")?;
    let mut install = Command::new(interpreter());
    output(
        install
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(PACKAGES),
    )?;
    fs::write(&installed, wanted).with_context(|| format!("write {}", installed.display()))?;
    Ok(describe())
}

fn describe() -> String {
    format!("readers: {} (target/readers)", PACKAGES.join(", "))
}

fn environment() -> PathBuf {
    workspace::target("readers")
}
