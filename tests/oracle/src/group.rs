//! §1.1 and §1.2: permissions and groups as they are written, and their normalisation.
//!
//! It knows no packet and no ENI.

use std::fmt;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::packet::{ICMP, ICMPV6, TCP, UDP};

/// §1.1: EC2's `IpPermission`, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpPermission {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, a number from 0 to 255, or `-1` for all.
    pub ip_protocol: String,
    /// First destination port, or ICMP type; -1 is any.
    pub from_port: Option<i64>,
    /// Last destination port, or ICMP code; -1 is any.
    pub to_port: Option<i64>,
    /// IPv4 peers.
    pub ip_ranges: Vec<Ipv4Net>,
    /// IPv6 peers.
    pub ipv6_ranges: Vec<Ipv6Net>,
    /// Prefix lists whose networks are peers.
    pub prefix_list_ids: Vec<String>,
    /// Groups whose members are peers.
    pub user_id_group_pairs: Vec<String>,
}

/// §1.2: a group. It can only allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityGroup {
    /// What others may open to members.
    pub ip_permissions: Vec<IpPermission>,
    /// What members may open.
    pub ip_permissions_egress: Vec<IpPermission>,
}

/// A permission that cannot be understood (§1.1, normalisation 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Path of the field, as `ip_permissions[2].from_port`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl std::error::Error for Malformed {}

/// Which protocols a permission is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    All,
    Number(u8),
}

/// Which ports, or ICMP types and codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// All: the permission ignores ports.
    All,
    /// Destination ports, both ends included.
    Range(u16, u16),
    /// An ICMP type with one code, or with every code.
    Icmp(u8, Option<u8>),
}

/// Whom a permission allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Network(IpNet),
    PrefixList(String),
    Group(String),
}

/// A permission after normalisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Permission {
    pub(crate) protocol: Protocol,
    pub(crate) ports: Ports,
    pub(crate) sources: Vec<Source>,
}

/// A group after normalisation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) ingress: Vec<Permission>,
    pub(crate) egress: Vec<Permission>,
}

/// Normalises a group.
pub(crate) fn normalize(group: &SecurityGroup) -> Result<Group, Malformed> {
    Ok(Group {
        ingress: permissions(&group.ip_permissions, "ip_permissions")?,
        egress: permissions(&group.ip_permissions_egress, "ip_permissions_egress")?,
    })
}

fn permissions(permissions: &[IpPermission], field: &str) -> Result<Vec<Permission>, Malformed> {
    let mut normal = Vec::new();
    for (index, permission) in permissions.iter().enumerate() {
        normal.push(normalize_permission(
            permission,
            &format!("{field}[{index}]"),
        )?);
    }
    Ok(normal)
}

fn normalize_permission(permission: &IpPermission, field: &str) -> Result<Permission, Malformed> {
    let malformed = |name: &str, problem: String| Malformed {
        field: format!("{field}.{name}"),
        problem,
    };
    // 1. Lower case; the four numbers are the same as the names.
    let protocol = match permission.ip_protocol.to_ascii_lowercase().as_str() {
        "-1" => Protocol::All,
        "tcp" => Protocol::Number(TCP),
        "udp" => Protocol::Number(UDP),
        "icmp" => Protocol::Number(ICMP),
        "icmpv6" => Protocol::Number(ICMPV6),
        number => match number.parse() {
            Ok(number) => Protocol::Number(number),
            Err(_) => {
                return Err(malformed(
                    "ip_protocol",
                    format!("{number:?} is no protocol"),
                ));
            }
        },
    };
    let from = permission.from_port;
    let to = permission.to_port;
    let ports = match protocol {
        Protocol::Number(TCP | UDP) => match (from, to) {
            // 2. A missing range is all ports. [OWN]
            (None | Some(-1), None | Some(-1)) => Ports::All,
            (Some(from), Some(to)) => {
                let from = u16::try_from(from)
                    .map_err(|_| malformed("from_port", format!("{from} is no port")))?;
                let to = u16::try_from(to)
                    .map_err(|_| malformed("to_port", format!("{to} is no port")))?;
                // 6. [OWN]
                if from > to {
                    return Err(malformed(
                        "from_port",
                        format!("{from} is above to_port {to}"),
                    ));
                }
                // A range of all ports ignores ports (§4, §7).
                if (from, to) == (0, u16::MAX) {
                    Ports::All
                } else {
                    Ports::Range(from, to)
                }
            }
            (None, Some(_)) => return Err(malformed("from_port", "is missing".to_owned())),
            (Some(_), None) => return Err(malformed("to_port", "is missing".to_owned())),
        },
        Protocol::Number(number @ (ICMP | ICMPV6)) => match (from, to) {
            // 3. ICMP needs a type and a code; ICMPv6 may omit both.
            (None, None) if number == ICMPV6 => Ports::All,
            (Some(-1), Some(-1)) => Ports::All,
            (Some(-1), _) => {
                return Err(malformed("to_port", "type -1 requires code -1".to_owned()));
            }
            (Some(icmp_type), Some(code)) => {
                let icmp_type = u8::try_from(icmp_type)
                    .map_err(|_| malformed("from_port", format!("{icmp_type} is no ICMP type")))?;
                let code = match code {
                    -1 => None,
                    code => Some(
                        u8::try_from(code)
                            .map_err(|_| malformed("to_port", format!("{code} is no ICMP code")))?,
                    ),
                };
                Ports::Icmp(icmp_type, code)
            }
            (None, _) => return Err(malformed("from_port", "is missing".to_owned())),
            (Some(_), None) => return Err(malformed("to_port", "is missing".to_owned())),
        },
        // 1. Other protocols have no ports, whatever is written.
        Protocol::All | Protocol::Number(_) => Ports::All,
    };
    // 4. Host bits are masked off.
    let mut sources = Vec::new();
    for network in &permission.ip_ranges {
        sources.push(Source::Network(IpNet::V4(network.trunc())));
    }
    for network in &permission.ipv6_ranges {
        sources.push(Source::Network(IpNet::V6(network.trunc())));
    }
    for id in &permission.prefix_list_ids {
        sources.push(Source::PrefixList(id.clone()));
    }
    for id in &permission.user_id_group_pairs {
        sources.push(Source::Group(id.clone()));
    }
    Ok(Permission {
        protocol,
        ports,
        sources,
    })
}
