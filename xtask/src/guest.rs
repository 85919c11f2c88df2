//! One guest under QEMU: starts it, reads its console, judges what it did. What runs inside is `xtask/vm/init`.
//!
//! QEMU emulates the processor (no KVM), so a guest shows function and says nothing about speed. It has no network and
//! no disk, and ends with us whatever ends us.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::output;
use crate::vm::script;
use crate::workspace;

/// The tests' tiers in a guest, in the order of `xtask/vm/init`.
pub(crate) const TIERS: [&str; 3] = ["program", "netns", "guest"];

/// A guest that takes longer hangs: it boots in 5 s, and on a busy machine 5.10's verifier needs minutes
/// for the programs that each test loads.
const TIMEOUT: Duration = Duration::from_secs(1500);

/// QEMU's arguments that do not depend on the kernel.
const MACHINE: &str = "-machine pc -accel tcg -cpu max,la57=off -smp 1 -m 1024 -nodefaults -display none -no-reboot \
                       -nic none -serial stdio";
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check random.trust_cpu=1 branchline.guest";

/// What a guest did.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// `uname -r` there.
    pub(crate) release: String,
    pub(crate) boot: Duration,
    pub(crate) total: Duration,
    /// Passed tests of each of [`TIERS`].
    pub(crate) passed: [u64; TIERS.len()],
    /// Why it failed.
    pub(crate) failure: Option<String>,
}

/// Boots `release` with `payload` and follows it to its end; prints the end of its output if it failed.
///
/// # Errors
/// The guest could not be started; what went wrong inside is in the report.
pub(crate) fn boot(qemu: &Path, release: &str, payload: &Path, verbose: bool) -> Result<Report> {
    let kernel = workspace::target("vm/kernels").join(release);
    let image = image(&kernel)?;
    let file = |extension: &str| workspace::target("vm").join(format!("{release}.{extension}"));
    let (initramfs, code, log) = (file("initramfs"), file("code"), file("log"));
    output(
        script("initramfs.sh")
            .arg(&kernel)
            .arg(&initramfs)
            .arg(payload),
    )
    .with_context(|| format!("pack the initramfs of {release}"))?;

    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(qemu)
        .args(MACHINE.split_whitespace());
    command
        .arg("-serial")
        .arg(format!("file:{}", code.display()));
    command
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(&initramfs)
        .args(["-append", COMMAND_LINE]);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let (lines, report) = follow(
        child.spawn().context("start QEMU")?,
        TIMEOUT,
        verbose.then_some(release),
    )?;
    fs::write(&log, lines.join("\n") + "\n").with_context(|| format!("write {}", log.display()))?;

    let report = judge(
        report,
        &lines,
        fs::read_to_string(&code).unwrap_or_default().trim(),
    );
    if report.failure.is_some() {
        let shown = if verbose { 0 } else { 40 };
        let end = lines.len().saturating_sub(shown);
        // In one piece: another guest may fail meanwhile.
        let all = format!("all of it: {}", workspace::relative(&log).display());
        let end = lines[end..].iter().chain([&all]);
        println!(
            "{}",
            end.map(|line| format!("    {line}"))
                .collect::<Vec<_>>()
                .join("\n")
        );
    }
    Ok(report)
}

/// The kernel image: images of 7 and later lie with their modules.
fn image(kernel: &Path) -> Result<PathBuf> {
    let files = |folder: PathBuf| {
        fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    let in_boot = files(kernel.join("boot")).find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
    });
    in_boot
        .or_else(|| {
            files(kernel.join("usr/lib/modules"))
                .map(|folder| folder.join("vmlinuz"))
                .find(|path| path.is_file())
        })
        .with_context(|| {
            format!(
                "no vmlinuz in {}; delete that folder to fetch it again",
                kernel.display()
            )
        })
}

