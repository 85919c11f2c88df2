//! EC2's quotas of security groups, which warn, and what branchline can hold, which refuses. Pure.
//!
//! Numbers from the VPC guide's "Amazon VPC quotas" and "AWS-managed prefix lists". Never drops a rule.

use branchline_common::policy::MAX_RULES;
use branchline_common::verdict::Direction;
use ipnet::IpNet;

use super::directory::{Directory, PrefixList, SecurityGroup};
use super::rule::{Peer, SecurityGroupRule};

/// How many groups an ENI can have; EC2's quota can be raised to it.
pub const MAX_GROUPS_PER_ENI: usize = 16;
/// EC2's default quota of groups per ENI.
const GROUPS_PER_ENI: usize = 5;
/// EC2's default quota of rules per group, counted apart for each direction and family.
const RULES_PER_GROUP: usize = 60;
/// The most that EC2 lets groups per ENI times rules per group be.
const RULES_PER_ENI: usize = 1000;
/// EC2's quota of groups per Region.
const GROUPS: usize = 2500;
/// EC2's quota of prefix lists per Region.
const PREFIX_LISTS: usize = 100;
/// EC2's quota of entries per prefix list.
const ENTRIES: usize = 1000;

/// What AWS's own prefix lists weigh, by the end of their names (`com.amazonaws.<region>.…`).
const AWS_MANAGED: [(&str, usize); 9] = [
    (".cloudfront.origin-facing", 55),
    (".dynamodb", 1),
    (".ec2-instance-connect", 2),
    (".groundstation", 5),
    (".route53-healthchecks", 25),
    (".s3", 1),
    (".s3express", 6),
    (".secretsmanager", 20),
    (".vpc-lattice", 10),
];

/// Why an ENI cannot have a set of groups.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// Too many groups.
    #[error(
        "the security groups {} are {}, and an ENI can have {MAX_GROUPS_PER_ENI}; merge some",
        groups.join(", "), groups.len()
    )]
    Groups {
        /// Their ids.
        groups: Vec<String>,
    },
    /// Too many rules of one direction and family.
    #[error(
        "the security groups {} have {count} {} rules for {family} together and {MAX_RULES} fit; \
         merge networks or port ranges",
        groups.join(", "), direction.name()
    )]
    Rules {
        /// The groups' ids.
        groups: Vec<String>,
        /// The direction.
        direction: Direction,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// Their rules.
        count: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Ipv4,
    Ipv6,
}

const SCOPES: [(Direction, Family); 4] = [
    (Direction::Ingress, Family::Ipv4),
    (Direction::Ingress, Family::Ipv6),
    (Direction::Egress, Family::Ipv4),
    (Direction::Egress, Family::Ipv6),
];

/// Checks the groups of one ENI; returns a sentence for each quota of EC2 that they exceed.
///
/// A rule whose peer is a group counts in both families, since the group's members may come to have either.
///
/// # Errors
/// `Groups` over [`MAX_GROUPS_PER_ENI`]; `Rules` over [`MAX_RULES`] in a direction and family.
pub fn check(groups: &[&SecurityGroup], directory: &Directory) -> Result<Vec<String>, QuotaError> {
    let ids: Vec<String> = groups.iter().map(|group| group.group_id.clone()).collect();
    if groups.len() > MAX_GROUPS_PER_ENI {
        return Err(QuotaError::Groups { groups: ids });
    }
    let mut warnings = Vec::new();
    if groups.len() > GROUPS_PER_ENI {
        warnings.push(format!(
            "{}: {} security groups; EC2's default quota is {GROUPS_PER_ENI} per network interface",
            ids.join(", "),
            groups.len()
        ));
    }
    for (direction, family) in SCOPES {
        let rules = || {
            let rules = groups.iter().flat_map(|group| &group.rules);
            rules.filter(move |rule| rule.direction == direction)
        };
        let count = rules()
            .filter(|rule| weight(rule, family, directory) > 0)
            .count();
        if count > MAX_RULES {
            return Err(QuotaError::Rules {
                groups: ids,
                direction,
                family: family.name(),
                count,
            });
        }
        let weighed: usize = rules().map(|rule| weight(rule, family, directory)).sum();
        if weighed > RULES_PER_ENI {
            let (direction, family) = (direction.name(), family.name());
            warnings.push(format!(
                "{}: {weighed} {direction} rules for {family}; EC2's quota is {RULES_PER_ENI} per network interface",
                ids.join(", ")
            ));
        }
    }
    Ok(warnings)
}

