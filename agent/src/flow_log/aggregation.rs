//! Epochs to the rows of one aggregation interval: what is added up, what a traffic type hides, which
//! ENI had no data.
//!
//! Pure. Never knows which log the rows are for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::row::{Content, Row};
use crate::flows::{Action, FlowCounts, FlowTuple, Interface, Report, Window};

/// Which records a log shows, as EC2's `TrafficType` has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TrafficType {
    /// Those of packets that passed.
    Accept,
    /// Those of packets that did not.
    Reject,
    /// All.
    #[default]
    All,
}

impl TrafficType {
    /// Whether a log of this type shows records of `action`.
    #[must_use]
    pub fn shows(self, action: Action) -> bool {
        match self {
            Self::All => true,
            Self::Accept => action != Action::Reject,
            Self::Reject => action == Action::Reject,
        }
    }
}

/// The reports of the epochs that one interval is made of, added up by ENI.
#[derive(Debug, Default)]
pub struct Aggregation {
    tells_rules_apart: bool,
    epochs: u32,
    interfaces: BTreeMap<String, Sum>,
}

/// What the epochs so far say of one ENI.
#[derive(Debug)]
struct Sum {
    interface: Arc<Interface>,
    flows: HashMap<FlowTuple, FlowCounts>,
    skipped_packets: u64,
    /// Epochs in which it existed from start to end.
    whole_epochs: u32,
}

impl Aggregation {
    /// An interval without epochs. `tells_rules_apart` as
    /// [`Format::tells_rules_apart`](super::Format::tells_rules_apart) has it.
    #[must_use]
    pub fn new(tells_rules_apart: bool) -> Self {
        Self {
            tells_rules_apart,
            ..Self::default()
        }
    }

    /// Adds the next epoch: a report of every ENI that existed in it.
    pub fn add_epoch(&mut self, reports: Vec<Report>) {
        self.epochs += 1;
        for report in reports {
            self.add(report);
        }
    }

    /// The reports of the whole interval, by ENI id, their flows in order.
    #[must_use]
    pub fn finish(self) -> Vec<Report> {
        let epochs = self.epochs;
        let report = |sum: Sum| {
            let mut flows: Vec<_> = sum.flows.into_iter().collect();
            flows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            Report {
                interface: sum.interface,
                flows,
                skipped_packets: sum.skipped_packets,
                is_whole: sum.whole_epochs == epochs,
            }
        };
        self.interfaces.into_values().map(report).collect()
    }

    fn add(&mut self, report: Report) {
        let id = report.interface.interface_id.clone();
        let sum = self.interfaces.entry(id).or_insert_with(|| Sum {
            interface: Arc::clone(&report.interface),
            flows: HashMap::new(),
            skipped_packets: 0,
            whole_epochs: 0,
        });
        // What was known last is what the rows say.
        sum.interface = report.interface;
        sum.skipped_packets += report.skipped_packets;
        sum.whole_epochs += u32::from(report.is_whole);
        for (tuple, counts) in report.flows {
            let tuple = if self.tells_rules_apart {
                tuple
            } else {
                tuple.standard()
            };
            sum.flows
                .entry(tuple)
                .and_modify(|total| total.merge(&counts))
                .or_insert(counts);
        }
    }
}

/// The rows of one interval, by start and ENI, numbered from `sequence` on. What `traffic_type` hides
/// was traffic nevertheless: its ENI is not without data.
#[must_use]
pub fn rows(
    reports: &[Report],
    window: Window,
    traffic_type: TrafficType,
    sequence: u64,
) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for report in reports {
        let row = |content| Row::new(&report.interface, content, window);
        let flows = report.flows.iter();
        let shown = flows.filter(|(tuple, _)| traffic_type.shows(tuple.action));
        rows.extend(shown.map(|(tuple, counts)| row(Content::Ok(tuple, counts))));
        if report.skipped_packets > 0 {
            let packets = report.skipped_packets;
            rows.push(row(Content::SkipData { packets }));
        } else if report.flows.is_empty() && report.is_whole {
            rows.push(row(Content::NoData));
        }
    }
    rows.sort_by(|one, other| order(one).cmp(&order(other)));
    for (row, sequence) in rows.iter_mut().zip(sequence..) {
        row.sequence = sequence;
    }
    rows
}

fn order<'a>(row: &Row<'a>) -> (u64, &'a str, Option<&'a FlowTuple>) {
    let tuple = match row.content {
        Content::Ok(tuple, _) => Some(tuple),
        Content::NoData | Content::SkipData { .. } => None,
    };
    (row.start(), &row.interface.interface_id, tuple)
}

#[cfg(test)]
#[path = "aggregation_tests.rs"]
mod tests;
