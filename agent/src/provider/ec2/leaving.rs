//! ENIs that are off the trunk and rest until they are deleted. Pure.

use std::collections::{BTreeSet, HashMap};

use crate::provider::VlanId;

/// ENIs by id, each with the VLAN id that it had: nobody gets it while the ENI is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Leaving(HashMap<String, Option<VlanId>>);

impl Leaving {
    /// `eni_id` rests from now on.
    pub(super) fn insert(&mut self, eni_id: &str, vlan: Option<VlanId>) {
        self.0.insert(eni_id.to_owned(), vlan);
    }

    /// `eni_id` is deleted, or given up.
    pub(super) fn remove(&mut self, eni_id: &str) {
        self.0.remove(eni_id);
    }

    /// Whether `eni_id` rests.
    #[must_use]
    pub(super) fn has(&self, eni_id: &str) -> bool {
        self.0.contains_key(eni_id)
    }

    /// The VLAN ids that they had.
    #[must_use]
    pub(super) fn vlans(&self) -> BTreeSet<VlanId> {
        self.0.values().flatten().copied().collect()
    }
}
