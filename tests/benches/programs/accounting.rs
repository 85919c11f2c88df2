//! What counting a packet costs: the agent's programs beside the same without accounting, one after
//! the other in each round.

use std::fs;

use anyhow::{Context, Result};
use branchline_common::maps::CONNECTIONS;

use crate::{
    cases::{Case, Group, around, cases, establish, established, median, new_flows, with_prepare},
    report::{Amount, amount},
    rig::Rig,
};

/// Most that a packet with accounting may cost, as a multiple of one without.
const GOAL: f64 = 1.05;

/// The same programs, with accounting and without.
struct Pair {
    counting: Rig,
    bare: Rig,
}

/// Measures packets of established flows, and those that open one. `unaccounted` is the file of the
/// programs without accounting, `object` that of the bench's own.
pub(crate) fn measure(object: &str, unaccounted: &str, rounds: u32) -> Result<Vec<Amount>> {
    let bare = fs::read(unaccounted).with_context(|| format!("read {unaccounted}"))?;
    let mut pair = Pair {
        counting: Rig::load(object, CONNECTIONS)?,
        bare: Rig::load_measured(&bare, object, CONNECTIONS)?,
    };
    let mut amounts = Vec::new();
    for flows in [1, 1_000, 100_000] {
        let group = established(flows);
        for rig in [&mut pair.counting, &mut pair.bare] {
            rig.reset(group.which)?;
            establish(rig, &group)?;
        }
        for case in cases(&group) {
            amounts.extend(pair.compare(&group, &case, rounds)?);
        }
    }
    let group = new_flows();
    for case in cases(&group) {
        amounts.extend(pair.compare(&group, &case, rounds)?);
    }
    Ok(amounts)
}

impl Pair {
    fn compare(&mut self, group: &Group, case: &Case, rounds: u32) -> Result<[Amount; 3]> {
        let (mut nets, mut bare_nets, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            let around = around(&mut self.counting, group)?;
            let net = |rig: &mut Rig| {
                let all = with_prepare(rig, group, case)?;
                anyhow::Ok(around.net(case.tags, all))
            };
            // What comes second in one round comes first in the next.
            let (net, bare) = if round % 2 == 0 {
                let first = net(&mut self.counting)?;
                (first, net(&mut self.bare)?)
            } else {
                let first = net(&mut self.bare)?;
                (net(&mut self.counting)?, first)
            };
            nets.push(net);
            bare_nets.push(bare);
            ratios.push(net / bare);
        }
        let of = format!("accounting: {}, {}: net", case.program, case.name);
        Ok([
            amount(&of, median(nets), "ns", None),
            amount("... compiled out", median(bare_nets), "ns", None),
            amount("... with / without", median(ratios), "x", Some(GOAL)),
        ])
    }
}
