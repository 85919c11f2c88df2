//! Instances and their types.

use jiff::Timestamp;

use super::Tags;

/// Whether an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "EC2's words")]
pub enum InstanceState {
    Pending,
    Running,
    Stopped,
    Terminated,
}

impl InstanceState {
    /// Its code and name.
    pub(crate) fn shown(self) -> (u16, &'static str) {
        match self {
            Self::Pending => (0, "pending"),
            Self::Running => (16, "running"),
            Self::Stopped => (80, "stopped"),
            Self::Terminated => (48, "terminated"),
        }
    }
}

/// An instance.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "EC2's words")]
pub struct Instance {
    pub instance_id: String,
    pub instance_type: String,
    pub subnet_id: String,
    pub vpc_id: String,
    pub availability_zone: String,
    pub state: InstanceState,
    pub launch_time: Timestamp,
    pub tags: Tags,
    pub(crate) reservation_id: String,
}

/// What an instance of a type may have.
#[derive(Debug, Clone)]
pub struct InstanceType {
    /// As `c5.large`.
    pub name: String,
    /// ENIs of each network card.
    pub network_cards: Vec<i64>,
    /// IPv4 and IPv6 addresses of an ENI.
    pub addresses_per_interface: usize,
    /// Branches of a trunk; `None` where there is no trunking.
    pub branches: Option<usize>,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// Seconds until an idle established TCP connection is forgotten, unless the ENI says otherwise.
    pub tcp_established_timeout: i64,
}

impl InstanceType {
    /// A type with one network card.
    #[must_use]
    pub fn new(name: &str, interfaces: i64, addresses: usize, branches: Option<usize>) -> Self {
        Self {
            name: name.to_owned(),
            network_cards: vec![interfaces],
            addresses_per_interface: addresses,
            branches,
            architecture: "x86_64".to_owned(),
            tcp_established_timeout: 432_000,
        }
    }

    /// ENIs of all network cards.
    #[must_use]
    pub fn maximum_network_interfaces(&self) -> i64 {
        self.network_cards.iter().sum()
    }
}

/// A few of each sort: with and without trunking, with more than one network card, for ARM.
pub(crate) fn known() -> [InstanceType; 8] {
    let new = InstanceType::new;
    [
        new("t3.medium", 3, 6, None),
        new("c5.large", 3, 10, Some(10)),
        new("c5.xlarge", 4, 15, Some(20)),
        new("m5.large", 3, 10, Some(10)),
        new("m5.2xlarge", 4, 15, Some(40)),
        new("m5.16xlarge", 15, 50, Some(120)),
        InstanceType {
            architecture: "arm64".to_owned(),
            ..new("m6g.medium", 2, 4, Some(4))
        },
        InstanceType {
            network_cards: vec![15; 4],
            ..new("p4d.24xlarge", 60, 50, Some(120))
        },
    ]
}
