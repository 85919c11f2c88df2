//! The connection table: (entry, packet, now) to entry.
//!
//! States and timers of `spec/security-groups.md` section 5, as pure functions. Expiry is decided
//! here, at lookup; whoever removes entries only gives memory back.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    account::Account,
    flow::{icmp_query, is_icmp},
    headers::{protocol, tcp},
    parse::Packet,
    sequence::Windows,
    verdict::Direction,
};

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// TCP: the opener's SYN was seen.
    SynSent = 0,
    /// TCP: the answer's SYN and ACK were seen.
    SynReceived = 1,
    /// TCP: the handshake is complete, or a flow picked up in the middle was seen both ways.
    Established = 2,
    /// TCP: at least one side has sent FIN.
    Fin = 3,
    /// TCP: both FINs are acknowledged.
    TimeWait = 4,
    /// TCP: reset. Any protocol: ended, as its rule was revoked.
    Close = 5,
    /// TCP: picked up in the middle, one direction seen.
    Pickup = 6,
    /// UDP: one way, or a single request and answer.
    Udp = 7,
    /// UDP: more than one exchange.
    UdpStream = 8,
    /// ICMP query.
    Icmp = 9,
    /// Any other protocol.
    Other = 10,
}

impl State {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::Fin,
        Self::TimeWait,
        Self::Close,
        Self::Pickup,
        Self::Udp,
        Self::UdpStream,
        Self::Icmp,
        Self::Other,
    ];

    /// Seconds without a packet after which an entry of this state is dead, where the ENI sets
    /// nothing else.
    #[must_use]
    pub const fn idle_seconds(self) -> u32 {
        match self {
            Self::SynSent | Self::Fin | Self::TimeWait => 120,
            Self::SynReceived => 60,
            Self::Established => 432_000,
            Self::Close => 10,
            Self::Pickup => 300,
            Self::Udp | Self::Icmp => 30,
            Self::UdpStream => 180,
            Self::Other => 600,
        }
    }
}

/// In [`Tracking::state`], instead of a [`State`]: the sweeper has decided to remove the entry.
pub const SWEPT: u8 = 0xff;

/// Seconds that the sweeper leaves an entry alone after it has died. A packet that found it alive
/// is long through by then, so no packet is counted in an entry that is gone.
pub const SWEEP_GRACE_SECONDS: u32 = 2;

/// Seconds for which a connection that was ended stays closed: until then no packet in its middle
/// opens it anew from the other side.
pub const ENDED_SECONDS: u32 = 300;

/// Ticks without a packet after which an entry is dead, indexed by [`State`]; 16 long, so that
/// the index needs a mask only.
pub type Timeouts = [u32; 16];

/// The default timers at `ticks_per_second`.
#[must_use]
pub fn default_timeouts(ticks_per_second: u32) -> Timeouts {
    let mut timeouts = [0; 16];
    for state in State::ALL {
        timeouts[state as usize] = state.idle_seconds() * ticks_per_second;
    }
    timeouts
}

/// The timer of a state.
#[inline(always)]
pub(crate) fn timeout(timeouts: &Timeouts, state: u8) -> u32 {
    timeouts[usize::from(state & 15)]
}

/// Turns of direction after which a UDP flow is a stream: request, answer, request, answer.
const STREAM_TURNS: u8 = 3;

/// What is known of a connection besides its traffic; 20 bytes.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Tracking {
    /// Ticks of the last packet.
    pub last_seen: u32,
    /// Ticks without a packet after which the entry is dead.
    pub timeout: u32,
    /// A [`State`].
    pub state: u8,
    /// [`Direction`] of the packet that opened it.
    pub opener: u8,
    /// TCP: directions that have sent FIN, as bits `1 << direction`.
    pub fins: u8,
    /// UDP: how often the direction has changed, at most [`STREAM_TURNS`].
    pub turns: u8,
    /// UDP: [`Direction`] of the last packet.
    pub last_direction: u8,
    /// TCP: directions whose window is known, as bits of [`known`](crate::sequence::known).
    pub known: u8,
    /// Number of the rule that allowed it, in the policy of that time; or
    /// [`AUDITED`](crate::policy::AUDITED).
    pub rule: u16,
    /// [`generation`](crate::policy::Policy::generation) of that policy.
    pub generation: u32,
}
const _: () = assert!(size_of::<Tracking>() == 20);

/// The lock of a map entry. The kernel knows it by this name.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct bpf_spin_lock {
    val: u32,
}

