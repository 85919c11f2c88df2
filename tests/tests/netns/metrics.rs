//! What the agent says of itself to Prometheus and to whoever asks whether it is well.

use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::Command,
    time::Instant,
};

use branchline::{api::Health, api::HealthStatus, fabric::HOST_TRUNK, netlink::Netlink};
use branchline_tests::{
    host::Host,
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE, SHORT},
};

use crate::restart::sum;

const LISTEN: &str = "127.0.0.1:9273";

/// Asks as a client that reads to the end; the answer's head and body.
fn ask(mut stream: impl Read + Write, request: &str) -> (String, String) {
    let text = format!("{request} HTTP/1.1\r\nHost: branchline\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn on_loopback(host: &Host, request: &str) -> (String, String) {
    host.run(|| ask(TcpStream::connect(LISTEN).unwrap(), request))
}

fn on_socket(host: &Host, request: &str) -> (String, String) {
    let connect = || UnixStream::connect("/run/branchline/agent.sock").unwrap();
    host.run(|| ask(connect(), request))
}

/// The value of the series that begins with `name` and has all `labels`; 0 if there is none.
fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |line: &str| {
        let is_one = |(key, value): &(&str, &str)| line.contains(&format!("{key}=\"{value}\""));
        labels.iter().all(is_one)
    };
    let mut lines = text.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && has(line)
    });
    let line = lines.next();
    line.and_then(|line| line.rsplit(' ').next())
        .map_or(0.0, |number| number.parse().unwrap())
}

fn with_listener(name: &str) -> Host {
    let host = Host::new(
        name,
        Settings {
            more_flow_logs: format!("[metrics]\nlisten = \"{LISTEN}\""),
            ..Settings::default()
        },
    )
    .unwrap();
    host.start_agent().unwrap();
    host
}

#[test]
fn a_scrape_has_the_packets_and_bytes_of_the_flow_records() {
    let host = with_listener("metrics");
    let server = host
        .add_task("server", &["subnet-a"], &["sg-server"])
        .unwrap();
    let client = host
        .add_task("client", &["subnet-b"], &["sg-client"])
        .unwrap();
    let at = |port| SocketAddr::new(server.ipv4.into(), port);
    talk::transfer(&client.netns, &server.netns, at(OPEN_PORT), 1_000_000).unwrap();
    talk::tcp(&client.netns, &server.netns, at(22), SHORT).unwrap_err();
    let labels = |direction| {
        [
            ("task_id", "server"),
            ("interface_id", server.eni_id.as_str()),
            ("direction", direction),
            ("action", "accept"),
        ]
    };
    // The totals move when an interval ends, and the rows are written then.
    let started = Instant::now();
    let mut text;
    loop {
        let (head, body) = on_loopback(&host, "GET /metrics");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(
            head.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"),
            "{head}"
        );
        text = body;
        let rows = host.flow_rows().unwrap();
        let (packets, bytes) = sum(&rows, &server.eni_id, |_| true);
        let [mut counted, mut carried] = [0.0; 2];
        for direction in ["ingress", "egress"] {
            counted += value(&text, "branchline_eni_packets_total", &labels(direction));
            carried += value(
                &text,
                "branchline_eni_traffic_bytes_total",
                &labels(direction),
            );
        }
        if bytes > 1_000_000 && (counted, carried) == (packets as f64, bytes as f64) {
            break;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "{packets} packets and {bytes} bytes in rows, {counted} and {carried} counted"
        );
    }
    let dropped = [("task_id", "server"), ("reason", "no-rule")];
    assert!(value(&text, "branchline_eni_dropped_packets_total", &dropped) >= 1.0);
    // Both ways are open at the server, so only the client's ENI tracks it; it is not swept yet.
    talk::udp(&client.netns, &server.netns, at(OPEN_PORT), 64, PATIENCE).unwrap();
    let (_, text) = on_loopback(&host, "GET /metrics");
    let of_client = [("task_id", "client")];
    assert!(value(&text, "branchline_eni_conntrack_entries", &of_client) >= 1.0);
    assert_eq!(
        value(&text, "branchline_eni_conntrack_limit", &of_client),
        32_768.0
    );
    assert_eq!(
        value(&text, "branchline_tasks", &[("state", "running")]),
        2.0
    );
    let veth = [("operation", "add"), ("step", "veth")];
    assert_eq!(
        value(&text, "branchline_task_step_duration_seconds_count", &veth),
        2.0
    );
    let allocate = [("method", "allocate")];
    assert_eq!(
        value(
            &text,
            "branchline_provider_call_duration_seconds_count",
            &allocate
        ),
        2.0
    );
    let added = [("operation", "addTask"), ("status", "201")];
    assert_eq!(value(&text, "branchline_api_requests_total", &added), 2.0);
    assert_eq!(
        value(&text, "branchline_part_healthy", &[("part", "trunk")]),
        1.0
    );
    assert!(value(&text, "process_resident_memory_bytes", &[]) > 1e6);
    assert!(value(&text, "process_cpu_seconds_total", &[]) > 0.0);
    // The same on the socket, and nothing else on loopback.
    assert!(on_socket(&host, "GET /metrics").1.ends_with("# EOF\n"));
    assert_eq!(on_loopback(&host, "GET /healthz").1, "ok\n");
    for (request, status) in [
        ("GET /v1/tasks", "404"),
        ("POST /metrics", "405"),
        ("DELETE /v1/tasks/server", "404"),
    ] {
        let (head, _) = on_loopback(&host, request);
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {head}"
        );
    }
    // A task that has gone is no series any more.
    host.remove_task("client").unwrap();
    let gone = [("task_id", "client")];
    let (_, text) = on_loopback(&host, "GET /metrics");
    assert_eq!(value(&text, "branchline_eni_conntrack_limit", &gone), 0.0);
    while value(
        &on_loopback(&host, "GET /metrics").1,
        "branchline_eni_packets_total",
        &gone,
    ) > 0.0
    {
        assert!(started.elapsed() < PATIENCE * 2);
    }
}

