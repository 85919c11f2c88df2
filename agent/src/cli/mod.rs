//! tmp
pub mod client;
