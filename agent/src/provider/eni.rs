//! An elastic network interface as every provider describes it. Plain values; never talks to anything.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// What one ENI is: its identity, its place on the trunk or at the instance, its addresses and groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eni {
    /// `eni-` and 17 hex digits.
    pub eni_id: String,
    /// A UUID, made once per attachment.
    pub attachment_id: String,
    /// The subnet of its addresses.
    pub subnet_id: String,
    /// The subnet's VPC.
    pub vpc_id: String,
    /// Its MAC address, unique in the VPC.
    pub mac: MacAddress,
    /// Its id on the trunk; `None` for an ENI that has a link of its own.
    pub vlan: Option<VlanId>,
    /// Where an ENI with a link of its own is plugged into the instance; `None` for one on the trunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// Its primary IPv4 address, with the subnet's prefix length.
    pub ipv4: Option<Ipv4Net>,
    /// Its IPv6 address, with the subnet's prefix length.
    pub ipv6: Option<Ipv6Net>,
    /// The subnet's IPv4 router.
    pub router_ipv4: Option<Ipv4Addr>,
    /// The subnet's IPv6 router.
    pub router_ipv6: Option<Ipv6Addr>,
    /// The MAC address of both routers, where it is known beforehand; else the task asks for it.
    pub router_mac: Option<MacAddress>,
    /// Ids of its security groups, 1 to 16.
    pub groups: Vec<String>,
    /// As `ip-10-0-1-10.ec2.internal`; `None` without IPv4.
    pub private_dns_name: Option<String>,
    /// The subnet's zone, where it has one.
    pub availability_zone: Option<String>,
}

impl Eni {
    /// The name of the host's end of the task's veth: `bl` and the last 13 digits of the id, what a link name holds.
    pub fn host_link_name(&self) -> String {
        let start = self.eni_id.len().saturating_sub(13);
        format!("bl{}", self.eni_id.get(start..).unwrap_or_default())
    }

    /// Where a task without an IPv4 address asks for its metadata from, which is served over IPv4 only: 169.254.176.0
    /// and its VLAN id or its device's number, so unique on the host. `None` if it has an IPv4 address, or neither.
    pub fn metadata_source(&self) -> Option<Ipv4Addr> {
        let base = Ipv4Addr::new(169, 254, 176, 0).to_bits();
        let of_device = || self.device.map(Device::number);
        let number = self.vlan.map(VlanId::get).or_else(of_device);
        let number = number.filter(|_| self.ipv4.is_none())?;
        Some(Ipv4Addr::from_bits(base + u32::from(number)))
    }

    /// The addresses that the host's services know its task by.
    pub fn service_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ipv4 = self.ipv4.map(|net| net.addr()).or(self.metadata_source());
        let ipv6 = self.ipv6.map(|net| IpAddr::V6(net.addr()));
        ipv4.map(IpAddr::V4).into_iter().chain(ipv6)
    }
}

/// Where an ENI is plugged into its instance (EC2: NetworkCardIndex and DeviceIndex), written `card/index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Device {
    card: u8,
    index: u8,
}

/// Text or numbers that are no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no device; write network card (0 to 31) and device index (0 to 63) as 0/1")]
pub struct NoDevice(pub String);

impl Device {
    /// Cards of an instance at most, and devices of a card: more than any instance type has.
    pub const CARDS: u8 = 32;
    /// See [`Device::CARDS`].
    pub const INDICES: u8 = 64;

    /// That of the instance's primary ENI.
    pub const PRIMARY: Self = Self { card: 0, index: 0 };

    /// The device at `index` of `card`.
    ///
    /// # Errors
    /// One of them is out of range.
    pub fn new(card: u32, index: u32) -> Result<Self, NoDevice> {
        let within = |number: u32, end: u8| u8::try_from(number).ok().filter(|it| *it < end);
        within(card, Self::CARDS)
            .zip(within(index, Self::INDICES))
            .map(|(card, index)| Self { card, index })
            .ok_or_else(|| NoDevice(format!("{card}/{index}")))
    }

    /// Its network card.
    #[must_use]
    pub fn card(self) -> u8 {
        self.card
    }

    /// Its index on the card.
    #[must_use]
    pub fn index(self) -> u8 {
        self.index
    }

    /// A number of its own among all devices of an instance, below 2048.
    fn number(self) -> u16 {
        u16::from(self.card) * u16::from(Self::INDICES) + u16::from(self.index)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.card, self.index)
    }
}

impl FromStr for Device {
    type Err = NoDevice;

