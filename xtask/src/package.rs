//! `cargo xtask package`: a Debian package of agent, query, CNI plugin, service and documents.
//!
//! Laid out here and packed by dpkg-deb, which every Debian has: most of its content is made by the
//! programs themselves (man pages, completions) or comes from `agent/packaging`, and cargo-deb would add
//! 200 crates to build and a second build of ours. Installs nothing.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::build;
use crate::process::{output, run as run_command, say};
use crate::sandbox;
use crate::setup::{self, Group};
use crate::trial;
use crate::unit::{self, UNITS, packaging};
use crate::workspace;

/// Make a Debian package, and check what is in it
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Package programs that are not optimised
    #[arg(long)]
    pub(crate) dev: bool,
    /// Also install, run, upgrade, remove and purge it on a machine of its own (root)
    #[arg(long)]
    pub(crate) trial: bool,
}

/// Debian's revision of the version.
const REVISION: u32 = 1;
/// Names of the programs in `/usr/bin`.
const AGENT: &str = "branchline";
const QUERY: &str = "branchline-query";
/// The CNI plugin. `/usr/lib/cni` is what Debian's containerd and podman read; a package may not write
/// below /opt.
const PLUGIN: &str = "branchline-cni";
const PLUGIN_DIR: &str = "usr/lib/cni";
/// What an administrator may change.
const CONFFILES: [&str; 2] = ["agent.toml", "vpc.toml"];
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// Comes after the version in an upgrade, which is tried with the same programs.
const NEXT: &str = "+next";
/// A page of the query program's own would say the same: it is started by `branchline flows query`.
const SAME_PAGE: [&str; 2] = ["branchline-query.1.gz", "branchline-flows-query.1.gz"];
const SHELLS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/branchline"),
    ("zsh", "usr/share/zsh/vendor-completions/_branchline"),
    (
        "fish",
        "usr/share/fish/vendor_completions.d/branchline.fish",
    ),
];

/// Runs the command.
///
/// # Errors
/// Something does not compile, a tool is missing, or the package is not what it should be.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.trial {
        sandbox::require_privilege("package --trial")?;
        setup::ensure(&[Group::Trial])?;
    }
    setup::ensure(&[Group::Build, Group::Package])?;
    let (agent, _) = build::agent_and(!args.dev, &[])?;
    let plugin = agent.with_file_name(PLUGIN);
    let programs = [agent, build::query(!args.dev)?, plugin];
    let tree = Tree::new()?;
    tree.programs(&programs)?;
    tree.service()?;
    tree.documents()?;
    tree.md5sums()?;
    tree.control(&version())?;
    let package = tree.pack(&version(), args.dev)?;
    check(&package)?;
    if !args.dev {
        lint(&package)?;
    }
    let size = fs::metadata(&package).context("measure the package")?.len();
    let shown = workspace::relative(&package).display();
    say("package", &format!("{shown}, {} KB", size / 1024));
    if args.trial {
        let next = version() + NEXT;
        tree.control(&next)?;
        let next = tree.pack(&next, true)?;
        let tried = trial::run(&package, &next);
        fs::remove_file(&next).context("remove the package of the upgrade")?;
        tried?;
    }
    Ok(())
}

fn version() -> String {
    format!("{}-{REVISION}", env!("CARGO_PKG_VERSION"))
}

