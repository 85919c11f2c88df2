//! Which rules cover a packet (§1.4, §3 step 7), and which flows they leave untracked (§4).
//!
//! It scans every rule of every group. It knows no connection.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::{
    environment::{Eni, Environment},
    group::{Group, Permission, Ports, Protocol, Source},
    judgement::{Peer, RuleMatch},
    packet::{Direction, ICMP, ICMPV6, Ip, TCP, Transport, UDP},
};

/// All that rules depend on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configuration {
    pub(crate) environment: Environment,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) prefix_lists: BTreeMap<String, Vec<IpNet>>,
    pub(crate) enis: BTreeMap<String, Eni>,
}

/// What rules compare with their ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A destination port.
    Port(u16),
    /// An ICMP type and code.
    Icmp(u8, u8),
    /// Nothing: another protocol, or a later fragment. Only a rule that ignores ports covers it.
    NoPort,
}

impl Asked {
    /// What a packet asks rules for.
    pub(crate) fn of(packet: &Ip) -> Self {
        match &packet.transport {
            Transport::Tcp(tcp) => Self::Port(tcp.destination_port),
            Transport::Udp {
                destination_port, ..
            } => Self::Port(*destination_port),
            Transport::Icmp(icmp) => Self::Icmp(icmp.icmp_type, icmp.code),
            Transport::Other => Self::NoPort,
        }
    }
}

impl Configuration {
    /// Every rule of the ENI's groups that covers a packet of `direction` with `peer`, in the order
    /// of groups and rules.
    pub(crate) fn matching(
        &self,
        eni: &Eni,
        direction: Direction,
        peer: IpAddr,
        protocol: u8,
        asked: Asked,
    ) -> Vec<RuleMatch> {
        let mut found = Vec::new();
        for group_id in &eni.groups {
            for (index, permission) in self.permissions(group_id, direction).iter().enumerate() {
                if !covers_protocol(permission, peer, protocol) || !covers_ports(permission, asked)
                {
                    continue;
                }
                for source in &permission.sources {
                    for network in self.networks(source) {
                        if network.network().contains(&peer) {
                            found.push(RuleMatch {
                                group_id: group_id.clone(),
                                direction,
                                permission: index,
                                peer: network,
                            });
                        }
                    }
                }
            }
        }
        found
    }

    /// §4: whether a flow that `peer` and the ENI open in `direction` to `port` is untracked; if so,
    /// the rule that allows it.
    pub(crate) fn untracked(
        &self,
        eni: &Eni,
        direction: Direction,
        peer: IpAddr,
        protocol: u8,
        port: u16,
    ) -> Option<RuleMatch> {
        // 1. The protocol is TCP or UDP.
        if protocol != TCP && protocol != UDP {
            return None;
        }
        // 4. The path is not automatically tracked.
        let auto_track = &self.environment.auto_track;
        if auto_track.iter().any(|network| network.contains(&peer)) {
            return None;
        }
        // 3. In the opposite direction, some rule with a /0 source of the same family admits the
        //    protocol on all ports. Only such a rule covers a packet without a port.
        let opposite = self.matching(eni, direction.opposite(), peer, protocol, Asked::NoPort);
        if !opposite.iter().any(is_open) {
            return None;
        }
        // 2. Some matching rule has a /0 source.
        self.matching(eni, direction, peer, protocol, Asked::Port(port))
            .into_iter()
            .find(is_open)
    }

    fn permissions(&self, group_id: &str, direction: Direction) -> &[Permission] {
        match (self.groups.get(group_id), direction) {
            (Some(group), Direction::Ingress) => &group.ingress,
            (Some(group), Direction::Egress) => &group.egress,
            (None, _) => &[],
        }
    }

    /// What a source stands for now. A list or group that is not there stands for nothing (§1.4,
    /// stale references).
    fn networks(&self, source: &Source) -> Vec<Peer> {
        match source {
            Source::Network(network) => vec![Peer::Network(*network)],
            Source::PrefixList(id) => {
                let networks = self.prefix_lists.get(id).into_iter().flatten();
                networks
                    .map(|network| Peer::PrefixList {
                        prefix_list_id: id.clone(),
                        network: *network,
                    })
                    .collect()
            }
            // §1.4: every private address of every member, and its delegated prefixes.
            Source::Group(id) => {
                let mut peers = Vec::new();
                for (name, eni) in &self.enis {
                    if !eni.groups.contains(id) {
                        continue;
                    }
                    let addresses = eni.addresses.iter().copied().map(IpNet::from);
                    for network in addresses.chain(eni.prefixes.iter().copied()) {
                        peers.push(Peer::Group {
                            group_id: id.clone(),
                            eni: name.clone(),
                            network,
                        });
                    }
                }
                peers
            }
        }
    }
}

/// §1.1, normalisation 5: ICMP is of IPv4 only and ICMPv6 of IPv6 only.
fn covers_protocol(permission: &Permission, peer: IpAddr, protocol: u8) -> bool {
    match permission.protocol {
        Protocol::All => true,
        Protocol::Number(ICMP) => protocol == ICMP && peer.is_ipv4(),
        Protocol::Number(ICMPV6) => protocol == ICMPV6 && peer.is_ipv6(),
        Protocol::Number(number) => protocol == number,
    }
}

fn covers_ports(permission: &Permission, asked: Asked) -> bool {
    match (permission.ports, asked) {
        (Ports::All, _) => true,
        (Ports::Range(from, to), Asked::Port(port)) => from <= port && port <= to,
        (Ports::Icmp(icmp_type, None), Asked::Icmp(asked, _)) => icmp_type == asked,
        (Ports::Icmp(icmp_type, Some(code)), Asked::Icmp(asked_type, asked_code)) => {
            icmp_type == asked_type && code == asked_code
        }
        (Ports::Range(..), Asked::Icmp(..) | Asked::NoPort)
        | (Ports::Icmp(..), Asked::Port(_) | Asked::NoPort) => false,
    }
}

/// §4, clarification: literally a network of prefix length 0, also one of a prefix list.
fn is_open(rule: &RuleMatch) -> bool {
    rule.peer.network().prefix_len() == 0
}
