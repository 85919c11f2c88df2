//! A case of packets and lines, as its file writes it. It judges nothing.
//!
//! The field names are the format's. Beyond it there are `eni.interface` (what else is known of the
//! ENI, as a report has it), `tag_field_specifications`, `routes`, `peers`, `ip_ranges`, and of a
//! packet `frag`. A field that is not known is an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use branchline::flow_log::{TagFieldSpecification, TrafficType};
use branchline::flows::Interface;
use branchline_common::verdict::Direction;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::scenario::packet_format::{Flags, Frag, Protocol};

/// What happened at one ENI, and the lines that say so.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name in messages.
    pub id: String,
    /// What it is about.
    #[serde(default)]
    pub title: String,
    /// Why what is expected is right.
    #[serde(default)]
    pub why: String,
    /// The version that the format's fields come to.
    pub version: Option<u8>,
    /// Account number.
    pub account: String,
    /// The ENI.
    pub eni: Eni,
    /// Seconds of a window.
    pub interval: u64,
    /// Which records the log shows.
    #[serde(default)]
    pub traffic_type: TrafficType,
    /// Names of the fields.
    pub format: String,
    /// Keys of the tags among them.
    #[serde(default)]
    pub tag_field_specifications: Vec<TagFieldSpecification>,
    /// Starts of the windows for which NODATA and SKIPDATA are considered.
    #[serde(default)]
    pub windows: Vec<u64>,
    /// Starts of the windows that lost records.
    #[serde(default)]
    pub skipped_windows: Vec<u64>,
    /// The route table of the ENI's subnet: networks, and `local` or the id of what is next.
    #[serde(default)]
    pub routes: Vec<(IpNet, String)>,
    /// Other ENIs of the host, as reports have them.
    #[serde(default)]
    pub peers: Vec<Arc<Interface>>,
    /// AWS's `ip-ranges.json`.
    pub ip_ranges: Option<Value>,
    /// What the ENI saw.
    pub packets: Vec<Packet>,
    /// The log's lines, in any order.
    pub expect: Vec<String>,
}

/// An ENI.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eni {
    /// As `eni-0a`.
    pub id: String,
    /// Its IPv4 addresses, the primary one first.
    #[serde(default)]
    pub ipv4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses.
    #[serde(default)]
    pub ipv6: Vec<Ipv6Addr>,
    /// What else is known of it; id, account and address come from the fields above.
    #[serde(default)]
    pub interface: Interface,
}

/// A packet with what became of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packet {
    /// Unix second, or a part of one.
    pub t: f64,
    /// As the ENI sees it.
    pub dir: Direction,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Name or number.
    pub proto: Protocol,
    /// Bytes from the IP header on.
    pub len: u32,
    /// What became of it.
    pub action: Action,
    /// 0 where the protocol has no ports.
    #[serde(default)]
    pub sport: u16,
    /// As `sport`.
    #[serde(default)]
    pub dport: u16,
    /// TCP flags.
    #[serde(default)]
    pub flags: Flags,
    /// Segments that the kernel carries as one.
    pub gso_segs: Option<u32>,
    /// Bytes of the headers that each segment has.
    pub hdr: Option<u32>,
    /// Which part of a datagram it is.
    pub frag: Option<Frag>,
    /// Whether security groups and flow logs leave it alone.
    #[serde(default)]
    pub exempt: bool,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// It passed.
    Accept,
    /// It did not.
    Reject,
}
