//! `cargo xtask build`: compiles the kernel programs, the agent with their object inside it, the CNI plugin, and the
//! program that answers `branchline flows query`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{self, run as run_command, say};
use crate::setup::{self, Group};
use crate::toolchain::{self, TARGET};
use crate::workspace;

/// Compiler flags of the eBPF crate: debug info, and from it BTF.
pub(crate) const EBPF_FLAGS: &str =
    "-C debuginfo=2 -C link-arg=--btf -C target-feature=+allows-misaligned-mem-access";

/// Tells tests, demo and bench which agent to start; `tests/src/host.rs` reads it.
pub(crate) const AGENT_VARIABLE: &str = "BRANCHLINE_BIN";

/// See [`tested`].
const TESTED: [&str; 8] = [
    AGENT,
    PLUGIN,
    "branchline-bpf-batch",
    "branchline-common",
    "branchline-ec2",
    "branchline-ec2-stand-in",
    "branchline-oracle",
    "branchline-tests",
];

/// Compile the eBPF programs, the agent with them inside it, branchline-cni and branchline-query
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Optimise agent and query (the eBPF programs always are)
    #[arg(long)]
    release: bool,
}

/// Something that cargo built and that can be run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    /// The cargo target's name: `branchline`, or a test file's stem.
    pub(crate) target: String,
    pub(crate) path: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// Something is missing (see `setup`) or does not compile.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (agent, _) = agent_and(args.release, &[])?;
    say(
        "build",
        &format!("agent in {}", workspace::relative(&agent).display()),
    );
    let plugin = agent.with_file_name(PLUGIN);
    say(
        "build",
        &format!("CNI plugin in {}", workspace::relative(&plugin).display()),
    );
    let query = query(args.release)?;
    say(
        "build",
        &format!("query in {}", workspace::relative(&query).display()),
    );
    Ok(())
}

/// Builds kernel programs, agent, the CNI plugin beside it, and `others` of the tests' package, as `--bin demo`;
/// returns the agent's path and what else there was to build.
///
/// # Errors
/// See [`run`].
pub(crate) fn agent_and(release: bool, others: &[&str]) -> Result<(PathBuf, Vec<Executable>)> {
    let mut cargo = process::cargo("build");
    cargo.args(["--package", AGENT, "--package", PLUGIN]);
    if !others.is_empty() {
        cargo.args(["--package", "branchline-tests"]);
    }
    agent_by(cargo, release, others)
}

/// As [`agent_and`], with what only tests have: the tests `others`, as `--test netns`, and the agent's feature that lets
/// them kill it at a step of their choice.
///
/// # Errors
/// See [`run`].
pub(crate) fn agent_and_tests(
    release: bool,
    others: &[&str],
) -> Result<(PathBuf, Vec<Executable>)> {
    agent_by(tested("build"), release, others)
}

/// Cargo's `subcommand` on all that tests are of or stand on, whichever of it is wanted: by what it is told of, cargo
/// chooses the features of crates that several need, and compiles them, and what stands on them, anew for each choice.
pub(crate) fn tested(subcommand: &str) -> Command {
    let mut cargo = process::cargo(subcommand);
    for package in TESTED {
        cargo.args(["--package", package]);
    }
    cargo.args(["--features", "branchline/fault-points"]);
    cargo
}

fn agent_by(
    mut cargo: Command,
    release: bool,
    others: &[&str],
) -> Result<(PathBuf, Vec<Executable>)> {
    object()?;
    cargo.args(["--bin", AGENT, "--bin", PLUGIN]).args(others);
    if release {
        cargo.arg("--release");
    }
    let mut built = executables(&mut cargo)?;
    let agent = built
        .iter()
        .position(|executable| executable.target == AGENT);
    let agent = built
        .swap_remove(agent.context("cargo built no agent")?)
        .path;
    // Cargo names the programs that a package's tests may start beside those asked for.
    built.retain(|executable| others.contains(&executable.target.as_str()));
    Ok((agent, built))
}

/// Builds the program that answers `branchline flows query`, beside the agent; returns its path.
///
/// # Errors
/// It does not compile, or the kernel programs are not compiled yet.
pub(crate) fn query(release: bool) -> Result<PathBuf> {
    let built = executables(&mut query_alone(release))?.pop();
    Ok(built.context("cargo built no branchline-query")?.path)
}

