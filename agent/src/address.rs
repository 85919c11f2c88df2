//! Addresses and networks as the maps have them. Pure.

use std::net::IpAddr;

use branchline_common::flow::{Address, mapped};
use ipnet::IpNet;

/// An address: IPv6, or IPv4 mapped.
#[must_use]
pub fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(ipv4) => mapped(ipv4.octets()),
        IpAddr::V6(ipv6) => ipv6.octets(),
    }
}

/// A network: the first address, mapped, and the prefix length in its 128 bits.
#[must_use]
pub fn prefix(network: IpNet) -> (Address, u32) {
    let bits = u32::from(network.prefix_len());
    let bits = match network {
        IpNet::V4(_) => 96 + bits,
        IpNet::V6(_) => bits,
    };
    (address(network.network()), bits)
}
