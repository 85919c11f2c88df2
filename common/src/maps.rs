//! The maps that agent and kernel programs share: names, sizes, keys and values.
//!
//! Every value is plain bytes without hidden padding. A changed layout bumps [`LAYOUT_VERSION`],
//! and the agent refuses pinned maps of another version.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    conntrack::Timeouts,
    flow::{Address, halves},
    headers::ethernet,
    verdict::DropReason,
};

/// Version of every layout in this crate that a pinned map holds.
pub const LAYOUT_VERSION: u32 = 3;

/// Names of the maps, as the object file and the pins have them.
pub mod name {
    /// [`Control`](super::Control), one entry.
    pub const CONTROL: &str = "CONTROL";
    /// ENI slot to [`Eni`](super::Eni).
    pub const ENIS: &str = "ENIS";
    /// [`Endpoint`](super::Endpoint) to ENI slot.
    pub const ENDPOINTS: &str = "ENDPOINTS";
    /// Interface index of a branch's host side to ENI slot.
    pub const BRANCHES: &str = "BRANCHES";
    /// [`Endpoint::hint`](super::Endpoint::hint) to the slot of the ENI that may be there.
    pub const ENDPOINT_HINTS: &str = "ENDPOINT_HINTS";
    /// [`branch_hint`](super::branch_hint) to the slot of the ENI that may be there.
    pub const BRANCH_HINTS: &str = "BRANCH_HINTS";
    /// [`Address`](crate::flow::Address) to ENI slot.
    pub const ADDRESSES: &str = "ADDRESSES";
    /// Destination prefix to [`Route`](crate::fabric::Route).
    pub const ROUTES: &str = "ROUTES";
    /// Index to [`Policy`](crate::policy::Policy).
    pub const POLICIES: &str = "POLICIES";
    /// Index to [`Node`](crate::policy::Node).
    pub const NODES: &str = "NODES";
    /// Index to [`RuleSet`](crate::policy::RuleSet); 0 is the empty set.
    pub const RULE_SETS: &str = "RULE_SETS";
    /// Prefix of peers whose flows are always tracked.
    pub const AUTO_TRACK: &str = "AUTO_TRACK";
    /// ENI slot to the number of its connections, dead ones that are not swept yet among them.
    pub const TRACKED: &str = "TRACKED";
    /// [`FlowKey`](crate::flow::FlowKey) to [`Connection`](crate::conntrack::Connection).
    pub const CONNECTIONS: &str = "CONNECTIONS";
    /// [`FlowKey`](crate::flow::FlowKey) to [`Row`](super::Row).
    pub const ROWS: &str = "ROWS";
    /// [`FlowKey`](crate::flow::FlowKey) to [`FragmentFate`](super::FragmentFate).
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// ENI slot to [`Counters`](super::Counters), per CPU.
    pub const COUNTERS: &str = "COUNTERS";

    /// All of them, which are also all that is pinned.
    pub const ALL: [&str; 17] = [
        CONTROL,
        ENIS,
        ENDPOINTS,
        BRANCHES,
        ENDPOINT_HINTS,
        BRANCH_HINTS,
        ADDRESSES,
        ROUTES,
        POLICIES,
        NODES,
        RULE_SETS,
        AUTO_TRACK,
        TRACKED,
        CONNECTIONS,
        ROWS,
        FRAGMENTS,
        COUNTERS,
    ];
}

/// The MAC address of the link behind which this host's own services are, in their namespace.
pub const SERVICES_MAC: [u8; ethernet::MAC_LEN] = [0x02, b'b', b'l', b's', 0, 2];

