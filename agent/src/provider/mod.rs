//! Who hands out ENIs: one trait for the embedded VPC and for EC2.
//!
//! A provider never touches the store, links or the data plane; `task` joins them.

pub mod ec2;
mod eni;
pub mod local;
mod measured;
mod occupied;
mod route_table;
pub mod vpc;

pub use eni::{Device, Eni, MacAddress, NoDevice, NoMacAddress, NoVlanId, VlanId};
pub use measured::Measured;
pub use occupied::{Names, Occupied};
pub use route_table::{RouteTable, RouteTables, RouteTarget};

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::pin::Pin;
use std::sync::Arc;

use self::vpc::Vpc;
use crate::api::SubnetDescription;
use crate::capacity::Bound;
use crate::field_error::FieldError;
use crate::security_groups::{Directory, Members};

/// What a provider's method returns: boxed, so that the agent can hold any provider as `dyn Provider`.
///
/// An ENI is allocated once per task, so the allocation of the box does not matter.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, ProviderError>> + Send + 'a>>;

/// A task's wish for an ENI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EniRequest {
    /// UUID of the attachment, made once per task: repeats of one request carry the same.
    pub attachment_id: String,
    /// 1 to 16 subnets in order of preference.
    pub subnets: Vec<String>,
    /// 0 to 16 group ids; none means the VPC's default group.
    pub security_groups: Vec<String>,
}

/// What a provider says of an ENI that a task has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EniState {
    /// It is this task's and carries traffic.
    Attached,
    /// It is gone or no longer what the store says, and why.
    Gone(String),
}

/// ENIs that wait for tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmPool {
    /// How many shall wait.
    pub wanted: u32,
    /// Those that do.
    pub enis: Vec<Eni>,
    /// Tasks that got one since the agent started.
    pub hits: u64,
    /// Tasks that got none.
    pub misses: u64,
}

/// Why a provider could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The request can never be met as it is.
    #[error("{0}")]
    Invalid(FieldError),
    /// Nothing is left to hand out; may work again when tasks have gone.
    #[error("{0}")]
    Exhausted(String),
    /// The provider itself failed.
    #[error("{attempt}")]
    Failed {
        /// What was attempted, on what.
        attempt: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Hands out ENIs and security groups.
///
/// Every method is idempotent, so that a task interrupted anywhere can be resumed.
pub trait Provider: Send + Sync {
    /// Makes an ENI that differs from all that `occupied` has, the ENIs the store has for this host; what cools down
    /// is taken only where nothing else is left. Its groups are of `directory`, which is in force.
    ///
    /// The caller allocates one at a time and stores the answer before the next call.
    ///
    /// # Errors
    /// `Invalid` for an unknown subnet or group, `Exhausted` when subnets or the trunk are full.
    fn allocate<'a>(
        &'a self,
        request: &'a EniRequest,
        directory: &'a Directory,
        occupied: &'a Occupied,
    ) -> Pending<'a, Eni>;

    /// Whether `allocate` would make an ENI now; makes none.
    ///
    /// # Errors
    /// As `allocate`.
    fn try_allocate<'a>(
        &'a self,
        request: &'a EniRequest,
        directory: &'a Directory,
        occupied: &'a Occupied,
    ) -> Pending<'a, ()>;

    /// Connects `eni` to this host: puts it on the trunk, or attaches it to the instance, where its link may take a
    /// while to appear.
    ///
    /// # Errors
    /// `Failed` if the ENI cannot be attached.
    fn attach<'a>(&'a self, eni: &'a Eni) -> Pending<'a, ()>;

    /// Compares `eni` with what the provider has.
    ///
    /// # Errors
    /// `Failed` if the provider cannot tell.
    fn describe<'a>(&'a self, eni: &'a Eni) -> Pending<'a, EniState>;

    /// Detaches and frees `eni`; one that is gone already is success.
    ///
    /// # Errors
    /// `Failed` if the ENI may still exist.
    fn release<'a>(&'a self, eni: &'a Eni) -> Pending<'a, ()>;

    /// Gives the ENI the groups that `eni` has, 1 to 16 of `directory` or of what the provider knows itself, in place
    /// of those that it has.
    ///
    /// # Errors
    /// `Invalid` if it cannot have them, and nothing has changed; `Failed` if it may have them or not.
    fn set_groups<'a>(&'a self, eni: &'a Eni, directory: &'a Directory) -> Pending<'a, ()>;

    /// Groups of this host's ENIs by ENI, as the last look found them; none of whom it does not know, or whose groups
    /// were set a moment ago and may not be seen yet.
    fn groups_of_enis(&self) -> BTreeMap<String, Vec<String>>;

    /// Groups whose rules every [`Provider::describe_security_groups`] tells, whether an ENI has them or not, and the
    /// last one did.
    fn groups_read(&self) -> BTreeSet<String>;

    /// ENIs that wait for tasks; `None` where none ever do.
    fn warm_pool(&self) -> Option<WarmPool>;

    /// Whether one more ENI is to be made for the pool now, beside what `occupied` has; its place is nobody else's from
    /// then on. The caller calls it as it calls `allocate`, and [`Provider::fill_pool`] after it.
    ///
    /// # Errors
    /// `Exhausted`, or `Failed` if there is no place.
    fn plan_pool(&self, occupied: &Occupied) -> Result<bool, ProviderError>;

    /// Makes what was planned; beside it ENIs may be allocated.
    ///
    /// # Errors
    /// As `allocate` and `attach`; nothing is planned any more.
    fn fill_pool<'a>(&'a self) -> Pending<'a, ()>;

    /// Frees ENIs of this host that none of the attachments in `live` has, once that is beyond doubt; returns how
    /// many it freed. Called now and then.
    ///
    /// # Errors
    /// `Failed` if the provider cannot tell which ENIs there are.
    fn collect<'a>(&'a self, live: &'a HashSet<String>) -> Pending<'a, usize>;

    /// The groups and prefix lists that the VPC has before any are applied on this host.
    ///
    /// # Errors
    /// `Failed` if the provider cannot tell.
    fn describe_security_groups<'a>(&'a self) -> Pending<'a, Directory>;

    /// Who carries which group elsewhere in the VPC; this host's ENIs may be among them or not.
    ///
    /// # Errors
    /// `Failed` if the provider cannot tell.
    fn describe_members<'a>(&'a self) -> Pending<'a, Members>;

    /// Looks anew at what `vpc`, `route_tables` and `describe_subnets` tell.
    ///
    /// # Errors
    /// `Failed` if the provider cannot tell; what was known stays.
    fn refresh<'a>(&'a self) -> Pending<'a, ()>;

    /// The VPC's subnets, and how many addresses each has left beside what `occupied` has.
    fn describe_subnets(&self, occupied: &Occupied) -> Vec<SubnetDescription>;

    /// What bounds the number of ENIs, besides addresses.
    fn bounds(&self) -> Vec<Bound>;

    /// ENIs of this host that are not its tasks'.
    fn foreign_enis(&self) -> u64;

    /// The VPC as it is now; what a task was told of it at its start stays with the task.
    fn vpc(&self) -> Arc<Vpc>;

    /// Which way packets leave the VPC's subnets.
    fn route_tables(&self) -> RouteTables;

    /// Its name in the configuration.
    fn name(&self) -> &'static str;
}
