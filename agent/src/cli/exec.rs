//! Becomes a command inside a task's network namespace, as `ip netns exec` does.
//!
//! Replaces the process, so that signals, terminal and exit code are the command's own. Never returns on success.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::api::TaskFilesDescription;

/// Why the command does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExecError {
    /// The namespace is gone or not readable.
    #[error("open network namespace {}", path.display())]
    Open {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The kernel refused a step.
    #[error("{attempt}; `task exec` needs root")]
    Step { attempt: String, source: nix::Error },
    /// `/etc/netns/<name>` cannot be read.
    #[error("list {}", path.display())]
    List {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The program is not there or not executable.
    #[error("run {program:?}")]
    Run {
        program: OsString,
        source: std::io::Error,
    },
}

/// Enters `netns` and becomes `command`; returns only why that failed.
///
/// `/sys` shows the namespace's links, and the task's `files` and those of `/etc/netns/<name>` stand in for those of
/// `/etc`, for the command only: it has a mount namespace of its own.
pub(super) fn exec(netns: &Path, files: &TaskFilesDescription, command: &[OsString]) -> ExecError {
    match become_command(netns, files, command) {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

fn become_command(
    netns: &Path,
    files: &TaskFilesDescription,
    command: &[OsString],
) -> Result<Infallible, ExecError> {
    let file = File::open(netns).map_err(|source| ExecError::Open {
        path: netns.to_owned(),
        source,
    })?;
    setns(&file, CloneFlags::CLONE_NEWNET).map_err(step(format!("enter {}", netns.display())))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(step("make a mount namespace".to_owned()))?;
    let private = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(step("detach mounts below /".to_owned()))?;
    mount(
        Some("sysfs"),
        "/sys",
        Some("sysfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .map_err(step("mount the namespace's /sys".to_owned()))?;
    let own = [&files.hosts, &files.resolv_conf];
    for file in own.into_iter().chain(files.hostname.as_ref()) {
        bind(file)?;
    }
    bind_etc(netns)?;
    let (program, arguments) = command
        .split_first()
        .map_or((OsString::new(), command), |(first, rest)| {
            (first.clone(), rest)
        });
    let source = std::process::Command::new(&program).args(arguments).exec();
    Err(ExecError::Run { program, source })
}

fn bind_etc(netns: &Path) -> Result<(), ExecError> {
    let Some(name) = netns.file_name() else {
        return Ok(());
    };
    let folder = Path::new("/etc/netns").join(name);
    let list = |source| ExecError::List {
        path: folder.clone(),
        source,
    };
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(list)?,
    };
    for entry in entries {
        bind(&entry.map_err(list)?.path())?;
    }
    Ok(())
}

/// Lets a file stand in for the one of its name in `/etc`, if there are both.
fn bind(from: &Path) -> Result<(), ExecError> {
    let to = Path::new("/etc").join(from.file_name().unwrap_or_default());
    if !from.exists() || !to.exists() {
        return Ok(());
    }
    mount(
        Some(from),
        &to,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(step(format!("put {} at {}", from.display(), to.display())))
}

fn step(attempt: String) -> impl FnOnce(nix::Error) -> ExecError {
    move |source| ExecError::Step { attempt, source }
}
