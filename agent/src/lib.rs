//! branchline: gives every task of a Linux host its own network identity.
//!
//! Modules stand in the order of a task's path, not alphabetically: a request, what a task is
//! given, how its network is built, how its packets are judged and recorded, what remains.
#![forbid(unsafe_code)]

pub mod cli;

pub mod doctor;

pub mod agent;

pub mod server;

pub mod api;

pub mod spec;

pub mod link_name;

pub mod cni_attachment;

pub mod ecs_request;

pub mod ecs_task;

pub mod system_controls;

pub mod connection_tracking;

pub mod eni_settings;

pub mod life;

pub mod task_record;

pub mod dns;

pub mod task_files;

pub mod progress;

pub mod fault;

pub mod task;

pub mod capacity;

pub mod task_check;

pub mod task_mend;

pub mod changes;

pub mod pace;

pub mod provider;

pub mod prefix_map;

pub(crate) mod random;

pub mod netns;
pub mod netns_number;

pub mod spare_netns;

pub mod netlink;

pub mod ipv4_conf;

pub(crate) mod ipv6_conf;

pub mod link;

pub mod link_news;

pub mod route;

pub mod neighbour;

pub mod sysctl;

pub mod task_network;

pub(crate) mod standing_veth;

pub mod fabric;

pub mod services;

pub mod task_metadata;

pub mod resolver;

pub mod nat;

pub mod tc;

pub mod plug;

pub mod slots;

pub mod policies;

pub mod settling;

pub mod datapath;

pub mod security_groups;

pub mod policy;

pub mod explain;

pub mod flows;

pub mod delivery;

pub mod flow_log;

pub mod upload;

pub mod wire;

pub mod eni_link;

pub mod live;

pub mod metrics;

pub mod service;

pub mod state;

pub mod free_space;

pub mod config;

pub mod field_error;

pub mod address;

#[cfg(test)]
mod test_dir;

#[cfg(test)]
mod test_fuse;
