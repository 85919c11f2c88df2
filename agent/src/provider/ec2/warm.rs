//! Branches made ahead of tasks: filled in the background, handed out, taken over from an earlier agent.
//!
//! A branch keeps the attachment that it was made for, which becomes its task's: so its tags are right from the first
//! moment, and no call changes them when it is handed out. Which branches tasks have or had the task store knows; the
//! tag of the pool names that store. A branch that is not on the trunk is never taken for one that waits: it may be one
//! that a task had and that rests. What no store and no pool has is freed as every ENI without a task is.
//!
//! Until EC2 has seen which groups a branch was given, its own enforcement may be of the pool's groups; that of this
//! host is of the task's from the first packet on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use branchline_ec2::{self as ec2, Class};

use super::groups::wrong_groups;
use super::making::GROUPS;
use super::owner::{Owner, Purpose};
use super::pool::Place;
use super::sight::Sight;
use super::{AVAILABLE, Inner, failed, placement, world};
use crate::config::WarmPoolConfig;
use crate::progress::now_ms;
use crate::provider::local::new_attachment_id;
use crate::provider::{Eni, EniRequest, Occupied, ProviderError, VlanId, WarmPool};

/// EC2's name of a VPC's default group.
const DEFAULT: &str = "default";

impl Inner {
    /// A branch that waits, for a request that may have it; `None` if none does.
    pub(super) async fn take_waiting(
        &self,
        subnets: &[ec2::Subnet],
        request: &EniRequest,
    ) -> Result<Option<Eni>, ProviderError> {
        if self.warm.is_none() {
            return Ok(None);
        }
        let groups = self.groups_or_default(&request.security_groups);
        if groups.is_empty() {
            return Ok(None);
        }
        while let Some(eni) = self.take(subnets, &groups) {
            if eni.groups.iter().collect::<BTreeSet<_>>() == groups.iter().collect() {
                self.memory().pool.hits += 1;
                return Ok(Some(eni));
            }
            let given = Eni {
                groups: groups.iter().cloned().collect(),
                ..eni.clone()
            };
            match self.ec2.set_groups(&eni.eni_id, &given.groups).await {
                Ok(()) => {
                    let mut memory = self.memory();
                    memory.pool.hits += 1;
                    memory.gave_groups(&given);
                    return Ok(Some(given));
                }
                Err(error) if error.class() == Class::Unsettled => {
                    tracing::warn!(eni = eni.eni_id, %error, "a branch that waited is not there any more");
                }
                Err(error) if error.class().is_repeatable() => {
                    self.memory().pool.insert_doubtful(eni, now_ms());
                    return Err(failed("give a branch that waits its groups", error));
                }
                Err(error) => {
                    self.memory().pool.insert(eni, now_ms());
                    if let Some(wrong) = wrong_groups(GROUPS, &error) {
                        return Err(wrong);
                    }
                    tracing::warn!(%error, "a branch that waits cannot be given other groups; one is made");
                    break;
                }
            }
        }
        self.memory().pool.misses += 1;
        Ok(None)
    }

    fn take(&self, subnets: &[ec2::Subnet], groups: &BTreeSet<String>) -> Option<Eni> {
        let subnets = subnets.iter().map(|subnet| subnet.id.as_str());
        self.memory().pool.take(subnets, groups)
    }

    /// Whether [`Inner::take_waiting`] would have one.
    pub(super) fn is_in_pool(&self, subnets: &[ec2::Subnet]) -> bool {
        let subnets = subnets.iter().map(|subnet| subnet.id.as_str());
        let chosen = self.memory().pool.choose(subnets, &BTreeSet::new());
        chosen.is_some()
    }

    /// The groups that EC2 gives to a request: none are the VPC's default group, if that was read.
    fn groups_or_default(&self, groups: &[String]) -> BTreeSet<String> {
        if !groups.is_empty() {
            return groups.iter().cloned().collect();
        }
        let world = self.world();
        let mut known = world.groups.groups.iter();
        let default = known.find(|group| group.name == DEFAULT && group.vpc_id == world.vpc.vpc_id);
        default.map(|group| group.id.clone()).into_iter().collect()
    }

    /// Groups of the pool whose rules are read at each look, whether a task has them or not.
    pub(super) fn pool_groups_read(&self) -> BTreeSet<String> {
        let Some(warm) = &self.warm else {
            return BTreeSet::new();
        };
        let groups = self.groups_or_default(&warm.security_groups);
        &groups & &self.world().groups.needed
    }

    /// Takes a branch that waits off the trunk: a task has the room that it takes up.
    pub(super) async fn make_room(self: &Arc<Self>) -> Result<(), ProviderError> {
        // One that is being made waits then.
        let _filling = self.filling.lock().await;
        let taken = self.memory().pool.take_any();
        let Some(eni) = taken else { return Ok(()) };
        self.release(&eni).await
    }

    /// Chooses the place of one more branch, where one is short and EC2's buckets are half full at least: what tasks
    /// need is not spent. The caller holds what keeps two choices apart.
    pub(super) fn plan_pool(&self, occupied: &Occupied) -> Result<bool, ProviderError> {
        let Some(warm) = &self.warm else {
            return Ok(false);
        };
        let carried = self.carried(occupied);
        let is_short = {
            let pool = &self.memory().pool;
            pool.is_short(warm.branches as usize, carried.count, self.most)
        };
        if !is_short || !self.ec2.has_spare_turns_for_branches() {
            return Ok(false);
        }
        let vlan = placement::vlan(occupied, &carried.vlans, carried.count, self.most)?;
        let attachment_id = new_attachment_id();
        let attachment_id = attachment_id.map_err(|error| failed("make a random id", error))?;
        self.memory().pool.making = Some(Place {
            attachment_id,
            vlan,
        });
        Ok(true)
    }