/// An entry of the connection table: state and both directions' traffic, so that one lookup per
/// packet serves security groups and flow records; 168 bytes.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Connection {
    /// Held by the kernel program where it changes more than a counter.
    pub lock: bpf_spin_lock,
    /// State.
    pub tracking: Tracking,
    /// TCP: sequence numbers, indexed by [`Direction`]. Written without the lock: what one
    /// packet in a race leaves out the next one brings.
    pub windows: Windows,
    /// Traffic, indexed by [`Direction`].
    pub accounts: [Account; 2],
}
const _: () = assert!(size_of::<Connection>() == 168);

impl Tracking {
    /// A connection whose first packet comes `now`.
    #[must_use]
    #[inline(always)]
    pub fn opened(state: State, direction: Direction, now: u32, timeouts: &Timeouts) -> Self {
        let mut tracking = Self {
            last_seen: now,
            timeout: timeout(timeouts, state as u8),
            ..Self::default()
        };
        tracking.begin(state, direction);
        tracking
    }

    /// Ticks since the last packet. Ticks wrap; an entry is removed long before half a turn. Below 0
    /// if another CPU has seen a packet since `now` was read.
    #[inline(always)]
    const fn idle(&self, now: u32) -> i32 {
        now.wrapping_sub(self.last_seen) as i32
    }

    /// Starts a connection in `state`, field by field, but for its times and its rule.
    #[inline(always)]
    pub(crate) fn begin(&mut self, state: State, direction: Direction) {
        self.state = state as u8;
        self.opener = direction as u8;
        self.fins = if matches!(state, State::Fin) {
            fin_bit(direction)
        } else {
            0
        };
        self.turns = 0;
        self.last_direction = direction as u8;
        self.known = 0;
    }

    /// Whether a packet may still ride this entry.
    #[must_use]
    #[inline(always)]
    pub const fn is_live(&self, now: u32) -> bool {
        self.idle(now) < self.timeout as i32
    }

    /// What [`advance`] changes besides the timeout, in two words, so that it is compared and stored
    /// at once.
    #[must_use]
    #[inline(always)]
    pub const fn words(&self) -> [u32; 2] {
        let [_, _, low, high, _]: [u32; 5] = zerocopy::transmute!(*self);
        [low, high]
    }

    /// Whether the sweeper may remove the entry, `grace` ticks after its death.
    #[must_use]
    #[inline(always)]
    pub const fn is_sweepable(&self, now: u32, grace: u32) -> bool {
        self.idle(now) >= (self.timeout + grace) as i32
    }
}

#[inline(always)]
const fn fin_bit(direction: Direction) -> u8 {
    1 << (direction as u8)
}

/// A SYN without ACK, FIN or RST: it asks for a new connection.
#[inline(always)]
pub(crate) const fn is_bare_syn(tcp_flags: u8) -> bool {
    tcp_flags & (tcp::SYN | tcp::ACK | tcp::FIN | tcp::RST) == tcp::SYN
}

/// What the rules' consent to a packet without a live entry leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// An entry in this state.
    Track(State),
    /// The packet passes and leaves no entry.
    Pass,
    /// The packet does not pass after all.
    Refuse,
}

/// How a packet that the rules allow opens a connection. `strict` refuses TCP that does not start
/// with a bare SYN.
#[must_use]
#[inline(always)]
pub const fn open(packet: &Packet, strict: bool) -> Opening {
    match packet.protocol {
        protocol::TCP if is_bare_syn(packet.tcp_flags) => Opening::Track(State::SynSent),
        protocol::TCP if strict => Opening::Refuse,
        protocol::TCP if packet.tcp_flags & tcp::RST != 0 => Opening::Pass,
        protocol::TCP if packet.tcp_flags & tcp::FIN != 0 => Opening::Track(State::Fin),
        protocol::TCP => Opening::Track(State::Pickup),
        protocol::UDP => Opening::Track(State::Udp),
        protocol::ICMP | protocol::ICMPV6 => match icmp_query(packet.protocol, packet.icmp_type) {
            Some((_, true)) => Opening::Track(State::Icmp),
            Some((_, false)) | None => Opening::Pass,
        },
        _ => Opening::Track(State::Other),
    }
}

/// Whether a packet that found a live entry rides it. If not, the rules decide as for a new flow.
#[must_use]
#[inline(always)]
pub const fn rides(tracking: &Tracking, packet: &Packet, direction: Direction) -> bool {
    const TIME_WAIT: u8 = State::TimeWait as u8;
    const CLOSE: u8 = State::Close as u8;
    match packet.protocol {
        _ if tracking.state == CLOSE => false,
        protocol::TCP => tracking.state != TIME_WAIT || !is_bare_syn(packet.tcp_flags),
        // A key holds the request's direction, so only the pair of both can meet here.
        _ if is_icmp(packet.protocol) => match icmp_query(packet.protocol, packet.icmp_type) {
            Some((_, is_request)) => is_request == (direction as u8 == tracking.opener),
            None => false,
        },
        _ => true,
    }
}

