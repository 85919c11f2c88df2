//! Groups change while tasks talk: nothing is lost, nothing slips through, and what is revoked ends.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use branchline::{
    api::{ApplyRequest, SecurityGroupsApplied},
    cli::client::Client,
    security_groups::file::SecurityGroupFile,
};
use branchline_common::headers::tcp;
use branchline_tests::{
    frame::Frame,
    host::{Host, block_on},
    packet,
    settings::Settings,
    talk::{self, PATIENCE, SHORT, is_silence},
    task::Task,
    wire::Wire,
};

const ROUTER_MAC: [u8; 6] = branchline::provider::local::addresses::ROUTER_MAC.0;
/// The port that both rule sets of the test of many changes open, by rules that they do not share.
const ALWAYS: u16 = 8_000;
/// A port that neither opens.
const NEVER: u16 = 9_000;

fn file(toml: &str) -> SecurityGroupFile {
    SecurityGroupFile::parse(toml).unwrap()
}

/// The group `sg-server` with these permissions and settings, and everything out.
fn server_group(permissions: &str, settings: &str) -> SecurityGroupFile {
    file(&format!(
        "[[security_groups]]\ngroup_id = 'sg-server'\ngroup_name = 'server'\n{settings}\n\
         ip_permissions = [{permissions}]"
    ))
}

fn tcp_from(ports: (u16, u16), peers: &str) -> String {
    format!(
        "{{ ip_protocol = 'tcp', from_port = {}, to_port = {}, {peers} }}",
        ports.0, ports.1
    )
}

async fn apply(file: SecurityGroupFile) -> SecurityGroupsApplied {
    let client = Client::new(Path::new("/run/branchline/agent.sock"));
    let request = ApplyRequest { prune: false, file };
    client.apply_security_groups(&request).await.unwrap()
}

fn apply_on(host: &Host, file: SecurityGroupFile) -> SecurityGroupsApplied {
    host.run(|| block_on(apply(file)))
}

fn two_tasks(name: &str, settings: Settings) -> (Host, Task, Task) {
    let host = Host::new(name, settings).unwrap();
    host.start_agent().unwrap();
    let server = host
        .add_task("server", &["subnet-a"], &["sg-server"])
        .unwrap();
    let client = host
        .add_task("client", &["subnet-b"], &["sg-client"])
        .unwrap();
    (host, server, client)
}

fn drops(host: &Host, reason: &str) -> u64 {
    let drops = host.status().unwrap().drops;
    let of_reason = drops.iter().find(|drop| drop.reason == reason);
    of_reason.map_or(0, |drop| drop.packets)
}

/// Sends datagrams, each of a flow of its own, until it is told to stop; counts what arrives.
struct Stream {
    sent: AtomicU64,
    arrived: AtomicU64,
}

impl Stream {
    const fn new() -> Self {
        Self {
            sent: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
        }
    }

    fn send(&self, from: &Task, to: SocketAddr, stop: &AtomicBool) {
        from.run(|| {
            while !stop.load(Ordering::Relaxed) && self.sent.load(Ordering::Relaxed) < 20_000 {
                let socket = UdpSocket::bind(talk::unspecified(to.ip())).unwrap();
                socket.send_to(&[1; 20], to).unwrap();
                self.sent.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_micros(300));
            }
        });
    }

    /// Counts until nothing came for a while after `stop`.
    fn receive(&self, socket: &UdpSocket, stop: &AtomicBool) {
        socket.set_read_timeout(Some(SHORT)).unwrap();
        let mut buffer = [0; 64];
        loop {
            match socket.recv_from(&mut buffer) {
                Ok(_) => {
                    self.arrived.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) if stop.load(Ordering::Relaxed) => return,
                Err(_) => {}
            }
        }
    }
}

