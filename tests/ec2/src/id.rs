//! Ids: EC2's prefixes with numbers counted up, so that two runs have the same.

use std::collections::BTreeMap;

use crate::error::{Ec2Error, Result};

/// What has an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Vpc,
    Subnet,
    SecurityGroup,
    SecurityGroupRule,
    NetworkInterface,
    Attachment,
    TrunkAssociation,
    Instance,
    PrefixList,
    DhcpOptions,
    RouteTable,
    RouteTableAssociation,
    NatGateway,
    InternetGateway,
    EgressOnlyInternetGateway,
    CidrAssociation,
    Reservation,
}

/// Of [`Kind`]: prefix, noun, code of a malformed id, code of one that nobody has. The codes of kinds that no
/// request names are empty.
const KINDS: [(Kind, &str, &str, &str, &str); 17] = [
    (
        Kind::Vpc,
        "vpc-",
        "vpc ID",
        "InvalidVpcID.Malformed",
        "InvalidVpcID.NotFound",
    ),
    (
        Kind::Subnet,
        "subnet-",
        "subnet ID",
        "InvalidSubnetID.Malformed",
        "InvalidSubnetID.NotFound",
    ),
    (
        Kind::SecurityGroup,
        "sg-",
        "security group",
        "InvalidGroupId.Malformed",
        "InvalidGroup.NotFound",
    ),
    (
        Kind::SecurityGroupRule,
        "sgr-",
        "security group rule ID",
        "InvalidSecurityGroupRuleId.Malformed",
        "InvalidSecurityGroupRuleId.NotFound",
    ),
    (
        Kind::NetworkInterface,
        "eni-",
        "networkInterface ID",
        "InvalidNetworkInterfaceId.Malformed",
        "InvalidNetworkInterfaceID.NotFound",
    ),
    (
        Kind::Attachment,
        "eni-attach-",
        "attachment",
        "InvalidNetworkInterfaceAttachmentId.Malformed",
        "InvalidAttachmentID.NotFound",
    ),
    (
        Kind::TrunkAssociation,
        "trunk-assoc-",
        "association ID",
        "InvalidAssociationID.Malformed",
        "InvalidAssociationID.NotFound",
    ),
    (
        Kind::Instance,
        "i-",
        "instance ID",
        "InvalidInstanceID.Malformed",
        "InvalidInstanceID.NotFound",
    ),
    (
        Kind::PrefixList,
        "pl-",
        "prefix list ID",
        "InvalidPrefixListId.Malformed",
        "InvalidPrefixListID.NotFound",
    ),
    (
        Kind::DhcpOptions,
        "dopt-",
        "dhcpOption ID",
        "InvalidDhcpOptionsId.Malformed",
        "InvalidDhcpOptionID.NotFound",
    ),
    (
        Kind::RouteTable,
        "rtb-",
        "routeTable ID",
        "InvalidRouteTableId.Malformed",
        "InvalidRouteTableID.NotFound",
    ),
    (
        Kind::RouteTableAssociation,
        "rtbassoc-",
        "association ID",
        "",
        "",
    ),
    (Kind::NatGateway, "nat-", "NAT gateway", "", ""),
    (Kind::InternetGateway, "igw-", "internet gateway", "", ""),
    (
        Kind::EgressOnlyInternetGateway,
        "eigw-",
        "egress-only internet gateway",
        "",
        "",
    ),
    (
        Kind::CidrAssociation,
        "vpc-cidr-assoc-",
        "CIDR association",
        "",
        "",
    ),
    (Kind::Reservation, "r-", "reservation", "", ""),
];

impl Kind {
    fn row(self) -> (&'static str, &'static str, &'static str, &'static str) {
        let row = KINDS.iter().find(|row| row.0 == self);
        row.map_or(("", "", "", ""), |row| (row.1, row.2, row.3, row.4))
    }

    pub(crate) fn prefix(self) -> &'static str {
        self.row().0
    }

    pub(crate) fn noun(self) -> &'static str {
        self.row().1
    }

    pub(crate) fn malformed(self) -> &'static str {
        self.row().2
    }

    pub(crate) fn not_found(self) -> &'static str {
        self.row().3
    }

    /// Whether `id` has the form of this kind: its prefix with 8 or 17 hexadecimal digits.
    ///
    /// # Errors
    /// It has not.
    pub(crate) fn check(self, id: &str) -> Result<()> {
        let digits = id.strip_prefix(self.prefix()).unwrap_or_default();
        let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if matches!(digits.len(), 8 | 17) && digits.bytes().all(hexadecimal) {
            return Ok(());
        }
        Err(Ec2Error::malformed(self, id))
    }

    /// The kind of a well-formed id, if a request may name it.
    pub(crate) fn of(id: &str) -> Option<Self> {
        let named = KINDS.iter().filter(|row| !row.4.is_empty());
        named.map(|row| row.0).find(|kind| kind.check(id).is_ok())
    }
}

/// Hands out ids.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids(BTreeMap<Kind, u64>);

impl Ids {
    pub(crate) fn next(&mut self, kind: Kind) -> String {
        let number = self.0.entry(kind).or_default();
        *number += 1;
        format!("{}{number:017x}", kind.prefix())
    }

    /// How many of `kind` there have been.
    pub(crate) fn count(&self, kind: Kind) -> u64 {
        self.0.get(&kind).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_its_prefix_and_8_or_17_digits() {
        for (id, of) in [
            ("eni-0123456789abcdef0", Some(Kind::NetworkInterface)),
            ("eni-01234567", Some(Kind::NetworkInterface)),
            ("eni-attach-0123456789abcdef0", Some(Kind::Attachment)),
            ("eni-0123456789abcdef", None),
            ("eni-0123456789ABCDEF0", None),
            ("eni-", None),
            ("eni0123456789abcdef0", None),
            ("sgr-01234567", Some(Kind::SecurityGroupRule)),
            ("nat-01234567", None),
        ] {
            assert_eq!(Kind::of(id), of, "{id}");
        }
    }

    #[test]
    fn ids_count_up_by_kind() {
        let mut ids = Ids::default();
        assert_eq!(ids.next(Kind::Subnet), "subnet-00000000000000001");
        assert_eq!(ids.next(Kind::Vpc), "vpc-00000000000000001");
        assert_eq!(ids.next(Kind::Subnet), "subnet-00000000000000002");
        assert_eq!(ids.count(Kind::Subnet), 2);
    }
}
