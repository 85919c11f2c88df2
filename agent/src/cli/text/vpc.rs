//! ENIs, subnets and limits as tables. Pure.

use super::{NONE, pairs, table};
use crate::api::{AttributeList, Capacity, EniDescription, EniList, SubnetDescription};

/// Stands for the task of an ENI that waits for one.
const WAITING: &str = "(warm pool)";

pub(in crate::cli) fn enis(list: &EniList) -> String {
    let header = [
        "ENI",
        "TASK ID",
        "STATUS",
        "SUBNET",
        "MAC",
        "IPV4",
        "IPV6",
        "VLAN",
        "SECURITY GROUPS",
    ];
    let row = |eni: &EniDescription| {
        vec![
            eni.network_interface_id.clone(),
            eni.task_id.clone().unwrap_or_else(|| WAITING.to_owned()),
            eni.status.name().to_owned(),
            eni.subnet_id.clone(),
            eni.mac_address.clone(),
            or_none(eni.private_ip_address.as_ref()),
            or_none(eni.ipv6_address.as_ref()),
            eni.vlan_id.map_or(NONE.to_owned(), |vlan| vlan.to_string()),
            eni.groups.join(","),
        ]
    };
    table(Some(&header), list.network_interfaces.iter().map(row))
}

pub(in crate::cli) fn subnets(subnets: &[SubnetDescription]) -> String {
    let header = ["SUBNET", "IPV4", "IPV6", "ZONE", "FREE ADDRESSES"];
    let row = |subnet: &SubnetDescription| {
        vec![
            subnet.subnet_id.clone(),
            or_none(subnet.cidr_block.as_ref()),
            or_none(subnet.ipv6_cidr_block.as_ref()),
            or_none(subnet.availability_zone.as_ref()),
            count(subnet.available_ip_address_count),
        ]
    };
    table(Some(&header), subnets.iter().map(row))
}

pub(in crate::cli) fn capacity(capacity: &Capacity) -> String {
    let tasks = &capacity.tasks;
    let mut lines = vec![
        (
            "tasks".to_owned(),
            format!("{} of {}", tasks.running, count(tasks.most)),
        ),
        ("more fit".to_owned(), count(tasks.available)),
        ("limited by".to_owned(), capacity.limited_by.clone()),
        (
            "foreign ENIs".to_owned(),
            capacity.foreign_network_interfaces.to_string(),
        ),
    ];
    if let Some(pool) = &capacity.warm_pool {
        let text = format!(
            "{} of {} wait; {} tasks got one, {} none",
            pool.waiting, pool.wanted, pool.hits, pool.misses
        );
        lines.push(("warm pool".to_owned(), text));
    }
    let lines = pairs(lines);
    let header = ["LIMIT", "MOST", "USED", "FOREIGN", "AVAILABLE", "SET BY"];
    let limits = capacity.limits.iter().map(|limit| {
        vec![
            limit.resource.clone(),
            count(limit.most),
            limit.used.to_string(),
            limit.foreign.to_string(),
            count(limit.available),
            limit.source.clone(),
        ]
    });
    let limits = table(Some(&header), limits);
    format!("{lines}\n{limits}\n{}", subnets(&capacity.subnets))
}

pub(in crate::cli) fn attributes(list: &AttributeList) -> String {
    let row = |attribute: &crate::api::Attribute| {
        (
            attribute.name.clone(),
            attribute.value.clone().unwrap_or_default(),
        )
    };
    let rows = list
        .attributes
        .iter()
        .map(row)
        .map(|(name, value)| vec![name, value]);
    table(None, rows)
}

fn or_none(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| NONE.to_owned())
}

/// IPv6 addresses do not run out.
fn count(number: u64) -> String {
    if number == u64::MAX {
        "any number".to_owned()
    } else {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::{Bound, Situation, of};
    use crate::task_record::tests::attached;

    fn subnet(id: &str, available: u64) -> SubnetDescription {
        SubnetDescription {
            subnet_id: id.to_owned(),
            vpc_id: "vpc-1".to_owned(),
            cidr_block: Some("10.0.1.0/24".to_owned()),
            ipv6_cidr_block: None,
            availability_zone: None,
            available_ip_address_count: available,
        }
    }

    #[test]
    fn enis_are_columns() {
        let list = EniList {
            network_interfaces: vec![
                EniDescription::waiting(&attached("web").eni),
                EniDescription::of(&attached("web")),
            ],
        };
        let text = enis(&list);
        assert!(text.contains("  (warm pool)  CREATED  "), "{text}");
        assert!(text.ends_with(
            "\neni-0123456789abcdef0  web          ATTACHED  subnet-a  0a:00:00:00:00:01  10.0.1.10  2001:db8::1  7     sg-web\n"
        ), "{text}");
    }

    #[test]
    fn capacity_says_how_many_more_and_why() {
        let situation = Situation {
            enis: 1,
            foreign_enis: 0,
            bounds: vec![Bound {
                resource: "network-interfaces".to_owned(),
                most: 3,
                source: "max_enis".to_owned(),
                counts_foreign: false,
            }],
            subnets: vec![subnet("subnet-a", 250), subnet("subnet-six", u64::MAX)],
        };
        let mut said = of(&situation);
        said.warm_pool = Some(crate::api::WarmPoolDescription {
            wanted: 4,
            waiting: 3,
            hits: 2,
            misses: 1,
        });
        let text = capacity(&said);
        for line in [
            "tasks         1 of 3",
            "more fit      2",
            "warm pool     3 of 4 wait; 2 tasks got one, 1 none",
            "limited by    network-interfaces: 1 of 3 in use (max_enis)",
            "addresses           any number  1     0        any number  the subnets",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
    }
}
