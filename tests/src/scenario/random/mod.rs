//! Random scenarios, as values of the golden format: a seed gives the same one on every machine.
//!
//! What is expected is what the oracle says, so that a scenario on which judges disagree can be
//! written to a file and run again. Addresses and ports come from small pools, and most packets are
//! of a flow that is there already, so that they relate to each other.
//!
//! Beside its primary addresses an ENI has others; they occur as peers of other ENIs only. A living
//! ENI keeps its addresses.

mod configuration;

mod flow;

mod traffic;

#[cfg(test)]
mod tests;

use self::flow::Flow;
use super::{
    format::{Arrival, Change, Direction, EniKeys, Scenario, Step},
    oracle::Oracle,
    packet_format::{IpPkt, Pkt},
    packets::Bookkeeper,
    runner,
    setting::Setting,
};
use crate::random::Random;

/// Flows that packets come back to.
const MOST_FLOWS: usize = 10;
/// ENIs of one scenario, also those that are gone.
const MOST_ENIS: usize = 6;
/// Seconds that go by at once: fractions of timers, and timers to the second.
const PAUSES: [u64; 16] = [
    1, 1, 2, 5, 9, 10, 11, 29, 30, 31, 59, 60, 119, 120, 179, 301,
];
/// Seconds that go by now and then.
const LONG_PAUSES: [u64; 4] = [349, 350, 600, 432_000];

/// The scenario of a seed, with so many packets, and what the oracle expects of it.
#[must_use]
pub fn scenario(seed: u64, packets: usize) -> Scenario {
    let mut scenario = Generator::new(seed).run(packets);
    let mut oracle = Oracle::default();
    let unexpected = runner::run(&scenario, &mut [&mut oracle]);
    debug_assert_eq!(unexpected, [], "the oracle takes what is made here");
    let arrivals = scenario.steps.iter_mut().filter_map(|step| match step {
        Step::Packet(arrival) => Some(arrival),
        Step::Change(_) => None,
    });
    for (arrival, judged) in arrivals.zip(&oracle.judged) {
        arrival.expect = Some(judged.verdict);
        arrival.tracked = judged.tracked;
    }
    let now = scenario.seconds();
    let counters = runner::Judge::counters(&mut oracle, now);
    scenario.expect_counters = counters
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
    scenario
}

/// A scenario that grows.
struct Generator {
    random: Random,
    scenario: Scenario,
    /// What is configured now.
    setting: Setting,
    /// Knows the numbers that the runner will fill in.
    book: Bookkeeper,
    flows: Vec<Flow>,
    /// The flow that packets go on with.
    current: usize,
    /// The last first fragments, whose later ones may follow.
    datagrams: Vec<(String, Direction, IpPkt)>,
    t: u64,
    /// ENIs made so far.
    enis: usize,
}

impl Generator {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let scenario = configuration::scenario(&mut random, seed);
        Self {
            setting: Setting::of(&scenario),
            book: Bookkeeper::default(),
            flows: Vec::new(),
            current: 0,
            datagrams: Vec::new(),
            t: 0,
            enis: scenario.enis.len(),
            random,
            scenario,
        }
    }

    fn run(mut self, packets: usize) -> Scenario {
        for _ in 0..packets {
            if self.random.one_in(6) {
                self.t += self.random.of(&PAUSES);
            }
            if self.random.one_in(60) {
                self.t += self.random.of(&LONG_PAUSES);
            }
            if self.random.one_in(16) {
                let change = self.change();
                self.setting.apply(&change);
                self.scenario.steps.push(Step::Change(change));
            }
            let (eni, dir, pkt) = self.packet();
            self.arrive(&eni, dir, pkt);
        }
        self.scenario
    }

    fn arrive(&mut self, eni: &str, dir: Direction, pkt: Pkt) {
        if let Pkt::Ip(pkt) = &pkt
            && pkt.frag.is_some_and(|frag| frag.offset == 0)
        {
            self.datagrams.truncate(2);
            self.datagrams
                .insert(0, (eni.to_owned(), dir, (**pkt).clone()));
        }
        if let Some(plugged) = self.setting.enis.get(eni) {
            self.book.complete(&self.setting, (eni, plugged), dir, &pkt);
        }
        self.scenario.steps.push(Step::Packet(Arrival {
            t: self.t,
            eni: eni.to_owned(),
            dir,
            pkt,
            expect: None,
            tracked: None,
        }));
    }

    /// One of the ENIs that are there; there always is one.
    fn eni(&mut self) -> String {
        let ids: Vec<&String> = self.setting.enis.keys().collect();
        ids[self.random.below(ids.len())].clone()
    }

    fn change(&mut self) -> Change {
        let mut change = Change::default();
        match self.random.below(8) {
            0..3 => {
                let ids: Vec<String> = self.setting.groups.keys().cloned().collect();
                let id = ids[self.random.below(ids.len())].clone();
                let group = configuration::group(&mut self.random, ids.len());
                change.set_group.insert(id, group);
            }
            3 => {
                let id = self.random.of(&configuration::PREFIX_LISTS).to_owned();
                let networks = configuration::networks(&mut self.random);
                change.set_prefix_list.insert(id, networks);
            }
            4 if self.setting.enis.len() > 1 => {
                let gone = self.eni();
                self.flows.retain(|flow| flow.eni != gone);
                self.datagrams.retain(|(eni, ..)| *eni != gone);
                change.set_eni.insert(gone, None);
            }
            5 if self.enis < MOST_ENIS => {
                let groups = self.setting.groups.len();
                // Often with the addresses of one that is gone.
                let place = self.random.below(4);
                let eni = configuration::eni(&mut self.random, place, groups);
                let keys = EniKeys {
                    ipv4: Some(Some(eni.ipv4)),
                    ipv6: Some(Some(eni.ipv6)),
                    prefixes: Some(Some(eni.prefixes)),
                    groups: Some(Some(eni.groups)),
                    source_dest_check: Some(Some(eni.source_dest_check)),
                };
                self.enis += 1;
                change
                    .set_eni
                    .insert(format!("eni-{}", self.enis), Some(keys));
            }
            6 => {
                let keys = EniKeys {
                    source_dest_check: Some(Some(!self.random.one_in(4))),
                    ..EniKeys::default()
                };
                change.set_eni.insert(self.eni(), Some(keys));
            }
            _ => {
                let groups = configuration::members(&mut self.random, self.setting.groups.len());
                let keys = EniKeys {
                    groups: Some(Some(groups)),
                    ..EniKeys::default()
                };
                change.set_eni.insert(self.eni(), Some(keys));
            }
        }
        change
    }
}
