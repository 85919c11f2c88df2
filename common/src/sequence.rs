//! TCP sequence numbers: may this RST or FIN end the connection?
//!
//! A receiver that follows RFC 5961 section 3 heeds a RST only at exactly the number that it
//! expects. That number lies between what it has acknowledged and what was sent past this hook, so
//! these two are kept for each direction, and a RST or FIN outside them changes nothing: no window
//! scale has to be known or guessed. Pure; numbers compare by serial arithmetic (RFC 9293
//! section 3.4).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    conntrack::{State, Tracking, is_bare_syn},
    headers::tcp,
    parse::Packet,
    verdict::Direction,
};

/// Furthest that a segment may lie from the newest one to move a [`Window`]: what segments lost
/// before this hook can leave open. More than the largest receive buffer that Linux gives by
/// default (6 MiB, `tcp_rmem`).
const GAP: u32 = 1 << 23;

/// The sequence numbers that one direction may still use.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Window {
    /// The oldest that is not acknowledged.
    pub floor: u32,
    /// One more than the newest that was sent.
    pub end: u32,
}

/// Windows by [`Direction`].
pub type Windows = [Window; 2];

impl Window {
    #[inline(always)]
    const fn at(number: u32, end: u32) -> Self {
        Self { floor: number, end }
    }

    #[inline(always)]
    const fn holds(self, number: u32) -> bool {
        number.wrapping_sub(self.floor) <= self.end.wrapping_sub(self.floor)
    }
}

/// The bit of [`Tracking::known`] for a direction whose window is known.
#[must_use]
#[inline(always)]
pub const fn known(direction: Direction) -> u8 {
    1 << (direction as u8)
}

/// The windows of a direction and of the opposite one.
#[inline(always)]
const fn sides(windows: &Windows, direction: Direction) -> (Window, Window) {
    let [ingress, egress] = *windows;
    match direction {
        Direction::Ingress => (ingress, egress),
        Direction::Egress => (egress, ingress),
    }
}

/// The control bits of a segment that count: without RST and FIN if the receiver would not heed
/// them.
#[must_use]
#[inline(always)]
pub const fn flags(
    tracking: &Tracking,
    windows: &Windows,
    packet: &Packet,
    direction: Direction,
) -> u8 {
    const ENDS: u8 = tcp::RST | tcp::FIN;
    let flags = packet.tcp_flags;
    if flags & ENDS == 0 {
        return flags;
    }
    let (own, other) = sides(windows, direction);
    let counts = if tracking.known & known(direction) != 0 {
        own.holds(packet.tcp_sequence)
    } else {
        // The refusal of a SYN has no number of its own, but acknowledges the SYN's.
        flags & tcp::ACK != 0
            && tracking.known & known(direction.opposite()) != 0
            && other.holds(packet.tcp_acknowledgment)
    };
    if counts { flags } else { flags & !ENDS }
}

