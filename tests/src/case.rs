//! What a case of the table is, and how it runs in a [`World`].
//!
//! A case sets up ENIs with rules, sends frames one after another and says what becomes of each and
//! what is left in the tables. It knows no world: the pure pipeline and the loaded programs are two.

use branchline_common::{
    account::Segments,
    conntrack::{State, default_timeouts},
    flow::{Address, NO_ADDRESS, mapped},
    maps::{Eni, control, eni},
    verdict::{Direction, Service, Verdict},
};
use bytes::Bytes;
use ipnet::IpNet;

use crate::{
    frame::{Frame, Mac},
    packet::{self, Packet},
    rules::{Rule, rules},
    world::{Left, World},
};

/// The VPC router's MAC address.
pub const ROUTER_MAC: Mac = [2, 0, 0, 0, 0, 0xfe];
/// Index of the only link that BPF_PROG_TEST_RUN knows, which so plays every link.
pub const LINK: u32 = 1;

/// An ENI of a case, and the rules of all its groups.
#[derive(Clone, Debug)]
pub struct EniSpec {
    /// Its slot; VLAN 100 + slot, MAC address 02:00:00:00:00:slot.
    pub slot: u16,
    /// Addresses as text; an empty one is none.
    pub ipv4: String,
    /// See `ipv4`.
    pub ipv6: String,
    /// Bits of [`eni`].
    pub flags: u32,
    /// What its groups allow.
    pub rules: Vec<Rule>,
    /// Timers that differ from the defaults, in seconds.
    pub timeouts: Vec<(State, u32)>,
    /// Its share of the connection table; 0 for no bound of its own.
    pub max_connections: u32,
    /// The subnet's router, as `ipv4`.
    pub router_ipv4: String,
    /// See `router_ipv4`.
    pub router_ipv6: String,
    /// The VPC's resolvers, at most four.
    pub resolvers: Vec<String>,
    /// Whether the host has services of its own.
    pub has_services: bool,
    /// Where a task without an IPv4 address asks for its metadata from, as `ipv4`.
    pub metadata_source: String,
}

impl EniSpec {
    /// The ENI of a slot, `10.0.1.<slot>0` and `2001:db8:1:1::<slot>0`.
    #[must_use]
    pub fn new(slot: u16, lines: &[&str]) -> Self {
        Self {
            slot,
            ipv4: format!("10.0.1.{slot}0"),
            ipv6: format!("2001:db8:1:1::{slot}0"),
            flags: eni::SOURCE_DEST_CHECK,
            rules: rules(lines),
            timeouts: Vec::new(),
            max_connections: 0,
            router_ipv4: "10.0.1.1".to_owned(),
            router_ipv6: "2001:db8:1:1::1".to_owned(),
            resolvers: vec!["10.0.0.2".to_owned()],
            has_services: false,
            metadata_source: String::new(),
        }
    }

    /// Its MAC address.
    #[must_use]
    pub fn mac(&self) -> Mac {
        let [high, low] = self.slot.to_be_bytes();
        [2, 0, 0, 0, high, low]
    }

    /// Its VLAN id.
    #[must_use]
    pub fn vlan(&self) -> u16 {
        100 + self.slot
    }

    /// What the programs know of it.
    #[must_use]
    pub fn eni(&self, policy: u32, ticks_per_second: u32) -> Eni {
        let mut timeouts = default_timeouts(ticks_per_second);
        for (state, seconds) in &self.timeouts {
            timeouts[*state as usize] = seconds * ticks_per_second;
        }
        let mut resolvers = [NO_ADDRESS; 4];
        for (place, resolver) in resolvers.iter_mut().zip(&self.resolvers) {
            *place = mapped_address(resolver);
        }
        Eni {
            trunk_ifindex: LINK,
            branch_ifindex: LINK,
            fabric_ifindex: LINK,
            policy,
            flags: self.flags,
            vlan: self.vlan(),
            mac: self.mac(),
            ipv4: mapped_address(&self.ipv4),
            ipv6: mapped_address(&self.ipv6),
            link_local: mapped_address(&format!("fe80::ff:fe00:{:x}", self.slot)),
            router_ipv4: mapped_address(&self.router_ipv4),
            router_ipv6: mapped_address(&self.router_ipv6),
            resolvers,
            timeouts,
            max_connections: self.max_connections,
            services_ifindex: if self.has_services { LINK } else { 0 },
            metadata_source: mapped_address(&self.metadata_source),
        }
    }