/// Whether a packet that the rules allow takes the place of the live entry that it found and did
/// not ride: only a new SYN does, anything else leaves a closed connection's entry alone.
#[must_use]
#[inline(always)]
pub const fn replaces(packet: &Packet) -> bool {
    packet.protocol == protocol::TCP && is_bare_syn(packet.tcp_flags)
}

/// The entry after a packet that rides it; says whether more changes than the time of the last
/// packet, which is all that nearly all packets of a connection do. `tcp_flags` are those that count
/// ([`flags`](crate::sequence::flags)). The caller sets the timeout of the new state.
#[inline(always)]
pub fn advance(tracking: &mut Tracking, protocol: u8, tcp_flags: u8, direction: Direction) -> bool {
    let before = tracking.words();
    match protocol {
        protocol::TCP => {
            if tcp_flags & tcp::FIN != 0 {
                tracking.fins |= fin_bit(direction);
            }
            tracking.state = tcp_state(tracking, tcp_flags, direction);
        }
        protocol::UDP if tracking.last_direction != direction as u8 => {
            tracking.last_direction = direction as u8;
            if tracking.turns < STREAM_TURNS {
                tracking.turns += 1;
            }
            if tracking.turns == STREAM_TURNS {
                tracking.state = State::UdpStream as u8;
            }
        }
        _ => {}
    }
    tracking.words() != before
}

