//! Which CPUs the bench runs on. The maps of a CPU are in that CPU's cache, so what is measured stays
//! on one.

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// The CPUs that this process may use.
pub(crate) struct Cpus(Vec<usize>);

impl Cpus {
    /// Those of now.
    pub(crate) fn allowed() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let is_set = |cpu: &usize| allowed.is_set(*cpu).unwrap_or(false);
        Ok(Self((0..CpuSet::count()).filter(is_set).collect()))
    }

    /// Keeps the calling thread, and those that it starts, on the last one.
    pub(crate) fn stay_on_last(&self) -> Result<()> {
        let last = self.0.last().context("no CPU")?;
        pin(&[*last])
    }

    /// One that the thread of [`Cpus::stay_on_last`] does not use.
    pub(crate) fn other(&self) -> Result<usize> {
        let [other, _, ..] = self.0[..] else {
            anyhow::bail!("packets and flow log need a CPU each, and there is one");
        };
        Ok(other)
    }

    /// Lets the calling thread, and those that it starts, use all of them again.
    pub(crate) fn use_all(&self) -> Result<()> {
        pin(&self.0)
    }
}

/// Keeps the calling thread, and those that it starts, on these CPUs.
pub(crate) fn pin(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}
