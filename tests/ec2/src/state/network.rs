//! VPCs and what belongs to them.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{State, Tags};
use crate::id::Kind;

/// A VPC.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct Vpc {
    pub vpc_id: String,
    pub cidr_block: Ipv4Net,
    /// The others, each with its association.
    pub(crate) more_cidr_blocks: Vec<(Ipv4Net, String)>,
    pub ipv6_cidr_block: Option<Ipv6Net>,
    pub dhcp_options_id: String,
    pub enable_dns_support: bool,
    pub enable_dns_hostnames: bool,
    pub default_group_id: String,
    /// Of its two blocks.
    pub(crate) association_ids: [String; 2],
    pub tags: Tags,
}

impl Vpc {
    /// The primary block and the others.
    pub fn cidr_blocks(&self) -> impl Iterator<Item = Ipv4Net> {
        let more = self.more_cidr_blocks.iter().map(|(block, _)| *block);
        [self.cidr_block].into_iter().chain(more)
    }

    /// All of them with their associations.
    pub(crate) fn cidr_associations(&self) -> impl Iterator<Item = (Ipv4Net, &String)> {
        let more = self.more_cidr_blocks.iter().map(|(block, id)| (*block, id));
        let [primary, _] = &self.association_ids;
        [(self.cidr_block, primary)].into_iter().chain(more)
    }
}

impl State {
    /// One more IPv4 block of a VPC, with the route that EC2 gives it in each of the VPC's tables.
    ///
    /// # Panics
    /// If there is no such VPC.
    pub fn associate_cidr_block(&mut self, vpc_id: &str, block: Ipv4Net) {
        let id = self.ids.next(Kind::CidrAssociation);
        let vpc = self.vpcs.get_mut(vpc_id).expect("a VPC of this account");
        vpc.more_cidr_blocks.push((block, id));
        for table in self.route_tables_of(vpc_id) {
            table.routes.push(Route {
                destination: block.into(),
                target: RouteTarget::Local,
            });
        }
    }

    /// The VPC does without a block again.
    ///
    /// # Panics
    /// If there is no such VPC.
    pub fn disassociate_cidr_block(&mut self, vpc_id: &str, block: Ipv4Net) {
        let vpc = self.vpcs.get_mut(vpc_id).expect("a VPC of this account");
        vpc.more_cidr_blocks.retain(|(one, _)| *one != block);
        for table in self.route_tables_of(vpc_id) {
            let destination = IpNet::from(block);
            table
                .routes
                .retain(|route| route.destination != destination);
        }
    }

    fn route_tables_of(&mut self, vpc_id: &str) -> impl Iterator<Item = &mut RouteTable> {
        let tables = self.route_tables.values_mut();
        tables.filter(move |table| table.vpc_id == vpc_id)
    }
}

/// A subnet: of IPv4, of both, or of IPv6 only.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct Subnet {
    pub subnet_id: String,
    pub vpc_id: String,
    pub availability_zone: String,
    pub cidr_block: Option<Ipv4Net>,
    pub ipv6_cidr_block: Option<Ipv6Net>,
    pub assign_ipv6_address_on_creation: bool,
    pub(crate) association_id: String,
    pub tags: Tags,
}

impl Subnet {
    /// Whether it has IPv6 only.
    #[must_use]
    pub fn ipv6_native(&self) -> bool {
        self.cidr_block.is_none()
    }
}

/// Keys and values, as `domain-name-servers`.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct DhcpOptions {
    pub dhcp_options_id: String,
    pub configurations: Vec<(String, Vec<String>)>,
    pub tags: Tags,
}

/// A route table. The main one is of all subnets that no other names.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct RouteTable {
    pub route_table_id: String,
    pub vpc_id: String,
    pub main: bool,
    pub(crate) main_association_id: String,
    /// With the association of each.
    pub subnets: Vec<(String, String)>,
    pub routes: Vec<Route>,
    pub tags: Tags,
}

/// A route.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct Route {
    pub destination: IpNet,
    pub target: RouteTarget,
}

/// Where a route leads, with an id unless it is local.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "EC2's words")]
pub enum RouteTarget {
    Local,
    NatGateway(String),
    InternetGateway(String),
    EgressOnlyInternetGateway(String),
    NetworkInterface(String),
}

/// `euw1-az1` of `eu-west-1a`: made up, as the real ones differ from account to account.
pub(crate) fn zone_id(zone: &str) -> String {
    let letter = zone.bytes().next_back().unwrap_or(b'a');
    let parts: Vec<&str> = zone.split('-').collect();
    let short = |part: &&str| part.chars().next().unwrap_or_default();
    let place = parts.first().copied().unwrap_or_default();
    let direction: String = parts.get(1).iter().map(|part| short(part)).collect();
    let number: String = zone.chars().filter(char::is_ascii_digit).collect();
    let number_of_zone = letter.saturating_sub(b'a') + 1;
    format!("{place}{direction}{number}-az{number_of_zone}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_an_id_in_the_form_of_ec2() {
        assert_eq!(zone_id("eu-west-1a"), "euw1-az1");
        assert_eq!(zone_id("us-east-2c"), "use2-az3");
    }
}
