//! What the API says of room for tasks, and of what the VPC has, in EC2's and ECS's names. Plain values.

use serde::{Deserialize, Serialize};

use crate::life::AttachmentStatus;
use crate::provider::{Device, Eni, WarmPool};
use crate::task_record::TaskRecord;

/// The answer to `GET /v1/capacity`: how many more tasks fit, and why not more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Tasks now and at most.
    pub tasks: TaskCapacity,
    /// The tightest limit, in words.
    pub limited_by: String,
    /// ENIs of this host that are not its tasks'.
    pub foreign_network_interfaces: u64,
    /// Every limit.
    pub limits: Vec<CapacityLimit>,
    /// Every subnet.
    pub subnets: Vec<SubnetDescription>,
    /// ENIs that wait for tasks, where the configuration asks for any: they take no room from tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_pool: Option<WarmPoolDescription>,
}

/// ENIs that wait for tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WarmPoolDescription {
    /// How many shall wait.
    pub wanted: u64,
    /// How many do.
    pub waiting: u64,
    /// Tasks that got one since the agent started.
    pub hits: u64,
    /// Tasks that got none: none waited in a subnet that they list.
    pub misses: u64,
}

impl WarmPoolDescription {
    /// Shows a provider's pool.
    #[must_use]
    pub fn of(pool: &WarmPool) -> Self {
        Self {
            wanted: pool.wanted.into(),
            waiting: pool.enis.len() as u64,
            hits: pool.hits,
            misses: pool.misses,
        }
    }
}

/// Tasks now and at most. What cools down after a task has gone counts as free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskCapacity {
    /// Those that have an ENI.
    pub running: u64,
    /// How many more fit.
    pub available: u64,
    /// How many fit in all.
    pub most: u64,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CapacityLimit {
    /// What is limited: `network-interfaces`, `vlans`, `data-plane-slots`, `addresses`, `branches`.
    pub resource: String,
    /// The most.
    pub most: u64,
    /// What is in use.
    pub used: u64,
    /// What of it is not the tasks'.
    pub foreign: u64,
    /// What is left.
    pub available: u64,
    /// Who sets the limit.
    pub source: String,
}

/// The answer to `GET /v1/subnets`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SubnetList {
    /// In the order of the VPC.
    pub subnets: Vec<SubnetDescription>,
}

/// A subnet as EC2's DescribeSubnets shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubnetDescription {
    /// `subnet-…`.
    pub subnet_id: String,
    /// Its VPC.
    pub vpc_id: String,
    /// Its IPv4 network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_block: Option<String>,
    /// Its IPv6 network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block: Option<String>,
    /// Its zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// Addresses for ENIs that are free: of IPv4, or without end where there is IPv6 only.
    pub available_ip_address_count: u64,
}

/// The answer to `GET /v1/network-interfaces`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EniList {
    /// The ENIs of tasks, by task, then those that wait for one.
    pub network_interfaces: Vec<EniDescription>,
}

/// An ENI as EC2's DescribeNetworkInterfaces shows it, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EniDescription {
    /// `eni-…`.
    pub network_interface_id: String,
    /// The task that owns it; only removing the task removes it. None of one that waits in the warm pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Its attachment.
    pub attachment_id: String,
    /// Its attachment's state.
    pub status: AttachmentStatus,
    /// Its VPC.
    pub vpc_id: String,
    /// Its subnet.
    pub subnet_id: String,
    /// The subnet's zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// Lower case, with colons.
    pub mac_address: String,
    /// Its IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip_address: Option<String>,
    /// Its IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_dns_name: Option<String>,
    /// Ids of its security groups.
    pub groups: Vec<String>,
    /// Its id on the trunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_id: Option<u16>,
    /// Its index among the network card's devices, if it has a link of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_index: Option<u8>,
    /// The network card of that device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_card_index: Option<u8>,
}

impl EniDescription {
    /// The ENI of a task.
    #[must_use]
    pub fn of(task: &TaskRecord) -> Self {
        Self {
            task_id: Some(task.spec.task_id.to_string()),
            status: task.status(),
            ..Self::waiting(&task.eni)
        }
    }

    /// An ENI that waits for a task.
    #[must_use]
    pub fn waiting(eni: &Eni) -> Self {
        Self {
            network_interface_id: eni.eni_id.clone(),
            task_id: None,
            attachment_id: eni.attachment_id.clone(),
            status: AttachmentStatus::Created,
            vpc_id: eni.vpc_id.clone(),
            subnet_id: eni.subnet_id.clone(),
            availability_zone: eni.availability_zone.clone(),
            mac_address: eni.mac.to_string(),
            private_ip_address: eni.ipv4.map(|net| net.addr().to_string()),
            ipv6_address: eni.ipv6.map(|net| net.addr().to_string()),
            private_dns_name: eni.private_dns_name.clone(),
            groups: eni.groups.clone(),
            vlan_id: eni.vlan.map(|vlan| vlan.get()),
            device_index: eni.device.map(Device::index),
            network_card_index: eni.device.map(Device::card),
        }
    }
}

/// The answer to `GET /v1/attributes`, in the shape of ECS's PutAttributes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttributeList {
    /// By name.
    pub attributes: Vec<Attribute>,
}

/// An attribute of an ECS container instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Attribute {
    /// As `ecs.capability.task-eni`.
    pub name: String,
    /// Its value, where the name alone does not say all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}
