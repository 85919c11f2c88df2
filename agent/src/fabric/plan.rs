//! What the local VPC's fabric is to be, and whether it can be. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{FabricError, HOST_UPLINK, TRUNK, UPLINK};
use crate::link::Mac;
use crate::nat::{FabricNat, HostNat};
use crate::route::Address;

/// IPv6 works from 1280 on (RFC 8200 §5); a veth carries up to 65,535.
const TRUNK_MTU: std::ops::RangeInclusive<u32> = 1280..=65_535;

/// What the fabric is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FabricPlan {
    /// Where its namespace is bound.
    pub netns_path: PathBuf,
    /// Bytes.
    pub trunk_mtu: u32,
    /// The VPC router's hardware address.
    pub router_mac: Mac,
    /// What is routed into the VPC.
    pub vpc_cidrs: Vec<IpNet>,
    /// The link between host and fabric: the first address is the host's.
    pub uplink_ipv4: Ipv4Net,
    /// As `uplink_ipv4`.
    pub uplink_ipv6: Ipv6Net,
    /// Whether there is such a link at all; without it no nftables are needed.
    pub uplink: bool,
    /// Whether the VPC reaches the outside over it.
    pub nat_gateway: bool,
}

impl FabricPlan {
    /// The table of the fabric's namespace.
    #[must_use]
    pub fn fabric_nat(&self) -> FabricNat {
        FabricNat {
            trunk: TRUNK.to_owned(),
            uplink: UPLINK.to_owned(),
            host: (nth_v4(&self.uplink_ipv4, 1), nth_v6(&self.uplink_ipv6, 1)),
            nat_gateway: self.nat_gateway,
        }
    }

    /// The host's table, which the caller applies if the configuration asks for it.
    #[must_use]
    pub fn host_nat(&self) -> HostNat {
        let mut sources = vec![
            IpNet::V4(self.uplink_ipv4.trunc()),
            IpNet::V6(self.uplink_ipv6.trunc()),
        ];
        sources.extend(self.vpc_cidrs.iter().map(IpNet::trunc));
        HostNat {
            uplink: HOST_UPLINK.to_owned(),
            sources,
        }
    }

    /// Whether it can work.
    pub(super) fn validate(&self) -> Result<(), FabricError> {
        let wrong = |field, value: String, fix| Err(FabricError::Plan { field, value, fix });
        if self.vpc_cidrs.is_empty() {
            return wrong(
                "vpc_cidrs",
                "[]".to_owned(),
                "give the VPC at least one CIDR",
            );
        }
        if !TRUNK_MTU.contains(&self.trunk_mtu) {
            return wrong(
                "trunk_mtu",
                self.trunk_mtu.to_string(),
                "choose 1280 to 65535 bytes",
            );
        }
        let mac = self.router_mac;
        if mac.0[0] & 1 != 0 || mac.0 == [0; 6] {
            return wrong("router_mac", mac.to_string(), "choose a unicast address");
        }
        let uplinks = [
            ("uplink_ipv4", IpNet::V4(self.uplink_ipv4)),
            ("uplink_ipv6", IpNet::V6(self.uplink_ipv6)),
        ];
        for (field, net) in uplinks {
            if net.max_prefix_len() - net.prefix_len() < 2 {
                return wrong(field, net.to_string(), "leave two bits for the two ends");
            }
            if self.vpc_cidrs.iter().any(|cidr| overlap(cidr, &net)) {
                return wrong(
                    field,
                    net.to_string(),
                    "choose a network outside the VPC's CIDRs",
                );
            }
        }
        Ok(())
    }

    /// The host has none of its `addresses` inside, but on `own`, its end of the uplink.
    pub(super) fn check_against(
        &self,
        addresses: &[Address],
        own: Option<u32>,
    ) -> Result<(), FabricError> {
        let networks = self
            .vpc_cidrs
            .iter()
            .map(|cidr| ("vpc_cidrs", *cidr))
            .chain([
                ("uplink_ipv4", IpNet::V4(self.uplink_ipv4.trunc())),
                ("uplink_ipv6", IpNet::V6(self.uplink_ipv6.trunc())),
            ]);
        for (field, network) in networks {
            let inside = |found: &&Address| {
                network.contains(&found.address.addr()) && Some(found.link) != own
            };
            if let Some(found) = addresses.iter().find(inside) {
                return Err(FabricError::HostInside {
                    field,
                    network,
                    address: found.address.addr(),
                    link: found.link,
                });
            }
        }
        Ok(())
    }

    /// The `n`th addresses of the uplink's networks: 1 is the host's, 2 the fabric's.
    pub(super) fn uplink_addresses(&self, n: u8) -> [IpNet; 2] {
        let (ipv4, ipv6) = (&self.uplink_ipv4, &self.uplink_ipv6);
        [
            IpNet::new_assert(nth_v4(ipv4, n).into(), ipv4.prefix_len()),
            IpNet::new_assert(nth_v6(ipv6, n).into(), ipv6.prefix_len()),
        ]
    }
}

fn nth_v4(net: &Ipv4Net, n: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(net.network().to_bits() | u32::from(n))
}

fn nth_v6(net: &Ipv6Net, n: u8) -> Ipv6Addr {
    Ipv6Addr::from_bits(net.network().to_bits() | u128::from(n))
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn plan() -> FabricPlan {
        FabricPlan {
            netns_path: PathBuf::from("/run/netns/unused"),
            trunk_mtu: 9001,
            router_mac: Mac([2, 0, 0, 0, 0, 1]),
            vpc_cidrs: vec!["10.0.0.0/16".parse().unwrap(), "fd00::/56".parse().unwrap()],
            uplink_ipv4: "169.254.77.0/30".parse().unwrap(),
            uplink_ipv6: "fdb1:6272:616e:6368::/126".parse().unwrap(),
            uplink: true,
            nat_gateway: true,
        }
    }

    #[test]
    fn the_hosts_address_is_the_first_and_the_fabrics_the_second() {
        let texts = |n| plan().uplink_addresses(n).map(|net| net.to_string());
        assert_eq!(texts(1), ["169.254.77.1/30", "fdb1:6272:616e:6368::1/126"]);
        assert_eq!(texts(2), ["169.254.77.2/30", "fdb1:6272:616e:6368::2/126"]);
    }

    #[test]
    fn a_plan_that_cannot_work_names_its_field() {
        type Spoil = fn(&mut FabricPlan);
        let rows: [(&str, Spoil); 6] = [
            ("vpc_cidrs", |plan| plan.vpc_cidrs.clear()),
            ("trunk_mtu", |plan| plan.trunk_mtu = 1000),
            ("trunk_mtu", |plan| plan.trunk_mtu = 65_536),
            ("router_mac", |plan| {
                plan.router_mac = Mac([1, 0, 0, 0, 0, 0])
            }),
            ("uplink_ipv4", |plan| {
                plan.uplink_ipv4 = "169.254.77.0/31".parse().unwrap()
            }),
            ("uplink_ipv6", |plan| {
                plan.uplink_ipv6 = "fd00::/126".parse().unwrap()
            }),
        ];
        assert!(plan().validate().is_ok());
        for (expected, spoil) in rows {
            let mut spoilt = plan();
            spoil(&mut spoilt);
            match spoilt.validate() {
                Err(FabricError::Plan { field, .. }) => assert_eq!(field, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }
}
