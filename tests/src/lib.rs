//! Harness of the end-to-end tests and of the demo.
//!
//! Modules stand in the order in which a test meets them. Asserts nothing about branchline.
#![forbid(unsafe_code)]

pub mod settings;

pub mod host;

pub mod task;

pub mod outside;

pub mod talk;

pub mod packet;

pub mod frame;

pub mod wire;

pub mod flow_row;

pub mod traces;
