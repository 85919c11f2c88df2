//! Networks to values, looked up by address: of the networks that hold it, the longest wins.
//!
//! Networks of one family are disjoint or one holds the other, so they cut the addresses into
//! stretches that each have one answer; a lookup is a binary search. Pure; made once, never changed.

use std::net::IpAddr;

use ipnet::IpNet;

/// Values by network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixMap<T> {
    values: Vec<T>,
    ipv4: Stretches,
    ipv6: Stretches,
}

/// First address of each stretch and the index of its value, in order. Of two that begin with the
/// same address, the later one is meant.
type Stretches = Vec<(u128, Option<usize>)>;

/// A network as the range of its addresses.
struct Range {
    first: u128,
    last: u128,
    value: usize,
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        std::iter::empty().collect()
    }
}

/// Of equal networks the first counts.
impl<T> FromIterator<(IpNet, T)> for PrefixMap<T> {
    fn from_iter<I: IntoIterator<Item = (IpNet, T)>>(networks: I) -> Self {
        let (mut values, mut ipv4, mut ipv6) = (Vec::new(), Vec::new(), Vec::new());
        for (network, value) in networks {
            let family = match network {
                IpNet::V4(_) => &mut ipv4,
                IpNet::V6(_) => &mut ipv6,
            };
            family.push(Range {
                first: bits(network.network()),
                last: bits(network.broadcast()),
                value: values.len(),
            });
            values.push(value);
        }
        Self {
            values,
            ipv4: stretches(ipv4),
            ipv6: stretches(ipv6),
        }
    }
}

impl<T> PrefixMap<T> {
    /// The value of the longest network that holds `address`.
    #[must_use]
    pub fn get(&self, address: IpAddr) -> Option<&T> {
        let stretches = match address {
            IpAddr::V4(_) => &self.ipv4,
            IpAddr::V6(_) => &self.ipv6,
        };
        let bits = bits(address);
        let after = stretches.partition_point(|(first, _)| *first <= bits);
        let (_, value) = stretches.get(after.checked_sub(1)?)?;
        self.values.get((*value)?)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn stretches(mut ranges: Vec<Range>) -> Stretches {
    // What holds others comes before them. The sort is stable, so equal ones stay in order.
    ranges.sort_by_key(|range| (range.first, u128::MAX - range.last));
    ranges.dedup_by_key(|range| (range.first, range.last));
    let mut stretches = Vec::new();
    let mut open: Vec<Range> = Vec::new();
    for range in ranges {
        while let Some(ended) = open.pop_if(|outer| outer.last < range.first) {
            stretches.push((ended.last + 1, open.last().map(|outer| outer.value)));
        }
        stretches.push((range.first, Some(range.value)));
        open.push(range);
    }
    while let Some(ended) = open.pop() {
        // Behind the last address of IPv6 nothing comes.
        if let Some(next) = ended.last.checked_add(1) {
            stretches.push((next, open.last().map(|outer| outer.value)));
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    fn map(networks: &[&'static str]) -> PrefixMap<&'static str> {
        let parsed = networks.iter().map(|text| (text.parse().unwrap(), *text));
        parsed.collect()
    }

    #[test]
    fn the_longest_network_wins_and_gaps_stay() {
        let map = map(&[
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.255.255/32",
            "255.255.255.255/32",
            "2001:db8::/32",
            "ffff::/16",
        ]);
        for (address, expected) in [
            ("9.255.255.255", Some("0.0.0.0/0")),
            ("10.0.255.255", Some("10.0.0.0/8")),
            ("10.1.0.0", Some("10.1.0.0/16")),
            ("10.1.255.254", Some("10.1.0.0/16")),
            ("10.1.255.255", Some("10.1.255.255/32")),
            ("10.2.0.0", Some("10.0.0.0/8")),
            ("11.0.0.0", Some("0.0.0.0/0")),
            ("255.255.255.255", Some("255.255.255.255/32")),
            ("2001:db7:ffff::", None),
            ("2001:db8::1", Some("2001:db8::/32")),
            ("2001:db9::", None),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some("ffff::/16")),
            ("::10.1.0.0", None),
        ] {
            assert_eq!(
                map.get(address.parse().unwrap()).copied(),
                expected,
                "{address}"
            );
        }
        assert_eq!(PrefixMap::<u8>::default().get([10, 0, 0, 1].into()), None);
    }

    fn network() -> impl Strategy<Value = IpNet> {
        // Few bits, so that networks meet.
        let ipv4 = (0..64u32, 0..=32u8).prop_map(|(bits, len)| {
            IpNet::from(Ipv4Net::new((bits << 26 | bits).into(), len).unwrap()).trunc()
        });
        let ipv6 = (0..64u128, 0..=128u8).prop_map(|(bits, len)| {
            IpNet::from(Ipv6Net::new((bits << 122 | bits).into(), len).unwrap()).trunc()
        });
        prop_oneof![ipv4, ipv6]
    }

    proptest! {
        #[test]
        fn a_lookup_is_what_a_look_at_every_network_finds(
            networks in prop::collection::vec(network(), 0..40),
            probes in prop::collection::vec(network(), 1..40),
        ) {
            let numbered = || networks.iter().copied().zip(0..);
            let map: PrefixMap<i32> = numbered().collect();
            for probe in probes.iter().flat_map(|net| [net.network(), net.broadcast()]) {
                let holding = numbered().filter(|(net, _)| net.contains(&probe));
                let longest = holding.max_by_key(|(net, number)| (net.prefix_len(), -number));
                prop_assert_eq!(map.get(probe).copied(), longest.map(|(_, number)| number));
            }
        }
    }
}
