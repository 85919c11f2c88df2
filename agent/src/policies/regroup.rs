//! An ENI that obeys a policy gets other groups.

use std::collections::BTreeSet;

use super::{Policies, PolicyError, Unsettled, cuts, group_set};
use crate::datapath::Datapath;
use crate::plug;
use crate::provider::Eni;
use crate::security_groups::Member;

impl Policies {
    /// Lets the ENI in `slot`, which obeys a policy already, obey that of the groups that `eni` has: whoever refers to
    /// groups first knows it as a member of the new ones and not of the old, then it is switched by one store.
    /// Connections stay, but those that groups which cut on revoke no longer allow.
    ///
    /// # Errors
    /// Each variant; it obeys what it did before then.
    pub fn regroup(
        &mut self,
        datapath: &mut Datapath,
        slot: u32,
        eni: &Eni,
    ) -> Result<Unsettled, PolicyError> {
        let new = group_set(&eni.groups);
        let mut active = self.active.iter();
        let before = active.find(|(_, active)| active.users.contains(&slot));
        let before =
            before.map(|(set, active)| (set.clone(), active.index, active.policy.entry.audits()));
        let member = |groups: &[String]| {
            let groups = groups.iter().cloned();
            Some(Member::new(groups, plug::networks(eni)))
        };
        let known = self.set_member(datapath, &eni.eni_id, member(&new))?;
        let joined = self.join(datapath, slot, &new);
        let slots = BTreeSet::from([slot]);
        let switched =
            joined.and_then(|index| Ok(datapath.switch_policy(&slots, index).map(|()| known)?));
        let known = match (switched, &before) {
            (Ok(known), _) => known,
            (Err(error), None) => return Err(error),
            // What cannot be taken back is said by its own error.
            (Err(error), Some((old, index, _))) => {
                self.join(datapath, slot, old)?;
                datapath.switch_policy(&slots, *index)?;
                // Left for the next change to settle: nothing that is given up here may be in use.
                drop(self.set_member(datapath, &eni.eni_id, member(old))?);
                return Err(error);
            }
        };
        let (mut revoking, mut audited) = (BTreeSet::new(), BTreeSet::new());
        if let Some((old, _, audits)) = before.filter(|(old, _, _)| *old != new) {
            if cuts(&old, &self.directory, self.cut_on_revoke) {
                revoking.insert(slot);
            }
            if audits {
                audited.insert(slot);
            }
        }
        let unused = self.drop_unused();
        Ok(known.and(unused).and(self.unsettled(revoking, audited)))
    }
}
