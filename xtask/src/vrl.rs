//! VRL, whose `parse_aws_vpc_flow_log` reads in tests what the agent writes, in `target/tools`. A program of its own:
//! none of its packages is in our Cargo.lock.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::process::{self, output, say};
use crate::workspace;

/// The VRL that is used.
pub(crate) const VERSION: &str = "0.38.0";

/// Where its program is once it is installed.
pub(crate) fn program() -> PathBuf {
    workspace::target("tools/bin/vrl")
}

/// Builds the program if it is not there in this version: unoptimised, which takes minutes less and reads our tests'
/// rows in a second.
///
/// # Errors
/// One line: what cargo said.
pub(crate) fn install() -> Result<()> {
    let installed = fs::read_to_string(workspace::target("tools/.crates.toml")).unwrap_or_default();
    if is_listed(&installed) && program().is_file() {
        return Ok(());
    }
    say(
        "setup",
        &format!("building vrl {VERSION} (about 4 minutes)"),
    );
    let build = workspace::target("tools/build-vrl");
    let mut install = process::cargo("install");
    install
        .args(["vrl", "--version", VERSION, "--locked", "--force"])
        // What its program asks for; its parser is in `stdlib`.
        .args(["--bin", "vrl", "--no-default-features"])
        .args(["--features", "cli,stdlib", "--debug", "--root"])
        .arg(workspace::target("tools"))
        .arg("--target-dir")
        .arg(&build)
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    output(&mut install)?;
    ensure!(
        program().is_file(),
        "vrl was built but {} is not there",
        program().display()
    );
    // 1 GB that nobody needs again.
    fs::remove_dir_all(&build).with_context(|| format!("remove {}", build.display()))
}

/// Whether cargo's list of installed programs has this version.
fn is_listed(crates_toml: &str) -> bool {
    crates_toml.contains(&format!("\"vrl {VERSION} ("))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_not_enough() {
        let list = |version| format!("[v1]\n\"vrl {version} (registry+https://x)\" = [\"vrl\"]\n");
        assert!(is_listed(&list(VERSION)));
        assert!(!is_listed(&list("0.38.01")));
        assert!(!is_listed(""));
    }
}
