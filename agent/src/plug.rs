//! Puts an ENI into the data plane's maps and takes it out: slots, addresses, membership.
//!
//! Knows no link or namespace beyond their indices, and decides nothing about packets.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use branchline_common::{
    flow::{Address, NO_ADDRESS, mapped},
    headers::ethernet,
    maps::{self, ENI_SLOTS, Endpoint, eni},
};
use ipnet::IpNet;

use crate::{
    address,
    datapath::{Datapath, DatapathError, Leads, lock},
    eni_settings::{self, EniSettings},
    policies::{Policies, PolicyError, Unsettled},
    provider::Eni,
    security_groups::{Directory, Member, Members},
    slots::Slots,
    state::RuleStore,
};

/// Why an ENI could not be put into the data plane.
#[derive(Debug, thiserror::Error)]
pub enum PlugError {
    /// All slots are taken.
    #[error("the data plane has room for {} ENIs and all are taken; remove a task first", ENI_SLOTS - 1)]
    Full,
    /// Its groups, or those that refer to them.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A map refused.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

/// Where the trunk's two ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trunk {
    /// Index of the trunk in the host's namespace, 0 where every ENI has a link of its own.
    pub host: u32,
    /// Index of its far end in the local VPC's namespace, 0 where the VPC is not local.
    pub fabric: u32,
    /// Index of the link to this host's own services, 0 where there are none.
    pub services: u32,
}

/// What an ENI's entries are made of.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The ENI.
    pub eni: &'a Eni,
    /// What it has besides addresses and groups.
    pub settings: &'a EniSettings,
    /// Whether this host answers what it asks the VPC's resolvers.
    pub has_dns: bool,
    /// Index of its branch's host side.
    pub branch_ifindex: u32,
}

/// Which ENI has which slot, and which policies there are.
#[derive(Debug)]
pub struct Plugs {
    trunk: Trunk,
    vpc_cidrs: Vec<IpNet>,
    slots: Slots,
    /// ENIs with links of their own, and the links' indices.
    own_links: HashMap<String, u32>,
    policies: Policies,
}

/// What an agent starts with.
#[derive(Debug)]
pub struct Start<'a> {
    /// Where the trunk's ends are.
    pub trunk: Trunk,
    /// The VPC's networks.
    pub vpc_cidrs: Vec<IpNet>,
    /// Groups and prefix lists in force.
    pub directory: Directory,
    /// Members of groups that are not on this host.
    pub members: Members,
    /// Whether a removed rule ends the connections that it let be opened.
    pub cut_on_revoke: bool,
    /// The ENIs that the store knows.
    pub enis: &'a [&'a Eni],
    /// Keeps what rules' numbers mean.
    pub rules: Arc<RuleStore>,
}

impl Plugs {
    /// What is plugged in now, by the maps.
    ///
    /// # Errors
    /// `Datapath` if the maps cannot be read, `Store` if the store cannot.
    pub fn restore(datapath: &Datapath, start: Start<'_>) -> Result<Self, PolicyError> {
        let mut slots = Slots::default();
        let mut obeyed = BTreeMap::new();
        let owners = start.enis.iter().map(|eni| (eni.mac.0, &*eni.eni_id));
        let owners: HashMap<_, _> = owners.collect();
        datapath.each_eni(|slot, found| {
            if found.branch_ifindex == 0 {
                return;
            }
            obeyed.insert(*slot, found.policy);
            let name = owners.get(&found.mac).copied().unwrap_or_default();
            slots.insert(*slot, name);
        })?;
        let mut members = start.members;
        for eni in start.enis {
            members.insert(&eni.eni_id, eni.groups.iter().cloned(), networks(eni));
        }
        let Start {
            directory,
            cut_on_revoke,
            rules,
            ..
        } = start;
        let used = obeyed.values().copied().collect();
        let mut policies = Policies::restore(datapath, directory, members, cut_on_revoke, &used)?;
        policies.keep_book_in(datapath, rules, &obeyed)?;
        Ok(Self {
            trunk: start.trunk,
            vpc_cidrs: start.vpc_cidrs,
            slots,
            own_links: HashMap::new(),
            policies,
        })
    }

