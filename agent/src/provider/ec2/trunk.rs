//! The instance's trunk ENI: found, or made and attached.
//!
//! AttachNetworkInterface has no token: after an answer that was lost, a look tells whether it is attached.

use branchline_ec2::{
    self as ec2, Class, Ec2, Identity, InstanceTypeLimits, NetworkInterface, NewInterface,
    client_token,
};
use serde::{Deserialize, Serialize};

use super::AVAILABLE;
use super::owner::{Owner, Purpose};
use super::sight::Sight;
use crate::config::Ec2Config;
use crate::provider::{MacAddress, NoMacAddress};

/// The hypervisor before Nitro.
const XEN: &str = "xen";
/// EC2's type of a trunk.
const TRUNK: &str = "trunk";
/// Device indices that are tried at most: no instance type has more ENIs.
const DEVICES: u32 = 64;
/// Looks until an attached ENI must show up.
const LOOKS: u32 = 10;

/// The trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TrunkEni {
    /// `eni-…`.
    pub(super) id: String,
    /// By which its link is found.
    pub(super) mac: MacAddress,
}

impl TrunkEni {
    /// Whether the configuration names no other.
    pub(super) fn is_wanted(&self, config: &Ec2Config) -> bool {
        let named = config.trunk_interface_id.as_ref();
        named.is_none_or(|id| *id == self.id)
    }
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
    /// The instance type has none.
    #[error("instance type {0} has no trunk: it is not of the Nitro System; use a type that is")]
    NoTrunk(String),
    /// All interfaces of the instance are in use.
    #[error(
        "{used} of the {most} network interfaces of {instance_id} ({instance_type}) are in use, and the trunk needs \
         one; detach one, or use a larger type"
    )]
    NoInterface {
        /// This instance.
        instance_id: String,
        /// Its type.
        instance_type: String,
        /// Attached ones.
        used: usize,
        /// What the type takes.
        most: u32,
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
        owner.is_some_and(|owner| owner.purpose == Purpose::Trunk) && interface.status == AVAILABLE
    };
    sight
        .made
        .iter()
        .find(is_trunk)
        .map_or(Plan::Make, Plan::Attach)
}

/// Whether the instance takes one more interface, as far as is known. A trunk goes to the first network card.
///
/// # Errors
/// `NoTrunk` or `NoInterface`.
fn room(
    attached: &[NetworkInterface],
    identity: &Identity,
    limits: Option<&InstanceTypeLimits>,
) -> Result<(), TrunkError> {
    let Some(limits) = limits else {
        return Ok(());
    };
    if limits.hypervisor == XEN {
        return Err(TrunkError::NoTrunk(identity.instance_type.clone()));
    }
    let on_card = |interface: &&NetworkInterface| {
        let attachment = interface.attachment.as_ref();
        attachment.is_none_or(|attachment| attachment.network_card_index == 0)
    };
    let of_card = attached.iter().filter(on_card).count();
    let of_instance = (attached.len(), limits.maximum_network_interfaces);
    let of_card = limits.network_cards.first().map(|most| (of_card, *most));
    let is_full =
        |(used, most): &(usize, u32)| u32::try_from(*used).is_ok_and(|used| used >= *most);
    match [Some(of_instance), of_card]
        .into_iter()
        .flatten()
        .find(is_full)
    {
        None => Ok(()),
        Some((used, most)) => Err(TrunkError::NoInterface {
            instance_id: identity.instance_id.clone(),
            instance_type: identity.instance_type.clone(),
            used,
            most,
        }),
    }
}

/// What a start would do for a trunk, in words; does nothing.
///
/// # Errors
/// As [`ensure`], as far as that can be told beforehand.
pub(super) fn outlook(
    config: &Ec2Config,
    identity: &Identity,
    sight: &Sight,
    limits: Option<&InstanceTypeLimits>,
) -> Result<String, TrunkError> {
    if let Some(id) = &config.trunk_interface_id {
        let trunk = configured(id, identity, sight)?;
        return Ok(format!("{} is attached", trunk.id));
    }
    match plan(sight) {
        Plan::Use(interface) => Ok(format!("{} is attached", interface.id)),
        Plan::Attach(_) | Plan::Make => {
            room(&sight.attached, identity, limits)?;
            let used = sight.attached.len();
            Ok(
                match limits.map(|limits| limits.maximum_network_interfaces) {
                    Some(most) => {
                        format!("will be attached: {used} of {most} network interfaces are in use")
                    }
                    None => "will be attached, if a network interface is free".to_owned(),
                },
            )
        }
    }
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
    limits: Option<&InstanceTypeLimits>,
) -> Result<TrunkEni, TrunkError> {
    let make = |source| TrunkError::Make {
        instance_id: identity.instance_id.clone(),
        source,
    };
    if let Some(id) = &config.trunk_interface_id {
        return configured(id, identity, sight);
    }
    let planned = plan(sight);
    if !matches!(planned, Plan::Use(_)) {
        room(&sight.attached, identity, limits)?;
    }
    let new = match planned {
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
                let found = ec2.describe_network_interface(&new.id).await;
                let found = found.map_err(make)?;
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
    fn an_instance_without_room_or_trunk_is_told_apart() {
        let identity = Identity {
            instance_type: "c5.large".to_owned(),
            ..Identity::default()
        };
        let limits =
            |maximum_network_interfaces, first_card, hypervisor: &str| InstanceTypeLimits {
                maximum_network_interfaces,
                network_cards: vec![first_card, 5],
                hypervisor: hypervisor.to_owned(),
                ..InstanceTypeLimits::default()
            };
        let mut on_another_card = interface("eni-3", "interface", Some(1));
        if let Some(attachment) = &mut on_another_card.attachment {
            attachment.network_card_index = 1;
        }
        let attached = [
            interface("eni-1", "interface", Some(0)),
            interface("eni-2", "interface", Some(1)),
            on_another_card,
        ];
        let said = |limits: &InstanceTypeLimits| {
            let room = room(&attached, &identity, Some(limits));
            room.err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        assert_eq!(said(&limits(8, 3, "nitro")), "");
        assert!(said(&limits(8, 2, "nitro")).starts_with("2 of the 2 network interfaces"));
        assert!(said(&limits(3, 3, "nitro")).starts_with("3 of the 3 network interfaces"));
        assert!(said(&limits(8, 3, "xen")).starts_with("instance type c5.large has no trunk"));
        assert!(room(&attached, &identity, None).is_ok());
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
