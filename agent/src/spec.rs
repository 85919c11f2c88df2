//! The task specification: JSON with ECS's field names, checked without knowing the VPC.
//!
//! Whether a subnet or group exists is the provider's to say. Never touches the host.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, from_json};
use crate::security_groups::quotas::MAX_GROUPS_PER_ENI;

/// Subnets that one task may list.
pub const MAX_SUBNETS: usize = 16;
/// Security groups that one task may list.
pub const MAX_SECURITY_GROUPS: usize = MAX_GROUPS_PER_ENI;

/// What a task wants of its network. Two equal specifications are one wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TaskSpec {
    /// The task's name on this host.
    pub task_id: TaskId,
    /// ECS's `networkConfiguration`.
    pub network_configuration: NetworkConfiguration,
    /// A namespace that exists already, as `/proc/1234/ns/net`; without it the agent makes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_namespace: Option<PathBuf>,
}

/// ECS's `networkConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkConfiguration {
    /// The only mode there is.
    pub awsvpc_configuration: AwsvpcConfiguration,
}

/// ECS's `awsvpcConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Whether a task gets a public address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AssignPublicIp {
    /// Refused: only Fargate has it.
    Enabled,
    /// The task reaches the internet through a NAT gateway.
    #[default]
    Disabled,
}

/// A task's name: 1 to 64 letters, digits, `-` or `_`, not beginning with `-`; safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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

impl TaskSpec {
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

    fn check(&self) -> Result<(), FieldError> {
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

fn check_list(field: &str, ids: &[String], most: usize, what: &str) -> Result<(), FieldError> {
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
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn spec(id: &str, awsvpc: &str, rest: &str) -> String {
        format!(
            r#"{{"taskId": {id}, "networkConfiguration": {{"awsvpcConfiguration": {{{awsvpc}}}}}{rest}}}"#
        )
    }

    #[test]
    fn defaults_are_ecss() {
        let spec = TaskSpec::parse(spec(r#""web-1""#, r#""subnets": ["subnet-a"]"#, "").as_bytes())
            .unwrap();
        assert_eq!(spec.task_id.as_str(), "web-1");
        assert_eq!(spec.awsvpc().security_groups, Vec::<String>::new());
        assert_eq!(spec.awsvpc().assign_public_ip, AssignPublicIp::Disabled);
        assert_eq!(spec.network_namespace, None);
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(TaskSpec::parse(text.as_bytes()).unwrap(), spec);
    }

    #[test]
    fn bad_specifications_name_field_and_fix() {
        let subnets = |count: usize| {
            let ids: Vec<String> = (0..count).map(|n| format!("\"subnet-{n}\"")).collect();
            format!(r#""subnets": [{}]"#, ids.join(","))
        };
        let one = subnets(1);
        let id = r#""web""#;
        let groups: Vec<String> = (0..17).map(|n| format!("\"sg-{n}\"")).collect();
        let groups = format!(r#""securityGroups": [{}]"#, groups.join(","));
        let awsvpc = "networkConfiguration.awsvpcConfiguration";
        let rows = [
            (spec(r#""""#, &one, ""), "taskId".to_owned(), "1 to 64"),
            (
                spec(r#""a/b""#, &one, ""),
                "taskId".to_owned(),
                "letters, digits",
            ),
            (
                spec(r#""..""#, &one, ""),
                "taskId".to_owned(),
                "letters, digits",
            ),
            (
                spec(r#""-a""#, &one, ""),
                "taskId".to_owned(),
                "not beginning with -",
            ),
            (
                spec(&format!("\"{}\"", "x".repeat(65)), &one, ""),
                "taskId".to_owned(),
                "1 to 64",
            ),
            (
                spec("7", &one, ""),
                "taskId".to_owned(),
                "expected a string",
            ),
            (spec(id, "", ""), format!("{awsvpc}.subnets"), "add it"),
            (
                spec(id, &subnets(0), ""),
                format!("{awsvpc}.subnets"),
                "name 1 to 16 subnets",
            ),
            (
                spec(id, &subnets(17), ""),
                format!("{awsvpc}.subnets"),
                "names 17 subnets; name 16 at most",
            ),
            (
                spec(id, r#""subnets": ["a", "b", "a"]"#, ""),
                format!("{awsvpc}.subnets[2]"),
                "remove one",
            ),
            (
                spec(id, r#""subnets": ["a", 5]"#, ""),
                format!("{awsvpc}.subnets[1]"),
                "expected a string",
            ),
            (
                spec(id, &format!("{one}, {groups}"), ""),
                format!("{awsvpc}.securityGroups"),
                "name 16 at most",
            ),
            (
                spec(id, &format!(r#"{one}, "securityGroups": ["a", "a"]"#), ""),
                format!("{awsvpc}.securityGroups[1]"),
                "remove one",
            ),
            (
                spec(id, &format!(r#"{one}, "assignPublicIp": "ENABLED""#), ""),
                format!("{awsvpc}.assignPublicIp"),
                "write DISABLED",
            ),
            (
                spec(id, &format!(r#"{one}, "assignPublicIp": "yes""#), ""),
                format!("{awsvpc}.assignPublicIp"),
                "unknown variant",
            ),
            (
                spec(id, &format!(r#"{one}, "securityGroup": []"#), ""),
                format!("{awsvpc}.securityGroup"),
                "expected one of",
            ),
            (
                spec(id, &one, r#", "networkNamespace": "ns""#),
                "networkNamespace".to_owned(),
                "start it with /",
            ),
            (
                spec(id, &one, r#", "cpu": 1"#),
                "cpu".to_owned(),
                "unknown field",
            ),
            (
                r#"{"taskId": "a"}"#.to_owned(),
                "networkConfiguration".to_owned(),
                "add it",
            ),
            ("{".to_owned(), "line 1".to_owned(), "not JSON"),
        ];
        for (text, field, says) in rows {
            let error = TaskSpec::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.field, field, "{text}: {error}");
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
        assert!(TaskSpec::parse(spec(id, &subnets(16), "").as_bytes()).is_ok());
    }
}
