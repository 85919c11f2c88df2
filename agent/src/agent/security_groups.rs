//! Security groups on request: what is in force, what a file would change, and its apply.
//!
//! An apply is checked as a whole, compiled and written beside what is in force, kept in the store, and only then
//! obeyed. It never lets an ENI obey what is not in the store.

use ipnet::IpNet;

use super::{Agent, requests::failed};
use crate::{
    api::{
        ApplyRequest, MOST_FLOWS, SecurityGroupDescription, SecurityGroupList,
        SecurityGroupsApplied, SecurityGroupsDiff,
    },
    config::ProviderKind,
    datapath::{Datapath, lock},
    field_error::FieldError,
    plug,
    policies::{Policies, PolicyError, Unsettled},
    policy::{CompileError, affected::PolicyChange},
    security_groups::{
        Applied, Directory, OwnVpc, SecurityGroup,
        change::{ApplyOptions, apply},
        diff::{DirectoryChange, diff},
        quotas,
    },
    server::{ControlError, causes},
    state::{StateError, Store},
    task,
};

/// The store's fact: what was applied.
const APPLIED_FACT: &str = "security_groups";

/// What was applied on this host, if anything was.
pub(super) fn applied(store: &Store) -> Result<Option<Applied>, StateError> {
    store.fact(APPLIED_FACT)
}

/// A file as it meets what is in force.
struct Plan {
    current: Directory,
    next: Directory,
    change: DirectoryChange,
    notes: Vec<String>,
    effect: PolicyChange,
}

impl Agent {
    pub(super) fn list_security_groups(&self) -> SecurityGroupList {
        let plugs = self.host.plugs();
        let policies = plugs.policies();
        SecurityGroupList::of(policies.directory(), policies.members())
    }

    pub(super) fn show_security_group(
        &self,
        id: &str,
    ) -> Result<SecurityGroupDescription, ControlError> {
        let plugs = self.host.plugs();
        let policies = plugs.policies();
        let directory = policies.directory();
        let group = directory.groups.get(id);
        let group = group.ok_or_else(|| ControlError::UnknownGroup(id.to_owned()))?;
        let (members, cut_on_revoke) = (policies.members(), policies.cut_on_revoke());
        Ok(SecurityGroupDescription::of(
            group,
            directory,
            members,
            cut_on_revoke,
        ))
    }

    pub(super) async fn apply(
        &self,
        request: &ApplyRequest,
    ) -> Result<SecurityGroupsApplied, ControlError> {
        if self.config.provider == ProviderKind::Ec2 {
            return Err(ControlError::Conflict(format!(
                "security_groups: they are EC2's on this host; change them there, and they are in force here within \
                 {} s",
                self.config.ec2.poll
            )));
        }
        // No task is given a group that this takes away, and no other apply comes between.
        let _one_at_a_time = self.allocation.lock().await;
        let Plan {
            current,
            next,
            change,
            notes,
            effect,
        } = self.plan(request)?;
        let network_interfaces = effect.network_interfaces();
        if !change.is_empty() {
            let unsettled = {
                let mut plugs = self.host.plugs();
                let mut enforcer = Enforcer {
                    policies: plugs.policies_mut(),
                    datapath: &mut lock(&self.host.datapath),
                };
                put_in_force(&self.store, &mut enforcer, &current, next).map_err(refused)?
            };
            task::settle(&self.host, unsettled);
            tracing::info!(network_interfaces, "security groups applied");
        }
        Ok(SecurityGroupsApplied {
            change,
            notes,
            network_interfaces,
        })
    }

    pub(super) async fn diff(
        &self,
        request: &ApplyRequest,
    ) -> Result<SecurityGroupsDiff, ControlError> {
        let plan = self.plan(request)?;
        let slots = self.host.plugs().slots().clone();
        let (tables, now) = {
            let mut datapath = lock(&self.host.datapath);
            (datapath.flow_tables(), datapath.ticks().map_err(failed)?)
        };
        let mut flows = Vec::new();
        let eni_id = |slot| slots.get(&slot).cloned();
        tables
            .for_each(|key, entry| flows.extend(plan.effect.affects(key, entry, now, eni_id)))
            .map_err(failed)?;
        // Both directions of an untracked flow have a row.
        flows.sort_unstable();
        flows.dedup();
        let flow_count = flows.len();
        flows.truncate(MOST_FLOWS);
        Ok(SecurityGroupsDiff {
            change: plan.change,
            notes: plan.notes,
            network_interfaces: plan.effect.network_interfaces(),
            flow_count,
            flows,
        })
    }

