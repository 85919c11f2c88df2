//! Tasks reach one another, the host and the outside as their groups say.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use branchline_tests::{
    frame::Frame,
    host::Host,
    packet,
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE, SHORT, is_silence},
    task::Task,
    wire::Wire,
};

const CLOSED_PORT: u16 = 8;
/// The VPC router's hardware address, which every task sends to.
const ROUTER_MAC: [u8; 6] = branchline::provider::local::addresses::ROUTER_MAC.0;

/// A server and a client in different subnets, on a running agent.
fn two_tasks(name: &str) -> (Host, Task, Task) {
    let host = Host::new(name, Settings::default()).unwrap();
    host.start_agent().unwrap();
    let server = host
        .add_task("server", &["subnet-a"], &["sg-server"])
        .unwrap();
    let client = host
        .add_task("client", &["subnet-b"], &["sg-client"])
        .unwrap();
    (host, server, client)
}

fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

#[test]
fn tasks_reach_one_another_under_their_groups() {
    let (host, server, client) = two_tasks("groups");
    let neighbour = host
        .add_task("neighbour", &["subnet-a"], &["sg-client"])
        .unwrap();
    for from in [&client, &neighbour] {
        for (address, own) in server.addresses().into_iter().zip(from.addresses()) {
            let open = at(address, OPEN_PORT);
            let seen = talk::tcp(&from.netns, &server.netns, open, PATIENCE).unwrap();
            assert_eq!(seen.ip(), own, "TCP");
            let seen = talk::udp(&from.netns, &server.netns, open, 100, PATIENCE).unwrap();
            assert_eq!(seen.ip(), own, "UDP");
            talk::ping(&from.netns, address, 56, PATIENCE).unwrap();
        }
    }
}

#[test]
fn what_no_group_allows_is_silence() {
    let (_host, server, client) = two_tasks("denied");
    for address in server.addresses() {
        let closed = at(address, CLOSED_PORT);
        let tcp = talk::tcp(&client.netns, &server.netns, closed, SHORT);
        assert!(is_silence(&tcp), "TCP to {closed}: {tcp:?}");
        let udp = talk::udp(&client.netns, &server.netns, closed, 100, SHORT);
        assert!(is_silence(&udp), "UDP to {closed}: {udp:?}");
    }
    // The client takes nothing, though answers to it pass.
    for address in client.addresses() {
        let open = at(address, OPEN_PORT);
        let tcp = talk::tcp(&server.netns, &client.netns, open, SHORT);
        assert!(is_silence(&tcp), "TCP to {open}: {tcp:?}");
        let udp = talk::udp(&server.netns, &client.netns, open, 100, SHORT);
        assert!(is_silence(&udp), "UDP to {open}: {udp:?}");
        let ping = talk::ping(&server.netns, address, 56, SHORT);
        assert!(is_silence(&ping), "ping of {address}: {ping:?}");
    }
}