    /// The index of the ENI's own link, which is its trunk from its next [`Plugs::plug`] on.
    #[must_use]
    pub fn own_link(&self, eni_id: &str) -> Option<u32> {
        self.own_links.get(eni_id).copied()
    }

    /// Notes the ENI's own link, or that it has none any more.
    pub fn set_own_link(&mut self, eni_id: &str, index: Option<u32>) {
        match index {
            Some(index) => drop(self.own_links.insert(eni_id.to_owned(), index)),
            None => drop(self.own_links.remove(eni_id)),
        }
    }

    /// Where the trunk's ends are.
    #[must_use]
    pub fn trunk(&self) -> Trunk {
        self.trunk
    }

    /// The policies.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The policies, to be changed.
    pub fn policies_mut(&mut self) -> &mut Policies {
        &mut self.policies
    }

    /// Slots that no ENI of the store owns: what a lost store left.
    #[must_use]
    pub fn ownerless(&self) -> Vec<u32> {
        let ownerless = self
            .slots
            .all()
            .iter()
            .filter(|(_, eni_id)| eni_id.is_empty());
        ownerless.map(|(slot, _)| *slot).collect()
    }

    /// The slot of an ENI.
    #[must_use]
    pub fn slot(&self, eni_id: &str) -> Option<u32> {
        self.slots.of(eni_id)
    }

    /// Every taken slot and its ENI.
    #[must_use]
    pub fn slots(&self) -> &BTreeMap<u32, String> {
        self.slots.all()
    }

    /// Puts `eni` into the maps: who refers to its groups knows it first, then its policy, then the
    /// ENI, then what leads packets to it. Idempotent.
    ///
    /// # Errors
    /// Each variant; what was put in stays for [`Plugs::unplug`].
    pub fn plug(
        &mut self,
        datapath: &Mutex<Datapath>,
        wanted: Wanted<'_>,
    ) -> Result<(u32, Unsettled), PlugError> {
        let eni = wanted.eni;
        let mut datapath = lock(datapath);
        let slot = self.slots.take(&eni.eni_id).ok_or(PlugError::Full)?;
        let member = Member::new(eni.groups.iter().cloned(), networks(eni));
        let unsettled = self
            .policies
            .set_member(&mut datapath, &eni.eni_id, Some(member))?;
        let policy = self.policies.join(&mut datapath, slot, &eni.groups)?;
        let held = datapath.eni(slot)?;
        let ticks_per_second = datapath.clock().ticks_per_second();
        let entry = self.entry(wanted, ticks_per_second);
        let entry = maps::Eni {
            policy: held.policy,
            ..entry
        };
        if held != entry {
            // What leads to it stays findable by the entry: what is another by now goes before.
            datapath.remove_leads(slot, &without(leads(&held), &leads(&entry)))?;
            datapath.set_eni(slot, &entry)?;
        }
        datapath.switch_policy(&BTreeSet::from([slot]), policy)?;
        datapath.set_branch(wanted.branch_ifindex, slot)?;
        for address in own_addresses(&entry) {
            datapath.set_address(address, slot)?;
        }
        for endpoint in trunk_endpoints(&entry) {
            datapath.set_endpoint(endpoint, slot)?;
        }
        if let Some(endpoint) = services_endpoint(&entry) {
            datapath.set_services_endpoint(endpoint, slot)?;
        }
        Ok((slot, unsettled))
    }

