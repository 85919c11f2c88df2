//! The [`Judge`] that is the data plane: groups compiled as the agent does, packets as frames, in
//! any [`World`]. It only translates.

mod configuration;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use branchline::policy::{self, Networks};
use branchline_common::{
    account::Segments,
    conntrack::{Connection, State as ConntrackState},
    flow::{Address, FlowKey, unmapped},
    headers::protocol,
    verdict::{Direction as CommonDirection, DropReason, Verdict as CommonVerdict},
};
use branchline_oracle::{Direction as OracleDirection, Ends, Key, State};

use self::configuration::{directory, members, spec, start};
use super::{
    format::{Change, Direction, Verdict},
    runner::{Judge, Judged, Live, Meeting},
    setting::Setting,
};
use crate::{
    case::EniSpec,
    loaded::{Loaded, chain},
    pure::Pure,
    world::World,
};

/// The data plane in worlds of the kind `W`.
#[derive(Debug)]
pub struct DataPlane<W> {
    name: &'static str,
    make: fn(usize) -> Result<W, String>,
    /// By the number of connections that they have room for.
    worlds: BTreeMap<usize, W>,
    limit: usize,
    enis: BTreeMap<String, EniSpec>,
    now: u64,
    exceeded: u64,
}

/// The pure core.
#[must_use]
pub fn pure() -> DataPlane<Pure> {
    DataPlane::new("pure", |_| Ok(Pure::default()))
}

/// The loaded programs, which need root.
#[must_use]
pub fn program() -> DataPlane<Loaded> {
    DataPlane::new("program", |limit| {
        let connections = u32::try_from(limit.min(ROOM)).unwrap_or(u32::MAX);
        Loaded::new(connections).map_err(|error| chain(&error))
    })
}

/// More connections than a scenario has, so that it meets no other limit than its own. A larger
/// table takes longer to be listed.
const ROOM: usize = 1_024;

impl<W: World> DataPlane<W> {
    /// The judge that works in what `make` makes for a number of connections: once for each number,
    /// as it may take long.
    #[must_use]
    pub fn new(name: &'static str, make: fn(usize) -> Result<W, String>) -> Self {
        Self {
            name,
            make,
            worlds: BTreeMap::new(),
            limit: 0,
            enis: BTreeMap::new(),
            now: 0,
            exceeded: 0,
        }
    }

    /// The world of this scenario, which [`Judge::set_up`] has made.
    fn world(&mut self) -> Result<&mut W, String> {
        let world = self.worlds.get_mut(&self.limit);
        world.ok_or_else(|| "no scenario has been set up".to_owned())
    }

    /// Lets every ENI have what the setting says.
    fn put(&mut self, setting: &Setting) -> Result<(), String> {
        let (directory, members) = (directory(setting)?, members(setting));
        let world = self.worlds.get_mut(&self.limit);
        let world = world.ok_or("no scenario has been set up")?;
        self.enis.retain(|id, spec| {
            let is_there = setting.enis.contains_key(id);
            if !is_there {
                world.unplug(spec);
            }
            is_there
        });
        for (id, plugged) in &setting.enis {
            let groups = plugged.eni.groups.iter();
            let groups: Vec<_> = groups.filter_map(|id| directory.groups.get(id)).collect();
            let networks = &mut Networks::of(&directory, &members);
            let policy = policy::compile(world.trees(), &groups, networks);
            let policy = policy.map_err(|error| error.to_string())?;
            let spec = spec(&setting.env, plugged)?;
            world.obey(&spec, &policy.entry);
            self.enis.insert(id.clone(), spec);
        }
        Ok(())
    }

    /// Lets time go by. What is dead then gives its room at once, as the golden format has it.
    fn go_to(&mut self, t: u64) -> Result<(), String> {
        let seconds = u32::try_from(t.saturating_sub(self.now)).map_err(|e| e.to_string())?;
        if seconds > 0 {
            let world = self.world()?;
            world.wait(seconds);
            world.sweep();
            self.now = t;
        }
        Ok(())
    }

    fn connections(&self) -> Vec<(FlowKey, Connection)> {
        let world = self.worlds.get(&self.limit);
        world.map(World::connections).unwrap_or_default()
    }

    /// Packets of all connections: one more, if a packet rode or opened one.
    fn counted(&self) -> u64 {
        let connections = self.connections();
        let accounts = connections.iter().flat_map(|(_, of)| &of.accounts);
        let slots = accounts.flat_map(|account| &account.slots);
        let used = slots.filter(|slot| slot.epoch != 0);
        used.map(|slot| slot.packets).sum()
    }
}