#[test]
fn a_thousand_changes_lose_no_packet_and_let_none_slip_through() {
    let (host, server, client) = two_tasks("changes", Settings::default());
    let [ipv4, _] = server.addresses();
    let udp = |ports: (u16, u16), cidr: &str| {
        format!(
            "{{ ip_protocol = 'udp', from_port = {}, to_port = {}, ip_ranges = [{{ cidr_ip = '{cidr}' }}] }}",
            ports.0, ports.1
        )
    };
    let one = server_group(&udp((ALWAYS, ALWAYS), "10.0.2.0/24"), "");
    let other = server_group(
        &[udp((7_000, 8_999), "10.0.0.0/16"), udp((1, 6), "0.0.0.0/0")].join(","),
        "",
    );
    apply_on(&host, one.clone());
    let (stop, always, never) = (AtomicBool::new(false), Stream::new(), Stream::new());
    let sockets = server
        .run(|| [ALWAYS, NEVER].map(|port| UdpSocket::bind(SocketAddr::new(ipv4, port)).unwrap()));
    let before = drops(&host, "no-rule");
    thread::scope(|scope| {
        let [good, bad] = &sockets;
        scope.spawn(|| always.receive(good, &stop));
        scope.spawn(|| never.receive(bad, &stop));
        scope.spawn(|| always.send(&client, SocketAddr::new(ipv4, ALWAYS), &stop));
        scope.spawn(|| never.send(&client, SocketAddr::new(ipv4, NEVER), &stop));
        host.run(|| {
            block_on(async {
                for _ in 0..500 {
                    assert_eq!(apply(other.clone()).await.network_interfaces, 1);
                    assert_eq!(apply(one.clone()).await.network_interfaces, 1);
                }
            });
        });
        stop.store(true, Ordering::Relaxed);
    });
    let counts = |stream: &Stream| {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&stream.sent), load(&stream.arrived))
    };
    let (sent, arrived) = counts(&always);
    assert!(sent > 1_000, "{sent} packets while groups changed");
    assert_eq!(arrived, sent);
    let (sent, arrived) = counts(&never);
    assert_eq!(arrived, 0, "of {sent} packets that neither allows");
    assert_eq!(drops(&host, "no-rule") - before, sent);
}

/// Whether a byte still gets from one end to the other.
fn is_open(ends: &mut (std::net::TcpStream, std::net::TcpStream)) -> bool {
    let (client, server) = ends;
    server.set_read_timeout(Some(SHORT)).unwrap();
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).is_ok()
}

#[test]
fn a_removed_rule_ends_connections_only_if_the_group_says_so() {
    let (host, server, client) = two_tasks("revoke", Settings::default());
    let near = "ip_ranges = [{ cidr_ip = '10.0.2.0/24' }], ipv6_ranges = [{ cidr_ipv6 = '2001:db8:1:2::/64' }]";
    for address in server.addresses() {
        let at = SocketAddr::new(address, 7);
        for (settings, goes_on) in [("", true), ("cut_on_revoke = true", false)] {
            let open = server_group(&tcp_from((7, 7), near), settings);
            apply_on(&host, open);
            let mut ends = talk::connection(&client.netns, &server.netns, at).unwrap();
            assert!(is_open(&mut ends));
            apply_on(&host, server_group("", settings));
            if goes_on {
                assert!(is_open(&mut ends), "{address}");
            } else {
                let patience = Instant::now() + PATIENCE;
                while is_open(&mut ends) {
                    assert!(Instant::now() < patience, "{address} is still open");
                }
            }
            let new = talk::tcp(&client.netns, &server.netns, at, SHORT);
            assert!(is_silence(&new), "{address}: {new:?}");
        }
    }
}

#[test]
fn audit_mode_lets_through_what_it_would_deny_and_its_end_ends_that() {
    let (host, server, client) = two_tasks("audit", Settings::default());
    for address in server.addresses() {
        let at = SocketAddr::new(address, 7);
        apply_on(&host, server_group("", "audit = true"));
        let before = drops(&host, "no-rule");
        let mut ends = talk::connection(&client.netns, &server.netns, at).unwrap();
        assert!(is_open(&mut ends));
        assert_eq!(drops(&host, "no-rule"), before);
        apply_on(&host, server_group("", ""));
        let patience = Instant::now() + PATIENCE;
        while is_open(&mut ends) {
            assert!(Instant::now() < patience, "{address} is still open");
        }
        let new = talk::tcp(&client.netns, &server.netns, at, SHORT);
        assert!(is_silence(&new), "{address}: {new:?}");
        assert!(drops(&host, "no-rule") > before);
    }
}

