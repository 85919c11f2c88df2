//! Whose flows a slot's are: the ENI behind each slot of the data plane.
//!
//! Whoever gives a slot to an ENI says so here first, and takes it back by
//! [`Exporter::retire`](super::Exporter::retire). Never looks at a map.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An ENI as flow records name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// As `eni-0123456789abcdef0`; never given to another ENI.
    pub eni_id: String,
    /// The task whose ENI it is, as the host names it; `None` if it is nobody's.
    pub task_id: Option<String>,
    /// Primary private IPv4 address, if it has one.
    pub primary_ipv4: Option<Ipv4Addr>,
    /// Unix second since when the ENI exists.
    pub since: u64,
}

/// The ENIs by slot; clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Identities(Arc<Mutex<BTreeMap<u32, Identity>>>);

impl Identities {
    /// Says whose flows `slot` counts from now on. To be called before the ENI's link goes up, and
    /// at a start for every task in the store, before the exporter starts.
    pub fn insert(&self, slot: u32, identity: Identity) {
        self.lock().insert(slot, identity);
    }

    /// The ENI of `slot`.
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<Identity> {
        self.lock().get(&slot).cloned()
    }

    pub(super) fn remove(&self, slot: u32) {
        self.lock().remove(&slot);
    }

    pub(crate) fn snapshot(&self) -> BTreeMap<u32, Identity> {
        self.lock().clone()
    }

    /// Every change is one step, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Identity>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
