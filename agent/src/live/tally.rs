//! What one direction of a flow has counted since it was first seen.
//!
//! Pure. The kernel keeps two epochs and empties a slot for a third, so a sum of both slots may
//! drop: each slot is compared with itself, by its epoch.

use branchline_common::account::{Account, FlagsSeen, Slot};

/// Packets on the wire and their bytes from the IP header on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Count {
    pub(super) fn add(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }

    /// What is in it beyond `other`; a read beside a slot that is being emptied may show less.
    fn beyond(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(other.packets),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    fn at_least(self, other: Self) -> Self {
        Self {
            packets: self.packets.max(other.packets),
            bytes: self.bytes.max(other.bytes),
        }
    }
}

/// A slot as it was read last.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    count: Count,
    epoch: u32,
    flags: FlagsSeen,
}

/// The counts of one direction over all walks that saw it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    slots: [Seen; 2],
    /// Since the flow was first seen.
    pub(super) total: Count,
    /// Since the walk before.
    pub(super) fresh: Count,
    /// TCP: an opening SYN came since the flow was first seen.
    pub(super) is_opened: bool,
    /// TCP: a FIN came.
    pub(super) is_closed: bool,
    /// TCP: a RST came.
    pub(super) is_reset: bool,
}

impl Tally {
    /// Takes in what `account` shows. False if packets may have been counted that no walk has seen:
    /// those of an epoch that was current at the walk before, `open_epoch`, or later, and whose
    /// slot belongs to another epoch by now.
    pub(super) fn take(&mut self, account: &Account, open_epoch: u32) -> bool {
        let mut is_whole = true;
        for (seen, slot) in self.slots.iter_mut().zip(&account.slots) {
            let count = count(slot);
            // A slot keeps a flag for its epoch: what is new in it came since.
            let (flags, old) = match slot.epoch == seen.epoch {
                true => (slot.flags, seen.flags),
                false => (slot.flags, FlagsSeen::default()),
            };
            self.is_opened |= flags.syn > old.syn && flags.syn_ack == 0;
            self.is_closed |= flags.fin > old.fin;
            self.is_reset |= flags.rst > old.rst;
            seen.flags = flags;
            if slot.epoch == seen.epoch {
                self.fresh.add(count.beyond(seen.count));
                seen.count = count.at_least(seen.count);
            } else {
                is_whole &= slot.epoch < open_epoch.saturating_add(2);
                self.fresh.add(count);
                (seen.count, seen.epoch) = (count, slot.epoch);
            }
        }
        is_whole
    }

    /// Whether `account` is another entry's than the one seen before, which was removed meanwhile:
    /// epochs never go back in one entry.
    pub(super) fn is_replaced(&self, account: &Account) -> bool {
        let slots = self.slots.iter().zip(&account.slots);
        slots
            .into_iter()
            .any(|(seen, slot)| slot.epoch < seen.epoch)
    }

    /// Forgets the entry, not what it counted: the next one begins with empty slots.
    pub(super) fn forget_entry(&mut self) {
        self.slots = Default::default();
    }

    /// Counts from 0 from now on, in the same entry.
    pub(super) fn restart(&mut self) {
        self.total = Count::default();
        (self.is_opened, self.is_closed, self.is_reset) = (false, false, false);
    }

    /// Ends the walk's share: what is fresh becomes part of the total.
    pub(super) fn settle(&mut self) {
        let fresh = std::mem::take(&mut self.fresh);
        self.total.add(fresh);
    }

    /// Total and what is fresh.
    pub(super) fn sum(&self) -> Count {
        let mut sum = self.total;
        sum.add(self.fresh);
        sum
    }
}

fn count(slot: &Slot) -> Count {
    Count {
        packets: slot.packets,
        bytes: slot.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(even: (u64, u32), odd: (u64, u32)) -> Account {
        let slot = |(packets, epoch)| Slot {
            packets,
            bytes: packets * 100,
            ..Slot::opened(epoch, 0)
        };
        Account {
            slots: [slot(even), slot(odd)],
        }
    }

    #[test]
    fn what_is_fresh_is_exact_over_every_change_of_epochs() {
        let before = account((5, 8), (7, 9));
        // Epoch 9 is current: (name, next read, fresh packets, nothing missed)
        let rows = [
            ("nothing", account((5, 8), (7, 9)), 0, true),
            ("more in the same epoch", account((5, 8), (9, 9)), 2, true),
            (
                "the next epoch empties the other slot",
                account((3, 10), (7, 9)),
                3,
                true,
            ),
            (
                "late packets of the epoch before",
                account((3, 10), (8, 9)),
                4,
                true,
            ),
            (
                "two epochs on, a slot with unseen packets is gone",
                account((3, 10), (4, 11)),
                7,
                false,
            ),
            (
                "read as the slot is emptied",
                account((0, 8), (7, 9)),
                0,
                true,
            ),
        ];
        for (name, after, packets, is_whole) in rows {
            let mut tally = Tally::default();
            tally.take(&before, 9);
            tally.settle();
            assert_eq!(tally.total.packets, 12);
            assert_eq!(tally.take(&after, 9), is_whole, "{name}");
            let fresh = Count {
                packets,
                bytes: packets * 100,
            };
            assert_eq!(tally.fresh, fresh, "{name}");
            assert_eq!(tally.sum().packets, 12 + packets, "{name}");
        }
    }

    #[test]
    fn an_entry_that_takes_anothers_place_begins_anew() {
        let mut tally = Tally::default();
        tally.take(&account((5, 8), (7, 9)), 9);
        let next = account((1, 10), (0, 0));
        assert!(!tally.is_replaced(&account((1, 10), (7, 9))));
        assert!(tally.is_replaced(&next));
        tally.settle();
        tally.forget_entry();
        tally.take(&next, 10);
        assert_eq!((tally.total.packets, tally.fresh.packets), (12, 1));
    }
}
