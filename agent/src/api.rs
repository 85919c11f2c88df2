//! What the API says: a task in the shape of ECS's DescribeTasks, the agent's status, and errors, as JSON.
//!
//! Both ends of the socket use these types. Pure.

mod capacity;
mod ecs;
mod events;
mod flow_logs;
mod health;
mod network_interface;
mod security_groups;
mod task_files;

pub use capacity::{
    Attribute, AttributeList, Capacity, CapacityLimit, EniDescription, EniList, SubnetDescription,
    SubnetList, TaskCapacity,
};
pub use ecs::{DescribeTasks, Failure, StopTask, StoppedTask, Tasks};
pub use events::{Operation, Step, TaskEvent, TaskEventDetail};
pub use flow_logs::{FlowLogDescription, FlowLogFile, FlowLogList};
pub use health::{Health, HealthPart, HealthStatus};
pub use network_interface::{Difference, InterfaceAddress, NetworkInterface, TaskCheck};
pub use task_files::{TaskDnsDescription, TaskFilesDescription};

pub use security_groups::{
    ApplyRequest, MOST_FLOWS, PrefixListSummary, RuleDescription, SecurityGroupDescription,
    SecurityGroupList, SecurityGroupSummary, SecurityGroupsApplied, SecurityGroupsDiff,
};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::eni_settings::EniSettings;
use crate::life::{AttachmentStatus, Life};
use crate::provider::Eni;
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
    /// What its ENI has counted; only where one task is asked for, and while its ENI is in the data plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counters: Option<EniCounters>,
}

/// What an ENI has counted since it was put into the data plane. The first two have the names of EC2's metrics of the
/// ENA driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EniCounters {
    /// Packets of new connections that were refused because the ENI's share or the host's table was full.
    pub conntrack_allowance_exceeded: u64,
    /// Connections that it may still open now: what is left of its share, and at most what the table has left.
    pub conntrack_allowance_available: u64,
    /// Packets that passed only because a group is in audit mode.
    pub would_be_denials: u64,
}

impl EniCounters {
    /// By what the data plane counts of an ENI: `exceeded` and `audited` packets, `tracked` connections of its `share`,
    /// and `left`, what the host's table has room for.
    #[must_use]
    pub fn of(exceeded: u64, audited: u64, tracked: u64, share: u32, left: u64) -> Self {
        Self {
            conntrack_allowance_exceeded: exceeded,
            conntrack_allowance_available: u64::from(share).saturating_sub(tracked).min(left),
            would_be_denials: audited,
        }
    }
}

/// What the ENI of one task has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskCounters {
    /// The task.
    pub task_id: String,
    /// Its ENI.
    pub network_interface_id: String,
    /// What the ENI has counted.
    pub counters: EniCounters,
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

/// The agent as it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Whole seconds since it started.
    pub uptime_seconds: u64,
    /// Who hands out ENIs: `local`.
    pub provider: String,
    /// The VPC.
    pub vpc_id: String,
    /// Tasks by what they are doing.
    pub tasks: TaskCounts,
    /// ENIs the host takes at most.
    pub max_enis: u32,
    /// How programs are attached: `tcx` or `clsact` on the trunk.
    pub trunk_attachment: String,
    /// Connections in the table now.
    pub conntrack_entries: u64,
    /// Connections the table holds at most.
    pub conntrack_max_entries: u32,
    /// New connections refused because the table was full.
    pub conntrack_allowance_exceeded: u64,
    /// What each ENI in the data plane has counted, by task.
    #[serde(default)]
    pub network_interfaces: Vec<TaskCounters>,
    /// Dropped packets by reason, reasons that occurred only.
    pub drops: Vec<DropCount>,
    /// Flow logs.
    #[serde(default)]
    pub flow_logs: Vec<FlowLogDescription>,
    /// What keeps every task from being reached as it should be; empty on a sound host.
    #[serde(default)]
    pub problems: Vec<String>,
    /// How often since the agent started it mended what somebody had changed of a task's network or
    /// of the trunk.
    #[serde(default)]
    pub repairs: u64,
    /// Tasks whose network could not be mended, since the agent started.
    #[serde(default)]
    pub tasks_given_up: u64,
    /// What the agent changed on the host, and what `branchline purge` undoes.
    pub host_changes: Vec<HostChange>,
}

/// Tasks by what they are doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskCounts {
    /// Networks being made.
    pub creating: usize,
    /// Networks that are there.
    pub running: usize,
    /// Networks being removed.
    pub deleting: usize,
}

/// Dropped packets of one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DropCount {
    /// The reason's name.
    pub reason: String,
    /// Packets since the data plane was loaded.
    pub packets: u64,
}

/// One change on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HostChange {
    /// As `sysctl net.ipv4.ip_forward` or `nftables table inet branchline`.
    pub what: String,
    /// What it was before; `None` where there was nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// What it is now.
    pub current: String,
}

