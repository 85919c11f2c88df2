//! Packets and bytes of each ENI, added up as epochs of the flow records are settled.
//!
//! The kernel counts bytes per flow only, so these totals move when an epoch ends, not between. Each
//! count comes once: an epoch is taken in after it is settled. They start at 0 with the agent. An ENI
//! that has gone is forgotten with the second epoch after its last.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use branchline_common::verdict::Direction;

use crate::flows::{Action, Report};

/// Directions and actions, in the order of [`TrafficOfEni::counts`].
const KINDS: [(Direction, Action); 6] = [
    (Direction::Ingress, Action::Accept),
    (Direction::Ingress, Action::Reject),
    (Direction::Ingress, Action::Audit),
    (Direction::Egress, Action::Accept),
    (Direction::Egress, Action::Reject),
    (Direction::Egress, Action::Audit),
];

/// The running totals. Clones are of the same.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Mutex<Totals>>);

/// What was taken in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) epochs: u64,
    pub(super) enis: BTreeMap<String, TrafficOfEni>,
}

/// What one ENI has carried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrafficOfEni {
    /// Its task.
    pub task_id: String,
    /// Packets and bytes by direction and action.
    counts: [(u64, u64); KINDS.len()],
}

impl TrafficOfEni {
    /// Direction, action, packets, bytes.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, u64, u64)> {
        let kinds = KINDS.into_iter().zip(self.counts);
        kinds.map(|((direction, action), (packets, bytes))| {
            (direction.name(), name(action), packets, bytes)
        })
    }
}

impl Traffic {
    /// Takes in what a settled epoch counted.
    pub fn take(&self, reports: &[Report]) {
        let mut totals = self.lock();
        totals.epochs += 1;
        let seen: HashSet<&str> = reports
            .iter()
            .map(|report| report.interface.interface_id.as_str())
            .collect();
        totals.enis.retain(|eni, _| seen.contains(eni.as_str()));
        for report in reports {
            let interface = &report.interface;
            let eni = totals.enis.entry(interface.interface_id.clone());
            let eni = eni.or_default();
            eni.task_id = interface.task.id.clone().unwrap_or_default();
            for (tuple, counts) in &report.flows {
                let kind = (tuple.direction, tuple.action);
                if let Some(at) = KINDS.iter().position(|one| *one == kind) {
                    eni.counts[at].0 += counts.packets;
                    eni.counts[at].1 += counts.bytes;
                }
            }
        }
    }

    pub(super) fn totals(&self) -> Totals {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn name(action: Action) -> &'static str {
    match action {
        Action::Accept => "accept",
        Action::Reject => "reject",
        Action::Audit => "audit",
    }
}
