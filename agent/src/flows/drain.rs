//! Map entries to records: what the kernel counted of one epoch, by ENI and tuple.
//!
//! Pure. ICMP queries with different identifiers are different entries and one record.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

use branchline_common::account::{Account, Slot};
use branchline_common::conntrack::Tracking;
use branchline_common::flow::{Address, FlowKey, is_ipv4, kind};
use branchline_common::parse::has_ports;
use branchline_common::policy::{AUDITED, scope};
use branchline_common::verdict::{self, Direction};

use super::ledger::Closing;
use super::record::{Action, FlowCounts, FlowTuple, Rule};
use crate::datapath::{Clock, Entry};
use crate::policy::RuleNames;

/// Turns stamps of the maps' clock into milliseconds of one epoch.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// How fast the maps' clock ticks.
    pub clock: Clock,
    /// The epoch, with both clocks at its end.
    pub closing: &'a Closing,
    /// What the numbers of rules mean.
    pub rules: &'a RuleNames,
}

impl Reading<'_> {
    fn counts(&self, slot: &Slot) -> FlowCounts {
        let closing = self.closing;
        let ms = |stamp| {
            let ms = self.clock.unix_ms(stamp, closing.ticks, closing.wall_ms);
            closing.window.clamp_ms(ms)
        };
        let first_ms = ms(slot.first);
        FlowCounts {
            packets: slot.packets,
            bytes: slot.bytes,
            tcp_flags: slot.flags.bits(),
            first_ms,
            last_ms: ms(slot.last).max(first_ms),
        }
    }
}

/// The flows of one epoch, as a walk over the maps finds them; a walk shows no entry twice.
#[derive(Debug, Default)]
pub struct Drain {
    /// By ENI, in the order of the walk: a tuple may be in several entries.
    flows: HashMap<u32, Vec<(FlowTuple, FlowCounts)>>,
    rules: HashMap<RuleNumber, Option<Rule>>,
    generations: BTreeSet<u32>,
}

/// A rule as connections know it: generation, direction and family, number.
type RuleNumber = (u32, usize, u16);

impl Drain {
    /// Takes in what `entry` counted in the epoch of `reading`.
    pub fn add(&mut self, key: &FlowKey, entry: &Entry, reading: &Reading<'_>) {
        let epoch = reading.closing.epoch;
        let rule = match entry {
            Entry::Connection(connection) => self.rule(key, &connection.tracking, reading.rules),
            Entry::Row(_) => self.open_rule(key, reading.rules),
        };
        let row = kind::of_row(key.kind);
        for (direction, action, account) in accounts(key, entry) {
            if let Some(slot) = account.of_epoch(epoch) {
                let tuple = FlowTuple {
                    rule: rule.clone(),
                    drop_reason: row.and_then(|row| row.drop_reason),
                    service: row.and_then(|row| row.service),
                    ..tuple(key, direction, action)
                };
                let flow = (tuple, reading.counts(slot));
                self.flows.entry(key.eni.into()).or_default().push(flow);
            }
        }
    }

    /// Takes out the flows of an ENI, in order, each tuple once.
    pub fn take(&mut self, slot: u32) -> Vec<(FlowTuple, FlowCounts)> {
        let mut flows = self.flows.remove(&slot).unwrap_or_default();
        flows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        flows.dedup_by(|(tuple, counts), (before, total)| {
            let is_same = tuple == before;
            if is_same {
                total.merge(counts);
            }
            is_same
        });
        flows
    }

    /// Generations of the policies that the connections were opened under.
    pub(super) fn generations(&self) -> &BTreeSet<u32> {
        &self.generations
    }

    /// The rule that let a connection be opened.
    fn rule(&mut self, key: &FlowKey, tracking: &Tracking, names: &RuleNames) -> Option<Rule> {
        self.generations.insert(tracking.generation);
        let scope = scope(Direction::from_byte(tracking.opener), is_ipv4(&key.remote));
        self.named((tracking.generation, scope, tracking.rule), names)
    }

    /// The rule by which packets without a connection passed: one with a literal /0 that admits
    /// their port, wherever there is such a rule. Others pass without a connection by what no row
    /// tells: as an ICMP error, for one, by the connection that it is about.
    fn open_rule(&mut self, key: &FlowKey, names: &RuleNames) -> Option<Rule> {
        let row = kind::of_row(key.kind)?;
        let port = match row.direction {
            Direction::Ingress => key.local_port,
            Direction::Egress => key.remote_port,
        };
        // Of a fragment whose first was not seen no port is known.
        let is_ruled = row.action == verdict::Action::Accepted && row.service.is_none();
        if !is_ruled || !has_ports(key.protocol) || port == 0 {
            return None;
        }
        let scope = scope(row.direction, is_ipv4(&key.remote));
        let (generation, number) = names.open_rule(key.eni.into(), scope, key.protocol, port)?;
        self.named((generation, scope, number), names)
    }

    fn named(&mut self, number: RuleNumber, names: &RuleNames) -> Option<Rule> {
        let found = self.rules.entry(number).or_insert_with(|| {
            let (generation, scope, number) = number;
            let rule = names.rule(generation, scope, number)?;
            Some(Rule::new(&rule.group_id, &rule.rule_id))
        });
        found.clone()
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
            let of_row = kind::of_row(key.kind)
                .map(|kind| (kind.direction, kind.action.into(), &row.account));
            (of_row, None)
        }
    };
    one.into_iter().chain(other)
}

/// The flow of an entry's key in one direction, without rule, reason and service.
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
        traffic_path: None,
        rule: None,
        drop_reason: None,
        service: None,
    }
}

#[cfg(test)]
#[path = "drain_tests.rs"]
mod tests;
