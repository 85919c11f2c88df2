//! A task's ENI with a link of its own (`ec2.mode = "eni"`): made, attached to the instance, detached, deleted.
//!
//! One task: `allocate` chooses a free device (network card and index, below the instance type's limits and beside what
//! is attached already) and calls CreateNetworkInterface, with the device in the tags; `attach` calls
//! AttachNetworkInterface and sets DeleteOnTermination, so that the ENI goes with its instance; then the task waits for
//! the link (`eni_link`), as `attached` is only what the API says. `release` calls DetachNetworkInterface; once the link
//! has gone and EC2 says so too, DeleteNetworkInterface frees the device, behind everybody's back: reused earlier it
//! fails.
//!
//! Attachments have no client token. Whoever is not answered, or told that the ENI is in use, describes it and adopts the
//! attachment that it finds. Nothing is ever detached by force: the guest would keep stale state. An agent that was
//! killed in between leaves an ENI whose tags name no task, which `collect` frees as it does a branch.

use std::collections::BTreeSet;
use std::fmt::{self, Debug};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use branchline_ec2::{self as ec2, Class};
use tokio::time::timeout;

use super::branch::{is_gone, pause};
use super::device::{self, Room};
use super::owner::{Owner, Purpose};
use super::sight::Sight;
use super::{Inner, Memory, failed};
use crate::capacity::Bound;
use crate::netlink::NetlinkError;
use crate::provider::{Device, Eni, EniRequest, MacAddress, Occupied, ProviderError};

/// EC2's status of an attachment that ends.
const DETACHING: &str = "detaching";
/// How long a detached ENI's link may stay until EC2 is asked whether the ENI is attached still.
const DEPARTURE_PATIENCE: Duration = Duration::from_secs(10);

/// What [`Departure`] waits by.
type Gone = Pin<Box<dyn Future<Output = Result<(), NetlinkError>> + Send>>;

/// Waits until this host has no link with a MAC address any more. The provider itself touches no links.
pub struct Departure(pub Box<dyn Fn(MacAddress) -> Gone + Send + Sync>);

impl Debug for Departure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Departure").finish_non_exhaustive()
    }
}

impl Memory {
    /// Remembers what was seen of attachments and devices. What leaves keeps its device until it is deleted.
    pub(super) fn note_devices(&mut self, sight: &Sight) {
        let attached = sight.attached.iter().filter_map(|interface| {
            let at = interface.attachment.as_ref()?;
            let device = Device::new(at.network_card_index, at.device_index).ok()?;
            Some((interface.id.clone(), device, at))
        });
        let made =
            sight
                .made
                .iter()
                .filter_map(|interface| match Owner::of(&interface.tags)?.purpose {
                    Purpose::Whole { device, .. } => Some((interface.id.clone(), device)),
                    Purpose::Branch { .. } | Purpose::Trunk => None,
                });
        self.devices.retain(|id, _| self.leaving.has(id));
        self.devices.extend(made);
        for (id, device, at) in attached {
            if at.status != DETACHING {
                self.attachments.insert(id.clone(), at.id.clone());
            }
            self.devices.insert(id, device);
        }
    }
}

impl Inner {
    /// The trunk; of no use where there is none.
    pub(super) fn trunk_id(&self) -> &str {
        self.trunk.as_ref().map_or("", |trunk| &trunk.id)
    }

    /// ENIs attached to the instance that are neither its tasks' nor, where there is one, its trunk.
    pub(super) fn foreign(&self, sight: &Sight) -> u64 {
        if self.trunk.is_some() {
            return sight.foreign();
        }
        let is_tasks = |interface: &&ec2::NetworkInterface| {
            let owner = Owner::of(&interface.tags);
            owner.is_some_and(|owner| owner.purpose.attachment_id().is_some())
        };
        let attached = sight.attached.iter();
        attached.filter(|interface| !is_tasks(interface)).count() as u64
    }

    fn room(&self) -> Room {
        let table = self.instance.as_ref().map(|bound| bound.most);
        Room::of(self.limits.as_ref(), table)
    }

    /// What bounds the number of ENIs where each takes a network interface of the instance.
    pub(super) fn interface_bounds(&self) -> Vec<Bound> {
        vec![Bound {
            resource: "network-interfaces".to_owned(),
            most: self.room().most,
            source: format!("instance type {}", self.identity.instance_type),
            counts_foreign: true,
        }]
    }

    /// The subnets to try and the device, for a request.
    pub(super) fn place_whole(
        &self,
        request: &EniRequest,
        occupied: &Occupied,
    ) -> Result<(Vec<ec2::Subnet>, Device), ProviderError> {
        let subnets = self.candidates(request)?;
        let memory = self.memory();
        let of_tasks = occupied.enis().filter_map(|eni| eni.device);
        let of_others = memory.devices.values().copied();
        let taken: BTreeSet<_> = of_tasks.chain(of_others).chain([Device::PRIMARY]).collect();
        let leaving = memory.devices.keys().filter(|id| memory.leaving.has(id));
        let device = device::choose(&self.room(), &taken, leaving.count())?;
        Ok((subnets, device))
    }

