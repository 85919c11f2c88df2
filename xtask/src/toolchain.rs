//! Finds what compiles the eBPF crate: a Rust compiler with a BPF `core`, and bpf-linker. Installs nothing.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{find, find_all, output, path_with};
use crate::workspace;

/// The target of the eBPF crate; the agent's hosts are little-endian.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// The bpf-linker that is used, and the LLVM it is built against.
pub(crate) const LINKER_VERSION: &str = "0.13.0";
pub(crate) const LLVM_MAJOR: u32 = 22;

/// The nightly that `setup` has rustup install where no compiler brings a BPF `core`; its LLVM is 22.
pub(crate) const NIGHTLY: &str = "nightly-2026-05-20";

/// The oldest compiler that builds the workspace: `rust-version` of the root `Cargo.toml`.
const OLDEST_RUST: (u32, u32) = (1, 95);

/// Names the only way to accept, `core` or `build-std`, for those who want to try one.
const WAY_VARIABLE: &str = "BRANCHLINE_EBPF";

/// Variables of cargo, rustup and rustc that the eBPF build keeps; the others speak of the host's toolchain.
const KEPT_VARIABLES: [&str; 8] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
    "RUSTUP_HOME",
    "RUST_BACKTRACE",
];

/// How a compiler comes by `core` for the BPF target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is installed beside the compiler.
    Core,
    /// Cargo compiles it from the compiler's sources (`-Z build-std=core`).
    BuildStd,
}

/// A Rust compiler that can compile the eBPF crate.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    /// Its folder, which holds `bin/rustc` and `bin/cargo`.
    sysroot: PathBuf,
    way: Way,
    version: String,
}

impl Compiler {
    /// Its cargo, prepared to run `subcommand` on the eBPF crate: environment, linker, target, locked dependencies.
    ///
    /// # Errors
    /// The workspace lies in a folder that cannot be part of `PATH`.
    pub(crate) fn cargo(&self, subcommand: &str) -> Result<Command> {
        self.cargo_into("ebpf", subcommand)
    }

    /// As [`Compiler::cargo`], with a folder of its own below `target/` for what it makes.
    ///
    /// # Errors
    /// See [`Compiler::cargo`].
    pub(crate) fn cargo_into(&self, folder: &str, subcommand: &str) -> Result<Command> {
        let mut cargo = Command::new(self.sysroot.join("bin/cargo"));
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(belongs_to_host_toolchain) {
                cargo.env_remove(&name);
            }
        }
        cargo
            .current_dir(workspace::root())
            .env("RUSTC", self.sysroot.join("bin/rustc"))
            // aya-ebpf uses `asm_experimental_arch`.
            .env("RUSTC_BOOTSTRAP", "1")
            // The linker optimises the programs as one; what the profile says is for programs of the host.
            .env("CARGO_PROFILE_RELEASE_LTO", "false")
            .env(
                "PATH",
                path_with(workspace::target("tools/bin").as_os_str())?,
            )
            .args([
                subcommand,
                "--release",
                "--locked",
                "--package",
                "branchline-ebpf",
                "--target",
                TARGET,
            ])
            .arg("--target-dir")
            .arg(workspace::target(folder));
        if self.way == Way::BuildStd {
            cargo.args(["-Z", "build-std=core"]);
        }
        Ok(cargo)
    }

    /// Its clippy for the eBPF crate, prepared like [`Compiler::cargo`], if it has one.
    ///
    /// # Errors
    /// See [`Compiler::cargo`].
    pub(crate) fn clippy(&self) -> Result<Option<Command>> {
        let program = self.sysroot.join("bin/cargo-clippy");
        if !program.is_file() {
            return Ok(None);
        }
        // Started directly: cargo would look for it in `PATH`, where rustup's may come first.
        let cargo = self.cargo("clippy")?;
        let mut clippy = Command::new(program);
        clippy.args(cargo.get_args()).current_dir(workspace::root());
        for (name, value) in cargo.get_envs() {
            match value {
                Some(value) => clippy.env(name, value),
                None => clippy.env_remove(name),
            };
        }
        clippy.env("CARGO", self.sysroot.join("bin/cargo"));
        Ok(Some(clippy))
    }

    /// True if it came with the system's packages, not by rustup.
    pub(crate) fn is_system(&self) -> bool {
        self.sysroot == Path::new("/usr")
    }

    /// One line for people.
    pub(crate) fn describe(&self) -> String {
        let way = match self.way {
            Way::Core => format!("{TARGET} core is installed"),
            Way::BuildStd => "core is compiled from source, -Z build-std".to_owned(),
        };
        format!(
            "rustc {} in {} ({way})",
            self.version,
            self.sysroot.display()
        )
    }
}

/// True for variables that cargo and rustup set for the host's toolchain, and for a user's flags for host code.
fn belongs_to_host_toolchain(name: &str) -> bool {
    let foreign =
        name.starts_with("CARGO") || name.starts_with("RUST") || name == "LD_LIBRARY_PATH";
    foreign && !KEPT_VARIABLES.iter().any(|kept| name.starts_with(kept))
}

/// The compiler to use for the eBPF crate: one with an installed `core` before one with sources.
///
/// # Errors
/// None is suitable; the text lists those that were looked at and why they were not taken.
pub(crate) fn find_compiler() -> Result<Compiler> {
    let wanted = env::var(WAY_VARIABLE).ok();
    let mut refused = Vec::new();
    let mut suitable = Vec::new();
    for sysroot in sysroots() {
        match inspect(&sysroot, wanted.as_deref()) {
            Ok(compiler) => suitable.push(compiler),
            Err(reason) => refused.push(format!("{} ({reason})", sysroot.display())),
        }
    }
    suitable.sort_by_key(|compiler| compiler.way != Way::Core);
    match suitable.into_iter().next() {
        Some(compiler) => Ok(compiler),
        None => bail!(
            "no Rust compiler for {TARGET}; looked at: {}",
            refused.join(", ")
        ),
    }
}