#[test]
fn a_large_transfer_arrives_intact_and_soon() {
    const BYTES: usize = 50_000_000;
    let (_host, server, client) = two_tasks("large");
    for address in server.addresses() {
        let open = at(address, OPEN_PORT);
        let took = talk::transfer(&client.netns, &server.netns, open, BYTES).unwrap();
        println!("{BYTES} bytes to {open} in {took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

#[test]
fn fragments_arrive() {
    let (_host, server, client) = two_tasks("fragments");
    for address in server.addresses() {
        for len in [9_200, 30_000, 65_400] {
            let open = at(address, OPEN_PORT);
            talk::udp(&client.netns, &server.netns, open, len, PATIENCE).unwrap();
            talk::ping(&client.netns, address, len, PATIENCE).unwrap();
            let closed = at(address, CLOSED_PORT);
            let denied = talk::udp(&client.netns, &server.netns, closed, len, SHORT);
            assert!(is_silence(&denied), "{len} bytes to {closed}: {denied:?}");
        }
    }
}

#[test]
fn options_and_extension_headers_do_not_hide_ports() {
    let (_host, server, client) = two_tasks("options");
    let from = client.addresses().map(|address| at(address, 4000));
    for (from, to) in from.into_iter().zip(server.addresses()) {
        for (port, is_open) in [(OPEN_PORT, true), (CLOSED_PORT, false)] {
            let to = at(to, port);
            let socket = server.run(|| UdpSocket::bind(to)).unwrap();
            let wait = if is_open { PATIENCE } else { SHORT };
            socket.set_read_timeout(Some(wait)).unwrap();
            let plain = packet::udp(&from.to_string(), &to.to_string()).data(32);
            let packet = if to.is_ipv4() {
                plain.options(10)
            } else {
                // Destination options twice (RFC 8200 section 4.6); Linux takes 7 bytes of padding at most.
                plain.extension(60, 0).extension(60, 0)
            };
            let frame = Frame::of(client.mac, ROUTER_MAC, &packet).bytes();
            client
                .run(|| Wire::open("eth0").unwrap().send(&frame))
                .unwrap();
            let mut buffer = [0; 64];
            let result = socket.recv_from(&mut buffer);
            if is_open {
                assert_eq!(result.unwrap(), (32, from), "{to}");
            } else {
                assert!(is_silence(&result), "{to}: {result:?}");
            }
        }
    }
}

#[test]
fn the_host_reaches_tasks_under_their_groups() {
    let (host, server, client) = two_tasks("host");
    for address in server.addresses() {
        let open = at(address, OPEN_PORT);
        talk::tcp(host.netns(), &server.netns, open, PATIENCE).unwrap();
        talk::udp(host.netns(), &server.netns, open, 100, PATIENCE).unwrap();
        talk::ping(host.netns(), address, 56, PATIENCE).unwrap();
        let closed = at(address, CLOSED_PORT);
        let denied = talk::tcp(host.netns(), &server.netns, closed, SHORT);
        assert!(is_silence(&denied), "{denied:?}");
    }
    for address in client.addresses() {
        let denied = talk::ping(host.netns(), address, 56, SHORT);
        assert!(is_silence(&denied), "{denied:?}");
    }
}

#[test]
fn the_outside_is_reached_and_does_not_reach_in() {
    let (host, server, client) = two_tasks("outside");
    let outside = host.outside(1500).unwrap();
    for (address, host_address) in outside.addresses().into_iter().zip([
        IpAddr::from([198, 51, 100, 1]),
        "2001:db8:ffff::1".parse().unwrap(),
    ]) {
        let open = at(address, 9000);
        let seen = talk::tcp(&client.netns, &outside.netns, open, PATIENCE).unwrap();
        assert_eq!(seen.ip(), host_address, "translated to the host's");
        talk::udp(&client.netns, &outside.netns, open, 100, PATIENCE).unwrap();
        talk::ping(&client.netns, address, 56, PATIENCE).unwrap();
    }
    for network in ["10.0.0.0/16", "2001:db8:1::/56"] {
        outside.route_to_host(network.parse().unwrap()).unwrap();
    }
    for address in server.addresses() {
        let open = at(address, OPEN_PORT);
        let tcp = talk::tcp(&outside.netns, &server.netns, open, SHORT);
        assert!(is_silence(&tcp), "TCP to {open}: {tcp:?}");
        let udp = talk::udp(&outside.netns, &server.netns, open, 100, SHORT);
        assert!(is_silence(&udp), "UDP to {open}: {udp:?}");
        let ping = talk::ping(&outside.netns, address, 56, SHORT);
        assert!(is_silence(&ping), "ping of {address}: {ping:?}");
    }
}

/// The uplink carries 1,500 bytes, the task and the outside send 9,001: each must be told.
#[test]
fn a_smaller_mtu_on_the_way_is_told_to_both_ends() {
    const BYTES: usize = 2_000_000;
    let (host, _server, client) = two_tasks("pmtu");
    let outside = host.outside(9001).unwrap();
    for address in outside.addresses() {
        let took = talk::transfer(&client.netns, &outside.netns, at(address, 9000), BYTES).unwrap();
        assert!(took < Duration::from_secs(5), "{address}: {took:?}");
        // A connection that the task opens and the outside fills.
        let took = talk::fetch(&client.netns, &outside.netns, at(address, 9001), BYTES).unwrap();
        assert!(took < Duration::from_secs(5), "from {address}: {took:?}");
    }
}
