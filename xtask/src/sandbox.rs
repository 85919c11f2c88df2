//! Runs a program in namespaces of its own, of which nothing remains however it ends.
//!
//! The program sees a network with only loopback, its own processes, an empty `/run` and an empty bpffs. When it ends,
//! or we do (also by SIGKILL), the kernel ends every process in there and with them go links, mounts and pins.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::privilege::{self, BPF, NET_ADMIN, SYS_ADMIN};

/// The first process inside. It stays, because the kernel shields process 1 of a namespace from Ctrl-C.
const FIRST_PROCESS: &str = r#"
trap 'exit 130' INT
trap 'exit 143' TERM HUP
set -e
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/netns /run/lock
ip link set lo up
set +e
"$@"
exit $?
"#;

/// `program` in namespaces of its own; the caller adds arguments and environment.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
        ])
        .args([
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
            "--",
        ])
        .args(["sh", "-c", FIRST_PROCESS, "sandbox"])
        .arg(program);
    command
}

/// Checks that this process may make the namespaces and load programs; `what` wants it.
///
/// # Errors
/// One line that names `what` and what it lacks.
pub(crate) fn require_privilege(what: &str) -> Result<()> {
    let missing = privilege::missing(&[BPF, NET_ADMIN, SYS_ADMIN]);
    if !privilege::is_root() || !missing.is_empty() {
        let lacks = if missing.is_empty() {
            "user id 0".to_owned()
        } else {
            missing.join(", ")
        };
        bail!("{what} lacks {lacks}; run it as root");
    }
    Ok(())
}