/// Slots for ENIs; slot 0 is the VPC's router and is never given out.
pub const ENI_SLOTS: u32 = 4096;
/// Places for hints, a power of two. A hint spares the lookup in a hash map: whoever follows it
/// compares the ENI with what it looks for, and looks in the hash map if it is another.
pub const HINTS: u32 = 4096;
/// Connections that fit unless the agent's configuration says otherwise.
pub const CONNECTIONS: u32 = 262_144;
/// Rows of rejected and untracked packets that fit unless the configuration says otherwise.
pub const ROWS: u32 = 131_072;
/// First fragments that are remembered; the least recently used gives way.
pub const FRAGMENTS: u32 = 16_384;
/// Policies: one for each set of groups that an ENI has, twice, as a new one is made before the
/// old one goes. 0 is never given out and allows nothing.
pub const POLICIES: u32 = 2 * ENI_SLOTS;
/// Nodes of the trees of all policies, of 64 bytes each. 0 is never given out.
pub const NODES: u32 = 262_144;
/// Rule sets of all policies, of 128 bytes each. 0 is the empty one.
pub const RULE_SETS: u32 = 65_536;
/// Prefixes of peers whose flows are always tracked.
pub const AUTO_TRACK: u32 = 1_024;
/// Addresses of ENIs and routers in the VPC.
pub const ADDRESSES: u32 = 16_384;
/// Routes of the VPC.
pub const ROUTES: u32 = 1_024;

/// What the agent tells the programs, and the epoch of accounting.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Control {
    /// Number of the current aggregation interval, from 1 on; see [`account`](crate::account).
    pub epoch: u32,
    /// Bits of [`control`].
    pub flags: u32,
    /// Ticks for which the fate of a first fragment is remembered.
    pub fragment_ticks: u32,
    /// Ticks of the kernel's clock (`bpf_jiffies64`, low 32 bits) in one second.
    pub ticks_per_second: u32,
}

/// Bits of [`Control::flags`].
pub mod control {
    use crate::verdict::Service;

    /// Log every dropped packet.
    pub const LOG_DROPS: u32 = 1;
    /// Refuse TCP flows that do not start with a SYN.
    pub const TCP_STRICT: u32 = 2;
    /// There are peers whose flows are always tracked.
    pub const AUTO_TRACK: u32 = 4;
    /// The bits of every [`service`].
    pub const SERVICES: u32 =
        service(Service::Dns) | service(Service::Metadata) | service(Service::TimeSync);

    /// Count the packets of a service in rows of its own.
    #[must_use]
    #[inline(always)]
    pub const fn service(service: Service) -> u32 {
        AUTO_TRACK << service as u32
    }
}

/// An ENI as the programs see it.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Eni {
    /// Index of the trunk's link (or of the whole ENI's) in the host's namespace.
    pub trunk_ifindex: u32,
    /// Index of the branch's host side; 0 while the slot is free.
    pub branch_ifindex: u32,
    /// Index of the trunk's far end in the local VPC's namespace; 0 where the VPC is not local.
    pub fabric_ifindex: u32,
    /// Index of the policy that the ENI obeys. Changed by the program `switch_policy` only, which
    /// stores it whole.
    pub policy: u32,
    /// Bits of [`eni`].
    pub flags: u32,
    /// VLAN id on the trunk; 0 where the ENI has no trunk.
    pub vlan: u16,
    /// The ENI's MAC address.
    pub mac: [u8; ethernet::MAC_LEN],
    /// Primary IPv4 address, mapped; [`NO_ADDRESS`](crate::flow::NO_ADDRESS) if none.
    pub ipv4: Address,
    /// IPv6 address; [`NO_ADDRESS`](crate::flow::NO_ADDRESS) if none.
    pub ipv6: Address,
    /// The IPv6 link-local address that the task's kernel makes from the MAC address.
    pub link_local: Address,
    /// The subnet's router, IPv4, mapped.
    pub router_ipv4: Address,
    /// The subnet's router, IPv6.
    pub router_ipv6: Address,
    /// The VPC's resolvers, one for each IPv4 CIDR, mapped; unused ones are [`NO_ADDRESS`](crate::flow::NO_ADDRESS).
    pub resolvers: [Address; 4],
    /// Ticks without a packet after which an entry is dead, by state.
    pub timeouts: Timeouts,
    /// Connections that the ENI may have at most; 0 for no bound of its own.
    pub max_connections: u32,
    /// Index of the link to this host's own services; 0 where there are none.
    pub services_ifindex: u32,
    /// The IPv4 address from which a task without one asks for its metadata, mapped, and for nothing
    /// else; [`NO_ADDRESS`](crate::flow::NO_ADDRESS) if it has one of its own.
    pub metadata_source: Address,
}

