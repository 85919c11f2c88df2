//! Flow-log rows say exactly what passed and what did not, by ENI and direction.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use branchline_tests::{
    flow_row::{Flow, FlowRow},
    host::Host,
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE, SHORT, is_silence},
    task::Task,
    wire::Wire,
};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const CLOSED_PORT: u16 = 8;
/// The task's MTU without the IPv4 or IPv6 header, 20 bytes of TCP and 12 of timestamps.
const SEGMENT: [u64; 2] = [9001 - 52, 9001 - 72];

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

/// A direction of one flow as an ENI's rows add up: packets, bytes, and whether it was accepted.
fn totals(rows: &[FlowRow], eni: &Task, is_its: impl Fn(&Flow) -> bool) -> Vec<(u64, u64, bool)> {
    let mut totals = Vec::new();
    for accepted in [true, false] {
        let flows = rows
            .iter()
            .filter(|row| row.eni_id == eni.eni_id)
            .filter_map(|row| row.flow.as_ref());
        let flows: Vec<_> = flows
            .filter(|flow| flow.accepted == accepted && is_its(flow))
            .collect();
        if !flows.is_empty() {
            let packets = flows.iter().map(|flow| flow.packets).sum();
            totals.push((packets, flows.iter().map(|flow| flow.bytes).sum(), accepted));
        }
    }
    totals
}

#[test]
fn datagrams_and_echoes_are_counted_at_both_enis() {
    const DATAGRAMS: u64 = 5;
    let (host, server, client) = two_tasks("counted");
    let ends: Vec<(IpAddr, IpAddr)> = client
        .addresses()
        .into_iter()
        .zip(server.addresses())
        .collect();
    for (from, to) in &ends {
        let socket = talk::udp_at(&client.netns, SocketAddr::new(*from, 4000)).unwrap();
        let open = talk::udp_at(&server.netns, SocketAddr::new(*to, OPEN_PORT)).unwrap();
        open.set_read_timeout(Some(PATIENCE)).unwrap();
        for n in 0..DATAGRAMS {
            socket
                .send_to(&[0; 200], SocketAddr::new(*to, OPEN_PORT))
                .unwrap();
            socket
                .send_to(&[0; 300], SocketAddr::new(*to, CLOSED_PORT))
                .unwrap();
            open.recv(&mut [0; 1]).unwrap();
            if n < 2 {
                open.send_to(&[0; 100], SocketAddr::new(*from, 4000))
                    .unwrap();
            }
        }
        talk::ping(&client.netns, *to, 56, PATIENCE).unwrap();
        assert!(is_silence(&talk::ping(&server.netns, *from, 56, SHORT)));
    }
    host.stop_agent().unwrap();
    let rows = host.flow_rows().unwrap();
    for (from, to) in ends {
        let (ip, icmp) = if from.is_ipv4() {
            (20, ICMP)
        } else {
            (40, ICMPV6)
        };
        let udp = |src, dst, src_port, dst_port| {
            move |flow: &Flow| {
                flow.protocol == UDP
                    && (flow.src, flow.dst) == (src, dst)
                    && (flow.src_port, flow.dst_port) == (src_port, dst_port)
            }
        };
        let echo = |src, dst| {
            move |flow: &Flow| flow.protocol == icmp && (flow.src, flow.dst) == (src, dst)
        };
        let asked = vec![(DATAGRAMS, DATAGRAMS * (ip + 8 + 200), true)];
        let answered = vec![(2, 2 * (ip + 8 + 100), true)];
        let into_closed = DATAGRAMS * (ip + 8 + 300);
        let echoed = (1, ip + 8 + 56, true);
        let refused_echo = (1, ip + 8 + 56, false);
        for eni in [&client, &server] {
            let count = |is_its: &dyn Fn(&Flow) -> bool| totals(&rows, eni, is_its);
            assert_eq!(
                count(&udp(from, to, 4000, OPEN_PORT)),
                asked,
                "{} {to}",
                eni.id
            );
            assert_eq!(
                count(&udp(to, from, OPEN_PORT, 4000)),
                answered,
                "{} {to}",
                eni.id
            );
            let is_client = eni.id == client.id;
            // The client's groups let it out, the server's do not let it in.
            let closed = vec![(DATAGRAMS, into_closed, is_client)];
            assert_eq!(
                count(&udp(from, to, 4000, CLOSED_PORT)),
                closed,
                "{} {to}",
                eni.id
            );
            assert_eq!(count(&echo(from, to)), [echoed], "{} {to}", eni.id);
            let (answer, unasked) = (echoed, refused_echo);
            let expected = if is_client {
                vec![answer, unasked]
            } else {
                vec![(2, 2 * (ip + 8 + 56), true)]
            };
            assert_eq!(count(&echo(to, from)), expected, "{} {to}", eni.id);
        }
    }
    for row in &rows {
        assert!(
            row.flow.as_ref().is_none_or(|flow| flow.packets > 0),
            "{row:?}"
        );
    }
}