    /// Checks a file beside what is in force, for every ENI that the store knows.
    fn plan(&self, request: &ApplyRequest) -> Result<Plan, ControlError> {
        let tasks = self.tasks.tasks();
        let plugs = self.host.plugs();
        let policies = plugs.policies();
        let current = Directory::clone(policies.directory());
        let mut members = policies.members().clone();
        // An ENI that is on its way counts as well.
        for task in &tasks {
            let groups = task.eni.groups.iter().cloned();
            members.insert(&task.eni.eni_id, groups, plug::networks(&task.eni));
        }
        let is_ipv6 = |cidr: &IpNet| matches!(cidr, IpNet::V6(_));
        let vpc = self.host.provider.vpc();
        let options = ApplyOptions {
            vpc: OwnVpc {
                vpc_id: &vpc.vpc_id,
                has_ipv6: vpc.cidrs().iter().any(is_ipv6),
            },
            prune: request.prune,
            members: &members,
        };
        let (next, mut notes) =
            apply(&current, &request.file, options).map_err(ControlError::Invalid)?;
        let sets = policies.sets().map(|(set, _)| set);
        notes.extend(check_quotas(sets, &next).map_err(ControlError::Invalid)?);
        let (sets, cut_on_revoke) = (policies.sets(), policies.cut_on_revoke());
        let effect = PolicyChange::of(&current, &next, policies.members(), sets, cut_on_revoke);
        let effect = effect.map_err(|error| refused(error.into()))?;
        Ok(Plan {
            change: diff(&current, &next),
            current,
            next,
            notes,
            effect,
        })
    }
}

/// A sentence for each of EC2's quotas that the groups of an ENI exceed.
///
/// # Errors
/// The first set of groups that an ENI cannot have.
fn check_quotas<'a>(
    sets: impl Iterator<Item = &'a [String]>,
    directory: &Directory,
) -> Result<Vec<String>, FieldError> {
    let mut notes = Vec::new();
    for set in sets {
        let groups = set.iter().filter_map(|id| directory.groups.get(id));
        let groups: Vec<&SecurityGroup> = groups.collect();
        let checked = quotas::check(&groups, directory);
        notes.extend(
            checked.map_err(|error| FieldError::new("security_groups", error.to_string(), ""))?,
        );
    }
    Ok(notes)
}

/// What obeys a directory.
trait Enforce {
    /// What a change leaves to be settled.
    type Left;

    /// Prepares all of `directory`, calls `commit`, and obeys it; obeys what it did before on an error.
    fn enforce(
        &mut self,
        directory: Directory,
        commit: impl FnOnce() -> Result<(), PolicyError>,
    ) -> Result<Self::Left, PolicyError>;
}

/// The policies in the maps.
struct Enforcer<'a> {
    policies: &'a mut Policies,
    datapath: &'a mut Datapath,
}

impl Enforce for Enforcer<'_> {
    type Left = Unsettled;

    fn enforce(
        &mut self,
        directory: Directory,
        commit: impl FnOnce() -> Result<(), PolicyError>,
    ) -> Result<Unsettled, PolicyError> {
        self.policies
            .set_directory(self.datapath, directory, commit)
    }
}

/// Puts `next` in the place of `current`, here and at the next start. A stop anywhere leaves a store by which the next
/// start has one of the two whole.
fn put_in_force<E: Enforce>(
    store: &Store,
    enforcer: &mut E,
    current: &Directory,
    next: Directory,
) -> Result<E::Left, PolicyError> {
    let before = applied(store)?;
    let after = Applied::after(before.clone(), current, &next);
    let mut is_kept = false;
    let enforced = enforcer.enforce(next, || {
        is_kept = true;
        Ok(store.put_fact(APPLIED_FACT, &after)?)
    });
    if enforced.is_err() && is_kept {
        let restored = match &before {
            Some(before) => store.put_fact(APPLIED_FACT, before),
            None => store.remove_fact(APPLIED_FACT),
        };
        if let Err(error) = restored {
            let error = causes(&error);
            tracing::error!(error, "a failed apply stays in the store; apply again");
        }
    }
    enforced
}

fn refused(error: PolicyError) -> ControlError {
    refused_as("security_groups", error)
}

/// As the API says what is wrong with `field`, which names groups or what they are.
pub(super) fn refused_as(field: &str, error: PolicyError) -> ControlError {
    match &error {
        PolicyError::Full | PolicyError::Compile(CompileError::NoRoom { .. }) => {
            ControlError::Exhausted(causes(&error))
        }
        PolicyError::Compile(CompileError::TooManyRules { .. })
        | PolicyError::UnknownGroup { .. } => {
            ControlError::Invalid(FieldError::new(field, error.to_string(), ""))
        }
        PolicyError::Store(_) | PolicyError::Datapath(_) => failed(error),
    }
}

#[cfg(test)]
#[path = "security_groups_tests.rs"]
mod tests;
