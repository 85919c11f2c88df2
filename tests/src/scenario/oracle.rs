//! The [`Judge`] that is the oracle. It only translates.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use branchline_common::headers::{protocol, tcp};
use branchline_oracle::{
    Arp, Direction as OracleDirection, Environment, Fragment, Icmp, Ip,
    IpPermission as OraclePermission, Judgement, Packet, SecurityGroup, Step, Tcp, Timers,
    Transport, Verdict as OracleVerdict, World,
};

use super::{
    format::{Change, Direction, Env, Group, IpPermission, Verdict},
    packet_format::{IpPkt, Pkt},
    runner::{Judge, Judged, Live, Meeting},
    setting::{Plugged, Setting},
};

/// The oracle.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    world: World,
    enis: Vec<String>,
    limit: usize,
    /// How often each step decided, in all scenarios.
    pub steps: BTreeMap<Step, u64>,
    /// What it said of each packet of this scenario.
    pub judged: Vec<Judged>,
}

impl Oracle {
    fn judgement(&mut self, meeting: &Meeting<'_>) -> Judgement {
        let packet = packet(meeting);
        let direction = direction(meeting.direction);
        let judgement = self.world.judge(meeting.t, meeting.eni, direction, &packet);
        *self.steps.entry(judgement.step).or_default() += 1;
        judgement
    }

    fn set_eni(&mut self, setting: &Setting, id: &str) {
        let plugged = setting.enis.get(id);
        let eni = plugged.map(|plugged| eni(plugged, setting.env.block_imds));
        self.world.set_eni(id, eni.as_ref());
        if !self.enis.iter().any(|known| known == id) {
            self.enis.push(id.to_owned());
        }
    }

    fn set_group(&mut self, id: &str, group: &Group) -> Result<(), String> {
        let done = self.world.set_group(id, Some(&security_group(group)));
        done.map_err(|error| format!("group {id}: {error}"))
    }
}

impl Judge for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn set_up(&mut self, setting: &Setting) -> Result<(), String> {
        self.world = World::new(environment(&setting.env));
        self.enis.clear();
        self.judged.clear();
        self.limit = setting.env.conntrack_limit;
        for (id, networks) in &setting.prefix_lists {
            self.world.set_prefix_list(id, Some(networks));
        }
        for (id, group) in &setting.groups {
            self.set_group(id, group)?;
        }
        for id in setting.enis.keys() {
            self.set_eni(setting, id);
        }
        Ok(())
    }

    fn change(&mut self, setting: &Setting, change: &Change) -> Result<(), String> {
        for (id, networks) in &change.set_prefix_list {
            self.world.set_prefix_list(id, Some(networks));
        }
        for (id, group) in &change.set_group {
            self.set_group(id, group)?;
        }
        for id in change.set_eni.keys() {
            self.set_eni(setting, id);
        }
        Ok(())
    }

    fn judge(&mut self, meeting: &Meeting<'_>) -> Result<Judged, String> {
        let judgement = self.judgement(meeting);
        let judged = Judged {
            verdict: match judgement.verdict {
                OracleVerdict::Accept => Verdict::Accept,
                OracleVerdict::Reject => Verdict::Reject,
                OracleVerdict::Exempt => Verdict::Exempt,
                OracleVerdict::DropUnlogged => Verdict::DropUnlogged,
            },
            tracked: judgement.tracked,
            why: match &judgement.rule {
                Some(rule) => format!("{}: {rule}", judgement.step),
                None => judgement.step.to_string(),
            },
        };
        self.judged.push(judged.clone());
        Ok(judged)
    }

    fn counters(&mut self, t: u64) -> BTreeMap<&'static str, u64> {
        let exceeded = self.enis.iter();
        let exceeded = exceeded.map(|id| self.world.conntrack_allowance_exceeded(id));
        let live = self.world.connections(t).count();
        BTreeMap::from([
            ("conntrack_allowance_exceeded", exceeded.sum()),
            (
                "conntrack_allowance_available",
                self.limit.saturating_sub(live) as u64,
            ),
        ])
    }

    fn live(&mut self, t: u64) -> BTreeSet<Live> {
        let live = self.world.connections(t);
        live.map(|(key, connection)| Live {
            key: key.clone(),
            state: connection.state,
            opener: connection.opener,
        })
        .collect()
    }
}

/// The oracle's word for a direction.
#[must_use]
pub fn direction(direction: Direction) -> OracleDirection {
    match direction {
        Direction::Ingress => OracleDirection::Ingress,
        Direction::Egress => OracleDirection::Egress,
    }
}

