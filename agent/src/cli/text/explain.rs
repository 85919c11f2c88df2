//! An explanation as text for people. Pure.

use std::net::{IpAddr, SocketAddr};

use branchline_common::flow::is_icmp;
use branchline_common::parse::has_ports;

use super::pairs;
use super::security_groups::rule_line;
use crate::explain::{AllowingRule, EniJudgement, Explanation, Opening};
use crate::security_groups::Protocol;

/// A block of lines for each ENI that the packet meets.
pub(crate) fn explanation(explanation: &Explanation) -> String {
    let blocks = explanation.judgements.iter();
    let blocks: Vec<String> = blocks
        .map(|judgement| self::judgement(judgement, &explanation.packet))
        .collect();
    blocks.join("\n")
}

fn judgement(judgement: &EniJudgement, packet: &Opening) -> String {
    let verdict = match (judgement.allowed, judgement.audited) {
        (false, _) => "DENY",
        (true, false) => "ALLOW",
        (true, true) => "ALLOW, by audit mode only",
    };
    let eni = &judgement.network_interface_id;
    let mut rows = vec![
        ("packet", packet_text(packet)),
        (
            "judged by",
            format!(
                "task {} ({eni}), {}",
                judgement.task_id,
                judgement.direction.name()
            ),
        ),
        ("verdict", verdict.to_owned()),
        ("because", judgement.reason.clone()),
    ];
    if let Some(found) = &judgement.rule {
        rows.push((
            "rule",
            format!("{} of {}", rule_line(&found.rule), found.group_id),
        ));
        rows.push(("matches", matches_text(found)));
    }
    let tracked = judgement.tracked.map(|tracked| {
        let answer = if tracked { "yes" } else { "no" };
        match &judgement.tracking_reason {
            Some(reason) => format!("{answer}: {reason}"),
            None => answer.to_owned(),
        }
    });
    rows.extend(tracked.map(|tracked| ("tracked", tracked)));
    let loaded = match &judgement.loaded {
        Some(_) => "the loaded policy agrees",
        None => "no rule is asked",
    };
    rows.push(("loaded", loaded.to_owned()));
    let rows = rows.into_iter().map(|(name, text)| (name.to_owned(), text));
    pairs(rows.collect())
}

fn packet_text(packet: &Opening) -> String {
    let end = |address: IpAddr, port| match has_ports(packet.protocol) {
        true => SocketAddr::new(address, port).to_string(),
        false => address.to_string(),
    };
    let kind = if is_icmp(packet.protocol) {
        format!(" type {} code {}", packet.icmp_type, packet.icmp_code)
    } else {
        String::new()
    };
    format!(
        "{}{kind} {} -> {}",
        Protocol::Number(packet.protocol),
        end(packet.source, packet.source_port),
        end(packet.destination, packet.destination_port)
    )
}

fn matches_text(found: &AllowingRule) -> String {
    match &found.member {
        Some(eni) => format!("{} ({eni} of {})", found.network, found.rule.peer),
        None => found.network.to_string(),
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
