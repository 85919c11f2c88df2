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

mod leaving;
mod orphans;
mod owner;
mod placement;
mod preflight;
mod reading;
mod sight;
mod trunk;
mod world;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, Instant};

use branchline_ec2::{
    self as ec2, Class, Ec2, Identity, IdentityError, NewInterface, Observer, Settings, back_off,
    client_token,
};

use self::leaving::Leaving;
use self::orphans::{Suspects, sift};
use self::owner::{Owner, Purpose};
pub use self::preflight::{Preflight, Verdict, preflight};
use self::reading::Surroundings;
pub use self::reading::{Keeper, Kept};
use self::sight::Sight;
use self::trunk::TrunkEni;
pub use self::trunk::TrunkError;
use self::world::Groups;
use super::local::random_bytes;
use super::vpc::Vpc;
use super::{
    Eni, EniRequest, EniState, MacAddress, Occupied, Pending, Provider, ProviderError, RouteTables,
    VlanId,
};
use crate::api::SubnetDescription;
use crate::capacity::Bound;
use crate::capacity::instance_limits::LimitsError;
use crate::config::{Config, Ec2Config};
use crate::progress::now_ms;
use crate::security_groups::{Directory, Members};

/// Branches of a trunk where nothing says otherwise: the most that any instance type takes.
const MOST_BRANCHES: usize = 120;
/// How long a start that could do without waits for a look at this host's ENIs.
const SIGHT_PATIENCE: Duration = Duration::from_secs(5);
/// EC2's status of an ENI that is nowhere.
const AVAILABLE: &str = "available";
/// Values that one filter takes (EC2).
const FILTER_VALUES: usize = branchline_ec2::FILTER_VALUES;

