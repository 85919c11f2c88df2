//! What a start would meet: which instance this is, whether it has or can get a trunk, and what the credentials may
//! do. Changes nothing.

use std::time::Duration;

use branchline_ec2::{self as ec2, Ec2, Identity, NetworkInterface, Permission, Subjects};

use super::certificates;
use super::device::{self, Room};
use super::owner::{Owner, Purpose};
use super::sight::Sight;
use super::start::{Ec2Error, identity, settings};
use super::{is_refusal, trunk};
use crate::config::{Config, Mode};
use crate::field_error::FieldError;
use crate::server::causes;

/// How long a call may take at most: somebody waits for the answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Stands for an ENI where the instance's are not known.
const NO_ENI: &str = "eni-00000000000000000";
/// Calls that policies may allow for ENIs of ours only, by their tags.
const OF_OWN_ENIS: [&str; 6] = [
    "DeleteNetworkInterface",
    "AttachNetworkInterface",
    "DetachNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
    "AssociateTrunkInterface",
    "DisassociateTrunkInterface",
];

/// What was found; errors are text for people.
#[derive(Debug, Clone, Default)]
pub struct Preflight {
    /// Whether the host has root certificates; `None` where nothing is asked by TLS.
    pub certificates: Option<Result<(), FieldError>>,
    /// Which instance this is.
    pub identity: Option<Result<Identity, String>>,
    /// Whether EC2 answers; `None` if it could not be asked.
    pub answer: Option<Result<(), String>>,
    /// Its trunk, or why there can be none; `None` where each ENI has a link of its own.
    pub trunk: Option<Result<String, String>>,
    /// Its network interfaces in use, or why no task can get one; `None` where there is a trunk.
    pub interfaces: Option<Result<String, String>>,
    /// What the credentials may do.
    pub permissions: Vec<Verdict>,
}

/// Whether a call is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What EC2 said.
    pub permission: Permission,
    /// What a refusal does not prove: it was tried on an ENI without our tags.
    pub is_sure: bool,
}

/// Looks at the instance that this process runs on.
pub async fn preflight(config: &Config) -> Preflight {
    let certificates = certificates::check(&config.ec2, ec2::root_certificates());
    let found = Preflight {
        certificates,
        ..Preflight::default()
    };
    if let Some(Err(_)) = found.certificates {
        return found;
    }
    let identity = match identity(&config.ec2).await {
        Ok(identity) => identity,
        Err(error) => {
            return Preflight {
                identity: Some(Err(causes(&error))),
                ..found
            };
        }
    };
    let mut settings = settings(&config.ec2, &identity);
    settings.deadline = settings.deadline.min(DEADLINE);
    let ec2 = Ec2::new(&settings, std::sync::Arc::new(|_, _, _| {})).await;
    let has_trunk = config.ec2.mode == Mode::Trunk;
    let sight = Sight::of(&ec2, &identity.instance_id, has_trunk).await;
    let found = Preflight {
        identity: Some(Ok(identity.clone())),
        answer: Some(Ok(())),
        ..found
    };
    let sight = match sight {
        Ok(sight) => Some(sight),
        Err(error) if is_refusal(&error) => None,
        Err(error) => {
            return Preflight {
                answer: Some(Err(error.to_string())),
                ..found
            };
        }
    };
    let (trunk, interfaces) = match &sight {
        Some(sight) if has_trunk => (Some(trunk_of(config, &ec2, &identity, sight).await), None),
        Some(sight) => (None, Some(room_of(config, &ec2, &identity, sight).await)),
        None => (None, None),
    };
    Preflight {
        trunk,
        interfaces,
        permissions: permissions(config, &ec2, &identity, &sight.unwrap_or_default()).await,
        ..found
    }
}

async fn trunk_of(
    config: &Config,
    ec2: &Ec2,
    identity: &Identity,
    sight: &Sight,
) -> Result<String, String> {
    let bound = config.capacity.bound(Some(&identity.instance_type));
    bound.map_err(|error| causes(&error))?;
    let limits = ec2.describe_instance_type(&identity.instance_type).await;
    let limits = limits.ok();
    let outlook = trunk::outlook(&config.ec2, identity, sight, limits.as_ref());
    outlook.map_err(|error| causes(&Ec2Error::from(error)))
}

/// How many of the instance's network interfaces are in use. None that is free is no fault: its tasks may have them all.
async fn room_of(
    config: &Config,
    ec2: &Ec2,
    identity: &Identity,
    sight: &Sight,
) -> Result<String, String> {
    let table = config.capacity.interfaces(Some(&identity.instance_type));
    let table = table.map_err(|error| causes(&error))?;
    let limits = ec2.describe_instance_type(&identity.instance_type).await;
    let room = Room::of(limits.ok().as_ref(), table.map(|bound| bound.most));
    let is_tasks = |interface: &&NetworkInterface| {
        let owner = Owner::of(&interface.tags);
        owner.is_some_and(|owner| owner.purpose.attachment_id().is_some())
    };
    let used = device::taken(&sight.attached);
    let tasks = sight.attached.iter().filter(is_tasks).count();
    if tasks == 0 {
        device::choose(&room, &used, 0).map_err(|error| causes(&error))?;
    }
    Ok(format!(
        "{} of {} are in use, {tasks} of them by tasks",
        used.len(),
        room.most
    ))
}

async fn permissions(
    config: &Config,
    ec2: &Ec2,
    identity: &Identity,
    sight: &Sight,
) -> Vec<Verdict> {
    let is_own = |interface: &&NetworkInterface| {
        let owner = Owner::of(&interface.tags);
        owner.is_some_and(|owner| owner.cluster == config.ec2.cluster)
    };
    let own = sight.attached.iter().chain(&sight.made).find(is_own);
    let eni = own.or(sight.attached.first());
    let is_ours = |association: &&ec2::TrunkAssociation| {
        let is_made = |interface: &NetworkInterface| interface.id == association.branch_id;
        sight.made.iter().any(is_made)
    };
    let association = sight.associations.iter().flatten().find(is_ours);
    let attachment = sight.attached.iter().find(is_own);
    let attachment = attachment.and_then(|interface| interface.attachment.as_ref());
    let owner = Owner {
        cluster: config.ec2.cluster.clone(),
        instance_id: identity.instance_id.clone(),
        generation: "0".to_owned(),
        purpose: Purpose::Trunk,
    };
    let subjects = Subjects {
        vpc_id: identity.vpc_id.clone(),
        subnet_id: identity.subnet_id.clone(),
        network_interface_id: eni.map_or(NO_ENI, |eni| &eni.id).to_owned(),
        association_id: association.map(|association| association.id.clone()),
        attachment_id: attachment.map(|attachment| attachment.id.clone()),
        instance_id: identity.instance_id.clone(),
        tags: owner.tags(),
        has_trunk: config.ec2.mode == Mode::Trunk,
    };
    let verdict = |permission: Permission| Verdict {
        is_sure: match permission.action {
            "DisassociateTrunkInterface" => association.is_some(),
            "DetachNetworkInterface" => attachment.is_some(),
            action if OF_OWN_ENIS.contains(&action) => own.is_some(),
            _ => true,
        },
        permission,
    };
    let permissions = ec2.permissions(&subjects).await;
    permissions.into_iter().map(verdict).collect()
}
