//! Which flows and events a follower asks for. Pure.
//!
//! Each condition holds if one of its values does, and a flow must meet every condition that has
//! values. The values' text is the command line's and the API's alike.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use branchline_common::headers::protocol::{ICMP, ICMPV6, TCP, UDP};
use branchline_common::verdict::Direction;
use ipnet::IpNet;

use super::event::{Flow, LiveEvent};
use crate::flows::Action;
use crate::spec::TaskId;

/// What a follower asks for; empty conditions admit all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Tasks whose ENI it is.
    pub tasks: Vec<TaskId>,
    /// Networks of either end.
    pub addresses: Vec<Network>,
    /// Ports of either end.
    pub ports: Vec<u16>,
    /// Protocols.
    pub protocols: Vec<Protocol>,
    /// Whether packets pass.
    pub actions: Vec<ActionName>,
    /// Direction of the packet that opened the flow.
    pub directions: Vec<DirectionName>,
    /// Kinds of events; `lost` is always sent.
    pub events: Vec<EventKind>,
}

impl Filter {
    /// Whether a flow meets every condition.
    #[must_use]
    pub fn admits(&self, flow: &Flow) -> bool {
        let ends = [flow.srcaddr, flow.dstaddr];
        let ports = [flow.srcport, flow.dstport];
        self.admits_task(flow.task_id.as_deref())
            && any(&self.addresses, |network| {
                ends.iter().any(|end| network.0.contains(end))
            })
            && any(&self.ports, |port| ports.contains(port))
            && any(&self.protocols, |protocol| protocol.0 == flow.protocol)
            && any(&self.actions, |action| action.0 == flow.action)
            && any(&self.directions, |direction| direction.0 == flow.direction)
    }

    /// Whether a task is among those asked for.
    #[must_use]
    pub fn admits_task(&self, task_id: Option<&str>) -> bool {
        any(&self.tasks, |task| Some(task.as_str()) == task_id)
    }

    pub(super) fn wrong_word(word: &str) -> WrongValue {
        wrong(
            word,
            "filter",
            "a task, address, port, protocol, action or direction",
        )
    }

    /// Whether an event is of a kind asked for, and its flow meets every condition.
    #[must_use]
    pub fn admits_event(&self, event: &LiveEvent) -> bool {
        let kind = match event {
            LiveEvent::Start(_) => EventKind::Start,
            LiveEvent::End(_) => EventKind::End,
            LiveEvent::Reject(_) => EventKind::Reject,
            LiveEvent::Lost { .. } => return true,
        };
        any(&self.events, |asked| *asked == kind)
            && event.flow().is_some_and(|flow| self.admits(flow))
    }
}

fn any<T>(values: &[T], holds: impl FnMut(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(holds)
}

/// A value that a condition does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}; write {fix}")]
pub struct WrongValue {
    text: String,
    what: &'static str,
    fix: &'static str,
}

fn wrong(text: &str, what: &'static str, fix: &'static str) -> WrongValue {
    WrongValue {
        text: text.to_owned(),
        what,
        fix,
    }
}

/// An address or a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl FromStr for Network {
    type Err = WrongValue;

    fn from_str(text: &str) -> Result<Self, WrongValue> {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let network = address.or_else(|_| text.parse());
        network.map(Self).map_err(|_| {
            let fix = "an address as 10.0.1.5 or a network as fd00::/64";
            wrong(text, "address", fix)
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// A protocol by its IANA number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol(pub u8);

impl FromStr for Protocol {
    type Err = WrongValue;

    fn from_str(text: &str) -> Result<Self, WrongValue> {
        Ok(Self(match text.to_ascii_lowercase().as_str() {
            "tcp" => TCP,
            "udp" => UDP,
            "icmp" => ICMP,
            "icmpv6" => ICMPV6,
            number => number.parse().map_err(|_| {
                let fix = "tcp, udp, icmp, icmpv6 or a number from 0 to 255";
                wrong(text, "protocol", fix)
            })?,
        }))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            TCP => out.pad("tcp"),
            UDP => out.pad("udp"),
            ICMP => out.pad("icmp"),
            ICMPV6 => out.pad("icmpv6"),
            number => out.pad(&number.to_string()),
        }
    }
}

/// `accept`, `reject` or `audit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionName(pub Action);

impl FromStr for ActionName {
    type Err = WrongValue;

    fn from_str(text: &str) -> Result<Self, WrongValue> {
        Ok(Self(match text.to_ascii_lowercase().as_str() {
            "accept" => Action::Accept,
            "reject" => Action::Reject,
            "audit" => Action::Audit,
            _ => return Err(wrong(text, "action", "accept, reject or audit")),
        }))
    }
}

impl fmt::Display for ActionName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self.0 {
            Action::Accept => "accept",
            Action::Reject => "reject",
            Action::Audit => "audit",
        })
    }
}

/// `ingress` or `egress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectionName(pub Direction);

impl FromStr for DirectionName {
    type Err = WrongValue;

    fn from_str(text: &str) -> Result<Self, WrongValue> {
        Ok(Self(match text.to_ascii_lowercase().as_str() {
            "ingress" => Direction::Ingress,
            "egress" => Direction::Egress,
            _ => return Err(wrong(text, "direction", "ingress or egress")),
        }))
    }
}

impl fmt::Display for DirectionName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.0.name())
    }
}

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// First packets.
    Start,
    /// The last packet.
    End,
    /// Rejected packets.
    Reject,
}

impl FromStr for EventKind {
    type Err = WrongValue;

    fn from_str(text: &str) -> Result<Self, WrongValue> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "start" => Self::Start,
            "end" => Self::End,
            "reject" => Self::Reject,
            _ => return Err(wrong(text, "event", "start, end or reject")),
        })
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Start => "start",
            Self::End => "end",
            Self::Reject => "reject",
        })
    }
}
