//! Which live flows a change of security groups would affect. Pure.
//!
//! It asks the policies before and after, both compiled into trees of its own; it changes nothing and reads no map.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use branchline_common::{
    conntrack::{SWEPT, State, Tracking},
    flow::{Address, FlowKey, is_ipv4, kind},
    headers::protocol,
    parse::has_ports,
    policy::{AUDITED, Policy as Entry, scope},
    verdict::{Action, Direction},
};
use serde::{Deserialize, Serialize};

use super::{CompileError, Networks, Trees, compile, still_admits};
use crate::{
    datapath,
    policies::{changed_ids, cuts, depends},
    security_groups::{Directory, Members, SecurityGroup},
};

/// What becomes of a flow.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Untracked: its next packet is refused.
    CutAtOnce,
    /// Tracked: the agent ends its connection, since a group or the agent has `cut_on_revoke` or audit mode ends.
    Ended,
    /// Tracked: no rule would let it be opened any more, and it goes on until it ends by itself.
    GoesOn,
}

/// A live flow that a change would affect.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
pub struct AffectedFlow {
    /// What becomes of it.
    pub effect: Effect,
    /// The slot of its ENI in the maps.
    #[serde(skip)]
    pub slot: u32,
    /// Its ENI.
    pub network_interface_id: String,
    /// Which way it was opened.
    #[schema(value_type = String)]
    pub direction: Direction,
    /// IANA number.
    pub protocol: u8,
    /// The ENI's end.
    #[schema(value_type = String)]
    pub local_address: IpAddr,
    /// 0 where the protocol has no ports.
    pub local_port: u16,
    /// The other end.
    #[schema(value_type = String)]
    pub remote_address: IpAddr,
    /// 0 where the protocol has no ports.
    pub remote_port: u16,
}

/// A directory change as live flows meet it: of each ENI whose rules it can change, the policies before and after.
#[derive(Debug, Default)]
pub struct PolicyChange {
    trees: Trees,
    of_slots: BTreeMap<u32, Pair>,
}

#[derive(Debug, Clone, Copy)]
struct Pair {
    old: Entry,
    new: Entry,
    cuts: bool,
}

