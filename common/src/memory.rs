//! [`Tables`] in ordinary memory: the pipeline without a kernel, for tests and tools.

extern crate std;

use core::cell::RefCell;
use std::{boxed::Box, collections::HashMap};

use crate::{
    account::{Account, Traffic},
    conntrack::{Connection, Tracking},
    flow::{Address, FlowKey, is_ipv4},
    maps::{FragmentFate, PeerKey, PortKey, Row},
    parse::Packet,
    pipeline::{Created, Hook, Tables},
    security_group::RuleSet,
    verdict::Direction,
};

/// The two tries of compiled policies, as the agent's compiler makes them.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Prefix length in bits and key to the rules whose peer covers it.
    pub peers: HashMap<(u32, PeerKey), RuleSet>,
    /// Prefix length in bits and key to the rules whose ports cover it.
    pub ports: HashMap<(u32, PortKey), RuleSet>,
}

/// What packets leave behind, in memory.
#[derive(Debug, Default)]
pub struct Memory {
    /// Compiled policies.
    pub rules: Rules,
    /// Most connections that fit; 0 for no bound.
    pub max_connections: usize,
    /// The connection table.
    pub connections: RefCell<HashMap<FlowKey, Box<Connection>>>,
    /// Rows of packets without a connection.
    pub rows: RefCell<HashMap<FlowKey, Row>>,
    /// First fragments.
    pub fragments: RefCell<HashMap<FlowKey, FragmentFate>>,
}

impl Rules {
    /// The longest prefix of the peers' trie that covers the key.
    #[must_use]
    pub fn peer(&self, policy: u32, direction: Direction, address: &Address) -> Option<&RuleSet> {
        let key = PeerKey::new(policy, direction, is_ipv4(address), *address);
        (PeerKey::FIXED_BITS..=PeerKey::BITS)
            .rev()
            .find_map(|bits| {
                let host = PeerKey::BITS - bits;
                let address = u128::from_be_bytes(key.address);
                let masked = if host == 128 {
                    0
                } else {
                    address >> host << host
                };
                self.peers.get(&(
                    bits,
                    PeerKey {
                        address: masked.to_be_bytes(),
                        ..key
                    },
                ))
            })
    }

    /// The longest prefix of the ports' trie that covers the key.
    #[must_use]
    pub fn port(
        &self,
        policy: u32,
        direction: Direction,
        protocol: u8,
        port: Option<u16>,
    ) -> Option<&RuleSet> {
        let longest = if port.is_some() {
            PortKey::BITS
        } else {
            PortKey::ANY_PORT_BITS
        };
        let port = port.unwrap_or(0);
        (PortKey::ANY_PROTOCOL_BITS..=longest)
            .rev()
            .find_map(|bits| {
                let mut key = PortKey::new(policy, direction, protocol, port);
                let host = PortKey::BITS - bits;
                if host >= 16 {
                    key.port = [0; 2];
                    key.protocol = if host >= 24 {
                        0
                    } else {
                        protocol >> (host - 16) << (host - 16)
                    };
                } else {
                    key.port = (port >> host << host).to_be_bytes();
                }
                self.ports.get(&(bits, key))
            })
    }
}

impl Memory {
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

    fn find_quoted(&self, hook: &Hook<'_>, quoted: &Packet) -> Option<FlowKey> {
        self.find(&FlowKey::connection(
            quoted,
            hook.direction.opposite(),
            hook.slot,
        ))
    }

    fn tracking(&self, entry: FlowKey) -> Tracking {
        self.with(&entry, |connection| connection.tracking)
            .unwrap_or_default()
    }

    fn touch(&self, entry: FlowKey, now: u32) {
        self.with(&entry, |connection| connection.tracking.last_seen = now);
    }

    fn update(&self, entry: FlowKey, step: impl FnOnce(&Tracking) -> Option<Tracking>) -> bool {
        self.with(&entry, |connection| {
            if let Some(next) = step(&connection.tracking) {
                connection.tracking = next;
            }
        })
        .is_some()
    }

    fn create(
        &self,
        key: &FlowKey,
        tracking: &Tracking,
        hook: &Hook<'_>,
        traffic: &Traffic,
    ) -> Created<FlowKey> {
        let mut connections = self.connections.borrow_mut();
        if connections.contains_key(key) {
            return Created::Exists(*key);
        }
        if self.max_connections != 0 && connections.len() >= self.max_connections {
            return Created::Full;
        }
        let mut connection = Connection {
            tracking: *tracking,
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

    fn rule(
        &self,
        hook: &Hook<'_>,
        peer: &Address,
        protocol: u8,
        port: Option<u16>,
    ) -> Option<u16> {
        let peers = self.rules.peer(hook.eni.policy, hook.direction, peer)?;
        let ports = self
            .rules
            .port(hook.eni.policy, hook.direction, protocol, port)?;
        peers.first_common(ports)
    }
}