fn environment(env: &Env) -> Environment {
    Environment {
        resolvers: env.vpc_dns.clone(),
        routers: env.router.clone(),
        auto_track: env.auto_track.clone(),
        timers: Timers {
            tcp_established: env.t_tcp_est.into(),
            udp: env.t_udp.into(),
            udp_stream: env.t_udp_stream.into(),
            other: env.t_generic.into(),
            icmp: env.t_icmp.into(),
            syn_sent: env.t_syn_sent.into(),
            syn_recv: env.t_syn_recv.into(),
            fin: env.t_fin.into(),
            time_wait: env.t_time_wait.into(),
            close: env.t_close.into(),
            pickup: env.t_pickup.into(),
            fragment: env.t_frag.into(),
        },
        tcp_strict: !env.tcp_loose,
        conntrack_limit: env.conntrack_limit,
        conntrack_limit_per_eni: env.conntrack_limit_per_eni,
    }
}

fn eni(plugged: &Plugged, block_imds: bool) -> branchline_oracle::Eni {
    let eni = &plugged.eni;
    let ipv4 = eni.ipv4.iter().copied().map(IpAddr::V4);
    let ipv6 = eni.ipv6.iter().copied().map(IpAddr::V6);
    branchline_oracle::Eni {
        addresses: ipv4.chain(ipv6).collect(),
        prefixes: eni.prefixes.clone(),
        link_local: Some(plugged.link_local()),
        groups: eni.groups.clone(),
        source_dest_check: eni.source_dest_check,
        block_imds,
        timers: None,
    }
}

fn security_group(group: &Group) -> SecurityGroup {
    let permissions = |of: &[IpPermission]| of.iter().map(permission).collect();
    SecurityGroup {
        ip_permissions: permissions(&group.ingress),
        ip_permissions_egress: permissions(&group.egress),
    }
}

fn permission(permission: &IpPermission) -> OraclePermission {
    let ipv4 = permission.ip_ranges.iter();
    let ipv6 = permission.ipv6_ranges.iter();
    let lists = permission.prefix_list_ids.iter();
    let groups = permission.user_id_group_pairs.iter();
    OraclePermission {
        ip_protocol: permission.ip_protocol.clone(),
        from_port: permission.from_port,
        to_port: permission.to_port,
        ip_ranges: ipv4.map(|range| range.cidr_ip).collect(),
        ipv6_ranges: ipv6.map(|range| range.cidr_ipv6).collect(),
        prefix_list_ids: lists.map(|list| list.prefix_list_id.clone()).collect(),
        user_id_group_pairs: groups.map(|pair| pair.group_id.clone()).collect(),
    }
}

fn packet(meeting: &Meeting<'_>) -> Packet {
    match meeting.pkt {
        Pkt::Arp(arp) => Packet::Arp(Arp {
            is_own_mac: meeting.direction == Direction::Egress,
            sender: arp.src.unwrap_or(Ipv4Addr::UNSPECIFIED),
            target: arp.dst.unwrap_or(Ipv4Addr::UNSPECIFIED),
        }),
        Pkt::Ip(pkt) => Packet::Ip(ip(pkt)),
    }
}

fn ip(pkt: &IpPkt) -> Ip {
    let fragment = match pkt.frag {
        None => Fragment::Whole,
        Some(frag) => {
            // The field of IPv4 has 16 bits.
            let id = if pkt.src.is_ipv4() {
                frag.id & 0xffff
            } else {
                frag.id
            };
            match (frag.offset, frag.more) {
                (0, false) => Fragment::Whole,
                (0, true) => Fragment::First { id },
                (offset, _) => Fragment::Later { id, offset },
            }
        }
    };
    Ip {
        source: pkt.src,
        destination: pkt.dst,
        protocol: pkt.proto.0,
        hop_limit: pkt.hop,
        fragment,
        transport: match fragment {
            Fragment::Whole | Fragment::First { .. } => transport(pkt),
            Fragment::Later { .. } => Transport::Other,
        },
    }
}

fn transport(pkt: &IpPkt) -> Transport {
    match pkt.proto.0 {
        protocol::TCP => Transport::Tcp(Tcp {
            source_port: pkt.sport,
            destination_port: pkt.dport,
            syn: pkt.flags.has(tcp::SYN),
            ack: pkt.flags.has(tcp::ACK),
            fin: pkt.flags.has(tcp::FIN),
            rst: pkt.flags.has(tcp::RST),
            sequence: pkt.seq.unwrap_or_default(),
            acknowledgment: pkt.ack.unwrap_or_default(),
            data: pkt.len.into(),
        }),
        protocol::UDP => Transport::Udp {
            source_port: pkt.sport,
            destination_port: pkt.dport,
        },
        protocol::ICMP | protocol::ICMPV6 => Transport::Icmp(Icmp {
            icmp_type: pkt.icmp_type,
            code: pkt.code,
            identifier: pkt.id,
            quoted: pkt.inner.as_deref().map(|inner| Box::new(ip(inner))),
            target: pkt.target,
        }),
        _ => Transport::Other,
    }
}
