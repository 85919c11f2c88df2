//! `[ec2]`: the provider for EC2 instances.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::WarmPoolConfig;
use crate::field_error::{FieldError, check_id, within};

/// Seconds that a call to EC2 may take with all its repeats.
const DEADLINE: std::ops::RangeInclusive<u32> = 5..=600;
/// Seconds between two looks at what EC2 has.
const POLL: std::ops::RangeInclusive<u32> = 5..=3_600;
/// Seconds until an attached ENI's link must be there.
const LINK_DEADLINE: std::ops::RangeInclusive<u32> = 5..=600;
/// Seconds from a branch's leaving the trunk to its deletion; EKS's controller never takes less than 30.
const COOL_DOWN: std::ops::RangeInclusive<u32> = 30..=3_600;
/// Percent of the account's request quota.
const SHARE: std::ops::RangeInclusive<u32> = 1..=100;
/// Branches of a trunk.
const BRANCHES: std::ops::RangeInclusive<u32> = 1..=4094;
/// Longest tag value (EC2).
const TAG: usize = 256;

/// How to work on EC2. What is left out, the instance metadata service tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ec2Config {
    /// The operator's name for hosts that belong together: a tag of every ENI that branchline makes.
    pub cluster: String,
    /// As `eu-west-1`.
    pub region: Option<String>,
    /// As `i-0123456789abcdef0`.
    pub instance_id: Option<String>,
    /// As `m5.large`.
    pub instance_type: Option<String>,
    /// As `eu-west-1a`.
    pub availability_zone: Option<String>,
    /// Another address than the Region's own, as `https://vpce-….ec2.eu-west-1.vpce.amazonaws.com`.
    pub endpoint_url: Option<String>,
    /// Another address than the instance metadata service's own.
    pub metadata_endpoint: Option<String>,
    /// What a task's ENI is.
    pub mode: Mode,
    /// The trunk ENI; left out, the one attached to the instance, or a new one.
    pub trunk_interface_id: Option<String>,
    /// Branches that the trunk takes at most; left out, what the instance type's limits say, else 120.
    pub max_branches: Option<u32>,
    /// Percent of the account's request quota that this host uses at most: hosts share it.
    pub request_share_percent: u32,
    /// Seconds that a call to EC2 may take with all its repeats.
    pub deadline: u32,
    /// Seconds from EC2's `attached` to the ENI's link on this host: mostly a few, and up to 150 have been seen.
    pub link_deadline: u32,
    /// Seconds between two looks at groups, subnets and ENIs.
    pub poll: u32,
    /// Seconds for which VLAN id and ENI of a task that has gone rest before they are used again or deleted.
    pub cool_down: u32,
    /// What carries the frames.
    pub wire: WireKind,
    /// Branches that wait for tasks; left out, none do.
    pub warm_pool: Option<WarmPoolConfig>,
}

/// What a task's ENI is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A branch of the instance's trunk.
    Trunk,
    /// An ENI of the instance's, with a link of its own; for instance types without trunks.
    Eni,
}

/// What carries the frames of the trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WireKind {
    /// The link with the trunk ENI's MAC address.
    Trunk,
    /// The embedded VPC of this host, for tests with an EC2 that is none.
    Fabric,
}

impl Default for Ec2Config {
    fn default() -> Self {
        Self {
            cluster: "default".to_owned(),
            region: None,
            instance_id: None,
            instance_type: None,
            availability_zone: None,
            endpoint_url: None,
            metadata_endpoint: None,
            mode: Mode::Trunk,
            trunk_interface_id: None,
            max_branches: None,
            request_share_percent: 50,
            deadline: 120,
            link_deadline: 180,
            poll: 30,
            cool_down: 60,
            wire: WireKind::Trunk,
            warm_pool: None,
        }
    }
}

