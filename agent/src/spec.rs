//! The task specification: JSON with ECS's field names, checked without knowing the VPC.
//!
//! Whether a subnet or group exists is the provider's to say. Never touches the host.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cni_attachment::CniAttachment;
use crate::connection_tracking::ConnectionTrackingSpecification;
use crate::ecs_task::{EcsTask, Tag, check_tags};
use crate::field_error::{FieldError, from_json};
use crate::link_name::LinkName;
use crate::security_groups::quotas::MAX_GROUPS_PER_ENI;
use crate::system_controls::SystemControl;

/// Subnets that one task may list.
pub const MAX_SUBNETS: usize = 16;
/// Security groups that one task may list.
pub const MAX_SECURITY_GROUPS: usize = MAX_GROUPS_PER_ENI;

/// What a task wants of its network. Two equal specifications are one wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "taskId": "web",
    "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-a"], "securityGroups": []}},
}))]
pub struct TaskSpec {
    /// The task's name on this host.
    pub task_id: TaskId,
    /// The same in every repeat of one request: a repeat is answered as the request was, and never
    /// makes a task again that has gone. Without it, an equal task that is there is the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<ClientToken>,
    /// ECS's `networkConfiguration`.
    pub network_configuration: NetworkConfiguration,
    /// A namespace that exists already, as `/proc/1234/ns/net`; without it the agent makes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub network_namespace: Option<PathBuf>,
    /// What the task's link is called in its namespace.
    #[serde(default, skip_serializing_if = "LinkName::is_default")]
    pub link_name: LinkName,
    /// Which container's attachment to which network the task is; only CNI's GC looks at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cni_attachment: Option<CniAttachment>,
    /// What ECS's DescribeTasks says of the task, for its flow records.
    #[serde(default, skip_serializing_if = "EcsTask::is_default")]
    pub ecs: EcsTask,
    /// Settings of the namespace, as ECS's `systemControls`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub system_controls: Vec<SystemControl>,
    /// Tags of the ENI, for flow records that show one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

/// ECS's `networkConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkConfiguration {
    /// The only mode there is.
    pub awsvpc_configuration: AwsvpcConfiguration,
    /// What ECS cannot say of the ENI; left out, the document is ECS's.
    #[serde(
        default,
        skip_serializing_if = "NetworkInterfaceAttributes::is_default"
    )]
    pub network_interface_attributes: NetworkInterfaceAttributes,
}

/// ECS's `awsvpcConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AwsvpcConfiguration {
    /// 1 to 16 subnet ids; the first with a free address is taken.
    pub subnets: Vec<String>,
    /// 0 to 16 group ids; none means the VPC's default group.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Always `DISABLED` on a host of one's own.
    #[serde(default)]
    pub assign_public_ip: AssignPublicIp,
}

/// What the task's ENI has besides addresses and groups, in the names of EC2's `ModifyNetworkInterfaceAttribute`
/// where it has one. Branchline's own: ECS has no such object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkInterfaceAttributes {
    /// Idle timers that differ from the host's.
    pub connection_tracking_specification: ConnectionTrackingSpecification,
    /// Whether the instance metadata service is out of reach.
    pub block_instance_metadata: bool,
    /// Whether packets from or to addresses that are not the ENI's own are dropped.
    pub source_dest_check: bool,
    /// Connections it may track at most, from 1 on; without it the host's share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tracked_connections: Option<u32>,
}

impl Default for NetworkInterfaceAttributes {
    fn default() -> Self {
        Self {
            connection_tracking_specification: ConnectionTrackingSpecification::default(),
            block_instance_metadata: true,
            source_dest_check: true,
            max_tracked_connections: None,
        }
    }
}

impl NetworkInterfaceAttributes {
    /// The path of the field `name` in a task specification.
    pub fn field(name: &str) -> String {
        format!("networkConfiguration.networkInterfaceAttributes.{name}")
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn check(&self) -> Result<(), FieldError> {
        match self.max_tracked_connections {
            Some(0) => Err(FieldError::new(
                Self::field("maxTrackedConnections"),
                "0 leaves the task no connection",
                "write 1 or more, or leave it out",
            )),
            _ => Ok(()),
        }
    }
}

/// Whether a task gets a public address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AssignPublicIp {
    /// Refused: only Fargate has it.
    Enabled,
    /// The task reaches the internet through a NAT gateway.
    #[default]
    Disabled,
}

/// A task's name: 1 to 64 letters, digits, `-` or `_`, not beginning with `-`; safe as a file name.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$", example = "web")]
pub struct TaskId(String);

