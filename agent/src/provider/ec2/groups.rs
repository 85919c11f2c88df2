//! Groups of this host's ENIs: set, and as a look finds them.
//!
//! A look may show an older state after a newer one, so what was set here a moment ago and is not seen yet is no change
//! that somebody made.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use branchline_ec2 as ec2;

use super::{Inner, Memory, failed};
use crate::field_error::FieldError;
use crate::progress::now_ms;
use crate::provider::{Eni, ProviderError};

/// Milliseconds for which a look may not show yet what was set.
const SETTLING_MS: u64 = 60_000;

/// Groups that were set here, by ENI, and when; until a look shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SetHere(HashMap<String, (BTreeSet<String>, u64)>);

impl SetHere {
    /// `eni_id` was given `groups` at `now_ms`.
    pub(super) fn set(&mut self, eni_id: &str, groups: &[String], now_ms: u64) {
        let groups = groups.iter().cloned().collect();
        self.0.insert(eni_id.to_owned(), (groups, now_ms));
    }

    /// Whether `groups`, which a look at `now_ms` found, is what `eni_id` has: once what was set here was seen, or long
    /// after.
    pub(super) fn is_news(&mut self, eni_id: &str, groups: &[String], now_ms: u64) -> bool {
        let Some((set, at_ms)) = self.0.get(eni_id) else {
            return true;
        };
        let is_seen = groups.iter().collect::<BTreeSet<_>>() == set.iter().collect();
        let is_over = at_ms.saturating_add(SETTLING_MS) <= now_ms;
        if is_seen || is_over {
            self.0.remove(eni_id);
        }
        is_seen || is_over
    }

    /// Forgets ENIs that are not there any more.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|eni_id, _| is_there(eni_id));
    }
}

impl Memory {
    /// EC2 took the groups that `eni` has.
    pub(super) fn gave_groups(&mut self, eni: &Eni) {
        self.needed.extend(eni.groups.iter().cloned());
        self.set_here.set(&eni.eni_id, &eni.groups, now_ms());
        self.groups.remove(&eni.eni_id);
    }
}

impl Inner {
    /// See [`Provider::set_groups`](crate::provider::Provider::set_groups).
    pub(super) async fn set_groups(&self, eni: &Eni) -> Result<(), ProviderError> {
        let set = self
            .settled(|| self.ec2.set_groups(&eni.eni_id, &eni.groups))
            .await;
        set.map_err(|error| {
            let attempt = format!("give {} its groups", eni.eni_id);
            wrong_groups(crate::api::GROUPS_FIELD, &error).unwrap_or_else(|| failed(attempt, error))
        })?;
        self.memory().gave_groups(eni);
        Ok(())
    }

    /// Remembers which groups a look found, where that is news.
    pub(super) fn note_groups(&self, made: &[ec2::NetworkInterface]) {
        let mut memory = self.memory();
        let mut found = BTreeMap::new();
        for interface in made {
            let (id, groups) = (&interface.id, &interface.groups);
            if memory.set_here.is_news(id, groups, now_ms()) {
                found.insert(id.clone(), groups.clone());
            }
        }
        let is_there = |id: &str| made.iter().any(|interface| interface.id == id);
        memory.set_here.keep(is_there);
        memory.groups = found;
    }
}

/// What EC2 says is wrong with groups that `field` lists, if it is that.
pub(super) fn wrong_groups(field: &str, error: &ec2::Error) -> Option<ProviderError> {
    let fix = match error.code.as_deref()? {
        "SecurityGroupsPerInterfaceLimitExceeded" => {
            "list fewer groups, or have the account's quota of security groups per network interface raised"
        }
        code if code.starts_with("InvalidGroup") || code.starts_with("InvalidSecurityGroupID") => {
            "list groups of the host's VPC (aws ec2 describe-security-groups)"
        }
        _ => return None,
    };
    let error = FieldError::new(field, error.to_string(), fix);
    Some(ProviderError::Invalid(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_was_set_here_is_waited_for_and_then_what_others_set_is_news() {
        let mut set = SetHere::default();
        assert!(set.is_news("eni-1", &ids(&["sg-old"]), 0));
        set.set("eni-1", &ids(&["sg-1", "sg-2"]), 1_000);
        assert!(!set.is_news("eni-1", &ids(&["sg-old"]), 1_001));
        assert!(set.is_news("eni-2", &ids(&["sg-old"]), 1_001));
        assert!(set.is_news("eni-1", &ids(&["sg-2", "sg-1"]), 2_000));
        // From then on a difference is somebody's change.
        assert!(set.is_news("eni-1", &ids(&["sg-old"]), 2_001));
    }

    #[test]
    fn what_is_never_seen_is_not_waited_for_for_ever() {
        let mut set = SetHere::default();
        set.set("eni-1", &ids(&["sg-1"]), 1_000);
        assert!(!set.is_news("eni-1", &ids(&["sg-2"]), 1_000 + SETTLING_MS - 1));
        assert!(set.is_news("eni-1", &ids(&["sg-2"]), 1_000 + SETTLING_MS));
        set.set("eni-1", &ids(&["sg-1"]), 1_000);
        set.keep(|id| id != "eni-1");
        assert_eq!(set, SetHere::default());
    }

    #[test]
    fn only_what_is_said_of_groups_is_the_groups_fault() {
        let error = |code: &str| ec2::Error {
            action: "ModifyNetworkInterfaceAttribute",
            code: Some(code.to_owned()),
            message: "so".to_owned(),
            request_id: None,
        };
        for (code, is_groups) in [
            ("InvalidGroup.NotFound", true),
            ("InvalidGroupId.Malformed", true),
            ("InvalidSecurityGroupID.NotFound", true),
            ("SecurityGroupsPerInterfaceLimitExceeded", true),
            ("UnauthorizedOperation", false),
            ("InvalidNetworkInterfaceID.NotFound", false),
        ] {
            let found = wrong_groups("securityGroups", &error(code));
            assert_eq!(found.is_some(), is_groups, "{code}");
        }
    }
}
