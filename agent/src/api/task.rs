//! A task in the shape of ECS's DescribeTasks, and what only this host knows. Pure.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{EniCounters, NetworkInterface, TaskDnsDescription, TaskFilesDescription};
use crate::eni_settings::EniSettings;
use crate::life::{AttachmentStatus, Life};
use crate::provider::{Device, Eni};
use crate::task_metadata::{self, Subject};
use crate::task_network::TaskNetwork;
use crate::task_record::TaskRecord;

/// A task, as ECS's DescribeTasks shows it, and what only this host knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskDescription {
    /// The task's name on this host.
    pub task_id: String,
    /// Where the task is.
    pub last_status: TaskStatus,
    /// Where the task shall be: `RUNNING` or `STOPPED`.
    pub desired_status: TaskStatus,
    /// The zone of its subnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// When it was asked for (RFC 3339, UTC).
    pub created_at: String,
    /// When its network was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When its network began to be taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping_at: Option<String>,
    /// When nothing was left of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<String>,
    /// Why it stopped, if not because somebody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_reason: Option<String>,
    /// One attachment: its ENI.
    pub attachments: Vec<Attachment>,
    /// Its containers, as far as its specification names them: branchline runs none.
    pub containers: Vec<Container>,
    /// Ids of the ENI's security groups.
    pub security_groups: Vec<String>,
    /// What else its ENI has: the settings in force, whoever set them.
    pub network_interface_attributes: EniSettings,
    /// The task's network namespace.
    #[schema(value_type = String)]
    pub network_namespace: PathBuf,
    /// The task's end of its veth.
    pub network_interface: NetworkInterface,
    /// What it is told of names.
    pub dns: TaskDnsDescription,
    /// Its files, for a container runtime's bind mounts.
    pub files: TaskFilesDescription,
    /// Variables that its processes should have; each container has its own besides.
    pub environment: Vec<KeyValuePair>,
    /// The host's end of its veth.
    pub host_link: String,
    /// The ENI's id on the trunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan_id: Option<u16>,
    /// Its index among the network card's devices, if it has a link of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_index: Option<u8>,
    /// The network card of that device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_card_index: Option<u8>,
    /// What its ENI has counted; only where one task is asked for, and while its ENI is in the data plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters: Option<EniCounters>,
}

/// ECS's names for where a task is; those that a host's network can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskStatus {
    /// Its network is being made.
    Provisioning,
    /// Its network is there.
    Running,
    /// Its network is being removed.
    Deprovisioning,
    /// Wanted to be gone.
    Stopped,
}

/// A container as ECS shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// The container runtime's id.
    pub runtime_id: String,
    /// Its name in the task definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Variables that its processes should have.
    #[serde(default)]
    pub environment: Vec<KeyValuePair>,
    /// The ENI that all containers of a task share.
    pub network_interfaces: Vec<ContainerNetworkInterface>,
}

/// An ENI as a container has it. The spelling is ECS's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerNetworkInterface {
    /// The task's attachment.
    pub attachment_id: String,
    /// The ENI's IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ipv4_address: Option<String>,
    /// The ENI's IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
}

/// A state of an attachment, and when it was entered. Branchline's own: ECS tells of the last one only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatusTime {
    /// The state.
    pub status: AttachmentStatus,
    /// RFC 3339, UTC.
    pub at: String,
}

/// An ENI attachment as ECS shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// A UUID.
    pub id: String,
    /// `ElasticNetworkInterface`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The state it is in.
    pub status: AttachmentStatus,
    /// Name and value pairs, in ECS's spelling.
    pub details: Vec<KeyValuePair>,
    /// Every state it has been in, oldest first.
    #[serde(default)]
    pub status_times: Vec<StatusTime>,
}

/// One detail of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeyValuePair {
    /// As `subnetId`.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The answer to `POST /v1/cni/gc`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CniGarbageCollected {
    /// Ids of the tasks that were removed.
    pub removed: Vec<String>,
}

/// The answer to `GET /v1/tasks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskList {
    /// Every task, by id.
    pub tasks: Vec<TaskDescription>,
}

