//! Installs system packages: apt-get where the machine has it and we are root. Removes or replaces nothing.

use std::fs;
use std::process::Command;

use anyhow::{Result, bail};

use crate::privilege;
use crate::process::{find, output, say};

/// Installs Debian packages, refreshing apt's lists if they are missing or stale.
///
/// # Errors
/// One line that names the packages and the command to run: not root, no apt-get, or what apt-get said.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if find("apt-get").is_none() {
        bail!("missing: {names} (Debian's names); install them with this system's package manager");
    }
    if !privilege::is_root() {
        bail!("missing: {names}; run: sudo apt-get install --no-install-recommends {names}");
    }
    say("setup", &format!("installing {names}"));
    if !lists_present() {
        output(apt_get().arg("update"))?;
    } else if output(&mut install_command(packages)).is_ok() {
        return Ok(());
    } else {
        output(apt_get().arg("update"))?;
    }
    match output(&mut install_command(packages)) {
        Ok(_) => Ok(()),
        Err(reason) => bail!("cannot install {names}: {reason}"),
    }
}

fn install_command(packages: &[&str]) -> Command {
    let mut command = apt_get();
    command
        .args(["install", "-y", "--no-install-recommends", "--no-remove"])
        .args(packages);
    command
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-qq", "-o", "DPkg::Lock::Timeout=300"]);
    command
}

/// True if apt knows of any package.
fn lists_present() -> bool {
    let Ok(entries) = fs::read_dir("/var/lib/apt/lists") else {
        return false;
    };
    entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
}
