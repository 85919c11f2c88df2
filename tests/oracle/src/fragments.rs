//! §7: fragments. Reassembles nothing.

use std::net::IpAddr;

use crate::{
    connection::Key,
    evaluation::{Place, judgement},
    judgement::{Judgement, Step, Verdict},
    packet::{Direction, Ip},
    rules::Asked,
    world::World,
};

/// §7: what tells fragmented datagrams apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Datagram {
    pub(crate) eni: String,
    direction: Direction,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    id: u32,
}

/// §7: what became of a first fragment.
#[derive(Clone, Debug)]
pub(crate) struct FirstFragment {
    seen: u64,
    judgement: Judgement,
    /// Its connection, if it rode or opened one.
    connection: Option<Key>,
}

impl World {
    /// §7: remembers what became of a first fragment.
    ///
    /// `[OWN]` Not what was decided before step 2's services: later fragments meet the same tests,
    /// and a fragmented DHCP message is no more than its first fragment.
    pub(crate) fn remember(&mut self, place: &Place, packet: &Ip, id: u32, decided: &Judgement) {
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
    pub(crate) fn evaluate_later(&mut self, place: &Place, packet: &Ip, id: u32) -> Judgement {
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
