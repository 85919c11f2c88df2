//! ECS's RunTask with a task definition, as the AWS CLI takes and prints them, made a task specification.
//!
//! What ECS's documents say beyond the network is read past. What a task in `awsvpc` mode may not have is refused, as
//! ECS refuses it (ECS developer guide, "Task networking with awsvpc"). Pure.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ecs_task::{EcsTask, Tag};
use crate::field_error::{FieldError, from_json};
use crate::spec::{ClientToken, NetworkConfiguration, TaskId, TaskSpec};
use crate::system_controls::{SystemControl, last_of_each};

/// Security groups that ECS lets a task list; an ENI may have more.
const MAX_SECURITY_GROUPS: usize = 5;

/// The input of RunTask, with a task definition in place of its name if it is to be checked. Fields of ECS's that have
/// no meaning here may be there.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunTask {
    /// The task's name on this host; made up if left out. Branchline's own.
    task_id: Option<TaskId>,
    /// A namespace that exists already; without it the agent makes one. Branchline's own.
    #[schema(value_type = Option<String>)]
    network_namespace: Option<PathBuf>,
    /// `family:revision`, an ARN, or the definition itself as RegisterTaskDefinition takes it or DescribeTaskDefinition
    /// prints it.
    task_definition: DefinitionOrName,
    /// As RunTask takes it.
    network_configuration: Option<NetworkConfiguration>,
    /// The cluster's name or ARN.
    cluster: Option<String>,
    /// `service:` and the service's name, or anything else; `family:` and the family if left out.
    group: Option<String>,
    /// `EC2`, `EXTERNAL` or nothing.
    launch_type: Option<String>,
    /// 1 or nothing.
    count: Option<i64>,
    /// The same in every repeat of the request.
    client_token: Option<ClientToken>,
    /// Tags of the ENI.
    #[serde(default)]
    tags: Vec<Tag>,
}

/// A task definition, or what names one.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
enum DefinitionOrName {
    /// As `web:7` or an ARN.
    Name(String),
    /// As DescribeTaskDefinition prints it.
    Described(Described),
    /// As RegisterTaskDefinition takes it.
    Definition(Box<TaskDefinition>),
}

/// What DescribeTaskDefinition prints.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Described {
    /// The definition.
    task_definition: Box<TaskDefinition>,
}

/// What of a task definition concerns its network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct TaskDefinition {
    /// Its name.
    family: String,
    /// With `family` its name at ECS.
    revision: Option<u32>,
    /// Its ARN.
    task_definition_arn: Option<String>,
    /// Must be `awsvpc`.
    network_mode: Option<String>,
    /// Its containers.
    #[serde(default)]
    container_definitions: Vec<ContainerDefinition>,
}

/// What of a container definition concerns the network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
struct ContainerDefinition {
    name: String,
    disable_networking: Option<bool>,
    links: Vec<String>,
    hostname: Option<String>,
    dns_servers: Vec<String>,
    dns_search_domains: Vec<String>,
    extra_hosts: Vec<serde_json::Value>,
    port_mappings: Vec<PortMapping>,
    system_controls: Vec<SystemControl>,
}

/// A port that a container listens on; nothing is mapped.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
struct PortMapping {
    container_port: Option<u16>,
    host_port: Option<u16>,
    protocol: Option<String>,
}

impl RunTask {
    /// Reads and checks a request; `new_id` is the task's name if it has none.
    ///
    /// # Errors
    /// The first field that is wrong, or that a task in `awsvpc` mode may not have.
    pub fn parse(json: &[u8], new_id: impl FnOnce() -> TaskId) -> Result<TaskSpec, FieldError> {
        let request: Self = from_json(json)?;
        let spec = request.into_spec(new_id)?;
        spec.check()?;
        Ok(spec)
    }

