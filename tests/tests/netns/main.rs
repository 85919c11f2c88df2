//! Tier netns: real links, sockets and programs in throw-away namespaces.
//!
//! Needs root, the Python environment of tier interop for an S3 server, and a mount namespace with a /run of its own. Every test has
//! namespaces of its own and leaves nothing.
#![expect(clippy::unwrap_used, reason = "tests")]

mod care;
mod churn;
mod cni;
mod ec2;
mod ec2_certificates;
mod ec2_eni;
mod ec2_eni_faults;
mod ec2_faults;
mod ec2_ground;
mod ec2_groups;
mod ec2_load;
mod ec2_networks;
mod ec2_orphans;
mod ec2_pool;
mod edges;
mod edges_fabric;
mod edges_filters;
mod faults;
mod first_packet;
mod flow_logs;
mod flowlog;
mod flows;
mod ground;
mod isolation;
mod isolation_reach;
mod kills;
mod lifecycle;
mod live;
mod loss;
mod metrics;
mod openapi;
mod policies;
mod restart;
mod restart_many;
mod rows;
mod security_groups;
mod service;
mod services;
mod spoof;
mod task_groups;
mod traffic;
mod upgrade;
mod upload;
mod vm;