impl<W: World> Judge for DataPlane<W> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn set_up(&mut self, setting: &Setting) -> Result<(), String> {
        self.enis.clear();
        self.now = 0;
        self.exceeded = 0;
        self.limit = setting.env.conntrack_limit;
        if !self.worlds.contains_key(&self.limit) {
            let world = (self.make)(self.limit)?;
            self.worlds.insert(self.limit, world);
        }
        self.world()?.set_up(&start(&setting.env));
        self.put(setting)
    }

    fn change(&mut self, setting: &Setting, _change: &Change) -> Result<(), String> {
        self.put(setting)
    }

    fn judge(&mut self, meeting: &Meeting<'_>) -> Result<Judged, String> {
        self.go_to(meeting.t)?;
        let before = self.counted();
        let spec = self.enis.get(meeting.eni).cloned();
        let spec = spec.ok_or_else(|| format!("{} has not been set up", meeting.eni))?;
        let direction = match meeting.direction {
            Direction::Ingress => CommonDirection::Ingress,
            Direction::Egress => CommonDirection::Egress,
        };
        let frame = meeting
            .plugged
            .frame(meeting.direction, meeting.pkt)
            .bytes();
        let came_to = self
            .world()?
            .frame(&spec, direction, &frame, Segments::default());
        if came_to == CommonVerdict::Deny(DropReason::ConntrackFull) {
            self.exceeded += 1;
        }
        let verdict = match came_to {
            CommonVerdict::Allow => Verdict::Accept,
            CommonVerdict::Exempt => Verdict::Exempt,
            CommonVerdict::Deny(reason) if reason.is_logged() => Verdict::Reject,
            CommonVerdict::Deny(_) => Verdict::DropUnlogged,
        };
        // A refused packet leaves no trace that would tell whether its flow has a connection.
        let is_accepted = verdict == Verdict::Accept;
        Ok(Judged {
            verdict,
            tracked: is_accepted.then(|| self.counted() > before),
            why: format!("{came_to:?}"),
        })
    }

    fn counters(&mut self, t: u64) -> BTreeMap<&'static str, u64> {
        let live = self.live(t).len();
        BTreeMap::from([
            ("conntrack_allowance_exceeded", self.exceeded),
            (
                "conntrack_allowance_available",
                self.limit.saturating_sub(live) as u64,
            ),
        ])
    }

    fn live(&mut self, t: u64) -> BTreeSet<Live> {
        if self.go_to(t).is_err() {
            return BTreeSet::new();
        }
        let connections = self.connections();
        let live = connections.iter();
        live.map(|(key, connection)| self.live_of(key, connection))
            .collect()
    }
}

impl<W> DataPlane<W> {
    fn live_of(&self, key: &FlowKey, connection: &Connection) -> Live {
        let mut enis = self.enis.iter();
        let eni = enis.find(|(_, spec)| spec.slot == key.eni);
        let ends = match key.protocol {
            protocol::TCP | protocol::UDP => Ends::Ports {
                local: key.local_port,
                remote: key.remote_port,
            },
            protocol::ICMP | protocol::ICMPV6 => {
                let [request, asked] = key.remote_port.to_be_bytes();
                Ends::Query {
                    request,
                    identifier: key.local_port,
                    asked: direction(asked.wrapping_sub(1)),
                }
            }
            _ => Ends::None,
        };
        Live {
            key: Key {
                eni: eni.map_or_else(|| format!("slot {}", key.eni), |(id, _)| id.clone()),
                protocol: key.protocol,
                local: ip_address(&key.local),
                remote: ip_address(&key.remote),
                ends,
            },
            state: state(connection.tracking.state),
            opener: direction(connection.tracking.opener),
        }
    }
}

fn direction(byte: u8) -> OracleDirection {
    match CommonDirection::from_byte(byte) {
        CommonDirection::Ingress => OracleDirection::Ingress,
        CommonDirection::Egress => OracleDirection::Egress,
    }
}

fn ip_address(address: &Address) -> IpAddr {
    match unmapped(address) {
        Some(ipv4) => Ipv4Addr::from(ipv4).into(),
        None => Ipv6Addr::from(*address).into(),
    }
}

/// The oracle's word for the state with this number.
fn state(number: u8) -> State {
    let states = ConntrackState::ALL.iter();
    let known = states.copied().find(|state| *state as u8 == number);
    match known.expect("an entry that is listed is not being swept") {
        ConntrackState::SynSent => State::SynSent,
        ConntrackState::SynReceived => State::SynRecv,
        ConntrackState::Established => State::Established,
        ConntrackState::Fin => State::Fin,
        ConntrackState::TimeWait => State::TimeWait,
        ConntrackState::Close => State::Close,
        ConntrackState::Pickup => State::Pickup,
        ConntrackState::Udp => State::Udp,
        ConntrackState::UdpStream => State::UdpStream,
        ConntrackState::Icmp => State::Icmp,
        ConntrackState::Other => State::Other,
    }
}