    fn into_spec(self, new_id: impl FnOnce() -> TaskId) -> Result<TaskSpec, FieldError> {
        self.check()?;
        let network_configuration = self.network_configuration.ok_or_else(|| {
            let fix = "write {\"awsvpcConfiguration\": {\"subnets\": [...]}}; awsvpc mode needs it";
            FieldError::new("networkConfiguration", "is missing", fix)
        })?;
        let groups = &network_configuration.awsvpc_configuration.security_groups;
        if groups.len() > MAX_SECURITY_GROUPS {
            return Err(FieldError::new(
                "networkConfiguration.awsvpcConfiguration.securityGroups",
                format!("names {} security groups", groups.len()),
                format!("name {MAX_SECURITY_GROUPS} at most, as ECS"),
            ));
        }
        let (name, definition) = match self.task_definition {
            DefinitionOrName::Name(name) => (name, None),
            DefinitionOrName::Described(Described { task_definition })
            | DefinitionOrName::Definition(task_definition) => {
                (task_definition.name(), Some(task_definition))
            }
        };
        let definition = definition.map_or_else(Default::default, |definition| *definition);
        definition.check()?;
        let family = || format!("family:{}", family(&name));
        Ok(TaskSpec {
            task_id: self.task_id.unwrap_or_else(new_id),
            client_token: self.client_token,
            network_configuration,
            network_namespace: self.network_namespace,
            link_name: Default::default(),
            cni_attachment: None,
            ecs: EcsTask {
                cluster_arn: self.cluster,
                group: Some(self.group.unwrap_or_else(family)),
                task_definition_arn: Some(name.clone()),
                ..EcsTask::default()
            },
            system_controls: definition.system_controls(),
            tags: self.tags,
        })
    }

    fn check(&self) -> Result<(), FieldError> {
        if let Some(count) = self.count
            && count != 1
        {
            let problem = format!("{count} is not one task");
            return Err(FieldError::new(
                "count",
                problem,
                "send one request for each task",
            ));
        }
        match self.launch_type.as_deref() {
            None | Some("EC2" | "EXTERNAL") => Ok(()),
            Some(other) => Err(FieldError::new(
                "launchType",
                format!("{other:?} is not a host of one's own"),
                "write EC2, or leave it out",
            )),
        }
    }
}

impl TaskDefinition {
    fn name(&self) -> String {
        match (&self.task_definition_arn, self.revision) {
            (Some(arn), _) => arn.clone(),
            (None, Some(revision)) => format!("{}:{revision}", self.family),
            (None, None) => self.family.clone(),
        }
    }

    fn check(&self) -> Result<(), FieldError> {
        // One that is only named has been checked by whoever registered it.
        if *self == Self::default() {
            return Ok(());
        }
        match self.network_mode.as_deref() {
            Some("awsvpc") => {}
            mode => {
                let problem = match mode {
                    Some(mode) => format!("{mode:?} gives a task no ENI of its own"),
                    None => "is missing, and on Linux that means bridge".to_owned(),
                };
                let fix = "write awsvpc: it is the only mode there is here";
                return Err(FieldError::new("taskDefinition.networkMode", problem, fix));
            }
        }
        let containers = self.container_definitions.iter().enumerate();
        for (index, container) in containers {
            container.check(&format!("taskDefinition.containerDefinitions[{index}]"))?;
        }
        Ok(())
    }

    fn system_controls(&self) -> Vec<SystemControl> {
        let controls = self.container_definitions.iter();
        let controls = controls.flat_map(|container| container.system_controls.iter().cloned());
        // Others are a container's own, and its runtime's to set.
        last_of_each(controls.filter(|control| control.key().starts_with("net/")))
    }
}

impl ContainerDefinition {
    fn check(&self, field: &str) -> Result<(), FieldError> {
        let refused = [
            ("disableNetworking", self.disable_networking == Some(true)),
            ("links", !self.links.is_empty()),
            ("hostname", self.hostname.is_some()),
            ("dnsServers", !self.dns_servers.is_empty()),
            ("dnsSearchDomains", !self.dns_search_domains.is_empty()),
            ("extraHosts", !self.extra_hosts.is_empty()),
        ];
        if let Some((name, _)) = refused.iter().find(|(_, is_there)| *is_there) {
            let problem = format!("container {:?} has it, and awsvpc mode does not", self.name);
            return Err(FieldError::new(
                format!("{field}.{name}"),
                problem,
                "leave it out",
            ));
        }
        for (index, mapping) in self.port_mappings.iter().enumerate() {
            match (mapping.host_port, mapping.container_port) {
                (Some(host), container) if host != 0 && Some(host) != container => {
                    return Err(FieldError::new(
                        format!("{field}.portMappings[{index}].hostPort"),
                        format!("{host} is not the containerPort, and nothing is mapped"),
                        "leave it out, or write the containerPort",
                    ));
                }
                _ => {}
            }
        }
        for (index, control) in self.system_controls.iter().enumerate() {
            if control.key().starts_with("net/") {
                control.check(&format!("{field}.systemControls[{index}]"))?;
            }
        }
        Ok(())
    }
}

/// The family of `family:revision` or of a definition's ARN.
fn family(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.split(':').next().unwrap_or(name)
}

#[cfg(test)]
#[path = "ecs_request_tests.rs"]
mod tests;
