//! The agent's groups, members and ENIs in the oracle's words, and its answer in the agent's. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use branchline_common::flow::is_icmp;
use branchline_common::headers::protocol::{ICMP, ICMPV6, TCP, UDP};
use branchline_common::verdict::Direction;
use branchline_oracle::{
    self as oracle, Environment, Fragment, Icmp, Ip, IpPermission, Judgement, Packet, RuleMatch,
    Tcp, Transport, World,
};
use ipnet::IpNet;

use super::{AllowingRule, Interface, Scene, question::Opening};
use crate::plug;
use crate::security_groups::{
    Directory, Peer, PortRange, Protocol, SecurityGroup, SecurityGroupRule,
};

/// What the oracle says of `packet`.
pub(super) fn judge(
    scene: &Scene<'_>,
    interface: &Interface<'_>,
    direction: Direction,
    packet: &Opening,
) -> Judgement {
    judge_by(scene, scene.directory, interface, direction, packet)
}

/// Whether a rule, by its group's id and its own, allows `packet` without any other.
pub(super) fn covers_alone(
    scene: &Scene<'_>,
    interface: &Interface<'_>,
    direction: Direction,
    packet: &Opening,
    (group_id, rule_id): &(String, String),
) -> bool {
    let mut alone = Directory {
        prefix_lists: scene.directory.prefix_lists.clone(),
        ..Directory::default()
    };
    if let Some(group) = scene.directory.groups.get(group_id) {
        let rules = group.rules.iter();
        let rules = rules.filter(|rule| rule.rule_id == *rule_id && rule.direction == direction);
        let group = SecurityGroup {
            rules: rules.cloned().collect(),
            ..group.clone()
        };
        alone.groups.insert(group_id.clone(), group);
    }
    judge_by(scene, &alone, interface, direction, packet)
        .rule
        .is_some()
}

/// The rule that the oracle names by its place.
pub(super) fn allowing(scene: &Scene<'_>, found: &RuleMatch) -> Option<AllowingRule> {
    let direction = match found.direction {
        oracle::Direction::Ingress => Direction::Ingress,
        oracle::Direction::Egress => Direction::Egress,
    };
    let group = scene.directory.groups.get(&found.group_id)?;
    let mut rules = rules_in(group, direction);
    Some(AllowingRule {
        group_id: found.group_id.clone(),
        rule: rules.nth(found.permission)?.clone(),
        network: found.peer.network(),
        member: match &found.peer {
            oracle::judgement::Peer::Group { eni, .. } => Some(eni.clone()),
            oracle::judgement::Peer::Network(_) | oracle::judgement::Peer::PrefixList { .. } => {
                None
            }
        },
    })
}

fn judge_by(
    scene: &Scene<'_>,
    directory: &Directory,
    interface: &Interface<'_>,
    direction: Direction,
    packet: &Opening,
) -> Judgement {
    let mut world = World::new(environment(scene, interface));
    for (id, list) in &directory.prefix_lists {
        let networks: Vec<IpNet> = list.entries.iter().map(|entry| entry.cidr).collect();
        world.set_prefix_list(id, Some(&networks));
    }
    for group_id in &interface.eni.groups {
        if let Some(group) = directory.groups.get(group_id) {
            // Rules in force are well formed.
            world.set_group(group_id, Some(&group_of(group))).ok();
        }
    }
    for (eni_id, groups, networks) in scene.members.iter() {
        let member = eni_of(groups.iter().cloned(), networks.iter().copied());
        world.set_eni(eni_id, Some(&member));
    }
    let eni = interface.eni;
    let own = oracle::Eni {
        link_local: Some(Ipv6Addr::from(plug::link_local(eni.mac.0))),
        source_dest_check: interface.settings.source_dest_check,
        block_imds: interface.settings.block_imds,
        ..eni_of(eni.groups.iter().cloned(), plug::networks(eni))
    };
    world.set_eni(&eni.eni_id, Some(&own));
    let direction = match direction {
        Direction::Ingress => oracle::Direction::Ingress,
        Direction::Egress => oracle::Direction::Egress,
    };
    world.judge(0, &eni.eni_id, direction, &Packet::Ip(ip(packet)))
}

