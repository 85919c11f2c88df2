//! Which of this host's ENIs have lost their task, beyond doubt. Pure: what was described, what is live and the time
//! are what the caller says.
//!
//! An ENI is freed in the second look that finds it without a task, some time after the first; one that this agent
//! itself made only when it is so old that its task cannot be on its way any more.

use std::collections::{BTreeMap, HashSet};

use branchline_ec2::NetworkInterface;

use super::owner::Owner;

/// Milliseconds between the look that suspects an ENI and the one that frees it.
pub(super) const SECOND_LOOK_MS: u64 = 60_000;
/// The same for an ENI of this very agent: longer than any set-up may take (`spec` of ECS: 180 s).
pub(super) const OWN_SECOND_LOOK_MS: u64 = 600_000;

/// ENIs without a task, and since when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Suspects(BTreeMap<String, u64>);

/// What one look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sifted {
    /// For the next look.
    pub(super) suspects: Suspects,
    /// To be freed now.
    pub(super) orphans: Vec<NetworkInterface>,
}

/// Sifts the ENIs that EC2 described as `instance_id`'s. `live` are the attachments that the agent knew before EC2 was
/// asked and still knows; `generation` is this agent's.
#[must_use]
pub(super) fn sift(
    before: &Suspects,
    described: &[NetworkInterface],
    live: &HashSet<String>,
    (instance_id, generation): (&str, &str),
    now_ms: u64,
) -> Sifted {
    let mut sifted = Sifted::default();
    for interface in described {
        let Some(owner) = Owner::of(&interface.tags) else {
            continue;
        };
        let Some(attachment_id) = owner.purpose.attachment_id() else {
            continue;
        };
        if owner.instance_id != instance_id || live.contains(attachment_id) {
            continue;
        }
        let since = before.0.get(&interface.id).copied().unwrap_or(now_ms);
        let patience = if owner.generation == generation {
            OWN_SECOND_LOOK_MS
        } else {
            SECOND_LOOK_MS
        };
        if now_ms.saturating_sub(since) >= patience {
            sifted.orphans.push(interface.clone());
        }
        // Also one that is to be freed now: it may take more than one look.
        sifted.suspects.0.insert(interface.id.clone(), since);
    }
    sifted
}

#[cfg(test)]
mod tests {
    use super::super::owner::Purpose;
    use super::super::owner::tests::{branch, whole};
    use super::*;

    const ME: (&str, &str) = ("i-1", "2");

    fn interface(id: &str, owner: &Owner) -> NetworkInterface {
        NetworkInterface {
            id: id.to_owned(),
            tags: owner.tags(),
            ..NetworkInterface::default()
        }
    }

    fn ids(sifted: &Sifted) -> Vec<&str> {
        sifted.orphans.iter().map(|one| one.id.as_str()).collect()
    }

    #[test]
    fn an_orphan_is_freed_in_the_second_look_and_no_sooner() {
        let described = [
            interface("eni-old", &branch("a", "1")),
            interface("eni-whole", &whole("b", "0/1")),
        ];
        let live = HashSet::new();
        let first = sift(&Suspects::default(), &described, &live, ME, 1_000);
        assert_eq!(ids(&first), [""; 0]);
        let early = sift(
            &first.suspects,
            &described,
            &live,
            ME,
            1_000 + SECOND_LOOK_MS - 1,
        );
        assert_eq!(ids(&early), [""; 0]);
        let second = sift(
            &early.suspects,
            &described,
            &live,
            ME,
            1_000 + SECOND_LOOK_MS,
        );
        assert_eq!(ids(&second), ["eni-old", "eni-whole"]);
        // It is still there: the next look frees it again.
        let third = sift(
            &second.suspects,
            &described,
            &live,
            ME,
            2_000 + SECOND_LOOK_MS,
        );
        assert_eq!(ids(&third), ["eni-old", "eni-whole"]);
    }

    #[test]
    fn what_this_agent_made_may_still_get_its_task() {
        let described = [interface("eni-own", &branch("a", "2"))];
        let first = sift(&Suspects::default(), &described, &HashSet::new(), ME, 0);
        let soon = sift(
            &first.suspects,
            &described,
            &HashSet::new(),
            ME,
            SECOND_LOOK_MS,
        );
        assert_eq!(ids(&soon), [""; 0]);
        let live = HashSet::from(["a".to_owned()]);
        let found = sift(&soon.suspects, &described, &live, ME, OWN_SECOND_LOOK_MS);
        assert_eq!(found, Sifted::default());
        // It lost its task later: the doubt begins anew.
        let again = sift(
            &found.suspects,
            &described,
            &HashSet::new(),
            ME,
            OWN_SECOND_LOOK_MS,
        );
        assert_eq!(ids(&again), [""; 0]);
    }

    #[test]
    fn nobody_elses_eni_is_ever_suspected() {
        let of_another = Owner {
            instance_id: "i-2".to_owned(),
            ..branch("a", "1")
        };
        let trunk = Owner {
            purpose: Purpose::Trunk,
            ..branch("a", "1")
        };
        let mut untagged = interface("eni-foreign", &branch("a", "1"));
        untagged.tags.clear();
        let described = [
            interface("eni-2", &of_another),
            interface("eni-trunk", &trunk),
            untagged,
        ];
        let sifted = sift(&Suspects::default(), &described, &HashSet::new(), ME, 0);
        assert_eq!(sifted, Sifted::default());
    }
}