/// Bits of [`Eni::flags`].
pub mod eni {
    /// Packets of foreign addresses are dropped (EC2's source/destination check).
    pub const SOURCE_DEST_CHECK: u32 = 1;
    /// Instance metadata is dropped.
    pub const BLOCK_IMDS: u32 = 2;
    /// This host answers what the ENI asks the VPC's resolvers.
    pub const HOSTED_DNS: u32 = 4;
}

impl Eni {
    /// Whether `address` is one of the ENI's own.
    #[must_use]
    #[inline(always)]
    pub const fn owns(&self, address: &Address) -> bool {
        is_same(address, &self.ipv4) || is_same(address, &self.ipv6)
    }

    /// Whether the ENI's flag `flag` (of [`eni`]) is set.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// Whether two addresses are the same and are an address at all.
#[must_use]
#[inline(always)]
pub const fn is_same(one: &Address, other: &Address) -> bool {
    let (a, b) = halves(one);
    let (c, d) = halves(other);
    a == c && b == d && a | b != 0
}

/// Where a frame on a trunk is for: 12 bytes, hashed raw.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Endpoint {
    /// Index of the trunk's link.
    pub trunk_ifindex: u32,
    /// VLAN id; 0 for untagged.
    pub vlan: u16,
    /// Destination MAC address; of every group address, the broadcast address.
    pub mac: [u8; ethernet::MAC_LEN],
}

impl Endpoint {
    /// The endpoint that a frame on `trunk_ifindex` is for.
    #[must_use]
    #[inline(always)]
    pub fn of(trunk_ifindex: u32, vlan: Option<u16>, mac: [u8; ethernet::MAC_LEN]) -> Self {
        let [first, ..] = mac;
        let [trunk, mut middle, mut low] = words(trunk_ifindex, vlan.unwrap_or(0), mac);
        if first & 1 != 0 {
            let broadcast: u32 = zerocopy::transmute!([0, u16::MAX]);
            middle |= broadcast;
            low = u32::MAX;
        }
        zerocopy::transmute!([trunk, middle, low])
    }

    /// The place of the hint for this endpoint; `None` for a group address, which has none. VLAN
    /// and MAC address both spread, as either may be the same for all ENIs of a trunk.
    #[must_use]
    #[inline(always)]
    pub const fn hint(&self) -> Option<u32> {
        let [_, middle, low]: [u32; 3] = zerocopy::transmute!(*self);
        let [vlan, mac]: [u16; 2] = zerocopy::transmute!(middle);
        let [first, _] = mac.to_ne_bytes();
        if first & 1 != 0 {
            return None;
        }
        let [_, last]: [u16; 2] = zerocopy::transmute!(low);
        Some((vlan ^ u16::from_be(last)) as u32 % HINTS)
    }

    /// Whether it is the ENI's own.
    #[must_use]
    #[inline(always)]
    pub const fn is_of(&self, eni: &Eni) -> bool {
        let [trunk, middle, low]: [u32; 3] = zerocopy::transmute!(*self);
        let own = words(eni.trunk_ifindex, eni.vlan, eni.mac);
        trunk == own[0] && middle == own[1] && low == own[2]
    }
}

/// An endpoint in words: the kernel's stack takes them aligned only, and single bytes are slow.
#[inline(always)]
const fn words(trunk_ifindex: u32, vlan: u16, mac: [u8; ethernet::MAC_LEN]) -> [u32; 3] {
    let [a, b, c, d, e, f] = mac;
    let middle: u32 = zerocopy::transmute!([vlan, u16::from_ne_bytes([a, b])]);
    [trunk_ifindex, middle, u32::from_ne_bytes([c, d, e, f])]
}

/// The place of the hint for a branch whose host side is the link `ifindex`.
#[must_use]
#[inline(always)]
pub const fn branch_hint(ifindex: u32) -> u32 {
    ifindex % HINTS
}

/// A row of packets that belong to no connection: rejected ones, and allowed ones that leave no
/// entry.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Row {
    /// Held by the kernel program where it changes more than a counter.
    pub lock: crate::conntrack::bpf_spin_lock,
    /// 1 from when the sweeper has decided to remove it: no packet may be counted any more.
    pub is_swept: u32,
    /// Traffic of the one direction that the key names.
    pub account: crate::account::Account,
}
const _: () = assert!(size_of::<Row>() == 72);

