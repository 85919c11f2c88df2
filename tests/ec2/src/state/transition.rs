//! What changes by itself as time goes by, and who is told.

use std::time::Instant;

use super::{AttachmentStatus, InstanceState, NetworkInterface, State};

/// Something that the instance's hardware would notice.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "EC2's words")]
pub enum Event {
    /// An ENI is `attached`: its link may appear.
    Attached {
        network_interface_id: String,
        mac_address: String,
        instance_id: String,
        device_index: i64,
        network_card_index: i64,
        trunk: bool,
    },
    /// An ENI is `detaching`: its link goes.
    Detaching {
        network_interface_id: String,
        mac_address: String,
        instance_id: String,
    },
    /// An ENI is `available` again.
    Detached {
        network_interface_id: String,
        mac_address: String,
        instance_id: String,
    },
    /// A trunk carries a branch.
    Associated {
        branch_interface_id: String,
        branch_mac_address: String,
        trunk_interface_id: String,
        vlan_id: i64,
    },
    /// It does no longer.
    Disassociated {
        branch_interface_id: String,
        trunk_interface_id: String,
        vlan_id: i64,
    },
    /// An ENI is gone.
    Deleted { network_interface_id: String },
}

impl State {
    /// When the next change is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let all = self.network_interfaces.values();
        all.filter_map(|eni| eni.attachment.as_ref()?.due).min()
    }

    /// Does what is due by `now`, in its order; says whether anything was.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(id) = self.first_due(now) {
            let Some(eni) = self.network_interfaces.get_mut(&id) else {
                break;
            };
            self.events.extend(finish(eni));
            any = true;
        }
        any
    }

    /// Ends an instance: its ENIs go, or stay behind as `available` if their attachment does not say
    /// `delete_on_termination`. Branches of a trunk that leaves lose their association only.
    pub fn terminate_instance(&mut self, instance_id: &str) {
        if let Some(instance) = self.instances.get_mut(instance_id) {
            instance.state = InstanceState::Terminated;
        }
        let attached = self.attached_to(instance_id).into_iter();
        let attached: Vec<(String, bool)> = attached
            .map(|(eni, at)| (eni.network_interface_id.clone(), at.delete_on_termination))
            .collect();
        for (id, delete) in attached {
            let branches: Vec<String> = self
                .branches_of(&id)
                .map(|branch| branch.association_id.clone())
                .collect();
            for association_id in branches {
                self.disassociate(&association_id);
            }
            if delete {
                self.delete(&id);
            } else if let Some(eni) = self.network_interfaces.get_mut(&id) {
                eni.attachment = None;
            }
        }
    }

    /// Takes a branch off its trunk.
    pub(crate) fn disassociate(&mut self, association_id: &str) {
        if let Some(association) = self.trunk_associations.remove(association_id) {
            self.events.push(Event::Disassociated {
                branch_interface_id: association.branch_interface_id,
                trunk_interface_id: association.trunk_interface_id,
                vlan_id: association.vlan_id,
            });
        }
    }

    /// Ends an ENI.
    pub(crate) fn delete(&mut self, network_interface_id: &str) {
        self.network_interfaces.remove(network_interface_id);
        self.events.push(Event::Deleted {
            network_interface_id: network_interface_id.to_owned(),
        });
    }

    fn first_due(&self, now: Instant) -> Option<String> {
        let all = self.network_interfaces.values();
        let due =
            all.filter_map(|eni| Some((eni.attachment.as_ref()?.due?, &eni.network_interface_id)));
        let first = due.filter(|(due, _)| *due <= now).min();
        first.map(|(_, id)| id.clone())
    }
}

/// Ends the step that an attachment is in.
fn finish(eni: &mut NetworkInterface) -> Option<Event> {
    let mut attachment = eni.attachment.take()?;
    let network_interface_id = eni.network_interface_id.clone();
    let mac_address = eni.mac_address.clone();
    let instance_id = attachment.instance_id.clone();
    if attachment.status == AttachmentStatus::Detaching {
        return Some(Event::Detached {
            network_interface_id,
            mac_address,
            instance_id,
        });
    }
    attachment.due = None;
    attachment.status = AttachmentStatus::Attached;
    let event = Event::Attached {
        network_interface_id,
        mac_address,
        instance_id,
        device_index: attachment.device_index,
        network_card_index: attachment.network_card_index,
        trunk: eni.interface_type == super::InterfaceType::Trunk,
    };
    eni.attachment = Some(attachment);
    Some(event)
}