    pub(super) async fn allocate_whole(
        &self,
        request: &EniRequest,
        occupied: &Occupied,
    ) -> Result<Eni, ProviderError> {
        if let Some(eni) = occupied.eni(&request.attachment_id) {
            return Ok(eni.clone());
        }
        let (subnets, device) = self.place_whole(request, occupied)?;
        let purpose = Purpose::Whole {
            attachment_id: request.attachment_id.clone(),
            device,
        };
        self.create(&subnets, request, purpose).await
    }

    /// Attaches the ENI at its device, and lets it go with the instance.
    pub(super) async fn attach_whole(
        &self,
        eni: &Eni,
        device: Device,
    ) -> Result<(), ProviderError> {
        let id = &eni.eni_id;
        if self.memory().attachments.contains_key(id) {
            return Ok(());
        }
        let instance = &self.identity.instance_id;
        let attempt =
            || format!("attach {id} to {instance} at network card and device index {device}");
        let attachment = match self.attachment(id, device).await {
            Ok(attachment) => attachment,
            Err(error) => {
                // Another client may have taken the device: the next task gets another.
                let sight = Sight::of(&self.ec2, instance, false).await;
                sight.iter().for_each(|sight| self.note(sight));
                return Err(failed(attempt(), error));
            }
        };
        self.let_go_with_instance(id, &attachment)
            .await
            .map_err(|error| failed(attempt(), error))?;
        self.memory().attachments.insert(id.clone(), attachment);
        Ok(())
    }

    /// A new attachment, or the one that is there though nobody said so.
    async fn attachment(&self, id: &str, device: Device) -> Result<String, ec2::Error> {
        let (card, index) = (device.card().into(), device.index().into());
        let instance = &self.identity.instance_id;
        let deadline = Instant::now() + self.deadline;
        for attempt in 0.. {
            let asked = self.ec2.attach_network_interface(id, instance, index, card);
            let error = match asked.await {
                Ok(attachment) => return Ok(attachment),
                Err(error) => error,
            };
            let (Class::Unsettled | Class::Lost | Class::Unavailable) = error.class() else {
                return Err(error);
            };
            if let Some(found) = self.attachment_of(id).await? {
                return Ok(found);
            }
            pause(attempt, deadline, error).await?;
        }
        unreachable!("the loop ends by the deadline")
    }

    /// The ENI's attachment to this instance as EC2 has it, unless it ends.
    async fn attachment_of(&self, id: &str) -> Result<Option<String>, ec2::Error> {
        let interface = self.ec2.describe_network_interface(id).await?;
        let attachment = interface.and_then(|interface| interface.attachment);
        let is_ours = |at: &ec2::Attachment| {
            at.instance_id.as_ref() == Some(&self.identity.instance_id) && at.status != DETACHING
        };
        Ok(attachment.filter(is_ours).map(|at| at.id))
    }

    /// EC2 may not see the attachment for a while after it was made.
    async fn let_go_with_instance(&self, id: &str, attachment: &str) -> Result<(), ec2::Error> {
        let deadline = Instant::now() + self.deadline;
        for attempt in 0.. {
            let set = self.ec2.set_delete_on_termination(id, attachment, true);
            let error = match set.await {
                Err(error) if matches!(error.class(), Class::Unsettled | Class::Gone) => error,
                answer => return answer,
            };
            pause(attempt, deadline, error).await?;
        }
        unreachable!("the loop ends by the deadline")
    }

    /// Detaches the ENI, and deletes it once its link has gone.
    pub(super) async fn release_whole(
        self: &Arc<Self>,
        eni: &Eni,
        device: Device,
    ) -> Result<(), ProviderError> {
        if self.memory().leaving.has(&eni.eni_id) {
            return Ok(());
        }
        let detached = self.detach(&eni.eni_id).await;
        detached.map_err(|error| failed(format!("detach {}", eni.eni_id), error))?;
        self.delete_once_gone(eni.eni_id.clone(), device, eni.mac);
        Ok(())
    }

    /// Frees one that has no task.
    pub(super) async fn free_whole(
        self: &Arc<Self>,
        orphan: &ec2::NetworkInterface,
        device: Device,
    ) -> Result<(), ec2::Error> {
        self.detach(&orphan.id).await?;
        if let Ok(mac) = orphan.mac.parse() {
            self.delete_once_gone(orphan.id.clone(), device, mac);
        }
        Ok(())
    }