/// What became of a datagram's first fragment, and so becomes of the later ones.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FragmentFate {
    /// Ticks at which it was seen.
    pub seen: u32,
    /// `local_port` of the connection or row that counts it.
    pub local_port: u16,
    /// `remote_port` of the same.
    pub remote_port: u16,
    /// See [`fate`].
    pub fate: u32,
}

/// Values of [`FragmentFate::fate`]; any other is the number of a [`DropReason`].
pub mod fate {
    /// Allowed, counted with its connection.
    pub const TRACKED: u32 = 0xff;
    /// Allowed, counted in a row.
    pub const ALLOWED: u32 = 0xfe;
    /// Exempt.
    pub const EXEMPT: u32 = 0xfd;
    /// Allowed by audit mode, counted in a row.
    pub const AUDITED: u32 = 0xfc;
}

/// What the agent hands the program `sweep`, followed by that many [`FlowKey`]s.
///
/// [`FlowKey`]: crate::flow::FlowKey
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SweepRequest {
    /// Number of keys, at most [`SWEEP_KEYS`].
    pub keys: u32,
    /// The newest epoch whose records are safe in a file.
    pub written_epoch: u32,
    /// 1 to end the connections instead of removing dead ones: each is closed at once, unless it
    /// was opened under the policy that its ENI obeys now.
    pub is_end: u32,
    #[doc(hidden)]
    pub _zero: u32,
}

/// Most keys in one [`SweepRequest`]; with them it fits into the kernel's test packet.
pub const SWEEP_KEYS: usize = 64;

/// What the agent hands the program `switch_policy`, followed by that many ENI slots of 4 bytes.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SwitchRequest {
    /// Number of slots, at most [`SWITCH_SLOTS`].
    pub slots: u32,
    /// Index of the policy that they obey from now on.
    pub policy: u32,
    /// The kernel takes what lies here for the EtherType of its test packet.
    #[doc(hidden)]
    pub _zero: [u32; 2],
}

/// Most slots in one [`SwitchRequest`].
pub const SWITCH_SLOTS: usize = 256;

/// Room for [`DropReason`]s in [`Counters`]: a power of two, so that the program's index needs a
/// mask only.
pub const COUNTERS: usize = 32;
const _: () = assert!(DropReason::COUNT <= COUNTERS && COUNTERS.is_power_of_two());

/// What one CPU did with an ENI's packets, besides what the flow log counts.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Counters {
    /// Index 0: packets that passed as exempt. Others: packets dropped, by [`DropReason`].
    pub packets: [u64; COUNTERS],
    /// Packets that could not be entered into the flow log because its table was full.
    pub unlogged: u64,
    /// Packets that passed only because a group is in audit mode.
    pub audited: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_its_parts_and_every_group_address_is_the_broadcast_address() {
        let mac = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];
        let own = Endpoint {
            trunk_ifindex: 3,
            vlan: 0x0102,
            mac,
        };
        assert_eq!(Endpoint::of(3, Some(0x0102), mac), own);
        let group = Endpoint::of(3, None, [0x33, 0x33, 0, 0, 0, 1]);
        let broadcast = Endpoint {
            trunk_ifindex: 3,
            vlan: 0,
            mac: ethernet::BROADCAST,
        };
        assert_eq!(group, broadcast);
        assert_eq!(group.hint(), None);
        assert_eq!(own.hint(), Some((0x4455 ^ 0x0102) & 0xfff));
    }

    #[test]
    fn an_endpoint_is_an_enis_only_if_every_part_is() {
        let eni = Eni {
            trunk_ifindex: 3,
            vlan: 7,
            mac: [2, 1, 2, 3, 4, 5],
            ..Eni::default()
        };
        let own = Endpoint::of(3, Some(7), eni.mac);
        assert!(own.is_of(&eni));
        let others = [
            Endpoint {
                trunk_ifindex: 4,
                ..own
            },
            Endpoint { vlan: 8, ..own },
            Endpoint {
                mac: [0, 1, 2, 3, 4, 5],
                ..own
            },
            Endpoint {
                mac: [2, 1, 2, 3, 4, 6],
                ..own
            },
        ];
        for other in others {
            assert!(!other.is_of(&eni), "{other:?}");
        }
    }
}
