//! What task metadata, version 4, says of a task and its containers. Pure.
//!
//! What this host does not know, such as images' ids and limits, is left out.

use std::collections::BTreeMap;

use serde::Serialize;

use super::id::Subject;
use super::network::{EniNetwork, NetworkDocument};
use crate::api::{TaskStatus, rfc3339, task_status};
use crate::ecs_task::EcsContainer;
use crate::life::AttachmentStatus;
use crate::task_record::TaskRecord;

/// A task to be shown to itself.
#[derive(Debug, Clone, Copy)]
pub struct Metadata<'a> {
    task: &'a TaskRecord,
    availability_zone_id: Option<&'a str>,
}

/// `/task` and `/taskWithTags`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskDocument {
    cluster: String,
    #[serde(rename = "TaskARN")]
    task_arn: String,
    family: String,
    revision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_name: Option<String>,
    desired_status: TaskStatus,
    known_status: TaskStatus,
    #[serde(rename = "VPCID")]
    vpc_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability_zone: Option<String>,
    #[serde(rename = "AvailabilityZoneID", skip_serializing_if = "Option::is_none")]
    availability_zone_id: Option<String>,
    launch_type: &'static str,
    fault_injection_enabled: bool,
    containers: Vec<ContainerDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_tags: Option<BTreeMap<String, String>>,
}

/// `/`, and one of a task's `Containers`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerDocument {
    docker_id: String,
    name: String,
    docker_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'static str, String>,
    desired_status: &'static str,
    known_status: &'static str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(rename = "Type")]
    kind: &'static str,
    networks: [NetworkDocument; 1],
}

impl<'a> Metadata<'a> {
    /// Of a task in the zone with this id.
    #[must_use]
    pub const fn of(task: &'a TaskRecord, availability_zone_id: Option<&'a str>) -> Self {
        Self {
            task,
            availability_zone_id,
        }
    }

    /// The task, without its tags.
    #[must_use]
    pub fn task(&self) -> TaskDocument {
        let ecs = &self.task.spec.ecs;
        let (known_status, desired_status) = task_status(self.task.status());
        let (family, revision) = ecs.family_and_revision().unwrap_or_default();
        let task_arn = ecs.task_arn.clone();
        let containers = 0..ecs.containers.len();
        TaskDocument {
            cluster: ecs.cluster_arn.clone().unwrap_or_default(),
            task_arn: task_arn.unwrap_or_else(|| self.task.spec.task_id.to_string()),
            family: family.to_owned(),
            revision: revision.to_owned(),
            service_name: ecs.service_name().map(str::to_owned),
            desired_status,
            known_status,
            vpc_id: self.task.eni.vpc_id.clone(),
            availability_zone: self.task.eni.availability_zone.clone(),
            availability_zone_id: self.availability_zone_id.map(str::to_owned),
            launch_type: "EC2",
            fault_injection_enabled: false,
            containers: std::iter::once(Subject::Task)
                .chain(containers.map(Subject::Container))
                .map(|subject| self.container(subject))
                .collect(),
            task_tags: None,
        }
    }

    /// The task with its tags.
    #[must_use]
    pub fn task_with_tags(&self) -> TaskDocument {
        let tags = self.task.spec.tags.iter();
        let tags = tags.map(|tag| (tag.key.clone(), tag.value.clone()));
        TaskDocument {
            task_tags: Some(tags.collect()),
            ..self.task()
        }
    }

    /// A container; of the task itself the one that holds its namespace.
    #[must_use]
    pub fn container(&self, subject: Subject) -> ContainerDocument {
        match subject {
            Subject::Task => self.pause(),
            Subject::Container(index) => match self.task.spec.ecs.containers.get(index) {
                Some(container) => self.normal(container),
                None => self.pause(),
            },
        }
    }

    fn pause(&self) -> ContainerDocument {
        let status = "RESOURCES_PROVISIONED";
        ContainerDocument {
            desired_status: status,
            known_status: status,
            kind: "CNI_PAUSE",
            ..self.any(
                super::id::task_id(self.task),
                "~internal~ecs~pause".to_owned(),
            )
        }
    }

    fn normal(&self, container: &EcsContainer) -> ContainerDocument {
        let id = &container.runtime_id;
        let name = container.name.as_ref().unwrap_or(id);
        ContainerDocument {
            image: container.image.clone(),
            labels: self.labels(name),
            ..self.any(id.clone(), name.clone())
        }
    }

    fn any(&self, docker_id: String, name: String) -> ContainerDocument {
        let life = &self.task.life;
        let (known, desired) = task_status(life.status());
        let network = EniNetwork::of(&self.task.eni, &self.task.dns);
        ContainerDocument {
            docker_id,
            docker_name: name.clone(),
            name,
            image: None,
            labels: BTreeMap::new(),
            desired_status: container_status(desired),
            known_status: container_status(known),
            created_at: rfc3339(life.created_at_ms()),
            started_at: life.entered_at_ms(AttachmentStatus::Attached).map(rfc3339),
            kind: "NORMAL",
            networks: [network.document()],
        }
    }

    fn labels(&self, name: &str) -> BTreeMap<&'static str, String> {
        let ecs = &self.task.spec.ecs;
        let (family, revision) = ecs.family_and_revision().unzip();
        let labels = [
            ("com.amazonaws.ecs.cluster", ecs.cluster_name()),
            ("com.amazonaws.ecs.container-name", Some(name)),
            ("com.amazonaws.ecs.task-arn", ecs.task_arn.as_deref()),
            ("com.amazonaws.ecs.task-definition-family", family),
            ("com.amazonaws.ecs.task-definition-version", revision),
        ];
        let known = labels
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?.to_owned())));
        known.collect()
    }
}

/// The agent starts no container: what it knows is whether the task's network is there.
const fn container_status(task: TaskStatus) -> &'static str {
    match task {
        TaskStatus::Provisioning => "PENDING",
        TaskStatus::Running => "RUNNING",
        TaskStatus::Deprovisioning | TaskStatus::Stopped => "STOPPED",
    }
}
