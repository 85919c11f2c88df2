//! An epoch without its flows: whose packets and how many, which is enough to say what is lost of it.
//!
//! Pure. Kept in the store beside the spool's file, for an epoch whose file is damaged or never was.

use std::collections::BTreeMap;
use std::sync::Arc;

use branchline_common::verdict::Service;
use serde::{Deserialize, Serialize};

use super::interface::Interface;
use super::ledger::Window;
use super::record::Action;
use super::spool::Epoch;

/// What an epoch counted, in one number for all that flow logs may want or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// Its seconds.
    pub window: Window,
    /// What each ENI counted; each ENI once.
    pub sums: Vec<Sum>,
}

/// What an epoch counted of one ENI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// The ENI.
    pub interface: Arc<Interface>,
    /// Packets of its records, by what a log chooses records by; each choice once.
    pub packets: Vec<(Choice, u64)>,
    /// Packets that were in no record.
    pub skipped_packets: u64,
    /// Whether the ENI existed from the epoch's start to its end.
    pub is_whole: bool,
}

/// What a log chooses records by, of those of an ENI that it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Choice {
    /// Whether the packets passed.
    pub action: Action,
    /// The service of the VPC that they passed unfiltered for.
    pub service: Option<Service>,
}

impl Outline {
    /// Of a whole epoch.
    #[must_use]
    pub fn of(epoch: &Epoch) -> Self {
        let sums = epoch.reports.iter().map(|report| {
            let mut packets: BTreeMap<Choice, u64> = BTreeMap::new();
            for (tuple, counts) in &report.flows {
                let (action, service) = (tuple.action, tuple.service);
                *packets.entry(Choice { action, service }).or_default() += counts.packets;
            }
            Sum {
                interface: Arc::clone(&report.interface),
                packets: packets.into_iter().collect(),
                skipped_packets: report.skipped_packets,
                is_whole: report.is_whole,
            }
        });
        Self {
            window: epoch.window,
            sums: sums.collect(),
        }
    }

    /// As the store has it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Fails for types without a length only, of which there are none.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// What [`Outline::to_bytes`] has made; `None` of anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

#[cfg(test)]
#[path = "outline_tests.rs"]
mod tests;
