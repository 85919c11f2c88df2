//! What is configured at a moment of a scenario. It judges nothing.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::format::{Change, Eni, EniKeys, Env, Group, Scenario};

/// All that is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Around the ENIs; the same all the time.
    pub env: Env,
    /// Prefix lists by id.
    pub prefix_lists: BTreeMap<String, Vec<IpNet>>,
    /// Groups by id.
    pub groups: BTreeMap<String, Group>,
    /// ENIs by id.
    pub enis: BTreeMap<String, Plugged>,
    /// The slot of the next new ENI.
    next_slot: u16,
}

/// An ENI and its place on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugged {
    /// Its slot, from 1; never given again.
    pub slot: u16,
    /// The ENI.
    pub eni: Eni,
}

impl Plugged {
    /// Whether an address is one of its own: primary, secondary or of a delegated prefix.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let eni = &self.eni;
        let is_one = match address {
            IpAddr::V4(address) => eni.ipv4.contains(&address),
            IpAddr::V6(address) => eni.ipv6.contains(&address),
        };
        is_one || eni.prefixes.iter().any(|prefix| prefix.contains(&address))
    }

    /// The IPv6 link-local address of the MAC address 02:00:00:00:00:slot (RFC 4291 appendix A).
    #[must_use]
    pub fn link_local(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x00ff, 0xfe00, self.slot)
    }
}

impl Setting {
    /// How a scenario starts.
    #[must_use]
    pub fn of(scenario: &Scenario) -> Self {
        let mut setting = Self {
            env: scenario.env.clone(),
            prefix_lists: scenario.prefix_lists.clone(),
            groups: scenario.groups.clone(),
            enis: BTreeMap::new(),
            next_slot: 1,
        };
        for (id, eni) in &scenario.enis {
            setting.plug(id, eni.clone());
        }
        setting
    }

    /// What a change makes of it.
    pub fn apply(&mut self, change: &Change) {
        self.prefix_lists.extend(change.set_prefix_list.clone());
        self.groups.extend(change.set_group.clone());
        for (id, keys) in &change.set_eni {
            match (keys, self.enis.get_mut(id)) {
                (None, _) => {
                    self.enis.remove(id);
                }
                (Some(keys), Some(plugged)) => merge(&mut plugged.eni, keys),
                (Some(keys), None) => {
                    let mut eni = Eni::default();
                    merge(&mut eni, keys);
                    self.plug(id, eni);
                }
            }
        }
    }

    /// The router's IPv4 address.
    #[must_use]
    pub fn router(&self) -> Ipv4Addr {
        let ipv4 = self.env.router.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        ipv4.unwrap_or(Ipv4Addr::new(10, 0, 1, 1))
    }

    fn plug(&mut self, id: &str, eni: Eni) {
        let slot = self.next_slot;
        self.next_slot += 1;
        self.enis.insert(id.to_owned(), Plugged { slot, eni });
    }
}

fn merge(eni: &mut Eni, keys: &EniKeys) {
    fn set<T: Clone>(value: &mut T, key: &Option<Option<T>>, default: T) {
        if let Some(new) = key {
            *value = new.clone().unwrap_or(default);
        }
    }
    set(&mut eni.ipv4, &keys.ipv4, Vec::new());
    set(&mut eni.ipv6, &keys.ipv6, Vec::new());
    set(&mut eni.prefixes, &keys.prefixes, Vec::new());
    set(&mut eni.groups, &keys.groups, Vec::new());
    set(&mut eni.source_dest_check, &keys.source_dest_check, true);
}
