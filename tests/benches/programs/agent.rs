//! What an agent takes of a core: with 10,000 flow records a second.
//!
//! The agent is the program that is installed, on a host and with tasks of its own, its packets real.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use branchline_tests::{host::Host, settings::Settings, task::Task};
use nix::{
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use crate::report::{Amount, amount};

/// Seconds of an aggregation interval.
pub(crate) const INTERVAL: u64 = 10;
/// Intervals of a measurement.
pub(crate) const INTERVALS: u64 = 2;
/// Tasks that send, each to another task.
const PAIRS: usize = 2;
/// Ports that each sends from, and ports that it sends to. Each flow makes two records an interval,
/// the sender's ENI's and the receiver's: 10,000 a second.
const SOURCES: usize = 125;
const SINKS: u16 = 200;
/// The first of the receiver's.
const FIRST_SINK: u16 = 20_000;
/// Packets sent at once.
const BURST: usize = 25;
/// Percent of a core.
const BUSY_GOAL: f64 = 10.0;

/// Room for the ENIs. Neither group lets everybody in, so that each flow is a connection.
const VPC: &str = r#"
vpc_id = "vpc-bench"
cidr_block = "10.0.0.0/16"
ipv6_cidr_block = "2001:db8:1::/56"

[[subnets]]
subnet_id = "subnet-a"
cidr_block = "10.0.0.0/18"
ipv6_cidr_block = "2001:db8:1:1::/64"

[[security_groups]]
group_id = "sg-sink"
group_name = "sink"
description = "UDP from the VPC"
ip_permissions = [
    { ip_protocol = "udp", from_port = 1, to_port = 65535, ip_ranges = [{ cidr_ip = "10.0.0.0/16" }] },
]

[[security_groups]]
group_id = "sg-source"
group_name = "source"
description = "nothing in"
ip_permissions = []
"#;

fn host(name: &str) -> Result<Host> {
    let settings = Settings {
        interval: INTERVAL,
        vpc: VPC.to_owned(),
        ..Settings::default()
    };
    let host = Host::new(name, settings)?;
    host.start_agent()?;
    Ok(host)
}

/// Measures it.
pub(crate) fn measure() -> Result<Vec<Amount>> {
    let host = host("busy")?;
    let pairs: Vec<Pair> = (0..PAIRS)
        .map(|number| Pair::new(&host, number))
        .collect::<Result<_>>()?;
    let stop = AtomicBool::new(false);
    let (share, from) = thread::scope(|scope| {
        let sender = scope.spawn(|| send(&pairs, &stop));
        // The first interval that is full, and to the middle of it: the ends of two are measured.
        let from = (unix_time().as_secs() / INTERVAL + 1) * INTERVAL;
        sleep_until(Duration::from_secs(from) + Duration::from_secs(INTERVAL) / 2);
        let share = share(&host);
        stop.store(true, Ordering::Relaxed);
        let sent = sender.join().ok().context("the sender panicked")?;
        sent.context("send")?;
        anyhow::Ok((share?, from))
    })?;
    let seconds = INTERVAL * INTERVALS;
    let measured = from..from + seconds;
    let rows = host.flow_rows()?;
    let rows = rows
        .iter()
        .filter(|row| row.flow.is_some() && measured.contains(&row.start));
    let rate = rows.count() as f64 / seconds as f64;
    host.stop_agent()?;
    Ok(vec![
        amount("agent under traffic: flow records", rate, "rows/s", None),
        amount("... share of a core", share, "%", Some(BUSY_GOAL)),
    ])
}

/// Percent of a core that the agent takes, in its own code and in the kernel, over some intervals.
pub(crate) fn share(host: &Host) -> Result<f64> {
    let agent = Pid::from_raw(host.agent_pid()?.cast_signed());
    let clock = ClockId::pid_cpu_clock_id(agent)?;
    let spent = || Ok::<_, nix::Error>(Duration::from(clock_gettime(clock)?));
    let (start, before) = (Instant::now(), spent()?);
    thread::sleep(Duration::from_secs(INTERVAL * INTERVALS));
    let spent = spent()? - before;
    Ok(spent.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0)
}

/// Two tasks, and sockets in them.
struct Pair {
    sources: Vec<UdpSocket>,
    /// Never read: what does not fit into them is dropped behind the ENI.
    _sinks: Vec<UdpSocket>,
    to: Ipv4Addr,
}

impl Pair {
    fn new(host: &Host, number: usize) -> Result<Self> {
        let task = |kind: &str| add(host, &format!("{kind}-{number}"), &format!("sg-{kind}"));
        let (source, sink) = (task("source")?, task("sink")?);
        let sources = source.run(|| {
            (0..SOURCES)
                .map(|_| bound(source.ipv4, 0))
                .collect::<Result<_>>()
        });
        let ports = FIRST_SINK..FIRST_SINK + SINKS;
        let sinks = sink.run(|| {
            ports
                .map(|port| bound(sink.ipv4, port))
                .collect::<Result<_>>()
        });
        Ok(Self {
            sources: sources?,
            _sinks: sinks?,
            to: sink.ipv4,
        })
    }
}

fn add(host: &Host, id: &str, group: &str) -> Result<Task> {
    host.add_task(id, &["subnet-a"], &[group])
}

fn bound(at: Ipv4Addr, port: u16) -> Result<UdpSocket> {
    UdpSocket::bind((at, port)).with_context(|| format!("bind {at}:{port}"))
}

/// Sends a packet of every flow in each interval, evenly, until it is told to stop.
fn send(pairs: &[Pair], stop: &AtomicBool) -> Result<()> {
    let mut flows = Vec::new();
    for pair in pairs {
        for source in &pair.sources {
            for port in FIRST_SINK..FIRST_SINK + SINKS {
                flows.push((source, SocketAddr::from((pair.to, port))));
            }
        }
    }
    let bursts = flows.len().div_ceil(BURST);
    let period = Duration::from_secs(INTERVAL) / u32::try_from(bursts)?;
    let mut due = Instant::now();
    loop {
        for burst in flows.chunks(BURST) {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            for (source, to) in burst {
                source.send_to(b"branchline bench", to)?;
            }
            due += period;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}

fn sleep_until(time: Duration) {
    thread::sleep(time.saturating_sub(unix_time()));
}

/// Since 1970.
fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
