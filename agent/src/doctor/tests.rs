//! Tests of what the doctor concludes.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::config::{Config, LocalConfig};

/// A root shell on a host that has everything.
fn good() -> Facts {
    Facts {
        kernel_release: "6.12.3".into(),
        effective_capabilities: u64::MAX,
        bpffs_dir: "/sys/fs/bpf".into(),
        bpffs: Ok(true),
        btf: true,
        ipv6: true,
        jit: Some("1".into()),
        memlock: Memlock::Bytes(64 << 10),
        nft: Ok("nftables v1.0.6".into()),
        links: LinkProbe::Works,
        config: Some(Ok(Config::default())),
        vpc_warnings: Some(Ok(Vec::new())),
        ec2: None,
        folders: vec![("state_dir".into(), "/var/lib/branchline".into(), Ok(()))],
        socket: "/run/branchline/agent.sock".into(),
        agent: Ok("0.1.0".into()),
    }
}

fn find<'a>(report: &'a Report, name: &str) -> &'a Check {
    report
        .checks
        .iter()
        .find(|check| check.name == name)
        .unwrap()
}

#[test]
fn a_host_that_has_everything_is_healthy() {
    let report = judge(&good());
    assert!(report.healthy);
    assert!(
        report
            .checks
            .iter()
            .all(|check| check.outcome == Outcome::Ok && check.fix.is_none()),
        "{report:?}"
    );
    assert_eq!(
        find(&report, "program attachment").finding,
        "TCX link on the trunk"
    );
}

#[test]
fn each_fault_is_named_with_its_fix() {
    let without = |bit: u32| !(1 << bit);
    let old = "5.10.0-33";
    let no_uplink = Config {
        local: LocalConfig {
            uplink: false,
            ..LocalConfig::default()
        },
        ..Config::default()
    };
    let no_nft = || Err("not in PATH".to_owned());
    let rows: [(&str, Facts, &str, Outcome, &str); 17] = [
        (
            "old kernel",
            Facts {
                kernel_release: "5.4.0".into(),
                ..good()
            },
            "kernel",
            Outcome::Missing,
            "5.10",
        ),
        (
            "odd kernel",
            Facts {
                kernel_release: "x".into(),
                ..good()
            },
            "kernel",
            Outcome::Warn,
            "5.10",
        ),
        (
            "no net admin",
            Facts {
                effective_capabilities: without(12),
                ..good()
            },
            "CAP_NET_ADMIN",
            Outcome::Missing,
            "root",
        ),
        (
            "no sys admin",
            Facts {
                effective_capabilities: without(21),
                ..good()
            },
            "CAP_SYS_ADMIN",
            Outcome::Missing,
            "root",
        ),
        (
            "nothing",
            Facts {
                effective_capabilities: 0,
                ..good()
            },
            "CAP_BPF",
            Outcome::Missing,
            "root",
        ),
        (
            "no bpffs",
            Facts {
                bpffs: Ok(false),
                ..good()
            },
            "bpffs",
            Outcome::Missing,
            "mount -t bpf bpf /sys/fs/bpf",
        ),
        (
            "no folder",
            Facts {
                bpffs: Err("none".into()),
                ..good()
            },
            "bpffs",
            Outcome::Missing,
            "mkdir -p /sys/fs/bpf",
        ),
        (
            "no veth",
            Facts {
                links: LinkProbe::Failed {
                    step: "make a veth pair",
                    error: "EOPNOTSUPP".into(),
                },
                ..good()
            },
            "veth and TC",
            Outcome::Missing,
            "modules veth",
        ),
        (
            "no root",
            Facts {
                links: LinkProbe::NotTried("no".into()),
                ..good()
            },
            "veth and TC",
            Outcome::Warn,
            "as root",
        ),
        (
            "interpreter",
            Facts {
                jit: Some("0".into()),
                ..good()
            },
            "BPF compiler",
            Outcome::Warn,
            "bpf_jit_enable=1",
        ),
        (
            "no IPv6",
            Facts {
                ipv6: false,
                ..good()
            },
            "IPv6",
            Outcome::Warn,
            "ipv6.disable",
        ),
        (
            "memlock",
            Facts {
                kernel_release: old.into(),
                effective_capabilities: without(24),
                ..good()
            },
            "RLIMIT_MEMLOCK",
            Outcome::Missing,
            "ulimit -l unlimited",
        ),
        (
            "no nft",
            Facts {
                nft: no_nft(),
                ..good()
            },
            "nft",
            Outcome::Missing,
            "install nftables",
        ),
        (
            "no nft, no config",
            Facts {
                nft: no_nft(),
                config: None,
                ..good()
            },
            "nft",
            Outcome::Missing,
            "install nftables",
        ),
        (
            "bad config",
            Facts {
                config: Some(Err("mtu".into())),
                ..good()
            },
            "configuration",
            Outcome::Missing,
            "correct",
        ),
        (
            "bad VPC",
            Facts {
                vpc_warnings: Some(Err("x".into())),
                ..good()
            },
            "VPC file",
            Outcome::Missing,
            "correct",
        ),
        (
            "read-only",
            Facts {
                folders: vec![("state_dir".into(), "/v".into(), Err("read-only".into()))],
                ..good()
            },
            "state_dir",
            Outcome::Missing,
            "set another state_dir",
        ),
    ];
    for (name, facts, check, outcome, fix) in rows {
        let report = judge(&facts);
        let found = find(&report, check);
        assert_eq!(found.outcome, outcome, "{name}: {found:?}");
        assert!(
            found.fix.as_ref().unwrap().contains(fix),
            "{name}: {found:?}"
        );
        assert_eq!(report.healthy, outcome != Outcome::Missing, "{name}");
    }
    let report = judge(&Facts {
        nft: no_nft(),
        config: Some(Ok(no_uplink)),
        ..good()
    });
    assert!(
        report.healthy && report.checks.iter().all(|check| check.name != "nft"),
        "nft serves the uplink only"
    );
}

#[test]
fn what_is_not_required_does_not_fail() {
    let warnings = Some(Ok(vec!["security_groups[0]: 61 rules".to_owned()]));
    let facts = Facts {
        btf: false,
        jit: None,
        agent: Err("connect".into()),
        effective_capabilities: 1 << 12 | 1 << 21,
        vpc_warnings: warnings,
        config: Some(Ok(Config::default())),
        ..good()
    };
    let report = judge(&facts);
    assert!(report.healthy, "{report:?}");
    assert_eq!(find(&report, "CAP_BPF").finding, "implied by CAP_SYS_ADMIN");
    assert_eq!(find(&report, "agent").outcome, Outcome::Warn);
    assert_eq!(
        find(&report, "VPC file").finding,
        "security_groups[0]: 61 rules"
    );
}

#[test]
fn locked_memory_counts_on_old_kernels_only() {
    let old = |memlock| Facts {
        kernel_release: "5.10.0".into(),
        effective_capabilities: !(1 << 24),
        memlock,
        ..good()
    };
    assert!(judge(&old(Memlock::Unlimited)).healthy);
    assert!(judge(&old(Memlock::Bytes(1 << 30))).healthy);
    assert!(!judge(&old(Memlock::Bytes(64 << 10))).healthy);
    assert!(
        judge(&Facts {
            effective_capabilities: u64::MAX,
            ..old(Memlock::Bytes(64 << 10))
        })
        .healthy
    );
    let new = judge(&Facts {
        kernel_release: "5.11.0".into(),
        ..old(Memlock::Bytes(0))
    });
    assert!(
        new.checks
            .iter()
            .all(|check| check.name != "RLIMIT_MEMLOCK")
    );
}
