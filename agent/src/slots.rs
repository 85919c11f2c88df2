//! Which ENI has which slot of the data plane. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use branchline_common::maps::ENI_SLOTS;

/// Taken slots, and those that are free again.
#[derive(Debug)]
pub struct Slots {
    enis: BTreeMap<u32, String>,
    by_eni: HashMap<String, u32>,
    /// Free ones below `next`, which was never taken, nor any above.
    free: BTreeSet<u32>,
    next: u32,
}

impl Default for Slots {
    /// All free. Slot 0 is nobody's.
    fn default() -> Self {
        Self {
            enis: BTreeMap::new(),
            by_eni: HashMap::new(),
            free: BTreeSet::new(),
            next: 1,
        }
    }
}

impl Slots {
    /// The slot of an ENI.
    #[must_use]
    pub fn of(&self, eni_id: &str) -> Option<u32> {
        self.by_eni.get(eni_id).copied()
    }

    /// Every taken slot and its ENI.
    #[must_use]
    pub fn all(&self) -> &BTreeMap<u32, String> {
        &self.enis
    }

    /// The slot of an ENI, the lowest that is free if it has none; `None` if all are taken.
    pub fn take(&mut self, eni_id: &str) -> Option<u32> {
        if let Some(slot) = self.of(eni_id) {
            return Some(slot);
        }
        let next = Some(self.next).filter(|next| *next < ENI_SLOTS);
        let slot = self.free.first().copied().or(next)?;
        self.insert(slot, eni_id);
        Some(slot)
    }

    /// An ENI has this slot; one without a name is somebody's of whom nothing is known.
    pub fn insert(&mut self, slot: u32, eni_id: &str) {
        self.free.extend(self.next..slot);
        self.next = self.next.max(slot + 1);
        self.free.remove(&slot);
        self.enis.insert(slot, eni_id.to_owned());
        if !eni_id.is_empty() {
            self.by_eni.insert(eni_id.to_owned(), slot);
        }
    }

    /// Nobody has this slot any more.
    pub fn free(&mut self, slot: u32) {
        if let Some(eni_id) = self.enis.remove(&slot) {
            self.by_eni.remove(&eni_id);
            self.free.insert(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_is_taken() {
        let mut slots = Slots::default();
        slots.insert(3, "eni-c");
        slots.insert(5, "");
        let taken = ["eni-a", "eni-c", "eni-b", "eni-d", "eni-f"].map(|eni| slots.take(eni));
        assert_eq!(taken, [1, 3, 2, 4, 6].map(Some));
        slots.free(5);
        slots.free(2);
        assert_eq!(slots.of("eni-b"), None);
        assert_eq!(
            ["eni-g", "eni-h"].map(|eni| slots.take(eni)),
            [2, 5].map(Some)
        );
        assert_eq!(slots.all().len(), 6);
        slots.free(9);
        assert_eq!(slots.take("eni-i"), Some(7));
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let mut slots = Slots::default();
        for number in 1..ENI_SLOTS {
            assert_eq!(slots.take(&number.to_string()), Some(number));
        }
        assert_eq!(slots.take("one more"), None);
        slots.free(1);
        assert_eq!(slots.take("one more"), Some(1));
    }
}