    /// The VPC has these networks from now on: each ENI that is plugged in knows its resolvers by them. Returns how
    /// many ENIs did not yet.
    ///
    /// # Errors
    /// `Map`; the networks are those of before then, and a repeat writes what is left.
    pub fn set_vpc_cidrs(
        &mut self,
        datapath: &Mutex<Datapath>,
        vpc_cidrs: Vec<IpNet>,
    ) -> Result<usize, DatapathError> {
        let resolvers = resolvers(&vpc_cidrs);
        let mut written = 0;
        if resolvers != self.resolvers() {
            let mut datapath = lock(datapath);
            for slot in self.slots.all().keys() {
                let held = datapath.eni(*slot)?;
                if held.branch_ifindex != 0 && held.resolvers != resolvers {
                    datapath.set_eni(*slot, &maps::Eni { resolvers, ..held })?;
                    written += 1;
                }
            }
        }
        self.vpc_cidrs = vpc_cidrs;
        Ok(written)
    }

    fn resolvers(&self) -> [Address; 4] {
        resolvers(&self.vpc_cidrs)
    }

    /// Whether all that [`Plugs::plug`] puts into the maps for an ENI is there.
    ///
    /// # Errors
    /// `Map`.
    pub fn is_plugged(
        &self,
        datapath: &Mutex<Datapath>,
        wanted: Wanted<'_>,
    ) -> Result<bool, DatapathError> {
        let Some(slot) = self.slot(&wanted.eni.eni_id) else {
            return Ok(false);
        };
        let datapath = lock(datapath);
        let held = datapath.eni(slot)?;
        let ticks_per_second = datapath.clock().ticks_per_second();
        let entry = self.entry(wanted, ticks_per_second);
        let entry = maps::Eni {
            policy: held.policy,
            ..entry
        };
        let slots = datapath.leads(&leads(&entry))?;
        Ok(held == entry && slots.iter().all(|lead| *lead == Some(slot)))
    }

    /// Nobody trusts the ENI's addresses any more: it is no member of its groups. To be called
    /// before anything else is done with its addresses (`spec/security-groups.md` section 1.4).
    ///
    /// # Errors
    /// `Policy`; it is still a member then.
    pub fn distrust(
        &mut self,
        datapath: &Mutex<Datapath>,
        eni_id: &str,
    ) -> Result<Unsettled, PolicyError> {
        self.policies.set_member(&mut lock(datapath), eni_id, None)
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
        let mut datapath = lock(datapath);
        let leads = leads(&datapath.eni(slot)?);
        // An ENI that was never plugged in whole, or is unplugged again, is searched for.
        if !datapath.remove_leads(slot, &leads)? {
            datapath.unplug_eni(slot)?;
        }
        Ok(Some(slot))
    }

    /// Frees the slot of an unplugged ENI that the maps have forgotten, and its policy if it was
    /// the last to obey it.
    pub fn free(&mut self, slot: u32) -> Unsettled {
        self.slots.free(slot);
        self.policies.leave(slot);
        self.policies.drop_unused()
    }

    fn entry(&self, wanted: Wanted<'_>, ticks_per_second: u32) -> maps::Eni {
        let Wanted {
            eni,
            settings,
            has_dns,
            branch_ifindex,
        } = wanted;
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let ipv4 = eni.ipv4.map(|net| IpAddr::V4(net.addr()));
        let ipv6 = eni.ipv6.map(|net| IpAddr::V6(net.addr()));
        maps::Eni {
            trunk_ifindex: self.own_link(&eni.eni_id).unwrap_or(self.trunk.host),
            branch_ifindex,
            fabric_ifindex: self.trunk.fabric,
            policy: 0,
            flags: flag(settings.source_dest_check, eni::SOURCE_DEST_CHECK)
                | flag(settings.block_imds, eni::BLOCK_IMDS)
                | flag(has_dns, eni::HOSTED_DNS),
            vlan: eni.vlan.map_or(0, |vlan| vlan.get()),
            mac: eni.mac.0,
            ipv4: or_none(ipv4),
            ipv6: or_none(ipv6),
            link_local: link_local(eni.mac.0),
            router_ipv4: or_none(eni.router_ipv4.map(IpAddr::V4)),
            router_ipv6: or_none(eni.router_ipv6.map(IpAddr::V6)),
            resolvers: self.resolvers(),
            timeouts: eni_settings::timeouts(settings, ticks_per_second),
            max_connections: settings.max_connections,
            services_ifindex: self.trunk.services,
            metadata_source: or_none(eni.metadata_source().map(IpAddr::V4)),
        }
    }
}

