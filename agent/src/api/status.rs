//! The agent as it runs. Pure.

use serde::{Deserialize, Serialize};

use super::{FlowLogDescription, TaskCounters};

/// The agent as it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Whole seconds since it started.
    pub uptime_seconds: u64,
    /// Who hands out ENIs: `local`.
    pub provider: String,
    /// The VPC.
    pub vpc_id: String,
    /// Tasks by what they are doing.
    pub tasks: TaskCounts,
    /// ENIs the host takes at most.
    pub max_enis: u32,
    /// How programs are attached: `tcx` or `clsact` on the trunk, and on ENIs' own links.
    pub trunk_attachment: String,
    /// Connections in the table now.
    pub conntrack_entries: u64,
    /// Connections the table holds at most.
    pub conntrack_max_entries: u32,
    /// New connections refused because the table was full.
    pub conntrack_allowance_exceeded: u64,
    /// What each ENI in the data plane has counted, by task.
    #[serde(default)]
    pub network_interfaces: Vec<TaskCounters>,
    /// Dropped packets by reason, reasons that occurred only.
    pub drops: Vec<DropCount>,
    /// Flow logs.
    #[serde(default)]
    pub flow_logs: Vec<FlowLogDescription>,
    /// What keeps every task from being reached as it should be; empty on a sound host.
    #[serde(default)]
    pub problems: Vec<String>,
    /// How often since the agent started it mended what somebody had changed of a task's network or
    /// of the trunk.
    #[serde(default)]
    pub repairs: u64,
    /// Tasks whose network could not be mended, since the agent started.
    #[serde(default)]
    pub tasks_given_up: u64,
    /// What the agent changed on the host, and what `branchline purge` undoes.
    pub host_changes: Vec<HostChange>,
}

/// Tasks by what they are doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskCounts {
    /// Networks being made.
    pub creating: usize,
    /// Networks that are there.
    pub running: usize,
    /// Networks being removed.
    pub deleting: usize,
}

/// Dropped packets of one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DropCount {
    /// The reason's name.
    pub reason: String,
    /// Packets since the data plane was loaded.
    pub packets: u64,
}

/// One change on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HostChange {
    /// As `sysctl net.ipv4.ip_forward` or `nftables table inet branchline`.
    pub what: String,
    /// What it was before; `None` where there was nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// What it is now.
    pub current: String,
}
