//! Map entries to records: what the kernel counted of one epoch, by ENI and tuple.
//!
//! Pure. ICMP queries with different identifiers are different entries and one record.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, UNIX_EPOCH};

use branchline_common::account::{Account, Slot};
use branchline_common::flow::{Address, FlowKey, kind};
use branchline_common::parse::has_ports;
use branchline_common::policy::AUDITED;
use branchline_common::verdict::{self, Direction};

use super::ledger::Closing;
use super::record::{Action, FlowCounts, FlowTuple};
use crate::datapath::{Clock, Entry};

/// Turns stamps of the maps' clock into Unix seconds of one epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    /// How fast the maps' clock ticks.
    pub(super) clock: Clock,
    /// The epoch, with both clocks at its end.
    pub(super) closing: &'a Closing,
}

impl Reading<'_> {
    fn counts(&self, slot: &Slot) -> FlowCounts {
        let wall = UNIX_EPOCH + Duration::from_millis(self.closing.wall_ms);
        let second = |stamp| {
            let second = self.clock.unix_seconds(stamp, self.closing.ticks, wall);
            self.closing.window.clamp(second)
        };
        let start = second(slot.first);
        FlowCounts {
            packets: slot.packets,
            bytes: slot.bytes,
            start,
            end: second(slot.last).max(start),
        }
    }
}

/// The flows of one epoch, as a walk over the maps finds them.
#[derive(Debug, Default)]
pub(super) struct Drain {
    flows: HashMap<u32, HashMap<FlowTuple, FlowCounts>>,
    /// The kernel starts a walk over when the entry it stands on goes away.
    seen: HashSet<FlowKey>,
}

impl Drain {
    /// Takes in what `entry` counted in the epoch of `reading`.
    pub(super) fn add(&mut self, key: &FlowKey, entry: &Entry, reading: &Reading<'_>) {
        let epoch = reading.closing.epoch;
        let mut is_new = None;
        for (direction, action, account) in accounts(key, entry) {
            let Some(slot) = account.of_epoch(epoch) else {
                continue;
            };
            if !*is_new.get_or_insert_with(|| self.seen.insert(*key)) {
                return;
            }
            let counts = reading.counts(slot);
            self.flows
                .entry(key.eni.into())
                .or_default()
                .entry(tuple(key, direction, action))
                .and_modify(|total| total.merge(&counts))
                .or_insert(counts);
        }
    }

    /// Takes out the flows of an ENI, in order.
    pub(super) fn take(&mut self, slot: u32) -> Vec<(FlowTuple, FlowCounts)> {
        let mut flows: Vec<_> = self
            .flows
            .remove(&slot)
            .unwrap_or_default()
            .into_iter()
            .collect();
        flows.sort_unstable_by_key(|(tuple, _)| *tuple);
        flows
    }

    /// Slots whose flows nobody has taken.
    pub(super) fn rest(&self) -> impl Iterator<Item = u32> {
        self.flows.keys().copied()
    }
}

/// The accounts of an entry: of a connection both directions, of a row its one.
pub(super) fn accounts<'a>(
    key: &FlowKey,
    entry: &'a Entry,
) -> impl Iterator<Item = (Direction, Action, &'a Account)> {
    let (one, other) = match entry {
        Entry::Connection(connection) => {
            let [ingress, egress] = &connection.accounts;
            let action = if connection.tracking.rule == AUDITED {
                Action::Audit
            } else {
                Action::Accept
            };
            (
                Some((Direction::Ingress, action, ingress)),
                Some((Direction::Egress, action, egress)),
            )
        }
        Entry::Row(row) => {
            let of_row = kind::of_row(key.kind).map(|(direction, action)| {
                let action = match action {
                    verdict::Action::Accepted => Action::Accept,
                    verdict::Action::Rejected => Action::Reject,
                    verdict::Action::Audited => Action::Audit,
                };
                (direction, action, &row.account)
            });
            (of_row, None)
        }
    };
    one.into_iter().chain(other)
}

/// The flow of an entry's key in one direction.
pub(crate) fn tuple(key: &FlowKey, direction: Direction, action: Action) -> FlowTuple {
    let address = |address: Address| IpAddr::from(Ipv6Addr::from(address)).to_canonical();
    // A key without ports has other things in their place: an ICMP identifier, for one.
    let port = |port| if has_ports(key.protocol) { port } else { 0 };
    let local = (address(key.local), port(key.local_port));
    let remote = (address(key.remote), port(key.remote_port));
    let ((src, src_port), (dst, dst_port)) = match direction {
        Direction::Ingress => (remote, local),
        Direction::Egress => (local, remote),
    };
    FlowTuple {
        direction,
        src,
        dst,
        src_port,
        dst_port,
        protocol: key.protocol,
        action,
    }
}

#[cfg(test)]
#[path = "drain_tests.rs"]
mod tests;