    fn from_str(text: &str) -> Result<Self, NoDevice> {
        let number = |digits: &str| digits.parse().ok().filter(|_| !digits.starts_with('+'));
        let parts = text.split_once('/');
        let numbers = parts.and_then(|(card, index)| number(card).zip(number(index)));
        let (card, index) = numbers.ok_or_else(|| NoDevice(text.to_owned()))?;
        Self::new(card, index)
    }
}

impl TryFrom<String> for Device {
    type Error = NoDevice;

    fn try_from(text: String) -> Result<Self, NoDevice> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

/// The id of a branch on its trunk, 1 to 4094 (IEEE 802.1Q).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(u16);

/// A number that is no VLAN id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no VLAN id; they go from 1 to 4094")]
pub struct NoVlanId(pub u16);

impl VlanId {
    /// The lowest id (IEEE 802.1Q-2018 table 9-2: 0 is no VLAN's).
    pub const FIRST: Self = Self(1);
    /// The highest; 4095 is reserved.
    pub const LAST: Self = Self(4094);
    /// From the lowest to the highest.
    pub const ALL: RangeInclusive<Self> = Self::FIRST..=Self::LAST;

    /// Every id, lowest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (Self::FIRST.0..=Self::LAST.0).map(Self)
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for VlanId {
    type Error = NoVlanId;

    fn try_from(id: u16) -> Result<Self, NoVlanId> {
        if Self::ALL.contains(&Self(id)) {
            Ok(Self(id))
        } else {
            Err(NoVlanId(id))
        }
    }
}

impl From<VlanId> for u16 {
    fn from(id: VlanId) -> Self {
        id.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// An Ethernet address, written in lower case with colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

/// Text that is no MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no MAC address; write six pairs of hex digits with colons between them")]
pub struct NoMacAddress(pub String);

impl fmt::Display for MacAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = NoMacAddress;

    fn from_str(text: &str) -> Result<Self, NoMacAddress> {
        let parse = || {
            let mut pairs = text.split(':');
            let mut bytes = [0; 6];
            for byte in &mut bytes {
                let pair = pairs
                    .next()
                    .filter(|pair| pair.len() == 2 && !pair.starts_with('+'))?;
                *byte = u8::from_str_radix(pair, 16).ok()?;
            }
            pairs.next().is_none().then_some(Self(bytes))
        };
        parse().ok_or_else(|| NoMacAddress(text.to_owned()))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = NoMacAddress;

    fn try_from(text: String) -> Result<Self, NoMacAddress> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn vlan_ids_end_where_802_1q_ends() {
        assert_eq!(VlanId::try_from(0), Err(NoVlanId(0)));
        assert_eq!(VlanId::try_from(4095), Err(NoVlanId(4095)));
        assert_eq!(VlanId::all().count(), 4094);
        assert!(VlanId::all().all(|id| VlanId::try_from(id.get()) == Ok(id)));
        assert!(serde_json::from_str::<VlanId>("4095").is_err());
    }

    #[test]
    fn devices_read_back_what_they_print_and_have_numbers_of_their_own() {
        let device = Device::new(3, 1).unwrap();
        assert_eq!(device.to_string().parse(), Ok(device));
        let all = (0..32).flat_map(|card| (0..64).map(move |index| Device::new(card, index)));
        let numbers: std::collections::BTreeSet<_> = all.map(|it| it.unwrap().number()).collect();
        assert_eq!((numbers.len(), numbers.last()), (2048, Some(&2047)));
        let eni = Eni {
            vlan: None,
            device: Some(device),
            ipv4: None,
            ..crate::task_record::tests::record("web").eni
        };
        let source = eni.metadata_source().map(|address| address.to_string());
        assert_eq!(source.as_deref(), Some("169.254.176.193"));
        for text in ["", "1", "32/0", "0/64", "0/+1", "-1/0", "0/1/2", "a/b"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn mac_addresses_read_back_what_they_print() {
        let mac = MacAddress([0x0a, 0, 0x1b, 0xff, 1, 2]);
        assert_eq!(mac.to_string(), "0a:00:1b:ff:01:02");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!(
            serde_json::to_string(&mac).unwrap(),
            "\"0a:00:1b:ff:01:02\""
        );
        for text in [
            "",
            "0a:00:1b:ff:01",
            "0a:00:1b:ff:01:02:03",
            "0a:00:1b:ff:01:+2",
            "0a:00:1b:ff:1:02",
            "0a-00-1b-ff-01-02",
        ] {
            assert_eq!(
                text.parse::<MacAddress>(),
                Err(NoMacAddress(text.to_owned()))
            );
        }
    }
}
