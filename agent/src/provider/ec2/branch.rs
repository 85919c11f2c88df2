//! A task's ENI: made, put on the trunk, taken off it, deleted once it has rested; and freed where its task is no more.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use branchline_ec2::{self as ec2, Class, client_token};

use super::orphans::sift;
use super::owner::{Owner, Purpose};
use super::sight::Sight;
use super::{AVAILABLE, Inner, failed, is_refusal, placement};
use crate::progress::now_ms;
use crate::provider::{Eni, EniRequest, EniState, Occupied, ProviderError, VlanId};

/// What the trunk carries.
pub(super) struct Carried {
    /// Branches that cannot give way to a task.
    pub(super) count: usize,
    /// VLAN ids that no new branch may have.
    pub(super) vlans: BTreeSet<VlanId>,
}

impl Inner {
    /// What the trunk carries beside what waits for tasks; what rests is off it, and only its VLAN ids are taken.
    pub(super) fn carried(&self, occupied: &Occupied) -> Carried {
        let memory = self.memory();
        let of_tasks: HashSet<_> = occupied.enis().map(|eni| &eni.eni_id).collect();
        let is_nobodys =
            |id: &String| !(of_tasks.contains(id) || memory.leaving.has(id) || memory.pool.has(id));
        let of_nobody = memory.seen.iter().filter(|(id, _)| is_nobodys(id));
        let of_nobody: BTreeSet<_> = of_nobody.map(|(_, vlan)| *vlan).collect();
        Carried {
            count: occupied.len() + of_nobody.len(),
            vlans: &(&of_nobody | &memory.leaving.vlans()) | &memory.pool.vlans(),
        }
    }

    /// A VLAN id for one more branch.
    fn place(&self, occupied: &Occupied) -> Result<VlanId, ProviderError> {
        let carried = self.carried(occupied);
        placement::vlan(occupied, &carried.vlans, carried.count, self.most)
    }

    /// See [`Provider::try_allocate`](crate::provider::Provider::try_allocate).
    pub(super) fn try_allocate(
        &self,
        request: &EniRequest,
        occupied: &Occupied,
    ) -> Result<(), ProviderError> {
        let subnets = self.candidates(request)?;
        if self.is_in_pool(&subnets) {
            return Ok(());
        }
        self.place(occupied).map(drop)
    }

    pub(super) async fn allocate(
        self: &Arc<Self>,
        request: &EniRequest,
        occupied: &Occupied,
    ) -> Result<Eni, ProviderError> {
        if let Some(eni) = occupied.eni(&request.attachment_id) {
            return Ok(eni.clone());
        }
        let subnets = self.candidates(request)?;
        if let Some(eni) = self.take_waiting(&subnets, request).await? {
            return Ok(eni);
        }
        let vlan = self.place(occupied)?;
        let waiting = self.memory().pool.len();
        if self.carried(occupied).count + waiting >= self.most {
            self.make_room().await?;
        }
        let purpose = self.purpose_of_branch(request, vlan, None);
        self.create(&subnets, request, purpose).await
    }

    /// Puts a branch on the trunk. EC2 may not see it for a while after it was made.
    pub(super) async fn attach(&self, eni: &Eni) -> Result<(), ProviderError> {
        let attempt = || format!("put {} on the trunk {}", eni.eni_id, self.trunk_id());
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
                    .associate_trunk_interface(&eni.eni_id, self.trunk_id(), vlan.get(), &token)
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
    pub(super) async fn settled<T, F>(&self, call: impl Fn() -> F) -> Result<T, ec2::Error>
    where
        F: Future<Output = Result<T, ec2::Error>>,
    {
        let deadline = Instant::now() + self.deadline;
        for attempt in 0.. {
            let error = match call().await {
                Err(error) if error.class() == Class::Unsettled => error,
                answer => return answer,
            };
            pause(attempt, deadline, error).await?;
        }
        unreachable!("the loop ends by the deadline")
    }

    /// Takes a branch off the trunk, and lets it rest before it is deleted.
    pub(super) async fn release(self: &Arc<Self>, eni: &Eni) -> Result<(), ProviderError> {
        if self.memory().leaving.has(&eni.eni_id) {
            return Ok(());
        }
        let attempt = || format!("take {} off the trunk {}", eni.eni_id, self.trunk_id());
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
            .associate_trunk_interface(eni_id, self.trunk_id(), vlan.get(), &token)
            .await;
        match again {
            Ok(association) => Ok(Some(association.id)),
            Err(error) if is_gone(&error) => Ok(None),
            // It may not be put there either, so it hardly is.
            Err(error) if is_refusal(&error) => {
                match self.ec2.describe_network_interface(eni_id).await? {
                    Some(interface) if interface.status != AVAILABLE => Err(error),
                    Some(_) | None => Ok(None),
                }
            }
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
    pub(super) fn note(&self, sight: &Sight) {
        self.note_groups(&sight.made);
        self.note_pool(sight);
        let mut memory = self.memory();
        memory.foreign = self.foreign(sight);
        memory.note_devices(sight);
        let on_trunk = sight
            .associations
            .iter()
            .flatten()
            .filter(|association| association.trunk_id == self.trunk_id());
        let on_trunk: Vec<_> = on_trunk.collect();
        let vlan = |interface: &ec2::NetworkInterface| match Owner::of(&interface.tags)?.purpose {
            Purpose::Branch { vlan, .. } => Some((interface.id.clone(), vlan)),
            Purpose::Trunk | Purpose::Whole { .. } => None,
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
    pub(super) async fn collect(
        self: &Arc<Self>,
        live: &HashSet<String>,
    ) -> Result<usize, ProviderError> {
        let sight = Sight::of(&self.ec2, &self.identity.instance_id, self.trunk.is_some()).await;
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
            let mut live = live.clone();
            live.extend(memory.pool.attachments().cloned());
            let sifted = sift(&memory.suspects, &made, &live, me, now_ms());
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
        if let Some(Purpose::Whole { device, .. }) = owner {
            return self.free_whole(orphan, device).await;
        }
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

    pub(super) async fn state_of(&self, eni: &Eni) -> Result<EniState, ec2::Error> {
        Ok(
            match self.ec2.describe_network_interface(&eni.eni_id).await? {
                Some(interface) if eni.device.is_some() && interface.attachment.is_none() => {
                    EniState::Gone(format!("{} is attached nowhere", eni.eni_id))
                }
                Some(_) => EniState::Attached,
                None => EniState::Gone(format!("EC2 does not know {}", eni.eni_id)),
            },
        )
    }
}

/// Waits before EC2 is asked again for what it does not see yet.
///
/// # Errors
/// `error`, if it is too late for that.
pub(super) async fn pause(
    attempt: u32,
    deadline: Instant,
    error: ec2::Error,
) -> Result<(), ec2::Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    let Some(wait) = ec2::pause(Class::Unsettled, attempt, fastrand::f64(), left) else {
        return Err(error);
    };
    tracing::debug!(%error, wait_ms = wait.as_millis(), "EC2 has not settled");
    tokio::time::sleep(wait).await;
    Ok(())
}

/// Whether what was to go is not there.
pub(super) fn is_gone(error: &ec2::Error) -> bool {
    error.class() == Class::Gone
        || error.code.as_deref() == Some("InvalidNetworkInterfaceID.NotFound")
}
