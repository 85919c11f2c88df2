//! §5: connections. What a connection is (§5.1), its states and how packets change them.
//!
//! It knows no rule: whether a packet may open a connection is decided elsewhere.

use std::{fmt, net::IpAddr};

use crate::{
    environment::Timers,
    judgement::RuleMatch,
    packet::{Direction, ICMP, ICMPV6, Ip, Tcp, Transport},
    sequence::Sequences,
};

/// §5.1: what tells connections apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The ENI. An entry belongs to one.
    pub eni: String,
    /// IANA protocol number.
    pub protocol: u8,
    /// The address on the ENI.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// What else there is.
    pub ends: Ends,
}

/// What tells connections between the same addresses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ends {
    /// TCP and UDP: the ports.
    Ports {
        /// On the ENI.
        local: u16,
        /// The peer's.
        remote: u16,
    },
    /// ICMP query. The direction of its requests is part of the key, as a request of the peer never
    /// matches an entry that our own request created (§5.5).
    Query {
        /// Type of the request.
        request: u8,
        /// Identifier.
        identifier: u16,
        /// Direction of the request.
        asked: Direction,
    },
    /// Other protocols: nothing.
    None,
}

/// §5.2 and §5.3: where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// TCP: the opener's SYN was seen.
    SynSent,
    /// TCP: the answer's SYN and ACK were seen.
    SynRecv,
    /// TCP: full handshake, or picked up and seen both ways.
    Established,
    /// TCP: one or both FINs were seen.
    Fin,
    /// TCP: both FINs are acknowledged.
    TimeWait,
    /// TCP: reset.
    Close,
    /// TCP: picked up mid-stream, one direction seen.
    Pickup,
    /// UDP, class `single`.
    Udp,
    /// UDP, class `stream`.
    UdpStream,
    /// ICMP query.
    Icmp,
    /// Any other protocol.
    Other,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::Fin => "FIN",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::Pickup => "PICKUP",
            Self::Udp => "UDP",
            Self::UdpStream => "UDP_STREAM",
            Self::Icmp => "ICMP",
            Self::Other => "OTHER",
        })
    }
}

/// A connection's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Where it is in its life.
    pub state: State,
    /// Direction of the packet that opened it.
    pub opener: Direction,
    /// The rule that allowed that packet.
    pub rule: RuleMatch,
    /// Second of the last packet.
    pub last_packet: u64,
    /// Seconds without a packet after which it is dead.
    pub timeout: u64,
    /// TCP: whether a FIN was seen towards the ENI.
    fin_ingress: bool,
    /// TCP: whether a FIN was seen from the ENI.
    fin_egress: bool,
    /// TCP: what lies in sequence.
    sequences: Sequences,
    /// UDP: direction of the last packet.
    last_direction: Direction,
    /// UDP: how often the direction has alternated.
    alternations: u32,
}

/// §5.5: the type of the request that an ICMP query belongs to, and whether it is the request itself;
/// `None` for types outside the pairs.
#[must_use]
pub const fn icmp_query(protocol: u8, icmp_type: u8) -> Option<(u8, bool)> {
    match (protocol, icmp_type) {
        (ICMP, 8) => Some((8, true)),
        (ICMP, 0) => Some((8, false)),
        (ICMP, 13) => Some((13, true)),
        (ICMP, 14) => Some((13, false)),
        (ICMP, 15) => Some((15, true)),
        (ICMP, 16) => Some((15, false)),
        (ICMP, 17) => Some((17, true)),
        (ICMP, 18) => Some((17, false)),
        (ICMPV6, 128) => Some((128, true)),
        (ICMPV6, 129) => Some((128, false)),
        (ICMPV6, 139) => Some((139, true)),
        (ICMPV6, 140) => Some((139, false)),
        _ => None,
    }
}

impl Key {
    /// The key of the connection that a packet belongs to or would open; `None` for one-way ICMP,
    /// which never has one (§5.5), and for a later fragment of a protocol with ports.
    #[must_use]
    pub fn of(eni: &str, direction: Direction, packet: &Ip) -> Option<Self> {
        let ends = match &packet.transport {
            Transport::Tcp(_) | Transport::Udp { .. } => {
                let (source, destination) = packet.ports()?;
                match direction {
                    Direction::Ingress => Ends::Ports {
                        local: destination,
                        remote: source,
                    },
                    Direction::Egress => Ends::Ports {
                        local: source,
                        remote: destination,
                    },
                }
            }
            Transport::Icmp(icmp) => {
                let (request, is_request) = icmp_query(packet.protocol, icmp.icmp_type)?;
                Ends::Query {
                    request,
                    identifier: icmp.identifier,
                    asked: if is_request {
                        direction
                    } else {
                        direction.opposite()
                    },
                }
            }
            Transport::Other => Ends::None,
        };
        Some(Self {
            eni: eni.to_owned(),
            protocol: packet.protocol,
            local: packet.local(direction),
            remote: packet.remote(direction),
            ends,
        })
    }
}

