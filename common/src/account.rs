//! Packets and bytes of a flow, per direction and aggregation interval.
//!
//! The agent numbers the intervals: the *epoch* in [`Control`](crate::maps::Control). An account
//! has two slots, for even and for odd epochs. A packet counts in the slot of the current epoch;
//! the agent reads the other one, which nobody writes any more, so a record is exact without
//! stopping traffic. The first packet of an epoch empties its slot. If the agent is away the epoch
//! stands still, the slot goes on counting and nothing is lost.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    headers::{protocol, tcp},
    parse::{Fragment, Packet},
};

/// Whether packets are counted: always, but in the object by which the bench measures what it costs.
pub const IS_COUNTED: bool = cfg!(not(feature = "unaccounted"));

/// What one frame adds to an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets on the wire: more than one for a GSO packet.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
    /// See [`FlagsSeen`].
    pub flags: FlagsSeen,
}

/// The TCP flags that flow logs report, one byte each, 0 or 1, so that several CPUs may set them
/// without a lock. ACK is reported with SYN only (`spec/flow-logs.md` section 5).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FlagsSeen {
    /// A FIN was seen.
    pub fin: u8,
    /// A SYN was seen.
    pub syn: u8,
    /// A RST was seen.
    pub rst: u8,
    /// A SYN with ACK was seen.
    pub syn_ack: u8,
}

impl FlagsSeen {
    /// What the control bits of one segment report.
    #[must_use]
    #[inline(always)]
    pub fn of(tcp_flags: u8) -> Self {
        // By shifts: of a comparison a verifier would follow both outcomes.
        let bit = |flag: u8| tcp_flags >> flag.trailing_zeros() & 1;
        Self {
            fin: bit(tcp::FIN),
            syn: bit(tcp::SYN),
            rst: bit(tcp::RST),
            syn_ack: bit(tcp::SYN) & bit(tcp::ACK),
        }
    }

    /// The value of the flow-log field `tcp-flags`.
    #[must_use]
    pub fn bits(self) -> u8 {
        let bit = |seen: u8, bit: u8| if seen == 0 { 0 } else { bit };
        bit(self.fin, tcp::FIN)
            | bit(self.syn, tcp::SYN)
            | bit(self.rst, tcp::RST)
            | bit(self.syn_ack, tcp::ACK)
    }
}

/// Segments of a packet that the kernel carries as one (GSO), 0 for an ordinary packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    /// `gso_segs`; 0 where the sender did not fill it in.
    pub count: u32,
    /// `gso_size`: payload bytes of each segment but the last.
    pub size: u32,
}

impl Traffic {
    /// What `packet` adds: for a GSO packet, the packets and bytes that the wire carries.
    #[must_use]
    #[inline(always)]
    pub fn of(packet: &Packet, segments: Segments) -> Self {
        let flags = if packet.protocol == protocol::TCP && packet.fragment != Fragment::Later {
            FlagsSeen::of(packet.tcp_flags)
        } else {
            FlagsSeen::default()
        };
        let mut traffic = Self {
            packets: 1,
            bytes: u64::from(packet.length),
            flags,
        };
        if segments.size != 0 {
            traffic.packets = wire_segments(packet, segments);
            traffic.bytes += (traffic.packets - 1) * u64::from(packet.header_length);
        }
        traffic
    }
}

#[inline(always)]
fn wire_segments(packet: &Packet, segments: Segments) -> u64 {
    if segments.count > 0 {
        return u64::from(segments.count);
    }
    let payload = u64::from(packet.length.saturating_sub(packet.header_length));
    payload.div_ceil(u64::from(segments.size)).max(1)
}

/// One direction of one flow in one epoch; 32 bytes.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Slot {
    /// Packets on the wire.
    pub packets: u64,
    /// Bytes on the wire from the IP header on.
    pub bytes: u64,
    /// Ticks (see [`Control`](crate::maps::Control)) of the first packet.
    pub first: u32,
    /// Ticks of the last packet.
    pub last: u32,
    /// Epoch that the slot belongs to; 0 if it was never used.
    pub epoch: u32,
    /// TCP flags seen.
    pub flags: FlagsSeen,
}

impl Slot {
    /// An empty slot of `epoch` whose first packet comes `now`.
    #[must_use]
    #[inline(always)]
    pub const fn opened(epoch: u32, now: u32) -> Self {
        Self {
            packets: 0,
            bytes: 0,
            first: now,
            last: now,
            epoch,
            flags: FlagsSeen {
                fin: 0,
                syn: 0,
                rst: 0,
                syn_ack: 0,
            },
        }
    }