    /// Detaches the ENI, if it is attached.
    async fn detach(&self, id: &str) -> Result<(), ec2::Error> {
        let known = self.memory().attachments.get(id).cloned();
        let mut attachment = match known {
            Some(known) => Some(known),
            None => self.attachment_of(id).await?,
        };
        let deadline = Instant::now() + self.deadline;
        for attempt in 0.. {
            let Some(known) = &attachment else { break };
            let error = match self.ec2.detach_network_interface(known).await {
                Ok(()) => break,
                Err(error) if matches!(error.class(), Class::Unsettled | Class::Gone) => error,
                Err(error) => return Err(error),
            };
            // It is being attached or detached still, or it is another attachment by now.
            attachment = self.attachment_of(id).await?;
            if attachment.is_some() {
                pause(attempt, deadline, error).await?;
            }
        }
        self.memory().attachments.remove(id);
        Ok(())
    }

    /// Deletes an ENI that is detached, when its link has gone. An agent that ends before leaves it to `collect` of the
    /// next.
    fn delete_once_gone(self: &Arc<Self>, id: String, device: Device, mac: MacAddress) {
        {
            let mut memory = self.memory();
            memory.leaving.insert(&id, None);
            memory.devices.insert(id.clone(), device);
        }
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            inner.see_off(&id, mac).await;
            let stays = inner.delete_detached(&id).await.err();
            let mut memory = inner.memory();
            memory.leaving.remove(&id);
            match stays {
                // Its device stays taken until a look says otherwise.
                Some(error) => {
                    tracing::warn!(eni = id, %error, "an ENI could not be deleted; it is collected later");
                }
                None => drop(memory.devices.remove(&id)),
            }
        });
    }

    /// Returns once the link of a detached ENI has gone. EC2 may have answered from before the attachment that there was
    /// nothing to detach: then it is still there after a while, and is detached again.
    async fn see_off(&self, id: &str, mac: MacAddress) {
        while let Err(_elapsed) = timeout(DEPARTURE_PATIENCE, self.departed(id, mac)).await {
            if let Err(error) = self.detach(id).await {
                tracing::warn!(eni = id, %error, "its link is still there; detached again later");
            }
        }
    }

    async fn departed(&self, id: &str, mac: MacAddress) {
        if let Err(error) = (self.departure.0)(mac).await {
            tracing::warn!(eni = id, %error, "whether its link has gone cannot be told; EC2 says so later");
        }
    }

    /// Deletes an ENI as soon as EC2 lets it go; one that is gone already is success.
    async fn delete_detached(&self, id: &str) -> Result<(), ec2::Error> {
        let deadline = Instant::now() + self.deadline;
        for attempt in 0.. {
            let error = match self.ec2.delete_network_interface(id).await {
                Ok(()) => return Ok(()),
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) if error.class() == Class::Unsettled => error,
                Err(error) => return Err(error),
            };
            // It is in use: its detachment takes its time, or was never asked for, as in `see_off`.
            self.detach(id).await?;
            pause(attempt, deadline, error).await?;
        }
        unreachable!("the loop ends by the deadline")
    }
}

#[cfg(test)]
mod tests {
    use branchline_ec2::{Attachment, NetworkInterface};

    use super::super::owner::tests::{branch, whole};
    use super::*;

    fn interface(id: &str, owner: Option<&Owner>, at: Option<(u32, &str)>) -> NetworkInterface {
        NetworkInterface {
            id: id.to_owned(),
            tags: owner.map(Owner::tags).unwrap_or_default(),
            attachment: at.map(|(device_index, status)| Attachment {
                id: format!("attach-{id}"),
                status: status.to_owned(),
                device_index,
                ..Attachment::default()
            }),
            ..NetworkInterface::default()
        }
    }

    #[test]
    fn a_device_is_taken_by_what_is_there_was_made_for_it_or_leaves_it() {
        let mut memory = Memory::default();
        let device = |text: &str| text.parse::<Device>().expect("a device");
        for (id, at) in [("eni-leaving", "0/7"), ("eni-forgotten", "0/8")] {
            memory.devices.insert(id.to_owned(), device(at));
        }
        memory.leaving.insert("eni-leaving", None);
        memory.note_devices(&Sight {
            made: vec![
                interface("eni-orphan", Some(&whole("a", "0/3")), None),
                interface("eni-branch", Some(&branch("b", "1")), None),
                interface(
                    "eni-elsewhere",
                    Some(&whole("c", "0/4")),
                    Some((5, "attached")),
                ),
            ],
            attached: vec![
                interface("eni-primary", None, Some((0, "attached"))),
                interface(
                    "eni-elsewhere",
                    Some(&whole("c", "0/4")),
                    Some((5, "attached")),
                ),
                interface("eni-ending", Some(&whole("d", "0/6")), Some((6, DETACHING))),
            ],
            associations: None,
        });
        let devices = memory.devices.iter();
        let devices: Vec<_> = devices.map(|(id, at)| format!("{id} {at}")).collect();
        assert_eq!(
            devices,
            [
                "eni-elsewhere 0/5",
                "eni-ending 0/6",
                "eni-leaving 0/7",
                "eni-orphan 0/3",
                "eni-primary 0/0"
            ]
        );
        let known = &memory.attachments;
        assert!(known.contains_key("eni-elsewhere") && !known.contains_key("eni-ending"));
    }
}
