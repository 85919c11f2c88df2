//! How long a container waits for its network: the CNI plugin from its start to its end, beside the reference plugins.
//!
//! The namespaces are there before, as container runtimes make them; removal follows at once and is measured too. The
//! reference plugins give IPv4 only: for IPv6 they wait 2 seconds for duplicate address detection.

use std::{
    io::{ErrorKind, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use branchline::netns::Netns;
use branchline_tests::{
    cni::{PLUGIN, configuration},
    host::Host,
    settings::Settings,
};
use serde_json::{Value, json};

use crate::report::{Amount, amount};

/// Containers that each plugin serves, one after the other.
const CONTAINERS: usize = 100;
/// Milliseconds that an ADD may take.
const GOAL: f64 = 4.0;
/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// Measures the plugin and those of containernetworking-plugins.
pub(crate) fn measure() -> Result<Vec<Amount>> {
    let host = Host::new("bench-cni", Settings::default())?;
    host.start_agent()?;
    let plugin = Host::plugin()?;
    let own = configuration("pods", &["subnet-a"], &["sg-server"]);
    let mut amounts = row(&host, PLUGIN, &plugin, &own, Some(GOAL))?;
    host.stop_agent()?;
    for kind in ["bridge", "ptp"] {
        let configuration = json!({
            "cniVersion": "1.0.0", "name": kind, "type": kind, "bridge": "cni0", "isGateway": true,
            "ipam": {
                "type": "host-local", "dataDir": "/run/ipam",
                "subnet": "10.98.0.0/16",
            },
        });
        let plugin = Path::new(REFERENCE).join(kind);
        amounts.extend(row(&host, kind, &plugin, &configuration, None)?);
    }
    Ok(amounts)
}

fn row(
    host: &Host,
    name: &str,
    plugin: &Path,
    configuration: &Value,
    goal: Option<f64>,
) -> Result<Vec<Amount>> {
    let path = plugin.display();
    ensure!(
        plugin.is_file(),
        "{path} is missing; run: cargo xtask setup bench"
    );
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for number in 0..CONTAINERS {
        let container = format!("{name}-{number}");
        let netns = Path::new("/run/netns").join(&container);
        host.run(|| -> Result<()> {
            let made = Netns::create(&netns)?;
            for (command, times) in ["VERSION", "ADD", "DEL"].into_iter().zip(&mut times) {
                times.push(call(plugin, command, &container, &netns, configuration)?);
            }
            drop(made);
            Ok(Netns::remove(&netns)?)
        })?;
    }
    let [version, add, del] = times.map(|mut times| {
        times.sort();
        [times[CONTAINERS / 2], times[CONTAINERS * 99 / 100]]
    });
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let one = |what: &str, time: Duration, goal| {
        amount(
            &format!("CNI {name}: {what}"),
            milliseconds(time),
            "ms",
            goal,
        )
    };
    Ok(vec![
        one("start and end (VERSION), p50", version[0], None),
        one("ADD, p50", add[0], goal),
        one("ADD, p99", add[1], None),
        one("DEL, p50", del[0], None),
        one("DEL, p99", del[1], None),
    ])
}

/// From the plugin's start to its end.
fn call(
    plugin: &Path,
    command: &str,
    container: &str,
    netns: &Path,
    configuration: &Value,
) -> Result<Duration> {
    let mut child = Command::new(plugin);
    child
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", container)
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", REFERENCE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let input = configuration.to_string();
    let began = Instant::now();
    let mut child = child
        .spawn()
        .with_context(|| format!("start {}", plugin.display()))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // The reference plugins answer VERSION without reading.
    match stdin.write_all(input.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    drop(stdin);
    let output = child.wait_with_output()?;
    let took = began.elapsed();
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{command} of {container}: {said}");
    Ok(took)
}