/// A sentence for each of EC2's quotas of rules that `group`, written at `field`, exceeds.
pub(super) fn of_group(group: &SecurityGroup, field: &str, directory: &Directory) -> Vec<String> {
    let of_scope = |(direction, family): (Direction, Family)| {
        let rules = group
            .rules
            .iter()
            .filter(|rule| rule.direction == direction);
        let weighed: usize = rules.map(|rule| weight(rule, family, directory)).sum();
        let (direction, family) = (direction.name(), family.name());
        (weighed > RULES_PER_GROUP).then(|| {
            format!(
                "{field}: {}: {weighed} {direction} rules for {family}; EC2's default quota is {RULES_PER_GROUP}",
                group.group_id
            )
        })
    };
    SCOPES.into_iter().filter_map(of_scope).collect()
}

/// A sentence if `list`, written at `field`, is longer than EC2's are.
pub(super) fn of_prefix_list(list: &PrefixList, field: &str) -> Option<String> {
    let count = list
        .entries
        .len()
        .max(list.max_entries.unwrap_or(0) as usize);
    let id = &list.prefix_list_id;
    (count > ENTRIES).then(|| format!("{field}: {id}: {count} entries; EC2's quota is {ENTRIES}"))
}

/// A sentence for each of EC2's quotas per Region that `directory` exceeds.
pub(super) fn of_directory(directory: &Directory) -> Vec<String> {
    let (groups, lists) = (directory.groups.len(), directory.prefix_lists.len());
    let groups = (groups > GROUPS)
        .then(|| format!("security_groups: {groups} groups; EC2's default quota is {GROUPS}"));
    let lists = (lists > PREFIX_LISTS).then(|| {
        format!("prefix_lists: {lists} prefix lists; EC2's default quota is {PREFIX_LISTS}")
    });
    groups.into_iter().chain(lists).collect()
}

/// How many rules EC2 counts for `rule` in `family`: none if it has no peer there, the weight of a prefix list, or one.
fn weight(rule: &SecurityGroupRule, family: Family, directory: &Directory) -> usize {
    if !rule.has_family_of(&family.everything()) {
        return 0;
    }
    match &rule.peer {
        Peer::Cidr(network) => usize::from(family.has(network)),
        Peer::Group(_) => 1,
        Peer::PrefixList(id) => directory
            .prefix_lists
            .get(id)
            .map_or(1, |list| list_weight(list, family)),
    }
}

fn list_weight(list: &PrefixList, family: Family) -> usize {
    let networks = list.entries.iter().map(|entry| &entry.cidr);
    let count = networks.filter(|network| family.has(network)).count();
    if count == 0 && !list.entries.is_empty() {
        return 0;
    }
    let name = &list.prefix_list_name;
    let managed = AWS_MANAGED
        .iter()
        .find(|(end, _)| name.starts_with("com.amazonaws.") && name.ends_with(end));
    match (list.max_entries, managed) {
        (Some(max), _) => max as usize,
        (None, Some((_, weight))) => *weight,
        (None, None) => count,
    }
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }

    fn has(self, network: &IpNet) -> bool {
        matches!(network, IpNet::V4(_)) == (self == Self::Ipv4)
    }

    fn everything(self) -> IpNet {
        match self {
            Self::Ipv4 => IpNet::V4(ipnet::Ipv4Net::default()),
            Self::Ipv6 => IpNet::V6(ipnet::Ipv6Net::default()),
        }
    }
}

#[cfg(test)]
#[path = "quotas_tests.rs"]
mod tests;
