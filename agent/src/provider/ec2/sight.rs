//! One look at this instance's ENIs: two describe calls side by side, and a third where there is a trunk.

use branchline_ec2::{self as ec2, Ec2, NetworkInterface, TrunkAssociation};

use super::is_refusal;
use super::owner::{INSTANCE, Owner};

/// What EC2 said of this instance's ENIs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// Those that an agent of this instance made, by their tags.
    pub(super) made: Vec<NetworkInterface>,
    /// Those that are attached to it.
    pub(super) attached: Vec<NetworkInterface>,
    /// Branches of all trunks; `None` where there is no trunk, or the credentials may not list them.
    pub(super) associations: Option<Vec<TrunkAssociation>>,
}

impl Sight {
    /// Looks.
    ///
    /// # Errors
    /// EC2's.
    pub(super) async fn of(
        ec2: &Ec2,
        instance_id: &str,
        has_trunk: bool,
    ) -> Result<Self, ec2::Error> {
        let own = [instance_id.to_owned()];
        let of_tag = format!("tag:{INSTANCE}");
        let by_tag: [(&str, &[String]); 1] = [(&of_tag, &own)];
        let by_instance: [(&str, &[String]); 1] = [("attachment.instance-id", &own)];
        let (made, attached, associations) = tokio::join!(
            ec2.describe_network_interfaces(&by_tag),
            ec2.describe_network_interfaces(&by_instance),
            async {
                match has_trunk {
                    true => ec2.describe_trunk_interface_associations().await.map(Some),
                    false => Ok(None),
                }
            },
        );
        let associations = match associations {
            Ok(associations) => associations,
            Err(error) if is_refusal(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            made: made?,
            attached: attached?,
            associations,
        })
    }

    /// ENIs attached to the instance that no agent of it made: its primary one, and what others attached.
    #[must_use]
    pub(super) fn foreign(&self) -> u64 {
        let is_foreign = |interface: &&NetworkInterface| Owner::of(&interface.tags).is_none();
        self.attached.iter().filter(is_foreign).count() as u64
    }
}
