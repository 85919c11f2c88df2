//! `branchline doctor`: can this host run the agent, and if not, what is missing and what to do about it.
//!
//! Judges what `facts` gathered. Changes nothing on the host.

mod ec2;
mod facts;
mod probe;

pub use facts::{Facts, KernelVersion, Memlock};
pub use probe::LinkProbe;

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::config::{Config, ProviderKind, WireKind};

/// The oldest kernel that every program is tested on.
const OLDEST_KERNEL: KernelVersion = KernelVersion {
    major: 5,
    minor: 10,
};
/// Since this one, BPF memory is accounted to cgroups and not to RLIMIT_MEMLOCK.
const NO_MEMLOCK: KernelVersion = KernelVersion {
    major: 5,
    minor: 11,
};
/// Since this one, programs are attached by TCX links.
const TCX: KernelVersion = KernelVersion { major: 6, minor: 6 };
/// Numbers of the capabilities (linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;
const CAP_BPF: u32 = 39;
/// What maps of the default sizes need, in bytes, where RLIMIT_MEMLOCK counts them.
const MEMLOCK_BYTES: u64 = 512 << 20;

/// Every check, and what they come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The checks, the kernel first.
    pub checks: Vec<Check>,
    /// Whether nothing required is missing.
    pub healthy: bool,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What it means.
    pub outcome: Outcome,
    /// What was found.
    pub finding: String,
    /// What to do, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Works, but not as well as it could, or could not be checked.
    Warn,
    /// The agent cannot run like this.
    Missing,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Missing => "missing",
        })
    }
}

/// Turns facts into checks.
pub fn judge(facts: &Facts) -> Report {
    let mut checks = vec![
        kernel(facts),
        capability(facts, "CAP_NET_ADMIN", CAP_NET_ADMIN),
        capability(facts, "CAP_SYS_ADMIN", CAP_SYS_ADMIN),
        bpf_capability(facts),
        bpffs(facts),
        links(facts),
        attachment(facts),
        jit(facts),
        btf(facts),
        ipv6(facts),
    ];
    checks.extend(memlock(facts));
    checks.extend(nft(facts));
    checks.extend(config(facts));
    checks.extend(facts.ec2.iter().flat_map(ec2::checks));
    checks.extend(
        facts
            .folders
            .iter()
            .map(|(name, path, writable)| folder(name, path, writable)),
    );
    checks.push(agent(facts));
    let healthy = checks.iter().all(|check| check.outcome != Outcome::Missing);
    Report { checks, healthy }
}

fn ok(name: &str, finding: impl Into<String>) -> Check {
    Check {
        name: name.to_owned(),
        outcome: Outcome::Ok,
        finding: finding.into(),
        fix: None,
    }
}

fn not_ok(name: &str, outcome: Outcome, finding: impl Into<String>, fix: &str) -> Check {
    Check {
        name: name.to_owned(),
        outcome,
        finding: finding.into(),
        fix: Some(fix.to_owned()),
    }
}

fn kernel(facts: &Facts) -> Check {
    let release = &facts.kernel_release;
    match KernelVersion::of(release) {
        Some(version) if version >= OLDEST_KERNEL => ok("kernel", release),
        Some(_) => not_ok(
            "kernel",
            Outcome::Missing,
            release,
            "install Linux 5.10 or later",
        ),
        None => not_ok(
            "kernel",
            Outcome::Warn,
            format!("{release:?}"),
            "make sure it is Linux 5.10 or later",
        ),
    }
}

fn has(facts: &Facts, capability: u32) -> bool {
    facts.effective_capabilities >> capability & 1 == 1
}

fn capability(facts: &Facts, name: &str, number: u32) -> Check {
    if has(facts, number) {
        return ok(name, "present");
    }
    not_ok(
        name,
        Outcome::Missing,
        "absent",
        "run as root, in a container with this capability added",
    )
}

/// CAP_SYS_ADMIN implies CAP_BPF (capabilities(7)).
fn bpf_capability(facts: &Facts) -> Check {
    match (has(facts, CAP_BPF), has(facts, CAP_SYS_ADMIN)) {
        (true, _) => ok("CAP_BPF", "present"),
        (false, true) => ok("CAP_BPF", "implied by CAP_SYS_ADMIN"),
        (false, false) => not_ok(
            "CAP_BPF",
            Outcome::Missing,
            "absent",
            "run as root, in a container with this capability added",
        ),
    }
}

fn bpffs(facts: &Facts) -> Check {
    let path = facts.bpffs_dir.display();
    match &facts.bpffs {
        Ok(true) => ok("bpffs", format!("mounted at {path}")),
        Ok(false) => {
            let fix = format!("mount -t bpf bpf {path}");
            not_ok(
                "bpffs",
                Outcome::Missing,
                format!("not mounted at {path}"),
                &fix,
            )
        }
        Err(error) => {
            let fix = format!("mkdir -p {path} && mount -t bpf bpf {path}");
            not_ok("bpffs", Outcome::Missing, format!("{path}: {error}"), &fix)
        }
    }
}

