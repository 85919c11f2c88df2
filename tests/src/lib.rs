//! Harness of the tests: frames, the table of cases that two tiers share, and worlds to run it in.
//!
//! The modules stand in the order in which a case is read.
#![forbid(unsafe_code)]

pub mod packet;

pub mod frame;

pub mod rules;

pub mod case;

pub mod world;

pub mod table;

pub mod pure;

pub mod random;
