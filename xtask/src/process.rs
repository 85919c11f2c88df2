//! Runs other programs and prints status lines. Never starts a shell.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// Folders searched after `PATH`: a user's `PATH` often lacks them.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Prints a status line: `==> topic: text`, in colour on a terminal unless `NO_COLOR` is set (no-color.org).
pub(crate) fn say(topic: &str, text: &str) {
    let mut out = io::stdout().lock();
    let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let written = if out.is_terminal() && !no_colour {
        writeln!(out, "\x1b[1;32m==>\x1b[0m \x1b[1m{topic}:\x1b[0m {text}")
    } else {
        writeln!(out, "==> {topic}: {text}")
    };
    // A closed standard output is no reason to stop the work.
    written.and_then(|()| out.flush()).unwrap_or_default();
}

/// Runs `command` with this process's standard streams.
///
/// # Errors
/// It could not be started, or did not exit with 0; the program's own output says why.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = describe(command);
    let status = command
        .status()
        .with_context(|| format!("start `{name}`"))?;
    if !status.success() {
        bail!("`{name}` failed ({status})");
    }
    Ok(())
}

/// Runs `command` quietly and returns its standard output.
///
/// # Errors
/// It could not be started, or did not exit with 0; the text then ends with the last line it wrote to standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start `{name}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let reason = stderr
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("it said nothing");
        bail!("`{name}` failed ({}): {reason}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The cargo that started us, with `subcommand`; without the variables that `cargo run` sets about this crate.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace::root())
        .arg(subcommand)
        .env_remove("LD_LIBRARY_PATH");
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(describes_this_crate) {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// `command` with the processors that nobody else wants.
pub(crate) fn patient(command: &Command) -> Command {
    let mut patient = Command::new("nice");
    patient.args(["-n", "19"]).arg(command.get_program());
    patient.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => patient.env(name, value),
            None => patient.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        patient.current_dir(folder);
    }
    patient
}

fn describes_this_crate(name: &str) -> bool {
    let prefixes = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "CARGO_PRIMARY_",
    ];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Every file called `name` in `PATH` and the system's own folders, in search order.
pub(crate) fn find_all(name: &str) -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.map(PathBuf::from))
        .collect();
    let name = name.to_owned();
    folders
        .into_iter()
        .map(move |folder| folder.join(&name))
        .filter(|file| file.is_file())
}

/// The first of [`find_all`].
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    find_all(name).next()
}

/// `PATH` with `folder` in front.
///
/// # Errors
/// `folder` contains a colon.
pub(crate) fn path_with(folder: &OsStr) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(
        [PathBuf::from(folder)]
            .into_iter()
            .chain(env::split_paths(&path)),
    )
    .with_context(|| format!("{} cannot be part of PATH", folder.display()))
}

/// The program and its first two arguments: enough to recognise it.
fn describe(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let program = program
        .file_name()
        .unwrap_or(command.get_program())
        .to_string_lossy()
        .into_owned();
    let arguments = command
        .get_args()
        .take(2)
        .map(|argument| argument.to_string_lossy().into_owned());
    [program]
        .into_iter()
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_failure_names_the_command_and_its_last_words() {
        let error = output(Command::new("ls").arg("/nonexistent"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("`ls /nonexistent` failed (exit status: 2): ls: "),
            "{error}"
        );
        let error = run(&mut Command::new("/nonexistent/program"))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "start `program`");
    }

    #[test]
    fn finds_programs_beyond_path() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
