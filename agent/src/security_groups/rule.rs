//! One rule of a security group: direction, protocol, port range and peer. Pure.
//!
//! Never expands a peer: what a prefix list or a group stands for is `directory`'s.

use std::cmp::Ordering;
use std::fmt;

use branchline_common::headers::protocol::{ICMP, ICMPV6, TCP, UDP};
use branchline_common::verdict::Direction;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The protocol a rule allows.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Every protocol (`-1`).
    Any,
    /// One protocol, by its IANA number.
    Number(u8),
}

/// As EC2 prints it: a name, a number, or `-1`.
impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => out.write_str("-1"),
            Self::Number(TCP) => out.write_str("tcp"),
            Self::Number(UDP) => out.write_str("udp"),
            Self::Number(ICMP) => out.write_str("icmp"),
            Self::Number(ICMPV6) => out.write_str("icmpv6"),
            Self::Number(number) => number.fmt(out),
        }
    }
}

/// An inclusive range of destination ports, or of ICMP type and code as `type << 8 | code`.
///
/// Protocols without either have the full range.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
pub struct PortRange {
    /// The first port, host order.
    pub first: u16,
    /// The last port, host order, not below `first`.
    pub last: u16,
}

impl PortRange {
    /// Every port, or every ICMP type and code.
    pub const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };

    /// Whether `port` lies in the range.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Who may be at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    /// A network, without host bits.
    Cidr(IpNet),
    /// The networks of the prefix list with this id (`pl-…`).
    PrefixList(String),
    /// The private addresses of every ENI that carries a group.
    Group(GroupReference),
}

/// [`Peer`] as the API's description has it, in which a network is text.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Peer)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes a type that cannot describe itself")]
enum PeerSchema {
    /// A network, without host bits.
    Cidr(String),
    /// The networks of the prefix list with this id (`pl-…`).
    PrefixList(String),
    /// The private addresses of every ENI that carries a group.
    Group(GroupReference),
}

/// EC2's `UserIdGroupPair`: a security group as the peer of a rule.
#[derive(
    Debug,
    Clone,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(deny_unknown_fields)]
pub struct GroupReference {
    /// `sg-…`.
    pub group_id: String,
    /// The group's account, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The group's VPC, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    /// The peering connection to that VPC (`pcx-…`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc_peering_connection_id: Option<String>,
    /// The peering's status: with any other than `active` the reference is stale and matches nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peering_status: Option<String>,
}

/// What one rule allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecurityGroupRule {
    /// `sgr-` and 17 hex digits: EC2's, or a function of the group and of what the rule allows.
    pub rule_id: String,
    /// Which way connections may be opened.
    #[schema(value_type = String)]
    pub direction: Direction,
    /// The protocol. ICMP never meets an IPv6 peer, ICMPv6 never an IPv4 one.
    pub protocol: Protocol,
    /// Destination ports of the packet that opens the connection, or ICMP type and code.
    pub ports: PortRange,
    /// The other end.
    #[schema(value_type = PeerSchema)]
    pub peer: Peer,
    /// The operator's words; no effect.
    pub description: Option<String>,
}

impl Peer {
    /// The network of a peer that is one.
    pub fn cidr(&self) -> Option<IpNet> {
        match self {
            Self::Cidr(network) => Some(*network),
            Self::PrefixList(_) | Self::Group(_) => None,
        }
    }
}

/// Masks the host bits.
impl From<IpNet> for Peer {
    fn from(network: IpNet) -> Self {
        Self::Cidr(network.trunc())
    }
}

/// The network, `pl-…`, `sg-…`, or `account/sg-…` for a group of another account.
impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cidr(network) => network.fmt(out),
            Self::PrefixList(id) => id.fmt(out),
            Self::Group(group) => match &group.user_id {
                Some(account) => write!(out, "{account}/{}", group.group_id),
                None => group.group_id.fmt(out),
            },
        }
    }
}

impl GroupReference {
    /// A reference to a group of the same account and VPC.
    pub fn new(group_id: impl Into<String>) -> Self {
        Self {
            group_id: group_id.into(),
            ..Self::default()
        }
    }

    /// Whether the peering on which it depends is gone or not up.
    pub fn is_stale(&self) -> bool {
        self.peering_status
            .as_deref()
            .is_some_and(|status| status != "active")
    }