impl Connection {
    /// The connection that an allowed packet opens; `None` if it opens none: RST, one-way ICMP, and
    /// a reply to no known request.
    #[must_use]
    pub fn open(
        direction: Direction,
        packet: &Ip,
        rule: &RuleMatch,
        t: u64,
        timers: &Timers,
    ) -> Option<Self> {
        let state = match &packet.transport {
            Transport::Tcp(tcp) if tcp.is_bare_syn() => State::SynSent,
            Transport::Tcp(tcp) if tcp.rst => return None,
            Transport::Tcp(tcp) if tcp.fin => State::Fin,
            Transport::Tcp(_) => State::Pickup,
            Transport::Udp { .. } => State::Udp,
            Transport::Icmp(icmp) => match icmp_query(packet.protocol, icmp.icmp_type) {
                Some((_, true)) => State::Icmp,
                Some((_, false)) | None => return None,
            },
            Transport::Other => State::Other,
        };
        let is_fin = state == State::Fin;
        let mut opened = Self {
            state,
            opener: direction,
            rule: rule.clone(),
            last_packet: t,
            timeout: timers.of(state),
            fin_ingress: is_fin && direction == Direction::Ingress,
            fin_egress: is_fin && direction == Direction::Egress,
            sequences: Sequences::default(),
            last_direction: direction,
            alternations: 0,
        };
        if let Transport::Tcp(tcp) = &packet.transport {
            opened.sequences.learn(direction, tcp, false);
        }
        Some(opened)
    }

    /// §5.2: dead once nothing came for the timeout.
    #[must_use]
    pub fn is_live(&self, t: u64) -> bool {
        t.saturating_sub(self.last_packet) < self.timeout
    }

    /// §5.3: whether a packet that found this entry live passes because of it. In CLOSE nothing
    /// does, in TIME_WAIT all but a bare SYN.
    #[must_use]
    pub fn carries(&self, packet: &Ip) -> bool {
        match (self.state, packet.tcp()) {
            (State::Close, _) => false,
            (State::TimeWait, Some(tcp)) => !tcp.is_bare_syn(),
            _ => true,
        }
    }

    /// Lets a packet ride: refreshes the entry and moves it on.
    pub fn ride(&mut self, direction: Direction, packet: &Ip, t: u64, timers: &Timers) {
        self.last_packet = t;
        match &packet.transport {
            Transport::Tcp(tcp) => self.ride_tcp(direction, tcp),
            Transport::Udp { .. } => self.ride_udp(direction),
            Transport::Icmp(_) | Transport::Other => {}
        }
        self.timeout = timers.of(self.state);
    }

    /// A later fragment of a datagram that rode: it only refreshes.
    pub fn refresh(&mut self, t: u64) {
        self.last_packet = t;
    }

    /// §5.3, with the check of [`Sequences`]: a RST or FIN that does not count is as if its flag
    /// were not set, but the packet rides.
    fn ride_tcp(&mut self, direction: Direction, tcp: &Tcp) {
        let counts = self.sequences.counts(direction, tcp);
        let reopens = tcp.is_bare_syn() && self.state == State::SynSent && direction == self.opener;
        self.sequences.learn(direction, tcp, reopens);
        if tcp.rst {
            if counts {
                self.state = State::Close;
            }
            return;
        }
        if tcp.fin && counts {
            match direction {
                Direction::Ingress => self.fin_ingress = true,
                Direction::Egress => self.fin_egress = true,
            }
            self.state = State::Fin;
            return;
        }
        let is_reply = direction != self.opener;
        // [OWN] An ACK beside a SYN acknowledges no FIN.
        let is_plain_ack = tcp.ack && !tcp.syn;
        let both_fins = self.fin_ingress && self.fin_egress;
        let is_answered = self.state == State::SynSent && is_reply && tcp.syn && tcp.ack;
        let is_shaken = self.state == State::SynRecv && !is_reply && is_plain_ack;
        let is_both_ways = self.state == State::Pickup && is_reply;
        let is_over = self.state == State::Fin && both_fins && is_plain_ack;
        if is_answered {
            self.state = State::SynRecv;
        } else if is_shaken || is_both_ways {
            self.state = State::Established;
        } else if is_over {
            self.state = State::TimeWait;
        }
    }

    /// §5.4: `stream` once the direction has alternated three times: request, answer, request,
    /// answer.
    fn ride_udp(&mut self, direction: Direction) {
        if direction == self.last_direction {
            return;
        }
        self.last_direction = direction;
        self.alternations = self.alternations.saturating_add(1);
        if self.alternations >= 3 {
            self.state = State::UdpStream;
        }
    }
}
