//! ENIs of EC2, as branches of the instance's trunk.
//!
//! A task's ENI goes through four calls: CreateNetworkInterface in `allocate`, with tags that tell a later agent whose
//! it is; AssociateTrunkInterface in `attach`; DisassociateTrunkInterface in `release`; and, once its VLAN id has
//! rested, DeleteNetworkInterface behind everybody's back. Where an agent was killed between two of them, the ENI's
//! tags name an attachment that no task has, and `collect` frees it in its second look.
//!
//! Every step asks by a client token of the attachment, so one whose answer was lost finds what it did. What the VPC
//! is, and who is in which group, is looked at every `ec2.poll` seconds; an EC2 that does not answer leaves in force
//! what was known, which is kept for the next start too.

mod branch;
mod certificates;
mod device;
mod groups;
mod leaving;
mod making;
mod orphans;
mod owner;
mod placement;
mod pool;
mod preflight;
mod reading;
mod sight;
mod trunk;
mod warm;
mod whole;
mod world;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use branchline_ec2::{self as ec2, Ec2, Identity, IdentityError, Observer, Settings};

use self::groups::SetHere;
use self::leaving::Leaving;
use self::orphans::Suspects;
use self::owner::{Owner, Purpose};
use self::pool::Pool;
pub use self::preflight::{Preflight, Verdict, preflight};
use self::reading::Surroundings;
pub use self::reading::{Keeper, Kept};
use self::sight::Sight;
use self::trunk::TrunkEni;
pub use self::trunk::TrunkError;
pub use self::whole::Departure;
use self::world::Groups;
use super::vpc::Vpc;
use super::{
    Device, Eni, EniRequest, EniState, MacAddress, Occupied, Pending, Provider, ProviderError,
    RouteTables, VlanId, WarmPool,
};
use crate::api::SubnetDescription;
use crate::capacity::Bound;
use crate::capacity::instance_limits::LimitsError;
use crate::config::{Config, Ec2Config, Mode, WarmPoolConfig};
use crate::field_error::FieldError;
use crate::random::random_bytes;
use crate::security_groups::{Directory, Members};

/// Branches of a trunk where nothing says otherwise: the most that any instance type takes.
const MOST_BRANCHES: usize = 120;
/// How long a start that could do without waits for a look at this host's ENIs.
const SIGHT_PATIENCE: Duration = Duration::from_secs(5);
/// EC2's status of an ENI that is nowhere.
const AVAILABLE: &str = "available";

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

/// Hands out branches of the instance's trunk.
#[derive(Debug)]
pub struct Ec2Provider {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    ec2: Ec2,
    identity: Identity,
    cluster: String,
    /// This start of the agent.
    generation: String,
    /// `None` where each ENI has a link of its own.
    trunk: Option<TrunkEni>,
    limits: Option<ec2::InstanceTypeLimits>,
    router_mac: Option<MacAddress>,
    most: usize,
    instance: Option<Bound>,
    deadline: Duration,
    cool_down: Duration,
    world: RwLock<World>,
    memory: Mutex<Memory>,
    keeper: Keeper,
    departure: Departure,
    warm: Option<WarmPoolConfig>,
    /// Marks branches that wait for tasks of this host's store.
    pool_id: String,
    /// Attachments of all tasks that the store knew at the start, there or gone.
    tasks_before: HashSet<String>,
    /// Held while a branch is made for the pool.
    filling: tokio::sync::Mutex<()>,
}

