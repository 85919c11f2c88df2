//! What the specification takes as given: ENIs, the VPC around them, timers (§5.2) and limits (§5.6).

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::connection::State;

/// A network interface with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eni {
    /// Its private addresses: primary, secondary, IPv6.
    pub addresses: Vec<IpAddr>,
    /// Prefixes delegated to it.
    pub prefixes: Vec<IpNet>,
    /// The IPv6 link-local address that its MAC address gives. Neighbour discovery and DHCPv6 use
    /// it; a reference to a group does not mean it.
    pub link_local: Option<Ipv6Addr>,
    /// Its groups. One that does not exist has no rules.
    pub groups: Vec<String>,
    /// EC2's `SourceDestCheck`.
    pub source_dest_check: bool,
    /// Whether instance metadata is out of its reach.
    pub block_imds: bool,
    /// Idle timeouts of its own, instead of the environment's.
    pub timers: Option<Timers>,
}

impl Default for Eni {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            prefixes: Vec::new(),
            link_local: None,
            groups: Vec::new(),
            source_dest_check: true,
            block_imds: false,
            timers: None,
        }
    }
}

impl Eni {
    /// Whether the address is one of its own: an address or of a delegated prefix.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
            || self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }

    /// [`owns`](Self::owns), or its link-local address.
    #[must_use]
    pub fn owns_on_link(&self, address: IpAddr) -> bool {
        self.owns(address) || self.link_local.map(IpAddr::V6) == Some(address)
    }
}

/// All around the ENIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// §2: the VPC's resolvers besides the link-local ones: base+2 of each CIDR.
    pub resolvers: Vec<IpAddr>,
    /// §2: addresses of the subnet's router.
    pub routers: Vec<IpAddr>,
    /// §4: peers whose flows are always tracked.
    pub auto_track: Vec<IpNet>,
    /// §5.2.
    pub timers: Timers,
    /// §5.3: refuse tracked TCP flows that do not start with a SYN.
    pub tcp_strict: bool,
    /// §5.6: connections on the host.
    pub conntrack_limit: usize,
    /// §5.6: connections of one ENI, if there is such a limit.
    pub conntrack_limit_per_eni: Option<usize>,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            resolvers: Vec::new(),
            routers: Vec::new(),
            auto_track: Vec::new(),
            timers: Timers::default(),
            tcp_strict: false,
            conntrack_limit: 262_144,
            conntrack_limit_per_eni: None,
        }
    }
}

/// §5.2: seconds without a packet after which an entry is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// `TcpEstablishedTimeout`.
    pub tcp_established: u64,
    /// `UdpTimeout`: one direction, or a single request and answer.
    pub udp: u64,
    /// `UdpStreamTimeout`: more than one exchange.
    pub udp_stream: u64,
    /// Other protocols.
    pub other: u64,
    /// ICMP queries.
    pub icmp: u64,
    /// TCP: SYN seen.
    pub syn_sent: u64,
    /// TCP: SYN and ACK seen.
    pub syn_recv: u64,
    /// TCP: one or both FINs seen.
    pub fin: u64,
    /// TCP: both FINs acknowledged.
    pub time_wait: u64,
    /// TCP: after RST.
    pub close: u64,
    /// TCP: picked up mid-stream, one direction seen.
    pub pickup: u64,
    /// The verdict on a first fragment.
    pub fragment: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            tcp_established: 432_000,
            udp: 30,
            udp_stream: 180,
            other: 600,
            icmp: 30,
            syn_sent: 120,
            syn_recv: 60,
            fin: 120,
            time_wait: 120,
            close: 10,
            pickup: 300,
            fragment: 30,
        }
    }
}

impl Timers {
    /// The timeout of a state.
    #[must_use]
    pub const fn of(&self, state: State) -> u64 {
        match state {
            State::SynSent => self.syn_sent,
            State::SynRecv => self.syn_recv,
            State::Established => self.tcp_established,
            State::Fin => self.fin,
            State::TimeWait => self.time_wait,
            State::Close => self.close,
            State::Pickup => self.pickup,
            State::Udp => self.udp,
            State::UdpStream => self.udp_stream,
            State::Icmp => self.icmp,
            State::Other => self.other,
        }
    }
}
