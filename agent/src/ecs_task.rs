//! What a task is at ECS, for its flow records: ARNs, service, containers; and tags.
//!
//! Changes nothing of the task's network. Pure.

use serde::{Deserialize, Serialize};

use crate::field_error::FieldError;

/// A task's identity at ECS or at whoever speaks like it, in the names of DescribeTasks. Changes
/// nothing but what flow records say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EcsTask {
    /// As `arn:aws:ecs:us-east-1:123456789012:cluster/prod`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_arn: Option<String>,
    /// As `arn:aws:ecs:us-east-1:123456789012:task/prod/0123456789abcdef0123456789abcdef`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_arn: Option<String>,
    /// As `arn:aws:ecs:us-east-1:123456789012:task-definition/web:7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_definition_arn: Option<String>,
    /// As `arn:aws:ecs:us-east-1:123456789012:container-instance/prod/0123...`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_instance_arn: Option<String>,
    /// `service:` and the service's name, or `family:` and the definition's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its containers, in the order in which they start, without the pause container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<EcsContainer>,
}

/// A container of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EcsContainer {
    /// The container runtime's id.
    pub runtime_id: String,
    /// Its name in the task definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As `registry.example/web:7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// A tag, as EC2 has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// 1 to 128 characters.
    pub key: String,
    /// Up to 256 characters.
    #[serde(default)]
    pub value: String,
}

impl EcsTask {
    /// The cluster's name: what its ARN ends with.
    #[must_use]
    pub fn cluster_name(&self) -> Option<&str> {
        self.cluster_arn.as_deref().map(last_component)
    }

    /// The task's id: what its ARN ends with.
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        self.task_arn.as_deref().map(last_component)
    }

    /// The container instance's id: what its ARN ends with.
    #[must_use]
    pub fn container_instance_id(&self) -> Option<&str> {
        self.container_instance_arn.as_deref().map(last_component)
    }

    /// The task definition's family and revision: what its ARN ends with.
    #[must_use]
    pub fn family_and_revision(&self) -> Option<(&str, &str)> {
        let definition = last_component(self.task_definition_arn.as_deref()?);
        Some(definition.rsplit_once(':').unwrap_or((definition, "")))
    }

    /// The service that started the task.
    #[must_use]
    pub fn service_name(&self) -> Option<&str> {
        self.group.as_deref()?.strip_prefix("service:")
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// What stands in a row must be one word of it.
    pub(crate) fn check(&self) -> Result<(), FieldError> {
        let named = [
            ("clusterArn", &self.cluster_arn),
            ("taskArn", &self.task_arn),
            ("taskDefinitionArn", &self.task_definition_arn),
            ("containerInstanceArn", &self.container_instance_arn),
            ("group", &self.group),
        ];
        for (name, value) in named {
            check_word(&format!("ecs.{name}"), value.as_deref())?;
        }
        for (index, container) in self.containers.iter().enumerate() {
            let field = |name: &str| format!("ecs.containers[{index}].{name}");
            check_word(&field("runtimeId"), Some(&container.runtime_id))?;
            check_word(&field("name"), container.name.as_deref())?;
            check_word(&field("image"), container.image.as_deref())?;
        }
        Ok(())
    }
}

fn last_component(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

fn check_word(field: &str, value: Option<&str>) -> Result<(), FieldError> {
    match value {
        Some(word) if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(FieldError::new(
                field,
                format!("{word:?} cannot stand in a flow record"),
                "write visible ASCII characters without blanks, or leave it out",
            ))
        }
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn check_tags(tags: &[Tag]) -> Result<(), FieldError> {
    for (index, tag) in tags.iter().enumerate() {
        let wrong = |name: &str, problem: String, fix: &str| {
            FieldError::new(format!("tags[{index}].{name}"), problem, fix)
        };
        if !(1..=128).contains(&tag.key.chars().count()) {
            let problem = format!("{:?} is no tag key", tag.key);
            return Err(wrong("key", problem, "write 1 to 128 characters"));
        }
        if tag.value.chars().count() > 256 {
            let problem = format!("the value of {:?} is too long", tag.key);
            return Err(wrong("value", problem, "write 256 characters at most"));
        }
        if tags[..index].iter().any(|other| other.key == tag.key) {
            let problem = format!("{:?} is there twice", tag.key);
            return Err(wrong("key", problem, "remove one of them"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> EcsTask {
        let arn = |rest: &str| Some(format!("arn:aws:ecs:us-east-1:123456789012:{rest}"));
        EcsTask {
            cluster_arn: arn("cluster/prod"),
            task_arn: arn("task/prod/0123"),
            container_instance_arn: arn("container-instance/prod/4567"),
            group: Some("service:web".to_owned()),
            ..EcsTask::default()
        }
    }

    #[test]
    fn names_and_ids_are_what_arns_end_with() {
        let task = task();
        assert_eq!(task.cluster_name(), Some("prod"));
        assert_eq!(task.task_id(), Some("0123"));
        assert_eq!(task.container_instance_id(), Some("4567"));
        assert_eq!(task.service_name(), Some("web"));
        let family = EcsTask {
            group: Some("family:web".to_owned()),
            ..EcsTask::default()
        };
        assert_eq!((family.service_name(), family.task_id()), (None, None));
        assert!(task.check().is_ok());
    }

    #[test]
    fn what_would_break_a_row_is_refused_by_its_field() {
        for bad in ["", "a b", "a\nb", "\u{e4}"] {
            let task = EcsTask {
                containers: vec![EcsContainer {
                    runtime_id: bad.to_owned(),
                    ..EcsContainer::default()
                }],
                ..task()
            };
            let error = task.check().expect_err("refused");
            assert_eq!(error.field, "ecs.containers[0].runtimeId", "{bad:?}");
        }
    }

    #[test]
    fn tags_have_one_value_each() {
        let tag = |key: &str, value: &str| Tag {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        assert!(check_tags(&[tag("a", "1"), tag("b", "")]).is_ok());
        for (tags, field) in [
            (vec![tag("", "1")], "tags[0].key"),
            (vec![tag("a", "1"), tag("a", "2")], "tags[1].key"),
            (vec![tag("a", &"x".repeat(257))], "tags[0].value"),
        ] {
            assert_eq!(check_tags(&tags).expect_err("refused").field, field);
        }
    }
}
