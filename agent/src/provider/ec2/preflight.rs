//! What a start would meet: which instance this is, whether it has or can get a trunk, and what the credentials may
//! do. Changes nothing.

use std::time::Duration;

use branchline_ec2::{self as ec2, Ec2, Identity, NetworkInterface, Permission, Subjects};

use super::owner::{Owner, Purpose};
use super::sight::Sight;
use super::{Ec2Error, identity, is_refusal, settings, trunk};
use crate::config::Config;
use crate::server::causes;

/// How long a call may take at most: somebody waits for the answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Stands for an ENI where the instance's are not known.
const NO_ENI: &str = "eni-00000000000000000";
/// Calls that policies may allow for ENIs of ours only, by their tags.
const OF_OWN_ENIS: [&str; 5] = [
    "DeleteNetworkInterface",
    "AttachNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
    "AssociateTrunkInterface",
    "DisassociateTrunkInterface",
];

/// What was found; errors are text for people.
#[derive(Debug, Clone, Default)]
pub struct Preflight {
    /// Which instance this is.
    pub identity: Option<Result<Identity, String>>,
    /// Whether EC2 answers; `None` if it could not be asked.
    pub answer: Option<Result<(), String>>,
    /// Its trunk, or why there can be none.
    pub trunk: Option<Result<String, String>>,
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
    let identity = match identity(&config.ec2).await {
        Ok(identity) => identity,
        Err(error) => {
            return Preflight {
                identity: Some(Err(causes(&error))),
                ..Preflight::default()
            };
        }
    };
    let mut settings = settings(&config.ec2, &identity);
    settings.deadline = settings.deadline.min(DEADLINE);
    let ec2 = Ec2::new(&settings, std::sync::Arc::new(|_, _, _| {})).await;
    let sight = Sight::of(&ec2, &identity.instance_id).await;
    let found = Preflight {
        identity: Some(Ok(identity.clone())),
        answer: Some(Ok(())),
        ..Preflight::default()
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
    Preflight {
        trunk: match &sight {
            Some(sight) => Some(trunk_of(config, &ec2, &identity, sight).await),
            None => None,
        },
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
        instance_id: identity.instance_id.clone(),
        tags: owner.tags(),
    };
    let verdict = |permission: Permission| Verdict {
        is_sure: match permission.action {
            "DisassociateTrunkInterface" => association.is_some(),
            action if OF_OWN_ENIS.contains(&action) => own.is_some(),
            _ => true,
        },
        permission,
    };
    let permissions = ec2.permissions(&subjects).await;
    permissions.into_iter().map(verdict).collect()
}
