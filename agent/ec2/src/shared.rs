//! Which questions share calls.

use crate::error::Error;
use crate::gather::{Gather, Same};
use crate::model::{NetworkInterface, SecurityGroup, SecurityGroupRule, TrunkAssociation};

/// Filters, each a name and its values.
pub(crate) type Filters = Vec<(String, Vec<String>)>;

/// Questions that may be asked by many at the same time.
#[derive(Debug)]
pub(crate) struct Shared {
    /// ENIs by id: one call for many of them.
    pub(crate) interfaces_by_id: Gather<String, NetworkInterface, Error>,
    /// ENIs by filters.
    pub(crate) interfaces: Same<Filters, Vec<NetworkInterface>, Error>,
    /// Associations of trunks.
    pub(crate) associations: Same<(), Vec<TrunkAssociation>, Error>,
    /// Groups by VPC.
    pub(crate) groups: Same<String, Vec<SecurityGroup>, Error>,
    /// Rules by groups.
    pub(crate) rules: Same<Vec<String>, Vec<SecurityGroupRule>, Error>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            interfaces_by_id: Gather::new(),
            interfaces: Same::new(),
            associations: Same::new(),
            groups: Same::new(),
            rules: Same::new(),
        }
    }
}
