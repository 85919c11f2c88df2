//! What a task costs on EC2: calls, and time under EC2's own token buckets beside the least that these allow; and where
//! branches wait for tasks, without a call.
//!
//! EC2 is the stand-in on the host's loopback, which answers after 50 ms and throttles as AWS says it does. All tasks
//! come and go on one trunk, a few at once; a VLAN id that rests is not used again meanwhile.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use branchline_ec2_stand_in::{
    Call, Ec2, Fault, Imds, InterfaceType, Outcome, Throttle, Which, World,
};
use branchline_tests::{api_client::ApiClient, host::Host, settings::Settings, task::spec};

use crate::report::{Amount, amount};

/// Tasks that come and go.
const TASKS: usize = 500;
/// Of them, those that come one by one, before EC2's buckets are empty.
const SINGLE: usize = 20;
const AT_ONCE: usize = 16;
const LATENCY: Duration = Duration::from_millis(50);
/// Branches that wait, and the tasks that get them.
const WAITING: usize = 100;
/// Milliseconds that a task may take where a branch waits.
const GOAL: f64 = 20.0;
/// Longer than what has left the trunk rests, and the deletion of all of it takes.
const RESTED: Duration = Duration::from_secs(60);
const FILLED: Duration = Duration::from_secs(60);
/// What a task costs, each with calls that EC2 lets pass at once, and a second.
const CALLS: [(&str, f64, f64); 4] = [
    ("CreateNetworkInterface", 100.0, 5.0),
    ("AssociateTrunkInterface", 50.0, 5.0),
    ("DisassociateTrunkInterface", 50.0, 5.0),
    ("DeleteNetworkInterface", 100.0, 5.0),
];

/// Measures tasks on a trunk, and with a warm pool.
pub(crate) fn measure() -> Result<Vec<Amount>> {
    let mut amounts = trunk()?;
    amounts.extend(warm_pool()?);
    Ok(amounts)
}

/// A host on an instance of this EC2, with an agent.
struct Ground {
    host: Host,
    ec2: Ec2,
    _imds: Imds,
    subnet: String,
    group: String,
}

impl Ground {
    fn new(name: &str, lines: impl Fn(&str, &str) -> String) -> Result<Self> {
        let mut world = World::new("eu-west-1");
        let vpc = world.vpc("10.0.0.0/16", Some("2001:db8:1::/56"));
        let (ipv4, ipv6) = (Some("10.0.16.0/20"), Some("2001:db8:1:1::/64"));
        let subnet = world.subnet(&vpc, "eu-west-1a", ipv4, ipv6);
        let group = world.group(&vpc, "bench");
        let instance = world.instance(&subnet, "c5.large");
        let mut host = Host::new(name, Settings::default())?;
        let (for_ec2, for_imds) = host.run(|| -> Result<_> {
            let listen = || TcpListener::bind("127.0.0.1:0");
            Ok((listen()?, listen()?))
        })?;
        let (at, imds_at) = (for_ec2.local_addr()?, for_imds.local_addr()?);
        let ec2 = Ec2::start(world, [for_ec2])?;
        let imds = Imds::start(&ec2, &instance, [for_imds])?;
        host.set(Settings {
            top_level: "provider = \"ec2\"".to_owned(),
            more_flow_logs: format!(
                "[ec2]\nendpoint_url = \"http://{at}\"\nmetadata_endpoint = \"http://{imds_at}\"\n\
                 wire = \"fabric\"\ncool_down = 30\ndeadline = 300\nrequest_share_percent = 100\n\
                 max_branches = 120\n{}",
                lines(&subnet, &group)
            ),
            environment: vec![
                ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
                (
                    "AWS_SECRET_ACCESS_KEY",
                    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                ),
                ("AWS_EC2_METADATA_DISABLED", "true"),
            ],
            ..Settings::default()
        })?;
        ec2.change(|state| {
            let types = state.instance_types.values_mut();
            types.for_each(|of| of.branches = Some(120));
        });
        host.start_agent()?;
        ec2.latency(LATENCY);
        ec2.throttle(Throttle::aws());
        drop(ec2.take_calls());
        Ok(Self {
            host,
            ec2,
            _imds: imds,
            subnet,
            group,
        })
    }

    /// How long a task took to be there.
    fn add(&self, api: &mut ApiClient, id: &str) -> Result<Duration> {
        let body = spec(id, &[&self.subnet], &[&self.group]).to_string();
        let began = Instant::now();
        api.json("POST", "/v1/tasks", &body)?;
        Ok(began.elapsed())
    }

    /// Branches that EC2 has, on the trunk or not.
    fn branches(&self) -> usize {
        let enis = self.ec2.state().network_interfaces.into_values();
        let is_branch = |eni: &branchline_ec2_stand_in::NetworkInterface| {
            eni.attachment.is_none() && eni.interface_type != InterfaceType::Trunk
        };
        enis.filter(is_branch).count()
    }

    /// Milliseconds that the agent's own steps of an add took on average: all but those that ask EC2.
    fn own_steps(&self, api: &mut ApiClient) -> Result<f64> {
        let (_, text) = api.request("GET", "/metrics", "")?;
        let mut seconds = 0.0;
        let mut count = 0.0;
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let is_add = name.contains("operation=\"add\"");
            let asks = ["step=\"allocate\"", "step=\"attach-eni\""];
            if !is_add || asks.iter().any(|step| name.contains(step)) {
                continue;
            }
            if name.starts_with("branchline_task_step_duration_seconds_sum") {
                seconds += value.parse::<f64>()?;
            } else if name.starts_with("branchline_task_step_duration_seconds_count") {
                count = f64::max(count, value.parse()?);
            }
        }
        ensure!(count > 0.0, "no step was timed: {text}");
        Ok(seconds / count * 1e3)
    }
}

