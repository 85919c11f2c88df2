//! The groups that a task's ENI is to have in place of its own, checked without knowing the VPC. Pure.

use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, from_json};
use crate::spec::{MAX_SECURITY_GROUPS, check_list};

/// Its one field.
pub(crate) const FIELD: &str = "securityGroups";

/// The body of `PUT /v1/tasks/{id}/security-groups`, as EC2's ModifyNetworkInterfaceAttribute takes groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"securityGroups": ["sg-web", "sg-admin"]}))]
pub struct TaskGroups {
    /// 1 to 16 group ids, in place of all that the ENI has.
    #[schema(min_items = 1, max_items = 16)]
    pub security_groups: Vec<String>,
}

impl TaskGroups {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, FieldError> {
        let groups: Self = from_json(json)?;
        let ids = &groups.security_groups;
        if ids.is_empty() {
            let fix = "name 1 to 16 security groups";
            return Err(FieldError::new(FIELD, "is empty", fix));
        }
        check_list(FIELD, ids, MAX_SECURITY_GROUPS, "security groups")?;
        Ok(groups)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn one_to_sixteen_groups_each_once() {
        let parse = |ids: &[String]| {
            let body = serde_json::json!({ "securityGroups": ids }).to_string();
            TaskGroups::parse(body.as_bytes())
        };
        let ids: Vec<String> = (0..17).map(|number| format!("sg-{number}")).collect();
        assert_eq!(parse(&ids[..16]).unwrap().security_groups, ids[..16]);
        let said = |ids: &[String]| parse(ids).unwrap_err().to_string();
        assert!(said(&[]).starts_with("securityGroups: is empty"));
        assert!(said(&ids).contains("names 17 security groups"));
        let twice = [ids[0].clone(), ids[0].clone()];
        assert!(said(&twice).starts_with("securityGroups[1]"));
        let unknown = TaskGroups::parse(br#"{"groups": ["sg-1"]}"#).unwrap_err();
        assert!(unknown.to_string().contains("groups"), "{unknown}");
    }
}