/// What [`query`] runs.
pub(crate) fn query_alone(release: bool) -> Command {
    let mut cargo = process::cargo("build");
    cargo.args(["--package", QUERY, "--bin", QUERY]);
    if release {
        // Across the crates of DataFusion it would take longer than all else, and nobody waits for a query's first
        // milliseconds.
        cargo
            .arg("--release")
            .env("CARGO_PROFILE_RELEASE_LTO", "false");
    }
    cargo
}

/// Package and name of the agent.
const AGENT: &str = "branchline";
/// Package and name of the CNI plugin.
const PLUGIN: &str = "branchline-cni";
/// Package and name of that program.
const QUERY: &str = "branchline-query";

/// Compiles the kernel programs to `target/bpf/branchline.o`, which keeps its time stamp if nothing changed.
///
/// # Errors
/// See [`run`].
pub(crate) fn object() -> Result<PathBuf> {
    setup::ensure(&[Group::Build])?;
    let compiler = toolchain::find_compiler()?;
    let mut cargo = compiler.cargo("build")?;
    run_command(cargo.arg("--quiet").env("RUSTFLAGS", EBPF_FLAGS))
        .context("compile the eBPF crate")?;
    let built = workspace::target("ebpf")
        .join(TARGET)
        .join("release/branchline-ebpf");
    let object = workspace::object();
    let changed = copy_if_different(&built, &object)?;
    let state = if changed { "compiled" } else { "unchanged" };
    say(
        "build",
        &format!("{} {state}", workspace::relative(&object).display()),
    );
    Ok(object)
}

/// Runs a cargo command that builds, and returns the executables it names.
///
/// # Errors
/// The build failed (cargo has said why), or its messages cannot be read.
pub(crate) fn executables(cargo: &mut Command) -> Result<Vec<Executable>> {
    cargo.args(["--quiet", "--message-format", "json-render-diagnostics"]);
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo")?;
    if !output.status.success() {
        bail!("cargo could not build it ({})", output.status);
    }
    parse_messages(&String::from_utf8_lossy(&output.stdout))
}

/// Reads cargo's messages (The Cargo Book, "External tools": JSON messages).
fn parse_messages(messages: &str) -> Result<Vec<Executable>> {
    let mut executables = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: serde_json::Value =
            serde_json::from_str(line).context("read cargo's messages")?;
        if let (Some(target), Some(path)) = (
            message["target"]["name"].as_str(),
            message["executable"].as_str(),
        ) {
            executables.push(Executable {
                target: target.to_owned(),
                path: path.into(),
            });
        }
    }
    Ok(executables)
}

/// Copies `from` to `to` unless they are equal; true if it copied.
fn copy_if_different(from: &Path, to: &Path) -> Result<bool> {
    let new = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(false);
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    // In one step, so that a build running beside this one never reads half of it.
    let partial = to.with_extension("partial");
    fs::write(&partial, new).with_context(|| format!("write {}", partial.display()))?;
    fs::rename(&partial, to).with_context(|| format!("write {}", to.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn finds_the_executables_in_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"libc"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"demo"},"executable":"/t/demo"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"program"},"executable":"/t/program-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let executable = |target: &str, path: &str| Executable {
            target: target.to_owned(),
            path: path.into(),
        };
        let expected = [
            executable("demo", "/t/demo"),
            executable("program", "/t/program-1"),
        ];
        assert_eq!(parse_messages(messages).unwrap(), expected);
    }

    #[test]
    fn copies_only_what_differs() {
        let folder = std::env::temp_dir().join(format!("branchline-copy-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("from"), folder.join("sub/to"));
        fs::write(&from, "one").unwrap();
        assert!(copy_if_different(&from, &to).unwrap());
        assert!(!copy_if_different(&from, &to).unwrap());
        fs::write(&from, "two").unwrap();
        assert!(copy_if_different(&from, &to).unwrap());
        assert_eq!(fs::read_to_string(&to).unwrap(), "two");
        fs::remove_dir_all(&folder).unwrap();
    }
}