/// Reads what QEMU prints until it ends or its time is up, which the report's `failure` then says. Shows it under
/// the name `shown`.
fn follow(mut qemu: Child, limit: Duration, shown: Option<&str>) -> Result<(Vec<String>, Report)> {
    let started = Instant::now();
    let (sender, receiver) = mpsc::channel();
    let streams: [Option<Box<dyn std::io::Read + Send>>; 2] = [
        qemu.stdout.take().map(|stream| Box::new(stream) as _),
        qemu.stderr.take().map(|stream| Box::new(stream) as _),
    ];
    for stream in streams.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || {
            let lines = BufReader::new(stream).split(b'\n').map_while(Result::ok);
            lines.for_each(|line| {
                sender
                    .send(String::from_utf8_lossy(&line).trim_end().to_owned())
                    .unwrap_or_default()
            });
        });
    }
    drop(sender);
    let mut report = Report::default();
    let mut lines: Vec<String> = Vec::new();
    loop {
        match receiver.recv_timeout(limit.saturating_sub(started.elapsed())) {
            Ok(line) => {
                if let Some((_, release)) = line.split_once("VM-UP ") {
                    report.boot = started.elapsed();
                    report.release = release.to_owned();
                }
                if let Some(name) = shown {
                    println!("    {name}: {line}");
                }
                lines.push(line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                report.failure = Some(format!("not done after {} s", limit.as_secs()));
                qemu.kill().context("end QEMU")?;
                break;
            }
        }
    }
    qemu.wait().context("wait for QEMU")?;
    report.total = started.elapsed();
    Ok((lines, report))
}

/// Completes `report` from the guest's output and the exit code it sent (empty if it sent none).
fn judge(mut report: Report, lines: &[String], code: &str) -> Report {
    let mut tier = None;
    for line in lines {
        if let Some((_, name)) = line.split_once("VM-TIER ") {
            tier = TIERS.iter().position(|tier| *tier == name);
        } else if let (Some(tier), Some(passed)) = (tier, passed_tests(line)) {
            report.passed[tier] += passed;
        }
    }
    let silent = TIERS
        .iter()
        .zip(report.passed)
        .find(|(_, passed)| *passed == 0);
    if report.failure.is_none() {
        report.failure = match (code, silent) {
            ("0", None) => None,
            ("0", Some((tier, _))) => Some(format!("no test of {tier} ran")),
            ("", _) => Some("the guest crashed".to_owned()),
            (_, _) => Some("tests failed".to_owned()),
        };
    }
    report
}

/// The count in libtest's last line, `test result: ok. 3 passed; …`.
fn passed_tests(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("test result: ")?;
    let (before, _) = rest.split_once(" passed;")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn counts_tests_by_tier() {
        let output = lines(
            "VM-UP 6.1.0\nVM-TIER program\ntest result: ok. 3 passed; 0 failed; 0 ignored\n\
             VM-TIER netns\ntest result: ok. 2 passed; 0 failed; 7 filtered out\n\
             VM-TIER guest\ntest result: ok. 1 passed; 0 failed",
        );
        let report = judge(Report::default(), &output, "0");
        assert_eq!((report.passed, report.failure), ([3, 2, 1], None));
    }

    #[test]
    fn a_guest_passes_only_if_it_says_so_and_ran_something() {
        let passed = "test result: ok. 1 passed; 0 failed";
        let both = lines(&format!(
            "VM-TIER program\n{passed}\nVM-TIER netns\n{passed}\nVM-TIER guest\n{passed}"
        ));
        let one = lines(&format!(
            "VM-TIER program\n{passed}\nVM-TIER netns\ntest result: ok. 0 passed; 0 failed\n\
             VM-TIER guest\n{passed}"
        ));
        let rows = [
            ("all passed", &both, "0", None),
            ("a test failed", &both, "1", Some("tests failed")),
            ("no code came", &both, "", Some("the guest crashed")),
            (
                "a tier ran nothing",
                &one,
                "0",
                Some("no test of netns ran"),
            ),
        ];
        for (name, output, code, failure) in rows {
            assert_eq!(
                judge(Report::default(), output, code).failure.as_deref(),
                failure,
                "{name}"
            );
        }
        let late = Report {
            failure: Some("not done after 600 s".to_owned()),
            ..Report::default()
        };
        assert_eq!(
            judge(late, &both, "0").failure.as_deref(),
            Some("not done after 600 s")
        );
    }

    #[test]
    fn a_guest_that_hangs_is_ended() {
        let mut guest = Command::new("sh");
        guest
            .args(["-c", "echo VM-UP 6.1.0; exec sleep 60"])
            .stdout(Stdio::piped());
        let limit = Duration::from_millis(500);
        let (lines, report) = follow(guest.spawn().unwrap(), limit, None).unwrap();
        assert_eq!(lines, ["VM-UP 6.1.0"]);
        assert_eq!(report.release, "6.1.0");
        assert_eq!(report.failure.as_deref(), Some("not done after 0 s"));
        assert!(report.total < Duration::from_secs(30));
    }
}