fn links(facts: &Facts) -> Check {
    let name = "veth and TC";
    match &facts.links {
        LinkProbe::Works => ok(name, "made in a throw-away namespace"),
        LinkProbe::NotTried(why) => not_ok(
            name,
            Outcome::Warn,
            format!("not tried: {why}"),
            "run doctor as root",
        ),
        LinkProbe::Failed { step, error } => {
            let fix =
                "load the modules veth, sch_ingress and cls_bpf, or install a kernel that has them";
            not_ok(name, Outcome::Missing, format!("{step}: {error}"), fix)
        }
    }
}

fn attachment(facts: &Facts) -> Check {
    match KernelVersion::of(&facts.kernel_release) {
        Some(version) if version >= TCX => ok("program attachment", "TCX link on the trunk"),
        _ => ok("program attachment", "clsact (TCX links need Linux 6.6)"),
    }
}

fn jit(facts: &Facts) -> Check {
    match facts.jit.as_deref() {
        Some("0") => not_ok(
            "BPF compiler",
            Outcome::Warn,
            "off: programs are slow",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Some(_) => ok("BPF compiler", "on"),
        None => ok("BPF compiler", "not visible from this network namespace"),
    }
}

fn btf(facts: &Facts) -> Check {
    let finding = if facts.btf {
        "/sys/kernel/btf/vmlinux"
    } else {
        "absent; not required"
    };
    ok("kernel BTF", finding)
}

fn ipv6(facts: &Facts) -> Check {
    if facts.ipv6 {
        return ok("IPv6", "present");
    }
    not_ok(
        "IPv6",
        Outcome::Warn,
        "absent",
        "boot without ipv6.disable=1, or use subnets without IPv6",
    )
}

/// Only where the limit counts: CAP_SYS_RESOURCE lifts it, and kernels since 5.11 do not ask.
fn memlock(facts: &Facts) -> Option<Check> {
    if KernelVersion::of(&facts.kernel_release)? >= NO_MEMLOCK {
        return None;
    }
    Some(match facts.memlock {
        Memlock::Unlimited => ok("RLIMIT_MEMLOCK", "unlimited"),
        Memlock::Bytes(_) if has(facts, CAP_SYS_RESOURCE) => {
            ok("RLIMIT_MEMLOCK", "raised by the agent")
        }
        Memlock::Bytes(bytes) if bytes >= MEMLOCK_BYTES => {
            ok("RLIMIT_MEMLOCK", format!("{} MiB", bytes >> 20))
        }
        Memlock::Bytes(bytes) => {
            let fix = "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity)";
            not_ok(
                "RLIMIT_MEMLOCK",
                Outcome::Missing,
                format!("{} KiB", bytes >> 10),
                fix,
            )
        }
    })
}

fn nft(facts: &Facts) -> Option<Check> {
    let config = facts
        .config
        .as_ref()
        .and_then(|config| config.as_ref().ok());
    let is_of_use = |config: &Config| {
        config.local.uplink
            && (config.provider == ProviderKind::Local || config.ec2.wire == WireKind::Fabric)
    };
    if config.is_some_and(|config| !is_of_use(config)) {
        return None;
    }
    Some(match &facts.nft {
        Ok(version) => ok("nft", version),
        Err(error) => {
            let fix = "install nftables, or set local.uplink = false and do without the outside";
            not_ok("nft", Outcome::Missing, error, fix)
        }
    })
}

fn config(facts: &Facts) -> Vec<Check> {
    let fix = "correct the file";
    let mut checks = Vec::new();
    match &facts.config {
        None => checks.push(ok("configuration", "none given; defaults assumed")),
        Some(Ok(_)) => checks.push(ok("configuration", "valid")),
        Some(Err(error)) => checks.push(not_ok("configuration", Outcome::Missing, error, fix)),
    }
    match &facts.vpc_warnings {
        None => {}
        Some(Err(error)) => checks.push(not_ok("VPC file", Outcome::Missing, error, fix)),
        Some(Ok(warnings)) if warnings.is_empty() => checks.push(ok("VPC file", "valid")),
        Some(Ok(warnings)) => {
            let warn = |warning: &String| {
                not_ok(
                    "VPC file",
                    Outcome::Warn,
                    warning,
                    "see whether it is meant so",
                )
            };
            checks.extend(warnings.iter().map(warn));
        }
    }
    checks
}

fn folder(name: &str, path: &Path, writable: &Result<(), String>) -> Check {
    match writable {
        Ok(()) => ok(name, path.display().to_string()),
        Err(error) => {
            let finding = format!("{}: {error}", path.display());
            not_ok(
                name,
                Outcome::Missing,
                finding,
                &format!("make it writable, or set another {name}"),
            )
        }
    }
}

fn agent(facts: &Facts) -> Check {
    match &facts.agent {
        Ok(version) => ok(
            "agent",
            format!("{version} runs at {}", facts.socket.display()),
        ),
        Err(error) => not_ok(
            "agent",
            Outcome::Warn,
            error,
            "branchline agent --config FILE",
        ),
    }
}

#[cfg(test)]
mod tests;
