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
mod start;
mod trunk;
mod warm;
mod whole;
mod world;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use branchline_ec2::{self as ec2, Ec2, Identity};

use self::groups::SetHere;
use self::leaving::Leaving;
use self::orphans::Suspects;
use self::pool::Pool;
pub use self::preflight::{Preflight, Verdict, preflight};
use self::reading::Surroundings;
pub use self::reading::{Keeper, Kept};
pub use self::start::{Beginning, Ec2Error, Known};
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
use crate::config::WarmPoolConfig;
use crate::security_groups::{Directory, Members};

/// EC2's status of an ENI that is nowhere.
const AVAILABLE: &str = "available";

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
    /// The MAC address of the trunk ENI, by which its link is found; `None` where each ENI has a link of its own.
    #[must_use]
    pub fn trunk_mac(&self) -> Option<MacAddress> {
        self.inner.trunk.as_ref().map(|trunk| trunk.mac)
    }
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
