//! `cargo xtask vm`: boots the supported kernels under QEMU and runs the program and netns tests in each.
//!
//! Everything lies in `target/vm`; the guests have no network and no disk. QEMU emulates the processor (no KVM), so
//! this shows function and says nothing about speed. The guest's side is `xtask/vm/init`.

use std::env::consts::ARCH;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::build::{self, Executable, executables};
use crate::process::{self, find, output, say};
use crate::setup::{self, Group};
use crate::workspace;

/// The supported kernels: the oldest and newest, and the long-term ones between.
pub(crate) const RELEASES: [&str; 4] = ["5.10", "6.1", "6.12", "7.3"];

/// The tests' tiers in a guest, in the order of `xtask/vm/init`.
const TIERS: [&str; 2] = ["program", "netns"];

/// A guest that takes longer hangs: it boots in 5 s.
const TIMEOUT: Duration = Duration::from_secs(600);

/// QEMU's arguments that do not depend on the kernel.
const MACHINE: &str = "-machine pc -accel tcg -cpu max,la57=off -smp 1 -m 1024 -nodefaults -display none -no-reboot \
                       -nic none -serial stdio";
const COMMAND_LINE: &str =
    "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check random.trust_cpu=1";

/// Run the program and netns tests on other kernels, under QEMU
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernels to boot, such as 6.12; all supported ones if none is named
    releases: Vec<String>,
    /// Show what the guests print
    #[arg(long, short)]
    verbose: bool,
}

