//! Types and decisions that the agent, the kernel programs and the tests share.
//!
//! The modules stand in the order in which a packet meets them. Nothing here does I/O: the kernel
//! programs run these functions over BPF maps and packet memory, the tests over plain data.
#![no_std]

pub mod headers;

pub mod verdict;

pub mod flow;

pub mod parse;

pub mod link;

pub mod conntrack;

pub mod sequence;

pub mod exempt;

pub mod policy;

pub mod admission;

pub mod account;

pub mod pipeline;

pub mod fabric;

pub mod maps;

#[cfg(feature = "user")]
mod pod;

/// Tables in ordinary memory: the pipeline without a kernel, for tests and tools.
#[cfg(feature = "user")]
pub mod memory;

/// What the bench tells its own kernel program, which the agent's object does not hold.
#[cfg(feature = "bench")]
pub mod bench;
