//! The instance's trunk ENI: found, or made and attached.
//!
//! AttachNetworkInterface has no token: after an answer that was lost, a look tells whether it is attached.

use branchline_ec2::{
    self as ec2, Class, Ec2, Identity, NetworkInterface, NewInterface, client_token,
};

use super::owner::{Owner, Purpose};
use super::sight::Sight;
use crate::config::Ec2Config;
use crate::provider::{MacAddress, NoMacAddress};

/// EC2's type of a trunk.
const TRUNK: &str = "trunk";
/// Device indices that are tried at most: no instance type has more ENIs.
const DEVICES: u32 = 64;
/// Looks until an attached ENI must show up.
const LOOKS: u32 = 10;

/// The trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TrunkEni {
    /// `eni-…`.
    pub(super) id: String,
    /// By which its link is found.
    pub(super) mac: MacAddress,
}

/// Why there is no trunk.
#[derive(Debug, thiserror::Error)]
pub enum TrunkError {
    /// `ec2.trunk_interface_id` cannot be one.
    #[error(
        "ec2.trunk_interface_id: {id} is {found}; name a trunk ENI that is attached to {instance_id}, or leave it out"
    )]
    Configured {
        /// The ENI.
        id: String,
        /// What it is.
        found: String,
        /// This instance.
        instance_id: String,
    },
    /// It cannot be made or attached.
    #[error(
        "attach a trunk ENI to {instance_id} (the instance type must have trunks, and a free network interface)"
    )]
    Make {
        /// This instance.
        instance_id: String,
        /// Why.
        source: ec2::Error,
    },
    /// It does not get attached.
    #[error(
        "the trunk {id} is {status} and does not get attached to {instance_id}; look at it in EC2"
    )]
    NotAttached {
        /// The ENI.
        id: String,
        /// EC2's word.
        status: String,
        /// This instance.
        instance_id: String,
    },
    /// Its MAC address is none.
    #[error("the trunk {id}")]
    Mac {
        /// The ENI.
        id: String,
        /// Why.
        source: NoMacAddress,
    },
}

/// What is to be done for a trunk.
#[derive(Debug, PartialEq, Eq)]
enum Plan<'a> {
    /// It is there.
    Use(&'a NetworkInterface),
    /// An earlier start made it and came no further.
    Attach(&'a NetworkInterface),
    /// There is none.
    Make,
}

fn plan(sight: &Sight) -> Plan<'_> {
    let attached = sight
        .attached
        .iter()
        .find(|interface| interface.interface_type == TRUNK);
    if let Some(interface) = attached {
        return Plan::Use(interface);
    }
    let is_trunk = |interface: &&NetworkInterface| {
        let owner = Owner::of(&interface.tags);
        owner.is_some_and(|owner| owner.purpose == Purpose::Trunk)
            && interface.status == "available"
    };
    sight
        .made
        .iter()
        .find(is_trunk)
        .map_or(Plan::Make, Plan::Attach)
}

/// The lowest device index that no ENI on the first network card has; 0 is the primary ENI's.
fn free_device(attached: &[NetworkInterface]) -> u32 {
    let is_taken = |index: &u32| {
        attached
            .iter()
            .filter_map(|interface| interface.attachment.as_ref())
            .any(|attachment| {
                (attachment.network_card_index, attachment.device_index) == (0, *index)
            })
    };
    (1..DEVICES)
        .find(|index| !is_taken(index))
        .unwrap_or(DEVICES)
}

/// Finds the trunk, or makes and attaches one, for `owner`.
///
/// # Errors
/// See [`TrunkError`]. What was made stays, with its tags, for the next start.
pub(super) async fn ensure(
    ec2: &Ec2,
    config: &Ec2Config,
    owner: &Owner,
    identity: &Identity,
    sight: &Sight,
) -> Result<TrunkEni, TrunkError> {
    let make = |source| TrunkError::Make {
        instance_id: identity.instance_id.clone(),
        source,
    };
    if let Some(id) = &config.trunk_interface_id {
        return configured(id, identity, sight);
    }
    let new = match plan(sight) {
        Plan::Use(interface) => return trunk(interface),
        Plan::Attach(interface) => interface.clone(),
        Plan::Make => {
            let new = NewInterface {
                subnet_id: identity.subnet_id.clone(),
                description: format!("branchline trunk of {}", identity.instance_id),
                tags: owner.tags(),
                client_token: client_token(&identity.instance_id, &owner.generation),
                is_trunk: true,
                ..NewInterface::default()
            };
            ec2.create_network_interface(&new).await.map_err(make)?
        }
    };
    attach(ec2, &new, identity, sight).await?;
    tracing::info!(trunk = new.id, "attached");
    trunk(&new)
}

fn configured(id: &str, identity: &Identity, sight: &Sight) -> Result<TrunkEni, TrunkError> {
    let found = sight.attached.iter().find(|interface| interface.id == *id);
    let wrong = |found: String| TrunkError::Configured {
        id: id.to_owned(),
        found,
        instance_id: identity.instance_id.clone(),
    };
    match found {
        Some(interface) if interface.interface_type == TRUNK => trunk(interface),
        Some(interface) => Err(wrong(format!("of type {}", interface.interface_type))),
        None => Err(wrong("not attached to this instance".to_owned())),
    }
}

