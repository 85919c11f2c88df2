//! A task's link as the API says it, and what of it differs from that. Plain values.

use serde::{Deserialize, Serialize};

use super::TaskDescription;
use crate::link::Mac;
use crate::task_network::TaskNetwork;

/// The task's end of its veth, as the agent configures it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInterface {
    /// Its name in the task's namespace.
    pub link_name: String,
    /// The ENI's MAC address.
    pub mac_address: String,
    /// Bytes.
    pub mtu: u32,
    /// The ENI's addresses, IPv4 first.
    pub addresses: Vec<InterfaceAddress>,
    /// The subnet of its addresses.
    pub subnet_id: String,
    /// The subnet's VPC.
    pub vpc_id: String,
}

/// An address of a link and the router of its default route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InterfaceAddress {
    /// With its subnet's prefix length, as `10.0.1.4/24`.
    pub address: String,
    /// As `10.0.1.1`.
    pub router: String,
}

/// A task's network compared with what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TaskCheck {
    /// The task.
    pub task: TaskDescription,
    /// What is missing or different; empty if all is as it should be.
    pub differences: Vec<Difference>,
}

/// A part of a task's network.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkPart {
    /// Its namespace.
    Namespace,
    /// The host's end of its veth.
    HostLink,
    /// The link of its ENI, if that has one of its own.
    EniLink,
    /// The program on that end.
    Program,
    /// Its ENI in the data plane.
    DataPlane,
    /// `lo` in its namespace.
    Loopback,
    /// Its end of the veth.
    Link,
    /// That end's MAC address.
    MacAddress,
    /// That end's MTU.
    Mtu,
    /// Its addresses.
    Address,
    /// Its default routes.
    Route,
    /// The router as its neighbour.
    Neighbour,
    /// What the host's services need to answer it.
    Services,
    /// Its `hostname`, `hosts` and `resolv.conf`.
    Files,
}

impl NetworkPart {
    /// As in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::HostLink => "host-link",
            Self::EniLink => "eni-link",
            Self::Program => "program",
            Self::DataPlane => "data-plane",
            Self::Loopback => "loopback",
            Self::Link => "link",
            Self::MacAddress => "mac-address",
            Self::Mtu => "mtu",
            Self::Address => "address",
            Self::Route => "route",
            Self::Neighbour => "neighbour",
            Self::Services => "services",
            Self::Files => "files",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// What part of a task's network it is of.
    pub part: NetworkPart,
    /// As `eth0 MAC address`.
    pub what: String,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub found: String,
}

impl NetworkInterface {
    /// Shows `network`, which is in `subnet_id` of `vpc_id`.
    pub(super) fn of(network: &TaskNetwork, subnet_id: &str, vpc_id: &str) -> Self {
        let Mac(mac) = network.mac;
        let addresses = network
            .addresses()
            .map(|(address, router)| InterfaceAddress {
                address: address.to_string(),
                router: router.to_string(),
            });
        Self {
            link_name: network.link.clone(),
            mac_address: Mac(mac).to_string(),
            mtu: network.mtu,
            addresses: addresses.collect(),
            subnet_id: subnet_id.to_owned(),
            vpc_id: vpc_id.to_owned(),
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            what,
            expected,
            found,
            ..
        } = self;
        write!(out, "{what}: expected {expected}, found {found}")
    }
}
