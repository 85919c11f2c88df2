//! `cargo xtask`: builds, tests, demonstrates and measures branchline.
#![forbid(unsafe_code)]
fn main() {}
