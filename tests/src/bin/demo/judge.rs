//! Holds what came of the attempts, and the flow-log rows, against what must come of them. Pure.
//!
//! A row proves an attempt by addresses, ports and protocol; no row may be left that no attempt
//! explains.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use branchline_tests::flow_row::{Flow, FlowRow};
use branchline_tests::outside;

use crate::attempts::{Expected, Place, Traffic};
use crate::echo::MESSAGE_LEN;
use crate::traffic::{Answer, Outcome, Payload};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
const IPV4_HEADER: u64 = 20;
const IPV6_HEADER: u64 = 40;
/// A TCP header without options: a reset's.
const TCP_MIN_HEADER: u64 = 20;
/// A TCP header as Linux sends it: with timestamps (RFC 7323 §3).
const TCP_HEADER: u64 = 32;
/// By how much a SYN's is longer: segment size, selective acknowledgement, window scale.
const SYN_OPTIONS: u64 = 8;

/// What rows have in common that count the same packets at the same ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    place: Place,
    src: SocketAddr,
    dst: SocketAddr,
    protocol: u8,
    accepted: bool,
}

/// Packets and bytes of all rows with one key: a flow has a row in each interval's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

/// What one ENI's rows say of packets from `src` to `dst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) place: Place,
    pub(crate) is_egress: bool,
    pub(crate) accepted: bool,
    /// `None` if there is no such row.
    pub(crate) count: Option<Count>,
}

/// Both ENIs' views of the packets of one direction, the sender's first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) src: SocketAddr,
    pub(crate) dst: SocketAddr,
    pub(crate) views: Vec<View>,
}

/// An attempt, its proof, and what is wrong with either.
#[derive(Clone, Debug)]
pub(crate) struct Judgement {
    pub(crate) outcome: Outcome,
    pub(crate) ways: Vec<Way>,
    pub(crate) faults: Vec<String>,
}

/// All attempts, and the rows that none of them explains.
pub(crate) struct Verdicts {
    pub(crate) judgements: Vec<Judgement>,
    pub(crate) strays: Vec<String>,
}

impl Verdicts {
    pub(crate) fn faults(&self) -> usize {
        let faults = self
            .judgements
            .iter()
            .map(|judgement| judgement.faults.len());
        faults.sum::<usize>() + self.strays.len()
    }
}

/// Judges `outcomes` by `rows`; `enis` says whose ENI a row speaks of.
pub(crate) fn judge(
    outcomes: Vec<Outcome>,
    rows: &[FlowRow],
    enis: &HashMap<String, Place>,
) -> Verdicts {
    let mut strays = Vec::new();
    let mut counts: BTreeMap<Key, Count> = BTreeMap::new();
    for row in rows {
        match (&row.flow, enis.get(&row.eni_id)) {
            (Some(flow), Some(place)) => {
                let count = counts.entry(key(*place, flow)).or_default();
                count.packets += flow.packets;
                count.bytes += flow.bytes;
            }
            (None, Some(_)) if row.log_status == "NODATA" => {}
            (_, _) => strays.push(format!("{row:?}")),
        }
    }
    let judgements = outcomes
        .into_iter()
        .map(|outcome| judge_one(outcome, &mut counts))
        .collect();
    strays.extend(counts.iter().map(|(key, count)| describe(key, *count)));
    Verdicts { judgements, strays }
}

/// Takes out of `counts` what belongs to the attempt.
fn judge_one(outcome: Outcome, counts: &mut BTreeMap<Key, Count>) -> Judgement {
    let mut faults = Vec::new();
    let expected = outcome.attempt.expected;
    let is_as_expected = match outcome.answer {
        Answer::Complete { .. } => expected.is_allowed(),
        Answer::Silence => !expected.is_allowed(),
        Answer::Wrong(_) => false,
    };
    if !is_as_expected {
        faults.push("the verdict is not the expected one".to_owned());
    }
    faults.extend(origin_fault(&outcome));
    let protocol = protocol(&outcome);
    let (source, target) = (outcome.source, outcome.target);
    let mut ways = wanted(&outcome);
    for way in &mut ways {
        for view in &mut way.views {
            let key = Key {
                place: view.place,
                src: way.src,
                dst: way.dst,
                protocol,
                accepted: view.accepted,
            };
            view.count = counts.remove(&key);
            if view.count.is_none() {
                faults.push(format!("missing row: {}", describe_view(*view)));
            }
        }
    }
    for (from, to) in [(source, target), (target, source)] {
        let is_its = |key: &Key| key.src == from && key.dst == to && key.protocol == protocol;
        let unwanted: Vec<Key> = counts.keys().filter(|key| is_its(key)).copied().collect();
        for key in unwanted {
            let count = counts.remove(&key).unwrap_or_default();
            faults.push(format!("unexpected row: {}", describe(&key, count)));
        }
    }
    faults.extend(ways.iter().flat_map(|way| count_faults(way, &outcome)));
    Judgement {
        outcome,
        ways,
        faults,
    }
}

