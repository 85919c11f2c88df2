//! `cargo xtask setup`: finds or installs what the other commands need, in groups.
//!
//! Every other command calls [`ensure`] first with its groups, so a missing piece is one line here and never an error
//! of a linker or a test later. Installs only what is missing, and removes nothing.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::packages;
use crate::privilege;
use crate::process::{self, find, output, say};
use crate::python;
use crate::toolchain::{self, Compiler, LINKER_VERSION, LLVM_MAJOR, NIGHTLY};
use crate::vm;
use crate::vrl;
use crate::workspace;

/// Find or install what the other commands need
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to prepare for; everything if none is named
    groups: Vec<Group>,
}

/// What a command needs beyond cargo itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Compiling the eBPF crate and the agent
    Build,
    /// rustfmt and clippy
    Check,
    /// Running the agent in namespaces: tests, demo, bench
    Run,
    /// Servers and readers written by others in Python, which tests talk to
    Interop,
    /// A reader written by others in Rust
    Readers,
    /// Container runtimes
    Containers,
    /// Reference plugins, measured beside ours
    Bench,
    /// Booting other kernels
    Vm,
    /// Making a Debian package
    Package,
    /// Trying it on a machine of its own
    Trial,
    /// Having it judged as Debian judges its packages
    Lintian,
}

