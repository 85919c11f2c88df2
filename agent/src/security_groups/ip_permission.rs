//! EC2's `IpPermission`, the form in which rules are written, and its normalisation into rules.
//!
//! Follows EC2's `IpPermission` API page: protocol names and numbers, discarded ports, masked host bits. Pure.

use branchline_common::headers::protocol::{ICMP, ICMPV6, TCP, UDP};
use branchline_common::verdict::Direction;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::rule::{PortRange, Protocol, SecurityGroupRule};
use crate::field_error::FieldError;

/// One protocol and port range, allowed for several peers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IpPermission {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number from 0 to 255, or `-1` for all.
    pub ip_protocol: String,
    /// First destination port, or ICMP type; `-1` is any.
    pub from_port: Option<i64>,
    /// Last destination port, or ICMP code; `-1` is any.
    pub to_port: Option<i64>,
    /// IPv4 peers.
    #[serde(default)]
    pub ip_ranges: Vec<IpRange>,
    /// IPv6 peers.
    #[serde(default)]
    pub ipv6_ranges: Vec<Ipv6Range>,
    /// Members of other groups as peers: not supported yet.
    #[serde(default)]
    pub user_id_group_pairs: Vec<IgnoredAny>,
    /// Prefix lists as peers: not supported yet.
    #[serde(default)]
    pub prefix_list_ids: Vec<IgnoredAny>,
}

/// An IPv4 peer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IpRange {
    /// The network, with its prefix length.
    pub cidr_ip: String,
    /// The operator's words.
    pub description: Option<String>,
}

/// An IPv6 peer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ipv6Range {
    /// The network, with its prefix length.
    pub cidr_ipv6: String,
    /// The operator's words.
    pub description: Option<String>,
}

/// The rules that `permission`, found at `field`, gives to `group_id`.
///
/// ICMP beside an IPv6 range and ICMPv6 beside an IPv4 range can match no packet and give no rule.
///
/// # Errors
/// The first field that is malformed or not supported.
pub fn normalize(
    permission: &IpPermission,
    group_id: &str,
    direction: Direction,
    field: &str,
) -> Result<Vec<SecurityGroupRule>, FieldError> {
    check_peers(permission, field)?;
    let protocol = protocol(&permission.ip_protocol, field)?;
    let ports = ports(protocol, permission, field)?;
    let mut rules = Vec::new();
    for (index, range) in permission.ip_ranges.iter().enumerate() {
        let at = format!("{field}.ip_ranges[{index}]");
        let peer: Ipv4Net = cidr(&range.cidr_ip, &format!("{at}.cidr_ip"), "10.0.1.0/24")?;
        check_description(range.description.as_deref(), &format!("{at}.description"))?;
        if protocol != Protocol::Number(ICMPV6) {
            let peer = IpNet::V4(peer);
            rules.push(SecurityGroupRule::new(
                group_id,
                direction,
                protocol,
                ports,
                peer,
                range.description.clone(),
            ));
        }
    }
    for (index, range) in permission.ipv6_ranges.iter().enumerate() {
        let at = format!("{field}.ipv6_ranges[{index}]");
        let peer: Ipv6Net = cidr(
            &range.cidr_ipv6,
            &format!("{at}.cidr_ipv6"),
            "2001:db8::/32",
        )?;
        check_description(range.description.as_deref(), &format!("{at}.description"))?;
        if protocol != Protocol::Number(ICMP) {
            let peer = IpNet::V6(peer);
            rules.push(SecurityGroupRule::new(
                group_id,
                direction,
                protocol,
                ports,
                peer,
                range.description.clone(),
            ));
        }
    }
    Ok(rules)
}

