//! Whether a RST or FIN lies where its sender would send it.
//!
//! §5.3 of the specification says that TCP is followed without sequence checks. The project asks for
//! one more: a RST or FIN whose sequence number lies outside what the connection can hold must not
//! close it. The idea is RFC 5961's (section 3): a RST that the receiver would take lies between
//! what the receiver has acknowledged and what was sent past us. `[OWN]`
//!
//! All comparisons are serial (RFC 1982): numbers wrap at 2^32.

use crate::packet::{Direction, Tcp};

/// How far from the end of what was seen a sequence number may lie and still move it: 8 MiB.
const REACH: i32 = 1 << 23;

/// What was seen of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    /// The oldest sequence number that is not acknowledged.
    floor: u32,
    /// The highest sequence number plus length.
    end: u32,
}

/// What was seen of both directions; at first nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequences {
    ingress: Option<Sent>,
    egress: Option<Sent>,
}

impl Sequences {
    /// Whether a RST or FIN of this segment counts: its sequence number lies between `floor` and
    /// `end` of its direction. If nothing is known of its direction, its acknowledgment must lie
    /// between `floor` and `end` of the other one.
    #[must_use]
    pub fn counts(&self, direction: Direction, tcp: &Tcp) -> bool {
        match (self.sent(direction), self.sent(direction.opposite())) {
            (Some(own), _) => own.contains(tcp.sequence),
            (None, Some(other)) => tcp.ack && other.contains(tcp.acknowledgment),
            (None, None) => false,
        }
    }

    /// What is known after this segment. `reopens` if it is the opener's bare SYN in SYN_SENT, which
    /// starts anew. A RST teaches nothing.
    pub fn learn(&mut self, direction: Direction, tcp: &Tcp, reopens: bool) {
        if tcp.rst {
            return;
        }
        let start = tcp.sequence;
        let end = start.wrapping_add(tcp.length());
        match self.sent_mut(direction) {
            Some(sent) if !reopens => {
                let distance = difference(start, sent.end);
                if (-REACH..=REACH).contains(&distance) && difference(end, sent.end) > 0 {
                    sent.end = end;
                }
            }
            own => *own = Some(Sent { floor: start, end }),
        }
        if !tcp.ack {
            return;
        }
        let acknowledged = tcp.acknowledgment;
        match self.sent_mut(direction.opposite()) {
            Some(sent) => {
                if difference(acknowledged, sent.floor) > 0
                    && difference(acknowledged, sent.end) <= 0
                {
                    sent.floor = acknowledged;
                }
            }
            other => {
                *other = Some(Sent {
                    floor: acknowledged,
                    end: acknowledged,
                });
            }
        }
    }

    const fn sent(&self, direction: Direction) -> Option<Sent> {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }

    const fn sent_mut(&mut self, direction: Direction) -> &mut Option<Sent> {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }
}

impl Sent {
    const fn contains(self, number: u32) -> bool {
        difference(number, self.floor) >= 0 && difference(number, self.end) <= 0
    }
}

/// How far `number` is behind `other`, negative if it is before it.
const fn difference(number: u32, other: u32) -> i32 {
    number.wrapping_sub(other).cast_signed()
}
