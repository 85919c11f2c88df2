//! Scenarios of security groups: rules, then packets with times, and what becomes of each.
//!
//! A scenario is a value of the golden format. Whoever can judge packets runs it: a
//! [`Judge`](runner::Judge). The modules stand in the order in which a scenario meets them.

pub mod format;

pub mod packet_format;

pub mod setting;

pub mod packets;

pub mod runner;

pub mod oracle;

pub mod data_plane;

pub mod random;
