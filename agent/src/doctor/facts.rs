//! What the doctor looks at on this host. Reads only; judges nothing.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};

use super::probe::LinkProbe;
use crate::cli::client::{Client, ClientError};
use crate::config::{Config, ProviderKind};
use crate::provider::ec2::{Preflight, preflight};
use crate::provider::local::LocalProvider;
use crate::server::causes;

/// What was found; errors are text for people.
#[derive(Debug, Clone)]
pub struct Facts {
    /// As `uname -r` says.
    pub kernel_release: String,
    /// Bits of the effective capabilities, by their number.
    pub effective_capabilities: u64,
    /// Where bpffs should be.
    pub bpffs_dir: PathBuf,
    /// Whether it is there.
    pub bpffs: Result<bool, String>,
    /// Whether the kernel describes its own types.
    pub btf: bool,
    /// Whether the kernel speaks IPv6.
    pub ipv6: bool,
    /// `net.core.bpf_jit_enable`; `None` outside the first network namespace.
    pub jit: Option<String>,
    /// The limit of locked memory.
    pub memlock: Memlock,
    /// Version of `nft`.
    pub nft: Result<String, String>,
    /// Whether links and their hooks can be made.
    pub links: LinkProbe,
    /// The configuration file, if one was given.
    pub config: Option<Result<Config, String>>,
    /// Warnings of the VPC file, if the configuration is for the embedded VPC.
    pub vpc_warnings: Option<Result<Vec<String>, String>>,
    /// What EC2 says, if the configuration is for it.
    pub ec2: Option<Preflight>,
    /// Folders by the name of their setting, and whether they can be written to.
    pub folders: Vec<(String, PathBuf, Result<(), String>)>,
    /// The socket where the agent should answer.
    pub socket: PathBuf,
    /// The version of the agent that answers.
    pub agent: Result<String, String>,
}

/// The limit of locked memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memlock {
    /// None.
    Unlimited,
    /// This many bytes.
    Bytes(u64),
}

/// A kernel's version, as far as features hang on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// As 6.
    pub major: u32,
    /// As 12.
    pub minor: u32,
}

impl KernelVersion {
    /// Reads `6.12.3-cloud`.
    pub fn of(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self {
            major: numbers.next()?.parse().ok()?,
            minor: numbers.next()?.parse().ok()?,
        })
    }
}

impl Facts {
    /// Looks at this host, at the configuration at `config` if given, and at the agent it would run.
    ///
    /// Without a configuration, the agent is looked for at `socket`.
    pub async fn gather(config: Option<&Path>, socket: &Path) -> Self {
        let config = config.map(|path| Config::load(path).map_err(|error| causes(&error)));
        let known = config.as_ref().and_then(|config| config.as_ref().ok());
        let is_ec2 = |config: &&Config| config.provider == ProviderKind::Ec2;
        let on_ec2 = known.filter(is_ec2);
        let local = known.filter(|config| !is_ec2(config));
        let vpc_warnings = local.map(|config| match LocalProvider::load(config) {
            Ok((_, warnings)) => Ok(warnings),
            Err(error) => Err(causes(&error)),
        });
        let socket = known.map_or(socket.to_owned(), Config::socket);
        let settings = known.cloned().unwrap_or_default();
        Self {
            kernel_release: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
            effective_capabilities: effective_capabilities().unwrap_or_default(),
            bpffs: bpffs(&settings.bpffs_dir),
            bpffs_dir: settings.bpffs_dir.clone(),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            ipv6: Path::new("/proc/sys/net/ipv6").exists(),
            jit: read("/proc/sys/net/core/bpf_jit_enable"),
            memlock: memlock(),
            nft: nft(),
            links: LinkProbe::run(),
            folders: folders(&settings),
            agent: agent(&socket).await,
            ec2: match on_ec2 {
                Some(config) => Some(preflight(config).await),
                None => None,
            },
            config,
            vpc_warnings,
            socket,
        }
    }
}

async fn agent(socket: &Path) -> Result<String, String> {
    match Client::new(socket).status().await {
        Ok(status) => Ok(status.version),
        Err(ClientError::Connect { source, .. }) => {
            Err(format!("no answer at {}: {source}", socket.display()))
        }
        Err(error) => Err(causes(&error)),
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

fn effective_capabilities() -> Option<u64> {
    let status = read("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn bpffs(dir: &Path) -> Result<bool, String> {
    statfs(dir)
        .map(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
        .map_err(|error| error.desc().to_owned())
}

fn memlock() -> Memlock {
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) if soft != RLIM_INFINITY => Memlock::Bytes(soft),
        _ => Memlock::Unlimited,
    }
}

fn nft() -> Result<String, String> {
    match std::process::Command::new("nft").arg("--version").output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Ok(output) => Err(format!(
            "nft --version: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Err("not in PATH".to_owned()),
        Err(error) => Err(format!("nft --version: {error}")),
    }
}

fn folders(config: &Config) -> Vec<(String, PathBuf, Result<(), String>)> {
    let own = [
        ("run_dir", &config.run_dir),
        ("state_dir", &config.state_dir),
        ("netns_dir", &config.netns_dir),
    ];
    let own = own.map(|(name, path)| (name.to_owned(), path));
    let logs = config.flow_logs.iter().enumerate();
    let logs = logs.map(|(index, log)| (format!("flow_logs[{index}].dir"), &log.dir));
    own.into_iter()
        .chain(logs)
        .map(|(name, path)| (name, path.clone(), writable(path)))
        .collect()
}

/// Whether files can be made in `path`, or, while it is missing, in the nearest folder above.
fn writable(path: &Path) -> Result<(), String> {
    for folder in path.ancestors() {
        match std::fs::metadata(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.to_string()),
            Ok(metadata) if !metadata.is_dir() => {
                return Err(format!("{} is no folder", folder.display()));
            }
            Ok(_) => {
                return access(folder, AccessFlags::W_OK | AccessFlags::X_OK)
                    .map_err(|error| format!("{}: {}", folder.display(), error.desc()));
            }
        }
    }
    Err("no folder above it exists".to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::test_dir::TestDir;

    #[test]
    fn kernel_releases_are_read_as_distributions_write_them() {
        let version = |major, minor| Some(KernelVersion { major, minor });
        assert_eq!(KernelVersion::of("5.10.0-33-cloud-amd64"), version(5, 10));
        assert_eq!(KernelVersion::of("6.12"), version(6, 12));
        assert_eq!(KernelVersion::of("6.1-rc3"), version(6, 1));
        assert_eq!(KernelVersion::of(""), None);
        assert!(version(5, 9) < version(5, 10) && version(5, 19) < version(6, 0));
    }

    #[test]
    fn a_missing_folder_is_writable_if_the_one_above_is() {
        let dir = TestDir::new();
        assert_eq!(writable(&dir.path().join("a/b/c")), Ok(()));
        assert!(!dir.path().join("a").exists());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(writable(&file).unwrap_err().contains("is no folder"));
        assert!(writable(&file.join("below")).is_err());
        assert!(writable(Path::new("/proc/sys/branchline")).is_err());
    }

    #[test]
    fn a_folder_is_no_bpffs() {
        let dir = TestDir::new();
        assert_eq!(bpffs(dir.path()), Ok(false));
        assert!(bpffs(&dir.path().join("none")).is_err());
    }
}
