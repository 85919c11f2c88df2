//! Security groups and their rules.

use ipnet::{Ipv4Net, Ipv6Net};

use super::Tags;

/// A security group.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct SecurityGroup {
    pub group_id: String,
    pub group_name: String,
    pub description: String,
    pub vpc_id: String,
    pub tags: Tags,
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "EC2's words")]
pub enum Target {
    CidrIpv4(Ipv4Net),
    CidrIpv6(Ipv6Net),
    PrefixList(String),
    Group(String),
}

/// A rule, as DescribeSecurityGroupRules has it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct SecurityGroupRule {
    pub security_group_rule_id: String,
    pub group_id: String,
    pub is_egress: bool,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number, or `-1` for all.
    pub ip_protocol: String,
    pub from_port: Option<i64>,
    pub to_port: Option<i64>,
    pub target: Target,
    pub description: Option<String>,
    pub tags: Tags,
}

impl SecurityGroupRule {
    /// Whether both say the same of the same group.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.group_id == other.group_id
            && self.is_egress == other.is_egress
            && self.ip_protocol == other.ip_protocol
            && self.from_port == other.from_port
            && self.to_port == other.to_port
            && self.target == other.target
    }
}
