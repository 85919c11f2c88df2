//! What the oracle says of a packet: the verdict, the step that decided, and the rule that allowed.

use std::fmt;

use ipnet::IpNet;

use crate::packet::Direction;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It passes and is logged.
    Accept,
    /// It is dropped, silently for the sender, and logged.
    Reject,
    /// It passes and is not logged.
    Exempt,
    /// It is dropped and not logged.
    DropUnlogged,
}

/// The oracle's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What becomes of the packet.
    pub verdict: Verdict,
    /// Of an accepted packet: whether it rides or opens a connection. Of a refused one: `true` if
    /// its flow has a live connection that does not let it pass (TCP in CLOSE or TIME_WAIT).
    pub tracked: Option<bool>,
    /// The rule that allows the packet, or that allowed its connection or first fragment; `None` if
    /// none was asked or none does.
    pub rule: Option<RuleMatch>,
    /// Where the decision fell.
    pub step: Step,
}

/// A rule that covers a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleMatch {
    /// The group it is of.
    pub group_id: String,
    /// Which of the group's two lists it is in.
    pub direction: Direction,
    /// Its place in that list.
    pub permission: usize,
    /// How it covers the peer.
    pub peer: Peer,
}

/// How a rule covers a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// By a network of its own.
    Network(IpNet),
    /// By a network of a prefix list.
    PrefixList {
        /// The list.
        prefix_list_id: String,
        /// The network.
        network: IpNet,
    },
    /// As an address of a member of a group.
    Group {
        /// The group.
        group_id: String,
        /// The member.
        eni: String,
        /// The address, or the delegated prefix.
        network: IpNet,
    },
}

impl Peer {
    /// The network that contains the peer.
    #[must_use]
    pub const fn network(&self) -> IpNet {
        match self {
            Self::Network(network)
            | Self::PrefixList { network, .. }
            | Self::Group { network, .. } => *network,
        }
    }
}

impl fmt::Display for RuleMatch {
    /// As `sg-web ip_permissions[2], 10.0.1.20/32 (eni-a of sg-app)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = match self.direction {
            Direction::Ingress => "ip_permissions",
            Direction::Egress => "ip_permissions_egress",
        };
        write!(
            f,
            "{} {list}[{}], {}",
            self.group_id,
            self.permission,
            self.peer.network()
        )?;
        match &self.peer {
            Peer::Network(_) => Ok(()),
            Peer::PrefixList { prefix_list_id, .. } => write!(f, " (of {prefix_list_id})"),
            Peer::Group { group_id, eni, .. } => write!(f, " ({eni} of {group_id})"),
        }
    }
}

/// The steps of §3 at which a decision can fall; the first number is the specification's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// No ENI of this name.
    UnknownEni,
    /// 0: ARP.
    Arp,
    /// 0 `[OWN]`: ARP that speaks for another's address.
    ForeignArp,
    /// 0 `[OWN]`: headers that contradict each other.
    Malformed,
    /// 1: instance metadata, and the ENI blocks it.
    ImdsBlocked,
    /// 2: neighbour discovery.
    NeighbourDiscovery,
    /// 2 `[OWN]`: neighbour discovery that speaks for another's address.
    ForeignNeighbour,
    /// 2: DHCP.
    Dhcp,
    /// 2: instance metadata.
    Imds,
    /// 2: time, task metadata, activation.
    Service,
    /// 2: the subnet's router.
    Router,
    /// 2: a resolver of the VPC.
    Resolver,
    /// 3: a later fragment, decided as its first one.
    FragmentFollows,
    /// 3: a later fragment without a first one, and a rule that ignores ports.
    FragmentAllowed,
    /// 3: a later fragment without a first one, and no rule that ignores ports.
    FragmentOrphan,
    /// 4: the local address is not the ENI's.
    SourceDestCheck,
    /// 5: an ICMP error about a live connection.
    Related,
    /// 5: an ICMP error about an untracked flow.
    RelatedUntracked,
    /// 6: a live connection.
    Connection,
    /// 7: no rule.
    NoRule,
    /// 8: an untracked flow.
    Untracked,
    /// 8: the reply half of an untracked flow.
    UntrackedReply,
    /// 9: TCP that does not open with a SYN, and must.
    Strict,
    /// 10: RST without a connection.
    Reset,
    /// 10: one-way ICMP, or a reply to no known request.
    OneWayIcmp,
    /// 10 (§5.3): TCP in CLOSE, allowed by rules; the connection is left as it is.
    Closed,
    /// 11: no room for a connection.
    ConntrackFull,
    /// 12: a new connection.
    Opened,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 28] = [
        Self::UnknownEni,
        Self::Arp,
        Self::ForeignArp,
        Self::Malformed,
        Self::ImdsBlocked,
        Self::NeighbourDiscovery,
        Self::ForeignNeighbour,
        Self::Dhcp,
        Self::Imds,
        Self::Service,
        Self::Router,
        Self::Resolver,
        Self::FragmentFollows,
        Self::FragmentAllowed,
        Self::FragmentOrphan,
        Self::SourceDestCheck,
        Self::Related,
        Self::RelatedUntracked,
        Self::Connection,
        Self::NoRule,
        Self::Untracked,
        Self::UntrackedReply,
        Self::Strict,
        Self::Reset,
        Self::OneWayIcmp,
        Self::Closed,
        Self::ConntrackFull,
        Self::Opened,
    ];
}

impl fmt::Display for Step {
    /// Why the packet got its verdict, as the end of "It passes, because ...".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownEni => "there is no such ENI",
            Self::Arp => "ARP is never filtered",
            Self::ForeignArp => "it is ARP for an address that is not the ENI's",
            Self::Malformed => "its headers contradict each other",
            Self::ImdsBlocked => "the ENI blocks instance metadata",
            Self::NeighbourDiscovery => "neighbour discovery is never filtered",
            Self::ForeignNeighbour => {
                "it is neighbour discovery for an address that is not the ENI's"
            }
            Self::Dhcp => "DHCP is never filtered",
            Self::Imds => "instance metadata is never filtered",
            Self::Service => "link-local services are never filtered",
            Self::Router => "the subnet's router is never filtered",
            Self::Resolver => "the VPC's resolver is never filtered",
            Self::FragmentFollows => "the datagram's first fragment was decided so",
            Self::FragmentAllowed => "a rule allows the peer whatever the port",
            Self::FragmentOrphan => {
                "the datagram's first fragment is not known, and no rule allows the peer whatever the port"
            }
            Self::SourceDestCheck => "the local address is not the ENI's",
            Self::Related => "it is an error about a packet of a live connection",
            Self::RelatedUntracked => "it is an error about a packet of an untracked flow",
            Self::Connection => "it belongs to a live connection",
            Self::NoRule => "no rule of any group allows it",
            Self::Untracked => "a rule allows it; its flow is untracked",
            Self::UntrackedReply => "it is the reply half of an untracked flow that a rule allows",
            Self::Strict => "a rule allows it, but a TCP flow must open with a SYN",
            Self::Reset => "a rule allows it; RST opens no connection",
            Self::OneWayIcmp => "a rule allows it; it is no ICMP request, so opens no connection",
            Self::Closed => "a rule allows it; its connection is closed",
            Self::ConntrackFull => "a rule allows it, but there is no room for a connection",
            Self::Opened => "a rule allows it; it opens a connection",
        })
    }
}