/// What a guest did.
#[derive(Debug, Default)]
struct Report {
    /// `uname -r` there.
    release: String,
    boot: Duration,
    total: Duration,
    /// Passed tests of each of [`TIERS`].
    passed: [u64; TIERS.len()],
    /// Why it failed.
    failure: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Something is missing, does not compile, or a guest failed (the table has said which).
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(
        ARCH == "x86_64",
        "the VM tests exist for x86_64 only, this is {ARCH}"
    );
    setup::ensure(&[Group::Build, Group::Vm])?;
    let releases: Vec<&str> = match args.releases.as_slice() {
        [] => RELEASES.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    let qemu = fetch(&releases)?;
    let payload = payload()?;
    let mut reports = Vec::new();
    for release in releases {
        let report = boot(&qemu, release, &payload, args.verbose)?;
        say("vm", &summary(release, &report));
        reports.push((release, report));
    }
    println!("{}", table(&reports));
    let failed: Vec<&str> = reports
        .iter()
        .filter(|(_, report)| report.failure.is_some())
        .map(|(release, _)| *release)
        .collect();
    ensure!(
        failed.is_empty(),
        "tests failed on kernel {}",
        failed.join(", ")
    );
    Ok(())
}

/// Fetches what is missing of QEMU and the kernels `releases`; returns QEMU's path.
///
/// # Errors
/// It cannot be fetched here; the text says what to do instead.
pub(crate) fn fetch(releases: &[&str]) -> Result<PathBuf> {
    fetch_kernels(releases)?;
    qemu()
}

fn fetch_kernels(releases: &[&str]) -> Result<()> {
    let folder = workspace::target("vm/kernels");
    let missing: Vec<&&str> = releases
        .iter()
        .filter(|release| !folder.join(release).join("complete").exists())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(
        find("apt-get").is_some(),
        "kernels come from Debian's mirrors by apt-get; put others into {}/RELEASE (boot/, lib/modules/, complete)",
        folder.display()
    );
    say(
        "vm",
        &format!("fetching {} kernel(s) into target/vm", missing.len()),
    );
    output(script("fetch-kernels.sh").arg(folder).args(releases)).context("fetch the kernels")?;
    Ok(())
}

/// The installed QEMU, or one unpacked into `target/vm`.
fn qemu() -> Result<PathBuf> {
    const NAME: &str = "qemu-system-x86_64";
    if let Some(installed) = find(NAME) {
        return Ok(installed);
    }
    let folder = workspace::target("vm/qemu");
    let unpacked = folder.join(NAME);
    if !unpacked.exists() {
        ensure!(
            find("apt-get").is_some(),
            "{NAME} is missing; install it with this system's package manager"
        );
        say("vm", "fetching qemu-system-x86 into target/vm");
        output(script("fetch-qemu.sh").arg(folder))
            .context("fetch QEMU; or run: sudo apt-get install qemu-system-x86")?;
    }
    Ok(unpacked)
}

/// Builds agent and tests as static executables and gathers them in one folder.
fn payload() -> Result<PathBuf> {
    build::object()?;
    say("vm", "building agent and tests as static executables");
    let mut agent = static_build("build");
    let mut built = executables(agent.args(["--package", "branchline", "--bin", "branchline"]))?;
    let mut tests = static_build("test");
    tests.args(["--no-run", "--package", "branchline-tests"]);
    for tier in TIERS {
        tests.args(["--test", tier]);
    }
    built.extend(executables(&mut tests)?);

    let folder = workspace::target("vm/payload");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    for Executable { target, path } in built {
        fs::copy(&path, folder.join(&target))
            .with_context(|| format!("copy {}", path.display()))?;
    }
    Ok(folder)
}

/// A cargo command for executables that run without this machine's libraries.
fn static_build(subcommand: &str) -> Command {
    let mut cargo = process::cargo(subcommand);
    cargo
        .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"])
        .arg(workspace::target("vm-build"))
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    cargo
}

/// Boots `release` with `payload` and follows it to its end.
fn boot(qemu: &Path, release: &str, payload: &Path, verbose: bool) -> Result<Report> {
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
    let (lines, report) = follow(child.spawn().context("start QEMU")?, verbose)?;
    fs::write(&log, lines.join("\n") + "\n").with_context(|| format!("write {}", log.display()))?;

    let report = judge(
        report,
        &lines,
        fs::read_to_string(&code).unwrap_or_default().trim(),
    );
    if report.failure.is_some() && !verbose {
        for line in lines.iter().rev().take(40).rev() {
            println!("    {line}");
        }
    }
    if report.failure.is_some() {
        println!("    all of it: {}", workspace::relative(&log).display());
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

/// Reads what QEMU prints until it ends or its time is up, which the report's `failure` then says.
fn follow(mut qemu: Child, verbose: bool) -> Result<(Vec<String>, Report)> {
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
        match receiver.recv_timeout(TIMEOUT.saturating_sub(started.elapsed())) {
            Ok(line) => {
                if let Some((_, release)) = line.split_once("VM-UP ") {
                    report.boot = started.elapsed();
                    report.release = release.to_owned();
                }
                if verbose {
                    println!("    {line}");
                }
                lines.push(line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                report.failure = Some(format!("not done after {} s", TIMEOUT.as_secs()));
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

fn summary(release: &str, report: &Report) -> String {
    let verdict = report.failure.as_deref().unwrap_or("passed");
    let tests: u64 = report.passed.iter().sum();
    format!(
        "{release}: {verdict} ({tests} tests in {:.1} s)",
        report.total.as_secs_f64()
    )
}

fn table(reports: &[(&str, Report)]) -> String {
    let head = format!(
        "{:<8} {:<32} {:>7} {:>8} {:>6} {:>8}  {}",
        "kernel", "release", "boot", "program", "netns", "total", "verdict"
    );
    let rows = reports.iter().map(|(kernel, report)| {
        let [program, netns] = report.passed;
        let (boot, total) = (report.boot.as_secs_f64(), report.total.as_secs_f64());
        let verdict = report.failure.as_deref().unwrap_or("passed");
        format!(
            "{kernel:<8} {:<32} {boot:>5.1} s {program:>8} {netns:>6} {total:>6.1} s  {verdict}",
            report.release
        )
    });
    [head]
        .into_iter()
        .chain(rows)
        .collect::<Vec<_>>()
        .join("\n")
}

fn script(name: &str) -> Command {
    Command::new(workspace::root().join("xtask/vm").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn counts_tests_by_tier() {
        let output = lines(
            "VM-UP 6.1.0\nVM-TIER program\ntest result: ok. 3 passed; 0 failed; 0 ignored\n\
             VM-TIER netns\ntest result: ok. 2 passed; 0 failed; 7 filtered out",
        );
        let report = judge(Report::default(), &output, "0");
        assert_eq!((report.passed, report.failure), ([3, 2], None));
    }

    #[test]
    fn a_guest_passes_only_if_it_says_so_and_ran_something() {
        let passed = "test result: ok. 1 passed; 0 failed";
        let both = lines(&format!(
            "VM-TIER program\n{passed}\nVM-TIER netns\n{passed}"
        ));
        let one = lines(&format!(
            "VM-TIER program\n{passed}\nVM-TIER netns\ntest result: ok. 0 passed; 0 failed"
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
}
