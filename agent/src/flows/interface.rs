//! An ENI as flow records describe it: what was known of it when its interval ended.
//!
//! Plain values. What is not known is left out and becomes `-` in a row.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// All that a row can say of the ENI it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Account number, 12 digits.
    pub account_id: String,
    /// As `eni-0123456789abcdef0`.
    pub interface_id: String,
    /// Primary private IPv4 address, which stands for every IPv4 address on the ENI's own side.
    pub primary_ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// The VPC of its subnet.
    pub vpc_id: Option<String>,
    /// Its subnet.
    pub subnet_id: Option<String>,
    /// The EC2 instance that it is attached to, if the account owns both.
    pub instance_id: Option<String>,
    /// As `eu-west-1`.
    pub region: Option<String>,
    /// As `euw1-az1`.
    pub az_id: Option<String>,
    /// Kind and id of the Local Zone, Wavelength zone or Outpost that it is in.
    pub sublocation: Option<Sublocation>,
    /// The host that counts. Branchline's own.
    pub host_id: Option<String>,
    /// Its security groups.
    pub group_ids: Vec<String>,
    /// The task that it belongs to.
    pub task: TaskIdentity,
    /// Tags of the ENI, its instance and the instance's Auto Scaling group, by key.
    pub tags: Tags,
}

/// Where an ENI is, if not in an Availability Zone itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sublocation {
    /// `wavelength`, `outpost` or `localzone`.
    pub kind: String,
    /// Its id.
    pub id: String,
}

/// A task in ECS's terms, as the orchestrator gave them when it attached the ENI.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskIdentity {
    /// The task's id on this host. Branchline's own.
    pub id: Option<String>,
    /// ARN of the cluster.
    pub cluster_arn: Option<String>,
    /// Name of the cluster.
    pub cluster_name: Option<String>,
    /// ARN of the container instance; none on Fargate.
    pub container_instance_arn: Option<String>,
    /// Its last component.
    pub container_instance_id: Option<String>,
    /// Runtime id of the container that was started first, the pause container left out.
    pub container_id: Option<String>,
    /// Runtime id of the second.
    pub second_container_id: Option<String>,
    /// The service that started the task.
    pub service_name: Option<String>,
    /// ARN of the task definition.
    pub task_definition_arn: Option<String>,
    /// ARN of the task.
    pub task_arn: Option<String>,
    /// Its last component.
    pub task_id: Option<String>,
}

/// Tags by key, of whatever rows may show tags of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tags {
    /// Of the instance.
    pub instance: BTreeMap<String, String>,
    /// Of the ENI.
    pub network_interface: BTreeMap<String, String>,
    /// Of the Auto Scaling group.
    pub auto_scaling_group: BTreeMap<String, String>,
}
