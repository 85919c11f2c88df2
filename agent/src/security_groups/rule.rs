//! Security groups as the agent keeps them: one rule per direction, protocol, port range and peer network.
//!
//! Input forms are normalised by `ip_permission`; map entries are made by `policy`. Pure.

use branchline_common::verdict::Direction;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The protocol a rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Every protocol (`-1`).
    Any,
    /// One protocol, by its IANA number.
    Number(u8),
}

/// An inclusive range of destination ports, or of ICMP type and code as `type << 8 | code`.
///
/// Protocols without either have the full range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// What one rule allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SecurityGroupRule {
    /// `sgr-` and 17 hex digits; a function of the group and of what the rule allows.
    pub rule_id: String,
    /// Which way connections may be opened.
    pub direction: Direction,
    /// The protocol. ICMP never meets an IPv6 peer, ICMPv6 never an IPv4 one.
    pub protocol: Protocol,
    /// Destination ports of the packet that opens the connection, or ICMP type and code.
    pub ports: PortRange,
    /// The other end's network, without host bits.
    pub peer: IpNet,
    /// The operator's words; no effect.
    pub description: Option<String>,
}

/// A named set of rules; what no rule allows is denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// `sg-…`, the key.
    pub group_id: String,
    /// For display, and `default` for the group of tasks that name none.
    pub group_name: String,
    /// The operator's words; no effect.
    pub description: String,
    /// Allow rules in no particular order, each once.
    pub rules: Vec<SecurityGroupRule>,
}

impl SecurityGroupRule {
    /// A rule of `group_id` with the id that its content gives it.
    pub fn new(
        group_id: &str,
        direction: Direction,
        protocol: Protocol,
        ports: PortRange,
        peer: IpNet,
        description: Option<String>,
    ) -> Self {
        let peer = peer.trunc();
        let content = format!(
            "{group_id} {direction:?} {protocol:?} {} {} {peer}",
            ports.first, ports.last
        );
        Self {
            rule_id: rule_id(&content),
            direction,
            protocol,
            ports,
            peer,
            description,
        }
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
            peer.parse().unwrap(),
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