#[test]
fn a_reference_admits_members_while_they_are_members() {
    let (host, server, client) = two_tasks("members", Settings::default());
    let stranger = host
        .add_task("stranger", &["subnet-b"], &["sg-server"])
        .unwrap();
    let by_group = tcp_from((7, 7), "user_id_group_pairs = [{ group_id = 'sg-client' }]");
    apply_on(&host, server_group(&by_group, ""));
    for (address, own) in server.addresses().into_iter().zip(client.addresses()) {
        let at = SocketAddr::new(address, 7);
        let seen = talk::tcp(&client.netns, &server.netns, at, PATIENCE).unwrap();
        assert_eq!(seen.ip(), own);
        let other = talk::tcp(&stranger.netns, &server.netns, at, SHORT);
        assert!(is_silence(&other), "{address}: {other:?}");
    }
    // Another task with the address of a former member inherits no trust.
    let [former, _] = client.addresses();
    drop(client);
    host.remove_task("client").unwrap();
    let heir = heir_of(&host, former);
    let [ipv4, _] = server.addresses();
    let at = SocketAddr::new(ipv4, 7);
    let other = talk::tcp(&heir.netns, &server.netns, at, SHORT);
    assert!(is_silence(&other), "{other:?}");
    // And a new member is one at once.
    let member = host
        .add_task("member", &["subnet-b"], &["sg-client"])
        .unwrap();
    talk::tcp(&member.netns, &server.netns, at, PATIENCE).unwrap();
}

/// A task that is no member and has this address: tasks come until one gets it.
fn heir_of(host: &Host, address: IpAddr) -> Task {
    for number in 0..300 {
        let id = format!("heir-{number}");
        let task = host.add_task(&id, &["subnet-b"], &["sg-server"]).unwrap();
        if task.addresses()[0] == address {
            return task;
        }
        drop(task);
        if number > 8 {
            host.remove_task(&id).unwrap();
        }
    }
    panic!("nobody got {address}")
}

#[test]
fn a_flood_of_one_task_leaves_the_others_their_connections() {
    const SHARE: u64 = 1_024;
    let settings = Settings {
        top_level: format!("conntrack = {{ max_entries = 4096, max_entries_per_eni = {SHARE} }}"),
        ..Settings::default()
    };
    let (host, server, client) = two_tasks("flood", settings);
    let near = "ip_ranges = [{ cidr_ip = '10.0.0.0/16' }]";
    apply_on(&host, server_group(&tcp_from((7, 7), near), ""));
    let flooder = host
        .add_task("flooder", &["subnet-b"], &["sg-client"])
        .unwrap();
    let [own, _] = flooder.addresses();
    let frames: Vec<Vec<u8>> = (0..4 * SHARE)
        .map(|number| {
            let from = format!("{own}:{}", 1_024 + number);
            // A network that the VPC does not carry: nothing leaves.
            let syn = packet::tcp(&from, "10.0.99.1:80", tcp::SYN);
            Frame::of(flooder.mac, ROUTER_MAC, &syn).bytes().to_vec()
        })
        .collect();
    flooder.run(|| {
        let wire = Wire::open("eth0").unwrap();
        for frame in &frames {
            wire.send(frame).unwrap();
        }
    });
    let patience = Instant::now() + PATIENCE;
    while drops(&host, "conntrack-full") < 3 * SHARE {
        assert!(Instant::now() < patience, "{:?}", host.status().unwrap());
    }
    assert_eq!(drops(&host, "conntrack-full"), 3 * SHARE);
    let status = host.status().unwrap();
    assert_eq!(status.conntrack_allowance_exceeded, 3 * SHARE);
    assert_eq!(status.conntrack_entries, SHARE);
    let [ipv4, _] = server.addresses();
    let at = SocketAddr::new(ipv4, 7);
    for _ in 0..100 {
        talk::tcp(&client.netns, &server.netns, at, PATIENCE).unwrap();
    }
    assert_eq!(drops(&host, "conntrack-full"), 3 * SHARE);
}
