//! Network interfaces, their attachments and their associations with a trunk.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use jiff::Timestamp;

use super::{State, Tags};

/// What an ENI was made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "EC2's words")]
pub enum InterfaceType {
    Interface,
    Trunk,
}

/// Where an attachment is between the two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "EC2's words")]
pub enum AttachmentStatus {
    Attaching,
    Attached,
    Detaching,
}

/// An ENI at an instance.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct Attachment {
    pub attachment_id: String,
    pub instance_id: String,
    pub device_index: i64,
    pub network_card_index: i64,
    pub status: AttachmentStatus,
    pub delete_on_termination: bool,
    pub attach_time: Timestamp,
    pub(crate) created: Instant,
    /// When the status changes by itself.
    pub(crate) due: Option<Instant>,
}

/// Idle timeouts in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct ConnectionTracking {
    pub tcp_established_timeout: Option<i64>,
    pub udp_stream_timeout: Option<i64>,
    pub udp_timeout: Option<i64>,
}

/// An ENI.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct NetworkInterface {
    pub network_interface_id: String,
    pub subnet_id: String,
    pub vpc_id: String,
    pub availability_zone: String,
    pub interface_type: InterfaceType,
    pub mac_address: String,
    pub description: String,
    pub group_ids: Vec<String>,
    /// The primary one first.
    pub private_ip_addresses: Vec<Ipv4Addr>,
    pub ipv6_addresses: Vec<Ipv6Addr>,
    pub primary_ipv6: bool,
    pub source_dest_check: bool,
    pub connection_tracking: Option<ConnectionTracking>,
    pub attachment: Option<Attachment>,
    pub tags: Tags,
    pub(crate) created: Instant,
}

/// A branch at its trunk.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct TrunkAssociation {
    pub association_id: String,
    pub branch_interface_id: String,
    pub trunk_interface_id: String,
    pub vlan_id: i64,
    pub(crate) created: Instant,
}

impl InterfaceType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Trunk => "trunk",
        }
    }
}

impl AttachmentStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Attaching => "attaching",
            Self::Attached => "attached",
            Self::Detaching => "detaching",
        }
    }
}

impl State {
    /// The association in which this ENI is the branch.
    #[must_use]
    pub fn association_of(&self, branch: &str) -> Option<&TrunkAssociation> {
        let mut all = self.trunk_associations.values();
        all.find(|association| association.branch_interface_id == branch)
    }

    /// The associations of a trunk.
    pub fn branches_of<'a>(&'a self, trunk: &'a str) -> impl Iterator<Item = &'a TrunkAssociation> {
        let all = self.trunk_associations.values();
        all.filter(move |association| association.trunk_interface_id == trunk)
    }

    /// The status of an ENI. A branch is `in-use` without an attachment.
    #[must_use]
    pub fn status(&self, eni: &NetworkInterface) -> &'static str {
        match &eni.attachment {
            Some(attachment) => match attachment.status {
                AttachmentStatus::Attaching => "attaching",
                AttachmentStatus::Attached => "in-use",
                AttachmentStatus::Detaching => "detaching",
            },
            None if self.association_of(&eni.network_interface_id).is_some() => "in-use",
            None => "available",
        }
    }

    /// The type of an ENI as describes say it: `branch` from the association on.
    #[must_use]
    pub fn shown_type(&self, eni: &NetworkInterface) -> &'static str {
        match self.association_of(&eni.network_interface_id) {
            Some(_) => "branch",
            None => eni.interface_type.name(),
        }
    }

    /// The ENIs at an instance, in the order of their devices.
    #[must_use]
    pub fn attached_to(&self, instance_id: &str) -> Vec<(&NetworkInterface, &Attachment)> {
        let all = self.network_interfaces.values();
        let mut found: Vec<_> = all
            .filter_map(|eni| Some((eni, eni.attachment.as_ref()?)))
            .collect();
        found.retain(|(_, attachment)| attachment.instance_id == instance_id);
        found.sort_by_key(|(_, attachment)| {
            (attachment.network_card_index, attachment.device_index)
        });
        found
    }
}