    /// Makes the branch that was planned, and puts it on the trunk.
    pub(super) async fn fill_pool(self: &Arc<Self>) -> Result<(), ProviderError> {
        let _filling = self.filling.lock().await;
        let place = self.memory().pool.making.clone();
        let (Some(place), Some(warm)) = (place, &self.warm) else {
            return Ok(());
        };
        let made = self.make_waiting(warm, &place).await;
        let mut memory = self.memory();
        memory.pool.making = None;
        let eni = made?;
        memory.needed.extend(eni.groups.iter().cloned());
        memory.pool.insert(eni, now_ms());
        Ok(())
    }

    async fn make_waiting(
        self: &Arc<Self>,
        warm: &WarmPoolConfig,
        place: &Place,
    ) -> Result<Eni, ProviderError> {
        let request = EniRequest {
            attachment_id: place.attachment_id.clone(),
            subnets: warm.subnets.clone(),
            security_groups: warm.security_groups.clone(),
        };
        let subnets = self.candidates(&request)?;
        let pool = Some(self.pool_id.clone());
        let purpose = self.purpose_of_branch(&request, place.vlan, pool);
        let eni = self.create(&subnets, &request, purpose).await?;
        if let Err(error) = self.attach(&eni).await {
            // It may be on the trunk all the same.
            if let Err(error) = self.release(&eni).await {
                tracing::warn!(eni = eni.eni_id, %error, "collected later");
            }
            return Err(error);
        }
        Ok(eni)
    }

    /// What a look found of branches that wait; the first time, what an earlier agent left.
    pub(super) fn note_pool(&self, sight: &Sight) {
        let Some(warm) = &self.warm else { return };
        let vlans = sight.associations.as_ref().map(|all| {
            let own = all.iter().filter(|one| one.trunk_id == self.trunk_id());
            own.map(|one| (one.branch_id.as_str(), one.vlan)).collect()
        });
        let is_on_trunk = |interface: &ec2::NetworkInterface, vlan: VlanId| match &vlans {
            Some(vlans) => {
                let vlans: &BTreeMap<&str, u16> = vlans;
                vlans.get(interface.id.as_str()) == Some(&vlan.get())
            }
            None => interface.status != AVAILABLE,
        };
        let waiting = |interface: &ec2::NetworkInterface| {
            let (attachment_id, vlan) = self.waiting(interface)?;
            is_on_trunk(interface, vlan).then_some((attachment_id, vlan))
        };
        let is_wanted = |interface: &&ec2::NetworkInterface| {
            let has: BTreeSet<_> = interface.groups.iter().collect();
            let is_same = has == warm.security_groups.iter().collect();
            warm.subnets.contains(&interface.subnet_id)
                && (is_same || warm.security_groups.is_empty())
        };
        let eni = |interface: &ec2::NetworkInterface| {
            let (attachment_id, vlan) = waiting(interface)?;
            let world = self.world();
            let mut subnets = world.surroundings.subnets.iter();
            let subnet = subnets.find(|subnet| subnet.id == interface.subnet_id)?;
            world::branch(
                interface,
                subnet,
                &attachment_id,
                Some(vlan),
                self.router_mac,
            )
            .ok()
        };
        let enis: Vec<_> = sight
            .made
            .iter()
            .filter(is_wanted)
            .filter_map(eni)
            .collect();
        let found = sight.made.iter();
        let found = found.filter(|interface| waiting(interface).is_some());
        let found = found.map(|interface| (interface.id.as_str(), interface.groups.as_slice()));
        let found = found.collect();
        let mut memory = self.memory();
        if !memory.pool.is_adopted {
            let wanted = warm.branches as usize;
            memory
                .pool
                .adopt(enis, &self.tasks_before, wanted, now_ms());
        }
        for id in memory.pool.looked(&found, now_ms()) {
            tracing::warn!(eni = id, "a branch that waited is not there any more");
        }
    }

    /// For whom and on which VLAN an ENI was made, if it was for the pool of this task store and trunk.
    fn waiting(&self, interface: &ec2::NetworkInterface) -> Option<(String, VlanId)> {
        let owner = Owner::of(&interface.tags)?;
        match owner.purpose {
            Purpose::Branch {
                attachment_id,
                vlan,
                trunk_id,
                pool: Some(pool),
            } if pool == self.pool_id && trunk_id == self.trunk_id() => Some((attachment_id, vlan)),
            Purpose::Branch { .. } | Purpose::Whole { .. } | Purpose::Trunk => None,
        }
    }

    /// See [`Provider::warm_pool`](crate::provider::Provider::warm_pool).
    pub(super) fn warm_pool(&self) -> Option<WarmPool> {
        let warm = self.warm.as_ref()?;
        let memory = self.memory();
        Some(WarmPool {
            wanted: warm.branches,
            enis: memory.pool.enis().cloned().collect(),
            hits: memory.pool.hits,
            misses: memory.pool.misses,
        })
    }
}