/// Why there is no EC2 provider.
#[derive(Debug, thiserror::Error)]
pub enum Ec2Error {
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
    #[error("read /dev/urandom")]
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
    trunk: TrunkEni,
    limits: Option<ec2::InstanceTypeLimits>,
    router_mac: Option<MacAddress>,
    most: usize,
    instance: Option<Bound>,
    deadline: Duration,
    cool_down: Duration,
    world: RwLock<World>,
    memory: Mutex<Memory>,
    keeper: Keeper,
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
    foreign: u64,
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
        let identity = identity(wanted).await?;
        let ec2 = Ec2::new(&settings(wanted, &identity), observer).await;
        let instance = config.capacity.bound(Some(&identity.instance_type))?;
        let generation = random_bytes().map_err(Ec2Error::Random)?;
        let generation = format!("{:016x}", u128::from_be_bytes(generation) >> 64);
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
                let sight = look(&ec2, &identity).await;
                let sight = sight.map_err(|error| missed = Some(error)).ok();
                (sight, kept.surroundings.clone(), kept.limits.clone())
            }
            None => {
                let (surroundings, sight) = tokio::try_join!(
                    Surroundings::read(&ec2, &identity.vpc_id),
                    Sight::of(&ec2, &identity.instance_id),
                )?;
                (Some(sight), surroundings, limits(&ec2, &identity).await)
            }
        };
        let trunk = match (&sight, &kept, missed) {
            (Some(sight), _, _) => {
                let limits = limits.as_ref();
                trunk::ensure(&ec2, wanted, &owner, &identity, sight, limits).await?
            }
            (None, Some(kept), _) if kept.trunk.is_wanted(wanted) => kept.trunk.clone(),
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
        };
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

    /// The MAC address of the trunk ENI, by which its link is found.
    #[must_use]
    pub fn trunk_mac(&self) -> MacAddress {
        self.inner.trunk.mac
    }

    /// Which instance this is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
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
async fn look(ec2: &Ec2, identity: &Identity) -> Result<Sight, ec2::Error> {
    let sight = Sight::of(ec2, &identity.instance_id);
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

    fn world(&self) -> (Arc<Vpc>, Vec<ec2::Subnet>) {
        let world = self.world.read().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&world.vpc), world.surroundings.subnets.clone())
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

    fn directory(&self, groups: &Groups) -> Directory {
        let (directory, warnings) = world::directory(groups, &self.identity.vpc_id);
        for warning in warnings {
            tracing::warn!(%warning, "a security group of EC2");
        }
        directory
    }

    fn route_tables(&self) -> RouteTables {
        let world = self.world.read().unwrap_or_else(PoisonError::into_inner);
        world::route_tables(&world.surroundings.route_tables)
    }

    /// Reads the VPC and what lies in it anew.
    async fn refresh(&self) -> Result<(), ec2::Error> {
        let surroundings = Surroundings::read(&self.ec2, &self.identity.vpc_id).await?;
        let vpc = Arc::new(world::vpc(&surroundings));
        let mut world = self.world_mut();
        (world.vpc, world.surroundings) = (vpc, surroundings);
        Ok(())
    }

    /// Keeps what was read for the next start, where it differs from what is kept.
    fn keep(&self, members: Vec<ec2::NetworkInterface>) {
        let mut world = self.world_mut();
        let kept = Kept {
            read_ms: now_ms(),
            identity: self.identity.clone(),
            trunk: self.trunk.clone(),
            limits: self.limits.clone(),
            surroundings: world.surroundings.clone(),
            groups: world.groups.clone(),
            members,
        };
        let replaces = |before: &Kept| kept.replaces(before);
        if world.kept.as_ref().is_none_or(replaces) {
            (self.keeper.0)(&kept);
            world.kept = Some(kept);
        }
    }

    /// The subnets to try and the VLAN id, for a request.
    fn place(
        &self,
        request: &EniRequest,
        occupied: &Occupied,
    ) -> Result<(Vec<ec2::Subnet>, VlanId), ProviderError> {
        let (vpc, subnets) = self.world();
        let here = (
            vpc.vpc_id.as_str(),
            self.identity.availability_zone.as_str(),
        );
        let candidates = placement::candidates(&subnets, &request.subnets, here)?;
        let memory = self.memory();
        let of_tasks: HashSet<_> = occupied.enis().map(|eni| &eni.eni_id).collect();
        let of_nobody = memory.seen.iter().filter(|(id, _)| !of_tasks.contains(id));
        let of_nobody: BTreeSet<_> = of_nobody.map(|(_, vlan)| *vlan).collect();
        let taken = &of_nobody | &memory.leaving.vlans();
        let vlan = placement::vlan(occupied, &taken, self.most)?;
        Ok((candidates.into_iter().cloned().collect(), vlan))
    }

    async fn allocate(
        &self,
        request: &EniRequest,
        occupied: &Occupied,
    ) -> Result<Eni, ProviderError> {
        if let Some(eni) = occupied.eni(&request.attachment_id) {
            return Ok(eni.clone());
        }
        let (subnets, vlan) = self.place(request, occupied)?;
        let owner = Owner {
            cluster: self.cluster.clone(),
            instance_id: self.identity.instance_id.clone(),
            generation: self.generation.clone(),
            purpose: Purpose::Branch {
                attachment_id: request.attachment_id.clone(),
                vlan,
                trunk_id: self.trunk.id.clone(),
            },
        };
        let mut full = Vec::new();
        for subnet in &subnets {
            let step = format!("create {}", subnet.id);
            let new = NewInterface {
                subnet_id: subnet.id.clone(),
                groups: request.security_groups.clone(),
                description: format!("branchline {}", request.attachment_id),
                tags: owner.tags(),
                client_token: client_token(&request.attachment_id, &step),
                is_trunk: false,
                has_ipv6: subnet.ipv6.is_some(),
                has_primary_ipv6: subnet.ipv6.is_some() && subnet.ipv4.is_none(),
            };
            match self.ec2.create_network_interface(&new).await {
                Ok(interface) => return self.branch(&interface, subnet, request, vlan).await,
                Err(error) if error.class() == Class::Capacity => full.push(error.to_string()),
                Err(error) => return Err(failed("make an ENI", error)),
            }
        }
        Err(ProviderError::Exhausted(format!(
            "no ENI in any subnet: {}",
            full.join("; ")
        )))
    }

    /// The ENI that was just made, as a task's; one that cannot be is deleted again.
    async fn branch(
        &self,
        interface: &ec2::NetworkInterface,
        subnet: &ec2::Subnet,
        request: &EniRequest,
        vlan: VlanId,
    ) -> Result<Eni, ProviderError> {
        let (id, attachment) = (&interface.id, &request.attachment_id);
        match world::branch(interface, subnet, attachment, vlan, self.router_mac) {
            Ok(eni) => {
                self.memory().needed.extend(eni.groups.iter().cloned());
                Ok(eni)
            }
            Err(error) => {
                if let Err(error) = self.ec2.delete_network_interface(id).await {
                    tracing::warn!(eni = id, %error, "an ENI of no use stays; it is collected later");
                }
                Err(failed("make an ENI", error))
            }
        }
    }

    /// Puts a branch on the trunk. EC2 may not see it for a while after it was made.
    async fn attach(&self, eni: &Eni) -> Result<(), ProviderError> {
        let attempt = || format!("put {} on the trunk {}", eni.eni_id, self.trunk.id);
        let Some(vlan) = eni.vlan else {
            return Err(failed(attempt(), "it has no VLAN id"));
        };
        if self.memory().associations.contains_key(&eni.eni_id) {
            return Ok(());
        }
        let token = client_token(&eni.attachment_id, "associate");
        let association = self
            .settled(|| {
                self.ec2
                    .associate_trunk_interface(&eni.eni_id, &self.trunk.id, vlan.get(), &token)
            })
            .await
            .map_err(|error| failed(attempt(), error))?;
        let mut memory = self.memory();
        memory
            .associations
            .insert(eni.eni_id.clone(), association.id);
        Ok(())
    }

    /// Repeats a call while EC2 does not see yet what it needs, up to the deadline.
    async fn settled<T, F>(&self, call: impl Fn() -> F) -> Result<T, ec2::Error>
    where
        F: Future<Output = Result<T, ec2::Error>>,
    {
        let deadline = Instant::now() + self.deadline;
        for attempt in 0.. {
            let error = match call().await {
                Err(error) if error.class() == Class::Unsettled => error,
                answer => return answer,
            };
            let wait = back_off(Class::Unsettled, attempt, fastrand::f64());
            if Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::debug!(%error, wait_ms = wait.as_millis(), "EC2 has not settled");
            tokio::time::sleep(wait).await;
        }
        unreachable!("the loop ends by the deadline")
    }

    /// Takes a branch off the trunk, and lets it rest before it is deleted.
    async fn release(self: &Arc<Self>, eni: &Eni) -> Result<(), ProviderError> {
        if self.memory().leaving.has(&eni.eni_id) {
            return Ok(());
        }
        let attempt = || format!("take {} off the trunk {}", eni.eni_id, self.trunk.id);
        let error = |error| failed(attempt(), error);
        let association = self.association(&eni.eni_id, &eni.attachment_id, eni.vlan);
        if let Some(association) = association.await.map_err(error)? {
            self.disassociate(&eni.eni_id, &association)
                .await
                .map_err(error)?;
        }
        self.delete_later(eni.eni_id.clone(), eni.vlan);
        Ok(())
    }

    /// The association of a branch; asks EC2 for all if this agent did not make it.
    async fn association(
        &self,
        eni_id: &str,
        attachment_id: &str,
        vlan: Option<VlanId>,
    ) -> Result<Option<String>, ec2::Error> {
        if let Some(known) = self.memory().associations.get(eni_id) {
            return Ok(Some(known.clone()));
        }
        match self.ec2.describe_trunk_interface_associations().await {
            Ok(all) => Ok(all
                .into_iter()
                .find(|association| association.branch_id == eni_id)
                .map(|association| association.id)),
            Err(error) if is_refusal(&error) => self.ask_again(eni_id, attachment_id, vlan).await,
            Err(error) => Err(error),
        }
    }

    /// Where associations may not be listed: EC2 answers a repeated call with what the first one did.
    async fn ask_again(
        &self,
        eni_id: &str,
        attachment_id: &str,
        vlan: Option<VlanId>,
    ) -> Result<Option<String>, ec2::Error> {
        let Some(vlan) = vlan else {
            return Ok(None);
        };
        let token = client_token(attachment_id, "associate");
        let again = self
            .ec2
            .associate_trunk_interface(eni_id, &self.trunk.id, vlan.get(), &token)
            .await;
        match again {
            Ok(association) => Ok(Some(association.id)),
            Err(error) if is_gone(&error) => Ok(None),
            // It may not be put there either, so it hardly is.
            Err(error) if is_refusal(&error) => match self.interface(eni_id).await? {
                Some(interface) if interface.status != AVAILABLE => Err(error),
                Some(_) | None => Ok(None),
            },
            Err(error) => Err(error),
        }
    }

    async fn disassociate(&self, eni_id: &str, association: &str) -> Result<(), ec2::Error> {
        let token = client_token(association, "disassociate");
        let gone = self
            .ec2
            .disassociate_trunk_interface(association, &token)
            .await;
        match gone {
            Err(error) if !is_gone(&error) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.memory().associations.remove(eni_id);
        Ok(())
    }

    /// Deletes an ENI once it has rested. An agent that ends before leaves it to `collect` of the next.
    fn delete_later(self: &Arc<Self>, eni_id: String, vlan: Option<VlanId>) {
        self.memory().leaving.insert(&eni_id, vlan);
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(inner.cool_down).await;
            let deleted = inner
                .settled(|| inner.ec2.delete_network_interface(&eni_id))
                .await;
            let stays = deleted.err().filter(|error| !is_gone(error));
            let mut memory = inner.memory();
            memory.leaving.remove(&eni_id);
            memory.seen.retain(|(id, _)| *id != eni_id);
            if let Some(error) = stays {
                tracing::warn!(eni = eni_id, %error, "an ENI could not be deleted; it is collected later");
                memory.seen.extend(vlan.map(|vlan| (eni_id, vlan)));
            }
        });
    }

    /// Remembers what was seen of this instance's ENIs.
    fn note(&self, sight: &Sight) {
        let mut memory = self.memory();
        memory.foreign = sight.foreign();
        let on_trunk = sight
            .associations
            .iter()
            .flatten()
            .filter(|association| association.trunk_id == self.trunk.id);
        let on_trunk: Vec<_> = on_trunk.collect();
        let vlan = |interface: &ec2::NetworkInterface| match Owner::of(&interface.tags)?.purpose {
            Purpose::Branch { vlan, .. } => Some((interface.id.clone(), vlan)),
            Purpose::Trunk => None,
        };
        let of_others = on_trunk.iter().filter_map(|one| {
            let vlan = VlanId::try_from(one.vlan).ok()?;
            Some((one.branch_id.clone(), vlan))
        });
        memory.seen = sight
            .made
            .iter()
            .filter_map(vlan)
            .chain(of_others)
            .collect();
        let on_trunk = on_trunk.iter();
        let on_trunk = on_trunk.map(|one| (one.branch_id.clone(), one.id.clone()));
        memory.associations.extend(on_trunk);
        let groups = sight.made.iter();
        let groups = groups.flat_map(|interface| interface.groups.clone());
        memory.needed.extend(groups);
    }

    /// See [`Provider::collect`].
    async fn collect(self: &Arc<Self>, live: &HashSet<String>) -> Result<usize, ProviderError> {
        let sight = Sight::of(&self.ec2, &self.identity.instance_id).await;
        let sight = sight.map_err(|error| failed("look at this host's ENIs", error))?;
        self.note(&sight);
        let me = (self.identity.instance_id.as_str(), self.generation.as_str());
        let orphans = {
            let mut memory = self.memory();
            let made: Vec<_> = sight
                .made
                .into_iter()
                .filter(|interface| !memory.leaving.has(&interface.id))
                .collect();
            let sifted = sift(&memory.suspects, &made, live, me, now_ms());
            memory.suspects = sifted.suspects;
            sifted.orphans
        };
        let mut freed = 0;
        for orphan in orphans {
            tracing::warn!(eni = orphan.id, "an ENI of this host has no task; freed");
            match self.free(&orphan).await {
                Ok(()) => freed += 1,
                Err(error) => tracing::warn!(eni = orphan.id, %error, "not freed; tried again"),
            }
        }
        Ok(freed)
    }

    async fn free(self: &Arc<Self>, orphan: &ec2::NetworkInterface) -> Result<(), ec2::Error> {
        let owner = Owner::of(&orphan.tags).map(|owner| owner.purpose);
        let Some(Purpose::Branch {
            attachment_id,
            vlan,
            ..
        }) = owner
        else {
            return Ok(());
        };
        let association = self.association(&orphan.id, &attachment_id, Some(vlan));
        if let Some(association) = association.await? {
            self.disassociate(&orphan.id, &association).await?;
        }
        self.delete_later(orphan.id.clone(), Some(vlan));
        Ok(())
    }

    /// Groups, their rules where somebody here carries them, and the prefix lists that those name.
    async fn groups(&self) -> Result<Groups, ec2::Error> {
        let needed: Vec<_> = self.memory().needed.iter().cloned().collect();
        let (groups, rules) = tokio::try_join!(
            self.ec2.describe_security_groups(&self.identity.vpc_id),
            self.ec2.describe_security_group_rules(&needed),
        )?;
        let ids = world::referenced_lists(&rules);
        let mut prefix_lists = Vec::new();
        for list in self.ec2.describe_managed_prefix_lists(&ids).await? {
            let known = self.memory().lists.get(&list.id).cloned();
            let entries = match known {
                // Lists without versions are AWS's own, which change rarely and say nothing of it.
                Some((version, entries)) if version.is_some() && version == list.version => entries,
                Some(_) | None => {
                    let entries = self
                        .ec2
                        .managed_prefix_list_entries(&list.id, list.version)
                        .await?;
                    let known = (list.version, entries.clone());
                    self.memory().lists.insert(list.id.clone(), known);
                    entries
                }
            };
            prefix_lists.push((list, entries));
        }
        self.memory().lists.retain(|id, _| ids.contains(id));
        let groups = Groups {
            groups,
            needed: needed.into_iter().collect(),
            rules,
            prefix_lists,
        };
        self.world_mut().groups = groups.clone();
        Ok(groups)
    }

    /// Who carries the groups that rules here name, as those were last read; what is known then is kept.
    async fn members(&self) -> Result<Members, ec2::Error> {
        let named = {
            let world = self.world.read().unwrap_or_else(PoisonError::into_inner);
            world::referenced_groups(&world.groups.rules)
        };
        let mut found = Vec::new();
        for groups in named.chunks(FILTER_VALUES) {
            let filters: [(&str, &[String]); 1] = [("group-id", groups)];
            found.extend(self.ec2.describe_network_interfaces(&filters).await?);
        }
        let found = reading::bare(found);
        let members = world::members(&found);
        self.keep(found);
        Ok(members)
    }

    async fn interface(&self, eni_id: &str) -> Result<Option<ec2::NetworkInterface>, ec2::Error> {
        let ids = [eni_id.to_owned()];
        let filters: [(&str, &[String]); 1] = [("network-interface-id", &ids)];
        let found = self.ec2.describe_network_interfaces(&filters).await?;
        Ok(found.into_iter().next())
    }

    async fn state_of(&self, eni: &Eni) -> Result<EniState, ec2::Error> {
        Ok(match self.interface(&eni.eni_id).await? {
            Some(_) => EniState::Attached,
            None => EniState::Gone(format!("EC2 does not know {}", eni.eni_id)),
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
        Box::pin(self.inner.allocate(request, occupied))
    }

    fn try_allocate<'a>(
        &'a self,
        request: &'a EniRequest,
        _directory: &'a Directory,
        occupied: &'a Occupied,
    ) -> Pending<'a, ()> {
        Box::pin(async { self.inner.place(request, occupied).map(drop) })
    }

    fn attach<'a>(&'a self, eni: &'a Eni) -> Pending<'a, ()> {
        Box::pin(self.inner.attach(eni))
    }

    fn describe<'a>(&'a self, eni: &'a Eni) -> Pending<'a, EniState> {
        Box::pin(async {
            let state = self.inner.state_of(eni).await;
            state.map_err(|error| failed(format!("look at {}", eni.eni_id), error))
        })
    }

    fn release<'a>(&'a self, eni: &'a Eni) -> Pending<'a, ()> {
        Box::pin(self.inner.release(eni))
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
        let (_, subnets) = self.inner.world();
        let here = |subnet: &&ec2::Subnet| {
            subnet.availability_zone == self.inner.identity.availability_zone
        };
        let describe = |subnet: &ec2::Subnet| SubnetDescription {
            subnet_id: subnet.id.clone(),
            vpc_id: subnet.vpc_id.clone(),
            cidr_block: subnet.ipv4.map(|net| net.to_string()),
            ipv6_cidr_block: subnet.ipv6.map(|net| net.to_string()),
            availability_zone: Some(subnet.availability_zone.clone()),
            available_ip_address_count: match subnet.ipv4 {
                Some(_) => subnet.available.into(),
                // Of IPv6 alone there is no end.
                None => u64::MAX,
            },
        };
        subnets.iter().filter(here).map(describe).collect()
    }

    fn bounds(&self) -> Vec<Bound> {
        let trunk = Bound {
            resource: "branches".to_owned(),
            most: self.inner.most as u64,
            source: format!("the trunk {}", self.inner.trunk.id),
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
        self.inner.world().0
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

/// Whether what was to go is not there.
fn is_gone(error: &ec2::Error) -> bool {
    error.class() == Class::Gone
        || error.code.as_deref() == Some("InvalidNetworkInterfaceID.NotFound")
}