#[test]
fn repairs_are_counted_by_what_was_changed() {
    let host = with_listener("repairs");
    let web = host.add_task("web", &["subnet-a"], &["sg-server"]).unwrap();
    let repaired = |part| {
        let (_, text) = on_loopback(&host, "GET /metrics");
        value(&text, "branchline_repairs_total", &[("part", part)])
    };
    for (part, change) in [
        ("mtu", "ip link set eth0 mtu 1400"),
        ("route", "ip route del default"),
    ] {
        assert_eq!(repaired(part), 0.0);
        let mut shell = Command::new("sh");
        let changed = web.netns.output(shell.args(["-c", change])).unwrap();
        assert!(changed.status.success(), "{changed:?}");
        let started = Instant::now();
        while repaired(part) < 1.0 {
            assert!(started.elapsed() < PATIENCE, "{part}");
        }
    }
    assert_eq!(host.status().unwrap().repairs, 2);
    let (_, text) = on_loopback(&host, "GET /metrics");
    assert_eq!(value(&text, "branchline_tasks_given_up_total", &[]), 0.0);
    assert!(text.contains("\nbranchline_tasks_given_up_total 0\n"));
}

/// An `nft` that notes each start of itself.
const NFT: &str = "#!/bin/sh\necho >> /run/nft-starts\nexec /usr/sbin/nft \"$@\"\n";

#[test]
fn a_scrape_starts_no_process_and_health_few() {
    let host = Host::new(
        "nft",
        Settings {
            environment: vec![("PATH", "/run/bin:/usr/sbin:/usr/bin")],
            ..Settings::default()
        },
    )
    .unwrap();
    host.run(|| {
        fs::create_dir("/run/bin").unwrap();
        fs::write("/run/bin/nft", NFT).unwrap();
        fs::set_permissions("/run/bin/nft", Permissions::from_mode(0o755)).unwrap();
    });
    host.start_agent().unwrap();
    let starts = || host.run(|| fs::metadata("/run/nft-starts").unwrap().len());
    let nat_gateway = || {
        let (_, text) = on_socket(&host, "GET /metrics");
        value(&text, "branchline_part_healthy", &[("part", "nat-gateway")])
    };
    let before = starts();
    assert!(before > 0, "the agent runs another nft");
    for _ in 0..20 {
        assert_eq!(nat_gateway(), 1.0);
    }
    assert_eq!(starts(), before);
    let mut nft = Command::new("nft");
    let removed = nft.args(["delete", "table", "inet", "branchline"]);
    assert!(host.run(|| removed.status()).unwrap().success());
    // Health looks anew after 5 s, and a scrape tells what it found.
    let started = Instant::now();
    let mut asked = 0;
    while !on_socket(&host, "GET /v1/health").1.contains("is missing") {
        asked += 1;
        assert!(started.elapsed() < PATIENCE, "never");
    }
    let looks = starts() - before;
    assert!(
        (1..=4).contains(&looks) && asked > 20,
        "{looks} for {asked}"
    );
    assert_eq!(nat_gateway(), 0.0);
}

#[test]
fn health_says_which_part_is_not_well_and_why() {
    let host = with_listener("health");
    let health = || -> Health {
        let (head, body) = on_socket(&host, "GET /v1/health");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        serde_json::from_str(&body).unwrap()
    };
    let well = health();
    assert_eq!(well.status, HealthStatus::Ok, "{well:?}");
    let names: Vec<_> = well.parts.iter().map(|part| part.name.as_str()).collect();
    for name in ["data-plane", "trunk", "store", "flow-counts", "nat-gateway"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let set_trunk = |up| {
        let netlink = Netlink::open(host.netns()).unwrap();
        let trunk = netlink.existing_link(HOST_TRUNK).unwrap();
        netlink.set_up(trunk.index, up).unwrap();
    };
    set_trunk(false);
    let ill = health();
    assert_eq!(ill.status, HealthStatus::Degraded);
    let reasons: Vec<_> = ill
        .parts
        .iter()
        .filter_map(|part| part.reason.as_deref())
        .collect();
    assert_eq!(reasons, ["bl-trunk is down"]);
    set_trunk(true);
    assert_eq!(health().status, HealthStatus::Ok);
}
