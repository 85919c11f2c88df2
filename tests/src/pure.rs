//! The [`World`] of the pure tier: the pipeline over ordinary memory, with a clock that tests move.

use std::collections::{BTreeMap, HashMap};

use branchline::policy::Trees;
use branchline_common::{
    account::Segments,
    conntrack::Connection,
    flow::FlowKey,
    link,
    maps::{COUNTERS, Endpoint, Eni},
    memory::Memory,
    parse,
    pipeline::{self, Hook, Room},
    policy::Policy,
    verdict::{Direction, DropReason, Verdict},
};

use crate::{
    case::{Case, EniSpec, LINK, mapped_network},
    world::{Tables, World},
};

/// Ticks per second, as far as this world is concerned.
pub const TICKS_PER_SECOND: u32 = 100;

/// The pipeline over memory.
#[derive(Debug)]
pub struct Pure {
    memory: Memory,
    enis: HashMap<u16, Eni>,
    endpoints: HashMap<Endpoint, u16>,
    counters: BTreeMap<u16, [u64; COUNTERS]>,
    trees: Trees,
    policies: u32,
    now: u32,
    epoch: u32,
    is_strict: bool,
    ticks_per_second: u32,
    fragment_ticks: u32,
    services: u32,
}

impl Default for Pure {
    fn default() -> Self {
        Self::new(TICKS_PER_SECOND)
    }
}

impl Pure {
    /// A world whose clock runs so fast.
    #[must_use]
    pub fn new(ticks_per_second: u32) -> Self {
        Self {
            memory: Memory::default(),
            enis: HashMap::new(),
            endpoints: HashMap::new(),
            counters: BTreeMap::new(),
            trees: Trees::default(),
            policies: 0,
            // Close to the wrap, which a host meets five minutes after its start.
            now: u32::MAX - 300 * ticks_per_second,
            epoch: 1,
            is_strict: false,
            ticks_per_second,
            fragment_ticks: 0,
            services: 0,
        }
    }

    /// What packets left in memory.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    fn judge(
        &self,
        slot: u16,
        direction: Direction,
        frame: &[u8],
        link: &parse::Ethernet,
        segments: Segments,
    ) -> Verdict {
        let hook = Hook {
            eni: &self.enis[&slot],
            slot,
            direction,
            policy: self.enis[&slot].policy,
            has_auto_track: !self.memory.auto_track.is_empty(),
            now: self.now,
            epoch: self.epoch,
            tcp_strict: self.is_strict,
            fragment_ticks: self.fragment_ticks,
            services: self.services,
        };
        pipeline::run(
            &self.memory,
            &hook,
            &mut Room::default(),
            frame,
            link,
            segments,
        )
    }

    /// The frame's ENI, or none, and its verdict: what `trunk_ingress` and `branch_egress` do.
    fn hook(
        &self,
        branch: u16,
        direction: Direction,
        frame: &[u8],
        segments: Segments,
    ) -> (u16, Verdict) {
        let fallback = match direction {
            Direction::Ingress => 0,
            Direction::Egress => branch,
        };
        let link = match parse::ethernet(frame, None) {
            Ok(link) => link,
            Err(reason) => return (fallback, Verdict::Deny(reason)),
        };
        let slot = match direction {
            Direction::Ingress => {
                let endpoint = Endpoint::of(LINK, link.vlan, link.destination);
                match self.endpoints.get(&endpoint) {
                    Some(slot) => *slot,
                    None => return (0, Verdict::Deny(DropReason::UnknownEndpoint)),
                }
            }
            Direction::Egress => {
                if let Err(reason) = link::check_task(&link, &self.enis[&branch]) {
                    return (branch, Verdict::Deny(reason));
                }
                branch
            }
        };
        (slot, self.judge(slot, direction, frame, &link, segments))
    }
}

/// The counter that a verdict adds to.
fn counter(verdict: Verdict) -> Option<usize> {
    match verdict {
        Verdict::Allow => None,
        Verdict::Exempt => Some(0),
        Verdict::Deny(reason) => Some(reason as usize),
    }
}

/// The endpoints of an ENI on its trunk: its own address, and group addresses in its VLAN.
#[must_use]
pub fn endpoints(eni: &EniSpec) -> [Endpoint; 2] {
    [eni.mac(), [0xff; 6]].map(|mac| Endpoint::of(LINK, Some(eni.vlan()), mac))
}

impl World for Pure {
    fn set_up(&mut self, case: &Case) {
        *self = Self::new(self.ticks_per_second);
        self.is_strict = case.is_strict;
        self.services = case.services;
        self.fragment_ticks = case.fragment_seconds * self.ticks_per_second;
        self.memory.max_connections = case.max_connections;
        self.memory.auto_track = case.auto_track.iter().map(mapped_network).collect();
        for eni in &case.enis {
            self.set_rules(eni, &eni.rules);
        }
    }

    fn trees(&mut self) -> &mut Trees {
        &mut self.trees
    }

    fn obey(&mut self, eni: &EniSpec, policy: &Policy) {
        let writes = self.trees.unwritten();
        let compiled = &mut self.memory.compiled;
        compiled.rule_sets.extend(writes.rule_sets.iter().copied());
        compiled.nodes.extend(writes.nodes.iter().copied());
        self.trees.written(&writes);
        self.policies += 1;
        let index = self.policies;
        let policy = Policy {
            generation: index,
            ..*policy
        };
        compiled.policies.insert(index, policy);
        self.enis
            .insert(eni.slot, eni.eni(index, self.ticks_per_second));
        for endpoint in endpoints(eni) {
            self.endpoints.insert(endpoint, eni.slot);
        }
    }

    fn unplug(&mut self, eni: &EniSpec) {
        let slot = eni.slot;
        self.endpoints.retain(|_, of| *of != slot);
        self.enis.remove(&slot);
        self.counters.remove(&slot);
        let memory = &self.memory;
        memory
            .connections
            .borrow_mut()
            .retain(|key, _| key.eni != slot);
        memory.rows.borrow_mut().retain(|key, _| key.eni != slot);
        memory
            .fragments
            .borrow_mut()
            .retain(|key, _| key.eni != slot);
    }

    fn frame(
        &mut self,
        eni: &EniSpec,
        direction: Direction,
        frame: &[u8],
        segments: Segments,
    ) -> Verdict {
        let (slot, verdict) = self.hook(eni.slot, direction, frame, segments);
        if let Some(index) = counter(verdict) {
            self.counters.entry(slot).or_default()[index] += 1;
        }
        verdict
    }

    fn wait(&mut self, seconds: u32) {
        self.now = self.now.wrapping_add(seconds * self.ticks_per_second);
    }

    fn sweep(&mut self) {
        self.memory.sweep(self.now);
    }

    fn next_epoch(&mut self) {
        self.epoch += 1;
    }

    fn connections(&self) -> Vec<(FlowKey, Connection)> {
        let connections = self.memory.connections.borrow();
        connections
            .iter()
            .map(|(key, connection)| (*key, **connection))
            .collect()
    }

    fn tables(&self) -> Tables {
        let mut tables = Tables {
            counters: self.counters.clone(),
            ..Tables::default()
        };
        for (key, connection) in self.memory.connections.borrow().iter() {
            tables.add_connection(*key, connection);
        }
        for (key, row) in self.memory.rows.borrow().iter() {
            tables.add_row(*key, row);
        }
        tables
    }
}
