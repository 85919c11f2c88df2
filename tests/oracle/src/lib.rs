//! The oracle of security groups: `spec/security-groups.md`, written as plainly as possible.
//!
//! It is there to be read beside the specification, paragraph by paragraph, and to say what the fast
//! code has to say: the tests ask both, and `branchline explain` asks it which rule decided. So it
//! scans lists where the fast code looks up tables, and shares no code with it. It does no I/O, has
//! no clock, and never panics.
//!
//! Section numbers (`§`) are those of the specification. Where the oracle decides otherwise or more,
//! the place says `[OWN]` and why. The modules stand in the order of the sections.
#![forbid(unsafe_code)]
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::arithmetic_side_effects
)]

pub mod packet;

pub mod group;

pub mod environment;

pub mod exempt;

pub mod judgement;

mod rules;

pub mod connection;

pub mod sequence;

pub mod world;

mod evaluation;

mod fragments;

#[cfg(test)]
mod tests;

pub use connection::{Connection, Ends, Key, State};
pub use environment::{Eni, Environment, Timers};
pub use group::{IpPermission, Malformed, SecurityGroup};
pub use judgement::{Judgement, Peer, RuleMatch, Step, Verdict};
pub use packet::{Arp, Direction, Fragment, Icmp, Ip, Packet, Tcp, Transport};
pub use world::World;
