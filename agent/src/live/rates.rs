//! How much flows and tasks carry each second. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::diff::Flowing;
use super::event::Flow;
use super::query::{Query, Sort};
use super::tally::Count;
use crate::flows::{Action, Identity};

/// What flows carried between two looks at the tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlowRates {
    /// When the second look began, in milliseconds since 1970.
    pub time_ms: u64,
    /// Seconds between the two.
    pub seconds: f64,
    /// Every task that the filter admits, in the order asked for.
    pub tasks: Vec<TaskRate>,
    /// The first flows in the order asked for.
    pub flows: Vec<FlowRate>,
    /// How many flows the filter admits.
    pub flow_count: usize,
}

/// A task and what its flows carry together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskRate {
    /// The task.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task_id: Option<String>,
    /// Its ENI.
    pub interface_id: String,
    /// Its flows that pass and that the filter admits.
    pub flows: usize,
    /// What passes.
    #[serde(flatten)]
    pub rate: Rate,
    /// Packets that were rejected.
    pub rejected_packets_per_second: f64,
}

/// A flow and what it carries; of a rejected one, what does not pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlowRate {
    /// Which flow.
    #[serde(flatten)]
    pub flow: Flow,
    /// How much.
    #[serde(flatten)]
    pub rate: Rate,
}

/// Packets and bytes (from the IP header on) a second by direction, to a tenth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Bytes towards the task.
    pub ingress_bytes_per_second: f64,
    /// Bytes away from the task.
    pub egress_bytes_per_second: f64,
    /// Packets towards the task.
    pub ingress_packets_per_second: f64,
    /// Packets away from the task.
    pub egress_packets_per_second: f64,
}

impl Rate {
    fn of([ingress, egress]: [Count; 2], seconds: f64) -> Self {
        Self {
            ingress_bytes_per_second: per_second(ingress.bytes, seconds),
            egress_bytes_per_second: per_second(egress.bytes, seconds),
            ingress_packets_per_second: per_second(ingress.packets, seconds),
            egress_packets_per_second: per_second(egress.packets, seconds),
        }
    }

    /// Both directions.
    #[must_use]
    pub fn bytes(&self) -> f64 {
        self.ingress_bytes_per_second + self.egress_bytes_per_second
    }

    /// Both directions.
    #[must_use]
    pub fn packets(&self) -> f64 {
        self.ingress_packets_per_second + self.egress_packets_per_second
    }
}

fn per_second(count: u64, seconds: f64) -> f64 {
    (count as f64 / seconds * 10.0).round() / 10.0
}

/// What a flow carried, and how it is sorted.
struct Line<'a> {
    flowing: &'a Flowing,
    key: [u64; 3],
}

#[derive(Default)]
struct TaskSum {
    flows: usize,
    passed: [Count; 2],
    rejected: u64,
}

/// The rates of `flowing` over `seconds`, as `query` asks; `owners` are the ENIs by slot.
pub(super) fn rates(
    flowing: &[Flowing],
    owners: &BTreeMap<u32, Identity>,
    (time_ms, seconds): (u64, f64),
    query: &Query,
) -> FlowRates {
    let mut sums: BTreeMap<u32, TaskSum> = BTreeMap::new();
    for (slot, owner) in owners {
        if query.filter.admits_task(owner.interface.task.id.as_deref()) {
            sums.insert(*slot, TaskSum::default());
        }
    }
    let mut lines = Vec::new();
    for flow in flowing {
        let slot = u32::from(flow.key.eni);
        if !query.filter.admits(&view(flow, owners)) {
            continue;
        }
        sums.entry(slot).or_default().add(flow);
        let key = sort_key(flow.action == Action::Reject, flow.fresh, query.sort);
        lines.push(Line { flowing: flow, key });
    }
    let flow_count = lines.len();
    // The key of the flow last: equal ones keep their places from one look to the next.
    lines.sort_unstable_by(|a, b| (b.key, &a.flowing.key).cmp(&(a.key, &b.flowing.key)));
    lines.truncate(query.limit);
    let flows = lines.iter().map(|line| FlowRate {
        flow: view(line.flowing, owners),
        rate: Rate::of(line.flowing.fresh, seconds),
    });
    let mut tasks: Vec<_> = sums
        .iter()
        .filter_map(|(slot, sum)| Some((owners.get(slot)?, sum)))
        .map(|(owner, sum)| (sum.key(query.sort), sum.rate(owner, seconds)))
        .collect();
    tasks.sort_by(|(a, one), (b, other)| (b, &one.task_id).cmp(&(a, &other.task_id)));
    FlowRates {
        time_ms,
        seconds,
        tasks: tasks.into_iter().map(|(_, task)| task).collect(),
        flows: flows.collect(),
        flow_count,
    }
}

impl TaskSum {
    fn add(&mut self, flow: &Flowing) {
        if flow.action == Action::Reject {
            self.rejected += flow.fresh.iter().map(|count| count.packets).sum::<u64>();
            return;
        }
        self.flows += 1;
        for (sum, count) in self.passed.iter_mut().zip(flow.fresh) {
            sum.add(count);
        }
    }

    fn key(&self, sort: Sort) -> [u64; 3] {
        let [bytes, packets] = sums(self.passed);
        match sort {
            Sort::Bytes => [bytes, packets, self.rejected],
            Sort::Packets => [packets, bytes, self.rejected],
            Sort::Rejects => [self.rejected, packets, bytes],
        }
    }

    fn rate(&self, owner: &Identity, seconds: f64) -> TaskRate {
        TaskRate {
            task_id: owner.interface.task.id.clone(),
            interface_id: owner.eni_id().to_owned(),
            flows: self.flows,
            rate: Rate::of(self.passed, seconds),
            rejected_packets_per_second: per_second(self.rejected, seconds),
        }
    }
}

fn view(flow: &Flowing, owners: &BTreeMap<u32, Identity>) -> Flow {
    let owner = owners.get(&u32::from(flow.key.eni));
    Flow::of(&flow.key, flow.opener, flow.action, owner)
}

fn sort_key(is_reject: bool, fresh: [Count; 2], sort: Sort) -> [u64; 3] {
    let [bytes, packets] = sums(fresh);
    match sort {
        Sort::Bytes => [bytes, packets, 0],
        Sort::Packets => [packets, bytes, 0],
        Sort::Rejects => [u64::from(is_reject), packets, bytes],
    }
}

/// Bytes and packets of both directions.
fn sums([ingress, egress]: [Count; 2]) -> [u64; 2] {
    [
        ingress.bytes + egress.bytes,
        ingress.packets + egress.packets,
    ]
}

#[cfg(test)]
#[path = "rates_tests.rs"]
mod tests;
