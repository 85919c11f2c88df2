//! The start of the provider: which instance this is, what it may carry, its trunk, and what an earlier agent kept.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use branchline_ec2::{self as ec2, Ec2, Identity, IdentityError, Observer, Settings};

use super::owner::{Owner, Purpose};
use super::reading::{Keeper, Kept, Surroundings};
use super::sight::Sight;
use super::trunk::{self, TrunkError};
use super::whole::Departure;
use super::world::{self, Groups};
use super::{Ec2Provider, Inner, World, certificates};
use crate::capacity::instance_limits::LimitsError;
use crate::config::{Config, Ec2Config, Mode};
use crate::field_error::FieldError;
use crate::provider::{MacAddress, RouteTables};
use crate::random::random_bytes;
use crate::security_groups::{Directory, Members};

/// Branches of a trunk where nothing says otherwise: the most that any instance type takes.
const MOST_BRANCHES: usize = 120;
/// How long a start that could do without waits for a look at this host's ENIs.
const SIGHT_PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no EC2 provider.
#[derive(Debug, thiserror::Error)]
pub enum Ec2Error {
    /// TLS is needed, and the host trusts nobody.
    #[error(transparent)]
    Certificates(FieldError),
    /// Which instance this is.
    #[error(
        "find out which EC2 instance this is (set ec2.instance_id and its neighbours, or let the instance metadata \
         service answer)"
    )]
    Identity(#[from] IdentityError),
    /// The limits of the instance type.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// EC2 itself.
    #[error("ask EC2")]
    Ec2(#[from] ec2::Error),
    /// The trunk.
    #[error(transparent)]
    Trunk(#[from] TrunkError),
    /// The kernel's random numbers.
    #[error("get random numbers")]
    Random(#[source] std::io::Error),
}

/// What the agent gives to a start.
#[derive(Debug)]
pub struct Beginning {
    /// Of the VPC's router, where that is known.
    pub router_mac: Option<MacAddress>,
    /// What an earlier agent kept.
    pub kept: Option<Kept>,
    /// Writes it down.
    pub keeper: Keeper,
    /// Tells when a detached ENI's link has gone.
    pub departure: Departure,
    /// The number of the store of tasks.
    pub store_id: u64,
    /// Attachments of all tasks that it knows, there or gone.
    pub tasks: HashSet<String>,
}

/// What a start knows of groups and routes.
#[derive(Debug)]
pub struct Known {
    /// Groups and prefix lists.
    pub directory: Directory,
    /// Who carries which group.
    pub members: Members,
    /// Of the VPC.
    pub routes: RouteTables,
    /// Since when, and why, where it is not of now.
    pub stale: Option<(u64, String)>,
}

impl Ec2Provider {
    /// Finds out which instance this is, what its VPC is like, and its trunk, which is made if there is none. With what
    /// an earlier agent kept, only this host's ENIs are looked at; and where EC2 does not even tell of those, that is
    /// left to the first [`Provider::collect`].
    ///
    /// # Errors
    /// See [`Ec2Error`]. A trunk that was made stays, with its tags, for the next start.
    pub async fn start(
        config: &Config,
        observer: Observer,
        beginning: Beginning,
    ) -> Result<(Self, Known), Ec2Error> {
        let wanted = &config.ec2;
        certificates::check(wanted, ec2::root_certificates())
            .transpose()
            .map_err(Ec2Error::Certificates)?;
        let identity = identity(wanted).await?;
        let ec2 = Ec2::new(&settings(wanted, &identity), observer).await;
        let instance_type = Some(identity.instance_type.as_str());
        let has_trunk = wanted.mode == Mode::Trunk;
        let instance = match wanted.mode {
            Mode::Trunk => config.capacity.bound(instance_type)?,
            Mode::Eni => config.capacity.interfaces(instance_type)?,
        };
        let generation = random_bytes().map_err(Ec2Error::Random)?;
        let generation = format!("{:016x}", u64::from_be_bytes(generation));
        let owner = Owner {
            cluster: wanted.cluster.clone(),
            instance_id: identity.instance_id.clone(),
            generation: generation.clone(),
            purpose: Purpose::Trunk,
        };
        let kept = beginning.kept.filter(|kept| kept.is_of(&identity));
        let mut missed = None;
        let (sight, surroundings, limits) = match &kept {
            Some(kept) => {
                let sight = look(&ec2, &identity, has_trunk).await;
                let sight = sight.map_err(|error| missed = Some(error)).ok();
                (sight, kept.surroundings.clone(), kept.limits.clone())
            }
            None => {
                let (surroundings, sight) = tokio::try_join!(
                    Surroundings::read(&ec2, &identity.vpc_id),
                    Sight::of(&ec2, &identity.instance_id, has_trunk),
                )?;
                (Some(sight), surroundings, limits(&ec2, &identity).await)
            }
        };
        let known = kept.as_ref().and_then(|kept| kept.trunk.as_ref());
        let trunk = match (&sight, known, missed) {
            _ if !has_trunk => None,
            (Some(sight), _, _) => {
                let limits = limits.as_ref();
                Some(trunk::ensure(&ec2, wanted, &owner, &identity, sight, limits).await?)
            }
            (None, Some(known), _) if known.is_wanted(wanted) => Some(known.clone()),
            (None, _, missed) => return Err(missed.unwrap_or_else(late).into()),
        };
        let limit = instance.as_ref().map(|bound| bound.most);
        let limit = limit.and_then(|most| usize::try_from(most).ok());
        let most = wanted.max_branches.map(|most| most as usize);
        let inner = Inner {
            ec2,
            cluster: wanted.cluster.clone(),
            generation,
            trunk,
            limits,
            router_mac: beginning.router_mac,
            most: most.or(limit).unwrap_or(MOST_BRANCHES),
            instance,
            deadline: wanted.deadline(),
            cool_down: wanted.cool_down(),
            identity,
            world: RwLock::new(World {
                vpc: Arc::new(world::vpc(&surroundings)),
                surroundings,
                groups: Groups::default(),
                kept: None,
            }),
            memory: Mutex::default(),
            keeper: beginning.keeper,
            departure: beginning.departure,
            warm: wanted.warm_pool.clone(),
            pool_id: format!("{:016x}", beginning.store_id),
            tasks_before: beginning.tasks,
            filling: tokio::sync::Mutex::new(()),
        };
        let of_pool = inner.warm.iter().flat_map(|warm| &warm.security_groups);
        inner.memory().needed.extend(of_pool.cloned());
        if let Some(sight) = &sight {
            inner.note(sight);
        }
        let known = match kept {
            Some(kept) => inner.resume(kept, sight.is_some()),
            None => inner.know().await?,
        };
        let inner = Arc::new(inner);
        Ok((Self { inner }, known))
    }
}

impl Inner {
    /// What an earlier agent kept is what is known.
    fn resume(&self, kept: Kept, is_seen: bool) -> Known {
        let needed = kept.groups.needed.iter().cloned();
        self.memory().needed.extend(needed);
        let problem = if is_seen {
            "EC2 was not asked yet since the start"
        } else {
            "EC2 did not answer at the start"
        };
        let known = Known {
            directory: self.directory(&kept.groups),
            members: world::members(&kept.members),
            routes: world::route_tables(&kept.surroundings.route_tables),
            stale: Some((kept.read_ms, problem.to_owned())),
        };
        let mut world = self.world_mut();
        world.groups = kept.groups.clone();
        world.kept = Some(kept);
        known
    }

    /// Reads what a first start must know.
    async fn know(&self) -> Result<Known, ec2::Error> {
        Ok(Known {
            directory: self.directory(&self.groups().await?),
            members: self.members().await?,
            routes: self.route_tables(),
            stale: None,
        })
    }
}

pub(super) async fn identity(config: &Ec2Config) -> Result<Identity, IdentityError> {
    let known = ec2::Known {
        instance_id: config.instance_id.clone(),
        instance_type: config.instance_type.clone(),
        region: config.region.clone(),
        availability_zone: config.availability_zone.clone(),
    };
    Identity::load(config.metadata_endpoint.as_deref(), &known).await
}

pub(super) fn settings(config: &Ec2Config, identity: &Identity) -> Settings {
    Settings {
        region: identity.region.clone(),
        endpoint_url: config.endpoint_url.clone(),
        share: f64::from(config.request_share_percent) / 100.0,
        deadline: config.deadline(),
    }
}

/// A look at this host's ENIs that does not hold up a start.
async fn look(ec2: &Ec2, identity: &Identity, has_trunk: bool) -> Result<Sight, ec2::Error> {
    let sight = Sight::of(ec2, &identity.instance_id, has_trunk);
    let sight = tokio::time::timeout(SIGHT_PATIENCE, sight).await;
    sight.unwrap_or_else(|_| Err(late()))
}

fn late() -> ec2::Error {
    ec2::Error {
        action: "DescribeNetworkInterfaces",
        code: None,
        message: format!("no answer within {} s", SIGHT_PATIENCE.as_secs()),
        request_id: None,
    }
}

/// What the instance type takes, where EC2 tells.
async fn limits(ec2: &Ec2, identity: &Identity) -> Option<ec2::InstanceTypeLimits> {
    let limits = ec2.describe_instance_type(&identity.instance_type).await;
    let unknown =
        |error: &ec2::Error| tracing::warn!(%error, "the instance type's limits stay unknown");
    limits.inspect_err(unknown).ok()
}
