//! The live view over real sockets: what `flows tail` and `flows top` say is what passed.

use std::{
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr, UdpSocket},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use branchline::{
    flows::Action,
    live::{Ending, Flow, FlowEvent, FlowRates, LiveEvent},
};
use branchline_common::verdict::Direction;
use branchline_tests::{
    host::Host,
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE, SHORT, is_silence},
    task::Task,
    wire::Wire,
};

const CLOSED_PORT: u16 = 8;

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

/// `branchline flows tail --json` that runs until it is dropped.
struct Tail {
    child: Child,
    lines: Receiver<String>,
}

impl Tail {
    /// Follows from when this returns.
    fn start(host: &Host, arguments: &[&str]) -> Self {
        let mut command = Command::new(Host::program().unwrap());
        command.args(["flows", "tail", "--json"]).args(arguments);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = host.run(|| command.spawn()).unwrap();
        let mut first = String::new();
        let mut says = BufReader::new(child.stderr.take().unwrap());
        says.read_line(&mut first).unwrap();
        assert_eq!(first, "following\n");
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// The events until `is_last` holds for all so far.
    fn until(&self, is_last: impl Fn(&[LiveEvent]) -> bool) -> Vec<LiveEvent> {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Vec::new();
        while !is_last(&events) {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("too few: {events:#?}"));
            events.push(serde_json::from_str(&line).unwrap());
        }
        events
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Packets and bytes from the IPv4 header on of the TCP frames from one address to another with
/// this port on either side.
fn on_the_wire(frames: &[Vec<u8>], from: IpAddr, to: IpAddr, port: u16) -> (u64, u64) {
    let be16 = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let address = |frame: &[u8], at: usize| {
        IpAddr::from([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
    };
    let its = frames.iter().filter(|frame| {
        be16(frame, 12) == 0x0800
            && frame[23] == 6
            && (address(frame, 26), address(frame, 30)) == (from, to)
            && (be16(frame, 34) == port || be16(frame, 36) == port)
    });
    its.fold((0, 0), |(packets, bytes), frame| {
        (packets + 1, bytes + u64::from(be16(frame, 16)))
    })
}

fn is_of(event: &LiveEvent, task: &str, port: u16) -> bool {
    let flow = event.flow();
    flow.is_some_and(|flow| flow.task_id.as_deref() == Some(task) && flow.dstport == port)
}

fn the_one<'a>(
    events: &'a [LiveEvent],
    pick: impl Fn(&'a LiveEvent) -> Option<&'a FlowEvent>,
) -> &'a FlowEvent {
    let mut found = events.iter().filter_map(pick);
    let one = found.next().unwrap_or_else(|| panic!("none: {events:#?}"));
    assert!(found.next().is_none(), "several: {events:#?}");
    one
}

#[test]
fn tail_tells_starts_ends_and_rejects_as_the_sockets_made_them() {
    let (host, server, client) = two_tasks("tail");
    let tail = Tail::start(&host, &["--protocol", "tcp"]);
    let denials = Tail::start(
        &host,
        &["--action", "reject", "--task", "server", "--port", "8"],
    );
    let tap = client.run(|| Wire::open("eth0")).unwrap();
    let [from, to] = [IpAddr::from(client.ipv4), IpAddr::from(server.ipv4)];
    let open = SocketAddr::new(to, OPEN_PORT);
    let peer = talk::tcp(&client.netns, &server.netns, open, PATIENCE).unwrap();
    let closed = SocketAddr::new(to, CLOSED_PORT);
    let denied = talk::tcp(&client.netns, &server.netns, closed, SHORT);
    assert!(is_silence(&denied), "{denied:?}");
    let frames = tap.waiting().unwrap();
    let sent = on_the_wire(&frames, from, to, OPEN_PORT);
    let answered = on_the_wire(&frames, to, from, OPEN_PORT);
    assert!(sent.0 >= 5 && answered.0 >= 3, "{sent:?} {answered:?}");

    let is_end = |event: &&LiveEvent| matches!(event, LiveEvent::End(_));
    let is_reject = |event: &LiveEvent| matches!(event, LiveEvent::Reject(_));
    let events = tail.until(|events| {
        let ends = events.iter().filter(is_end).count();
        ends >= 2 && events.iter().any(is_reject)
    });
    for (task, direction) in [(&client, Direction::Egress), (&server, Direction::Ingress)] {
        let its = |event: &LiveEvent| is_of(event, &task.id, OPEN_PORT);
        let start = the_one(&events, |event| {
            if let LiveEvent::Start(about) = event
                && its(event)
            {
                Some(about)
            } else {
                None
            }
        });
        let end = the_one(&events, |event| {
            if let LiveEvent::End(about) = event
                && its(event)
            {
                Some(about)
            } else {
                None
            }
        });
        let flow = Flow {
            task_id: Some(task.id.clone()),
            interface_id: Some(task.eni_id.clone()),
            direction,
            srcaddr: from,
            dstaddr: to,
            srcport: peer.port(),
            dstport: OPEN_PORT,
            protocol: 6,
            action: Action::Accept,
            drop_reason: None,
            icmp_id: None,
        };
        assert_eq!((&start.flow, &end.flow), (&flow, &flow));
        assert_eq!((end.packets, end.bytes), sent, "{end:?}");
        assert_eq!((end.reply_packets, end.reply_bytes), answered, "{end:?}");
        assert_eq!((end.reason, end.complete), (Some(Ending::Closed), true));
        assert!(end.start <= Some(end.end) && end.start.is_some(), "{end:?}");
    }
    let reject = the_one(&events, |event| {
        if let LiveEvent::Reject(about) = event {
            Some(about)
        } else {
            None
        }
    });
    assert_eq!(reject.flow.task_id.as_deref(), Some("server"));
    assert_eq!((reject.flow.srcaddr, reject.flow.dstaddr), (from, to));
    assert_eq!(
        (reject.flow.direction, reject.flow.action),
        (Direction::Ingress, Action::Reject)
    );
    // One SYN: 20 bytes of IPv4, 40 of TCP.
    assert_eq!((reject.packets, reject.bytes), (1, 60));
    // The client's groups let it out.
    assert!(events.iter().any(|event| {
        matches!(event, LiveEvent::Start(_)) && is_of(event, "client", CLOSED_PORT)
    }));
    let denials = denials.until(|events| !events.is_empty());
    assert_eq!(denials, [LiveEvent::Reject(reject.clone())]);

    // Whoever goes on following a removed task learns of its end.
    let _held = talk::connection(&client.netns, &server.netns, open).unwrap();
    tail.until(|events| events.iter().any(|event| is_of(event, "client", OPEN_PORT)));
    host.remove_task("client").unwrap();
    let events = tail.until(|events| {
        events
            .iter()
            .filter(is_end)
            .any(|event| is_of(event, "client", OPEN_PORT))
    });
    let end = the_one(&events, |event| {
        if let LiveEvent::End(about) = event
            && is_of(event, "client", OPEN_PORT)
        {
            Some(about)
        } else {
            None
        }
    });
    assert_eq!(end.reason, Some(Ending::Removed));
    // Streams do not hold up the agent's end.
    let started = Instant::now();
    host.stop_agent().unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn top_shows_what_a_transfer_carries_now() {
    // Of 1,000 bytes with the headers of UDP and IPv4.
    const PAYLOAD: usize = 972;
    let (host, server, client) = two_tasks("top");
    let to = SocketAddr::new(server.ipv4.into(), OPEN_PORT);
    let _open = server.run(|| UdpSocket::bind(to)).unwrap();
    let from = SocketAddr::new(client.ipv4.into(), 4000);
    let socket = client.run(|| UdpSocket::bind(from)).unwrap();
    let is_over = AtomicBool::new(false);
    let (rates, text) = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                socket.send_to(&[0; PAYLOAD], to).unwrap();
                thread::sleep(Duration::from_millis(5));
            }
        });
        let rates = host.branchline_ok(&["flows", "top", "--once", "--json", "--port", "7"]);
        let text = host.branchline_ok(&["flows", "top", "--once", "--task", "client"]);
        is_over.store(true, Ordering::Relaxed);
        (rates.unwrap(), text.unwrap())
    });
    let rates: FlowRates = serde_json::from_str(&rates).unwrap();
    assert!(rates.seconds > 0.3, "{rates:?}");
    assert_eq!((rates.flows.len(), rates.flow_count), (2, 2), "{rates:?}");
    for line in &rates.flows {
        assert_eq!((line.flow.srcport, line.flow.protocol), (4000, 17));
        let rate = line.rate;
        let (packets, bytes) = match line.flow.direction {
            Direction::Ingress => (
                rate.ingress_packets_per_second,
                rate.ingress_bytes_per_second,
            ),
            Direction::Egress => (rate.egress_packets_per_second, rate.egress_bytes_per_second),
        };
        // At most one each 5 ms; on a busy machine fewer.
        assert!((20.0..=210.0).contains(&packets), "{line:?}");
        assert!((bytes - packets * 1_000.0).abs() <= 100.0, "{line:?}");
        let task = line.flow.task_id.as_deref().unwrap();
        let task = rates
            .tasks
            .iter()
            .find(|sum| sum.task_id.as_deref() == Some(task));
        assert_eq!(
            task.map(|sum| (sum.flows, sum.rate)),
            Some((1, rate)),
            "{rates:?}"
        );
    }
    assert!(text.starts_with("TASK    FLOWS  IN B/s"), "{text}");
    assert!(
        text.contains(&format!("udp {from} → {to}  ACCEPT")),
        "{text}"
    );
    assert!(!text.contains("server"), "{text}");
    let screen = host.branchline(&["flows", "top"]).unwrap();
    let says = String::from_utf8_lossy(&screen.stderr);
    assert!(says.contains("`flows top` needs a terminal"), "{says}");
}
