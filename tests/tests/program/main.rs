//! Tier 2: the table and random frames through the loaded programs. Needs CAP_BPF.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod batch;

mod fabric;

mod golden;

mod services;

mod sweep;

mod untracked;

use std::collections::HashSet;

use branchline_common::{
    account::Segments,
    conntrack::State,
    flow::FlowKey,
    maps::eni,
    verdict::{Direction, Service, Verdict},
};
use branchline_tests::{
    case::{Case, ROUTER_MAC, Step, case},
    frame::Frame,
    loaded::{self, Loaded, chain, with_shared},
    packet,
    pure::Pure,
    random::Random,
    table,
    world::{Tables, World},
};

/// Runs a case in both worlds; both must say what it says and leave the same.
fn run_in_both(case: &Case, loaded: &mut Loaded) -> Result<(), String> {
    let mut pure = Pure::default();
    let mut case = case.clone();
    case.steps.retain(|step| match step {
        Step::Frame { frame, .. } => loaded::is_runnable(frame),
        Step::Wait(_) | Step::Epoch | Step::Rules(..) => true,
    });
    case.run(loaded)?;
    case.run(&mut pure)?;
    // Timers are in ticks, of which this kernel may have another number in a second.
    let (loaded_left, pure_left) = (
        scaled(loaded.tables(), loaded.ticks_per_second()),
        scaled(pure.tables(), branchline_tests::pure::TICKS_PER_SECOND),
    );
    if loaded_left == pure_left {
        Ok(())
    } else {
        Err(format!(
            "{}: the programs left {loaded_left:#?}, the pure pipeline {pure_left:#?}",
            case.name
        ))
    }
}

fn scaled(mut tables: Tables, ticks_per_second: u32) -> Tables {
    for (tracking, _) in tables.connections.values_mut() {
        tracking.timeout /= ticks_per_second;
    }
    tables
}

