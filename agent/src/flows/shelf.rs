//! What of the flow log lasts: the ledger, the counts of ENIs that are gone, the files.
//!
//! The trait exists so that the recorder's order of steps can be tested with a stop at each of them.

use std::path::PathBuf;
use std::sync::Arc;

use super::FlowLogError;
use super::file::{FlowLogDir, name};
use super::ledger::{Closing, Ledger};
use super::record::{Line, Report};
use crate::state::Store;

/// Name of the ledger among the store's facts.
const LEDGER: &str = "flow_log";

/// Durable memory; each call is done or not done, and done when it returns.
pub(super) trait Shelf: Send + Sync + 'static {
    /// The ledger, if there ever was one.
    fn ledger(&self) -> Result<Option<Ledger>, FlowLogError>;
    /// Replaces the ledger.
    fn put_ledger(&self, ledger: &Ledger) -> Result<(), FlowLogError>;
    /// Keeps reports of an ENI by epoch; those that are there stay.
    fn retire(&self, eni_id: &str, reports: &[(u32, Report)]) -> Result<(), FlowLogError>;
    /// The reports kept for an epoch.
    fn retired(&self, epoch: u32) -> Result<Vec<Report>, FlowLogError>;
    /// Writes the file of an epoch, replacing one of the same name; returns its path.
    fn write_file(&self, closing: &Closing, lines: &[Line<'_>]) -> Result<PathBuf, FlowLogError>;
    /// Replaces the ledger and forgets the reports kept up to its written epoch, in one step.
    fn settle(&self, ledger: &Ledger) -> Result<(), FlowLogError>;
}

/// The agent's store and the configured folder.
pub(super) struct OnDisk {
    pub(super) store: Arc<Store>,
    pub(super) dir: FlowLogDir,
    pub(super) account_id: String,
}

impl Shelf for OnDisk {
    fn ledger(&self) -> Result<Option<Ledger>, FlowLogError> {
        Ok(self.store.fact(LEDGER)?)
    }

    fn put_ledger(&self, ledger: &Ledger) -> Result<(), FlowLogError> {
        Ok(self.store.put_fact(LEDGER, ledger)?)
    }

    fn retire(&self, eni_id: &str, reports: &[(u32, Report)]) -> Result<(), FlowLogError> {
        Ok(self.store.retire_flows(eni_id, reports)?)
    }

    fn retired(&self, epoch: u32) -> Result<Vec<Report>, FlowLogError> {
        Ok(self.store.retired_flows(epoch)?)
    }

    fn write_file(&self, closing: &Closing, lines: &[Line<'_>]) -> Result<PathBuf, FlowLogError> {
        let name = name(&self.account_id, closing.window.end, closing.epoch);
        Ok(self.dir.write(&name, lines)?)
    }

    fn settle(&self, ledger: &Ledger) -> Result<(), FlowLogError> {
        Ok(self
            .store
            .settle_flows(LEDGER, ledger, ledger.written_epoch)?)
    }
}
