//! Harness of the tests and of the demo: packets, the table of cases that two tiers share and worlds
//! to run it in, and a host under test with its agent and tasks.
//!
//! The modules stand in the order in which a case, then a test, meets them. Nothing here asserts
//! anything about branchline.
#![forbid(unsafe_code)]

pub mod packet;

pub mod frame;

pub mod rules;

pub mod case;

pub mod world;

pub mod table;

pub mod pure;

pub mod loaded;

pub mod random;

pub mod scenario;

pub mod flow_log;

pub mod awsvpc;

pub mod settings;

pub mod api_client;

pub mod host;

pub mod service;

pub mod task;

pub mod cni;

pub mod outside;

pub mod talk;

pub mod wire;

pub mod eni_links;

pub mod flow_row;

pub mod s3_server;

pub mod traces;
