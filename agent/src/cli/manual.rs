//! What describes the commands: shell completions, man pages, and the API's description. Asks no agent.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Arguments, CommandError, write_out};
use crate::server;

/// Prints a shell's completions.
pub(super) fn completions(shell: Shell) -> Result<(), CommandError> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "branchline", &mut text);
    write_out(&String::from_utf8_lossy(&text))
}

/// Writes a man page for each command into `dir`, which must exist; says which.
pub(super) fn man(dir: &Path) -> Result<(), CommandError> {
    let mut command = Arguments::command();
    command.build();
    let mut pages = Vec::new();
    collect(&command, &mut pages);
    for (name, page) in pages {
        let path = dir.join(format!("{name}.1"));
        write(&path, &page)?;
        write_out(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

/// Prints the API's description as JSON.
pub(super) fn openapi() -> Result<(), CommandError> {
    let document = server::openapi();
    write_out(&(document.to_pretty_json().expect("a description is JSON") + "\n"))
}

/// The pages of `command` and of those below it, by name: `branchline-task-add`.
fn collect(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut page = Vec::new();
    Man::new(command.clone())
        .title(name.to_uppercase())
        .render(&mut page)
        .expect("a page is written to memory");
    pages.push((name.to_owned(), page));
    for below in command.get_subcommands() {
        collect(below, pages);
    }
}

fn write(path: &Path, page: &[u8]) -> Result<(), CommandError> {
    std::fs::write(path, page).map_err(|source| CommandError::Write {
        path: PathBuf::from(path),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let mut command = Arguments::command();
        command.build();
        let mut pages = Vec::new();
        collect(&command, &mut pages);
        for name in ["branchline", "branchline-task-add", "branchline-flows-tail"] {
            let page = pages.iter().find(|(page, _)| page == name);
            let (_, page) = page.unwrap_or_else(|| panic!("{name}"));
            assert!(
                page.starts_with(b".ie") && page.windows(3).any(|at| at == b".TH"),
                "{name}"
            );
        }
    }
}
