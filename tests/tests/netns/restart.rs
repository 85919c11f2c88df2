//! The agent is killed under traffic: no packet is lost, and no count.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use branchline_common::maps::LAYOUT_VERSION;
use branchline_tests::{
    flow_row::{Flow, FlowRow},
    host::Host,
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE},
    task::Task,
};

pub(crate) const UDP: u8 = 17;
const TCP: u8 = 6;
/// Bytes of a datagram's data; with the headers it makes 128 bytes in IPv4 and 148 in IPv6.
pub(crate) const DATA: usize = 100;

/// Datagrams from one task to another, counted at both ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// Sends datagrams while `work` runs, slowly enough for the receiver.
pub(crate) fn under_datagrams<T>(
    client: &Task,
    server: &Task,
    at: SocketAddr,
    work: impl FnOnce() -> T,
) -> (T, Counts) {
    let receiver = server.run(|| UdpSocket::bind(at)).unwrap();
    let sender = client
        .run(|| UdpSocket::bind(talk::unspecified(at.ip())))
        .unwrap();
    sender.connect(at).unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut sent = 0;
            while !done.load(Ordering::Relaxed) {
                sender.send(&[7; DATA]).unwrap();
                sent += 1;
                thread::sleep(Duration::from_micros(200));
            }
            sent
        });
        let receiving = scope.spawn(|| {
            let mut received = 0;
            let mut buffer = [0; DATA + 1];
            loop {
                match receiver.recv(&mut buffer) {
                    Ok(len) => {
                        assert_eq!(len, DATA);
                        received += 1;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        if done.load(Ordering::Relaxed) {
                            return received;
                        }
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        let counts = Counts {
            sent: sending.join().unwrap(),
            received: receiving.join().unwrap(),
        };
        (result, counts)
    })
}

/// Packets and bytes of all rows of one ENI that `is_its` picks.
pub(crate) fn sum(rows: &[FlowRow], eni_id: &str, is_its: impl Fn(&Flow) -> bool) -> (u64, u64) {
    rows.iter()
        .filter(|row| row.eni_id == eni_id)
        .filter_map(|row| row.flow.as_ref())
        .filter(|flow| flow.accepted && is_its(flow))
        .fold((0, 0), |(packets, bytes), flow| {
            (packets + flow.packets, bytes + flow.bytes)
        })
}

#[test]
fn a_killed_agent_loses_no_packet_and_no_count() {
    let host = Host::new("killed", Settings::default()).unwrap();
    host.start_agent().unwrap();
    let server = host
        .add_task("server", &["subnet-a"], &["sg-server"])
        .unwrap();
    let client = host
        .add_task("client", &["subnet-b"], &["sg-client"])
        .unwrap();
    let at = |address: IpAddr| SocketAddr::new(address, OPEN_PORT);

    let kill_and_restart = || {
        let stream = || {
            talk::transfer(
                &client.netns,
                &server.netns,
                at(server.ipv4.into()),
                20_000_000,
            )
        };
        thread::scope(|scope| {
            thread::sleep(Duration::from_millis(1200));
            let streaming = scope.spawn(stream);
            host.kill_agent().unwrap();
            thread::sleep(Duration::from_millis(1200));
            streaming.join().unwrap().unwrap();
            let streaming = scope.spawn(stream);
            host.start_agent().unwrap();
            streaming.join().unwrap().unwrap();
            let late = host
                .add_task("late", &["subnet-a"], &["sg-server"])
                .unwrap();
            talk::tcp(&client.netns, &late.netns, at(late.ipv4.into()), PATIENCE).unwrap();
            thread::sleep(Duration::from_millis(1200));
        });
    };
    let (((), counts6), counts4) =
        under_datagrams(&client, &server, at(server.ipv4.into()), || {
            under_datagrams(&client, &server, at(server.ipv6.into()), kill_and_restart)
        });
    println!("IPv4 {counts4:?}, IPv6 {counts6:?}");
    for counts in [&counts4, &counts6] {
        assert!(
            counts.sent > 1000,
            "too little traffic to prove anything: {counts:?}"
        );
        assert_eq!(counts.sent, counts.received);
    }
    let status = host.status().unwrap();
    assert_eq!(status.tasks.running, 3, "it knows its tasks");
    host.stop_agent().unwrap();

    let rows = host.flow_rows().unwrap();
    for (counts, address, header) in [
        (counts4, IpAddr::from(server.ipv4), 28),
        (counts6, server.ipv6.into(), 48),
    ] {
        let expected = (counts.sent, counts.sent * (DATA as u64 + header));
        for eni in [&client.eni_id, &server.eni_id] {
            let found = sum(&rows, eni, |flow| {
                flow.protocol == UDP && flow.dst == address
            });
            assert_eq!(found, expected, "UDP to {address} as {eni} sees it");
        }
    }
    // What one end's ENI sent of TCP is what the other's received, in both directions.
    for destination in [server.ipv4, client.ipv4] {
        let is_its = |flow: &Flow| {
            flow.protocol == TCP
                && flow.dst == IpAddr::from(destination)
                && [flow.src_port, flow.dst_port].contains(&OPEN_PORT)
        };
        let to_server =
            |flow: &Flow| is_its(flow) && [flow.src, flow.dst].contains(&server.ipv4.into());
        let [sent, received] =
            [&client.eni_id, &server.eni_id].map(|eni| sum(&rows, eni, to_server));
        assert_eq!(sent, received, "TCP to {destination}");
        assert!(sent.0 > 0);
    }
    let data = sum(&rows, &client.eni_id, |flow| {
        flow.protocol == TCP && flow.dst == IpAddr::from(server.ipv4)
    });
    assert!(data.1 > 40_000_000, "{data:?}");
}

#[test]
fn tasks_come_and_go_after_a_kill() {
    let host = Host::new("after-kill", Settings::default()).unwrap();
    host.start_agent().unwrap();
    let one = host.add_task("one", &["subnet-a"], &["sg-server"]).unwrap();
    for round in 0..3 {
        host.kill_agent().unwrap();
        let started = Instant::now();
        host.start_agent().unwrap();
        println!("ready {:?} after kill {round}", started.elapsed());
        let again = host.task("one").unwrap();
        assert_eq!((&again.eni_id, again.vlan), (&one.eni_id, one.vlan));
        let two = host.add_task("two", &["subnet-a"], &["sg-client"]).unwrap();
        assert_ne!(two.vlan, one.vlan);
        for address in one.addresses() {
            talk::udp(
                &two.netns,
                &one.netns,
                SocketAddr::new(address, OPEN_PORT),
                50,
                PATIENCE,
            )
            .unwrap();
        }
        host.remove_task("two").unwrap();
    }
}

#[test]
fn another_layout_is_refused_and_its_programs_go_on() {
    let host = Host::new("layout", Settings::default()).unwrap();
    host.start_agent().unwrap();
    let web = host.add_task("web", &["subnet-a"], &["sg-server"]).unwrap();
    host.stop_agent().unwrap();
    let later = format!("/sys/fs/bpf/branchline/maps-v{}", LAYOUT_VERSION + 1);
    host.run(|| fs::create_dir(&later)).unwrap();
    let refused = host.second_agent().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned()
        + &String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success(), "{said}");
    for text in [later.as_str(), "layout", "purge"] {
        assert!(said.contains(text), "no {text:?} in {said}");
    }
    talk::ping(host.netns(), web.ipv4.into(), 56, PATIENCE).unwrap();
    host.run(|| fs::remove_dir(&later)).unwrap();
    host.start_agent().unwrap();
    assert_eq!(host.status().unwrap().tasks.running, 1);
}
