//! The agent's service as its unit files describe it, without the service manager: the same user,
//! capabilities, limits and folders, by `setpriv` of util-linux.
//!
//! Reads the files that are packaged, so that a test cannot drift from them. System call filters need
//! the service manager: `cargo xtask test package` has one.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};

use crate::{host::Host, settings::ETC_NETNS};

const PACKAGING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/packaging");
/// Where that user finds the program: the folders above a build may be closed to others, as root's home is.
const PROGRAM: &str = "/run/program";
/// Stands for the user and the group that sysusers.d makes; nobody else's here.
pub const USER: u32 = 64_321;

/// What the unit gives the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// As `CAP_NET_ADMIN`.
    pub capabilities: Vec<String>,
    umask: String,
}

impl Service {
    /// Reads the unit.
    ///
    /// # Errors
    /// It cannot be read, or runs as root, or what it may gain is not what it has.
    pub fn read() -> Result<Self> {
        let unit = read("branchline.service")?;
        let words = |key: &str| -> Vec<String> {
            let words = values(&unit, key).flat_map(str::split_whitespace);
            words.map(str::to_owned).collect()
        };
        let capabilities = words("AmbientCapabilities");
        ensure!(words("User") == ["branchline"], "{:?}", words("User"));
        ensure!(words("NoNewPrivileges") == ["yes"]);
        ensure!(
            words("CapabilityBoundingSet") == capabilities,
            "bounding set and ambient capabilities differ"
        );
        let umask = words("UMask").pop().context("UMask= is missing")?;
        Ok(Self {
            capabilities,
            umask,
        })
    }

    /// As before without `capability`.
    #[must_use]
    pub fn without(&self, capability: &str) -> Self {
        let mut less = self.clone();
        less.capabilities.retain(|one| one != capability);
        less
    }

    /// A command that runs the agent's program as the service would: what comes behind it is its path, which does not
    /// matter on a host that is [`prepare`](Self::prepare)d, and its arguments.
    #[must_use]
    pub fn launcher(&self) -> Vec<String> {
        let names = self.capabilities.iter();
        let names = names.map(|name| name.trim_start_matches("CAP_").to_lowercase());
        let set = names.fold("-all".to_owned(), |set, name| format!("{set},+{name}"));
        let umask = format!("umask {}; shift; exec {PROGRAM} \"$@\"", self.umask);
        [
            "setpriv",
            &format!("--reuid={USER}"),
            &format!("--regid={USER}"),
            "--clear-groups",
            "--no-new-privs",
            &format!("--bounding-set={set}"),
            &format!("--inh-caps={set}"),
            &format!("--ambient-caps={set}"),
            "sh",
            "-c",
            &umask,
            "service",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Makes the folders on `host` that the service manager would make, and `others` for the agent, and puts its program
    /// where the launcher starts it.
    ///
    /// # Errors
    /// A packaged file is not understood, or a folder cannot be made, or there is no program.
    pub fn prepare(host: &Host, others: &[&str]) -> Result<()> {
        let pins = read("run-branchline.bpf.mount")?;
        let one = |key: &str| {
            let value = values(&pins, key).next();
            value.with_context(|| format!("{key}= is missing"))
        };
        let (at, options) = (one("Where")?, one("Options")?);
        // The others are flags, which do not matter here.
        let mode = options
            .split(',')
            .find(|option| option.starts_with("mode="));
        let tmpfiles = read("branchline.tmpfiles")?;
        let program = Host::program()?;
        host.run(|| {
            fs::write(PROGRAM, "")?;
            mount(
                Some(&program),
                PROGRAM,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?;
            fs::create_dir(at)?;
            mount(Some("bpf"), at, Some("bpf"), MsFlags::empty(), mode)?;
            for line in lines(&tmpfiles) {
                make_folder(line)?;
            }
            for folder in ["/run/branchline"].iter().chain(others) {
                fs::create_dir(folder)?;
                chown(folder, Some(USER), Some(USER))?;
            }
            anyhow::Ok(())
        })
    }
}

/// A line `d PATH MODE root branchline -` of tmpfiles.d(5).
fn make_folder(line: &str) -> Result<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["d", path, mode, "root", "branchline", "-"] = words[..] else {
        anyhow::bail!("a line of branchline.tmpfiles is not understood: {line}");
    };
    // The machine's own is left alone.
    let path = path.replace("/etc/netns", ETC_NETNS);
    let path = path.as_str();
    fs::create_dir_all(path)?;
    chown(path, Some(0), Some(USER))?;
    let mode = u32::from_str_radix(mode, 8)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(())
}

fn read(name: &str) -> Result<String> {
    let path = Path::new(PACKAGING).join(name);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The values of `key` in the text of a unit file.
fn values<'a>(text: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    lines(text).filter_map(move |line| {
        let (name, value) = line.split_once('=')?;
        (name == key).then_some(value)
    })
}
