//! A flow record: what tells it from others, and what it counts.
//!
//! Pure. Never knows where a record comes from, nor how a row shows it.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use branchline_common::verdict::{self, Direction, DropReason, Service};
use serde::{Deserialize, Serialize};

use super::interface::Interface;
use crate::provider::RouteTables;

/// Whether the packets of a record passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// They passed.
    Accept,
    /// They did not.
    Reject,
    /// They passed because a group is in audit mode; otherwise they would not have.
    Audit,
}

impl From<verdict::Action> for Action {
    fn from(action: verdict::Action) -> Self {
        match action {
            verdict::Action::Accepted => Self::Accept,
            verdict::Action::Rejected => Self::Reject,
            verdict::Action::Audited => Self::Audit,
        }
    }
}

/// The rule that let the packets of a record pass. A clone shares the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule(Arc<RuleIds>);

/// Ids of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct RuleIds {
    group_id: String,
    rule_id: String,
}

impl Rule {
    /// The rule `rule_id` of the group `group_id`.
    #[must_use]
    pub fn new(group_id: impl Into<String>, rule_id: impl Into<String>) -> Self {
        Self(Arc::new(RuleIds {
            group_id: group_id.into(),
            rule_id: rule_id.into(),
        }))
    }

    /// As `sg-web`.
    #[must_use]
    pub fn group_id(&self) -> &str {
        &self.0.group_id
    }

    /// As `sgr-0123456789abcdef0`.
    #[must_use]
    pub fn rule_id(&self) -> &str {
        &self.0.rule_id
    }
}

impl Hash for Rule {
    /// Nothing: packets of one tuple pass by one rule but for the moment in which rules change, so
    /// its text would cost more than it tells apart.
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What tells a record from the others of its ENI and interval.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlowTuple {
    /// As the ENI sees it.
    #[serde(with = "DirectionName")]
    pub direction: Direction,
    /// Source address in the packet.
    pub src: IpAddr,
    /// Destination address in the packet.
    pub dst: IpAddr,
    /// 0 where the protocol has no ports.
    pub src_port: u16,
    /// 0 where the protocol has no ports.
    pub dst_port: u16,
    /// IANA number.
    pub protocol: u8,
    /// Whether the packets passed.
    pub action: Action,
    /// Which way they leave the VPC or stay in it, of egress packets: 1 to 8 as the field
    /// `traffic-path` has it; `None` if no route says.
    pub traffic_path: Option<u8>,
    /// The rule that let them pass, if it is known. Not of VPC Flow Logs: see
    /// [`FlowTuple::standard`].
    pub rule: Option<Rule>,
    /// Why they did not pass, if it is known. Not of VPC Flow Logs either.
    pub drop_reason: Option<DropReason>,
    /// The service of the VPC that they passed unfiltered for. Only logs that include it have the
    /// record, which shows it by its addresses.
    pub service: Option<Service>,
}

impl FlowTuple {
    /// The tuple without what VPC Flow Logs do not tell records apart by. Records of one standard
    /// tuple are one record in a log that shows none of the fields left out.
    #[must_use]
    pub fn standard(self) -> Self {
        Self {
            rule: None,
            drop_reason: None,
            service: None,
            ..self
        }
    }
}

/// What a record counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCounts {
    /// Packets on the wire.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
    /// All TCP flags seen, as [`FlagsSeen::bits`](branchline_common::account::FlagsSeen::bits) has
    /// them; 0 for other protocols.
    pub tcp_flags: u8,
    /// When the first packet came, in milliseconds since 1970; as exact as the kernel's clock
    /// ticks, 1 to 10.
    pub first_ms: u64,
    /// When the last packet came, not before the first.
    pub last_ms: u64,
}

impl FlowCounts {
    /// Takes in `other`, which counts the same tuple elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.tcp_flags |= other.tcp_flags;
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
    }

    /// Unix second of the first packet.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.first_ms / 1_000
    }

    /// Unix second of the last packet.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.last_ms / 1_000
    }
}

/// All that one interval's file says of one ENI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The ENI.
    pub interface: Arc<Interface>,
    /// Its flows, each tuple once.
    pub flows: Vec<(FlowTuple, FlowCounts)>,
    /// Packets that could not be counted, because the table of rows was full.
    pub skipped_packets: u64,
    /// Whether the ENI existed from the interval's start to its end.
    pub is_whole: bool,
}

impl Report {
    /// Notes which way the packets that leave the ENI go, by the routes of its subnet.
    pub fn route(&mut self, routes: &RouteTables) {
        let subnet_id = self.interface.subnet_id.as_deref();
        let flows = self.flows.iter_mut().map(|(tuple, _)| tuple);
        for tuple in flows.filter(|tuple| tuple.direction == Direction::Egress) {
            tuple.traffic_path = routes.traffic_path(subnet_id, tuple.dst);
        }
    }
}

/// [`Direction`] in the store.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Direction", rename_all = "lowercase")]
enum DirectionName {
    Ingress,
    Egress,
}