fn trunk() -> Result<Vec<Amount>> {
    let ground = Ground::new("bench-ec2", |_, _| String::new())?;
    let mut api = ground.host.api()?;
    let began = Instant::now();
    let mut single = Vec::new();
    for number in 0..SINGLE {
        let id = format!("task-{number}");
        single.push(ground.add(&mut api, &id)?);
        api.json("DELETE", &format!("/v1/tasks/{id}"), "")?;
    }
    let next = AtomicUsize::new(SINGLE);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                if let Err(error) = come_and_go(&ground, &next) {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.push(error);
                }
            });
        }
    });
    let took = began.elapsed();
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = failed.into_iter().next() {
        return Err(error);
    }
    let own = ground.own_steps(&mut api)?;
    let rested = Instant::now();
    while ground.branches() > 0 {
        ensure!(
            rested.elapsed() < RESTED,
            "{} branches stay",
            ground.branches()
        );
        thread::sleep(Duration::from_millis(200));
    }
    let calls = ground.ec2.take_calls();
    ground.host.stop_agent()?;
    Ok(rows(&calls, took, &mut single, own))
}

fn come_and_go(ground: &Ground, next: &AtomicUsize) -> Result<()> {
    let mut api = ground.host.api()?;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= TASKS {
            return Ok(());
        }
        let id = format!("task-{number}");
        ground.add(&mut api, &id).with_context(|| id.clone())?;
        let path = format!("/v1/tasks/{id}");
        api.json("DELETE", &path, "").with_context(|| id.clone())?;
    }
}

fn rows(calls: &[Call], took: Duration, single: &mut [Duration], own: f64) -> Vec<Amount> {
    let mut by_action: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for call in calls {
        let counts = by_action.entry(&call.operation).or_default();
        counts.0 += 1;
        counts.1 += usize::from(call.outcome != Outcome::Done);
    }
    let tasks = TASKS as f64;
    // What EC2 lets pass at once is gone, and the rest comes at its pace; the last task is there and gone after that.
    let of_action = CALLS.map(|(_, at_once, pace)| ((tasks - at_once) / pace).max(0.0));
    let least = of_action.into_iter().fold(0.0, f64::max) + 3.0 * LATENCY.as_secs_f64();
    let took = took.as_secs_f64();
    let mut amounts = vec![
        amount(
            "EC2: 500 tasks come and go, 16 at once",
            took,
            "s",
            Some(least * 1.25),
        ),
        amount("EC2: the least that EC2's buckets allow", least, "s", None),
    ];
    let mut each = 0.0;
    for (action, _, _) in CALLS {
        let (count, failed) = by_action.get(action).copied().unwrap_or_default();
        each += (count - failed) as f64 / tasks;
        let what = format!("EC2: {action}, of them throttled");
        amounts.push(amount(&what, failed as f64, "calls", None));
    }
    amounts.push(amount(
        "EC2: changes for each task",
        each,
        "calls",
        Some(4.0),
    ));
    let of_calls = CALLS.map(|(action, _, _)| action);
    let asked = by_action
        .iter()
        .filter(|(action, _)| !of_calls.contains(action));
    let asked: usize = asked.map(|(_, (count, _))| count).sum();
    amounts.extend([
        amount("EC2: describes meanwhile", asked as f64, "calls", None),
        amount("EC2: a task alone, p50", middle(single), "ms", None),
        amount(
            "EC2: the agent's own steps of an add, mean",
            own,
            "ms",
            None,
        ),
    ]);
    amounts
}

fn warm_pool() -> Result<Vec<Amount>> {
    let ground = Ground::new("bench-pool", |subnet, group| {
        format!(
            "poll = 5\n[ec2.warm_pool]\nbranches = {WAITING}\nsubnets = [\"{subnet}\"]\n\
             security_groups = [\"{group}\"]\n"
        )
    })?;
    let mut api = ground.host.api()?;
    let began = Instant::now();
    loop {
        let capacity = api.json("GET", "/v1/capacity", "")?;
        if capacity["warmPool"]["waiting"] == WAITING {
            break;
        }
        ensure!(began.elapsed() < FILLED, "{}", capacity["warmPool"]);
        thread::sleep(Duration::from_millis(100));
    }
    let filled = began.elapsed().as_secs_f64();
    // A look that has read the rules of its groups.
    drop(ground.ec2.take_calls());
    while ground.ec2.count("DescribeTrunkInterfaceAssociations") == 0 {
        ensure!(began.elapsed() < FILLED, "no look");
        thread::sleep(Duration::from_millis(100));
    }
    thread::sleep(Duration::from_secs(1));
    // A task that asks EC2 for anything does not come.
    ground.ec2.fault(Which::any(), Fault::Refuse);
    let mut times = Vec::new();
    for number in 0..WAITING {
        times.push(ground.add(&mut api, &format!("warm-{number}"))?);
    }
    ground.ec2.clear_faults();
    let capacity = api.json("GET", "/v1/capacity", "")?;
    ensure!(
        capacity["warmPool"]["hits"] == WAITING,
        "{}",
        capacity["warmPool"]
    );
    ground.host.stop_agent()?;
    Ok(vec![
        amount("EC2, warm pool: 100 branches wait after", filled, "s", None),
        amount(
            "EC2, warm pool: calls for each task's start",
            0.0,
            "calls",
            Some(0.0),
        ),
        amount(
            "EC2, warm pool: a task, p50",
            middle(&mut times),
            "ms",
            Some(GOAL),
        ),
    ])
}

/// The median, in milliseconds.
fn middle(times: &mut [Duration]) -> f64 {
    times.sort();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    middle.as_secs_f64() * 1e3
}