/// A program that must be there, the Debian package that brings it, and who needs it.
type Program = (&'static str, &'static str, &'static [Group]);

const PROGRAMS: [Program; 29] = [
    ("cc", "gcc", &[Group::Build, Group::Readers]),
    ("make", "make", &[Group::Build]),
    ("ip", "iproute2", &[Group::Run, Group::Vm, Group::Trial]),
    ("tc", "iproute2", &[Group::Run, Group::Vm]),
    ("nft", "nftables", &[Group::Run, Group::Vm, Group::Trial]),
    ("unshare", "util-linux", &[Group::Run, Group::Trial]),
    ("nsenter", "util-linux", &[Group::Trial]),
    (SERVICE_MANAGER, "systemd", &[Group::Trial]),
    ("curl", "curl", &[Group::Trial]),
    ("lintian", "lintian", &[Group::Lintian]),
    (
        "setpriv",
        "util-linux",
        &[Group::Run, Group::Vm, Group::Trial],
    ),
    ("mount", "mount", &[Group::Run]),
    ("bpftool", "bpftool", &[Group::Run, Group::Vm]),
    (
        "busybox",
        "busybox-static",
        &[Group::Vm, Group::Containers, Group::Trial],
    ),
    ("runc", "runc", &[Group::Containers]),
    ("crun", "crun", &[Group::Containers]),
    ("podman", "podman", &[Group::Containers]),
    ("containerd", "containerd", &[Group::Containers]),
    ("ctr", "containerd", &[Group::Containers]),
    (
        LOOPBACK,
        "containernetworking-plugins",
        &[Group::Containers, Group::Bench],
    ),
    ("ldd", "libc-bin", &[Group::Vm]),
    ("xz", "xz-utils", &[Group::Vm]),
    ("zstd", "zstd", &[Group::Vm]),
    ("gzip", "gzip", &[Group::Vm, Group::Package]),
    (
        "systemd-analyze",
        "systemd",
        &[Group::Check, Group::Package],
    ),
    ("dpkg-deb", "dpkg", &[Group::Package]),
    ("dpkg", "dpkg", &[Group::Package]),
    ("md5sum", "coreutils", &[Group::Package]),
    ("strip", "binutils", &[Group::Package, Group::Vm]),
];

/// A CNI plugin that containerd runs for each pod, in the package of the reference plugins; in nobody's `PATH`.
const LOOPBACK: &str = "/usr/lib/cni/loopback";

/// In nobody's `PATH`, either.
pub(crate) const SERVICE_MANAGER: &str = "/lib/systemd/systemd";

/// Debian's compiler with a BPF `core`.
const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
/// Its clippy.
const COMPILER_CLIPPY: &str = "rust-web-clippy";

/// Runs the command.
///
/// # Errors
/// See [`ensure`].
pub(crate) fn run(args: &Args) -> Result<()> {
    let groups = if args.groups.is_empty() {
        Group::value_variants()
    } else {
        &args.groups
    };
    prepare(groups, true)?;
    if groups.contains(&Group::Vm) {
        let qemu = vm::fetch(&vm::RELEASES)?;
        say(
            "setup",
            &format!("QEMU: {}", workspace::relative(&qemu).display()),
        );
        say(
            "setup",
            &format!("kernels {} (target/vm/kernels)", vm::RELEASES.join(", ")),
        );
    }
    Ok(())
}

/// Makes sure that all of `groups` is there; speaks only when it has to install something.
///
/// # Errors
/// One line: what is missing, the package that brings it, and the command to run.
pub(crate) fn ensure(groups: &[Group]) -> Result<()> {
    prepare(groups, false)
}

fn prepare(groups: &[Group], report: bool) -> Result<()> {
    let report = |text: &str| {
        if report {
            say("setup", text);
        }
    };
    programs(groups, report)?;
    if groups.contains(&Group::Build) {
        let compiler = compiler()?;
        report(&format!("eBPF compiler: {}", compiler.describe()));
        linker()?;
        report(&format!("bpf-linker {LINKER_VERSION} (target/tools)"));
    }
    if groups.contains(&Group::Check) {
        report(&host_component("rustfmt", "fmt")?);
        report(&host_component("clippy", "clippy")?);
        report(&ebpf_clippy(&compiler()?)?);
    }
    if groups.contains(&Group::Interop) {
        python::install(&python::PACKAGES)?;
        report(&format!(
            "Python: {} (target/venv)",
            python::PACKAGES.join(" ")
        ));
    }
    if groups.contains(&Group::Readers) {
        vrl::install()?;
        report(&format!("vrl {} (target/tools)", vrl::VERSION));
    }
    Ok(())
}

/// Finds the programs of `groups`; installs the packages of those that are missing.
fn programs(groups: &[Group], report: impl Fn(&str)) -> Result<()> {
    let needs = |program: &&Program| program.2.iter().any(|group| groups.contains(group));
    let wanted: Vec<&Program> = PROGRAMS.iter().filter(needs).collect();
    let mut packages: Vec<&str> = Vec::new();
    for (name, package, _) in &wanted {
        if find(name).is_none() && !packages.contains(package) {
            packages.push(package);
        }
    }
    if !packages.is_empty() {
        packages::install(&packages)?;
    }
    for (name, package, _) in wanted {
        let path = find(name).with_context(|| {
            format!("{name} is missing; run: apt-get install --reinstall {package}")
        })?;
        report(&format!("{name}: {}", path.display()));
    }
    Ok(())
}

/// Finds the eBPF crate's compiler; installs Debian's, or rustup's nightly where Debian has none.
fn compiler() -> Result<Compiler> {
    let missing = match toolchain::find_compiler() {
        Ok(compiler) => return Ok(compiler),
        Err(missing) => missing,
    };
    let Err(reason) = packages::install(&COMPILER_PACKAGES) else {
        return toolchain::find_compiler();
    };
    // A user of apt-get who is not root has been told what to do; their rustup is not changed behind their back.
    let may_use_rustup = privilege::is_root() || find("apt-get").is_none();
    if may_use_rustup && find("rustup").is_some() && install_nightly().is_ok() {
        return toolchain::find_compiler();
    }
    let source =
        format!("rustup toolchain install {NIGHTLY} --profile minimal --component rust-src");
    bail!("{reason:#}; or, to compile core from source, run: {source} ({missing})")
}

fn install_nightly() -> Result<()> {
    say(
        "setup",
        &format!("installing {NIGHTLY} with rust-src by rustup"),
    );
    let mut rustup = Command::new("rustup");
    output(rustup.args([
        "toolchain",
        "install",
        NIGHTLY,
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ]))?;
    Ok(())
}

/// Builds bpf-linker into `target/tools`, with LLVM's development package if that is missing.
fn linker() -> Result<()> {
    if toolchain::find_linker().is_some() {
        return Ok(());
    }
    if toolchain::find_llvm().is_none() {
        packages::install(&[&format!("llvm-{LLVM_MAJOR}-dev")])?;
    }
    let Some(llvm) = toolchain::find_llvm() else {
        bail!(
            "no LLVM {LLVM_MAJOR} with llvm-config and libLLVM.so; set LLVM_PREFIX to the folder it is in"
        );
    };
    say(
        "setup",
        &format!(
            "building bpf-linker {LINKER_VERSION} against {} (about a minute)",
            llvm.display()
        ),
    );
    let feature = format!("llvm-{LLVM_MAJOR}");
    let mut install = process::cargo("install");
    install
        .args([
            "bpf-linker",
            "--version",
            LINKER_VERSION,
            "--locked",
            "--force",
            "--no-default-features",
        ])
        .args(["--features", &feature, "--root"])
        .arg(workspace::target("tools"))
        .arg("--target-dir")
        .arg(workspace::target("tools/build"))
        .env("LLVM_PREFIX", &llvm);
    output(&mut install)?;
    if toolchain::find_linker().is_none() {
        bail!(
            "bpf-linker was built but target/tools/bin/bpf-linker does not run; is {} complete?",
            llvm.display()
        );
    }
    Ok(())
}

/// Checks a component of the toolchain that runs cargo now; it is not ours to change.
fn host_component(component: &str, subcommand: &str) -> Result<String> {
    let version = output(process::cargo(subcommand).arg("--version")).map_err(|_| {
        anyhow::anyhow!("{component} is missing; run: rustup component add {component}")
    })?;
    Ok(version.trim().to_owned())
}

/// Finds or installs clippy for the eBPF crate's compiler. Without it `check` compiles with warnings as errors.
fn ebpf_clippy(compiler: &Compiler) -> Result<String> {
    let mut found = compiler.clippy()?.is_some();
    if !found && compiler.is_system() {
        found = packages::install(&[COMPILER_CLIPPY]).is_ok();
    }
    Ok(format!(
        "eBPF clippy: {}",
        if found {
            "found"
        } else {
            "none beside the eBPF compiler"
        }
    ))
}
