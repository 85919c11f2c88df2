//! [`Tables`] in ordinary memory: the pipeline without a kernel, for tests and tools.

extern crate std;

use core::cell::RefCell;
use std::{boxed::Box, collections::HashMap, vec::Vec};

use crate::{
    account::{Account, Traffic},
    admission::{DENIED, Question, answer},
    conntrack::{Connection, Tracking},
    flow::{Address, FlowKey},
    maps::{FragmentFate, Row},
    pipeline::{Created, Hook, Opened, Tables},
    policy::{Key, Node, Policies, Policy, RuleSet, descend},
    sequence::Windows,
    verdict::Direction,
};

/// Compiled policies, as the agent's compiler makes them.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// By index.
    pub policies: HashMap<u32, Policy>,
    /// By index.
    pub nodes: HashMap<u32, Node>,
    /// By index; 0 is the empty set and not in it.
    pub rule_sets: HashMap<u32, RuleSet>,
}

/// What packets leave behind, in memory.
#[derive(Debug, Default)]
pub struct Memory {
    /// Compiled policies.
    pub compiled: Compiled,
    /// Networks of peers whose flows are always tracked: prefix length and first address.
    pub auto_track: Vec<(u32, Address)>,
    /// Most connections that fit; 0 for no bound.
    pub max_connections: usize,
    /// The connection table.
    pub connections: RefCell<HashMap<FlowKey, Box<Connection>>>,
    /// Rows of packets without a connection.
    pub rows: RefCell<HashMap<FlowKey, Row>>,
    /// First fragments.
    pub fragments: RefCell<HashMap<FlowKey, FragmentFate>>,
    /// Packets that passed by audit mode, by slot.
    pub audited: RefCell<HashMap<u16, u64>>,
}

impl Memory {
    /// Removes the connections that are dead `now`.
    pub fn sweep(&self, now: u32) {
        self.connections
            .borrow_mut()
            .retain(|_, connection| connection.tracking.is_live(now));
    }

    fn with<R>(&self, key: &FlowKey, f: impl FnOnce(&mut Connection) -> R) -> Option<R> {
        self.connections
            .borrow_mut()
            .get_mut(key)
            .map(|connection| f(connection))
    }
}

fn account(accounts: &mut [Account; 2], direction: Direction) -> &mut Account {
    let [ingress, egress] = accounts;
    match direction {
        Direction::Ingress => ingress,
        Direction::Egress => egress,
    }
}

impl Tables for Memory {
    type Entry = FlowKey;

    fn find(&self, key: &FlowKey) -> Option<FlowKey> {
        self.connections.borrow().contains_key(key).then_some(*key)
    }

    fn tracking(&self, entry: FlowKey) -> Tracking {
        self.with(&entry, |connection| connection.tracking)
            .unwrap_or_default()
    }

    fn touch(&self, entry: FlowKey, now: u32) {
        self.with(&entry, |connection| connection.tracking.last_seen = now);
    }

    fn windows(&self, entry: FlowKey) -> Windows {
        self.with(&entry, |connection| connection.windows)
            .unwrap_or_default()
    }

    fn set_windows(&self, entry: FlowKey, windows: &Windows) {
        self.with(&entry, |connection| connection.windows = *windows);
    }

    fn ask(&self, policy: u32, question: &Question) -> u32 {
        match self.policy(policy) {
            Some(policy) => answer(self, policy, question),
            None => DENIED,
        }
    }

    fn advance(&self, entry: FlowKey, from: [u32; 2], to: &Tracking) -> bool {
        let advanced = self.with(&entry, |connection| {
            let is_same = connection.tracking.words() == from;
            if is_same {
                connection.tracking = Tracking {
                    last_seen: connection.tracking.last_seen,
                    ..*to
                };
            }
            is_same
        });
        advanced.unwrap_or(false)
    }

    fn reopen(&self, entry: FlowKey, tracking: &Tracking) -> bool {
        self.with(&entry, |connection| connection.tracking = *tracking)
            .is_some()
    }

    fn create(
        &self,
        key: &FlowKey,
        opened: &Opened,
        hook: &Hook<'_>,
        traffic: &Traffic,
    ) -> Created<FlowKey> {
        let mut connections = self.connections.borrow_mut();
        if connections.contains_key(key) {
            return Created::Exists(*key);
        }
        let share = hook.eni.max_connections as usize;
        let own = || {
            connections
                .keys()
                .filter(|key| key.eni == hook.slot)
                .count()
        };
        if (self.max_connections != 0 && connections.len() >= self.max_connections)
            || (share != 0 && own() >= share)
        {
            return Created::Full;
        }
        let mut connection = Connection {
            tracking: opened.tracking,
            windows: opened.windows,
            ..Connection::default()
        };
        account(&mut connection.accounts, hook.direction).add(traffic, hook.epoch, hook.now);
        connections.insert(*key, Box::new(connection));
        Created::Counted
    }

    fn count(&self, entry: FlowKey, hook: &Hook<'_>, traffic: &Traffic) {
        self.with(&entry, |connection| {
            account(&mut connection.accounts, hook.direction).add(traffic, hook.epoch, hook.now);
        });
    }

    fn count_row(&self, key: &FlowKey, hook: &Hook<'_>, traffic: &Traffic) {
        let mut rows = self.rows.borrow_mut();
        let row = rows.entry(*key).or_default();
        row.account.add(traffic, hook.epoch, hook.now);
    }

    fn first_fragment(&self, key: &FlowKey) -> Option<FragmentFate> {
        self.fragments.borrow().get(key).copied()
    }

    fn remember(&self, key: &FlowKey, fate: &FragmentFate) {
        self.fragments.borrow_mut().insert(*key, *fate);
    }

    fn count_audited(&self, hook: &Hook<'_>) {
        *self.audited.borrow_mut().entry(hook.slot).or_default() += 1;
    }
}

impl Policies for Memory {
    fn policy(&self, index: u32) -> Option<&Policy> {
        self.compiled.policies.get(&index)
    }

    fn leaf(&self, root: u32, key: Key) -> u32 {
        descend(root, key, |index| self.compiled.nodes.get(&index))
    }

    fn rule_set(&self, index: u32) -> Option<&RuleSet> {
        self.compiled.rule_sets.get(&index)
    }

    fn is_auto_tracked(&self, peer: &Address) -> bool {
        let peer = u128::from_be_bytes(*peer);
        let covers = |(bits, network): &(u32, Address)| {
            let differs = peer ^ u128::from_be_bytes(*network);
            differs.checked_shr(128 - bits).unwrap_or(0) == 0
        };
        self.auto_track.iter().any(covers)
    }
}