    /// Whether it says that its group is of another account or VPC, so that it need not be known here.
    pub fn is_foreign(&self) -> bool {
        self.user_id.is_some() || self.vpc_id.is_some() || self.vpc_peering_connection_id.is_some()
    }
}

impl SecurityGroupRule {
    /// A rule of `group_id` with the id that its content gives it.
    pub fn new(
        group_id: &str,
        direction: Direction,
        protocol: Protocol,
        ports: PortRange,
        peer: impl Into<Peer>,
        description: Option<String>,
    ) -> Self {
        let mut rule = Self {
            rule_id: String::new(),
            direction,
            protocol,
            ports,
            peer: peer.into(),
            description,
        };
        rule.rule_id = rule.content_id(group_id);
        rule
    }

    /// The id that a rule of `group_id` has when EC2 gave it none: of what it allows, not of its description.
    pub fn content_id(&self, group_id: &str) -> String {
        let PortRange { first, last } = self.ports;
        rule_id(&format!(
            "{group_id} {:?} {:?} {first} {last} {}",
            self.direction, self.protocol, self.peer
        ))
    }

    /// Whether the two allow the same, whatever their ids and descriptions.
    pub fn allows_as(&self, other: &Self) -> bool {
        self.order(other).is_eq()
    }

    /// The order in which a group keeps its rules: by direction, protocol, ports and peer.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let key = |rule: &Self| (rule.direction, rule.protocol, rule.ports);
        let peers = || peer_key(&self.peer).cmp(&peer_key(&other.peer));
        key(self).cmp(&key(other)).then_with(peers)
    }

    /// Whether the rule's protocol exists in the family of `network`: ICMP is IPv4's, ICMPv6 is IPv6's.
    pub fn has_family_of(&self, network: &IpNet) -> bool {
        let other_familys = match network {
            IpNet::V4(_) => ICMPV6,
            IpNet::V6(_) => ICMP,
        };
        self.protocol != Protocol::Number(other_familys)
    }
}

/// What of a peer decides whom it allows; the peering's status only says whether the reference is alive.
fn peer_key(peer: &Peer) -> (Option<IpNet>, &str, Option<&str>) {
    match peer {
        Peer::Cidr(network) => (Some(*network), "", None),
        Peer::PrefixList(id) => (None, id, None),
        Peer::Group(group) => (None, &group.group_id, group.user_id.as_deref()),
    }
}

/// FNV-1a of 128 bits, of which the top 68 make EC2's 17 digits: the same rule has the same id on every host.
fn rule_id(content: &str) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = content.bytes().fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    });
    format!("sgr-{:017x}", hash >> 60)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use branchline_common::headers::protocol;

    use super::*;

    fn rule(group: &str, direction: Direction, first: u16, peer: &str) -> SecurityGroupRule {
        let ports = PortRange { first, last: 80 };
        SecurityGroupRule::new(
            group,
            direction,
            Protocol::Number(protocol::TCP),
            ports,
            peer.parse::<IpNet>().unwrap(),
            None,
        )
    }

    #[test]
    fn a_rules_id_follows_its_content() {
        let base = rule("sg-a", Direction::Ingress, 80, "10.0.0.0/8");
        assert_eq!(base.rule_id.len(), "sgr-".len() + 17);
        assert_eq!(base, rule("sg-a", Direction::Ingress, 80, "10.1.2.3/8"));
        for other in [
            rule("sg-b", Direction::Ingress, 80, "10.0.0.0/8"),
            rule("sg-a", Direction::Egress, 80, "10.0.0.0/8"),
            rule("sg-a", Direction::Ingress, 79, "10.0.0.0/8"),
            rule("sg-a", Direction::Ingress, 80, "10.0.0.0/9"),
        ] {
            assert_ne!(base.rule_id, other.rule_id);
        }
    }

    #[test]
    fn port_ranges_include_both_ends() {
        let ports = PortRange {
            first: 8000,
            last: 8010,
        };
        let inside: Vec<u16> = (7990..8020).filter(|port| ports.contains(*port)).collect();
        assert_eq!(inside, (8000..=8010).collect::<Vec<_>>());
    }
}
