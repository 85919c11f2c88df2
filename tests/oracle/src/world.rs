//! What is configured and what packets have left behind. It decides nothing itself.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::{
    connection::{Connection, Key},
    environment::{Eni, Environment},
    evaluation::{Place, judgement},
    fragments::{Datagram, FirstFragment},
    group::{self, Malformed, SecurityGroup},
    judgement::{Judgement, Step, Verdict},
    packet::{Direction, Packet},
    rules::Configuration,
};

/// ENIs, their groups, and what packets have left behind.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub(crate) configuration: Configuration,
    /// §5: live connections, and dead ones that no packet has cleared away yet.
    pub(crate) connections: BTreeMap<Key, Connection>,
    /// §7: verdicts on first fragments.
    pub(crate) fragments: BTreeMap<Datagram, FirstFragment>,
    /// §5.6: dropped packets of new connections, by ENI.
    pub(crate) conntrack_allowance_exceeded: BTreeMap<String, u64>,
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

    /// §5.6: counts a packet that was dropped for want of room.
    pub(crate) fn count_exceeded(&mut self, eni_id: &str) {
        let counter = self
            .conntrack_allowance_exceeded
            .entry(eni_id.to_owned())
            .or_default();
        *counter = counter.saturating_add(1);
    }
}
