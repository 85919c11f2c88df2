//! A flow record and its line in the default format of VPC Flow Logs, version 2.
//!
//! Pure. Never knows where a record comes from or where its line goes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use branchline_common::verdict::Direction;
use serde::{Deserialize, Serialize};

use super::ledger::Window;

/// Names of the default format's fields, in order: the first line of a file.
pub(super) const HEADER: &str = "version account-id interface-id srcaddr dstaddr srcport dstport protocol \
                          packets bytes start end action log-status";

/// The ENI of a record, as its line names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Account number, 12 digits.
    pub account_id: String,
    /// As `eni-0123456789abcdef0`.
    pub interface_id: String,
    /// Primary private IPv4 address, which stands for every IPv4 address on the ENI's own side.
    pub primary_ipv4: Option<Ipv4Addr>,
}

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

/// What tells a record from the others of its ENI and interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
}

/// What a record counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCounts {
    /// Packets on the wire.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
    /// Unix second of the first packet.
    pub start: u64,
    /// Unix second of the last packet, not before `start`.
    pub end: u64,
}

impl FlowCounts {
    /// Takes in `other`, which counts the same tuple elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.start = self.start.min(other.start);
        self.end = self.end.max(other.end);
    }
}

/// All that one interval's file says of one ENI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The ENI.
    pub interface: Interface,
    /// Id of the task that has the ENI, where it is known. Reports of older agents have none.
    #[serde(default)]
    pub task_id: Option<String>,
    /// Its flows, each tuple once.
    pub flows: Vec<(FlowTuple, FlowCounts)>,
    /// Whether packets could not be counted, because the table of rows was full.
    pub is_skipped: bool,
    /// Whether the ENI existed from the interval's start to its end.
    pub is_whole: bool,
}

/// One record with its ENI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowRecord<'a> {
    /// The ENI.
    pub interface: &'a Interface,
    /// Which packets.
    pub tuple: FlowTuple,
    /// How many.
    pub counts: FlowCounts,
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
                tuple: *tuple,
                counts: *counts,
            })
        }));
        if report.is_skipped {
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
            Self::Ok(record) => record.counts.start,
            Self::NoData(_, window) | Self::SkipData(_, window) => window.start,
        }
    }

    fn interface(&self) -> &'a Interface {
        match self {
            Self::Ok(record) => record.interface,
            Self::NoData(interface, _) | Self::SkipData(interface, _) => interface,
        }
    }

    fn tuple(&self) -> Option<FlowTuple> {
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
        let FlowTuple { src, dst, .. } = self.tuple;
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
        let (tuple, counts) = (&self.tuple, &self.counts);
        write!(
            f,
            "{src} {dst} {} {} {} {} {} {} {} {} OK",
            tuple.src_port,
            tuple.dst_port,
            tuple.protocol,
            counts.packets,
            counts.bytes,
            counts.start,
            counts.end,
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
