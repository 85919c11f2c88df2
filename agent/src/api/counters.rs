//! What an ENI has counted. Pure.

use serde::{Deserialize, Serialize};

/// What an ENI has counted since it was put into the data plane. The first two have the names of EC2's metrics of the
/// ENA driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EniCounters {
    /// Packets of new connections that were refused because the ENI's share or the host's table was full.
    pub conntrack_allowance_exceeded: u64,
    /// Connections that it may still open now: what is left of its share, and at most what the table has left.
    pub conntrack_allowance_available: u64,
    /// Packets that passed only because a group is in audit mode.
    pub would_be_denials: u64,
}

impl EniCounters {
    /// By what the data plane counts of an ENI: `exceeded` and `audited` packets, `tracked` connections of its `share`,
    /// and `left`, what the host's table has room for.
    #[must_use]
    pub fn of(exceeded: u64, audited: u64, tracked: u64, share: u32, left: u64) -> Self {
        Self {
            conntrack_allowance_exceeded: exceeded,
            conntrack_allowance_available: u64::from(share).saturating_sub(tracked).min(left),
            would_be_denials: audited,
        }
    }
}

/// What the ENI of one task has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskCounters {
    /// The task.
    pub task_id: String,
    /// Its ENI.
    pub network_interface_id: String,
    /// What the ENI has counted.
    pub counters: EniCounters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_ends_with_the_share_or_the_table() {
        let available = |tracked, share, left| {
            EniCounters::of(3, 4, tracked, share, left).conntrack_allowance_available
        };
        assert_eq!(available(10, 100, 1_000), 90);
        assert_eq!(available(10, 100, 50), 50);
        // A share that was lowered under a running task.
        assert_eq!(available(200, 100, 50), 0);
    }
}
