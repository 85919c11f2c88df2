//! Security groups: what they are, how they are written, and what a change of them means. Pure.
//!
//! A file (`file`) or AWS's own output (`aws`) is applied to a [`Directory`] by `change`; `policy` makes map entries
//! of the directory and of the groups' [`Members`]. Nothing here reads a file, a map or a clock.

mod rule;

mod directory;

mod members;

mod default_group;

mod applied;

pub mod file;

pub mod network_interface;

mod group_table;

mod prefix_list_table;

pub mod ip_permission;

pub mod rule_table;

mod protocol_ports;

mod peer;

pub mod aws;

pub mod change;

pub mod diff;

pub mod quotas;

#[cfg(test)]
pub(crate) mod random;

pub use applied::Applied;
pub use default_group::DEFAULT_GROUP_ID;
pub use directory::{
    DEFAULT_GROUP_NAME, Directory, PrefixList, PrefixListEntry, SecurityGroup, UnresolvedReason,
    UnresolvedReference,
};
pub use group_table::OwnVpc;
pub use members::{Member, MemberChange, Members};
pub use rule::{GroupReference, Peer, PortRange, Protocol, SecurityGroupRule};
