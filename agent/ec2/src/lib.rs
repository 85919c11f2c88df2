//! EC2 as branchline uses it: plain data in, plain data out, with patience and restraint.
//!
//! One method of [`Ec2`] is one call of the API, or one for each page; equal questions of the same moment share one. A
//! call waits for its turn in a token bucket
//! like EC2's own, is sent again where a second one does no harm, and is given up at a deadline. What the calls are
//! for is the business of the agent's provider; nothing here decides about an ENI.
//!
//! A crate of its own because the SDK's types stay in here, and with them most of the time that compiling them takes.
#![forbid(unsafe_code)]

mod call;
mod error;
mod gather;
mod groups;
mod identity;
mod interfaces;
mod model;
mod patience;
mod permissions;
mod read;
mod restraint;
mod roots;
mod settings;
mod shared;
mod token;
mod vpc;

pub use call::{Ec2, Observer};
pub use error::{Class, Error};
pub use groups::FILTER_VALUES;
pub use identity::{Identity, IdentityError, Known};
pub use model::*;
pub use patience::{back_off, pause};
pub use permissions::{Permission, Subjects};
pub use restraint::{Kind, Restraint};
pub use roots::{NoRoots, root_certificates};
pub use settings::Settings;
pub use token::client_token;
