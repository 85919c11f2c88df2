//! §3: the order of evaluation, with §4 (untracked flows) and §6 (ICMP errors).

use std::net::IpAddr;

use crate::{
    connection::{Connection, Key},
    environment::{Eni, Timers},
    exempt,
    judgement::{Judgement, RuleMatch, Step, Verdict},
    packet::{Direction, Fragment, Ip, Packet, TCP},
    rules::Asked,
    world::World,
};

/// Where and when a packet is judged.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) t: u64,
    pub(crate) eni_id: String,
    pub(crate) eni: Eni,
    pub(crate) timers: Timers,
    pub(crate) direction: Direction,
}

/// A judgement that no rule and no connection took part in.
pub(crate) fn judgement(verdict: Verdict, step: Step) -> Judgement {
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
    /// §3, steps 0 to 4.
    pub(crate) fn evaluate(&mut self, place: &Place, packet: &Packet) -> Judgement {
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
        // If what the connection does not carry is refused, it is a packet of a tracked flow.
        let refused = |step, rule: Option<&RuleMatch>| Judgement {
            tracked: is_known.then_some(true),
            rule: rule.cloned(),
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
            return refused(Step::NoRule, None);
        };
        let allowed = |step| Judgement {
            rule: Some(rule.clone()),
            ..judgement(Verdict::Accept, step)
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
            return refused(Step::Strict, Some(&rule));
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
            return refused(Step::ConntrackFull, Some(&rule));
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
}
