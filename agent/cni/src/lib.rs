//! The CNI plugin (CNI specification 1.1 and all before): a thin client of the agent.
//!
//! Modules stand in the order of a call's path: what the runtime says, what the agent is asked, what it answers, what
//! the runtime is told. All of it is functions from values to values; only `http` and the program itself do I/O. The
//! plugin keeps nothing on disk and never touches a link.
#![forbid(unsafe_code)]

pub mod environment;

pub mod version;

pub mod configuration;

pub mod task;

pub mod api;

pub mod http;

pub mod result;

pub mod check;

pub mod error;

pub mod run;
