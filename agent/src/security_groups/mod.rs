//! Security groups: what they are, how they are written, and what a change of them means. Pure.
//!
//! A file (`file`) or AWS's own output (`aws`) becomes a [`Directory`] by way of `change`; `policy` makes map
//! entries of the directory and of the groups' [`Members`]. Nothing here reads a file, a map or a clock.

mod rule;

mod directory;

mod members;

pub mod ip_permission;

pub mod file;

pub use directory::{
    DEFAULT_GROUP_NAME, Directory, PrefixList, PrefixListEntry, SecurityGroup, UnresolvedReason,
    UnresolvedReference,
};
pub use members::{MemberChange, Members};
pub use rule::{GroupReference, Peer, PortRange, Protocol, SecurityGroupRule};
