//! branchline: per-task network identity, security groups and flow logs for Linux hosts.
//!
//! Modules stand in the order of a task's path, not alphabetically: requests, what a task is given, what remains.
#![forbid(unsafe_code)]

pub mod cli;

pub mod doctor;

pub mod server;

pub mod api;

pub mod spec;

pub mod provider;

pub mod security_group;

pub mod ip_permission;

pub mod state;

pub mod config;

pub mod field_error;

#[cfg(test)]
mod test_dir;
