//! What a task's network costs through the agent's API, beside a floor that does nothing but the kernel's part: one task,
//! a thousand of them, their memory, and what the agent takes of a core while they are idle.
//!
//! Floor and agent take turns in one run, each on a host of its own. That nothing is left after each round is asserted.

mod floor;

mod memory;

mod netlink;

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use branchline::datapath::{self, Datapath, program};
use branchline_common::maps;
use branchline_tests::{
    api_client::ApiClient,
    host::Host,
    settings::{Settings, VPC},
    task::spec,
    traces::Traces,
};

use self::{
    floor::Floor,
    memory::{Kernel, Process},
};
use crate::{
    agent::{INTERVAL, share},
    report::{Amount, amount},
};

/// Tasks of each that come one by one, and then go.
const SINGLE: u32 = 200;
/// Tasks that are there together.
const TASKS: u32 = 1_000;
/// How often they come and go at most: each time takes minutes.
const ROUNDS: u32 = 3;
/// Requests under way at once.
const AT_ONCE: u32 = 16;
/// The first and the last so many are compared.
const EDGE: usize = 50;
/// How often the metrics are asked for.
const SCRAPES: u32 = 20;
/// What one leaves to the kernel, and the agent to do after its answer, is over by then.
const PAUSE: Duration = Duration::from_millis(10);
/// What new links say of themselves is over then, and each new task was looked at once, 32 in a second.
const FIRST_LOOKS: Duration = Duration::from_secs(40);
/// A task's cost by the floor's.
const ADD_GOAL: f64 = 1.5;
/// Percent of a core that an idle agent may take.
const IDLE_GOAL: f64 = 0.5;

/// Measures all of it.
pub(crate) fn measure(rounds: u32) -> Result<Vec<Amount>> {
    let settings = Settings {
        interval: INTERVAL,
        vpc: VPC.replace("10.0.1.0/24", "10.0.16.0/20"),
        ..Settings::default()
    };
    let agent = Host::new("tasks", settings)?;
    agent.start_agent()?;
    let floor = Host::new("floor", Settings::default())?;
    let program = program()?;
    // The floor's program is one thread, which is on its host.
    let amounts =
        floor.run(|| Bench::new(&agent, Floor::new(program)?)?.measure(rounds.min(ROUNDS)))?;
    agent.stop_agent()?;
    Ok(amounts)
}

fn program() -> Result<std::os::fd::OwnedFd> {
    let mut datapath = Datapath::load(&datapath::Settings {
        pins: None,
        connections: 1_024,
        rows: maps::ROWS,
        log_drops: false,
        tcp_strict: false,
    })?;
    Ok(datapath.program(program::BRANCH_EGRESS)?)
}

struct Bench<'a> {
    host: &'a Host,
    api: ApiClient,
    floor: Floor,
}

/// How long each task took, in order.
type Times = Vec<Duration>;

impl<'a> Bench<'a> {
    fn new(host: &'a Host, floor: Floor) -> Result<Self> {
        let api = host.api()?;
        Ok(Self { host, api, floor })
    }

    fn measure(&mut self, rounds: u32) -> Result<Vec<Amount>> {
        let mut amounts = self.one_by_one()?;
        let before = Traces::of(self.host)?;
        let mut left = Vec::new();
        let mut floors = [Vec::new(), Vec::new()];
        let mut alone = [Vec::new(), Vec::new()];
        let mut at_once = [Duration::ZERO; 2];
        for round in 0..rounds {
            memory::settled()?;
            let kernel = Kernel::now()?;
            floors[0].push(each(|number| self.floor.add(number))?);
            let floor_kernel = Kernel::now()?.since(&kernel);
            floors[1].push(each(|number| self.floor.remove(number))?);

            memory::settled()?;
            let (kernel, process) = (Kernel::now()?, Process::of(self.host)?);
            alone[0].push(each(|number| add(&mut self.api, number))?);
            if round == 0 {
                let kernel = Kernel::now()?.since(&kernel);
                let process = Process::of(self.host)?.since(&process);
                amounts.extend(memory_rows(&kernel, &floor_kernel, &process));
                amounts.extend(self.idle()?);
                amounts.extend(self.steps("add")?);
            }
            alone[1].push(each(|number| remove(&mut self.api, number))?);
            if round == 0 {
                amounts.extend(self.steps("remove")?);
            }

            memory::settled()?;
            at_once[0] += self.at_once(add)?;
            at_once[1] += self.at_once(remove)?;
            let differences = Traces::of(self.host)?.since(&before);
            ensure!(differences.is_empty(), "left behind: {differences:?}");
            memory::settled()?;
            left.push(Process::of(self.host)?);
        }
        for (index, what) in ["added", "removed"].into_iter().enumerate() {
            amounts.extend(many(what, &floors[index], &alone[index], at_once[index]));
        }
        if let [.., before, last] = &left[..] {
            let grown = last.since(before).anonymous * 1024.0;
            let what = "agent's own memory with no task left, last round minus the one before";
            amounts.push(amount(what, grown, "KiB", None));
        }
        Ok(amounts)
    }