impl PolicyChange {
    /// Compiles both sides for each of `sets`, groups and the slots of the ENIs that have them. `cut_on_revoke` is the
    /// agent's own setting.
    ///
    /// # Errors
    /// As an apply of `new` would fail.
    pub fn of<'a>(
        old: &Directory,
        new: &Directory,
        members: &Members,
        sets: impl IntoIterator<Item = (&'a [String], &'a BTreeSet<u32>)>,
        cut_on_revoke: bool,
    ) -> Result<Self, CompileError> {
        let changed = changed_ids(old, new);
        let mut change = Self::default();
        let (old_networks, new_networks) = (
            &mut Networks::of(old, members),
            &mut Networks::of(new, members),
        );
        for (set, slots) in sets {
            if !depends(set, old, &changed) && !depends(set, new, &changed) {
                continue;
            }
            let mut side = |directory, networks: &mut _| -> Result<Entry, CompileError> {
                Ok(compile(&mut change.trees, &groups(set, directory), networks)?.entry)
            };
            let pair = Pair {
                old: side(old, old_networks)?,
                new: side(new, new_networks)?,
                cuts: cuts(set, new, cut_on_revoke),
            };
            change
                .of_slots
                .extend(slots.iter().map(|slot| (*slot, pair)));
        }
        Ok(change)
    }

    /// How many ENIs obey other rules afterwards.
    #[must_use]
    pub fn network_interfaces(&self) -> usize {
        self.of_slots.len()
    }

    /// The flow that `entry` counts at tick `now`, if the change affects it. `eni_id` names the ENI of a slot.
    #[must_use]
    pub fn affects(
        &self,
        key: &FlowKey,
        entry: &datapath::Entry,
        now: u32,
        eni_id: impl Fn(u32) -> Option<String>,
    ) -> Option<AffectedFlow> {
        let slot = u32::from(key.eni);
        let pair = self.of_slots.get(&slot)?;
        let (effect, direction) = match entry {
            datapath::Entry::Connection(connection) => {
                let tracking = &connection.tracking;
                let effect = self.on_connection(pair, key, tracking, now)?;
                (effect, Direction::from_byte(tracking.opener))
            }
            datapath::Entry::Row(_) => (Effect::CutAtOnce, self.cut_row(pair, key)?),
        };
        let port = |port| if has_ports(key.protocol) { port } else { 0 };
        Some(AffectedFlow {
            effect,
            slot,
            network_interface_id: eni_id(slot)?,
            direction,
            protocol: key.protocol,
            local_address: address(key.local),
            local_port: port(key.local_port),
            remote_address: address(key.remote),
            remote_port: port(key.remote_port),
        })
    }

    fn on_connection(
        &self,
        pair: &Pair,
        key: &FlowKey,
        tracking: &Tracking,
        now: u32,
    ) -> Option<Effect> {
        // A closed connection carries no packet.
        let is_gone = tracking.state == SWEPT || tracking.state == State::Close as u8;
        if is_gone || !tracking.is_live(now) || still_admits(&self.trees, &pair.new, key, tracking)
        {
            return None;
        }
        if pair.cuts || (tracking.rule == AUDITED && pair.old.audits()) {
            return Some(Effect::Ended);
        }
        still_admits(&self.trees, &pair.old, key, tracking).then_some(Effect::GoesOn)
    }

    /// Which way the untracked flow of a row was opened, if no rule lets it be opened that way any more. Packets that
    /// pass without an entry and belong to no flow, as one-way ICMP, are not asked for.
    fn cut_row(&self, pair: &Pair, key: &FlowKey) -> Option<Direction> {
        let row = kind::of_row(key.kind)?;
        let is_filtered = row.action == Action::Accepted && row.service.is_none();
        if !is_filtered || pair.new.audits() {
            return None;
        }
        let own = row.direction;
        let opened: Vec<Direction> = [own, own.opposite()]
            .into_iter()
            .filter(|direction| self.is_untracked(&pair.old, *direction, key))
            .collect();
        let admits = |direction: &Direction| {
            let scope = scope(*direction, is_ipv4(&key.remote));
            let port = Some(port_of(*direction, key));
            let rule = pair
                .new
                .rule(&self.trees, scope, &key.remote, key.protocol, port);
            rule.is_some()
        };
        if opened.iter().any(admits) {
            return None;
        }
        opened.first().copied()
    }

    /// `spec/security-groups.md` section 4, of a flow that was opened in `direction`.
    fn is_untracked(&self, policy: &Entry, direction: Direction, key: &FlowKey) -> bool {
        let is_ipv4 = is_ipv4(&key.remote);
        let (own, opposite) = (
            scope(direction, is_ipv4),
            scope(direction.opposite(), is_ipv4),
        );
        matches!(key.protocol, protocol::TCP | protocol::UDP)
            && policy.admits_all(opposite, key.protocol)
            && policy.opens(&self.trees, own, key.protocol, port_of(direction, key))
    }
}

/// The destination port of a flow that was opened in `direction`.
fn port_of(direction: Direction, key: &FlowKey) -> u16 {
    match direction {
        Direction::Ingress => key.local_port,
        Direction::Egress => key.remote_port,
    }
}

/// Groups that are not there have no rules; an apply does not remove one that an ENI has.
fn groups<'a>(set: &[String], directory: &'a Directory) -> Vec<&'a SecurityGroup> {
    set.iter()
        .filter_map(|id| directory.groups.get(id))
        .collect()
}

fn address(address: Address) -> IpAddr {
    IpAddr::from(Ipv6Addr::from(address)).to_canonical()
}

#[cfg(test)]
#[path = "affected_tests.rs"]
mod tests;
