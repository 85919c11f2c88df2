//! What the rules say of a packet that rides no connection: which rule allows it, and whether its
//! flow needs a connection at all.
//!
//! One question, one answer in a word: in the kernel it is a function of its own, which the
//! verifier walks once, whatever way a packet came. It knows nothing of connections.

use crate::{
    flow::{Address, NO_ADDRESS, is_ipv4},
    headers::protocol,
    policy::{AUDITED, Policies, Policy, scope},
    verdict::Direction,
};

/// What is asked; 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Question {
    /// The other end.
    pub peer: Address,
    /// What rules compare with their ports: of the packet that would open the flow, its
    /// destination port or ICMP type and code.
    pub port: u16,
    /// The packet's source port: where a flow of the opposite direction, which this packet answers,
    /// would have gone to.
    pub answered_port: u16,
    /// IANA number.
    pub protocol: u8,
    /// Of the packet: a [`Direction`].
    pub direction: u8,
    /// Bits of [`ask`].
    pub ask: u8,
    #[doc(hidden)]
    pub _pad: u8,
}

impl Default for Question {
    fn default() -> Self {
        Self {
            peer: NO_ADDRESS,
            port: 0,
            answered_port: 0,
            protocol: 0,
            direction: 0,
            ask: 0,
            _pad: 0,
        }
    }
}

/// Bits of [`Question::ask`].
pub mod ask {
    /// The packet may answer one of the opposite direction; a bare SYN does not.
    pub const ANSWERS: u8 = 1;
    /// The ports are not known: only rules that admit every port count.
    pub const PORTLESS: u8 = 2;
    /// Only whether the flow is untracked, in either direction.
    pub const IS_UNTRACKED: u8 = 4;
    /// There are peers whose flows are always tracked.
    pub const AUTO_TRACK: u8 = 8;
}

/// Answer: the rules allow the packet, and its flow needs no connection
/// (`spec/security-groups.md` section 4). Any other answer up to 0xffff is the number of the rule
/// that allows it, [`AUDITED`] among them.
pub const UNTRACKED: u32 = 0x1_0000;
/// Answer: no rule allows the packet.
pub const DENIED: u32 = 0x1_0001;

/// Answers `question` by `policy`.
#[inline(always)]
pub fn answer(tables: &impl Policies, policy: &Policy, question: &Question) -> u32 {
    let direction = Direction::from_byte(question.direction);
    let is_ipv4 = is_ipv4(&question.peer);
    let own = scope(direction, is_ipv4);
    let asks = |bit| question.ask & bit != 0;
    let protocol = question.protocol;
    let mut rule = DENIED;
    if !asks(ask::IS_UNTRACKED) {
        let port = (!asks(ask::PORTLESS)).then_some(question.port);
        if let Some(number) = policy.rule(tables, own, &question.peer, protocol, port) {
            rule = u32::from(number);
        }
    }
    if matches!(protocol, protocol::TCP | protocol::UDP) && !asks(ask::PORTLESS) {
        let opposite = scope(direction.opposite(), is_ipv4);
        let is_free = (rule != DENIED
            && policy.is_open(own, rule as u16)
            && policy.admits_all(opposite, protocol))
            || (asks(ask::IS_UNTRACKED)
                && policy.admits_all(opposite, protocol)
                && policy.opens(tables, own, protocol, question.port))
            || (asks(ask::ANSWERS)
                && policy.admits_all(own, protocol)
                && policy.opens(tables, opposite, protocol, question.answered_port));
        if is_free && !(asks(ask::AUTO_TRACK) && tables.is_auto_tracked(&question.peer)) {
            return UNTRACKED;
        }
    }
    if rule == DENIED && policy.audits() && !asks(ask::IS_UNTRACKED) {
        return u32::from(AUDITED);
    }
    rule
}
