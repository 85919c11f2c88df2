//! §3: the order of evaluation, with §6 (ICMP errors) and §7 (fragments); and the tables.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::{
    connection::{Connection, Key},
    environment::{Eni, Environment, Timers},
    exempt,
    group::{self, Malformed, SecurityGroup},
    judgement::{Judgement, RuleMatch, Step, Verdict},
    packet::{Direction, Fragment, Ip, Packet, TCP},
    rules::{Asked, Configuration},
};

/// ENIs, their groups, and what packets have left behind.
#[derive(Clone, Debug, Default)]
pub struct World {
    configuration: Configuration,
    /// §5: live connections, and dead ones that no packet has cleared away yet.
    connections: BTreeMap<Key, Connection>,
    /// §7: verdicts on first fragments.
    fragments: BTreeMap<Datagram, FirstFragment>,
    /// §5.6: dropped packets of new connections, by ENI.
    conntrack_allowance_exceeded: BTreeMap<String, u64>,
}

/// §7: what tells fragmented datagrams apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    eni: String,
    direction: Direction,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    id: u32,
}

/// §7: what became of a first fragment.
#[derive(Clone, Debug)]
struct FirstFragment {
    seen: u64,
    judgement: Judgement,
    /// Its connection, if it rode or opened one.
    connection: Option<Key>,
}

/// Where and when a packet is judged.
#[derive(Clone, Debug)]
struct Place {
    t: u64,
    eni_id: String,
    eni: Eni,
    timers: Timers,
    direction: Direction,
}

/// A judgement that no rule and no connection took part in.
fn judgement(verdict: Verdict, step: Step) -> Judgement {
    Judgement {
        verdict,
        tracked: match verdict {
            Verdict::Accept => Some(false),
            Verdict::Reject | Verdict::Exempt | Verdict::DropUnlogged => None,
        },
        rule: None,
        step,
    }
}

impl World {
    /// A world without ENIs and groups.
    #[must_use]
    pub fn new(environment: Environment) -> Self {
        Self {
            configuration: Configuration {
                environment,
                ..Configuration::default()
            },
            ..Self::default()
        }
    }

    /// Creates or replaces a group; `None` deletes it. What is tracked lives on (§4, effect of rule
    /// changes).
    ///
    /// # Errors
    /// The first permission that cannot be understood; then nothing has changed.
    pub fn set_group(&mut self, id: &str, group: Option<&SecurityGroup>) -> Result<(), Malformed> {
        let groups = &mut self.configuration.groups;
        match group {
            Some(group) => {
                let group = group::normalize(group)?;
                groups.insert(id.to_owned(), group);
            }
            None => {
                groups.remove(id);
            }
        }
        Ok(())
    }

    /// Creates or replaces a prefix list; `None` deletes it.
    pub fn set_prefix_list(&mut self, id: &str, networks: Option<&[IpNet]>) {
        let prefix_lists = &mut self.configuration.prefix_lists;
        match networks {
            Some(networks) => {
                let networks = networks.iter().map(IpNet::trunc).collect();
                prefix_lists.insert(id.to_owned(), networks);
            }
            None => {
                prefix_lists.remove(id);
            }
        }
    }

    /// Creates or replaces an ENI; `None` deletes it, and with it what its packets have left.
    pub fn set_eni(&mut self, id: &str, eni: Option<&Eni>) {
        match eni {
            Some(eni) => {
                self.configuration.enis.insert(id.to_owned(), eni.clone());
            }
            None => {
                self.configuration.enis.remove(id);
                self.connections.retain(|key, _| key.eni != id);
                self.fragments.retain(|datagram, _| datagram.eni != id);
            }
        }
    }

    /// The connections that are alive in second `t`, by key.
    pub fn connections(&self, t: u64) -> impl Iterator<Item = (&Key, &Connection)> {
        self.connections
            .iter()
            .filter(move |(_, connection)| connection.is_live(t))
    }

    /// §5.6: packets of new connections that an ENI lost for want of room.
    #[must_use]
    pub fn conntrack_allowance_exceeded(&self, eni: &str) -> u64 {
        let exceeded = self.conntrack_allowance_exceeded.get(eni);
        exceeded.copied().unwrap_or_default()
    }

