//! `[ec2.warm_pool]`: branches that wait on the trunk for tasks.

use serde::{Deserialize, Serialize};

use crate::field_error::{FieldError, check_id, within};
use crate::spec::{MAX_SECURITY_GROUPS, MAX_SUBNETS, check_list};

/// Branches that wait.
const BRANCHES: std::ops::RangeInclusive<u32> = 1..=120;

/// Branches that are made, and put on the trunk, before any task wants them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmPoolConfig {
    /// How many wait.
    pub branches: u32,
    /// Where they are made: in the first that has addresses. A task gets one only if it lists its subnet.
    pub subnets: Vec<String>,
    /// Their groups; none means the VPC's default group. A task with the same starts without a call.
    #[serde(default)]
    pub security_groups: Vec<String>,
}

impl WarmPoolConfig {
    pub(super) fn check(&self) -> Result<(), FieldError> {
        within("ec2.warm_pool.branches", self.branches, &BRANCHES)?;
        let field = "ec2.warm_pool.subnets";
        if self.subnets.is_empty() {
            let fix = "name 1 to 16 subnets of the host's zone";
            return Err(FieldError::new(field, "is empty", fix));
        }
        check_list(field, &self.subnets, MAX_SUBNETS, "subnets")?;
        for (index, id) in self.subnets.iter().enumerate() {
            check_id(id, "subnet-", &format!("{field}[{index}]"))?;
        }
        let (field, groups) = ("ec2.warm_pool.security_groups", &self.security_groups);
        check_list(field, groups, MAX_SECURITY_GROUPS, "security groups")?;
        for (index, id) in groups.iter().enumerate() {
            check_id(id, "sg-", &format!("{field}[{index}]"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use crate::config::Config;

    #[test]
    fn every_field_is_checked() {
        let parse = |text: &str| Config::parse(&format!("[ec2.warm_pool]\n{text}"));
        let rows = [
            (
                "branches = 0\nsubnets = ['subnet-1']",
                "ec2.warm_pool.branches",
            ),
            (
                "branches = 121\nsubnets = ['subnet-1']",
                "ec2.warm_pool.branches",
            ),
            ("branches = 1\nsubnets = []", "ec2.warm_pool.subnets"),
            (
                "branches = 1\nsubnets = ['sg-1']",
                "ec2.warm_pool.subnets[0]",
            ),
            (
                "branches = 1\nsubnets = ['subnet-1', 'subnet-1']",
                "ec2.warm_pool.subnets[1]",
            ),
            (
                "branches = 1\nsubnets = ['subnet-1']\nsecurity_groups = ['web']",
                "ec2.warm_pool.security_groups[0]",
            ),
            ("subnets = ['subnet-1']", "ec2.warm_pool"),
        ];
        for (text, field) in rows {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(field), "{text}: {error}");
        }
        let config = parse("branches = 4\nsubnets = ['subnet-1']").unwrap();
        assert_eq!(config.ec2.warm_pool.unwrap().branches, 4);
    }
}
