//! How far a flow log has come: what its files have, and what it goes on with.
//!
//! Pure. A batch of files is published in three steps: they are complete and on disk under
//! unfinished names; one write to the store says so, and which epochs they hold; they get their
//! names. Whoever stops in between goes on from the store, so each row is in one file, whatever was
//! done with the files in the meantime.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::flows::Interface;

/// What the store has of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// The first epoch of which nothing is in a file.
    pub(super) next_epoch: u32,
    /// Number of its next row, from 1 on.
    pub(super) next_sequence: u64,
    /// Complete files that may not have their names yet.
    pub(super) publishing: Vec<Publication>,
    /// By ENI id: packets that are in no row and of which none says so yet.
    pub(super) lost: BTreeMap<String, Lost>,
    /// Totals.
    pub(super) totals: Totals,
}

/// A complete file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Publication {
    /// Where it is.
    pub(super) unfinished: PathBuf,
    /// Where it is to be.
    pub(super) path: PathBuf,
    /// Its size.
    pub(super) bytes: u64,
}

/// Packets of an ENI that are in no row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lost {
    /// The ENI.
    pub(super) interface: Arc<Interface>,
    /// How many.
    pub(super) packets: u64,
}

/// What a log has written since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records, without `NODATA` and `SKIPDATA`.
    pub records: u64,
    /// Packets of which `SKIPDATA` rows tell.
    pub skipped_packets: u64,
    /// Epochs whose records are in no file: damaged or without room in the spool, or given up.
    pub lost_epochs: u64,
}

impl Progress {
    /// A log that starts with `epoch`.
    #[must_use]
    pub(super) fn starting(epoch: u32) -> Self {
        Self {
            next_epoch: epoch,
            next_sequence: 1,
            ..Self::default()
        }
    }

    /// Rows tell of so many lost packets by ENI id.
    pub(super) fn tell(&mut self, told: &[(String, u64)]) {
        for (id, packets) in told {
            let Some(lost) = self.lost.get_mut(id) else {
                continue;
            };
            lost.packets = lost.packets.saturating_sub(*packets);
            if lost.packets == 0 {
                self.lost.remove(id);
            }
        }
    }

    /// Notes packets of an ENI that are in no row.
    pub(super) fn lose(&mut self, interface: &Arc<Interface>, packets: u64) {
        let lost = self.lost.entry(interface.interface_id.clone());
        let lost = lost.or_insert_with(|| Lost {
            interface: Arc::clone(interface),
            packets: 0,
        });
        lost.packets += packets;
    }
}

impl Totals {
    /// Adds what one batch of files has.
    pub(super) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.records += other.records;
        self.skipped_packets += other.skipped_packets;
        self.lost_epochs += other.lost_epochs;
    }
}
