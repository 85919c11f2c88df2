//! What of the flow counts lasts: the ledger, the counts of ENIs that are gone, the spool.
//!
//! The trait exists so that the recorder's order of steps can be tested with a stop at each of them.

use std::sync::Arc;

use super::FlowLogError;
use super::ledger::Ledger;
use super::outline::Outline;
use super::record::Report;
use super::spool::{Epoch, Spool};
use crate::policy::Forgotten;
use crate::state::{RuleStore, Store};

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
    /// Puts an epoch into the spool, replacing it.
    fn spool(&self, epoch: &Epoch) -> Result<(), FlowLogError>;
    /// Replaces the ledger, keeps the outline of its written epoch, and forgets the reports kept up
    /// to it, in one step.
    fn settle(&self, ledger: &Ledger, outline: &Outline) -> Result<(), FlowLogError>;
    /// Forgets rules that no entry is of any more.
    fn forget_rules(&self, forgotten: &Forgotten) -> Result<(), FlowLogError>;
}

/// The agent's store and spool.
pub(super) struct OnDisk {
    pub(super) store: Arc<Store>,
    pub(super) rules: Arc<RuleStore>,
    pub(super) spool: Spool,
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

    fn spool(&self, epoch: &Epoch) -> Result<(), FlowLogError> {
        Ok(self.spool.put(epoch)?)
    }

    fn settle(&self, ledger: &Ledger, outline: &Outline) -> Result<(), FlowLogError> {
        let outline = outline.to_bytes();
        Ok(self
            .store
            .settle_flows(LEDGER, ledger, ledger.written_epoch, &outline)?)
    }

    fn forget_rules(&self, forgotten: &Forgotten) -> Result<(), FlowLogError> {
        if forgotten.is_nothing() {
            return Ok(());
        }
        let Forgotten { generations, rules } = forgotten;
        Ok(self.rules.forget_rule_pages(generations, rules)?)
    }
}
