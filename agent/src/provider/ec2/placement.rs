//! In which subnet the next ENI is made, and on which VLAN. Pure.

use std::collections::BTreeSet;

use branchline_ec2::Subnet;

use crate::field_error::FieldError;
use crate::provider::{Occupied, ProviderError, VlanId};

/// Field of the task specification that lists the subnets.
const SUBNETS: &str = "networkConfiguration.awsvpcConfiguration.subnets";

/// The subnets that may be tried, in the order in which the task lists them; those that EC2 said are full come last,
/// as addresses may have been freed since.
///
/// # Errors
/// `Invalid` if one is unknown, of another VPC, or none lies in the host's zone.
pub(super) fn candidates<'a>(
    known: &'a [Subnet],
    wanted: &[String],
    (vpc_id, zone): (&str, &str),
) -> Result<Vec<&'a Subnet>, ProviderError> {
    let mut found = Vec::new();
    for (index, id) in wanted.iter().enumerate() {
        let subnet = known.iter().find(|subnet| subnet.id == *id);
        let subnet = subnet.filter(|subnet| subnet.vpc_id == vpc_id);
        found.push(subnet.ok_or_else(|| {
            ProviderError::Invalid(FieldError::new(
                format!("{SUBNETS}[{index}]"),
                format!("{id:?} is no subnet of {vpc_id}"),
                "list subnets of the host's VPC (branchline subnet ls)",
            ))
        })?);
    }
    let is_here = |subnet: &&Subnet| subnet.availability_zone == zone;
    let mut here: Vec<_> = found.iter().copied().filter(is_here).collect();
    if here.is_empty() {
        let zones: BTreeSet<_> = found
            .iter()
            .map(|subnet| subnet.availability_zone.as_str())
            .collect();
        let zones: Vec<_> = zones.into_iter().collect();
        return Err(ProviderError::Invalid(FieldError::new(
            SUBNETS,
            format!(
                "they are in {}, and this host is in {zone}",
                zones.join(", ")
            ),
            "list a subnet of the host's availability zone, or start the task on another host",
        )));
    }
    here.sort_by_key(|subnet| subnet.ipv4.is_some() && subnet.available == 0);
    Ok(here)
}

/// The lowest VLAN id that is free, or the one that has cooled longest; never one of `others`, which branches without a
/// task have or had a moment ago. The trunk carries `carried` branches that cannot give way.
///
/// # Errors
/// `Exhausted` if that is `most`, or no id is left.
pub(super) fn vlan(
    occupied: &Occupied,
    others: &BTreeSet<VlanId>,
    carried: usize,
    most: usize,
) -> Result<VlanId, ProviderError> {
    let is_usable = |vlan: &VlanId| !others.contains(vlan);
    let free = occupied.vlans.free_among(VlanId::ALL).find(is_usable);
    let vlan = free.or_else(|| occupied.vlans.coolest(is_usable));
    match vlan {
        Some(vlan) if carried < most => Ok(vlan),
        Some(_) | None => Err(ProviderError::Exhausted(format!(
            "the trunk carries {carried} branches, its most is {most}; remove tasks, or use a larger instance type"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::provider::Eni;
    use crate::task_record::tests::record;

    fn subnet(id: &str, zone: &str, available: u32) -> Subnet {
        Subnet {
            id: id.to_owned(),
            vpc_id: "vpc-1".to_owned(),
            availability_zone: zone.to_owned(),
            ipv4: Some("10.0.1.0/24".parse().unwrap()),
            ipv6: None,
            available,
        }
    }

    fn choose(wanted: &[&str]) -> Result<Vec<String>, ProviderError> {
        let known = [
            subnet("subnet-full", "a", 0),
            subnet("subnet-b", "b", 9),
            subnet("subnet-a1", "a", 5),
            subnet("subnet-a2", "a", 9),
        ];
        let wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
        let found = candidates(&known, &wanted, ("vpc-1", "a"))?;
        Ok(found.iter().map(|subnet| subnet.id.clone()).collect())
    }

    #[test]
    fn subnets_of_the_hosts_zone_in_the_tasks_order_full_ones_last() {
        let chosen = choose(&["subnet-full", "subnet-b", "subnet-a2", "subnet-a1"]).unwrap();
        assert_eq!(chosen, ["subnet-a2", "subnet-a1", "subnet-full"]);
        let elsewhere = choose(&["subnet-b"]).unwrap_err().to_string();
        assert!(
            elsewhere.contains("they are in b, and this host is in a"),
            "{elsewhere}"
        );
        let unknown = choose(&["subnet-a1", "subnet-x"]).unwrap_err().to_string();
        assert!(
            unknown.contains("subnets[1]") && unknown.contains("vpc-1"),
            "{unknown}"
        );
    }

    fn number(vlan: u16) -> VlanId {
        VlanId::try_from(vlan).unwrap()
    }

    #[test]
    fn a_vlan_is_never_one_that_an_orphan_still_has() {
        let eni = |vlan| Eni {
            attachment_id: format!("a{vlan}"),
            vlan: Some(number(vlan)),
            ..record("any").eni
        };
        let mut occupied = Occupied::of([&eni(1), &eni(3)]);
        let orphans = BTreeSet::from([number(2), number(4)]);
        assert_eq!(vlan(&occupied, &orphans, 4, 120).unwrap(), number(5));
        assert!(matches!(
            vlan(&occupied, &orphans, 4, 4),
            Err(ProviderError::Exhausted(_))
        ));
        // What cools down is free last.
        occupied.release("a1", 0);
        assert_eq!(
            vlan(&occupied, &BTreeSet::new(), 1, 120).unwrap(),
            number(2)
        );
    }
}