/// The sysroots of the system's compiler, those in `PATH`, and rustup's nightlies; each once.
fn sysroots() -> Vec<PathBuf> {
    let mut rustcs: Vec<PathBuf> = vec!["/usr/bin/rustc".into()];
    rustcs.extend(find_all("rustc"));
    if find("rustup").is_some() {
        for toolchain in [NIGHTLY, "nightly"] {
            let which = output(
                Command::new("rustup")
                    .env("RUSTUP_AUTO_INSTALL", "0")
                    .args(["which", "--toolchain", toolchain, "rustc"]),
            );
            rustcs.extend(which.ok().map(|path| PathBuf::from(path.trim())));
        }
    }
    let mut seen = HashSet::new();
    let sysroot = |rustc| output(Command::new(rustc).args(["--print", "sysroot"])).ok();
    let sysroots = rustcs
        .iter()
        .filter_map(sysroot)
        .map(|path| PathBuf::from(path.trim()));
    sysroots
        .filter(|sysroot| seen.insert(sysroot.clone()))
        .collect()
}

/// Says how the compiler in `sysroot` can serve, if `wanted` (a way's name) lets it.
fn inspect(sysroot: &Path, wanted: Option<&str>) -> Result<Compiler> {
    for program in ["bin/rustc", "bin/cargo"] {
        if !sysroot.join(program).is_file() {
            bail!("has no {program}");
        }
    }
    let verbose = output(Command::new(sysroot.join("bin/rustc")).arg("-vV"))?;
    let (version, llvm) = parse_version(&verbose)?;
    if numbers(&version) < OLDEST_RUST {
        bail!("is {version}, needs {}.{}", OLDEST_RUST.0, OLDEST_RUST.1);
    }
    if llvm > LLVM_MAJOR {
        bail!("uses LLVM {llvm}, bpf-linker has {LLVM_MAJOR}");
    }
    let rustlib = sysroot.join("lib/rustlib");
    let installed = fs::read_dir(rustlib.join(TARGET).join("lib")).is_ok_and(|files| {
        files
            .flatten()
            .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
    });
    let way = if installed && wanted != Some("build-std") {
        Way::Core
    } else if rustlib.join("src/rust/library/core/Cargo.toml").is_file() && wanted != Some("core") {
        Way::BuildStd
    } else {
        bail!("{version} has neither core for {TARGET} nor rust-src");
    };
    Ok(Compiler {
        sysroot: sysroot.to_owned(),
        way,
        version,
    })
}

/// The release and the major version of LLVM in the output of `rustc -vV`.
fn parse_version(verbose: &str) -> Result<(String, u32)> {
    let field = |name: &str| {
        verbose
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let (Some(release), Some(llvm)) = (field("release:"), field("LLVM version:")) else {
        bail!("`rustc -vV` names no release or no LLVM version");
    };
    Ok((release.to_owned(), numbers(llvm).0))
}

/// The first two numbers of a version.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The installed bpf-linker, if it is the right version and runs.
pub(crate) fn find_linker() -> Option<PathBuf> {
    let linker = workspace::target("tools/bin/bpf-linker");
    let version = output(Command::new(&linker).arg("--version")).ok()?;
    (version.split_whitespace().nth(1) == Some(LINKER_VERSION)).then_some(linker)
}

/// The folder of an LLVM that bpf-linker can be built against: the right major version, with what linking needs.
pub(crate) fn find_llvm() -> Option<PathBuf> {
    let versioned = format!("llvm-config-{LLVM_MAJOR}");
    let debian = PathBuf::from(format!("/usr/lib/llvm-{LLVM_MAJOR}/bin/llvm-config"));
    let named =
        env::var_os("LLVM_PREFIX").map(|prefix| PathBuf::from(prefix).join("bin/llvm-config"));
    let candidates = named
        .into_iter()
        .chain(find_all(&versioned))
        .chain([debian])
        .chain(find_all("llvm-config"));
    candidates.into_iter().find_map(|config| {
        let version = output(Command::new(&config).arg("--version")).ok()?;
        let prefix = PathBuf::from(output(Command::new(&config).arg("--prefix")).ok()?.trim());
        let libraries = PathBuf::from(output(Command::new(&config).arg("--libdir")).ok()?.trim());
        (numbers(version.trim()).0 == LLVM_MAJOR && libraries.join("libLLVM.so").exists())
            .then_some(prefix)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn reads_release_and_llvm() {
        let verbose =
            "rustc 1.96.0 (abc 2026-05-25)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_version(verbose).unwrap(), ("1.96.0".to_owned(), 22));
        assert!(parse_version("rustc 1.96.0\n").is_err());
        assert_eq!(numbers("1.97.0-nightly"), (1, 97));
    }

    #[test]
    fn the_hosts_toolchain_does_not_leak() {
        for name in [
            "CARGO",
            "CARGO_PKG_NAME",
            "RUSTC",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "LD_LIBRARY_PATH",
        ] {
            assert!(belongs_to_host_toolchain(name), "{name}");
        }
        for name in [
            "PATH",
            "CARGO_HOME",
            "CARGO_TERM_COLOR",
            "CARGO_REGISTRIES_X_INDEX",
            "RUSTUP_HOME",
        ] {
            assert!(!belongs_to_host_toolchain(name), "{name}");
        }
    }

    #[test]
    fn a_folder_without_a_compiler_is_refused_with_the_reason() {
        let reason = inspect(Path::new("/nonexistent"), None)
            .unwrap_err()
            .to_string();
        assert_eq!(reason, "has no bin/rustc");
    }
}
