//! What a scenario's setting is to the data plane. It judges nothing.

use std::{collections::BTreeSet, net::IpAddr};

use branchline::security_groups::{
    Directory, Members, PrefixList, PrefixListEntry, SecurityGroup, SecurityGroupRule,
    aws::IpPermission as AwsIpPermission, ip_permission,
};
use branchline_common::{
    conntrack::State as ConntrackState, maps::eni, verdict::Direction as CommonDirection,
};
use ipnet::IpNet;

use crate::{
    case::{Case, EniSpec, case},
    scenario::{
        format::{Env, Group, IpPermission},
        setting::{Plugged, Setting},
    },
};

/// A case without ENIs in what is around them.
pub(super) fn start(env: &Env) -> Case {
    let mut start = case("", &[]);
    start.enis.clear();
    start.is_strict = !env.tcp_loose;
    start.max_connections = env.conntrack_limit;
    start.fragment_seconds = env.t_frag;
    start.auto_track.clone_from(&env.auto_track);
    start
}

pub(super) fn spec(env: &Env, plugged: &Plugged) -> Result<EniSpec, String> {
    let text = |address: Option<IpAddr>| address.map_or_else(String::new, |ip| ip.to_string());
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let (own, mut routers) = (&plugged.eni, [None, None]);
    for router in &env.router {
        let place = &mut routers[usize::from(router.is_ipv6())];
        if place.replace(*router).is_some() {
            return Err(format!("env.router: {router} is the second of its family"));
        }
    }
    if env.vpc_dns.len() > 4 {
        return Err("env.vpc_dns: there are more than four".to_owned());
    }
    Ok(EniSpec {
        ipv4: text(own.ipv4.first().copied().map(IpAddr::V4)),
        ipv6: text(own.ipv6.first().copied().map(IpAddr::V6)),
        flags: flag(own.source_dest_check, eni::SOURCE_DEST_CHECK)
            | flag(env.block_imds, eni::BLOCK_IMDS),
        timeouts: timeouts(env),
        max_connections: match env.conntrack_limit_per_eni {
            None => 0,
            Some(0) => return Err("env.conntrack_limit_per_eni: 0 is no limit".to_owned()),
            Some(limit) => u32::try_from(limit).map_err(|error| error.to_string())?,
        },
        router_ipv4: text(routers[0]),
        router_ipv6: text(routers[1]),
        resolvers: env.vpc_dns.iter().map(ToString::to_string).collect(),
        ..EniSpec::new(plugged.slot, &[])
    })
}

fn timeouts(env: &Env) -> Vec<(ConntrackState, u32)> {
    let seconds = |state| match state {
        ConntrackState::SynSent => env.t_syn_sent,
        ConntrackState::SynReceived => env.t_syn_recv,
        ConntrackState::Established => env.t_tcp_est,
        ConntrackState::Fin => env.t_fin,
        ConntrackState::TimeWait => env.t_time_wait,
        ConntrackState::Close => env.t_close,
        ConntrackState::Pickup => env.t_pickup,
        ConntrackState::Udp => env.t_udp,
        ConntrackState::UdpStream => env.t_udp_stream,
        ConntrackState::Icmp => env.t_icmp,
        ConntrackState::Other => env.t_generic,
    };
    let states = ConntrackState::ALL.into_iter();
    states.map(|state| (state, seconds(state))).collect()
}

/// Every address of every ENI, and its delegated prefixes.
pub(super) fn members(setting: &Setting) -> Members {
    let mut members = Members::default();
    for (id, plugged) in &setting.enis {
        let eni = &plugged.eni;
        let ipv4 = eni.ipv4.iter().map(|ip| IpNet::from(IpAddr::V4(*ip)));
        let ipv6 = eni.ipv6.iter().map(|ip| IpNet::from(IpAddr::V6(*ip)));
        let networks = ipv4.chain(ipv6).chain(eni.prefixes.iter().copied());
        members.insert(id, &eni.groups, networks);
    }
    members
}

pub(super) fn directory(setting: &Setting) -> Result<Directory, String> {
    let mut directory = Directory::default();
    for (id, networks) in &setting.prefix_lists {
        let networks: BTreeSet<IpNet> = networks.iter().map(IpNet::trunc).collect();
        let entries = networks.into_iter().map(|cidr| PrefixListEntry {
            cidr,
            description: None,
        });
        let list = PrefixList {
            prefix_list_id: id.clone(),
            entries: entries.collect(),
            ..PrefixList::default()
        };
        directory.prefix_lists.insert(id.clone(), list);
    }
    for (id, group) in &setting.groups {
        let group = SecurityGroup {
            group_id: id.clone(),
            rules: rules(id, group)?,
            ..SecurityGroup::default()
        };
        directory.groups.insert(id.clone(), group);
    }
    Ok(directory)
}

/// The rules of a group, read as the agent reads what `aws ec2` prints.
fn rules(id: &str, group: &Group) -> Result<Vec<SecurityGroupRule>, String> {
    let mut rules = Vec::new();
    let directions = [
        (CommonDirection::Ingress, &group.ingress, "ingress"),
        (CommonDirection::Egress, &group.egress, "egress"),
    ];
    for (direction, permissions, field) in directions {
        for (index, permission) in permissions.iter().enumerate() {
            let field = format!("groups.{id}.{field}[{index}]");
            let permission = printed(permission).map_err(|error| format!("{field}: {error}"))?;
            let written = permission.of_owner(None);
            let mut notes = Vec::new();
            let normal = ip_permission::normalize(&written, id, direction, &field, &mut notes);
            let normal = normal.map_err(|error| error.to_string())?;
            rules.extend(normal.into_iter().map(|at| at.rule));
        }
    }
    Ok(rules)
}

fn printed(permission: &IpPermission) -> Result<AwsIpPermission, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(permission)?)
}
