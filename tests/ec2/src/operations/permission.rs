//! IpPermissions: EC2's older form of rules, which groups several under one protocol and ports.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::answer::Xml;
use crate::error::{Ec2Error, Result};
use crate::id::Kind;
use crate::protocol::{Parameter, Parameters, integer, text};
use crate::state::{SecurityGroup, SecurityGroupRule, State, Tags, Target, find};

pub(super) const IP_PERMISSIONS: &[Parameter] = &[
    text("IpPermissions.N.IpProtocol"),
    integer("IpPermissions.N.FromPort"),
    integer("IpPermissions.N.ToPort"),
    text("IpPermissions.N.IpRanges.N.CidrIp"),
    text("IpPermissions.N.IpRanges.N.Description"),
    text("IpPermissions.N.Ipv6Ranges.N.CidrIpv6"),
    text("IpPermissions.N.Ipv6Ranges.N.Description"),
    text("IpPermissions.N.PrefixListIds.N.PrefixListId"),
    text("IpPermissions.N.PrefixListIds.N.Description"),
    text("IpPermissions.N.Groups.N.GroupId"),
    text("IpPermissions.N.Groups.N.UserId"),
    text("IpPermissions.N.Groups.N.Description"),
];

/// The rules, without ids, that a request's permissions are.
///
/// # Errors
/// A protocol, a port or a peer is wrong, or a permission has no peer.
pub(super) fn read(
    state: &State,
    parameters: &Parameters<'_>,
    group: &SecurityGroup,
    is_egress: bool,
) -> Result<Vec<SecurityGroupRule>> {
    let mut rules = Vec::new();
    for permission in parameters.members("IpPermissions") {
        let protocol = protocol(permission.require("IpProtocol")?)?;
        let (from_port, to_port) = ports(&permission, &protocol)?;
        let peers = peers(state, &permission, group)?;
        if peers.is_empty() {
            let message =
                "A permission needs one of IpRanges, Ipv6Ranges, PrefixListIds and Groups";
            return Err(Ec2Error::new("MissingParameter", message));
        }
        rules.extend(
            peers
                .into_iter()
                .map(|(target, description)| SecurityGroupRule {
                    security_group_rule_id: String::new(),
                    group_id: group.group_id.clone(),
                    is_egress,
                    ip_protocol: protocol.clone(),
                    from_port,
                    to_port,
                    target,
                    description,
                    tags: Tags::new(),
                }),
        );
    }
    Ok(rules)
}

/// The name that EC2 has for a protocol.
fn protocol(text: &str) -> Result<String> {
    let name = match text {
        "-1" | "all" => "-1",
        "tcp" | "6" => "tcp",
        "udp" | "17" => "udp",
        "icmp" | "1" => "icmp",
        "icmpv6" | "58" => "icmpv6",
        number if number.parse::<u8>().is_ok() => number,
        _ => {
            return Err(Ec2Error::invalid(format!(
                "Invalid value '{text}' for IP protocol. Unknown protocol."
            )));
        }
    };
    Ok(name.to_owned())
}

fn ports(permission: &Parameters<'_>, protocol: &str) -> Result<(Option<i64>, Option<i64>)> {
    let (from, to) = (permission.integer("FromPort"), permission.integer("ToPort"));
    let most = match protocol {
        "tcp" | "udp" => 65_535,
        "icmp" | "icmpv6" => 255,
        _ => return Ok((None, None)),
    };
    let (Some(first), Some(last)) = (from, to) else {
        let message = format!("Protocol {protocol} needs FromPort and ToPort");
        return Err(Ec2Error::new("MissingParameter", message));
    };
    let icmp = most == 255;
    let least = if icmp { -1 } else { 0 };
    let valid = |port: i64| (least..=most).contains(&port);
    if !valid(first) || !valid(last) || (!icmp && first > last) {
        let message = format!("Invalid {protocol} port range: ({first}-{last})");
        return Err(Ec2Error::invalid(message));
    }
    Ok((from, to))
}

