//! A flow record and its line in the default format of VPC Flow Logs, version 2.
//!
//! Pure. Never knows where a record comes from or where its line goes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use branchline_common::verdict::{Direction, DropReason};
use serde::{Deserialize, Serialize};

use super::interface::Interface;
use super::ledger::Window;

/// Names of the default format's fields, in order: the first line of a file.
pub(super) const HEADER: &str = "version account-id interface-id srcaddr dstaddr srcport dstport protocol \
                          packets bytes start end action log-status";

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
}

impl FlowTuple {
    /// The tuple without what VPC Flow Logs do not tell records apart by. Records of one standard
    /// tuple are one record in a log that shows none of the fields left out.
    #[must_use]
    pub fn standard(self) -> Self {
        Self {
            rule: None,
            drop_reason: None,
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

/// One record with its ENI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowRecord<'a> {
    /// The ENI.
    pub interface: &'a Interface,
    /// Which packets.
    pub tuple: &'a FlowTuple,
    /// How many.
    pub counts: &'a FlowCounts,
}

/// One line of a file; `Display` prints it without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// Packets were counted.
    Ok(FlowRecord<'a>),
    /// The ENI had no traffic to log in the whole interval.
    NoData(&'a Interface, Window),
    /// Some of the ENI's packets are in no record.
    SkipData(&'a Interface, Window),
}

/// The lines of one interval, sorted by start and ENI.
pub(super) fn lines(reports: &[Report], window: Window) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for report in reports {
        let interface = &report.interface;
        lines.extend(report.flows.iter().map(|(tuple, counts)| {
            Line::Ok(FlowRecord {
                interface,
                tuple,
                counts,
            })
        }));
        if report.skipped_packets > 0 {
            lines.push(Line::SkipData(interface, window));
        } else if report.flows.is_empty() && report.is_whole {
            lines.push(Line::NoData(interface, window));
        }
    }
    lines.sort_by_key(|line| {
        (
            line.start(),
            line.interface().interface_id.as_str(),
            line.tuple(),
        )
    });
    lines
}

impl<'a> Line<'a> {
    fn start(&self) -> u64 {
        match self {
            Self::Ok(record) => record.counts.start(),
            Self::NoData(_, window) | Self::SkipData(_, window) => window.start,
        }
    }

    fn interface(&self) -> &'a Interface {
        match self {
            Self::Ok(record) => record.interface,
            Self::NoData(interface, _) | Self::SkipData(interface, _) => interface,
        }
    }

    fn tuple(&self) -> Option<&'a FlowTuple> {
        match self {
            Self::Ok(record) => Some(record.tuple),
            Self::NoData(..) | Self::SkipData(..) => None,
        }
    }
}

impl FlowRecord<'_> {
    /// Source and destination as the line has them: an IPv4 address on the ENI's own side is always
    /// its primary one.
    pub fn addresses(&self) -> (IpAddr, IpAddr) {
        let own = |address: IpAddr| match (address, self.interface.primary_ipv4) {
            (IpAddr::V4(_), Some(primary)) => primary.into(),
            _ => address,
        };
        let (src, dst) = (self.tuple.src, self.tuple.dst);
        match self.tuple.direction {
            Direction::Ingress => (src, own(dst)),
            Direction::Egress => (own(src), dst),
        }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Interface {
            account_id,
            interface_id,
            ..
        } = self.interface();
        write!(f, "2 {account_id} {interface_id} ")?;
        match self {
            Self::Ok(record) => record.fmt_counted(f),
            Self::NoData(_, window) => write!(f, "{} NODATA", Uncounted(*window)),
            Self::SkipData(_, window) => write!(f, "{} SKIPDATA", Uncounted(*window)),
        }
    }
}

impl FlowRecord<'_> {
    fn fmt_counted(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (src, dst) = self.addresses();
        let (tuple, counts) = (self.tuple, self.counts);
        write!(
            f,
            "{src} {dst} {} {} {} {} {} {} {} {} OK",
            tuple.src_port,
            tuple.dst_port,
            tuple.protocol,
            counts.packets,
            counts.bytes,
            counts.start(),
            counts.end(),
            match tuple.action {
                // The format knows no third word, and they did pass.
                Action::Accept | Action::Audit => "ACCEPT",
                Action::Reject => "REJECT",
            }
        )
    }
}

/// The fields from `srcaddr` to `action` of a line that counts nothing.
struct Uncounted(Window);

impl fmt::Display for Uncounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "- - - - - - - {} {} -", self.0.start, self.0.last())
    }
}

/// [`Direction`] in the store.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Direction", rename_all = "lowercase")]
enum DirectionName {
    Ingress,
    Egress,
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
