//! What memory the kernel and the agent have taken, by procfs. Frees nothing.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use branchline_tests::host::Host;
use nix::{
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// For how long nothing may end until all that has been removed is taken to have ended.
const QUIET: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(120);
/// What namespaces and links are made of; the machine's other work has little part in it.
const KERNEL: [&str; 4] = ["SUnreclaim", "Percpu", "KernelStack", "PageTables"];

/// Memory of the kernel that it cannot give back by itself.
pub(super) struct Kernel {
    pub(super) mebibytes: f64,
}

impl Kernel {
    pub(super) fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/meminfo")?;
        let values: Vec<f64> = KERNEL
            .iter()
            .map(|name| number(&text, name))
            .collect::<Result<_>>()?;
        let mebibytes = values.iter().sum::<f64>() / 1024.0;
        Ok(Self { mebibytes })
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            mebibytes: self.mebibytes - before.mebibytes,
        }
    }
}

/// What the agent has, in MiB, and the CPU time that it has taken.
pub(super) struct Process {
    pub(super) resident: f64,
    pub(super) anonymous: f64,
    /// Locked by its maps; not a difference.
    pub(super) maps: f64,
    pub(super) processor: Duration,
}

impl Process {
    pub(super) fn of(host: &Host) -> Result<Self> {
        let pid = host.agent_pid()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.cast_signed()))?;
        Ok(Self {
            resident: number(&status, "VmRSS")? / 1024.0,
            anonymous: number(&status, "RssAnon")? / 1024.0,
            maps: maps(pid)?,
            processor: clock_gettime(clock)?.into(),
        })
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            resident: self.resident - before.resident,
            anonymous: self.anonymous - before.anonymous,
            maps: self.maps,
            processor: self.processor - before.processor,
        }
    }
}

/// Waits until the namespaces that have been removed have ended: a worker of the kernel does it later.
pub(super) fn settled() -> Result<()> {
    let began = Instant::now();
    let (mut last, mut since) = (namespaces()?, Instant::now());
    while since.elapsed() < QUIET {
        ensure!(began.elapsed() < PATIENCE, "namespaces go on ending");
        thread::sleep(QUIET / 10);
        let now = namespaces()?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// Namespaces in memory, roughly.
fn namespaces() -> Result<u64> {
    let text = fs::read_to_string("/proc/slabinfo").context("read /proc/slabinfo; run as root")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("net_namespace"));
    let count = line.and_then(|line| line.split_whitespace().next());
    Ok(count.context("no slab of namespaces")?.parse()?)
}

/// MiB that the kernel has locked for the maps of a process.
fn maps(pid: u32) -> Result<f64> {
    let mut locked = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor may be closed meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        if let (Ok(id), Ok(bytes)) = (number(&text, "map_id"), number(&text, "memlock")) {
            locked.insert(id as u64, bytes);
        }
    }
    Ok(locked.values().sum::<f64>() / f64::from(1 << 20))
}

/// The number behind `name:`.
fn number(text: &str, name: &str) -> Result<f64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = value.and_then(|value| value.split_whitespace().next());
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}