/// The kernel hands over up to 64 KiB at once; rows count what a wire would carry.
#[test]
fn a_large_transfer_is_counted_in_segments() {
    const BYTES: u64 = 8_000_000;
    let (host, server, client) = two_tasks("segments");
    let tap = client.run(|| Wire::open("eth0")).unwrap();
    for address in server.addresses() {
        talk::transfer(
            &client.netns,
            &server.netns,
            SocketAddr::new(address, OPEN_PORT),
            BYTES as usize,
        )
        .unwrap();
    }
    let denied = talk::tcp(
        &client.netns,
        &server.netns,
        SocketAddr::new(server.ipv4.into(), CLOSED_PORT),
        SHORT,
    );
    assert!(is_silence(&denied), "{denied:?}");
    let seen = tap.waiting().unwrap();
    host.stop_agent().unwrap();
    let rows = host.flow_rows().unwrap();
    for (family, address) in server.addresses().into_iter().enumerate() {
        let sent =
            |flow: &Flow| flow.protocol == TCP && flow.dst == address && flow.dst_port == OPEN_PORT;
        let acknowledged =
            |flow: &Flow| flow.protocol == TCP && flow.src == address && flow.src_port == OPEN_PORT;
        let header = 9001 - SEGMENT[family];
        let at_client = totals(&rows, &client, sent);
        assert_eq!(at_client, totals(&rows, &server, sent));
        assert_eq!(
            totals(&rows, &client, acknowledged),
            totals(&rows, &server, acknowledged)
        );
        let [(packets, bytes, true)] = at_client[..] else {
            panic!("{at_client:?}")
        };
        // On a busy machine the kernel sends some of it again, which is counted again.
        let data: u64 = seen
            .iter()
            .filter_map(|frame| tcp_data(frame, address))
            .sum();
        assert!(
            (BYTES..BYTES * 2).contains(&data),
            "the tap saw {data} bytes"
        );
        // A SYN has 8 bytes of options more than a segment.
        assert_eq!(bytes, data + packets * header + 8, "{packets} packets");
        assert!(
            packets >= BYTES.div_ceil(SEGMENT[family]) + 2,
            "{packets} packets are too few"
        );
    }
    let refused = |flow: &Flow| flow.protocol == TCP && flow.dst_port == CLOSED_PORT;
    assert_eq!(totals(&rows, &server, refused), [(1, 60, false)]);
    assert_eq!(totals(&rows, &client, refused), [(1, 60, true)]);
}

