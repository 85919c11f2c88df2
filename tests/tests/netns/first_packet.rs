//! A task that is said to be there is reached by the very first packet, and reaches others by its own.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use branchline_tests::{
    host::Host,
    settings::{OPEN_PORT, Settings},
    talk,
    task::spec,
};

const SUBNET: &[&str] = &["subnet-a"];
/// Whatever was lost does not come later.
const WAIT: Duration = Duration::from_secs(2);

#[test]
fn the_first_packet_reaches_a_task_that_was_just_added() {
    first_packets("first-packet", 40);
}

#[test]
#[ignore = "long: 200 tasks, one after the other, on busy CPUs"]
fn the_first_packet_of_200_reaches_a_task_that_was_just_added() {
    first_packets("first-packets", 200);
}

/// Adds `count` tasks one after the other while all CPUs are busy; the first packets of another task to
/// each, of both families, and of each to another.
fn first_packets(name: &str, count: usize) {
    let host = Host::new(name, Settings::default()).unwrap();
    host.start_agent().unwrap();
    let other = host
        .add_task("other", &["subnet-b"], &["sg-server"])
        .unwrap();
    let is_over = AtomicBool::new(false);
    let cpus = thread::available_parallelism().map_or(2, usize::from);
    let lost = thread::scope(|scope| {
        for _ in 0..2 * cpus {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::black_box(talk::pattern(10_000));
                }
            });
        }
        let lost: Vec<String> = (0..count)
            .flat_map(|number| first_packets_of(&host, &other, number))
            .collect();
        is_over.store(true, Ordering::Relaxed);
        lost
    });
    assert!(lost.is_empty(), "{} of {count}: {lost:#?}", lost.len());
}

fn first_packets_of(
    host: &Host,
    other: &branchline_tests::task::Task,
    number: usize,
) -> Vec<String> {
    let id = format!("task-{number}");
    let body = spec(&id, SUBNET, &["sg-server"]).to_string();
    // By the API: a command takes long to end.
    let mut api = host.api().unwrap();
    let added = api.json("POST", "/v1/tasks", &body).unwrap();
    let address = |name: &str| {
        let details = added["attachments"][0]["details"].as_array().unwrap();
        let found = details.iter().find(|detail| detail["name"] == name);
        found.unwrap()["value"].as_str().unwrap().parse().unwrap()
    };
    let (ipv4, ipv6) = (address("privateIPv4Address"), address("ipv6Address"));
    let mut lost = Vec::new();
    // Which family is the first matters: what one waits for has come for the other.
    let order = if number.is_multiple_of(2) {
        [ipv6, ipv4]
    } else {
        [ipv4, ipv6]
    };
    for to in order {
        if let Err(error) = talk::ping(&other.netns, to, 56, WAIT) {
            lost.push(format!("{id}, first packet to {to}: {error}"));
        }
    }
    let task = host.task(&id).unwrap();
    for to in other.addresses() {
        let at = SocketAddr::new(to, OPEN_PORT);
        if let Err(error) = talk::udp(&task.netns, &other.netns, at, 64, WAIT) {
            lost.push(format!("{id}, first datagram to {at}: {error}"));
        }
    }
    for to in task.addresses() {
        let at = SocketAddr::new(to, OPEN_PORT);
        if let Err(error) = talk::udp(&other.netns, &task.netns, at, 64, WAIT) {
            lost.push(format!("{id}, first datagram to {at}: {error}"));
        }
    }
    drop(task);
    host.remove_task(&id).unwrap();
    lost
}
