//! Whose an ENI is, in its tags: what an agent leaves in EC2 for the one after it. Pure.

use branchline_ec2::Tags;

use crate::provider::{Device, VlanId};

/// Tag: the operator's name for hosts that belong together; IAM policies may ask for it.
pub(super) const CLUSTER: &str = "branchline-cluster";
/// Tag: the instance whose agent made the ENI.
pub(super) const INSTANCE: &str = "branchline-instance";
/// Tag: the start of the agent that made it.
pub(super) const GENERATION: &str = "branchline-generation";
/// Tag: the attachment it was made for; a trunk has none.
pub(super) const ATTACHMENT: &str = "branchline-attachment";
/// Tag: the VLAN id it was made for.
pub(super) const VLAN: &str = "branchline-vlan";
/// Tag: the trunk it was made for.
pub(super) const TRUNK: &str = "branchline-trunk";
/// Tag: the device it was made for, as `0/1` for network card 0 and device index 1.
pub(super) const DEVICE: &str = "branchline-device";
/// Tag: the store of tasks for which it waits on the trunk, or waited until a task got it; most have none.
pub(super) const POOL: &str = "branchline-pool";
/// Tag: what the console shows.
const NAME: &str = "Name";

/// Who made an ENI and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// See [`CLUSTER`].
    pub(super) cluster: String,
    /// See [`INSTANCE`].
    pub(super) instance_id: String,
    /// See [`GENERATION`].
    pub(super) generation: String,
    /// What for.
    pub(super) purpose: Purpose,
}

/// What an ENI was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To carry branches.
    Trunk,
    /// To be a task's, on a trunk.
    Branch {
        /// See [`ATTACHMENT`].
        attachment_id: String,
        /// See [`VLAN`].
        vlan: VlanId,
        /// See [`TRUNK`].
        trunk_id: String,
        /// See [`POOL`].
        pool: Option<String>,
    },
    /// To be a task's, with a link of its own.
    Whole {
        /// See [`ATTACHMENT`].
        attachment_id: String,
        /// See [`DEVICE`].
        device: Device,
    },
}

impl Purpose {
    /// The attachment it was made for; a trunk has none.
    #[must_use]
    pub(super) fn attachment_id(&self) -> Option<&str> {
        match self {
            Self::Trunk => None,
            Self::Branch { attachment_id, .. } | Self::Whole { attachment_id, .. } => {
                Some(attachment_id)
            }
        }
    }
}

impl Owner {
    /// The tags that say so.
    #[must_use]
    pub(super) fn tags(&self) -> Tags {
        let mut tags = vec![
            (CLUSTER, self.cluster.clone()),
            (INSTANCE, self.instance_id.clone()),
            (GENERATION, self.generation.clone()),
        ];
        match &self.purpose {
            Purpose::Trunk => tags.push((NAME, format!("branchline trunk {}", self.instance_id))),
            Purpose::Branch {
                attachment_id,
                vlan,
                trunk_id,
                pool,
            } => {
                tags.extend(pool.iter().map(|pool| (POOL, pool.clone())));
                tags.extend([
                    (NAME, format!("branchline {} {vlan}", self.instance_id)),
                    (ATTACHMENT, attachment_id.clone()),
                    (VLAN, vlan.to_string()),
                    (TRUNK, trunk_id.clone()),
                ]);
            }
            Purpose::Whole {
                attachment_id,
                device,
            } => tags.extend([
                (NAME, format!("branchline {} {device}", self.instance_id)),
                (ATTACHMENT, attachment_id.clone()),
                (DEVICE, device.to_string()),
            ]),
        }
        tags.into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    /// What `tags` say; `None` if they are not all there: such an ENI is nobody's that we know.
    #[must_use]
    pub(super) fn of(tags: &Tags) -> Option<Self> {
        let text = |key: &str| tags.get(key).cloned();
        let purpose = match (text(ATTACHMENT), text(VLAN), text(TRUNK), text(DEVICE)) {
            (None, None, None, None) => Purpose::Trunk,
            (Some(attachment_id), Some(vlan), Some(trunk_id), None) => Purpose::Branch {
                attachment_id,
                vlan: VlanId::try_from(vlan.parse::<u16>().ok()?).ok()?,
                trunk_id,
                pool: text(POOL),
            },
            (Some(attachment_id), None, None, Some(device)) => Purpose::Whole {
                attachment_id,
                device: device.parse().ok()?,
            },
            _ => return None,
        };
        Some(Self {
            cluster: text(CLUSTER)?,
            instance_id: text(INSTANCE)?,
            generation: text(GENERATION)?,
            purpose,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    pub(in crate::provider::ec2) fn branch(attachment_id: &str, generation: &str) -> Owner {
        Owner {
            cluster: "default".to_owned(),
            instance_id: "i-1".to_owned(),
            generation: generation.to_owned(),
            purpose: Purpose::Branch {
                attachment_id: attachment_id.to_owned(),
                vlan: VlanId::try_from(7).unwrap(),
                trunk_id: "eni-trunk".to_owned(),
                pool: None,
            },
        }
    }

    pub(in crate::provider::ec2) fn whole(attachment_id: &str, device: &str) -> Owner {
        Owner {
            purpose: Purpose::Whole {
                attachment_id: attachment_id.to_owned(),
                device: device.parse().unwrap(),
            },
            ..branch(attachment_id, "1")
        }
    }

    #[test]
    fn tags_tell_what_they_were_made_of() {
        let trunk = Owner {
            purpose: Purpose::Trunk,
            ..branch("a", "1")
        };
        let mut waiting = branch("a", "1");
        if let Purpose::Branch { pool, .. } = &mut waiting.purpose {
            *pool = Some("3".to_owned());
        }
        for owner in [branch("a", "1"), waiting, whole("a", "0/1"), trunk] {
            assert_eq!(Owner::of(&owner.tags()), Some(owner));
        }
    }

    #[test]
    fn tags_that_are_not_all_there_are_nobodys() {
        let tags = branch("a", "1").tags();
        for key in [CLUSTER, INSTANCE, GENERATION, ATTACHMENT, VLAN, TRUNK] {
            let mut tags = tags.clone();
            tags.remove(key);
            assert_eq!(Owner::of(&tags), None, "{key}");
        }
        let mut wrong = tags;
        wrong.insert(VLAN.to_owned(), "4095".to_owned());
        assert_eq!(Owner::of(&wrong), None);
        let tags = whole("a", "0/1").tags();
        for (key, value) in [(DEVICE, "0"), (VLAN, "7"), (TRUNK, "eni-trunk")] {
            let mut wrong = tags.clone();
            wrong.insert(key.to_owned(), value.to_owned());
            assert_eq!(Owner::of(&wrong), None, "{key}");
        }
    }
}