/// Text that is no task id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no task id; write 1 to 64 letters, digits, - or _, not beginning with -")]
pub struct NoTaskId(pub String);

impl TaskId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TaskId {
    type Error = NoTaskId;

    fn try_from(text: String) -> Result<Self, NoTaskId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') {
            Ok(Self(text))
        } else {
            Err(NoTaskId(text))
        }
    }
}

impl std::str::FromStr for TaskId {
    type Err = NoTaskId;

    fn from_str(text: &str) -> Result<Self, NoTaskId> {
        Self::try_from(text.to_owned())
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        id.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What a client says again when it repeats a request: 1 to 64 visible ASCII characters, as EC2's and
/// ECS's `clientToken`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[!-~]{1,64}$")]
pub struct ClientToken(String);

/// Text that is no client token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no client token; write 1 to 64 visible ASCII characters")]
pub struct NoClientToken(pub String);

impl TryFrom<String> for ClientToken {
    type Error = NoClientToken;

    fn try_from(text: String) -> Result<Self, NoClientToken> {
        let is_visible = |byte: u8| byte.is_ascii_graphic();
        if (1..=64).contains(&text.len()) && text.bytes().all(is_visible) {
            Ok(Self(text))
        } else {
            Err(NoClientToken(text))
        }
    }
}

impl From<ClientToken> for String {
    fn from(token: ClientToken) -> Self {
        token.0
    }
}

impl fmt::Display for ClientToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl TaskSpec {
    /// Whether both want the same network for the same task, whoever asks.
    #[must_use]
    pub fn is_same_wish(&self, other: &Self) -> bool {
        let wish = |spec: &Self| Self {
            client_token: None,
            ..spec.clone()
        };
        wish(self) == wish(other)
    }

    /// Reads and checks a specification.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, FieldError> {
        let spec: Self = from_json(json)?;
        spec.check()?;
        Ok(spec)
    }

    /// The task's `awsvpcConfiguration`.
    pub fn awsvpc(&self) -> &AwsvpcConfiguration {
        &self.network_configuration.awsvpc_configuration
    }

    /// The task's `networkInterfaceAttributes`.
    pub fn network_interface_attributes(&self) -> &NetworkInterfaceAttributes {
        &self.network_configuration.network_interface_attributes
    }

    /// Checks what can be checked without knowing the VPC.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub(crate) fn check(&self) -> Result<(), FieldError> {
        let field = |name: &str| format!("networkConfiguration.awsvpcConfiguration.{name}");
        let awsvpc = self.awsvpc();
        if awsvpc.subnets.is_empty() {
            return Err(FieldError::new(
                field("subnets"),
                "is empty",
                "name 1 to 16 subnets",
            ));
        }
        check_list(&field("subnets"), &awsvpc.subnets, MAX_SUBNETS, "subnets")?;
        check_list(
            &field("securityGroups"),
            &awsvpc.security_groups,
            MAX_SECURITY_GROUPS,
            "security groups",
        )?;
        if awsvpc.assign_public_ip == AssignPublicIp::Enabled {
            let fix = "write DISABLED, and reach the internet through the NAT gateway";
            return Err(FieldError::new(
                field("assignPublicIp"),
                "ENABLED is for Fargate only",
                fix,
            ));
        }
        self.network_interface_attributes().check()?;
        self.ecs.check()?;
        check_tags(&self.tags)?;
        for (index, control) in self.system_controls.iter().enumerate() {
            control.check(&format!("systemControls[{index}]"))?;
        }
        self.cni_attachment
            .as_ref()
            .map_or(Ok(()), CniAttachment::check)?;
        match &self.network_namespace {
            Some(path) if !path.is_absolute() => {
                let problem = format!("{path:?} is not an absolute path");
                Err(FieldError::new(
                    "networkNamespace",
                    problem,
                    "start it with /, or leave it out",
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Checks a list of ids: not too many, each once.
///
/// # Errors
/// The list, or the entry that is wrong.
pub(crate) fn check_list(
    field: &str,
    ids: &[String],
    most: usize,
    what: &str,
) -> Result<(), FieldError> {
    if ids.len() > most {
        let problem = format!("names {} {what}", ids.len());
        return Err(FieldError::new(
            field,
            problem,
            format!("name {most} at most"),
        ));
    }
    for (index, id) in ids.iter().enumerate() {
        if ids[..index].contains(id) {
            let problem = format!("{id:?} is listed twice");
            return Err(FieldError::new(
                format!("{field}[{index}]"),
                problem,
                "remove one of them",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
