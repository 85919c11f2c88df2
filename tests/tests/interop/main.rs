//! Tier interop: parts of the agent against servers and readers that others wrote, on loopback.
//!
//! Needs the Python environment that `cargo xtask setup interop` makes, and no privilege.
#![expect(clippy::unwrap_used, reason = "tests")]

mod ec2;
mod upload;