    /// One task at a time, the floor's and the agent's in turn, with a pause before each.
    fn one_by_one(&mut self) -> Result<Vec<Amount>> {
        let mut times = [const { Vec::new() }; 4];
        // What removes a namespace afterwards holds up who makes one: first all come, then all go.
        for number in 0..SINGLE {
            thread::sleep(PAUSE);
            times[0].push(self.floor.add(number)?);
            thread::sleep(PAUSE);
            times[1].push(add(&mut self.api, number)?);
        }
        for number in 0..SINGLE {
            thread::sleep(PAUSE);
            times[2].push(self.floor.remove(number)?);
            thread::sleep(PAUSE);
            times[3].push(remove(&mut self.api, number)?);
        }
        let [floor_add, add, floor_remove, remove] = times.map(Sorted::of);
        Ok(vec![
            row("one task: floor, add p50", floor_add.at(50)),
            row("one task: floor, add p99", floor_add.at(99)),
            row("one task: API, add p50", add.at(50)),
            row("one task: API, add p99", add.at(99)),
            amount(
                "one task: API / floor, add p50",
                add.at(50) / floor_add.at(50),
                "x",
                Some(ADD_GOAL),
            ),
            row("one task: floor, remove p50", floor_remove.at(50)),
            row("one task: API, remove p50", remove.at(50)),
            row("one task: API, remove p99", remove.at(99)),
        ])
    }

    /// All tasks, so many requests at once; how long they took together.
    fn at_once(&self, one: fn(&mut ApiClient, u32) -> Result<Duration>) -> Result<Duration> {
        let began = Instant::now();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE)
                .map(|worker| {
                    let mut api = self.host.api()?;
                    Ok(scope.spawn(move || -> Result<()> {
                        let mut numbers = (worker..TASKS).step_by(AT_ONCE as usize);
                        numbers.try_for_each(|number| one(&mut api, number).map(drop))
                    }))
                })
                .collect::<Result<_>>()?;
            for worker in workers {
                worker.join().ok().context("a worker panicked")??;
            }
            Ok(began.elapsed())
        })
    }

    /// The agent and its watcher with all tasks there and nothing to do, and what a scrape takes.
    fn idle(&mut self) -> Result<Vec<Amount>> {
        thread::sleep(FIRST_LOOKS);
        let share = share(self.host)?;
        let before = Process::of(self.host)?;
        for _ in 0..SCRAPES {
            self.scrape()?;
        }
        let spent = Process::of(self.host)?.since(&before).processor;
        Ok(vec![
            amount(
                "1,000 tasks: agent and watcher idle, share of a core",
                share,
                "%",
                Some(IDLE_GOAL),
            ),
            amount(
                "1,000 tasks: a scrape of the metrics, CPU time",
                spent.as_secs_f64() * 1e3 / f64::from(SCRAPES),
                "ms",
                None,
            ),
        ])
    }

    fn scrape(&mut self) -> Result<String> {
        let (status, text) = self.api.request("GET", "/metrics", "")?;
        ensure!(status == 200, "a scrape: {status}");
        Ok(text)
    }

    /// Where the agent says that the time goes: the mean of each step so far.
    fn steps(&mut self, operation: &str) -> Result<Vec<Amount>> {
        const NAME: &str = "branchline_task_step_duration_seconds_";
        let text = self.scrape()?;
        let mut steps: BTreeMap<&str, [f64; 2]> = BTreeMap::new();
        let of_operation = format!("operation=\"{operation}\"");
        for line in text.lines().filter(|line| line.contains(&of_operation)) {
            let Some(rest) = line.strip_prefix(NAME) else {
                continue;
            };
            let place = ["sum{", "count{"]
                .iter()
                .position(|kind| rest.starts_with(kind));
            let step = rest.split("step=\"").nth(1);
            let step = step.and_then(|rest| rest.split('"').next());
            let value = rest.rsplit(' ').next();
            if let (Some(place), Some(step), Some(value)) = (place, step, value) {
                steps.entry(step).or_default()[place] = value.parse()?;
            }
        }
        let mean = |(step, [sum, count]): (&str, [f64; 2])| {
            let what = format!("{operation}, step {step}, mean");
            amount(&what, sum / count * 1e3, "ms", None)
        };
        Ok(steps.into_iter().map(mean).collect())
    }
}

