//! What branchline decides about a packet, and why.

/// A packet's direction as its ENI sees it, at every hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(
    feature = "user",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[repr(u8)]
pub enum Direction {
    /// Towards the task.
    Ingress = 0,
    /// Away from the task.
    Egress = 1,
}

impl Direction {
    /// The other direction.
    #[must_use]
    #[inline(always)]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }

    /// `ingress` or `egress`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// Reads the byte that `self as u8` wrote; any other byte is `Egress`'s, so that no value is
    /// invalid.
    #[must_use]
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Self {
        if byte == 0 {
            Self::Ingress
        } else {
            Self::Egress
        }
    }
}

/// The decision about one packet at one ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Passes and is recorded as ACCEPT.
    Allow,
    /// Passes unfiltered: one of the services that security groups never filter. Unrecorded too,
    /// but for a [`Service`] that a flow log includes.
    Exempt,
    /// Does not pass.
    Deny(DropReason),
}

/// What happened to the packets of a flow record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Action {
    /// They passed.
    Accepted = 0,
    /// They did not.
    Rejected = 1,
    /// They passed because a group is in audit mode; otherwise they would not have.
    Audited = 2,
}

/// A service of the VPC that no security group filters and that flow logs leave out unless they are
/// told to include it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(
    feature = "user",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[repr(u8)]
pub enum Service {
    /// The VPC's resolver.
    Dns = 1,
    /// Instance metadata.
    Metadata = 2,
    /// Time sync.
    TimeSync = 3,
}

impl Service {
    /// Every service, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Dns, Self::Metadata, Self::TimeSync];

    /// The service of a number; `None` for a number that none has.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|service| *service as u8 == number)
    }
}

/// Why a packet does not pass. Its number is its index in the drop counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(
    feature = "user",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[repr(u8)]
pub enum DropReason {
    /// The frame or a header ends before what it promises.
    Truncated = 1,
    /// A header field contradicts its standard.
    BadHeader = 2,
    /// More IPv6 extension headers than are walked.
    HeaderChain = 3,
    /// A TCP fragment that starts inside the TCP header (RFC 1858 section 3).
    TinyFragment = 4,
    /// Neither IPv4, IPv6 nor ARP.
    EtherType = 5,
    /// The task put a VLAN tag on its frame.
    TaggedByTask = 6,
    /// No ENI has this trunk, VLAN and MAC address, or the branch has no ENI.
    UnknownEndpoint = 7,
    /// The source MAC address is not the ENI's.
    ForeignMac = 8,
    /// The source address of an egress packet is not the ENI's.
    ForeignSource = 9,
    /// The destination address of an ingress packet is not the ENI's.
    ForeignDestination = 10,
    /// ARP or neighbour discovery that speaks for another's address.
    ForeignNeighbour = 11,
    /// Instance metadata, which the ENI blocks.
    Imds = 12,
    /// No rule of any security group allows it.
    NoRule = 13,
    /// A later fragment whose first fragment was not seen, and no rule admits it by address alone.
    OrphanFragment = 14,
    /// The connection table is full.
    ConntrackFull = 15,
    /// The VPC has no route to the destination.
    NoRoute = 16,
    /// The kernel refused to change or redirect the packet.
    Redirect = 17,
}

impl DropReason {
    /// One more than the largest reason: the length of an array indexed by it.
    pub const COUNT: usize = 18;

    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT - 1] = [
        Self::Truncated,
        Self::BadHeader,
        Self::HeaderChain,
        Self::TinyFragment,
        Self::EtherType,
        Self::TaggedByTask,
        Self::UnknownEndpoint,
        Self::ForeignMac,
        Self::ForeignSource,
        Self::ForeignDestination,
        Self::ForeignNeighbour,
        Self::Imds,
        Self::NoRule,
        Self::OrphanFragment,
        Self::ConntrackFull,
        Self::NoRoute,
        Self::Redirect,
    ];

    /// Whether the packet appears in the flow log, as REJECT. What a security group refused does;
    /// what was malformed or forged is counted only (`spec/flow-logs.md` section 3).
    #[must_use]
    #[inline(always)]
    pub const fn is_logged(self) -> bool {
        matches!(
            self,
            Self::NoRule | Self::OrphanFragment | Self::ConntrackFull
        )
    }

    /// The reason's name in counters and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::BadHeader => "bad-header",
            Self::HeaderChain => "header-chain",
            Self::TinyFragment => "tiny-fragment",
            Self::EtherType => "ether-type",
            Self::TaggedByTask => "tagged-by-task",
            Self::UnknownEndpoint => "unknown-endpoint",
            Self::ForeignMac => "foreign-mac",
            Self::ForeignSource => "foreign-source",
            Self::ForeignDestination => "foreign-destination",
            Self::ForeignNeighbour => "foreign-neighbour",
            Self::Imds => "imds",
            Self::NoRule => "no-rule",
            Self::OrphanFragment => "orphan-fragment",
            Self::ConntrackFull => "conntrack-full",
            Self::NoRoute => "no-route",
            Self::Redirect => "redirect",
        }
    }

    /// The reason of a number; `None` for a number that no reason has.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_without_gaps() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index + 1, "{}", reason.name());
            assert_eq!(DropReason::from_number(reason as u8), Some(reason));
        }
        assert_eq!(DropReason::from_number(0), None);
    }
}