#[test]
fn every_case_of_the_table_comes_out_as_it_says() {
    let cases = table::cases();
    let (small, ordinary): (Vec<_>, Vec<_>) =
        cases.iter().partition(|case| case.max_connections > 0);
    let mut wrong: Vec<_> = with_shared(|loaded| {
        let run = |case: &Case| run_in_both(case, loaded).err();
        ordinary.into_iter().filter_map(run).collect()
    });
    for case in small {
        let loaded = Loaded::new(case.max_connections as u32);
        let mut loaded = loaded.unwrap_or_else(|error| panic!("{}", chain(&error)));
        wrong.extend(run_in_both(case, &mut loaded).err());
    }
    assert!(
        wrong.is_empty(),
        "{} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Frames of one round of random ones.
const FRAMES: usize = 20_000;
/// Frames of all rounds of the long run.
const LONG_FRAMES: u64 = 10_000_000;
/// After so many frames both worlds are compared and time goes by.
const BATCH: usize = 1_000;
const HALF_HOUR: u32 = 1_800;

/// ENIs whose timers are odd multiples of half an hour, so that an hour decides whatever the time
/// that a run takes.
fn random_case(seed: u64) -> Case {
    let mut case = case(
        "random",
        &[
            "ingress all 0.0.0.0/0",
            "ingress all ::/0",
            "egress udp 53 0.0.0.0/0",
        ],
    )
    .eni(
        2,
        &[
            "egress tcp 0.0.0.0/0",
            "egress tcp ::/0",
            "ingress udp 0-1000 198.51.100.0/24",
            "ingress icmp 8 0.0.0.0/0",
            "egress icmpv6 128 ::/0",
            "ingress 47 0.0.0.0/0",
            "ingress tcp 443 2001:db8:ffff::/48",
        ],
    )
    .flags(eni::SOURCE_DEST_CHECK | eni::BLOCK_IMDS)
    .eni(3, &["egress all 0.0.0.0/0", "egress all ::/0"])
    .flags(0);
    case.is_strict = seed % 4 == 3;
    if seed % 2 == 1 {
        case = case.includes(&Service::ALL);
    }
    case.fragment_seconds = HALF_HOUR;
    for eni in &mut case.enis {
        let timer = |state: State| (state, HALF_HOUR * (2 * (state as u32 % 3) + 1));
        eni.timeouts = State::ALL.into_iter().map(timer).collect();
    }
    case
}

/// One round: the same verdict for every frame, the same tables after every batch.
fn random_round(loaded: &mut Loaded, seed: u64) -> HashSet<Verdict> {
    let case = random_case(seed);
    let ticks = loaded.ticks_per_second();
    let mut pure = Pure::new(ticks);
    pure.set_up(&case);
    loaded.set_up(&case);
    let mut random = Random::new(seed);
    let mut verdicts = HashSet::new();
    for index in 0..FRAMES {
        let (eni, direction, frame, segments) = random.arrival(&case.enis);
        if !loaded::is_runnable(&frame) {
            continue;
        }
        let eni = &case.enis[eni];
        let expected = pure.frame(eni, direction, &frame, segments);
        let verdict = loaded.frame(eni, direction, &frame, segments);
        assert_eq!(
            verdict, expected,
            "seed {seed}, frame {index}, {direction:?}: {frame:02x?}"
        );
        verdicts.insert(verdict);
        if index % BATCH == BATCH - 1 {
            assert!(
                loaded.tables() == pure.tables(),
                "seed {seed}: tables differ after frame {index}: {}",
                first_difference(&loaded.tables(), &pure.tables())
            );
            let hours = random.below(3) as u32;
            for world in [loaded as &mut dyn World, &mut pure] {
                world.wait(2 * HALF_HOUR * hours);
                world.next_epoch();
            }
        }
    }
    verdicts
}

fn first_difference(loaded: &Tables, pure: &Tables) -> String {
    let differs = |key: &&FlowKey| {
        loaded.connections.get(key) != pure.connections.get(key)
            || loaded.rows.get(key) != pure.rows.get(key)
    };
    let keys = [loaded, pure].map(|tables| tables.connections.keys().chain(tables.rows.keys()));
    match keys.into_iter().flatten().find(differs) {
        Some(key) => format!(
            "{key:?}: programs {:?} {:?}, pure {:?} {:?}",
            loaded.connections.get(key),
            loaded.rows.get(key),
            pure.connections.get(key),
            pure.rows.get(key)
        ),
        None => format!("counters {:?}, {:?}", loaded.counters, pure.counters),
    }
}

#[test]
fn random_frames_get_the_verdict_and_leave_the_entries_of_the_pure_pipeline() {
    let verdicts = with_shared(|loaded| random_round(loaded, 1));
    // The frames are worth something if they reach most of the reasons.
    let reasons = verdicts
        .iter()
        .filter(|verdict| matches!(verdict, Verdict::Deny(_)))
        .count();
    assert!(verdicts.contains(&Verdict::Allow) && verdicts.contains(&Verdict::Exempt));
    assert!(reasons >= 12, "only {reasons} reasons: {verdicts:?}");
}

#[test]
#[ignore = "ten million frames; `cargo xtask test program --long` runs it"]
fn ten_million_random_frames_get_the_verdicts_of_the_pure_pipeline() {
    for seed in 2..2 + LONG_FRAMES / FRAMES as u64 {
        with_shared(|loaded| random_round(loaded, seed));
    }
}

#[test]
fn an_incoming_frame_loses_its_tag_and_nothing_else() {
    let case = case("tag", &["ingress all 0.0.0.0/0"]);
    let packet = packet::udp("198.51.100.7:1", "10.0.1.10:2").data(9);
    let frame = case.enis[0].frame(Direction::Ingress, &packet).bytes();
    let untagged = Frame::of(ROUTER_MAC, case.enis[0].mac(), &packet).bytes();
    with_shared(|loaded| {
        loaded.set_up(&case);
        let segments = Segments::default();
        let verdict = loaded.frame(&case.enis[0], Direction::Ingress, &frame, segments);
        assert_eq!(verdict, Verdict::Allow);
        assert_eq!(loaded.output[..], untagged[..]);
    });
}