    /// Counts `traffic`, for memory that no other CPU can see.
    #[inline(always)]
    pub const fn add(&mut self, traffic: &Traffic, now: u32) {
        self.packets += traffic.packets;
        self.bytes += traffic.bytes;
        self.last = now;
        self.flags.fin |= traffic.flags.fin;
        self.flags.syn |= traffic.flags.syn;
        self.flags.rst |= traffic.flags.rst;
        self.flags.syn_ack |= traffic.flags.syn_ack;
    }
}

/// One direction of one flow: the slots of the even and of the odd epochs.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Account {
    /// Indexed by [`slot_index`].
    pub slots: [Slot; 2],
}

/// Index of the slot that `epoch` counts in.
#[must_use]
#[inline(always)]
pub const fn slot_index(epoch: u32) -> usize {
    (epoch & 1) as usize
}

impl Account {
    /// Counts `traffic` in the slot of `epoch`, for memory that no other CPU can see.
    #[inline(always)]
    pub fn add(&mut self, traffic: &Traffic, epoch: u32, now: u32) {
        let [even, odd] = &mut self.slots;
        let slot = if slot_index(epoch) == 0 { even } else { odd };
        if slot.epoch != epoch {
            *slot = Slot::opened(epoch, now);
        }
        slot.add(traffic, now);
    }

    /// Whether all that was counted belongs to `epoch` or an earlier one.
    #[must_use]
    #[inline(always)]
    pub const fn is_written(&self, epoch: u32) -> bool {
        let [even, odd] = &self.slots;
        even.epoch <= epoch && odd.epoch <= epoch
    }

    /// What was counted in `epoch`; `None` if nothing was, or a later epoch has taken the slot.
    #[must_use]
    pub fn of_epoch(&self, epoch: u32) -> Option<&Slot> {
        self.slots
            .iter()
            .find(|slot| slot.epoch == epoch && slot.packets > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_packet(length: u32) -> Packet {
        Packet {
            protocol: protocol::TCP,
            length,
            header_length: 52,
            ..Packet::default()
        }
    }

    #[test]
    fn a_gso_packet_counts_as_what_the_wire_carries() {
        // Three segments of 1,000 payload bytes, one of 500.
        let packet = tcp_packet(52 + 3_500);
        for count in [0, 4] {
            let traffic = Traffic::of(&packet, Segments { count, size: 1_000 });
            assert_eq!((traffic.packets, traffic.bytes), (4, 3_500 + 4 * 52));
        }
        let whole = Traffic::of(&packet, Segments::default());
        assert_eq!((whole.packets, whole.bytes), (1, 3_552));
    }

    #[test]
    fn only_flags_that_flow_logs_know_are_reported() {
        let cases: [(u8, u8); 7] = [
            (tcp::SYN, 2),
            (tcp::SYN | tcp::ACK, 18),
            (tcp::ACK, 0),
            (tcp::ACK | 0x08, 0),
            (tcp::FIN | tcp::ACK, 1),
            (tcp::RST | tcp::ACK, 4),
            (tcp::SYN | 0x40, 2),
        ];
        for (flags, expected) in cases {
            assert_eq!(FlagsSeen::of(flags).bits(), expected, "{flags:#04x}");
        }
    }

    #[test]
    fn an_epoch_starts_empty_and_the_one_before_stays_readable() {
        let mut account = Account::default();
        let one = Traffic {
            packets: 1,
            bytes: 100,
            flags: FlagsSeen::of(tcp::SYN),
        };
        account.add(&one, 7, 10);
        account.add(&one, 7, 20);
        account.add(&one, 8, 30);
        let seven = account.of_epoch(7).expect("epoch 7 was counted");
        assert_eq!(
            (seven.packets, seven.bytes, seven.first, seven.last),
            (2, 200, 10, 20)
        );
        let eight = account.of_epoch(8).expect("epoch 8 was counted");
        assert_eq!((eight.packets, eight.first, eight.last), (1, 30, 30));
        account.add(&one, 9, 40);
        assert_eq!(account.of_epoch(7), None);
        let nine = account.of_epoch(9).expect("epoch 9 was counted");
        assert_eq!((nine.packets, nine.flags.bits()), (1, 2));
    }
}
