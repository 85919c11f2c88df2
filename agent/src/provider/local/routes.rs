//! The route table of the embedded VPC, as its rows name it.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::LocalConfig;
use crate::provider::vpc::Vpc;
use crate::provider::{RouteTable, RouteTarget};

/// What no VPC carries.
pub const NOWHERE: [&str; 6] = [
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/3",
    "fe80::/10",
    "ff00::/8",
    "::/8",
];

/// The networks of [`NOWHERE`].
pub fn nowhere() -> impl Iterator<Item = IpNet> {
    NOWHERE.iter().filter_map(|network| network.parse().ok())
}

/// The one route table: the VPC itself and, with a NAT gateway, all else. IPv6 needs no translation
/// in a VPC, and its way out lets nobody in: an egress-only internet gateway.
#[must_use]
pub fn route_table(vpc: &Vpc, local: &LocalConfig) -> RouteTable {
    let nowhere = nowhere().map(|network| (network, RouteTarget::Unknown));
    let own = vpc
        .cidrs()
        .into_iter()
        .map(|cidr| (cidr, RouteTarget::Local));
    let out = [
        (local.uplink_ipv4.into(), RouteTarget::NatGateway),
        (Ipv4Net::default().into(), RouteTarget::NatGateway),
        (
            local.uplink_ipv6.into(),
            RouteTarget::EgressOnlyInternetGateway,
        ),
        (
            Ipv6Net::default().into(),
            RouteTarget::EgressOnlyInternetGateway,
        ),
    ];
    let out = out.into_iter().filter(|_| local.nat_gateway);
    own.chain(nowhere).chain(out).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::provider::local::vpc_file::parse;

    #[test]
    fn what_is_outside_has_a_path_only_through_a_nat_gateway() {
        let text = "vpc_id = 'vpc-1'\ncidr_block = '10.0.0.0/16'\nipv6_cidr_block = 'fd00:10::/56'
            subnets = [{subnet_id = 'subnet-a', cidr_block = '10.0.1.0/24'}]";
        let vpc = parse(text).unwrap().vpc;
        let path = |nat_gateway, address: &str| {
            let local = LocalConfig {
                nat_gateway,
                ..LocalConfig::default()
            };
            let target = route_table(&vpc, &local).target(address.parse().unwrap());
            target.and_then(RouteTarget::traffic_path)
        };
        for (address, with, without) in [
            ("10.0.7.7", Some(1), Some(1)),
            ("fd00:10::7", Some(1), Some(1)),
            ("198.51.100.7", Some(1), None),
            ("2001:db8::7", Some(8), None),
            ("169.254.77.1", Some(1), None),
            ("169.254.169.254", None, None),
            ("224.0.0.251", None, None),
            ("ff02::fb", None, None),
            ("fe80::1", None, None),
        ] {
            assert_eq!(path(true, address), with, "{address}");
            assert_eq!(path(false, address), without, "{address}");
        }
    }
}