/// The state after a segment. `tracking.fins` already has the segment's FIN.
#[inline(always)]
const fn tcp_state(tracking: &Tracking, flags: u8, direction: Direction) -> u8 {
    const SYN_SENT: u8 = State::SynSent as u8;
    const SYN_RECEIVED: u8 = State::SynReceived as u8;
    const FIN: u8 = State::Fin as u8;
    const PICKUP: u8 = State::Pickup as u8;
    const BOTH: u8 = fin_bit(Direction::Ingress) | fin_bit(Direction::Egress);
    if flags & tcp::RST != 0 {
        return State::Close as u8;
    }
    if flags & tcp::FIN != 0 {
        return FIN;
    }
    let is_opener = tracking.opener == direction as u8;
    let syn_ack = flags & (tcp::SYN | tcp::ACK) == tcp::SYN | tcp::ACK;
    let plain_ack = flags & (tcp::SYN | tcp::ACK) == tcp::ACK;
    match tracking.state {
        SYN_SENT if !is_opener && syn_ack => SYN_RECEIVED,
        SYN_RECEIVED if is_opener && plain_ack => State::Established as u8,
        PICKUP if !is_opener => State::Established as u8,
        FIN if tracking.fins == BOTH && plain_ack => State::TimeWait as u8,
        state => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Egress, Ingress};

    const A: u8 = tcp::ACK;
    const F: u8 = tcp::FIN;
    const R: u8 = tcp::RST;
    const S: u8 = tcp::SYN;

    fn timeouts() -> Timeouts {
        default_timeouts(1)
    }

    fn segment(tcp_flags: u8) -> Packet {
        Packet {
            protocol: protocol::TCP,
            tcp_flags,
            ..Packet::default()
        }
    }

    /// The states that a TCP connection opened by the task goes through.
    fn walk(segments: &[(Direction, u8)]) -> Vec<u8> {
        let mut states = Vec::new();
        let mut entry: Option<Tracking> = None;
        for (direction, flags) in segments {
            let packet = segment(*flags);
            entry = Some(match entry {
                Some(mut entry) => {
                    advance(&mut entry, protocol::TCP, *flags, *direction);
                    entry
                }
                None => match open(&packet, false) {
                    Opening::Track(state) => Tracking::opened(state, *direction, 0, &timeouts()),
                    Opening::Pass | Opening::Refuse => panic!("{flags:#04x} opens nothing"),
                },
            });
            states.push(entry.map_or(u8::MAX, |entry| entry.state));
        }
        states
    }

    extern crate std;
    use std::vec::Vec;

    #[test]
    fn tcp_connections_go_through_the_states_of_the_specification() {
        use State::{Close, Established, Fin, Pickup, SynReceived, SynSent, TimeWait};
        type Row<'a> = (&'a str, &'a [(Direction, u8)], &'a [State]);
        let rows: [Row<'_>; 8] = [
            (
                "handshake",
                &[(Egress, S), (Ingress, S | A), (Egress, A)],
                &[SynSent, SynReceived, Established],
            ),
            (
                "SYN+ACK of the opener does not count",
                &[(Egress, S), (Egress, S | A)],
                &[SynSent, SynSent],
            ),
            (
                "ACK of the answerer does not complete",
                &[(Egress, S), (Ingress, S | A), (Ingress, A)],
                &[SynSent, SynReceived, SynReceived],
            ),
            (
                "both close",
                &[
                    (Egress, A),
                    (Ingress, A),
                    (Egress, F | A),
                    (Ingress, A),
                    (Ingress, F | A),
                    (Egress, A),
                ],
                &[Pickup, Established, Fin, Fin, Fin, TimeWait],
            ),
            (
                "one closes",
                &[(Egress, A), (Ingress, A), (Ingress, F | A), (Egress, A)],
                &[Pickup, Established, Fin, Fin],
            ),
            ("reset", &[(Egress, S), (Ingress, R | A)], &[SynSent, Close]),
            (
                "FIN first",
                &[(Egress, F | A), (Ingress, F | A), (Egress, A)],
                &[Fin, Fin, TimeWait],
            ),
            (
                "one-sided pick-up",
                &[(Egress, A), (Egress, A)],
                &[Pickup, Pickup],
            ),
        ];
        for (name, segments, expected) in rows {
            let expected: Vec<u8> = expected.iter().map(|state| *state as u8).collect();
            assert_eq!(walk(segments), expected, "{name}");
        }
    }

    #[test]
    fn a_packet_that_changes_nothing_needs_no_lock() {
        let entry = Tracking::opened(State::Established, Egress, 5, &timeouts());
        for (direction, flags) in [(Ingress, A), (Egress, A | 0x08)] {
            let mut next = entry;
            assert!(!advance(&mut next, protocol::TCP, flags, direction));
            assert_eq!(next, entry);
        }
    }

    #[test]
    fn udp_becomes_a_stream_at_the_third_turn() {
        let mut entry = Tracking::opened(State::Udp, Egress, 0, &timeouts());
        for (direction, state) in [
            (Egress, State::Udp),
            (Ingress, State::Udp),
            (Ingress, State::Udp),
            (Egress, State::Udp),
            (Ingress, State::UdpStream),
            (Egress, State::UdpStream),
        ] {
            advance(&mut entry, protocol::UDP, 0, direction);
            entry.timeout = timeout(&timeouts(), entry.state);
            assert_eq!(entry.state, state as u8);
            assert_eq!(entry.timeout, state.idle_seconds());
        }
    }

    #[test]
    fn an_entry_is_dead_from_its_timeout_on_also_across_the_wrap() {
        let mut entry = Tracking::opened(State::Udp, Egress, u32::MAX - 9, &timeouts());
        assert!(entry.is_live(u32::MAX));
        assert!(entry.is_live(19));
        assert!(!entry.is_live(20));
        entry.last_seen = 100;
        assert!(entry.is_live(129) && !entry.is_live(130));
    }

    #[test]
    fn a_packet_that_another_cpu_saw_a_tick_later_is_no_death() {
        for now in [0, 1, 100, u32::MAX] {
            let later = now.wrapping_add(1);
            let entry = Tracking::opened(State::Udp, Egress, later, &timeouts());
            assert!(entry.is_live(now) && !entry.is_sweepable(now, 0), "{now}");
        }
    }

    #[test]
    fn a_closed_connection_is_judged_by_the_rules() {
        let close = Tracking::opened(State::Close, Egress, 0, &timeouts());
        assert!(!rides(&close, &segment(A), Egress) && !replaces(&segment(A)));
        assert!(!rides(&close, &segment(S), Egress) && replaces(&segment(S)));
        let time_wait = Tracking::opened(State::TimeWait, Egress, 0, &timeouts());
        assert!(rides(&time_wait, &segment(A), Egress));
        assert!(!rides(&time_wait, &segment(S), Egress));
    }

    #[test]
    fn only_requests_open_icmp_and_strict_wants_a_syn() {
        let icmp = |protocol, icmp_type| Packet {
            protocol,
            icmp_type,
            ..Packet::default()
        };
        assert_eq!(
            open(&icmp(protocol::ICMP, 8), false),
            Opening::Track(State::Icmp)
        );
        assert_eq!(open(&icmp(protocol::ICMP, 0), false), Opening::Pass);
        assert_eq!(
            open(&icmp(protocol::ICMPV6, 128), false),
            Opening::Track(State::Icmp)
        );
        assert_eq!(open(&icmp(protocol::ICMPV6, 2), false), Opening::Pass);
        assert_eq!(open(&segment(A), true), Opening::Refuse);
        assert_eq!(open(&segment(S), true), Opening::Track(State::SynSent));
        assert_eq!(open(&segment(R), false), Opening::Pass);
    }
}