    /// The frame of a packet as this ENI's hook gets it.
    #[must_use]
    pub fn frame(&self, direction: Direction, packet: &Packet) -> Frame {
        match direction {
            Direction::Ingress => {
                Frame::of(ROUTER_MAC, self.mac(), packet).tag(0x8100, self.vlan())
            }
            Direction::Egress => Frame::of(self.mac(), ROUTER_MAC, packet),
        }
    }
}

/// The address of a text, mapped if it is IPv4; none if it is empty.
#[must_use]
pub fn mapped_address(text: &str) -> Address {
    if text.is_empty() {
        return NO_ADDRESS;
    }
    match packet::address(text) {
        std::net::IpAddr::V4(address) => mapped(address.octets()),
        std::net::IpAddr::V6(address) => address.octets(),
    }
}

/// A network as the tables of networks have it: bits of the mapped address, and the address.
#[must_use]
pub fn mapped_network(network: &IpNet) -> (u32, Address) {
    let bits = match network {
        IpNet::V4(_) => 96 + u32::from(network.prefix_len()),
        IpNet::V6(_) => network.prefix_len().into(),
    };
    (bits, mapped_address(&network.network().to_string()))
}

/// One thing that happens in a case.
#[derive(Clone, Debug)]
pub enum Step {
    /// A frame arrives at the hook of an ENI (its index in the case) and gets this verdict.
    Frame {
        /// Index of the ENI.
        eni: usize,
        /// The hook.
        direction: Direction,
        /// What arrives.
        frame: Bytes,
        /// If the kernel carries several segments as one.
        segments: Segments,
        /// What becomes of it.
        expected: Verdict,
    },
    /// Seconds go by.
    Wait(u32),
    /// The next aggregation interval starts.
    Epoch,
    /// The rules of an ENI are replaced.
    Rules(usize, Vec<Rule>),
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Case {
    /// A sentence.
    pub name: String,
    /// Its ENIs.
    pub enis: Vec<EniSpec>,
    /// Whether TCP must start with a SYN.
    pub is_strict: bool,
    /// Most connections; 0 for no bound of the case's own.
    pub max_connections: usize,
    /// Bits of [`control::SERVICES`]: whose exempt packets are counted.
    pub services: u32,
    /// Seconds for which a first fragment is remembered.
    pub fragment_seconds: u32,
    /// Peers whose flows are always tracked.
    pub auto_track: Vec<IpNet>,
    /// What happens.
    pub steps: Vec<Step>,
    /// All that is left in the end, if the case says so.
    pub left: Option<Vec<Left>>,
    /// The ENI that the builder's next steps are about.
    current: usize,
}

/// A case with one ENI, `10.0.1.10`, whose groups allow `rules`.
#[must_use]
pub fn case(name: &str, rules: &[&str]) -> Case {
    Case {
        name: name.to_owned(),
        enis: vec![EniSpec::new(1, rules)],
        is_strict: false,
        max_connections: 0,
        services: 0,
        fragment_seconds: 30,
        auto_track: Vec::new(),
        steps: Vec::new(),
        left: None,
        current: 0,
    }
}

impl Case {
    /// Runs it; returns what went wrong first.
    ///
    /// # Errors
    /// A sentence with the case's name.
    pub fn run(&self, world: &mut impl World) -> Result<(), String> {
        world.set_up(self);
        for (index, step) in self.steps.iter().enumerate() {
            match step {
                Step::Frame {
                    eni,
                    direction,
                    frame,
                    segments,
                    expected,
                } => {
                    let verdict = world.frame(&self.enis[*eni], *direction, frame, *segments);
                    if verdict != *expected {
                        return Err(format!(
                            "{}: step {index} ({direction:?}) got {verdict:?}, expected {expected:?}",
                            self.name
                        ));
                    }
                }
                Step::Wait(seconds) => world.wait(*seconds),
                Step::Epoch => world.next_epoch(),
                Step::Rules(eni, rules) => world.set_rules(&self.enis[*eni], rules),
            }
        }
        let left = world.tables().left();
        match &self.left {
            Some(expected) if *expected != left => Err(format!(
                "{}: left {left:#?}, expected {expected:#?}",
                self.name
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// The task sends a packet.
    #[must_use]
    pub fn egress(self, packet: Packet, expected: Verdict) -> Self {
        self.packet(Direction::Egress, &packet, expected)
    }

    /// A packet comes for the task.
    #[must_use]
    pub fn ingress(self, packet: Packet, expected: Verdict) -> Self {
        self.packet(Direction::Ingress, &packet, expected)
    }

    /// A packet at one of the hooks.
    #[must_use]
    pub fn packet(self, direction: Direction, packet: &Packet, expected: Verdict) -> Self {
        let frame = self.enis[self.current].frame(direction, packet).bytes();
        self.frame(direction, frame, expected)
    }

    /// Any frame at one of the hooks.
    #[must_use]
    pub fn frame(self, direction: Direction, frame: Bytes, expected: Verdict) -> Self {
        let segments = Segments::default();
        self.gso(direction, frame, segments, expected)
    }

    /// A frame that stands for several segments.
    #[must_use]
    pub fn gso(
        mut self,
        direction: Direction,
        frame: Bytes,
        segments: Segments,
        expected: Verdict,
    ) -> Self {
        self.steps.push(Step::Frame {
            eni: self.current,
            direction,
            frame,
            segments,
            expected,
        });
        self
    }

    /// Seconds go by.
    #[must_use]
    pub fn wait(mut self, seconds: u32) -> Self {
        self.steps.push(Step::Wait(seconds));
        self
    }

    /// The next interval starts.
    #[must_use]
    pub fn epoch(mut self) -> Self {
        self.steps.push(Step::Epoch);
        self
    }

    /// The ENI's rules are replaced.
    #[must_use]
    pub fn rules(mut self, lines: &[&str]) -> Self {
        self.steps.push(Step::Rules(self.current, rules(lines)));
        self
    }

    /// Adds an ENI, `10.0.1.<slot>0`; the next steps are about it.
    #[must_use]
    pub fn eni(mut self, slot: u16, rules: &[&str]) -> Self {
        self.current = self.enis.len();
        self.enis.push(EniSpec::new(slot, rules));
        self
    }

    /// The next steps are about the ENI with this index.
    #[must_use]
    pub fn on(mut self, eni: usize) -> Self {
        self.current = eni;
        self
    }

    /// Sets the flags of the current ENI.
    #[must_use]
    pub fn flags(mut self, flags: u32) -> Self {
        self.enis[self.current].flags = flags;
        self
    }

    /// Sets the IPv4 address of the current ENI.
    #[must_use]
    pub fn address(mut self, ipv4: &str) -> Self {
        self.enis[self.current].ipv4 = ipv4.to_owned();
        self
    }

    /// Sets the IPv6 address of the current ENI; none if empty.
    #[must_use]
    pub fn ipv6(mut self, ipv6: &str) -> Self {
        self.enis[self.current].ipv6 = ipv6.to_owned();
        self
    }

    /// TCP must start with a SYN.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.is_strict = true;
        self
    }

    /// Exempt packets of these services are counted.
    #[must_use]
    pub fn includes(mut self, services: &[Service]) -> Self {
        let bits = services.iter().map(|service| control::service(*service));
        self.services = bits.fold(0, |all, bit| all | bit);
        self
    }

    /// Room for so many connections only.
    #[must_use]
    pub fn room_for(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// What must be left in the end, in any order, and nothing else.
    #[must_use]
    pub fn leaves<const N: usize>(mut self, left: [Left; N]) -> Self {
        let mut left = left.to_vec();
        left.sort();
        self.left = Some(left);
        self
    }
}
