//! `cargo xtask vm`: boots the supported kernels under QEMU and runs the program, netns and guest tests in each.
//!
//! Everything lies in `target/vm`; the guests have no network and no disk. QEMU emulates the processor (no KVM), so
//! this shows function and says nothing about speed. The guest's side is `xtask/vm/init`.

use std::env::consts::ARCH;
use std::fs;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};

use crate::build::{self, Executable};
use crate::guest::{self, Report, TIERS};
use crate::process::{find, output, say};
use crate::setup::{self, Group};
use crate::workspace;

/// The supported kernels: the oldest and newest, and the long-term ones between.
pub(crate) const RELEASES: [&str; 4] = ["5.10", "6.1", "6.12", "7.3"];

/// Run the program, netns and guest tests on other kernels, under QEMU
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernels to boot, such as 6.12; all supported ones if none is named
    releases: Vec<String>,
    /// Show what the guests print
    #[arg(long, short)]
    verbose: bool,
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
    let reports = boot_all(&releases, |release| {
        let report = guest::boot(&qemu, release, &payload, args.verbose)?;
        say("vm", &summary(release, &report));
        Ok(report)
    })?;
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

/// Boots `releases`, as many at a time as there are processors: a guest has one.
fn boot_all<'a>(
    releases: &[&'a str],
    boot: impl Fn(&str) -> Result<Report> + Sync,
) -> Result<Vec<(&'a str, Report)>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut booted = Vec::new();
        while let Some(release) = releases.get(next.fetch_add(1, Ordering::Relaxed)) {
            booted.push((*release, boot(release)?));
        }
        Ok(booted)
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let booted: Result<Vec<_>> = thread::scope(|scope| {
        let started: Vec<_> = (0..workers.min(releases.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let joined = started.into_iter().map(|worker| {
            let ended: Result<Vec<_>> = worker
                .join()
                .map_err(|_| anyhow!("a guest's thread panicked"))?;
            ended
        });
        joined.collect()
    });
    let mut reports: Vec<_> = booted?.into_iter().flatten().collect();
    reports.sort_by_key(|(release, _)| releases.iter().position(|asked| asked == release));
    Ok(reports)
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

/// Gathers the agent and the tests of this kernel's tiers in one folder, without what only a debugger reads.
fn payload() -> Result<PathBuf> {
    say("vm", "building agent and tests");
    let tests = TIERS.map(|tier| ["--test", tier]);
    let (agent, tests) = build::agent_and_tests(false, &tests.concat())?;
    let folder = workspace::target("vm/payload");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let agent = Executable {
        target: "branchline".to_owned(),
        path: agent,
    };
    for Executable { target, path } in tests.iter().chain([&agent]) {
        output(
            Command::new("strip")
                .args(["--strip-debug", "-o"])
                .arg(folder.join(target))
                .arg(path),
        )
        .context("copy agent and tests for the guests")?;
    }
    Ok(folder)
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
        "{:<8} {:<32} {:>7} {:>8} {:>6} {:>6} {:>8}  {}",
        "kernel", "release", "boot", "program", "netns", "guest", "total", "verdict"
    );
    let rows = reports.iter().map(|(kernel, report)| {
        let [program, netns, guest] = report.passed;
        let (boot, total) = (report.boot.as_secs_f64(), report.total.as_secs_f64());
        let verdict = report.failure.as_deref().unwrap_or("passed");
        format!(
            "{kernel:<8} {:<32} {boot:>5.1} s {program:>8} {netns:>6} {guest:>6} {total:>6.1} s  {verdict}",
            report.release
        )
    });
    [head]
        .into_iter()
        .chain(rows)
        .collect::<Vec<_>>()
        .join("\n")
}

/// A script of `xtask/vm`.
pub(crate) fn script(name: &str) -> Command {
    Command::new(workspace::root().join("xtask/vm").join(name))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::time::Duration;

    use super::*;

    #[test]
    fn every_release_is_booted_once_and_reported_in_the_order_asked() {
        let asked = ["7.3", "5.10", "6.12", "6.1", "6.6"];
        let booted = boot_all(&asked, |release| {
            // The first is the last to end.
            thread::sleep(Duration::from_millis(if release == "7.3" { 50 } else { 0 }));
            Ok(Report {
                release: release.to_owned(),
                ..Report::default()
            })
        });
        let booted = booted.unwrap();
        assert_eq!(
            booted.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            asked
        );
        assert!(booted.iter().all(|(name, report)| report.release == *name));
    }

    #[test]
    fn a_guest_that_cannot_be_started_is_an_error() {
        let error = boot_all(&["6.1", "6.12"], |_| anyhow::bail!("no QEMU")).unwrap_err();
        assert_eq!(error.to_string(), "no QEMU");
    }
}
