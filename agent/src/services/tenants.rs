//! Which task is who to the host's services: by address, and by name. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use super::allowance::{Allowance, Rate};
use crate::spec::TaskId;
use crate::task_record::TaskRecord;

/// Packets with which an ENI may ask its resolver in a second (VPC guide, "DNS quotas").
const DNS: Rate = Rate {
    per_second: 1_024,
    burst: 1_024,
};

/// A task that the services answer.
#[derive(Debug)]
pub struct Tenant {
    /// Its name on this host.
    pub task_id: TaskId,
    /// Tells it from an earlier or later task of that name.
    pub generation: u64,
    /// What it asks from: its ENI's addresses.
    pub addresses: Vec<IpAddr>,
    /// Its ENI's private DNS name, in lower case without its last dot.
    pub name: Option<String>,
    /// Whether the resolvers answer it.
    pub has_resolver: bool,
    /// Requests of its metadata.
    pub metadata: Allowance,
    /// Packets to its resolvers.
    pub dns: Allowance,
}

/// All of them; copies are one table.
#[derive(Debug, Clone, Default)]
pub struct Tenants(Arc<RwLock<Table>>);

#[derive(Debug, Default)]
struct Table {
    by_address: HashMap<IpAddr, Arc<Tenant>>,
    by_name: HashMap<String, Arc<Tenant>>,
}

impl Tenants {
    /// A task is there from `now` on, with `metadata` as its rate. One that is there already stays as it is.
    pub fn insert(&self, task: &TaskRecord, metadata: Rate, now: Instant) {
        let addresses: Vec<_> = task.eni.service_addresses().collect();
        let name = task.dns.host_name.as_ref();
        let tenant = Arc::new(Tenant {
            task_id: task.spec.task_id.clone(),
            generation: task.generation,
            addresses: addresses.clone(),
            name: name.map(|name| name.to_ascii_lowercase()),
            has_resolver: task.dns.has_resolver,
            metadata: Allowance::new(metadata, now),
            dns: Allowance::new(DNS, now),
        });
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_there = |address| {
            let found = table.by_address.get(address);
            found.is_some_and(|found| found.generation == task.generation)
        };
        if addresses.iter().all(is_there) {
            return;
        }
        for address in addresses {
            table.by_address.insert(address, Arc::clone(&tenant));
        }
        if let Some(name) = &tenant.name {
            table.by_name.insert(name.clone(), Arc::clone(&tenant));
        }
    }

    /// A task has gone; what a later one has taken over stays.
    pub fn remove(&self, task: &TaskRecord) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = |tenant: &Arc<Tenant>| tenant.generation != task.generation;
        for address in task.eni.service_addresses() {
            if table
                .by_address
                .get(&address)
                .is_some_and(|one| !is_other(one))
            {
                table.by_address.remove(&address);
            }
        }
        if let Some(name) = task
            .dns
            .host_name
            .as_ref()
            .map(|name| name.to_ascii_lowercase())
            && table.by_name.get(&name).is_some_and(|one| !is_other(one))
        {
            table.by_name.remove(&name);
        }
    }

    /// Whose address it is.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Option<Arc<Tenant>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.by_address.get(&address).cloned()
    }

    /// Whose name it is, in lower case without its last dot.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<Arc<Tenant>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.by_name.get(name).cloned()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::task_record::tests::record;

    /// A rate that no test reaches.
    pub(crate) const ENOUGH: Rate = Rate {
        per_second: 1_000_000,
        burst: 1_000_000,
    };

    #[test]
    fn a_task_goes_without_the_one_that_took_its_address() {
        let tenants = Tenants::default();
        let mut first = record("first");
        first.dns.host_name = Some("IP-10-0-1-10.ec2.internal".to_owned());
        first.generation = 1;
        let address = IpAddr::V4(first.eni.ipv4.expect("an address").addr());
        tenants.insert(&first, ENOUGH, Instant::now());
        let found = tenants.named("ip-10-0-1-10.ec2.internal");
        assert_eq!(found.map(|found| found.generation), Some(1));
        let mut second = record("second");
        (second.generation, second.dns) = (2, first.dns.clone());
        tenants.insert(&second, ENOUGH, Instant::now());
        tenants.remove(&first);
        let found = tenants.at(address).map(|found| found.task_id.clone());
        assert_eq!(found, Some(second.spec.task_id.clone()));
        assert!(tenants.named("ip-10-0-1-10.ec2.internal").is_some());
        tenants.remove(&second);
        assert!(tenants.at(address).is_none());
        assert!(tenants.named("ip-10-0-1-10.ec2.internal").is_none());
    }

    #[test]
    fn a_task_that_is_taken_up_again_keeps_what_it_has_used() {
        let tenants = Tenants::default();
        let task = record("web");
        let once = Rate {
            per_second: 1,
            burst: 1,
        };
        let now = Instant::now();
        let address = IpAddr::V4(task.eni.ipv4.expect("an address").addr());
        tenants.insert(&task, once, now);
        assert!(tenants.at(address).expect("a tenant").metadata.take(now));
        tenants.insert(&task, once, now);
        assert!(!tenants.at(address).expect("a tenant").metadata.take(now));
    }
}
