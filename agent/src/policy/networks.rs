//! What the peers of rules stand for, as trees take it: each prefix list and group expanded once. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;

use super::prefix::Prefix;
use crate::security_groups::{Directory, MemberChange, Members, Peer};

/// Prefixes by family, IPv6 then IPv4; in order, each once.
pub(super) type Families = [Vec<Prefix>; 2];

/// The networks of prefix lists and groups, for all policies that are compiled at one time.
#[derive(Debug)]
pub struct Networks<'a> {
    directory: &'a Directory,
    members: &'a Members,
    expanded: BTreeMap<Peer, Arc<Families>>,
}

impl<'a> Networks<'a> {
    /// As `directory` and `members` have them.
    #[must_use]
    pub fn of(directory: &'a Directory, members: &'a Members) -> Self {
        Self {
            directory,
            members,
            expanded: BTreeMap::new(),
        }
    }

    /// The networks that `peer` stands for.
    pub(super) fn find(&mut self, peer: &Peer) -> Arc<Families> {
        if let Some(families) = self.expanded.get(peer) {
            return Arc::clone(families);
        }
        let networks = self.directory.networks(peer, self.members);
        let families = Arc::new(families(&networks));
        self.expanded.insert(peer.clone(), Arc::clone(&families));
        families
    }
}

/// The networks of one family that are in the group in one of two states only.
pub(super) fn changed(change: &MemberChange, is_ipv4: bool) -> impl Iterator<Item = Prefix> {
    let both = change.added.iter().chain(&change.removed);
    both.filter(move |network| is_of(network, is_ipv4))
        .map(Prefix::of)
}

/// The networks of one family.
pub(super) fn of_family(families: &Families, is_ipv4: bool) -> &[Prefix] {
    &families[usize::from(is_ipv4)]
}

fn families(networks: &BTreeSet<IpNet>) -> Families {
    let mut families = Families::default();
    for network in networks {
        families[usize::from(is_of(network, true))].push(Prefix::of(network));
    }
    for family in &mut families {
        family.sort_unstable();
    }
    families
}

/// Whether a network is of one family.
pub(super) fn is_of(network: &IpNet, is_ipv4: bool) -> bool {
    matches!(network, IpNet::V4(_)) == is_ipv4
}