/// What leads packets to the ENI of an entry; nothing does if the slot is free.
fn leads(entry: &maps::Eni) -> Leads {
    if entry.branch_ifindex == 0 {
        return Leads::default();
    }
    let endpoints = trunk_endpoints(entry).into_iter();
    Leads {
        endpoints: endpoints.chain(services_endpoint(entry)).collect(),
        branches: vec![entry.branch_ifindex],
        addresses: own_addresses(entry),
    }
}

/// What `leads` has and `kept` has not.
fn without(mut leads: Leads, kept: &Leads) -> Leads {
    leads.endpoints.retain(|one| !kept.endpoints.contains(one));
    leads.branches.retain(|one| !kept.branches.contains(one));
    leads.addresses.retain(|one| !kept.addresses.contains(one));
    leads
}

/// By what the trunk finds an ENI: frames for its own address, and for all.
fn trunk_endpoints(entry: &maps::Eni) -> [Endpoint; 2] {
    [entry.mac, ethernet::BROADCAST].map(|mac| Endpoint {
        trunk_ifindex: entry.trunk_ifindex,
        vlan: entry.vlan,
        mac,
    })
}

/// By what the services' link finds an ENI: it is one more trunk, without VLANs.
fn services_endpoint(entry: &maps::Eni) -> Option<Endpoint> {
    (entry.services_ifindex != 0).then_some(Endpoint {
        trunk_ifindex: entry.services_ifindex,
        vlan: 0,
        mac: entry.mac,
    })
}

fn own_addresses(entry: &maps::Eni) -> Vec<Address> {
    let mut addresses = vec![entry.ipv4, entry.ipv6];
    addresses.retain(|address| *address != NO_ADDRESS);
    addresses
}

fn or_none(address: Option<IpAddr>) -> Address {
    address.map_or(NO_ADDRESS, address::address)
}

/// The ENI's addresses, as its groups' members have them.
pub(crate) fn networks(eni: &Eni) -> impl Iterator<Item = IpNet> {
    let ipv4 = eni.ipv4.map(|net| IpNet::from(IpAddr::V4(net.addr())));
    let ipv6 = eni.ipv6.map(|net| IpNet::from(IpAddr::V6(net.addr())));
    ipv4.into_iter().chain(ipv6)
}

/// The link-local address that the kernel makes from a MAC address (RFC 4291 appendix A).
pub(crate) fn link_local(mac: [u8; 6]) -> Address {
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
    fn what_led_to_an_eni_and_does_no_more_is_what_differs() {
        let entry = maps::Eni {
            trunk_ifindex: 3,
            branch_ifindex: 7,
            services_ifindex: 4,
            vlan: 9,
            mac: [2, 0, 0, 0, 0, 1],
            ipv4: mapped([10, 0, 1, 4]),
            ..maps::Eni::default()
        };
        assert_eq!(leads(&maps::Eni::default()), Leads::default());
        assert_eq!(without(leads(&entry), &leads(&entry)), Leads::default());
        let moved = maps::Eni {
            branch_ifindex: 8,
            services_ifindex: 5,
            ..entry
        };
        let gone = without(leads(&entry), &leads(&moved));
        assert_eq!((gone.branches, gone.addresses), (vec![7], vec![]));
        let trunks: Vec<u32> = gone.endpoints.iter().map(|one| one.trunk_ifindex).collect();
        assert_eq!(trunks, [4]);
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