/// What was last read.
#[derive(Debug)]
struct World {
    vpc: Arc<Vpc>,
    surroundings: Surroundings,
    groups: Groups,
    /// What is kept, as it was written last.
    kept: Option<Kept>,
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

/// What is known of this host's ENIs.
#[derive(Debug, Default)]
struct Memory {
    /// ENI to its association with the trunk.
    associations: HashMap<String, String>,
    /// ENIs that are off the trunk and rest.
    leaving: Leaving,
    suspects: Suspects,
    /// Branches that the last look found, tasks' and others, with the VLAN ids that they were made for or have.
    seen: BTreeSet<(String, VlanId)>,
    /// ENI to its attachment to this instance.
    attachments: HashMap<String, String>,
    /// ENIs that are attached or were made to be, tasks' and others, with their devices.
    devices: BTreeMap<String, Device>,
    foreign: u64,
    /// Groups of ENIs that this host made, as the last look found them.
    groups: BTreeMap<String, Vec<String>>,
    set_here: SetHere,
    pool: Pool,
    /// Groups that somebody here carries or is about to.
    needed: BTreeSet<String>,
    /// Entries of prefix lists, with the version that they are of.
    lists: HashMap<String, (Option<i64>, Vec<ec2::PrefixListEntry>)>,
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

