//! Which names and addresses are the VPC's own, and whose. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use hickory_proto::rr::Name;
use ipnet::IpNet;

use crate::services::Tenants;

/// Names of a VPC.
#[derive(Debug, Clone, Default)]
pub struct Zone {
    /// Domains of its private DNS names, as `eu-west-1.compute.internal.`.
    domains: Vec<Name>,
    /// Its networks, whose reverse names are its own.
    networks: Arc<RwLock<Vec<IpNet>>>,
    tenants: Tenants,
    /// ENIs elsewhere in the VPC, by name in lower case without its last dot.
    others: HashMap<String, Vec<IpAddr>>,
}

/// To whom a name belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Nobody here: the forwarders may know it.
    Elsewhere,
    /// The VPC, but it names nothing itself.
    Domain,
    /// The VPC, and there is no such name.
    Nobody,
    /// An ENI with these addresses.
    Eni(Vec<IpAddr>),
    /// The address of an ENI of this name.
    Address(Name),
}

impl Zone {
    /// Of a VPC with these domains and networks, ENIs of `tenants` and `others`. Names that cannot be any are left out.
    #[must_use]
    pub fn new(
        domains: &[String],
        networks: Vec<IpNet>,
        tenants: Tenants,
        others: impl IntoIterator<Item = (String, Vec<IpAddr>)>,
    ) -> Self {
        let others = others.into_iter();
        Self {
            domains: domains.iter().filter_map(|name| absolute(name)).collect(),
            networks: Arc::new(RwLock::new(networks)),
            tenants,
            others: others
                .map(|(name, addresses)| (name.to_ascii_lowercase(), addresses))
                .collect(),
        }
    }

    /// The VPC has these networks from now on.
    pub fn set_networks(&self, networks: Vec<IpNet>) {
        *self
            .networks
            .write()
            .unwrap_or_else(PoisonError::into_inner) = networks;
    }

    fn has_network(&self, network: &IpNet) -> bool {
        let networks = self.networks.read().unwrap_or_else(PoisonError::into_inner);
        networks.iter().any(|own| own.contains(network))
    }

    /// Who may ask.
    #[must_use]
    pub const fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// The domain that answers for `name` where it is the VPC's own, for the record that says so.
    #[must_use]
    pub fn apex(&self, name: &Name) -> Name {
        let found = self.domains.iter().find(|domain| domain.zone_of(name));
        found.cloned().unwrap_or_else(|| name.base_name())
    }

    /// To whom `name` belongs.
    #[must_use]
    pub fn owner(&self, name: &Name) -> Owner {
        let text = name.to_ascii().to_ascii_lowercase();
        let text = text.strip_suffix('.').unwrap_or(&text);
        if let Some(tenant) = self.tenants.named(text) {
            return Owner::Eni(tenant.addresses.clone());
        }
        if let Some(addresses) = self.others.get(text) {
            return Owner::Eni(addresses.clone());
        }
        for domain in &self.domains {
            if domain.eq_ignore_root(name) {
                return Owner::Domain;
            }
            if domain.zone_of(name) {
                return Owner::Nobody;
            }
        }
        match name.parse_arpa_name() {
            Ok(network) if self.has_network(&network) => self.reverse(network),
            Ok(_) | Err(_) => Owner::Elsewhere,
        }
    }

    fn reverse(&self, network: IpNet) -> Owner {
        if network.prefix_len() < network.max_prefix_len() {
            return Owner::Domain;
        }
        let address = network.addr();
        let tenant = self.tenants.at(address);
        let tenants = tenant.and_then(|tenant| tenant.name.clone());
        let has = |(_, addresses): &(&String, &Vec<IpAddr>)| addresses.contains(&address);
        let name = tenants.or_else(|| Some(self.others.iter().find(has)?.0.clone()));
        match name.and_then(|name| absolute(&name)) {
            Some(name) => Owner::Address(name),
            None => Owner::Nobody,
        }
    }
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}
