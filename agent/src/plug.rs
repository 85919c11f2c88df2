//! Puts an ENI into the data plane's maps and takes it out: slots, policies, addresses.
//!
//! Knows no link or namespace beyond their indices, and decides nothing about packets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Mutex,
};

use branchline_common::{
    conntrack::default_timeouts,
    flow::{Address, NO_ADDRESS, mapped},
    headers::ethernet,
    maps::{self, ENI_SLOTS, Endpoint, eni},
};
use ipnet::IpNet;

use crate::{
    datapath::{Datapath, DatapathError, lock},
    policy::{self, TooManyRules},
    provider::{Eni, ProviderError},
    security_groups::SecurityGroup,
};

/// Why an ENI could not be put into the data plane.
#[derive(Debug, thiserror::Error)]
pub enum PlugError {
    /// All slots are taken.
    #[error("the data plane has room for {} ENIs and all are taken; remove a task first", ENI_SLOTS - 1)]
    Full,
    /// The groups have too many rules.
    #[error(transparent)]
    Policy(#[from] TooManyRules),
    /// The groups are not known.
    #[error("read the security groups")]
    Groups(#[source] ProviderError),
    /// A map refused.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

/// Where the trunk's two ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trunk {
    /// Index of the trunk in the host's namespace.
    pub host: u32,
    /// Index of its far end in the local VPC's namespace, 0 where the VPC is not local.
    pub fabric: u32,
}

/// A compiled policy that ENIs obey.
#[derive(Debug)]
struct Compiled {
    id: u32,
    users: BTreeSet<u32>,
}

/// Which ENI has which slot, and which policies there are.
#[derive(Debug)]
pub struct Plugs {
    trunk: Trunk,
    vpc_cidrs: Vec<IpNet>,
    slots: BTreeMap<u32, String>,
    policies: BTreeMap<Vec<String>, Compiled>,
    next_policy: u32,
}

impl Plugs {
    /// What is plugged in now, by the maps: `enis` are those that the store knows.
    ///
    /// # Errors
    /// `Datapath` if the maps cannot be read.
    pub fn restore(
        datapath: &Datapath,
        trunk: Trunk,
        vpc_cidrs: Vec<IpNet>,
        enis: &[&Eni],
    ) -> Result<Self, DatapathError> {
        let mut plugs = Self {
            trunk,
            vpc_cidrs,
            slots: BTreeMap::new(),
            policies: BTreeMap::new(),
            next_policy: 1,
        };
        for slot in 1..ENI_SLOTS {
            let found = datapath.eni(slot)?;
            if found.branch_ifindex == 0 {
                continue;
            }
            plugs.next_policy = plugs.next_policy.max(found.policy + 1);
            let owner = enis.iter().find(|eni| eni.mac.0 == found.mac);
            let name = owner.map_or_else(String::new, |eni| eni.eni_id.clone());
            plugs.slots.insert(slot, name);
        }
        Ok(plugs)
    }

    /// Slots that no ENI of the store owns: what a lost store left.
    #[must_use]
    pub fn ownerless(&self) -> Vec<u32> {
        let ownerless = self.slots.iter().filter(|(_, eni_id)| eni_id.is_empty());
        ownerless.map(|(slot, _)| *slot).collect()
    }

    /// The slot of an ENI.
    #[must_use]
    pub fn slot(&self, eni_id: &str) -> Option<u32> {
        self.slots
            .iter()
            .find(|(_, id)| *id == eni_id)
            .map(|(slot, _)| *slot)
    }

    /// Every taken slot and its ENI.
    #[must_use]
    pub fn slots(&self) -> &BTreeMap<u32, String> {
        &self.slots
    }

    /// Puts `eni` into the maps, with the rules of `groups`, which are its own: policy first, then
    /// the ENI, then what leads packets to it. Idempotent.
    ///
    /// # Errors
    /// Each variant; what was put in stays for [`Plugs::unplug`].
    pub fn plug(
        &mut self,
        datapath: &Mutex<Datapath>,
        eni: &Eni,
        branch_ifindex: u32,
        groups: &[SecurityGroup],
    ) -> Result<u32, PlugError> {
        let mut datapath = lock(datapath);
        let slot = self.take_slot(&eni.eni_id)?;
        let policy = self.policy(&mut datapath, slot, groups)?;
        let entry = self.entry(eni, branch_ifindex, policy, &datapath);
        datapath.set_eni(slot, &entry)?;
        datapath.set_branch(branch_ifindex, slot)?;
        for address in [entry.ipv4, entry.ipv6] {
            if address != NO_ADDRESS {
                datapath.set_address(address, slot)?;
            }
        }
        for mac in [eni.mac.0, ethernet::BROADCAST] {
            let endpoint = Endpoint {
                trunk_ifindex: self.trunk.host,
                vlan: entry.vlan,
                mac,
            };
            datapath.set_endpoint(endpoint, slot)?;
        }
        Ok(slot)
    }

    /// Takes an ENI out: no packet finds it any more, but what it counted stays. `None` if it was
    /// not in.
    ///
    /// # Errors
    /// `Datapath`.
    pub fn unplug(
        &mut self,
        datapath: &Mutex<Datapath>,
        eni_id: &str,
    ) -> Result<Option<u32>, DatapathError> {
        let Some(slot) = self.slot(eni_id) else {
            return Ok(None);
        };
        lock(datapath).unplug_eni(slot)?;
        Ok(Some(slot))
    }

    /// Frees the slot of an unplugged ENI that the maps have forgotten, and its policy if it was
    /// the last to obey it.
    ///
    /// # Errors
    /// `Datapath`.
    pub fn free(&mut self, datapath: &Mutex<Datapath>, slot: u32) -> Result<(), DatapathError> {
        let mut datapath = lock(datapath);
        self.slots.remove(&slot);
        self.leave_policies(slot);
        self.drop_unused(&mut datapath)
    }

    /// Removes policies that no ENI obeys, also those that an earlier agent compiled.
    ///
    /// # Errors
    /// `Datapath`.
    pub fn drop_unused(&mut self, datapath: &mut Datapath) -> Result<(), DatapathError> {
        self.policies
            .retain(|_, compiled| !compiled.users.is_empty());
        let kept: BTreeSet<u32> = self.policies.values().map(|compiled| compiled.id).collect();
        datapath.retain_policies(|policy| kept.contains(&policy))
    }

    fn take_slot(&mut self, eni_id: &str) -> Result<u32, PlugError> {
        if let Some(slot) = self.slot(eni_id) {
            return Ok(slot);
        }
        let free = (1..ENI_SLOTS).find(|slot| !self.slots.contains_key(slot));
        let slot = free.ok_or(PlugError::Full)?;
        self.slots.insert(slot, eni_id.to_owned());
        Ok(slot)
    }

    /// The policy of a set of groups, compiled if no ENI has this set yet.
    fn policy(
        &mut self,
        datapath: &mut Datapath,
        slot: u32,
        groups: &[SecurityGroup],
    ) -> Result<u32, PlugError> {
        let mut ids: Vec<String> = groups.iter().map(|group| group.group_id.clone()).collect();
        ids.sort();
        self.leave_policies(slot);
        if let Some(compiled) = self.policies.get_mut(&ids) {
            compiled.users.insert(slot);
            return Ok(compiled.id);
        }
        let id = self.next_policy;
        let compiled = policy::compile(id, groups)?;
        datapath.insert_rules(&compiled.rules)?;
        self.next_policy += 1;
        self.policies.insert(
            ids,
            Compiled {
                id,
                users: BTreeSet::from([slot]),
            },
        );
        Ok(id)
    }

    fn leave_policies(&mut self, slot: u32) {
        for compiled in self.policies.values_mut() {
            compiled.users.remove(&slot);
        }
    }

    fn entry(&self, eni: &Eni, branch_ifindex: u32, policy: u32, datapath: &Datapath) -> maps::Eni {
        let ipv4 = eni.ipv4.map(|net| IpAddr::V4(net.addr()));
        let ipv6 = eni.ipv6.map(|net| IpAddr::V6(net.addr()));
        maps::Eni {
            trunk_ifindex: self.trunk.host,
            branch_ifindex,
            fabric_ifindex: self.trunk.fabric,
            policy,
            flags: eni::SOURCE_DEST_CHECK | eni::BLOCK_IMDS,
            vlan: eni.vlan.map_or(0, |vlan| vlan.get()),
            mac: eni.mac.0,
            ipv4: or_none(ipv4),
            ipv6: or_none(ipv6),
            link_local: link_local(eni.mac.0),
            router_ipv4: or_none(eni.router_ipv4.map(IpAddr::V4)),
            router_ipv6: or_none(eni.router_ipv6.map(IpAddr::V6)),
            resolvers: resolvers(&self.vpc_cidrs),
            timeouts: default_timeouts(datapath.clock().ticks_per_second()),
        }
    }
}

fn or_none(address: Option<IpAddr>) -> Address {
    address.map_or(NO_ADDRESS, policy::address)
}

/// The link-local address that the kernel makes from a MAC address (RFC 4291 appendix A).
fn link_local(mac: [u8; 6]) -> Address {
    let [a, b, c, d, e, f] = mac;
    [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ]
}

/// The VPC's resolvers: base+2 of each of its first IPv4 CIDRs.
fn resolvers(vpc_cidrs: &[IpNet]) -> [Address; 4] {
    let mut resolvers = [NO_ADDRESS; 4];
    let bases = vpc_cidrs.iter().filter_map(|cidr| match cidr {
        IpNet::V4(cidr) => Some(u32::from(cidr.network()) + 2),
        IpNet::V6(_) => None,
    });
    for (resolver, address) in resolvers.iter_mut().zip(bases) {
        *resolver = mapped(Ipv4Addr::from(address).octets());
    }
    resolvers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_local_address_is_the_kernels() {
        let expected: std::net::Ipv6Addr = "fe80::bff:fe00:1".parse().expect("an address");
        assert_eq!(
            link_local([0x0a, 0, 0x0b, 0, 0, 1])[8..],
            [8, 0, 0x0b, 0xff, 0xfe, 0, 0, 1]
        );
        assert_eq!(link_local([2, 0, 0x0b, 0, 0, 1]), expected.octets());
    }

    #[test]
    fn each_ipv4_cidr_has_its_resolver() {
        let cidrs: Vec<IpNet> = ["10.0.0.0/16", "2001:db8::/56", "100.64.0.0/16"]
            .iter()
            .map(|cidr| cidr.parse().expect("a network"))
            .collect();
        let expected = [
            mapped([10, 0, 0, 2]),
            mapped([100, 64, 0, 2]),
            NO_ADDRESS,
            NO_ADDRESS,
        ];
        assert_eq!(resolvers(&cidrs), expected);
    }
}