/// Inside the VPC a task is seen as itself, outside as the host.
fn origin_fault(outcome: &Outcome) -> Option<String> {
    let Answer::Complete {
        seen_as: Some(seen_as),
        ..
    } = outcome.answer
    else {
        return None;
    };
    let family = usize::from(outcome.source.is_ipv6());
    let expected = match outcome.attempt.to {
        Place::Outside => outside::HOST[family].split('/').next()?.parse().ok()?,
        Place::Web | Place::App | Place::Db | Place::Host => outcome.source.ip(),
    };
    (seen_as != expected).then(|| format!("seen as {seen_as}, not as {expected}"))
}

/// The rows that must be there, without their counts. Only tasks have ENIs.
fn wanted(outcome: &Outcome) -> Vec<Way> {
    let attempt = outcome.attempt;
    let view = |place, is_egress, accepted| View {
        place,
        is_egress,
        accepted,
        count: None,
    };
    let (from, to) = (attempt.from, attempt.to);
    let request = match attempt.expected {
        Expected::Allowed => vec![view(from, true, true), view(to, false, true)],
        Expected::DeniedAtTarget => vec![view(from, true, true), view(to, false, false)],
        Expected::DeniedAtSource => vec![view(from, true, false)],
        Expected::Unreachable => Vec::new(),
    };
    let reply = match attempt.expected {
        Expected::Allowed => vec![view(to, true, true), view(from, false, true)],
        Expected::DeniedAtTarget | Expected::DeniedAtSource | Expected::Unreachable => Vec::new(),
    };
    let way = |src, dst, views: Vec<View>| Way {
        src,
        dst,
        views: views
            .into_iter()
            .filter(|view| Place::TASKS.contains(&view.place))
            .collect(),
    };
    let (source, target) = (outcome.source, outcome.target);
    let ways = [way(source, target, request), way(target, source, reply)];
    let has_views = |way: &Way| !way.views.is_empty();
    ways.into_iter().filter(has_views).collect()
}

/// Holds the counts of one direction against what was said, and the ENIs' against one another.
fn count_faults(way: &Way, outcome: &Outcome) -> Vec<String> {
    let mut faults = Vec::new();
    let is_reply = way.src == outcome.target;
    for view in &way.views {
        let Some(count) = view.count else { continue };
        if !is_right(count, outcome, is_reply) {
            let place = view.place.name();
            faults.push(format!(
                "{place}: {} packets of {} bytes are not what was sent",
                count.packets, count.bytes
            ));
        }
    }
    if let [View { count: Some(a), .. }, View { count: Some(b), .. }] = way.views[..]
        && a != b
    {
        faults.push("sender's and receiver's counts differ".to_owned());
    }
    faults
}

/// Whether these are the packets and bytes of what was said, headers included.
fn is_right(count: Count, outcome: &Outcome, is_reply: bool) -> bool {
    let ip_header = if outcome.source.is_ipv4() {
        IPV4_HEADER
    } else {
        IPV6_HEADER
    };
    let Count { packets, bytes } = count;
    match (outcome.attempt.traffic, &outcome.answer) {
        (Traffic::Ping, _) => packets == 1 && bytes == ip_header + MESSAGE_LEN,
        (_, Answer::Complete { payload, .. }) => {
            let Payload { sent, received } = *payload;
            let said = if is_reply { received } else { sent };
            let expected = packets * (ip_header + TCP_HEADER) + SYN_OPTIONS + said;
            let least = packets * (ip_header + TCP_MIN_HEADER) + said;
            // One SYN each way, and at least an ACK or FIN after it.
            packets >= 2 && (bytes == expected || (outcome.has_repeats && bytes >= least))
        }
        // SYNs only.
        (_, Answer::Silence | Answer::Wrong(_)) => {
            packets >= 1 && bytes == packets * (ip_header + TCP_HEADER + SYN_OPTIONS)
        }
    }
}

fn protocol(outcome: &Outcome) -> u8 {
    match (outcome.attempt.traffic, outcome.source) {
        (Traffic::Ping, SocketAddr::V4(_)) => ICMP,
        (Traffic::Ping, SocketAddr::V6(_)) => ICMPV6,
        (Traffic::Http | Traffic::Store | Traffic::Connect, _) => TCP,
    }
}

fn key(place: Place, flow: &Flow) -> Key {
    Key {
        place,
        src: SocketAddr::new(flow.src, flow.src_port),
        dst: SocketAddr::new(flow.dst, flow.dst_port),
        protocol: flow.protocol,
        accepted: flow.accepted,
    }
}

/// A row that should be there.
fn describe_view(view: View) -> String {
    let direction = if view.is_egress { "egress" } else { "ingress" };
    let action = if view.accepted { "ACCEPT" } else { "REJECT" };
    format!("{} {direction} {action}", view.place.name())
}

fn describe(key: &Key, count: Count) -> String {
    let Key {
        place,
        src,
        dst,
        protocol,
        accepted,
    } = key;
    format!(
        "{}: {src} → {dst} protocol {protocol} {} {} packets {} bytes",
        place.name(),
        if *accepted { "ACCEPT" } else { "REJECT" },
        count.packets,
        count.bytes
    )
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
