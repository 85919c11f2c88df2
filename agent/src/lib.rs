//! branchline: gives every task of a Linux host its own network identity.
//!
//! Modules stand in the order in which a task's network is built.
#![forbid(unsafe_code)]

pub mod fabric;
pub mod link;
pub mod nat;
pub mod netlink;
pub mod netns;
pub mod route;
pub mod sysctl;
pub mod task_network;
pub mod tc;