    /// §5.6: connections that an ENI may still open in second `t`.
    #[must_use]
    pub fn conntrack_allowance_available(&self, eni: &str, t: u64) -> usize {
        let environment = &self.configuration.environment;
        let all = self.connections(t).count();
        let own = self.connections(t).filter(|(key, _)| key.eni == eni);
        let host = environment.conntrack_limit.saturating_sub(all);
        match environment.conntrack_limit_per_eni {
            Some(limit) => host.min(limit.saturating_sub(own.count())),
            None => host,
        }
    }

    /// Judges a packet that meets an ENI in second `t`, which never goes back.
    pub fn judge(
        &mut self,
        t: u64,
        eni_id: &str,
        direction: Direction,
        packet: &Packet,
    ) -> Judgement {
        let Some(eni) = self.configuration.enis.get(eni_id) else {
            return judgement(Verdict::DropUnlogged, Step::UnknownEni);
        };
        let timers = eni.timers.unwrap_or(self.configuration.environment.timers);
        let place = Place {
            t,
            eni_id: eni_id.to_owned(),
            eni: eni.clone(),
            timers,
            direction,
        };
        // §5.6: "fixtures treat expiry as immediate".
        self.connections
            .retain(|_, connection| connection.is_live(t));
        self.evaluate(&place, packet)
    }

    /// §3, steps 0 to 4.
    fn evaluate(&mut self, place: &Place, packet: &Packet) -> Judgement {
        let (eni, direction) = (&place.eni, place.direction);
        // 0. ARP. [OWN] A task speaks for itself only.
        let packet = match packet {
            Packet::Arp(arp) if exempt::is_honest_arp(eni, direction, arp) => {
                return judgement(Verdict::Exempt, Step::Arp);
            }
            Packet::Arp(_) => return judgement(Verdict::DropUnlogged, Step::ForeignArp),
            Packet::Ip(packet) => packet,
        };
        // [OWN] What contradicts itself is not judged at all.
        if packet.is_malformed() {
            return judgement(Verdict::DropUnlogged, Step::Malformed);
        }
        // 1. Instance metadata, if the ENI blocks it.
        if eni.block_imds && exempt::is_imds(packet.remote(direction)) {
            return judgement(Verdict::DropUnlogged, Step::ImdsBlocked);
        }
        // 2. What has no address yet, or speaks for one, is exempt before addresses are checked.
        if exempt::is_neighbour_discovery(packet) {
            // [OWN] A task speaks for itself only.
            return if exempt::is_honest_neighbour(eni, direction, packet) {
                judgement(Verdict::Exempt, Step::NeighbourDiscovery)
            } else {
                judgement(Verdict::DropUnlogged, Step::ForeignNeighbour)
            };
        }
        if exempt::is_dhcp(eni, direction, packet) {
            return judgement(Verdict::Exempt, Step::Dhcp);
        }
        // 4. Source/destination check. [OWN] Before the other exemptions, so that a task reaches no
        //    service under a foreign address; and for every fragment, known or not.
        if eni.source_dest_check && !eni.owns(packet.local(direction)) {
            return judgement(Verdict::DropUnlogged, Step::SourceDestCheck);
        }
        // 2. The other exemptions; of a later fragment by address only.
        let service = exempt::service(&self.configuration.environment, direction, packet);
        let exempted = service.map(|step| judgement(Verdict::Exempt, step));
        match packet.fragment {
            Fragment::Whole => exempted.unwrap_or_else(|| self.evaluate_start(place, packet)),
            Fragment::First { id } => {
                let decided = exempted.unwrap_or_else(|| self.evaluate_start(place, packet));
                self.remember(place, packet, id, &decided);
                decided
            }
            // 3. A later fragment.
            Fragment::Later { id, .. } => {
                exempted.unwrap_or_else(|| self.evaluate_later(place, packet, id))
            }
        }
    }