/// What is packed.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn new() -> Result<Self> {
        let root = workspace::target("package/root");
        if root.exists() {
            fs::remove_dir_all(&root).context("remove target/package/root")?;
        }
        let tree = Self { root };
        tree.folder("")?;
        Ok(tree)
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder)
    }

    /// The path of a file whose folder is there.
    fn place(&self, name: &str) -> Result<PathBuf> {
        if let Some((folder, _)) = name.rsplit_once('/') {
            self.folder(folder)?;
        }
        Ok(self.root.join(name))
    }

    fn copy(&self, from: &Path, name: &str, mode: u32) -> Result<PathBuf> {
        let to = self.place(name)?;
        fs::copy(from, &to).with_context(|| format!("copy {}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).context("set a mode")?;
        Ok(to)
    }

    fn programs(&self, [agent, query, plugin]: &[PathBuf; 3]) -> Result<()> {
        for (from, name) in [
            (agent, format!("usr/bin/{AGENT}")),
            (query, format!("usr/bin/{QUERY}")),
            (plugin, format!("{PLUGIN_DIR}/{PLUGIN}")),
        ] {
            let program = self.copy(from, &name, 0o755)?;
            let mut strip = Command::new("strip");
            run_command(strip.arg("--strip-unneeded").arg(&program))?;
        }
        Ok(())
    }

    fn service(&self) -> Result<()> {
        for unit in UNITS {
            let name = format!("usr/lib/systemd/system/{unit}");
            self.copy(&packaging().join(unit), &name, 0o644)?;
        }
        for kind in ["sysusers", "tmpfiles"] {
            let from = packaging().join(format!("branchline.{kind}"));
            self.copy(&from, &format!("usr/lib/{kind}.d/branchline.conf"), 0o644)?;
        }
        for file in CONFFILES {
            let name = format!("etc/branchline/{file}");
            self.copy(&packaging().join(file), &name, 0o644)?;
        }
        Ok(())
    }

    /// Man pages and completions are what the packaged program says of itself.
    fn documents(&self) -> Result<()> {
        let agent = self.root.join("usr/bin").join(AGENT);
        let man = self.folder("usr/share/man/man1")?;
        output(Command::new(&agent).arg("man").arg(&man))?;
        for page in fs::read_dir(&man).context("list the man pages")? {
            compress(&page?.path())?;
        }
        let [page, same] = SAME_PAGE;
        symlink(same, man.join(page)).context("link a man page")?;
        for (shell, name) in SHELLS {
            let file = File::create(self.place(name)?).context("write completions")?;
            let mut completions = Command::new(&agent);
            run_command(completions.args(["completions", shell]).stdout(file))?;
        }
        let dashboard = packaging().join("grafana/branchline.json");
        self.copy(
            &dashboard,
            "usr/share/branchline/grafana/branchline.json",
            0o644,
        )?;
        let doc = |name: &str| format!("usr/share/doc/branchline/{name}");
        let debian = packaging().join("debian");
        self.copy(&debian.join("copyright"), &doc("copyright"), 0o644)?;
        let overrides = "usr/share/lintian/overrides/branchline";
        self.copy(&debian.join("lintian-overrides"), overrides, 0o644)?;
        self.copy(
            &workspace::root().join("README.md"),
            &doc("README.md"),
            0o644,
        )?;
        let changes = workspace::root().join("CHANGELOG.md");
        compress(&self.copy(&changes, &doc("changelog"), 0o644)?)?;
        let changes = debian.join("changelog");
        let text = fs::read_to_string(&changes).context("read the Debian changelog")?;
        let first = format!("branchline ({}) ", version());
        ensure!(
            text.starts_with(&first),
            "{} does not begin with {first:?}",
            changes.display()
        );
        compress(&self.copy(&changes, &doc("changelog.Debian"), 0o644)?)
    }

    fn control(&self, version: &str) -> Result<()> {
        let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
        let libc = self.libc()?;
        let kilobytes = self
            .files()?
            .into_iter()
            .map(|(_, size)| size.div_ceil(1024));
        let control = format!(
            "Package: branchline\n\
             Version: {version}\n\
             Architecture: {}\n\
             Maintainer: The branchline authors <branchline@localhost>\n\
             Installed-Size: {}\n\
             Depends: libc6 (>= {libc}), libgcc-s1, nftables, systemd\n\
             Recommends: ca-certificates\n\
             Suggests: prometheus, containerd | podman\n\
             Section: net\n\
             Priority: optional\n\
             Description: network identity, security groups and flow logs for tasks\n \
             Gives every task on this host an address, security groups and a flow log of its\n \
             own, as Amazon ECS does in awsvpc mode, enforced and recorded in eBPF.\n",
            architecture.trim(),
            kilobytes.sum::<u64>(),
        );
        fs::write(self.place("DEBIAN/control")?, control).context("write control")?;
        let conffiles = CONFFILES.map(|file| format!("/etc/branchline/{file}\n"));
        fs::write(self.place("DEBIAN/conffiles")?, conffiles.concat())
            .context("write conffiles")?;
        for script in SCRIPTS {
            let from = packaging().join("debian").join(script);
            self.copy(&from, &format!("DEBIAN/{script}"), 0o755)?;
        }
        Ok(())
    }

    fn md5sums(&self) -> Result<()> {
        let mut sums = Command::new("md5sum");
        sums.current_dir(&self.root);
        let files = self.files()?.into_iter().map(|(name, _)| name);
        sums.args(files.filter(|name| !self.root.join(name).is_symlink()));
        let sums = output(&mut sums)?;
        fs::write(self.place("DEBIAN/md5sums")?, sums).context("write md5sums")
    }

    /// The oldest C library that has every symbol that the programs ask for.
    fn libc(&self) -> Result<String> {
        let mut newest = (0, 0);
        let programs = [
            format!("usr/bin/{AGENT}"),
            format!("usr/bin/{QUERY}"),
            format!("{PLUGIN_DIR}/{PLUGIN}"),
        ];
        for program in programs {
            let bytes =
                fs::read(self.root.join(&program)).with_context(|| format!("read {program}"))?;
            newest = newest.max(glibc(&bytes));
        }
        ensure!(
            newest != (0, 0),
            "the programs name no version of the C library"
        );
        Ok(format!("{}.{}", newest.0, newest.1))
    }

    /// Every file that is installed, below the root, with its size, by name.
    fn files(&self) -> Result<Vec<(PathBuf, u64)>> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).context("list the package's files")? {
                let path = entry?.path();
                let name = path.strip_prefix(&self.root)?.to_owned();
                if name.starts_with("DEBIAN") {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push((name, fs::symlink_metadata(&path)?.len()));
                }
            }
        }
        files.sort();
        Ok(files)
    }

    fn pack(&self, version: &str, dev: bool) -> Result<PathBuf> {
        let mut pack = Command::new("dpkg-deb");
        pack.args(["--root-owner-group", "--build"]);
        if dev {
            pack.arg("-Znone");
        }
        output(pack.arg(&self.root).arg(workspace::target("package")))?;
        let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
        let architecture = architecture.trim();
        let name = format!("package/branchline_{version}_{architecture}.deb");
        let package = workspace::target(&name);
        ensure!(package.is_file(), "dpkg-deb made no {}", package.display());
        Ok(package)
    }
}