    /// The MAC address of the trunk ENI, by which its link is found; `None` where each ENI has a link of its own.
    #[must_use]
    pub fn trunk_mac(&self) -> Option<MacAddress> {
        self.inner.trunk.as_ref().map(|trunk| trunk.mac)
    }
}

async fn identity(config: &Ec2Config) -> Result<Identity, IdentityError> {
    let known = ec2::Known {
        instance_id: config.instance_id.clone(),
        instance_type: config.instance_type.clone(),
        region: config.region.clone(),
        availability_zone: config.availability_zone.clone(),
    };
    Identity::load(config.metadata_endpoint.as_deref(), &known).await
}

fn settings(config: &Ec2Config, identity: &Identity) -> Settings {
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

impl Inner {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn world(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn world_mut(&self) -> RwLockWriteGuard<'_, World> {
        self.world.write().unwrap_or_else(PoisonError::into_inner)
    }

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

impl Provider for Ec2Provider {
    fn allocate<'a>(
        &'a self,
        request: &'a EniRequest,
        _directory: &'a Directory,
        occupied: &'a Occupied,
    ) -> Pending<'a, Eni> {
        Box::pin(async {
            match self.inner.trunk {
                Some(_) => self.inner.allocate(request, occupied).await,
                None => self.inner.allocate_whole(request, occupied).await,
            }
        })
    }

    fn try_allocate<'a>(
        &'a self,
        request: &'a EniRequest,
        _directory: &'a Directory,
        occupied: &'a Occupied,
    ) -> Pending<'a, ()> {
        Box::pin(async {
            match self.inner.trunk {
                Some(_) => self.inner.try_allocate(request, occupied),
                None => self.inner.place_whole(request, occupied).map(drop),
            }
        })
    }

    fn attach<'a>(&'a self, eni: &'a Eni) -> Pending<'a, ()> {
        Box::pin(async {
            match eni.device {
                Some(device) => self.inner.attach_whole(eni, device).await,
                None => self.inner.attach(eni).await,
            }
        })
    }

    fn describe<'a>(&'a self, eni: &'a Eni) -> Pending<'a, EniState> {
        Box::pin(async {
            let state = self.inner.state_of(eni).await;
            state.map_err(|error| failed(format!("look at {}", eni.eni_id), error))
        })
    }

    fn release<'a>(&'a self, eni: &'a Eni) -> Pending<'a, ()> {
        Box::pin(async {
            match eni.device {
                Some(device) => self.inner.release_whole(eni, device).await,
                None => self.inner.release(eni).await,
            }
        })
    }

    fn set_groups<'a>(&'a self, eni: &'a Eni, _directory: &'a Directory) -> Pending<'a, ()> {
        Box::pin(self.inner.set_groups(eni))
    }

    fn groups_of_enis(&self) -> BTreeMap<String, Vec<String>> {
        self.inner.memory().groups.clone()
    }

    fn collect<'a>(&'a self, live: &'a HashSet<String>) -> Pending<'a, usize> {
        Box::pin(self.inner.collect(live))
    }

    fn describe_security_groups<'a>(&'a self) -> Pending<'a, Directory> {
        Box::pin(async {
            let groups = self.inner.groups().await;
            let groups = groups.map_err(|error| failed("look at the security groups", error))?;
            Ok(self.inner.directory(&groups))
        })
    }

    fn describe_members<'a>(&'a self) -> Pending<'a, Members> {
        Box::pin(async {
            let members = self.inner.members().await;
            members.map_err(|error| failed("look at who carries which group", error))
        })
    }

    fn refresh<'a>(&'a self) -> Pending<'a, ()> {
        Box::pin(async {
            let refreshed = self.inner.refresh().await;
            refreshed.map_err(|error| failed("look at the VPC", error))
        })
    }

    fn describe_subnets(&self, _occupied: &Occupied) -> Vec<SubnetDescription> {
        let world = self.inner.world();
        let here = |subnet: &&ec2::Subnet| {
            subnet.availability_zone == self.inner.identity.availability_zone
        };
        // What waits for tasks takes nothing from them.
        let waiting: Vec<String> = {
            let memory = self.inner.memory();
            let enis = memory.pool.enis();
            enis.map(|eni| eni.subnet_id.clone()).collect()
        };
        let waiting = |id: &String| waiting.iter().filter(|one| *one == id).count() as u64;
        let describe = |subnet: &ec2::Subnet| SubnetDescription {
            subnet_id: subnet.id.clone(),
            vpc_id: subnet.vpc_id.clone(),
            cidr_block: subnet.ipv4.map(|net| net.to_string()),
            ipv6_cidr_block: subnet.ipv6.map(|net| net.to_string()),
            availability_zone: Some(subnet.availability_zone.clone()),
            available_ip_address_count: match subnet.ipv4 {
                Some(_) => u64::from(subnet.available) + waiting(&subnet.id),
                // Of IPv6 alone there is no end.
                None => u64::MAX,
            },
        };
        let subnets = world.surroundings.subnets.iter();
        subnets.filter(here).map(describe).collect()
    }

    fn bounds(&self) -> Vec<Bound> {
        let Some(trunk) = &self.inner.trunk else {
            return self.inner.interface_bounds();
        };
        let trunk = Bound {
            resource: "branches".to_owned(),
            most: self.inner.most as u64,
            source: format!("the trunk {}", trunk.id),
            counts_foreign: false,
        };
        // Branches are none of the instance's own interfaces.
        let instance = self.inner.instance.clone().map(|bound| Bound {
            counts_foreign: false,
            ..bound
        });
        [trunk].into_iter().chain(instance).collect()
    }

    fn foreign_enis(&self) -> u64 {
        self.inner.memory().foreign
    }

    fn vpc(&self) -> Arc<Vpc> {
        Arc::clone(&self.inner.world().vpc)
    }

    fn groups_read(&self) -> BTreeSet<String> {
        self.inner.pool_groups_read()
    }

    fn warm_pool(&self) -> Option<WarmPool> {
        self.inner.warm_pool()
    }

    fn plan_pool(&self, occupied: &Occupied) -> Result<bool, ProviderError> {
        self.inner.plan_pool(occupied)
    }

    fn fill_pool<'a>(&'a self) -> Pending<'a, ()> {
        Box::pin(self.inner.fill_pool())
    }

    fn route_tables(&self) -> RouteTables {
        self.inner.route_tables()
    }

    fn name(&self) -> &'static str {
        "ec2"
    }
}

fn failed(
    attempt: impl Into<String>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ProviderError {
    ProviderError::Failed {
        attempt: attempt.into(),
        source: source.into(),
    }
}

/// Whether the credentials may not ask.
fn is_refusal(error: &ec2::Error) -> bool {
    matches!(
        error.code.as_deref(),
        Some("UnauthorizedOperation" | "OperationNotPermitted")
    )
}
