//! branchline: per-task network identity, security groups and flow logs for Linux hosts.
//!
//! Modules stand in the order of the two paths: a task's way in, then what it is built on.
#![forbid(unsafe_code)]

pub mod config;
pub mod field_error;
pub mod ip_permission;
pub mod provider;
pub mod security_group;
#[cfg(test)]
mod test_dir;