    /// §3, steps 5 to 12: a whole packet or a first fragment.
    fn evaluate_start(&mut self, place: &Place, packet: &Ip) -> Judgement {
        // 5. An ICMP error about a known flow.
        if let Some(related) = self.related(place, packet) {
            return related;
        }
        // 6. A live connection.
        let key = Key::of(&place.eni_id, place.direction, packet);
        let connection = key.as_ref().and_then(|key| self.connections.get_mut(key));
        let is_known = connection.is_some();
        if let Some(connection) = connection
            && connection.carries(packet)
        {
            connection.ride(place.direction, packet, place.t, &place.timers);
            return Judgement {
                tracked: Some(true),
                rule: Some(connection.rule.clone()),
                ..judgement(Verdict::Accept, Step::Connection)
            };
        }
        // A packet that the connection does not carry and that is refused, is of a tracked flow.
        let refused = |step| Judgement {
            tracked: is_known.then_some(true),
            ..judgement(Verdict::Reject, step)
        };
        // 7. The rules.
        let peer = packet.remote(place.direction);
        let rules = self.configuration.matching(
            &place.eni,
            place.direction,
            peer,
            packet.protocol,
            Asked::of(packet),
        );
        let Some(rule) = rules.into_iter().next() else {
            return refused(Step::NoRule);
        };
        let allowed = |step| Judgement {
            rule: Some(rule.clone()),
            ..judgement(Verdict::Accept, step)
        };
        let refused = |step| Judgement {
            rule: Some(rule.clone()),
            ..refused(step)
        };
        // 8. Untracked flows.
        if let Some((step, rule)) = self.untracked(place, packet) {
            return Judgement {
                rule: Some(rule),
                ..allowed(step)
            };
        }
        // 9. Strict TCP.
        let is_bare_syn = packet.tcp().is_some_and(|tcp| tcp.is_bare_syn());
        let is_strict = self.configuration.environment.tcp_strict;
        if packet.protocol == TCP && !is_bare_syn && is_strict {
            return refused(Step::Strict);
        }
        // 10. What opens no connection.
        let opened = Connection::open(place.direction, packet, &rule, place.t, &place.timers);
        let (Some(opened), Some(key)) = (opened, key) else {
            return allowed(match packet.tcp() {
                Some(_) => Step::Reset,
                None => Step::OneWayIcmp,
            });
        };
        // §5.3: only a bare SYN replaces the entry of a closed connection.
        if is_known && !is_bare_syn {
            return allowed(Step::Closed);
        }
        // 11. Room. A replaced entry needs none.
        if !is_known && self.conntrack_allowance_available(&place.eni_id, place.t) == 0 {
            self.count_exceeded(&place.eni_id);
            return refused(Step::ConntrackFull);
        }
        // 12. A new connection.
        self.connections.insert(key, opened);
        Judgement {
            tracked: Some(true),
            ..allowed(Step::Opened)
        }
    }

    /// §4: whether a packet is of an untracked flow, and which rule allows that flow.
    fn untracked(&self, place: &Place, packet: &Ip) -> Option<(Step, RuleMatch)> {
        let (source_port, destination_port) = packet.ports()?;
        let direction = place.direction;
        let peer = packet.remote(direction);
        let of = |direction, port| {
            let configuration = &self.configuration;
            configuration.untracked(&place.eni, direction, peer, packet.protocol, port)
        };
        if let Some(rule) = of(direction, destination_port) {
            return Some((Step::Untracked, rule));
        }
        // Clarification: what is no bare SYN may be the reply half of the mirrored flow.
        if packet.tcp().is_some_and(|tcp| tcp.is_bare_syn()) {
            return None;
        }
        let rule = of(direction.opposite(), source_port)?;
        Some((Step::UntrackedReply, rule))
    }