type Peer = (Target, Option<String>);

fn peers(state: &State, permission: &Parameters<'_>, group: &SecurityGroup) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    let described = |member: &Parameters<'_>| member.text("Description").map(str::to_owned);
    for member in permission.members("IpRanges") {
        let net = network::<Ipv4Net>(member.require("CidrIp")?, Ipv4Net::trunc)?;
        peers.push((Target::CidrIpv4(net), described(&member)));
    }
    for member in permission.members("Ipv6Ranges") {
        let net = network::<Ipv6Net>(member.require("CidrIpv6")?, Ipv6Net::trunc)?;
        peers.push((Target::CidrIpv6(net), described(&member)));
    }
    for member in permission.members("PrefixListIds") {
        let list = find(
            &state.prefix_lists,
            Kind::PrefixList,
            member.require("PrefixListId")?,
        )?;
        peers.push((
            Target::PrefixList(list.prefix_list_id.clone()),
            described(&member),
        ));
    }
    for member in permission.members("Groups") {
        let id = member.require("GroupId")?;
        let other = find(&state.security_groups, Kind::SecurityGroup, id)?;
        if other.vpc_id != group.vpc_id {
            let message = "You have specified two resources that belong to different networks.";
            return Err(Ec2Error::new("InvalidGroup.NotFound", message));
        }
        peers.push((Target::Group(id.to_owned()), described(&member)));
    }
    Ok(peers)
}

/// A network without host bits.
fn network<T: FromStr + PartialEq + Display>(text: &str, trunc: fn(&T) -> T) -> Result<T> {
    let net = text.parse::<T>().ok().filter(|net| trunc(net) == *net);
    net.ok_or_else(|| Ec2Error::invalid(format!("CIDR block {text} is malformed")))
}

/// Writes rules as permissions: those of one protocol and ports together.
pub(super) fn write(xml: &mut Xml, state: &State, name: &str, rules: &[&SecurityGroupRule]) {
    let mut permissions: BTreeMap<_, Vec<&SecurityGroupRule>> = BTreeMap::new();
    for rule in rules {
        let key = (&rule.ip_protocol, rule.from_port, rule.to_port);
        permissions.entry(key).or_default().push(rule);
    }
    xml.list(name, permissions, |xml, ((protocol, from, to), rules)| {
        xml.text("ipProtocol", protocol)
            .optional("fromPort", from)
            .optional("toPort", to);
        let of = |pick: fn(&Target) -> Option<String>| {
            let peers = rules
                .iter()
                .filter_map(|rule| Some((pick(&rule.target)?, &rule.description)));
            peers.collect::<Vec<_>>()
        };
        let groups = of(|target| {
            if let Target::Group(id) = target {
                Some(id.clone())
            } else {
                None
            }
        });
        xml.list("groups", groups, |xml, (id, description)| {
            xml.text("groupId", id).text("userId", &state.account_id);
            xml.optional("description", description.as_ref());
        });
        let ipv4 = of(|target| {
            if let Target::CidrIpv4(net) = target {
                Some(net.to_string())
            } else {
                None
            }
        });
        write_peers(xml, "ipRanges", "cidrIp", ipv4);
        let ipv6 = of(|target| {
            if let Target::CidrIpv6(net) = target {
                Some(net.to_string())
            } else {
                None
            }
        });
        write_peers(xml, "ipv6Ranges", "cidrIpv6", ipv6);
        let lists = of(|target| {
            if let Target::PrefixList(id) = target {
                Some(id.clone())
            } else {
                None
            }
        });
        write_peers(xml, "prefixListIds", "prefixListId", lists);
    });
}

fn write_peers(xml: &mut Xml, name: &str, element: &str, peers: Vec<(String, &Option<String>)>) {
    xml.list(name, peers, |xml, (peer, description)| {
        xml.text(element, peer)
            .optional("description", description.as_ref());
    });
}
