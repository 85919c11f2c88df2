//! What packets leave behind, and the worlds that cases run in. It runs no case.

use std::collections::BTreeMap;

use branchline::policy::Trees;
use branchline_common::{
    account::{Account, Segments},
    conntrack::{Connection, State, Tracking},
    flow::{FlowKey, kind},
    maps::{COUNTERS, Row},
    policy::Policy,
    sequence::Windows,
    verdict::{Action, Direction, DropReason, Service, Verdict},
};

use crate::{
    case::{Case, EniSpec},
    rules::{self, Rule},
};

/// Packets, bytes and TCP flags as the flow log reports them, over all intervals.
pub type Count = (u64, u64, u8);

/// An entry that a case leaves behind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// A connection.
    Connection {
        /// Slot of its ENI.
        slot: u16,
        /// Number of its [`State`].
        state: u8,
        /// Who opened it.
        opener: Direction,
        /// Towards the task.
        ingress: Count,
        /// Away from it.
        egress: Count,
    },
    /// A row of packets without one.
    Row {
        /// Slot of its ENI.
        slot: u16,
        /// Direction of its packets.
        direction: Direction,
        /// What became of them.
        action: Action,
        /// Why they were refused, if they were.
        drop_reason: Option<DropReason>,
        /// The service that they were exempt for, if they were.
        service: Option<Service>,
        /// Local and remote.
        ports: (u16, u16),
        /// What it counted.
        count: Count,
    },
}

/// A connection without its clock: state, and each direction's slots by epoch.
pub type Connected = (Tracking, [BTreeMap<u32, Count>; 2]);

/// Everything that packets left behind, without the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The connection table.
    pub connections: BTreeMap<FlowKey, Connected>,
    /// Its TCP windows.
    pub windows: BTreeMap<FlowKey, Windows>,
    /// Rows.
    pub rows: BTreeMap<FlowKey, BTreeMap<u32, Count>>,
    /// Exempt packets and drops of each slot that has any.
    pub counters: BTreeMap<u16, [u64; COUNTERS]>,
}

impl Tables {
    /// Enters a connection.
    pub fn add_connection(&mut self, key: FlowKey, connection: &Connection) {
        let tracking = Tracking {
            last_seen: 0,
            ..connection.tracking
        };
        self.windows.insert(key, connection.windows);
        let accounts = connection.accounts.each_ref().map(by_epoch);
        self.connections.insert(key, (tracking, accounts));
    }

    /// Enters a row.
    pub fn add_row(&mut self, key: FlowKey, row: &Row) {
        self.rows.insert(key, by_epoch(&row.account));
    }

    /// What is left, in order.
    #[must_use]
    pub fn left(&self) -> Vec<Left> {
        let connections = self.connections.iter().map(|(key, (tracking, accounts))| {
            let [ingress, egress] = accounts.each_ref().map(sum);
            Left::Connection {
                slot: key.eni,
                state: tracking.state,
                opener: Direction::from_byte(tracking.opener),
                ingress,
                egress,
            }
        });
        let rows = self.rows.iter().map(|(key, account)| {
            let row = kind::of_row(key.kind).expect("a row has a row's kind");
            Left::Row {
                slot: key.eni,
                direction: row.direction,
                action: row.action,
                drop_reason: row.drop_reason,
                service: row.service,
                ports: (key.local_port, key.remote_port),
                count: sum(account),
            }
        });
        let mut left: Vec<_> = connections.chain(rows).collect();
        left.sort();
        left
    }
}

fn by_epoch(account: &Account) -> BTreeMap<u32, Count> {
    let used = account.slots.iter().filter(|slot| slot.epoch != 0);
    used.map(|slot| (slot.epoch, (slot.packets, slot.bytes, slot.flags.bits())))
        .collect()
}

fn sum(account: &BTreeMap<u32, Count>) -> Count {
    let add = |a: Count, b: &Count| (a.0 + b.0, a.1 + b.1, a.2 | b.2);
    account.values().fold((0, 0, 0), add)
}

/// Where cases run.
pub trait World {
    /// Forgets everything and sets up the ENIs of a case.
    fn set_up(&mut self, case: &Case);

    /// The trees that policies for [`World::obey`] are compiled into.
    fn trees(&mut self) -> &mut Trees;

    /// Adds an ENI, or changes it, and lets it obey a policy.
    fn obey(&mut self, eni: &EniSpec, policy: &Policy);

    /// Removes an ENI and all that its packets have left.
    fn unplug(&mut self, eni: &EniSpec);

    /// Adds an ENI, or changes it, and gives it these rules.
    fn set_rules(&mut self, eni: &EniSpec, rules: &[Rule]) {
        let policy = rules::compile(self.trees(), rules);
        self.obey(eni, &policy.entry);
    }

    /// Hands a frame to the hook of an ENI.
    fn frame(
        &mut self,
        eni: &EniSpec,
        direction: Direction,
        frame: &[u8],
        segments: Segments,
    ) -> Verdict;

    /// Lets time go by.
    fn wait(&mut self, seconds: u32);

    /// Removes dead connections, as the agent's sweeper does.
    fn sweep(&mut self);

    /// Starts the next interval.
    fn next_epoch(&mut self);

    /// The connections that are not swept.
    fn connections(&self) -> Vec<(FlowKey, Connection)>;

    /// What packets have left.
    fn tables(&self) -> Tables;
}

/// A connection of the first ENI.
#[must_use]
pub fn connection(state: State, opener: Direction, ingress: Count, egress: Count) -> Left {
    Left::Connection {
        slot: 1,
        state: state as u8,
        opener,
        ingress,
        egress,
    }
}

/// A row of the first ENI for packets that passed without a connection.
#[must_use]
pub fn accepted(direction: Direction, ports: (u16, u16), count: Count) -> Left {
    Left::Row {
        slot: 1,
        direction,
        action: Action::Accepted,
        drop_reason: None,
        service: None,
        ports,
        count,
    }
}

/// A row of the first ENI for exempt packets of `service`.
#[must_use]
pub fn exempt(service: Service, direction: Direction, ports: (u16, u16), count: Count) -> Left {
    Left::Row {
        slot: 1,
        direction,
        action: Action::Accepted,
        drop_reason: None,
        service: Some(service),
        ports,
        count,
    }
}

/// A row of the first ENI for packets that no rule allows.
#[must_use]
pub fn rejected(direction: Direction, ports: (u16, u16), count: Count) -> Left {
    refused(DropReason::NoRule, direction, ports, count)
}

/// A row of the first ENI for packets that were refused for `reason`.
#[must_use]
pub fn refused(reason: DropReason, direction: Direction, ports: (u16, u16), count: Count) -> Left {
    Left::Row {
        slot: 1,
        direction,
        action: Action::Rejected,
        drop_reason: Some(reason),
        service: None,
        ports,
        count,
    }
}