fn trunk(interface: &NetworkInterface) -> Result<TrunkEni, TrunkError> {
    let mac = interface.mac.parse().map_err(|source| TrunkError::Mac {
        id: interface.id.clone(),
        source,
    })?;
    Ok(TrunkEni {
        id: interface.id.clone(),
        mac,
    })
}

/// Attaches the trunk, and lets it go with the instance.
async fn attach(
    ec2: &Ec2,
    new: &NetworkInterface,
    identity: &Identity,
    sight: &Sight,
) -> Result<(), TrunkError> {
    let instance_id = &identity.instance_id;
    let make = |source| TrunkError::Make {
        instance_id: instance_id.clone(),
        source,
    };
    let device = free_device(&sight.attached);
    let mut status = new.status.clone();
    for look in 0..LOOKS {
        let asked = ec2.attach_network_interface(&new.id, instance_id, device, 0);
        let attachment = match asked.await {
            Ok(attachment) => Some(attachment),
            // It may not be seen yet, or the answer to an earlier attempt was lost.
            Err(error)
                if matches!(
                    error.class(),
                    Class::Unsettled | Class::Lost | Class::Unavailable
                ) =>
            {
                tracing::debug!(%error, "look whether the trunk is attached");
                let ids = [new.id.clone()];
                let filters: [(&str, &[String]); 1] = [("network-interface-id", &ids)];
                let found = ec2.describe_network_interfaces(&filters).await;
                let found = found.map_err(make)?.into_iter().next();
                if let Some(found) = &found {
                    status.clone_from(&found.status);
                }
                let attachment = found.and_then(|found| found.attachment);
                attachment
                    .filter(|it| it.instance_id.as_ref() == Some(instance_id))
                    .map(|it| it.id)
            }
            Err(error) => return Err(make(error)),
        };
        if let Some(attachment) = attachment {
            return ec2
                .set_delete_on_termination(&new.id, &attachment, true)
                .await
                .map_err(make);
        }
        tokio::time::sleep(ec2::back_off(Class::Unsettled, look, fastrand::f64())).await;
    }
    Err(TrunkError::NotAttached {
        id: new.id.clone(),
        status,
        instance_id: instance_id.clone(),
    })
}

#[cfg(test)]
mod tests {
    use branchline_ec2::Attachment;

    use super::super::owner::tests::branch;
    use super::*;

    fn interface(id: &str, kind: &str, device: Option<u32>) -> NetworkInterface {
        NetworkInterface {
            id: id.to_owned(),
            interface_type: kind.to_owned(),
            status: "available".to_owned(),
            mac: "0a:00:00:00:00:01".to_owned(),
            attachment: device.map(|device_index| Attachment {
                device_index,
                ..Attachment::default()
            }),
            ..NetworkInterface::default()
        }
    }

    #[test]
    fn a_trunk_that_is_there_is_used_and_one_that_was_made_is_attached() {
        let made = NetworkInterface {
            tags: Owner {
                purpose: Purpose::Trunk,
                ..branch("a", "1")
            }
            .tags(),
            ..interface("eni-made", "trunk", None)
        };
        let branch = NetworkInterface {
            tags: branch("a", "1").tags(),
            ..interface("eni-branch", "branch", None)
        };
        let attached = interface("eni-trunk", "trunk", Some(1));
        let mut sight = Sight {
            made: vec![branch],
            attached: vec![interface("eni-primary", "interface", Some(0))],
            associations: None,
        };
        assert_eq!(plan(&sight), Plan::Make);
        sight.made.push(made.clone());
        assert_eq!(plan(&sight), Plan::Attach(&made));
        sight.attached.push(attached.clone());
        assert_eq!(plan(&sight), Plan::Use(&attached));
    }

    #[test]
    fn the_lowest_free_device_index_is_taken() {
        let at = |index| interface("eni", "interface", Some(index));
        assert_eq!(free_device(&[at(0)]), 1);
        assert_eq!(free_device(&[at(0), at(1), at(3)]), 2);
        let mut on_another_card = at(1);
        if let Some(attachment) = &mut on_another_card.attachment {
            attachment.network_card_index = 1;
        }
        assert_eq!(free_device(&[at(0), on_another_card]), 1);
    }

    #[test]
    fn a_configured_trunk_must_be_one_and_be_attached_here() {
        let sight = Sight {
            attached: vec![
                interface("eni-primary", "interface", Some(0)),
                interface("eni-trunk", "trunk", Some(1)),
            ],
            ..Sight::default()
        };
        let find = |id: &str| configured(id, &Identity::default(), &sight);
        assert!(find("eni-trunk").is_ok_and(|trunk| trunk.id == "eni-trunk"));
        let error = |id: &str| find(id).err().map(|error| error.to_string());
        assert!(error("eni-primary").is_some_and(|text| text.contains("of type interface")));
        assert!(error("eni-else").is_some_and(|text| text.contains("not attached")));
    }
}
