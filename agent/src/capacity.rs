//! How many more tasks a host takes, and what keeps it from taking more. Pure.

pub mod instance_limits;

use crate::api::{Attribute, Capacity, CapacityLimit, SubnetDescription, TaskCapacity};

/// What a host has and what of it is in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Situation {
    /// ENIs of tasks.
    pub enis: u64,
    /// ENIs of this host that are not its tasks'.
    pub foreign_enis: u64,
    /// Bounds on the number of ENIs, each with who sets it.
    pub bounds: Vec<Bound>,
    /// The subnets.
    pub subnets: Vec<SubnetDescription>,
}

/// A bound on the number of ENIs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// What is bounded, as `network-interfaces`.
    pub resource: String,
    /// The most.
    pub most: u64,
    /// Who sets it, as `max_enis` or `instance type c5.large`.
    pub source: String,
    /// Whether ENIs that are not the tasks' count as well.
    pub counts_foreign: bool,
}

/// What `situation` leaves room for.
#[must_use]
pub fn of(situation: &Situation) -> Capacity {
    let mut limits: Vec<CapacityLimit> = situation
        .bounds
        .iter()
        .map(|bound| {
            let foreign = if bound.counts_foreign {
                situation.foreign_enis
            } else {
                0
            };
            let used = situation.enis + foreign;
            CapacityLimit {
                resource: bound.resource.clone(),
                most: bound.most,
                used,
                foreign,
                available: bound.most.saturating_sub(used),
                source: bound.source.clone(),
            }
        })
        .collect();
    limits.push(addresses(&situation.subnets, situation.enis));
    let tightest = limits.iter().min_by_key(|limit| limit.available);
    let available = tightest.map_or(0, |limit| limit.available);
    Capacity {
        tasks: TaskCapacity {
            running: situation.enis,
            available,
            most: situation.enis + available,
        },
        limited_by: tightest.map(reason).unwrap_or_default(),
        foreign_network_interfaces: situation.foreign_enis,
        subnets: situation.subnets.clone(),
        limits,
        warm_pool: None,
    }
}

/// Addresses of all subnets together; a subnet without IPv4 has no end.
fn addresses(subnets: &[SubnetDescription], enis: u64) -> CapacityLimit {
    let count = |subnet: &SubnetDescription| subnet.available_ip_address_count;
    let available = subnets.iter().map(count).fold(0_u64, u64::saturating_add);
    CapacityLimit {
        resource: "addresses".to_owned(),
        most: available.saturating_add(enis),
        used: enis,
        foreign: 0,
        available,
        source: "the subnets".to_owned(),
    }
}

fn reason(limit: &CapacityLimit) -> String {
    let CapacityLimit {
        resource,
        most,
        used,
        foreign,
        source,
        ..
    } = limit;
    let others = match foreign {
        0 => String::new(),
        foreign => format!(", {foreign} of them not tasks'"),
    };
    format!("{resource}: {used} of {most} in use{others} ({source})")
}

/// What the host can do, as an ECS container instance says it.
#[must_use]
pub fn attributes(vpc_id: &str, subnets: &[SubnetDescription], is_trunk: bool) -> Vec<Attribute> {
    let flag = |name: &str| Attribute {
        name: name.to_owned(),
        value: None,
    };
    let mut attributes = vec![
        flag("ecs.capability.task-eni"),
        flag("ecs.capability.task-eni-block-instance-metadata"),
    ];
    if subnets
        .iter()
        .any(|subnet| subnet.ipv6_cidr_block.is_some())
    {
        attributes.push(flag("ecs.capability.task-eni.ipv6"));
    }
    if subnets.iter().any(|subnet| subnet.cidr_block.is_none()) {
        attributes.push(flag("ecs.capability.ipv6-only"));
    }
    if is_trunk {
        attributes.push(flag("ecs.capability.task-eni-trunking"));
    }
    attributes.push(Attribute {
        name: "ecs.vpc-id".to_owned(),
        value: Some(vpc_id.to_owned()),
    });
    if let [only] = subnets {
        attributes.push(Attribute {
            name: "ecs.subnet-id".to_owned(),
            value: Some(only.subnet_id.clone()),
        });
    }
    attributes.sort_by(|one, other| one.name.cmp(&other.name));
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(id: &str, ipv4: bool, available: u64) -> SubnetDescription {
        SubnetDescription {
            subnet_id: id.to_owned(),
            vpc_id: "vpc-1".to_owned(),
            cidr_block: ipv4.then(|| "10.0.1.0/24".to_owned()),
            ipv6_cidr_block: (!ipv4).then(|| "fd00::/64".to_owned()),
            availability_zone: None,
            available_ip_address_count: available,
        }
    }

    fn bound(resource: &str, most: u64, counts_foreign: bool) -> Bound {
        Bound {
            resource: resource.to_owned(),
            most,
            source: "somebody".to_owned(),
            counts_foreign,
        }
    }

    #[test]
    fn the_tightest_limit_says_how_many_more_and_why() {
        let mut situation = Situation {
            enis: 3,
            foreign_enis: 2,
            bounds: vec![
                bound("vlans", 4094, false),
                bound("network-interfaces", 12, true),
            ],
            subnets: vec![subnet("subnet-a", true, 200)],
        };
        let capacity = of(&situation);
        assert_eq!(
            (
                capacity.tasks.running,
                capacity.tasks.available,
                capacity.tasks.most
            ),
            (3, 7, 10)
        );
        assert_eq!(
            capacity.limited_by,
            "network-interfaces: 5 of 12 in use, 2 of them not tasks' (somebody)"
        );
        situation.subnets[0].available_ip_address_count = 1;
        let capacity = of(&situation);
        assert_eq!(capacity.tasks.available, 1);
        assert_eq!(
            capacity.limited_by,
            "addresses: 3 of 4 in use (the subnets)"
        );
        situation.enis = 13;
        assert_eq!(of(&situation).tasks.available, 0);
        // An IPv6-only subnet never runs out.
        situation.enis = 3;
        situation
            .subnets
            .push(subnet("subnet-six", false, u64::MAX));
        assert_eq!(of(&situation).tasks.available, 7);
    }

    #[test]
    fn attributes_are_what_the_vpc_and_the_trunk_can_do() {
        let names = |subnets: &[SubnetDescription], is_trunk| {
            let found = attributes("vpc-1", subnets, is_trunk);
            let texts = found.into_iter().map(|one| match one.value {
                Some(value) => format!("{}={value}", one.name),
                None => one.name,
            });
            texts.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            names(&[subnet("subnet-a", true, 1)], false),
            "ecs.capability.task-eni ecs.capability.task-eni-block-instance-metadata \
             ecs.subnet-id=subnet-a ecs.vpc-id=vpc-1"
        );
        assert_eq!(
            names(
                &[subnet("subnet-a", true, 1), subnet("subnet-6", false, 1)],
                true
            ),
            "ecs.capability.ipv6-only ecs.capability.task-eni \
             ecs.capability.task-eni-block-instance-metadata ecs.capability.task-eni-trunking \
             ecs.capability.task-eni.ipv6 ecs.vpc-id=vpc-1"
        );
    }
}