/// The newest version after `GLIBC_` in a program's bytes.
fn glibc(bytes: &[u8]) -> (u32, u32) {
    const TAG: &[u8] = b"GLIBC_";
    let places = bytes.windows(TAG.len()).enumerate();
    let places = places.filter(|(_, window)| *window == TAG);
    let versions = places.filter_map(|(at, _)| {
        let text = bytes[at + TAG.len()..].split(|byte| *byte == 0).next()?;
        let mut parts = std::str::from_utf8(text).ok()?.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    versions.max().unwrap_or_default()
}

/// As Debian's policy wants documents (section 12).
fn compress(file: &Path) -> Result<()> {
    output(Command::new("gzip").args(["-9", "-n", "-f"]).arg(file))?;
    Ok(())
}

/// Debian's own judgement of a package.
fn lint(package: &Path) -> Result<()> {
    setup::ensure(&[Group::Lintian])?;
    let mut lintian = Command::new("lintian");
    lintian.args(["--no-cfg", "--allow-root", "--fail-on", "error,warning"]);
    run_command(lintian.arg(package)).context("lintian has something to say")?;
    say("package", "lintian: neither errors nor warnings");
    Ok(())
}

/// Unpacks a package beside it and tries what came out.
fn check(package: &Path) -> Result<()> {
    let out = workspace::target("package/unpacked");
    if out.exists() {
        fs::remove_dir_all(&out).context("remove target/package/unpacked")?;
    }
    output(Command::new("dpkg-deb").arg("-x").args([package, &out]))?;
    let program = |name: &str| Command::new(out.join(name));
    let said = output(program("usr/bin/branchline").arg("--version"))?;
    let expected = format!("branchline {}\n", env!("CARGO_PKG_VERSION"));
    ensure!(said == expected, "the packaged agent says {said:?}");
    output(program("usr/bin/branchline-query").arg("--help"))?;
    let mut plugin = program("usr/lib/cni/branchline-cni");
    let said = output(plugin.env("CNI_COMMAND", "VERSION"))?;
    ensure!(
        said.contains("supportedVersions"),
        "the packaged plugin says {said:?}"
    );
    let page = out.join("usr/share/man/man1/branchline-task-add.1.gz");
    ensure!(page.is_file(), "{} is missing", page.display());
    unit::check(&out.join("usr/lib/systemd/system"))?;
    let files = output(Command::new("dpkg-deb").arg("-c").arg(package))?;
    for line in files.lines() {
        ensure!(line.contains(" root/root "), "not of root: {line}");
    }
    for script in SCRIPTS {
        let script = packaging().join("debian").join(script);
        let mut shell = Command::new("sh");
        let parsed = shell.arg("-n").arg(&script).stdin(Stdio::null()).status();
        if !parsed.context("start sh")?.success() {
            bail!("{} is no shell script", script.display());
        }
    }
    say(
        "package",
        "unpacked: programs run, units and scripts are read",
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_newest_version_of_the_c_library() {
        let bytes = b"\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE\0GCC_3.0\0";
        assert_eq!(glibc(bytes), (2, 34));
        assert_eq!(glibc(b"static"), (0, 0));
    }
}