/// The body of every answer that is not success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApiError {
    /// What kind, for programs.
    pub code: ErrorCode,
    /// What happened and what to do, for people.
    pub message: String,
    /// The field of the request that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum ErrorCode {
    /// The request is wrong as it is.
    InvalidRequest,
    /// The caller is not root.
    Forbidden,
    /// There is no such task or path.
    NotFound,
    /// The task exists with another specification, or is being removed.
    Conflict,
    /// Nothing is left to hand out.
    Exhausted,
    /// The agent failed.
    Internal,
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
pub(crate) mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::config::ConntrackConfig;
    use crate::task_record::tests::{attached, entered, record};

    /// A task on a host that sets nothing.
    pub(crate) fn describe(record: &TaskRecord) -> TaskDescription {
        let attributes = record.spec.network_interface_attributes();
        let settings = EniSettings::resolve(&ConntrackConfig::default(), attributes);
        TaskDescription::of(record, settings, 9001)
    }

    #[test]
    fn a_task_has_the_shape_of_describe_tasks() {
        let mut record = attached("web");
        record.spec.ecs.containers = vec![crate::ecs_task::EcsContainer {
            runtime_id: "c0ffee".to_owned(),
            ..crate::ecs_task::EcsContainer::default()
        }];
        let expected = serde_json::json!({
            "taskId": "web",
            "lastStatus": "RUNNING",
            "desiredStatus": "RUNNING",
            "availabilityZone": "us-east-1a",
            "createdAt": "2023-11-14T22:13:20.123Z",
            "startedAt": "2023-11-14T22:13:20.13Z",
            "attachments": [{
                "id": "00000000-0000-4000-8000-000000000001",
                "type": "ElasticNetworkInterface",
                "status": "ATTACHED",
                "details": [
                    {"name": "subnetId", "value": "subnet-a"},
                    {"name": "networkInterfaceId", "value": "eni-0123456789abcdef0"},
                    {"name": "macAddress", "value": "0a:00:00:00:00:01"},
                    {"name": "privateDnsName", "value": "ip-10-0-1-10.ec2.internal"},
                    {"name": "privateIPv4Address", "value": "10.0.1.10"},
                    {"name": "ipv6Address", "value": "2001:db8::1"},
                ],
                "statusTimes": [
                    {"status": "PRECREATED", "at": "2023-11-14T22:13:20.123Z"},
                    {"status": "CREATED", "at": "2023-11-14T22:13:20.124Z"},
                    {"status": "ATTACHING", "at": "2023-11-14T22:13:20.124Z"},
                    {"status": "ATTACHED", "at": "2023-11-14T22:13:20.13Z"},
                ],
            }],
            "containers": [{
                "runtimeId": "c0ffee",
                "environment": [{
                    "name": "ECS_CONTAINER_METADATA_URI_V4",
                    "value": "http://169.254.170.2/v4/00000000000040008000000000000001-0000000001",
                }],
                "networkInterfaces": [{
                    "attachmentId": "00000000-0000-4000-8000-000000000001",
                    "privateIpv4Address": "10.0.1.10",
                    "ipv6Address": "2001:db8::1",
                }],
            }],
            "securityGroups": ["sg-web"],
            "networkInterfaceAttributes": {
                "connectionTrackingConfiguration": {
                    "tcpEstablishedTimeout": 432_000,
                    "udpTimeout": 30,
                    "udpStreamTimeout": 180,
                },
                "blockInstanceMetadata": true,
                "sourceDestCheck": true,
                "maxTrackedConnections": 32_768,
            },
            "networkNamespace": "/run/netns/branchline-web",
            "networkInterface": {
                "linkName": "eth0",
                "macAddress": "0a:00:00:00:00:01",
                "mtu": 9001,
                "addresses": [
                    {"address": "10.0.1.10/24", "router": "10.0.1.1"},
                    {"address": "2001:db8::1/64", "router": "2001:db8::1"},
                ],
                "subnetId": "subnet-a",
                "vpcId": "vpc-1",
            },
            "dns": {"nameServers": ["10.0.0.2"], "searchDomains": ["ec2.internal"]},
            "files": {
                "hosts": "/run/branchline/tasks/web/hosts",
                "resolvConf": "/run/branchline/tasks/web/resolv.conf",
            },
            "environment": [{
                "name": "ECS_CONTAINER_METADATA_URI_V4",
                "value": "http://169.254.170.2/v4/00000000000040008000000000000001",
            }],
            "hostLink": "bl456789abcdef0",
            "vlanId": 7,
        });
        assert_eq!(serde_json::to_value(describe(&record)).unwrap(), expected);
    }

    #[test]
    fn what_is_available_ends_with_the_share_or_the_table() {
        let available = |tracked, share, left| {
            EniCounters::of(3, 4, tracked, share, left).conntrack_allowance_available
        };
        assert_eq!(available(10, 100, 1_000), 90);
        assert_eq!(available(10, 100, 50), 50);
        // A share that was lowered under a running task.
        assert_eq!(available(200, 100, 50), 0);
    }

    #[test]
    fn phases_and_missing_addresses_show() {
        let mut record = record("web");
        (record.eni.ipv6, record.eni.vlan) = (None, None);
        let task = describe(&record);
        assert_eq!(
            (task.last_status, task.attachments[0].status),
            (TaskStatus::Provisioning, AttachmentStatus::Attaching)
        );
        assert_eq!((task.detail("ipv6Address"), task.vlan_id), (None, None));
        assert_eq!(task.detail("privateIPv4Address"), Some("10.0.1.10"));
        let record = entered(record, AttachmentStatus::Failed, 1_700_000_001_000);
        let task = describe(&record);
        assert_eq!(
            (task.last_status, task.desired_status),
            (TaskStatus::Deprovisioning, TaskStatus::Stopped)
        );
        assert_eq!(task.stopping_at.as_deref(), Some("2023-11-14T22:13:21Z"));
        let record = entered(record, AttachmentStatus::Deleted, 1_700_000_002_000);
        let task = describe(&record);
        assert_eq!(task.last_status, TaskStatus::Stopped);
        assert_eq!(task.stopped_at.as_deref(), Some("2023-11-14T22:13:22Z"));
    }
}
