//! What EC2 gives without being asked: a VPC's default group, and the egress rules of a new group. Pure.

use branchline_common::verdict::Direction;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::directory::{DEFAULT_GROUP_NAME, Directory, SecurityGroup};
use super::rule::{GroupReference, Peer, PortRange, Protocol, SecurityGroupRule};

/// The id that the default group has when no file defines it.
pub const DEFAULT_GROUP_ID: &str = "sg-default";

impl Directory {
    /// A VPC's directory before anything is written into it: the default group alone.
    pub fn of_new_vpc(has_ipv6: bool) -> Self {
        let group = default_group(has_ipv6);
        Self {
            groups: [(group.group_id.clone(), group)].into(),
            ..Self::default()
        }
    }
}

/// The group of tasks that name none: in from its own members, out to everything.
fn default_group(vpc_has_ipv6: bool) -> SecurityGroup {
    let members = Peer::Group(GroupReference::new(DEFAULT_GROUP_ID));
    let mut rules = vec![all_protocols(DEFAULT_GROUP_ID, Direction::Ingress, members)];
    rules.extend(allow_all_egress(DEFAULT_GROUP_ID, vpc_has_ipv6));
    SecurityGroup {
        group_id: DEFAULT_GROUP_ID.to_owned(),
        group_name: DEFAULT_GROUP_NAME.to_owned(),
        description: "default VPC security group".to_owned(),
        rules,
        ..SecurityGroup::default()
    }
}

/// What EC2 gives a new group: everything out, by IPv6 only in a VPC that has IPv6.
pub(super) fn allow_all_egress(
    group_id: &str,
    vpc_has_ipv6: bool,
) -> impl Iterator<Item = SecurityGroupRule> {
    let ipv6 = vpc_has_ipv6.then(|| IpNet::V6(Ipv6Net::default()));
    [Some(IpNet::V4(Ipv4Net::default())), ipv6]
        .into_iter()
        .flatten()
        .map(move |network| all_protocols(group_id, Direction::Egress, network.into()))
}

fn all_protocols(group_id: &str, direction: Direction, peer: Peer) -> SecurityGroupRule {
    SecurityGroupRule::new(
        group_id,
        direction,
        Protocol::Any,
        PortRange::ALL,
        peer,
        None,
    )
}
