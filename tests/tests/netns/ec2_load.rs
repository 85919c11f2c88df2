//! How long many tasks take under EC2's own throttling. Prints figures; the bound is what any client would need.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use branchline_ec2_stand_in::{Outcome, Throttle};
use serde_json::json;

use super::ec2::instance_with;
use branchline_tests::task::spec;

/// Tasks, where the variable says nothing else.
const TASKS: usize = 500;
const VARIABLE: &str = "BRANCHLINE_LOAD_TASKS";
const AT_ONCE: usize = 16;
const LATENCY: Duration = Duration::from_millis(50);

/// Seconds that `calls` of one action take at least: what its bucket holds goes at once, the rest at its pace.
fn least(calls: usize, holds: f64, pace: f64) -> f64 {
    (calls as f64 - holds).max(0.0) / pace
}

#[test]
#[ignore = "slow: EC2's buckets let five tasks a second pass"]
fn ec2_load() {
    let tasks = std::env::var(VARIABLE).map_or(TASKS, |text| text.parse().unwrap());
    let (host, account) = instance_with(
        "ec2-load",
        "poll = 30\ndeadline = 300\nrequest_share_percent = 100\nmax_branches = 1000",
    );
    host.start_agent().unwrap();
    account.ec2.change(|state| {
        // No instance type takes so many.
        let types = state.instance_types.values_mut();
        types.for_each(|of| of.branches = Some(tasks));
    });
    account.ec2.latency(LATENCY);
    account.ec2.throttle(Throttle::aws());
    drop(account.ec2.take_calls());
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let mut api = host.api().unwrap();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= tasks {
                        return;
                    }
                    let id = format!("task-{number}");
                    let body = spec(&id, &[&account.subnet], &[&account.client]);
                    let added = api.json("POST", "/v1/tasks", &body.to_string());
                    let added = added.unwrap();
                    assert_eq!(added["taskId"], json!(id), "{added}");
                }
            });
        }
    });
    let took = started.elapsed().as_secs_f64();
    let mut by_action: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for call in account.ec2.take_calls() {
        let counts = by_action.entry(call.operation).or_default();
        counts.0 += 1;
        counts.1 += usize::from(call.outcome != Outcome::Done);
    }
    let creates = least(tasks, 100.0, 5.0);
    let associates = least(tasks, 50.0, 5.0);
    let bound = creates.max(associates) + 2.0 * LATENCY.as_secs_f64();
    println!(
        "{tasks} tasks, {AT_ONCE} at once: {took:.1} s, at least {bound:.1} s under EC2's buckets"
    );
    for (action, (calls, failed)) in &by_action {
        println!("{action:<36} {calls:>5} calls, {failed} of them not done");
    }
    assert_eq!(account.on_trunk().len(), tasks);
    for action in ["CreateNetworkInterface", "AssociateTrunkInterface"] {
        let (calls, failed) = by_action[action];
        assert_eq!(calls - failed, tasks, "{action}");
        // With all of the quota, a call whose way was short may come before its token is there.
        assert!(failed <= tasks / 20, "{action}: {failed} throttled");
    }
    assert!(took >= bound * 0.95, "the stand-in throttles: {took}");
    assert!(took < bound * 1.25 + 15.0, "{took}");
}