/// Moves the windows by what `packet` says, and notes in `tracking` what is known of them. Says
/// whether a window has changed.
#[inline(always)]
pub fn slide(
    tracking: &mut Tracking,
    windows: &mut Windows,
    packet: &Packet,
    direction: Direction,
) -> bool {
    let flags = packet.tcp_flags;
    if flags & tcp::RST != 0 {
        return false;
    }
    let [ingress, egress] = windows;
    let (own, other) = match direction {
        Direction::Ingress => (ingress, egress),
        Direction::Egress => (egress, ingress),
    };
    let sequence = packet.tcp_sequence;
    let end = sequence
        .wrapping_add(packet.length.wrapping_sub(packet.header_length))
        .wrapping_add((flags & tcp::SYN != 0) as u32)
        .wrapping_add((flags & tcp::FIN != 0) as u32);
    let is_retry = tracking.state == State::SynSent as u8
        && tracking.opener == direction as u8
        && is_bare_syn(flags);
    let mut has_changed = false;
    if tracking.known & known(direction) == 0 || is_retry {
        *own = Window::at(sequence, end);
        tracking.known |= known(direction);
        has_changed = true;
    } else if sequence.wrapping_sub(own.end).wrapping_add(GAP) <= 2 * GAP
        && (end.wrapping_sub(own.end) as i32) > 0
    {
        own.end = end;
        has_changed = true;
    }
    if flags & tcp::ACK != 0 {
        let number = packet.tcp_acknowledgment;
        if tracking.known & known(direction.opposite()) == 0 {
            *other = Window::at(number, number);
            tracking.known |= known(direction.opposite());
            has_changed = true;
        } else if other.holds(number) && other.floor != number {
            other.floor = number;
            has_changed = true;
        }
    }
    has_changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Egress, Ingress};
    use tcp::{ACK, FIN, RST, SYN};

    /// A connection of the two directions as it goes on.
    #[derive(Default)]
    struct Talk {
        tracking: Tracking,
        windows: Windows,
    }

    impl Talk {
        fn send(&mut self, direction: Direction, flags: u8, numbers: (u32, u32), data: u32) -> u8 {
            let packet = Packet {
                tcp_flags: flags,
                tcp_sequence: numbers.0,
                tcp_acknowledgment: numbers.1,
                length: 40 + data,
                header_length: 40,
                ..Packet::default()
            };
            let counted = super::flags(&self.tracking, &self.windows, &packet, direction);
            slide(&mut self.tracking, &mut self.windows, &packet, direction);
            counted
        }

        /// The task at 1,000 has opened, the peer at 5,000 answered, `sent` bytes went out.
        fn established(sent: u32) -> Self {
            let mut talk = Self::default();
            talk.tracking.opener = Egress as u8;
            talk.send(Egress, SYN, (1_000, 0), 0);
            talk.tracking.state = State::SynReceived as u8;
            talk.send(Ingress, SYN | ACK, (5_000, 1_001), 0);
            talk.send(Egress, ACK, (1_001, 5_001), sent);
            talk
        }
    }

    #[test]
    fn a_reset_counts_only_between_what_is_acknowledged_and_what_was_sent() {
        let rows = [
            (Egress, 1_001, true),
            (Egress, 1_050, true),
            (Egress, 1_101, true),
            (Egress, 1_000, false),
            (Egress, 1_102, false),
            (Ingress, 5_001, true),
            (Ingress, 5_000, false),
            (Ingress, 5_002, false),
            (Ingress, 0, false),
        ];
        for (direction, number, counts) in rows {
            for flag in [RST, FIN | ACK] {
                let flags = Talk::established(100).send(direction, flag, (number, 5_001), 0);
                assert_eq!(
                    flags & flag & (RST | FIN) != 0,
                    counts,
                    "{direction:?} {number}"
                );
            }
        }
    }

    #[test]
    fn an_acknowledgment_moves_the_floor_and_a_wild_one_does_not() {
        let mut talk = Talk::established(100);
        talk.send(Ingress, ACK, (5_001, 1_101), 0);
        assert_eq!(talk.send(Egress, RST, (1_100, 0), 0), 0);
        assert_eq!(talk.send(Egress, RST, (1_101, 0), 0), RST);
        talk.send(Ingress, ACK, (5_001, 1_102), 0);
        assert_eq!(talk.send(Egress, RST, (1_102, 0), 0), 0, "not sent yet");
    }

    #[test]
    fn segments_lost_before_the_hook_move_the_end_and_wild_ones_do_not() {
        let mut talk = Talk::established(0);
        talk.send(Ingress, ACK, (5_001 + GAP, 1_001), 100);
        assert_eq!(talk.send(Ingress, RST, (5_101 + GAP, 0), 0), RST);
        let mut talk = Talk::established(0);
        talk.send(Ingress, ACK, (5_002 + GAP, 1_001), 100);
        assert_eq!(talk.send(Ingress, RST, (5_101, 0), 0), 0);
    }

    #[test]
    fn a_syn_is_refused_by_its_acknowledgment_only() {
        for (flags, number, counts) in [
            (RST | ACK, 1_001, true),
            (RST | ACK, 999, false),
            (RST | ACK, 1_002, false),
            (RST, 1_001, false),
        ] {
            let mut talk = Talk::default();
            talk.tracking.opener = Egress as u8;
            talk.send(Egress, SYN, (1_000, 0), 0);
            let counted = talk.send(Ingress, flags, (0, number), 0);
            assert_eq!(counted & RST != 0, counts, "{number}");
        }
    }

    #[test]
    fn a_second_syn_before_any_answer_starts_anew() {
        let mut talk = Talk::default();
        talk.tracking.opener = Egress as u8;
        talk.send(Egress, SYN, (1_000, 0), 0);
        talk.send(Egress, SYN, (77_000_000, 0), 0);
        assert_eq!(talk.send(Ingress, RST | ACK, (0, 77_000_001), 0) & RST, RST);
    }

    #[test]
    fn numbers_wrap() {
        let mut talk = Talk::default();
        talk.send(Egress, ACK, (u32::MAX - 10, 7), 100);
        assert_eq!(talk.send(Egress, RST, (89, 0), 0), RST);
        assert_eq!(talk.send(Egress, RST, (90, 0), 0), 0);
        assert_eq!(talk.send(Ingress, RST, (7, 0), 0), RST);
        assert_eq!(talk.send(Ingress, RST, (8, 0), 0), 0);
    }
}