/// All tasks, one after the other.
fn each(one: impl FnMut(u32) -> Result<Duration>) -> Result<Times> {
    (0..TASKS).map(one).collect()
}

fn add(api: &mut ApiClient, number: u32) -> Result<Duration> {
    let spec = spec(&format!("task-{number}"), &["subnet-a"], &["sg-server"]).to_string();
    let began = Instant::now();
    api.json("POST", "/v1/tasks", &spec)?;
    Ok(began.elapsed())
}

fn remove(api: &mut ApiClient, number: u32) -> Result<Duration> {
    let began = Instant::now();
    api.json("DELETE", &format!("/v1/tasks/task-{number}"), "")?;
    Ok(began.elapsed())
}

fn many(what: &str, floors: &[Times], alone: &[Times], at_once: Duration) -> Vec<Amount> {
    let name = |rest: &str| format!("1,000 tasks {what}: {rest}");
    let sum = |rounds: &[Times]| {
        let all = rounds.iter().flatten().sum::<Duration>();
        all.as_secs_f64() / rounds.len() as f64
    };
    let seconds = |rest: &str, value| amount(&name(rest), value, "s", None);
    let edge = |rounds: &[Times], from: usize| {
        let rounds = rounds.iter();
        let times = rounds.flat_map(|times| &times[from..from + EDGE]);
        Sorted::of(times.copied().collect()).at(50)
    };
    let last = TASKS as usize - EDGE;
    let growth = |rounds: &[Times]| edge(rounds, last) / edge(rounds, 0);
    let at_once = at_once.as_secs_f64() / alone.len() as f64;
    vec![
        seconds("floor", sum(floors)),
        seconds("API, 1 at once", sum(alone)),
        seconds("API, 16 at once", at_once),
        row(&name("API, p50 of 1 to 50"), edge(alone, 0)),
        row(&name("API, p50 of 951 to 1,000"), edge(alone, last)),
        amount(&name("API, growth of p50"), growth(alone), "x", None),
        amount(&name("floor, growth of p50"), growth(floors), "x", None),
    ]
}

fn memory_rows(kernel: &Kernel, floor: &Kernel, process: &Process) -> Vec<Amount> {
    let each = |what: &str, mebibytes: f64| {
        let value = mebibytes * 1024.0 / f64::from(TASKS);
        amount(&format!("memory per task: {what}"), value, "KiB", None)
    };
    vec![
        each("kernel, by the floor", floor.mebibytes),
        each("kernel, by the API", kernel.mebibytes),
        each("agent, anonymous", process.anonymous),
        each("agent, resident", process.resident),
        amount(
            "memory locked by maps, at any number of tasks",
            process.maps,
            "MiB",
            None,
        ),
    ]
}

fn row(what: &str, milliseconds: f64) -> Amount {
    amount(what, milliseconds, "ms", None)
}

/// Durations, shortest first.
struct Sorted(Times);

impl Sorted {
    fn of(mut times: Times) -> Self {
        times.sort();
        Self(times)
    }

    /// A percentile, in milliseconds.
    fn at(&self, percent: usize) -> f64 {
        let time = self.0.get(self.0.len() * percent / 100);
        time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }
}
