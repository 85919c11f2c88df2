//! Python packages that tests run against, in a virtual environment at `target/venv`. Never touches the system's Python.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::packages;
use crate::process::{find, output, say};
use crate::workspace;

/// What the tests need beyond Rust, pinned; each with what it is for.
pub(crate) const PACKAGES: [&str; 8] = [
    // An S3 server on loopback; moto's extra `server` would bring 170 MB for services that nobody asks.
    "moto[s3]==5.2.5",
    "flask==3.1.3",
    "flask-cors==6.0.5",
    // Readers of flow logs: SQL over text and Parquet, Parquet, AWS's text over S3.
    "duckdb==2.0.1",
    "pyarrow==26.0.1",
    "flowlogs-reader==5.0.1",
    // Fuzzes the API by its own description.
    "schemathesis==4.32.5",
    // Speaks to containerd as kubelet does.
    "grpcio==1.85.1",
];

/// Debian's packages for [`venv`].
const DEBIAN: [&str; 2] = ["python3", "python3-venv"];
/// The file in the environment that lists what [`ensure`] has installed, one requirement a line.
const INSTALLED: &str = "branchline-installed.txt";

/// The environment's folder; programs are in its `bin`.
pub(crate) fn venv() -> PathBuf {
    workspace::target("venv")
}

/// Makes the environment if there is none, and installs those of `packages` (as `name==version`) that are missing.
///
/// # Errors
/// One line: Python is missing and cannot be installed, or what pip said.
pub(crate) fn install(packages: &[&str]) -> Result<PathBuf> {
    let venv = venv();
    let list = venv.join(INSTALLED);
    let installed = fs::read_to_string(&list).unwrap_or_default();
    let missing = missing(&installed, packages);
    if missing.is_empty() {
        return Ok(venv);
    }
    say(
        "setup",
        &format!("installing {} (target/venv)", missing.join(" ")),
    );
    // An environment without a list was not finished.
    if installed.is_empty() {
        create(&venv)?;
    }
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-input"])
        .arg("--disable-pip-version-check")
        .args(packages);
    output(&mut pip)?;
    let all: BTreeSet<&str> = installed.lines().chain(packages.iter().copied()).collect();
    let all: String = all.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&list, all).with_context(|| format!("write {}", list.display()))?;
    Ok(venv)
}

/// Those of `packages` that are not a line of `installed`.
fn missing<'a>(installed: &str, packages: &[&'a str]) -> Vec<&'a str> {
    let has = |package: &&str| installed.lines().any(|line| line == *package);
    packages
        .iter()
        .copied()
        .filter(|package| !has(package))
        .collect()
}

/// Makes the environment anew; installs Debian's Python if this system's has no venv module.
fn create(venv: &Path) -> Result<()> {
    if let Some(python) = find("python3")
        && output(&mut creation(&python, venv)).is_ok()
    {
        return Ok(());
    }
    packages::install(&DEBIAN)?;
    let python = Path::new("/usr/bin/python3");
    ensure!(python.is_file(), "{} is missing", python.display());
    output(&mut creation(python, venv)).map(drop)
}

fn creation(python: &Path, venv: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "venv", "--clear"]).arg(venv);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_what_is_not_there_in_this_very_version() {
        let rows: [(&str, &[&str]); 4] = [
            ("", &["a==1", "b[x]==2"]),
            ("a==1\n", &["b[x]==2"]),
            ("a==1.1\nb[x]==2\n", &["a==1"]),
            ("b[x]==2\na==1\nc==3\n", &[]),
        ];
        for (installed, expected) in rows {
            assert_eq!(
                missing(installed, &["a==1", "b[x]==2"]),
                expected,
                "{installed:?}"
            );
        }
    }
}