    /// §6: an ICMP error that quotes a packet of a known flow of this ENI, which went the other way.
    /// It changes nothing.
    fn related(&self, place: &Place, packet: &Ip) -> Option<Judgement> {
        let icmp = packet.icmp()?;
        let is_error = match packet.source {
            IpAddr::V4(_) => matches!(icmp.icmp_type, 3 | 4 | 11 | 12),
            IpAddr::V6(_) => matches!(icmp.icmp_type, 1..=4),
        };
        let quoted = icmp.quoted.as_deref()?;
        let is_later = matches!(quoted.fragment, Fragment::Later { .. });
        let is_same_family = quoted.source.is_ipv4() == packet.source.is_ipv4();
        if !is_error || is_later || !is_same_family || quoted.is_malformed() {
            return None;
        }
        // (ii) It travelled in the opposite direction.
        let went = place.direction.opposite();
        // (i) Its local end is on this ENI. [OWN] Without the source/destination check an ENI also
        //     forwards for others.
        if place.eni.source_dest_check && !place.eni.owns(quoted.local(went)) {
            return None;
        }
        // (iii) It belongs to a live entry, or to a flow that is untracked in either orientation.
        let connection =
            Key::of(&place.eni_id, went, quoted).and_then(|key| self.connections.get(&key));
        if let Some(connection) = connection {
            return Some(Judgement {
                rule: Some(connection.rule.clone()),
                ..judgement(Verdict::Accept, Step::Related)
            });
        }
        let (source_port, destination_port) = quoted.ports()?;
        let peer = quoted.remote(went);
        let of = |direction, port| {
            let configuration = &self.configuration;
            configuration.untracked(&place.eni, direction, peer, quoted.protocol, port)
        };
        let rule = of(went, destination_port).or_else(|| of(went.opposite(), source_port))?;
        Some(Judgement {
            rule: Some(rule),
            ..judgement(Verdict::Accept, Step::RelatedUntracked)
        })
    }

    /// §7: remembers what became of a first fragment.
    ///
    /// `[OWN]` Not what was decided before step 2's services: later fragments meet the same tests,
    /// and a fragmented DHCP message is no more than its first fragment.
    fn remember(&mut self, place: &Place, packet: &Ip, id: u32, decided: &Judgement) {
        let connection = match (decided.verdict, decided.tracked) {
            (Verdict::Accept, Some(true)) => Key::of(&place.eni_id, place.direction, packet),
            _ => None,
        };
        self.fragments.insert(
            datagram(place, packet, id),
            FirstFragment {
                seen: place.t,
                judgement: decided.clone(),
                connection,
            },
        );
    }

    /// §7: a later fragment has its first fragment's verdict. Without one it passes only if a rule
    /// for the peer and the protocol ignores ports; of ICMP, a rule for every type. `[OWN]`
    fn evaluate_later(&mut self, place: &Place, packet: &Ip, id: u32) -> Judgement {
        let known = self.fragments.get(&datagram(place, packet, id));
        let known =
            known.filter(|first| place.t.saturating_sub(first.seen) < place.timers.fragment);
        if let Some(first) = known.cloned() {
            return self.follow(place, first);
        }
        let rules = self.configuration.matching(
            &place.eni,
            place.direction,
            packet.remote(place.direction),
            packet.protocol,
            Asked::NoPort,
        );
        match rules.into_iter().next() {
            Some(rule) => Judgement {
                rule: Some(rule),
                ..judgement(Verdict::Accept, Step::FragmentAllowed)
            },
            None => judgement(Verdict::Reject, Step::FragmentOrphan),
        }
    }

    /// A later fragment whose first one is known. `[OWN]` It refreshes its connection, if that is
    /// still alive, and counts as a packet that was dropped for want of room if the first one did.
    fn follow(&mut self, place: &Place, first: FirstFragment) -> Judgement {
        let connection = first
            .connection
            .and_then(|key| self.connections.get_mut(&key));
        let is_tracked = connection.is_some();
        if let Some(connection) = connection {
            connection.refresh(place.t);
        }
        if first.judgement.step == Step::ConntrackFull {
            self.count_exceeded(&place.eni_id);
        }
        Judgement {
            tracked: match first.judgement.verdict {
                Verdict::Accept => Some(is_tracked),
                Verdict::Reject | Verdict::Exempt | Verdict::DropUnlogged => None,
            },
            step: Step::FragmentFollows,
            ..first.judgement
        }
    }

    fn count_exceeded(&mut self, eni_id: &str) {
        let counter = self
            .conntrack_allowance_exceeded
            .entry(eni_id.to_owned())
            .or_default();
        *counter = counter.saturating_add(1);
    }
}

fn datagram(place: &Place, packet: &Ip, id: u32) -> Datagram {
    Datagram {
        eni: place.eni_id.clone(),
        direction: place.direction,
        source: packet.source,
        destination: packet.destination,
        protocol: packet.protocol,
        id,
    }
}
