//! The agent's units, as the service manager reads them. Starts nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::output;
use crate::workspace;

/// Where everything lies that is packaged beside the programs.
pub(crate) fn packaging() -> PathBuf {
    workspace::root().join("agent/packaging")
}

/// The service, and the bpffs that it wants.
pub(crate) const UNITS: [&str; 2] = ["branchline.service", "run-branchline.bpf.mount"];
/// What `systemd-analyze security` may say at most, times ten; lower is better. Most of the rest is what
/// a mount namespace would give, and the unit says why it has none.
const EXPOSURE: u32 = 45;
/// The program in the unit, which need not be installed here, and one that is.
const PROGRAM: [&str; 2] = ["ExecStart=/usr/bin/branchline ", "ExecStart=/bin/true "];

/// Checks the units in `folder`: each key is known, each value understood, and the service is exposed as
/// little as it was.
///
/// # Errors
/// What systemd-analyze says.
pub(crate) fn check(folder: &Path) -> Result<()> {
    let copies = workspace::target("units");
    fs::create_dir_all(&copies).context("make target/units")?;
    let mut paths = Vec::new();
    for unit in UNITS {
        let text = fs::read_to_string(folder.join(unit)).with_context(|| format!("read {unit}"))?;
        let copy = copies.join(unit);
        let [own, there] = PROGRAM;
        fs::write(&copy, text.replace(own, there)).with_context(|| format!("write {unit}"))?;
        paths.push(copy);
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).args(&paths);
    let verified = verify.stdin(Stdio::null()).output();
    let verified = verified.context("start systemd-analyze")?;
    let said = String::from_utf8_lossy(&verified.stderr);
    // It succeeds past what it only ignores.
    ensure!(
        verified.status.success() && said.trim().is_empty(),
        "systemd-analyze verify: {said}"
    );
    let mut security = Command::new("systemd-analyze");
    security
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("--threshold={EXPOSURE}"))
        .arg(&paths[0]);
    output(&mut security).context("the service is more exposed than it was")?;
    Ok(())
}
