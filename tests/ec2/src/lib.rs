//! A strict stand-in for EC2 and for instance metadata, for tests of whatever talks to them.
//!
//! It speaks EC2's query protocol (API version 2016-11-15) over real sockets, checks every parameter, keeps state,
//! and does what it is told: waits, throttles, fails, loses answers, answers from an older state. It never talks to
//! anybody, and knows nothing of the agent.
//!
//! A request's way: `server` → `exchange` → `protocol` → `operations` → `state` → `answer`.
//!
//! ```
//! use std::net::TcpListener;
//! use branchline_ec2_stand_in::{Ec2, Fault, Imds, Which, World};
//!
//! let mut world = World::new("eu-west-1");
//! let vpc = world.vpc("10.0.0.0/16", Some("2001:db8::/56"));
//! let subnet = world.subnet(&vpc, "eu-west-1a", Some("10.0.1.0/24"), Some("2001:db8:0:1::/64"));
//! let instance = world.instance(&subnet, "c5.large");
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let ec2 = Ec2::start(world, [listener])?;
//! let imds = Imds::start(&ec2, &instance, [TcpListener::bind("127.0.0.1:0")?])?;
//! ec2.fault(Which::of("AssociateTrunkInterface").nth(2), Fault::LoseAnswer);
//! assert_eq!(ec2.state().network_interfaces.len(), 1);
//! # std::io::Result::Ok(())
//! ```

mod answer;
mod buckets;
mod call;
mod credentials;
mod ec2;
mod error;
mod exchange;
mod faults;
mod filter;
mod history;
mod id;
mod imds;
mod operations;
mod paging;
mod protocol;
mod server;
mod state;
#[cfg(test)]
mod testing;
mod token;
mod world;

pub use crate::buckets::{Rate, Throttle};
pub use crate::call::{Call, Outcome};
pub use crate::credentials::Credentials;
pub use crate::ec2::Ec2;
pub use crate::error::Ec2Error;
pub use crate::faults::{Fault, Which};
pub use crate::imds::Imds;
pub use crate::operations::parameter_names;
pub use crate::state::{
    Attachment, AttachmentStatus, ConnectionTracking, DhcpOptions, Entry, Event, Instance,
    InstanceState, InstanceType, InterfaceType, NetworkInterface, PrefixList, Route, RouteTable,
    RouteTarget, SecurityGroup, SecurityGroupRule, Settings, State, Subnet, Tags, Target,
    TrunkAssociation, Vpc,
};
pub use crate::world::World;
