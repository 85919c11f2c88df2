//! Which way packets leave a subnet: its route table, and the `traffic-path` of VPC Flow Logs.
//!
//! Plain values that a provider fills, in the names of EC2's DescribeRouteTables. Never forwards a
//! packet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::prefix_map::PrefixMap;

/// Where a route leads; prefix lists are networks already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteTarget {
    /// `local`: within the VPC.
    Local,
    /// `nat-`.
    NatGateway,
    /// `tgw-`.
    TransitGateway,
    /// `vpce-` of an interface endpoint or of a Gateway Load Balancer's.
    InterfaceEndpoint,
    /// `vpce-` of a gateway endpoint.
    GatewayEndpoint,
    /// `eni-`, or `i-` with one ENI.
    NetworkInterface,
    /// `igw-`.
    InternetGateway,
    /// `eigw-`.
    EgressOnlyInternetGateway,
    /// `vgw-`.
    VpnGateway,
    /// `pcx-`.
    VpcPeeringConnection {
        /// Whether the peer is in the same Region.
        same_region: bool,
    },
    /// `cagw-`.
    CarrierGateway,
    /// `lgw-`.
    LocalGateway {
        /// Whether it is an Outpost's.
        outpost: bool,
    },
    /// A route of state `blackhole`, or one that EC2 does not know: no path has a number.
    Unknown,
}

impl RouteTarget {
    /// The number that the field `traffic-path` has for it ("Flow log records"; of a host on Nitro).
    #[must_use]
    pub fn traffic_path(self) -> Option<u8> {
        match self {
            Self::Local
            | Self::NatGateway
            | Self::TransitGateway
            | Self::InterfaceEndpoint
            | Self::NetworkInterface
            | Self::LocalGateway { outpost: true } => Some(1),
            Self::VpnGateway => Some(3),
            Self::VpcPeeringConnection { same_region: true } => Some(4),
            Self::VpcPeeringConnection { same_region: false } => Some(5),
            Self::CarrierGateway | Self::LocalGateway { outpost: false } => Some(6),
            Self::GatewayEndpoint => Some(7),
            Self::InternetGateway | Self::EgressOnlyInternetGateway => Some(8),
            Self::Unknown => None,
        }
    }
}

/// A route table: the route of the longest network is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteTable(PrefixMap<RouteTarget>);

/// Of equal networks the first counts.
impl FromIterator<(IpNet, RouteTarget)> for RouteTable {
    fn from_iter<I: IntoIterator<Item = (IpNet, RouteTarget)>>(routes: I) -> Self {
        Self(routes.into_iter().collect())
    }
}

impl RouteTable {
    /// Where packets to `destination` go; `None` without a route.
    #[must_use]
    pub fn target(&self, destination: IpAddr) -> Option<RouteTarget> {
        self.0.get(destination).copied()
    }
}

/// The route tables of a VPC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteTables {
    /// Of every subnet that has no other.
    pub main: Arc<RouteTable>,
    /// By subnet id.
    pub of_subnets: BTreeMap<String, Arc<RouteTable>>,
}

impl RouteTables {
    /// The `traffic-path` of packets that leave `subnet_id` for `destination`; `None` if no route
    /// says.
    #[must_use]
    pub fn traffic_path(&self, subnet_id: Option<&str>, destination: IpAddr) -> Option<u8> {
        let own = subnet_id.and_then(|id| self.of_subnets.get(id));
        let table = own.unwrap_or(&self.main);
        table.target(destination)?.traffic_path()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_target_has_the_number_of_the_specification() {
        use RouteTarget::{
            CarrierGateway, EgressOnlyInternetGateway, GatewayEndpoint, InterfaceEndpoint,
            InternetGateway, Local, LocalGateway, NatGateway, NetworkInterface, TransitGateway,
            Unknown, VpcPeeringConnection, VpnGateway,
        };
        for (target, path) in [
            (Local, Some(1)),
            (NatGateway, Some(1)),
            (TransitGateway, Some(1)),
            (InterfaceEndpoint, Some(1)),
            (NetworkInterface, Some(1)),
            (LocalGateway { outpost: true }, Some(1)),
            (VpnGateway, Some(3)),
            (VpcPeeringConnection { same_region: true }, Some(4)),
            (VpcPeeringConnection { same_region: false }, Some(5)),
            (CarrierGateway, Some(6)),
            (LocalGateway { outpost: false }, Some(6)),
            (GatewayEndpoint, Some(7)),
            (InternetGateway, Some(8)),
            (EgressOnlyInternetGateway, Some(8)),
            (Unknown, None),
        ] {
            assert_eq!(target.traffic_path(), path, "{target:?}");
        }
    }

    #[test]
    fn a_subnet_has_its_own_table_or_the_main_one() {
        let table = |routes: &[(&str, RouteTarget)]| -> Arc<RouteTable> {
            let routes = routes
                .iter()
                .map(|(net, target)| (net.parse().unwrap(), *target));
            Arc::new(routes.collect())
        };
        let tables = RouteTables {
            main: table(&[
                ("10.0.0.0/16", RouteTarget::Local),
                ("10.0.9.0/24", RouteTarget::Unknown),
                ("0.0.0.0/0", RouteTarget::VpnGateway),
            ]),
            of_subnets: BTreeMap::from([(
                "subnet-public".to_owned(),
                table(&[("0.0.0.0/0", RouteTarget::InternetGateway)]),
            )]),
        };
        for (subnet, address, path) in [
            (Some("subnet-a"), "10.0.1.1", Some(1)),
            (Some("subnet-a"), "10.0.9.1", None),
            (None, "192.0.2.1", Some(3)),
            (Some("subnet-public"), "192.0.2.1", Some(8)),
            (Some("subnet-public"), "2001:db8::1", None),
        ] {
            let found = tables.traffic_path(subnet, address.parse().unwrap());
            assert_eq!(found, path, "{subnet:?} {address}");
        }
    }
}