/// Bytes of data that a frame carries to the open port of `to`; one frame is up to 64 KiB.
fn tcp_data(frame: &[u8], to: IpAddr) -> Option<u64> {
    let be16 = |at: usize| {
        Some(u64::from(u16::from_be_bytes(
            *frame.get(at..)?.first_chunk()?,
        )))
    };
    let ethernet = 14;
    let (destination, end, tcp) = match to {
        IpAddr::V4(to) => (to.octets().to_vec(), be16(ethernet + 2)?, 20),
        IpAddr::V6(to) => (to.octets().to_vec(), be16(ethernet + 4)? + 40, 40),
    };
    let tcp = ethernet + tcp;
    if frame.get(tcp - destination.len()..tcp)? != destination
        || be16(tcp + 2)? != u64::from(OPEN_PORT)
    {
        return None;
    }
    let header = u64::from(frame.get(tcp + 12)? >> 4) * 4;
    Some(end - (tcp - ethernet) as u64 - header)
}

#[test]
fn an_eni_without_traffic_says_so_once_in_each_window() {
    let host = Host::new("silent", Settings::default()).unwrap();
    host.start_agent().unwrap();
    let started = Instant::now();
    let silent = host
        .add_task("silent", &["subnet-a"], &["sg-client"])
        .unwrap();
    thread::sleep(Duration::from_millis(4200));
    host.stop_agent().unwrap();
    let seconds = started.elapsed().as_secs() as usize;
    let rows = host.flow_rows().unwrap();
    let mut starts = Vec::new();
    for row in &rows {
        assert_eq!(
            (row.eni_id.as_str(), row.log_status.as_str()),
            (silent.eni_id.as_str(), "NODATA")
        );
        assert_eq!(row.start, row.end, "a window of 1 s");
        starts.push(row.start);
    }
    starts.sort_unstable();
    // The second in which it came is not its own in full; the last one ended with the agent.
    assert!(
        (3..=seconds + 1).contains(&starts.len()),
        "{starts:?} in {seconds} s"
    );
    assert!(
        starts.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{starts:?}"
    );
}

/// What a VPC's own services are asked is in the rows of a log that includes them, and no traffic
/// at all for another; an apply changes it.
#[test]
fn services_are_counted_for_a_log_that_includes_them_and_no_other() {
    const DIR: &str = "/run/services";
    let log = |services: &str| {
        format!(
            "[[flow_logs]]\nflow_log_id = \"fl-00000000000000001\"\ndir = \"{DIR}\"\n\
             max_aggregation_interval = 1\nrotation = 1\ninclude_services = [{services}]\n"
        )
    };
    let settings = Settings {
        top_level: log("\"dns\""),
        ..Settings::default()
    };
    let host = Host::new("services", settings).unwrap();
    host.start_agent().unwrap();
    let task = host
        .add_task("client", &["subnet-a"], &["sg-client"])
        .unwrap();
    let socket = talk::udp_at(&task.netns, SocketAddr::new(task.ipv4.into(), 4000)).unwrap();
    let ask = |address: [u8; 4], port, times| {
        for _ in 0..times {
            socket
                .send_to(&[0; 40], (IpAddr::from(address), port))
                .unwrap();
        }
    };
    let included = || host.run(|| FlowRow::read_dir(Path::new(DIR))).unwrap();
    let asked = |port| {
        totals(&included(), &task, |flow| {
            (flow.protocol, flow.src_port, flow.dst_port) == (UDP, 4000, port)
        })
    };
    ask([10, 0, 0, 2], 53, 3);
    let deadline = Instant::now() + PATIENCE;
    while asked(53).is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(asked(53), [(3, 3 * 68, true)]);
    let others = host.flow_rows().unwrap();
    assert!(others.iter().all(|row| row.flow.is_none()), "{others:?}");

    host.run(|| std::fs::write("/run/logs.toml", log("\"time-sync\"")))
        .unwrap();
    host.branchline_ok(&["flow-log", "apply", "/run/logs.toml"])
        .unwrap();
    ask([10, 0, 0, 2], 53, 5);
    ask([169, 254, 169, 123], 123, 2);
    host.stop_agent().unwrap();
    assert_eq!(asked(53), [(3, 3 * 68, true)]);
    assert_eq!(asked(123), [(2, 2 * 68, true)]);
}
