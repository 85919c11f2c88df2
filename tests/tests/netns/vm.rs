//! What must hold on every supported kernel: `cargo xtask vm` runs this module in each.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use branchline_tests::{
    host::Host,
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE, SHORT, is_silence},
    task::Task,
    traces::Traces,
};

#[test]
fn tasks_talk_through_a_kill_and_a_restart_and_leave_nothing() {
    let host = Host::new("vm", Settings::default()).unwrap();
    let before = Traces::outside_maps(&host).unwrap();
    let started = Instant::now();
    host.start_agent().unwrap();
    println!("ready after {:?}", started.elapsed());
    let server = host
        .add_task("server", &["subnet-a"], &["sg-server"])
        .unwrap();
    let client = host
        .add_task("client", &["subnet-b"], &["sg-client"])
        .unwrap();
    println!("trunk: {}", host.status().unwrap().trunk_attachment);
    talk_as_the_groups_say(&host, &server, &client);

    host.kill_agent().unwrap();
    talk_as_the_groups_say(&host, &server, &client);
    host.start_agent().unwrap();
    talk_as_the_groups_say(&host, &server, &client);
    let late = host
        .add_task("late", &["subnet-a"], &["sg-client"])
        .unwrap();
    talk_as_the_groups_say(&host, &server, &late);

    for id in ["server", "client", "late"] {
        host.remove_task(id).unwrap();
    }
    host.stop_agent().unwrap();
    host.purge().unwrap();
    let left = Traces::outside_maps(&host).unwrap().since(&before);
    assert!(left.is_empty(), "{left:#?}");
}

fn talk_as_the_groups_say(host: &Host, server: &Task, client: &Task) {
    for address in server.addresses() {
        let at = |port| SocketAddr::new(address, port);
        let (open, closed) = (at(OPEN_PORT), at(8));
        for from in [&client.netns, host.netns()] {
            talk::tcp(from, &server.netns, open, PATIENCE).unwrap();
            talk::udp(from, &server.netns, open, 100, PATIENCE).unwrap();
            talk::ping(from, address, 56, PATIENCE).unwrap();
        }
        // Larger than the MTU of 9,001 bytes.
        talk::udp(&client.netns, &server.netns, open, 12_000, PATIENCE).unwrap();
        talk::transfer(&client.netns, &server.netns, open, 1_000_000).unwrap();
        let tcp = talk::tcp(&client.netns, &server.netns, closed, SHORT);
        assert!(is_silence(&tcp), "TCP to {closed}: {tcp:?}");
        let udp = talk::udp(&client.netns, &server.netns, closed, 100, SHORT);
        assert!(is_silence(&udp), "UDP to {closed}: {udp:?}");
    }
    let unasked: IpAddr = client.ipv4.into();
    let ping = talk::ping(&server.netns, unasked, 56, SHORT);
    assert!(is_silence(&ping), "ping of {unasked}: {ping:?}");
}