impl TaskDescription {
    /// Shows `record`, whose ENI has `settings` and whose links have `mtu`, as ECS would.
    pub fn of(record: &TaskRecord, settings: EniSettings, mtu: u32) -> Self {
        let (eni, life) = (&record.eni, &record.life);
        let (last_status, desired_status) = task_status(life.status());
        let at = |status| life.entered_at_ms(status).map(rfc3339);
        Self {
            task_id: record.spec.task_id.to_string(),
            last_status,
            desired_status,
            availability_zone: eni.availability_zone.clone(),
            created_at: rfc3339(life.created_at_ms()),
            started_at: at(AttachmentStatus::Attached),
            stopping_at: at(AttachmentStatus::Failed).or_else(|| at(AttachmentStatus::Detaching)),
            stopped_at: at(AttachmentStatus::Deleted),
            stopped_reason: life.stopped_reason.clone(),
            attachments: vec![attachment(eni, life)],
            containers: containers(record),
            security_groups: eni.groups.clone(),
            network_interface_attributes: settings,
            network_namespace: record.netns.clone(),
            network_interface: NetworkInterface::of(
                &TaskNetwork::of(&record.spec.link_name, eni, mtu),
                &eni.subnet_id,
                &eni.vpc_id,
            ),
            dns: TaskDnsDescription::of(&record.dns),
            files: TaskFilesDescription::of(record),
            environment: environment(record, Subject::Task),
            host_link: record.host_link.clone(),
            vlan_id: eni.vlan.map(|vlan| vlan.get()),
            device_index: eni.device.map(Device::index),
            network_card_index: eni.device.map(Device::card),
            counters: None,
        }
    }

    /// A detail of its ENI, as `privateIPv4Address`.
    pub fn detail(&self, name: &str) -> Option<&str> {
        let mut details = self
            .attachments
            .iter()
            .flat_map(|attachment| &attachment.details);
        details
            .find(|pair| pair.name == name)
            .map(|pair| pair.value.as_str())
    }
}

/// Where a task is and shall be while its attachment is in `status`.
pub(crate) fn task_status(status: AttachmentStatus) -> (TaskStatus, TaskStatus) {
    match status {
        AttachmentStatus::Precreated | AttachmentStatus::Created | AttachmentStatus::Attaching => {
            (TaskStatus::Provisioning, TaskStatus::Running)
        }
        AttachmentStatus::Attached => (TaskStatus::Running, TaskStatus::Running),
        AttachmentStatus::Failed | AttachmentStatus::Detaching | AttachmentStatus::Detached => {
            (TaskStatus::Deprovisioning, TaskStatus::Stopped)
        }
        AttachmentStatus::Deleted => (TaskStatus::Stopped, TaskStatus::Stopped),
    }
}

fn attachment(eni: &Eni, life: &Life) -> Attachment {
    let status_time = |one: crate::life::Transition| StatusTime {
        status: one.status,
        at: rfc3339(one.at_ms),
    };
    Attachment {
        id: eni.attachment_id.clone(),
        kind: "ElasticNetworkInterface".to_owned(),
        status: life.status(),
        details: details(eni),
        status_times: life.transitions().map(status_time).collect(),
    }
}

fn containers(record: &TaskRecord) -> Vec<Container> {
    let eni = &record.eni;
    let container = |(index, one): (usize, &crate::ecs_task::EcsContainer)| Container {
        runtime_id: one.runtime_id.clone(),
        name: one.name.clone(),
        environment: environment(record, Subject::Container(index)),
        network_interfaces: vec![ContainerNetworkInterface {
            attachment_id: eni.attachment_id.clone(),
            private_ipv4_address: eni.ipv4.map(|net| net.addr().to_string()),
            ipv6_address: eni.ipv6.map(|net| net.addr().to_string()),
        }],
    };
    let all = record.spec.ecs.containers.iter().enumerate();
    all.map(container).collect()
}

/// By what a process finds its task's metadata (ECS developer guide, "Task metadata endpoint version 4").
fn environment(record: &TaskRecord, subject: Subject) -> Vec<KeyValuePair> {
    vec![KeyValuePair {
        name: "ECS_CONTAINER_METADATA_URI_V4".to_owned(),
        value: task_metadata::uri(record, subject),
    }]
}

/// As `2026-11-28T10:15:00.123Z`; a time no calendar has is shown as the number that it is.
pub(crate) fn rfc3339(ms: u64) -> String {
    let time = i64::try_from(ms).ok();
    let time = time.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| ms.to_string(), |time| time.to_string())
}

/// The details ECS lists, in its order and spelling; absent ones are left out.
fn details(eni: &Eni) -> Vec<KeyValuePair> {
    let pairs = [
        ("subnetId", Some(eni.subnet_id.clone())),
        ("networkInterfaceId", Some(eni.eni_id.clone())),
        ("macAddress", Some(eni.mac.to_string())),
        ("privateDnsName", eni.private_dns_name.clone()),
        (
            "privateIPv4Address",
            eni.ipv4.map(|net| net.addr().to_string()),
        ),
        ("ipv6Address", eni.ipv6.map(|net| net.addr().to_string())),
    ];
    let pair = |(name, value): (&str, Option<String>)| {
        Some(KeyValuePair {
            name: name.to_owned(),
            value: value?,
        })
    };
    pairs.into_iter().filter_map(pair).collect()
}

#[cfg(test)]
#[path = "task_tests.rs"]
pub(crate) mod tests;
