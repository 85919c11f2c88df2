//! What the bench tells its kernel program `prepare`, which makes each round of a test run a fresh
//! frame: another flow, the tag of the direction measured.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{conntrack::Connection, flow::FlowKey, headers::ethernet};

/// Low bits of a flow's number that go into its port; the rest goes into the address.
pub const PORT_BITS: u32 = 14;

/// Words of a key of `lookup`, as many bytes as a flow's key has.
pub const KEY_WORDS: usize = size_of::<FlowKey>() / 8;

/// Words of a value of `lookup`, as many bytes as a connection has.
pub const VALUE_WORDS: usize = size_of::<Connection>() / 8;

/// The two bits above [`PORT_BITS`] in every flow's port.
pub const PORT_BASE: u16 = 0x4000;

/// How `prepare` changes the frame before it hands it to the program measured.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Preparation {
    /// Bits of [`preparation`].
    pub flags: u32,
    /// Number of flows, from which each round takes one.
    pub flows: u32,
    /// With `SEQUENCE` the next flow, else the state of the random numbers, not 0.
    pub state: u32,
    /// Offset in the frame of the last two bytes of the address that tells flows apart.
    pub address_at: u32,
    /// Offset in the frame of the port that tells flows apart.
    pub port_at: u32,
    /// The tag that `PUSH` puts on.
    pub vlan: u16,
    /// The frame's destination, which the program measured may have changed.
    pub destination: [u8; ethernet::MAC_LEN],
    /// The flow of the frame that was made last.
    pub flow: u32,
}

/// Bits of [`Preparation::flags`].
pub mod preparation {
    /// Take the flows one after the other, not at random.
    pub const SEQUENCE: u32 = 1;
    /// Take off the tag that the program measured has put on.
    pub const POP: u32 = 2;
    /// Put on the tag that the program measured takes off.
    pub const PUSH: u32 = 4;
}
