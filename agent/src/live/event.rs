//! What followers are told, as JSON. Pure.
//!
//! The names of the fields are those of flow logs where these have one, and stay.

use std::net::IpAddr;

use branchline_common::flow::{FlowKey, is_icmp, kind};
use branchline_common::verdict::{Direction, DropReason};
use serde::{Deserialize, Serialize};

use super::diff::{Change, What};
use super::kernel::Moment;
use crate::flows::{Action, Identity, tuple};

/// One message to a follower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum LiveEvent {
    /// A flow's first packets passed.
    Start(FlowEvent),
    /// A flow ended; its counts are final.
    End(FlowEvent),
    /// Packets were rejected; counted since the look before.
    Reject(FlowEvent),
    /// The follower was too slow.
    Lost {
        /// Events that were not sent, of all flows, whatever the filter.
        events: u64,
    },
}

/// What happened to a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlowEvent {
    /// When it was seen, in milliseconds since 1970.
    pub time_ms: u64,
    /// Which flow.
    #[serde(flatten)]
    pub flow: Flow,
    /// Packets in the flow's direction.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
    /// Packets in the other direction; 0 where the flow needs no connection.
    pub reply_packets: u64,
    /// Their bytes from the IP header on.
    pub reply_bytes: u64,
    /// Unix second of the first packet; missing if it came before anybody followed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<u64>,
    /// Unix second of the last packet.
    pub end: u64,
    /// Why a flow ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Ending>,
    /// Whether the counts are all since the flow's start; false for one that was there before
    /// anybody followed.
    pub complete: bool,
}

/// Why a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// TCP: both sides closed.
    Closed,
    /// TCP: reset.
    Reset,
    /// The rule that had allowed it is gone.
    Revoked,
    /// No packet came for as long as its state allows.
    Timeout,
    /// Its ENI is gone.
    Removed,
}

/// A flow, as its ENI sees it.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// The task whose ENI it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task_id: Option<String>,
    /// The ENI, as `eni-0123456789abcdef0`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interface_id: Option<String>,
    /// Direction of the packet that opened it, or of those that were rejected.
    #[schema(value_type = String)]
    pub direction: Direction,
    /// Who sent that packet.
    #[schema(value_type = String)]
    pub srcaddr: IpAddr,
    /// Whom it was for.
    #[schema(value_type = String)]
    pub dstaddr: IpAddr,
    /// Its source port; 0 where the protocol has none.
    pub srcport: u16,
    /// Its destination port; 0 where the protocol has none.
    pub dstport: u16,
    /// IANA number.
    pub protocol: u8,
    /// Whether its packets pass.
    #[schema(value_type = String)]
    pub action: Action,
    /// Why they do not, which tells two such flows between the same ends apart.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub drop_reason: Option<DropReason>,
    /// Identifier of an ICMP query, which tells two of them between the same ends apart.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub icmp_id: Option<u16>,
}

impl Flow {
    /// The flow of a key that `opener` opened, at the ENI of `owner`.
    pub(super) fn of(
        key: &FlowKey,
        opener: Direction,
        action: Action,
        owner: Option<&Identity>,
    ) -> Self {
        let tuple = tuple(key, opener, action);
        let is_query = key.kind == kind::CONNECTION && is_icmp(key.protocol);
        Self {
            task_id: owner.and_then(|owner| owner.interface.task.id.clone()),
            interface_id: owner.map(|owner| owner.eni_id().to_owned()),
            direction: opener,
            srcaddr: tuple.src,
            dstaddr: tuple.dst,
            srcport: tuple.src_port,
            dstport: tuple.dst_port,
            protocol: tuple.protocol,
            action,
            drop_reason: kind::of_row(key.kind).and_then(|row| row.drop_reason),
            icmp_id: is_query.then_some(key.local_port),
        }
    }
}

impl LiveEvent {
    /// What `change` is to a follower, seen `now`.
    pub(super) fn of(change: &Change, owner: Option<&Identity>, now: Moment) -> Self {
        let [ingress, egress] = change.counts;
        let (there, back) = match change.opener {
            Direction::Ingress => (ingress, egress),
            Direction::Egress => (egress, ingress),
        };
        let event = |reason| FlowEvent {
            time_ms: now.wall_ms,
            flow: Flow::of(&change.key, change.opener, change.action, owner),
            packets: there.packets,
            bytes: there.bytes,
            reply_packets: back.packets,
            reply_bytes: back.bytes,
            start: change.first.map(|stamp| second(stamp, now)),
            end: second(change.last, now),
            reason,
            complete: change.is_complete,
        };
        match change.what {
            What::Start => Self::Start(event(None)),
            What::End(reason) => Self::End(event(Some(reason))),
            What::Reject => Self::Reject(event(None)),
        }
    }

    /// The flow that it is about.
    #[must_use]
    pub fn flow(&self) -> Option<&Flow> {
        match self {
            Self::Start(event) | Self::End(event) | Self::Reject(event) => Some(&event.flow),
            Self::Lost { .. } => None,
        }
    }
}

/// The Unix second of a time stamp, which may lie a little after `now`.
fn second(stamp: u32, now: Moment) -> u64 {
    let age = i64::from(now.ticks.wrapping_sub(stamp).cast_signed());
    let age_ms = age * 1_000 / i64::from(now.ticks_per_second.max(1));
    now.wall_ms.saturating_add_signed(-age_ms) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_seconds_on_both_sides_of_now_and_of_the_wrap() {
        let now = Moment {
            ticks: 100,
            ticks_per_second: 100,
            wall_ms: 50_500,
            ..Moment::default()
        };
        for (stamp, expected) in [(100, 50), (49, 49), (151, 51), (u32::MAX - 99, 48)] {
            assert_eq!(second(stamp, now), expected, "{stamp}");
        }
    }
}
