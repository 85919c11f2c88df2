//! What becomes of a packet that opens a flow at an ENI, and which rule decides. Pure.
//!
//! The oracle of the tests computes it, which reads as the specification does, from the groups in force; the compiled
//! policy that the maps hold is asked the same and must answer the same. No connection is looked for.

mod loaded;
mod question;
mod world;

use std::net::IpAddr;

use branchline_common::verdict::Direction;
use branchline_oracle as oracle;
use ipnet::IpNet;
use oracle::Step;
use serde::{Deserialize, Serialize};

pub use self::loaded::{Disagreement, LoadedAnswer, LoadedPolicy};
pub use self::question::{ExplainRequest, Opening};
use crate::{
    eni_settings::EniSettings,
    provider::Eni,
    security_groups::{Directory, Members, SecurityGroupRule},
};

/// What decides beside the ENI.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// Groups and prefix lists in force.
    pub directory: &'a Directory,
    /// Who carries which group.
    pub members: &'a Members,
    /// The VPC's networks.
    pub vpc_cidrs: &'a [IpNet],
    /// Peers whose flows are always tracked.
    pub auto_track: &'a [IpNet],
}

/// The ENI that judges, and its settings.
#[derive(Debug, Clone, Copy)]
pub struct Interface<'a> {
    /// The task that has it.
    pub task_id: &'a str,
    /// The ENI.
    pub eni: &'a Eni,
    /// What is in force for it.
    pub settings: &'a EniSettings,
}

/// The answer to `POST /v1/explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Explanation {
    /// Whether the packet passes every ENI on this host that it meets.
    pub allowed: bool,
    /// The packet.
    pub packet: Opening,
    /// Of the sender's ENI, then of the receiver's, as far as they are on this host.
    pub judgements: Vec<EniJudgement>,
}

/// What one ENI does with the packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EniJudgement {
    /// The task that has the ENI.
    pub task_id: String,
    /// The ENI.
    pub network_interface_id: String,
    /// As the ENI sees it.
    #[schema(value_type = String)]
    pub direction: Direction,
    /// Whether the packet passes.
    pub allowed: bool,
    /// Whether it passes only because a group is in audit mode.
    pub audited: bool,
    /// The step that decided, as the end of "It passes, because ...".
    pub reason: String,
    /// The rule that allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<AllowingRule>,
    /// Whether it opens a connection; `None` for a packet that rules are not asked about, or that does not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracked: Option<bool>,
    /// Why its flow is tracked or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracking_reason: Option<String>,
    /// What the loaded policy answers; `None` for a packet that rules are not asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loaded: Option<LoadedAnswer>,
}

/// A rule that allows a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AllowingRule {
    /// Its group.
    pub group_id: String,
    /// The rule.
    pub rule: SecurityGroupRule,
    /// Which network of its peer covers the other end.
    #[schema(value_type = String)]
    pub network: IpNet,
    /// The ENI that has this address, of a rule whose peer is a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
}

/// Judges `packet` at an ENI, by the rules as they are written and by those that are loaded.
///
/// # Errors
/// The two answers, if they differ.
pub fn judge(
    scene: &Scene<'_>,
    interface: &Interface<'_>,
    direction: Direction,
    packet: &Opening,
    policy: &LoadedPolicy,
) -> Result<EniJudgement, Box<Disagreement>> {
    let said = world::judge(scene, interface, direction, packet);
    let is_asked = matches!(
        said.step,
        Step::NoRule
            | Step::Untracked
            | Step::UntrackedReply
            | Step::Strict
            | Step::Reset
            | Step::OneWayIcmp
            | Step::Opened
    );
    let audits = |id: &String| {
        scene
            .directory
            .groups
            .get(id)
            .is_some_and(|group| group.audit)
    };
    let audited = said.step == Step::NoRule && interface.eni.groups.iter().any(audits);
    let allowed = audited
        || matches!(
            said.verdict,
            oracle::Verdict::Accept | oracle::Verdict::Exempt
        );
    let mut judgement = EniJudgement {
        task_id: interface.task_id.to_owned(),
        network_interface_id: interface.eni.eni_id.clone(),
        direction,
        allowed,
        audited,
        reason: said.step.to_string(),
        rule: said
            .rule
            .as_ref()
            .and_then(|rule| world::allowing(scene, rule)),
        tracked: if audited {
            Some(packet.opens_connection())
        } else {
            said.tracked.filter(|_| is_asked && allowed)
        },
        tracking_reason: None,
        loaded: None,
    };
    if !is_asked {
        return Ok(judgement);
    }
    let is_auto_tracked = |network: &IpNet| network.contains(&packet.remote(direction));
    let is_auto_tracked = scene.auto_track.iter().any(is_auto_tracked);
    let (answer, reason) = policy.answer(direction, packet, is_auto_tracked);
    let is_same = (answer.allowed, answer.audited, answer.tracked)
        == (judgement.allowed, judgement.audited, judgement.tracked);
    let names_a_rule = match (&answer.rule, &judgement.rule) {
        (None, None) => true,
        (Some(loaded), Some(_)) => world::covers_alone(scene, interface, direction, packet, loaded),
        (None, Some(_)) | (Some(_), None) => false,
    };
    if !is_same || !names_a_rule {
        return Err(Box::new(Disagreement {
            rules: judgement,
            loaded: answer,
        }));
    }
    judgement.tracking_reason = judgement.tracked.map(|_| reason);
    judgement.loaded = Some(answer);
    Ok(judgement)
}

/// The address of an ENI in one family.
#[must_use]
pub fn address_of(eni: &Eni, is_ipv6: bool) -> Option<IpAddr> {
    if is_ipv6 {
        eni.ipv6.map(|net| IpAddr::V6(net.addr()))
    } else {
        eni.ipv4.map(|net| IpAddr::V4(net.addr()))
    }
}

#[cfg(test)]
#[path = "explain/tests.rs"]
mod tests;
