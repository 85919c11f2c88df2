//! The agent's own process, by the names that Prometheus clients share (`process_...`).

use std::{fmt, fs};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use prometheus_client::registry::Unit;

use super::sheet::Sheet;

/// What the process has used and uses; 0 where the kernel does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    cpu_seconds: f64,
    resident_bytes: u64,
    open_fds: u64,
    max_fds: u64,
    started: f64,
}

impl Process {
    /// This process, which started at `started`, in seconds since 1970.
    #[must_use]
    pub fn read(started: f64) -> Self {
        Self {
            cpu_seconds: cpu_seconds(),
            resident_bytes: resident_bytes().unwrap_or_default(),
            open_fds: fs::read_dir("/proc/self/fd")
                .map_or(0, |open| open.count() as u64)
                // One of them is the folder itself.
                .saturating_sub(1),
            max_fds: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
            started,
        }
    }

    pub(super) fn write(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        sheet.counter(
            "process_cpu",
            "CPU time that the agent has used.",
            Some(&Unit::Seconds),
            self.cpu_seconds,
        )?;
        sheet.gauge(
            "process_resident_memory",
            "Memory of the agent, without that of the kernel's maps.",
            Some(&Unit::Bytes),
            self.resident_bytes,
        )?;
        sheet.gauge(
            "process_open_fds",
            "Open file descriptors of the agent.",
            None,
            self.open_fds,
        )?;
        sheet.gauge(
            "process_max_fds",
            "Most file descriptors the agent may have open.",
            None,
            self.max_fds,
        )?;
        sheet.fraction(
            "process_start_time",
            "When the agent started, since 1970.",
            Some(&Unit::Seconds),
            self.started,
        )
    }
}

fn cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF);
    usage.map_or(0.0, |usage| {
        let used = usage.user_time() + usage.system_time();
        used.num_microseconds() as f64 / 1e6
    })
}

/// The second field of `/proc/self/statm`, in pages (proc(5)).
fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
