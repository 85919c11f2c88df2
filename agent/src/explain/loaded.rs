//! The compiled policy that an ENI obeys, asked as the programs ask it. Pure.

use std::fmt;
use std::sync::Arc;

use branchline_common::headers::protocol::{TCP, UDP};
use branchline_common::memory::Memory;
use branchline_common::policy::{Policy, SCOPES, scope};
use branchline_common::verdict::Direction;
use serde::{Deserialize, Serialize};

use super::{EniJudgement, question::Opening};
use crate::address::address;
use crate::policy::NumberedRule;

/// A policy as the maps hold it, and what its rule numbers mean.
#[derive(Debug)]
pub struct LoadedPolicy {
    /// The policy.
    pub entry: Policy,
    /// The nodes and rule sets that it refers to.
    pub tables: Memory,
    /// Its rules by scope and number.
    pub rules: Arc<[Vec<NumberedRule>; SCOPES]>,
}

/// What the loaded policy says of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LoadedAnswer {
    /// Whether the packet passes.
    pub allowed: bool,
    /// Whether it passes only because a group is in audit mode.
    pub audited: bool,
    /// Whether it opens a connection; `None` if it does not pass.
    pub tracked: Option<bool>,
    /// The rule with the lowest number that allows it, by group and rule id.
    pub rule: Option<(String, String)>,
}

/// The rules as they are written and the policy that is loaded say two things of one packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the loaded policy of {} disagrees with its rules, which is a mistake of branchline's: by the rules the packet is {} \
     ({}), by the loaded policy {loaded}",
    rules.network_interface_id, Answer(rules.allowed, rules.audited, rules.tracked), rules.reason
)]
pub struct Disagreement {
    /// By the rules.
    pub rules: EniJudgement,
    /// By the loaded policy.
    pub loaded: LoadedAnswer,
}

struct Answer(bool, bool, Option<bool>);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.0, self.1) {
            (false, _) => "denied",
            (true, true) => "allowed by audit mode",
            (true, false) => "allowed",
        })?;
        f.write_str(match self.2 {
            None => "",
            Some(true) => " and tracked",
            Some(false) => " and untracked",
        })
    }
}

impl fmt::Display for LoadedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Answer(self.allowed, self.audited, self.tracked).fmt(f)?;
        match &self.rule {
            None => Ok(()),
            Some((group_id, rule_id)) => write!(f, " ({rule_id} of {group_id})"),
        }
    }
}

impl LoadedPolicy {
    /// What the policy says of a packet that rides no connection, and why its flow is tracked or not
    /// (`spec/security-groups.md` section 4).
    pub(super) fn answer(
        &self,
        direction: Direction,
        packet: &Opening,
        is_auto_tracked: bool,
    ) -> (LoadedAnswer, String) {
        let (peer, protocol) = (packet.remote(direction), packet.protocol);
        let is_ipv4 = peer.is_ipv4();
        let everyone = if is_ipv4 { "0.0.0.0/0" } else { "::/0" };
        let (own, opposite) = (
            scope(direction, is_ipv4),
            scope(direction.opposite(), is_ipv4),
        );
        let port = Some(packet.rule_port());
        let rule = self
            .entry
            .rule(&self.tables, own, &address(peer), protocol, port);
        let can_be_free = matches!(protocol, TCP | UDP);
        let is_open = rule.is_some_and(|rule| self.entry.is_open(own, rule));
        let is_free = is_open && self.entry.admits_all(opposite, protocol);
        // A SYN answers nothing; any packet of UDP may.
        let is_answer = protocol == UDP
            && self.entry.admits_all(own, protocol)
            && self
                .entry
                .opens(&self.tables, opposite, protocol, packet.source_port);
        let other = direction.opposite().name();
        let (is_untracked, reason) = if !can_be_free {
            (
                false,
                "only flows of TCP and UDP are ever untracked".to_owned(),
            )
        } else if is_auto_tracked && (is_free || is_answer) {
            (false, "conntrack.auto_track names the peer".to_owned())
        } else if is_free {
            let reason = format!("rules for {everyone} allow it, and all ports in {other}");
            (true, reason)
        } else if is_answer {
            (true, "it may be the answer of an untracked flow".to_owned())
        } else if is_open {
            let reason = format!("no {other} rule for {everyone} allows all ports");
            (false, reason)
        } else {
            (false, format!("no rule for {everyone} allows it"))
        };
        let is_untracked = is_untracked && rule.is_some();
        let audited = rule.is_none() && self.entry.audits();
        let allowed = rule.is_some() || audited;
        let name = rule.and_then(|rule| self.rules.get(own)?.get(usize::from(rule)));
        let answer = LoadedAnswer {
            allowed,
            audited,
            tracked: allowed.then(|| !is_untracked && packet.opens_connection()),
            rule: name.map(|name| (name.group_id.clone(), name.rule_id.clone())),
        };
        (answer, reason)
    }
}