fn environment(scene: &Scene<'_>, interface: &Interface<'_>) -> Environment {
    let resolver = |cidr: &IpNet| match cidr {
        IpNet::V4(cidr) => {
            let resolver = u32::from(cidr.network()).wrapping_add(2);
            Some(IpAddr::V4(Ipv4Addr::from(resolver)))
        }
        IpNet::V6(_) => None,
    };
    let (ipv4, ipv6) = (interface.eni.router_ipv4, interface.eni.router_ipv6);
    let routers = ipv4.map(IpAddr::V4).into_iter();
    Environment {
        resolvers: scene.vpc_cidrs.iter().filter_map(resolver).collect(),
        routers: routers.chain(ipv6.map(IpAddr::V6)).collect(),
        auto_track: scene.auto_track.to_vec(),
        ..Environment::default()
    }
}

fn eni_of(
    groups: impl Iterator<Item = String>,
    networks: impl Iterator<Item = IpNet>,
) -> oracle::Eni {
    let (addresses, prefixes): (Vec<IpNet>, Vec<IpNet>) =
        networks.partition(|net| net.prefix_len() == net.max_prefix_len());
    oracle::Eni {
        addresses: addresses.iter().map(IpNet::addr).collect(),
        prefixes,
        groups: groups.collect(),
        ..oracle::Eni::default()
    }
}

/// One permission for each rule, so that a permission's place says which rule it was.
fn group_of(group: &SecurityGroup) -> oracle::SecurityGroup {
    oracle::SecurityGroup {
        ip_permissions: rules_in(group, Direction::Ingress)
            .map(permission)
            .collect(),
        ip_permissions_egress: rules_in(group, Direction::Egress).map(permission).collect(),
    }
}

fn rules_in(
    group: &SecurityGroup,
    direction: Direction,
) -> impl Iterator<Item = &SecurityGroupRule> {
    let rules = group.rules.iter();
    rules.filter(move |rule| rule.direction == direction)
}

fn permission(rule: &SecurityGroupRule) -> IpPermission {
    let (from_port, to_port) = ports(rule);
    let mut permission = IpPermission {
        ip_protocol: rule.protocol.to_string(),
        from_port: Some(from_port),
        to_port: Some(to_port),
        ..IpPermission::default()
    };
    match &rule.peer {
        Peer::Cidr(IpNet::V4(network)) => permission.ip_ranges.push(*network),
        Peer::Cidr(IpNet::V6(network)) => permission.ipv6_ranges.push(*network),
        Peer::PrefixList(id) => permission.prefix_list_ids.push(id.clone()),
        // A stale reference stands for nothing.
        Peer::Group(group) if group.is_stale() => {}
        Peer::Group(group) => permission.user_id_group_pairs.push(group.group_id.clone()),
    }
    permission
}

/// Ports, or ICMP type and code, as EC2 writes them.
fn ports(rule: &SecurityGroupRule) -> (i64, i64) {
    let PortRange { first, last } = rule.ports;
    let is_icmp = matches!(rule.protocol, Protocol::Number(number) if is_icmp(number));
    let [icmp_type, code] = first.to_be_bytes();
    if rule.ports == PortRange::ALL {
        (-1, -1)
    } else if !is_icmp {
        (first.into(), last.into())
    } else if first == last {
        (icmp_type.into(), code.into())
    } else {
        (icmp_type.into(), -1)
    }
}

fn ip(packet: &Opening) -> Ip {
    let (source_port, destination_port) = (packet.source_port, packet.destination_port);
    Ip {
        source: packet.source,
        destination: packet.destination,
        protocol: packet.protocol,
        hop_limit: 64,
        fragment: Fragment::Whole,
        transport: match packet.protocol {
            TCP => Transport::Tcp(Tcp {
                source_port,
                destination_port,
                syn: true,
                ..Tcp::default()
            }),
            UDP => Transport::Udp {
                source_port,
                destination_port,
            },
            ICMP | ICMPV6 => Transport::Icmp(Icmp {
                icmp_type: packet.icmp_type,
                code: packet.icmp_code,
                ..Icmp::default()
            }),
            _ => Transport::Other,
        },
    }
}