/// Refuses a description EC2 would refuse: over 255 characters, or one outside its set.
///
/// # Errors
/// `field`, with the first character that is not allowed.
pub fn check_description(text: Option<&str>, field: &str) -> Result<(), FieldError> {
    let Some(text) = text else { return Ok(()) };
    if text.chars().count() > 255 {
        return Err(FieldError::new(
            field,
            "is longer than 255 characters",
            "shorten it",
        ));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=;{}!$*".contains(c);
    match text.chars().find(|c| !allowed(*c)) {
        None => Ok(()),
        Some(c) => Err(FieldError::new(
            field,
            format!("{text:?} contains {c:?}"),
            "use letters, digits, blanks and ._-:/()#,@[]+=;{}!$*",
        )),
    }
}

fn check_peers(permission: &IpPermission, field: &str) -> Result<(), FieldError> {
    let fix = "write the networks in ip_ranges and ipv6_ranges";
    if !permission.user_id_group_pairs.is_empty() {
        let problem = "not supported yet: other groups as peers";
        return Err(FieldError::new(
            format!("{field}.user_id_group_pairs"),
            problem,
            fix,
        ));
    }
    if !permission.prefix_list_ids.is_empty() {
        let problem = "not supported yet: prefix lists as peers";
        return Err(FieldError::new(
            format!("{field}.prefix_list_ids"),
            problem,
            fix,
        ));
    }
    if permission.ip_ranges.is_empty() && permission.ipv6_ranges.is_empty() {
        return Err(FieldError::new(
            field,
            "names no peer, so it allows nothing",
            "add ip_ranges or ipv6_ranges",
        ));
    }
    Ok(())
}

fn protocol(text: &str, field: &str) -> Result<Protocol, FieldError> {
    match text.to_ascii_lowercase().as_str() {
        "-1" => Ok(Protocol::Any),
        "tcp" => Ok(Protocol::Number(TCP)),
        "udp" => Ok(Protocol::Number(UDP)),
        "icmp" => Ok(Protocol::Number(ICMP)),
        "icmpv6" => Ok(Protocol::Number(ICMPV6)),
        number => number.parse().map(Protocol::Number).map_err(|_| {
            FieldError::new(
                format!("{field}.ip_protocol"),
                format!("{text:?} is no protocol"),
                "write tcp, udp, icmp, icmpv6, a number from 0 to 255, or -1 for all",
            )
        }),
    }
}

fn ports(
    protocol: Protocol,
    permission: &IpPermission,
    field: &str,
) -> Result<PortRange, FieldError> {
    let (from, to) = (permission.from_port, permission.to_port);
    match protocol {
        Protocol::Number(TCP | UDP) => port_range(from, to, field),
        Protocol::Number(ICMP) if from.is_none() && to.is_none() => Err(missing(
            field,
            "from_port",
            "the ICMP type, -1 for any, and to_port, the code",
        )),
        Protocol::Number(ICMP | ICMPV6) => icmp_range(from, to, field),
        Protocol::Any | Protocol::Number(_) => Ok(PortRange::ALL),
    }
}

fn port_range(from: Option<i64>, to: Option<i64>, field: &str) -> Result<PortRange, FieldError> {
    let (from, to) = match (from, to) {
        (None | Some(-1), None | Some(-1)) => return Ok(PortRange::ALL),
        (None, Some(_)) => return Err(missing(field, "from_port", "the first port")),
        (Some(_), None) => return Err(missing(field, "to_port", "the last port")),
        (Some(from), Some(to)) => (from, to),
    };
    let first = number(from, u16::MAX, &format!("{field}.from_port"), "port")?;
    let last = number(to, u16::MAX, &format!("{field}.to_port"), "port")?;
    if first > last {
        let problem = format!("{first} is above to_port {last}");
        return Err(FieldError::new(
            format!("{field}.from_port"),
            problem,
            "write the smaller port first",
        ));
    }
    Ok(PortRange { first, last })
}

/// ICMP type and code, in the places of the ports.
fn icmp_range(from: Option<i64>, to: Option<i64>, field: &str) -> Result<PortRange, FieldError> {
    match (from, to) {
        (None | Some(-1), None | Some(-1)) => Ok(PortRange::ALL),
        (None, Some(_)) => Err(missing(field, "from_port", "the ICMP type")),
        (Some(-1), Some(code)) => Err(FieldError::new(
            format!("{field}.to_port"),
            format!("{code} is a code, while from_port is -1, any type"),
            "write -1 too",
        )),
        (Some(_), None) => Err(missing(field, "to_port", "the ICMP code, -1 for any")),
        (Some(icmp_type), Some(code)) => {
            let first = number(icmp_type, 255, &format!("{field}.from_port"), "ICMP type")? << 8;
            if code == -1 {
                return Ok(PortRange {
                    first,
                    last: first | 255,
                });
            }
            let code = number(code, 255, &format!("{field}.to_port"), "ICMP code")?;
            Ok(PortRange {
                first: first | code,
                last: first | code,
            })
        }
    }
}

fn missing(field: &str, name: &str, what: &str) -> FieldError {
    FieldError::new(
        format!("{field}.{name}"),
        "is missing",
        format!("add {what}"),
    )
}

fn number(value: i64, max: u16, field: &str, what: &str) -> Result<u16, FieldError> {
    u16::try_from(value)
        .ok()
        .filter(|number| *number <= max)
        .ok_or_else(|| {
            let fix = format!("write a number from 0 to {max}");
            FieldError::new(field, format!("{value} is no {what}"), fix)
        })
}

fn cidr<T: std::str::FromStr>(text: &str, field: &str, example: &str) -> Result<T, FieldError> {
    text.parse().map_err(|_| {
        let fix = format!("write address and prefix length, as {example}");
        FieldError::new(field, format!("{text:?} is no network of this family"), fix)
    })
}

#[cfg(test)]
#[path = "ip_permission_tests.rs"]
mod tests;