impl Ec2Config {
    /// The deadline of a call.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline.into())
    }

    /// How long a link is waited for.
    #[must_use]
    pub fn link_deadline(&self) -> Duration {
        Duration::from_secs(self.link_deadline.into())
    }

    /// The time between two looks.
    #[must_use]
    pub fn poll(&self) -> Duration {
        Duration::from_secs(self.poll.into())
    }

    /// The rest of what a task had.
    #[must_use]
    pub fn cool_down(&self) -> Duration {
        Duration::from_secs(self.cool_down.into())
    }

    pub(super) fn check(&self) -> Result<(), FieldError> {
        let is_tag = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/=+@ ".contains(&byte);
        let cluster = &self.cluster;
        if cluster.is_empty() || cluster.len() > TAG || !cluster.bytes().all(is_tag) {
            return Err(FieldError::new(
                "ec2.cluster",
                format!("{cluster:?} cannot be a tag's value"),
                "write 1 to 256 letters, digits, blanks or any of - _ . : / = + @",
            ));
        }
        if let Some(id) = &self.instance_id {
            check_id(id, "i-", "ec2.instance_id")?;
        }
        if let Some(id) = &self.trunk_interface_id {
            check_id(id, "eni-", "ec2.trunk_interface_id")?;
        }
        for (field, url) in [
            ("ec2.endpoint_url", &self.endpoint_url),
            ("ec2.metadata_endpoint", &self.metadata_endpoint),
        ] {
            let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
            if let Some(url) = url.as_ref().filter(|url| !is_url(url)) {
                return Err(FieldError::new(
                    field,
                    format!("{url:?} is no address"),
                    "begin it with https:// or http://",
                ));
            }
        }
        self.check_mode()?;
        if let Some(branches) = self.max_branches {
            within("ec2.max_branches", branches, &BRANCHES)?;
        }
        within(
            "ec2.request_share_percent",
            self.request_share_percent,
            &SHARE,
        )?;
        within("ec2.deadline", self.deadline, &DEADLINE)?;
        within("ec2.link_deadline", self.link_deadline, &LINK_DEADLINE)?;
        within("ec2.poll", self.poll, &POLL)?;
        within("ec2.cool_down", self.cool_down, &COOL_DOWN)?;
        self.warm_pool
            .as_ref()
            .map_or(Ok(()), WarmPoolConfig::check)
    }

    /// What is of a trunk means nothing without one.
    fn check_mode(&self) -> Result<(), FieldError> {
        if self.mode == Mode::Trunk {
            return Ok(());
        }
        let of_trunk = [
            ("ec2.trunk_interface_id", self.trunk_interface_id.is_some()),
            ("ec2.max_branches", self.max_branches.is_some()),
            ("ec2.wire", self.wire == WireKind::Fabric),
            ("ec2.warm_pool", self.warm_pool.is_some()),
        ];
        match of_trunk.into_iter().find(|(_, is_set)| *is_set) {
            None => Ok(()),
            Some((field, _)) => Err(FieldError::new(
                field,
                "is set, and with ec2.mode = \"eni\" there is no trunk",
                "remove it, or write ec2.mode = \"trunk\"",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use crate::config::Config;

    #[test]
    fn every_field_is_checked() {
        let rows = [
            ("cluster = ''", "ec2.cluster"),
            ("cluster = 'a\\nb'", "ec2.cluster"),
            ("instance_id = 'web'", "ec2.instance_id"),
            ("trunk_interface_id = 'i-1'", "ec2.trunk_interface_id"),
            ("endpoint_url = 'localhost:5000'", "ec2.endpoint_url"),
            (
                "metadata_endpoint = '169.254.169.254'",
                "ec2.metadata_endpoint",
            ),
            ("max_branches = 0", "ec2.max_branches"),
            ("request_share_percent = 101", "ec2.request_share_percent"),
            ("deadline = 4", "ec2.deadline"),
            ("poll = 1", "ec2.poll"),
            ("cool_down = 29", "ec2.cool_down"),
            ("wire = 'tap'", "ec2.wire"),
            ("mode = 'branch'", "ec2.mode"),
            ("link_deadline = 4", "ec2.link_deadline"),
            ("mode = 'eni'\nmax_branches = 9", "ec2.max_branches"),
            ("mode = 'eni'\nwire = 'fabric'", "ec2.wire"),
            (
                "mode = 'eni'\ntrunk_interface_id = 'eni-0123456789abcdef0'",
                "ec2.trunk_interface_id",
            ),
            (
                "mode = 'eni'\n[ec2.warm_pool]\nbranches = 1\nsubnets = ['subnet-0123456789abcdef0']",
                "ec2.warm_pool",
            ),
            ("modus = 'trunk'", "ec2"),
        ];
        for (line, field) in rows {
            let error = Config::parse(&format!("provider = 'ec2'\n[ec2]\n{line}")).unwrap_err();
            assert!(error.to_string().starts_with(field), "{line}: {error}");
        }
        assert!(Config::parse("provider = 'ec2'").is_ok());
        assert!(Config::parse("provider = 'ec2'\n[ec2]\nmode = 'eni'").is_ok());
    }
}
