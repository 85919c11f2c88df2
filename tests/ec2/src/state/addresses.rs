//! Free addresses of a subnet. The first four and the last are EC2's own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{State, Subnet};
use crate::error::{Ec2Error, Result};

/// Addresses at the beginning of a subnet that nobody gets.
const RESERVED: u32 = 4;

impl State {
    /// How many IPv4 addresses of a subnet are free.
    #[must_use]
    pub fn available_ip_address_count(&self, subnet: &Subnet) -> usize {
        let Some(net) = subnet.cidr_block else {
            return 0;
        };
        let all = 1_usize << (32 - net.prefix_len());
        let taken = self.taken(subnet);
        let of_ipv4 = taken.iter().filter(|address| address.is_ipv4()).count();
        all - RESERVED as usize - 1 - of_ipv4
    }

    /// The lowest free IPv4 addresses of a subnet, besides `chosen`.
    ///
    /// # Errors
    /// `InsufficientFreeAddressesInSubnet`.
    pub(crate) fn free_ipv4(
        &self,
        subnet: &Subnet,
        chosen: &[Ipv4Addr],
        count: usize,
    ) -> Result<Vec<Ipv4Addr>> {
        let Some(net) = subnet.cidr_block else {
            return Err(Ec2Error::invalid(format!(
                "Subnet {} has no IPv4 CIDR block",
                subnet.subnet_id
            )));
        };
        let taken = self.taken(subnet);
        let (first, last) = (
            u32::from(net.network()) + RESERVED,
            u32::from(net.broadcast()),
        );
        let free = (first..last).map(Ipv4Addr::from);
        let free = free
            .filter(|address| !taken.contains(&IpAddr::V4(*address)) && !chosen.contains(address));
        let found: Vec<_> = free.take(count).collect();
        if found.len() < count {
            let message =
                "The specified subnet does not have enough free addresses to satisfy the request.";
            return Err(Ec2Error::new("InsufficientFreeAddressesInSubnet", message));
        }
        Ok(found)
    }

    /// The lowest free IPv6 addresses of a subnet.
    ///
    /// # Errors
    /// It has no IPv6.
    pub(crate) fn free_ipv6(&self, subnet: &Subnet, count: usize) -> Result<Vec<Ipv6Addr>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let Some(net) = subnet.ipv6_cidr_block else {
            return Err(Ec2Error::invalid(format!(
                "Subnet {} has no IPv6 CIDR block",
                subnet.subnet_id
            )));
        };
        let taken = self.taken(subnet);
        let first = u128::from(net.network()) + u128::from(RESERVED);
        let free = (first..).map(Ipv6Addr::from);
        let free = free.filter(|address| !taken.contains(&IpAddr::V6(*address)));
        Ok(free.take(count).collect())
    }

    /// Whether an address that a request names may be given.
    ///
    /// # Errors
    /// It is outside the subnet, reserved, or in use.
    pub(crate) fn check_address(&self, subnet: &Subnet, address: IpAddr) -> Result<()> {
        let net: Option<IpNet> = match address {
            IpAddr::V4(_) => subnet.cidr_block.map(IpNet::V4),
            IpAddr::V6(_) => subnet.ipv6_cidr_block.map(IpNet::V6),
        };
        let within = net.filter(|net| net.contains(&address));
        let Some(net) = within else {
            let message =
                format!("Address {address} does not fall within the subnet's address range");
            return Err(Ec2Error::invalid(message));
        };
        let from_start = match (net.network(), address) {
            (IpAddr::V4(start), IpAddr::V4(address)) => {
                u128::from(u32::from(address) - u32::from(start))
            }
            (IpAddr::V6(start), IpAddr::V6(address)) => u128::from(address) - u128::from(start),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
        };
        if from_start < u128::from(RESERVED) || address == net.broadcast() {
            let message = format!("Address {address} is in subnet's reserved address range");
            return Err(Ec2Error::invalid(message));
        }
        if self.taken(subnet).contains(&address) {
            let message = "The specified address is already in use.";
            return Err(Ec2Error::new("InvalidIPAddress.InUse", message));
        }
        Ok(())
    }

    fn taken(&self, subnet: &Subnet) -> BTreeSet<IpAddr> {
        let all = self.network_interfaces.values();
        let of_subnet = all.filter(|eni| eni.subnet_id == subnet.subnet_id);
        of_subnet
            .flat_map(|eni| {
                let ipv4 = eni.private_ip_addresses.iter().copied().map(IpAddr::V4);
                ipv4.chain(eni.ipv6_addresses.iter().copied().map(IpAddr::V6))
            })
            .collect()
    }
}
