//! The agent is killed, or fails, before and after every step of adding and removing a task: what it
//! leaves is done or undone, never in between, and the request repeated ends as it should.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    path::Path,
    time::{Duration, Instant},
};

use branchline::{
    api::{Operation, Step},
    fault,
    netns::Netns,
};
use branchline_tests::{
    host::Host,
    settings::{Settings, VPC},
    talk::{self, PATIENCE},
    task::spec,
    traces::Traces,
};
use serde_json::{Value, json};

const ID: &str = "web";
const HANDED_IN: &str = "/run/netns/mine";
const SIGKILL: i32 = 9;
/// Tasks that the host takes; a leak of any of them would fail the next.
const MAX_ENIS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    AgentMade,
    HandedIn,
}

/// How far a request got by what is there: nothing, or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Present,
}

#[test]
fn killed_at_each_step_of_add() {
    Ground::new("kill-add", Namespace::AgentMade).kill_at_each_step(Operation::Add);
}

#[test]
fn killed_at_each_step_of_add_into_a_namespace_handed_in() {
    Ground::new("kill-add-in", Namespace::HandedIn).kill_at_each_step(Operation::Add);
}

#[test]
fn killed_at_each_step_of_remove() {
    Ground::new("kill-rm", Namespace::AgentMade).kill_at_each_step(Operation::Remove);
}

#[test]
fn killed_at_each_step_of_remove_from_a_namespace_handed_in() {
    Ground::new("kill-rm-in", Namespace::HandedIn).kill_at_each_step(Operation::Remove);
}

#[test]
fn a_failure_at_each_step_of_add_is_rolled_back() {
    for namespace in [Namespace::AgentMade, Namespace::HandedIn] {
        Ground::new("fail-add", namespace).fail_at_each_step_of_add();
    }
}

#[test]
fn a_failure_at_each_step_of_remove_is_made_up_for_unasked() {
    Ground::new("fail-rm", Namespace::AgentMade).fail_at_each_step_of_remove();
}

/// A host, and how it is without tasks and with one.
struct Ground {
    host: Host,
    namespace: Namespace,
    absent: Traces,
    present: BTreeMap<String, usize>,
    requests: usize,
}

impl Ground {
    fn new(name: &str, namespace: Namespace) -> Self {
        let settings = Settings {
            top_level: format!("max_enis = {MAX_ENIS}"),
            // 11 addresses, and more points than that: one that leaked would be missed.
            vpc: VPC.replace("10.0.1.0/24", "10.0.1.0/28"),
            ..Settings::default()
        };
        let host = Host::new(name, settings).unwrap();
        host.start_agent().unwrap();
        host.run(|| Netns::create(Path::new(HANDED_IN))).unwrap();
        let absent = Traces::of(&host).unwrap();
        let mut ground = Self {
            host,
            namespace,
            absent,
            present: BTreeMap::new(),
            requests: 0,
        };
        let request = ground.request();
        ground.added(&request);
        ground.present = ground.shape();
        ground.host.remove_task(ID).unwrap();
        ground.assert_absent("a task removed");
        ground.host.stop_agent().unwrap();
        ground
    }

    /// Each start of the agent is armed with the next point, which strikes the second request: the
    /// first shows that all is well again.
    fn kill_at_each_step(mut self, operation: Operation) {
        let points: Vec<String> = points(operation, ["before", "after"]).collect();
        self.start_at(&format!("{}@1", points[0]));
        for (number, point) in points.iter().enumerate() {
            let request = self.request();
            if operation == Operation::Add {
                let output = self.host.add_spec(&request).unwrap();
                assert!(!output.status.success(), "{point}: {output:?}");
            } else {
                self.added(&request);
                let output = self.host.branchline(&["task", "rm", ID]).unwrap();
                assert!(!output.status.success(), "{point}: {output:?}");
            }
            let end = self.host.agent_end().unwrap();
            assert_eq!(end.signal(), Some(SIGKILL), "{point}");
            self.start_at(&format!(
                "{}@2",
                points.get(number + 1).map_or("", String::as_str)
            ));
            let state = self.state(point);
            println!("{point}: {state:?}");
            match operation {
                Operation::Add if state == State::Present => {
                    self.works(&request, point);
                    let another = self.request();
                    self.works(&another, point);
                }
                Operation::Add => self.works(&request, point),
                Operation::Remove | Operation::SetGroups => {
                    assert_eq!(state, State::Absent, "{point}");
                }
            }
        }
        self.is_whole();
    }

    fn fail_at_each_step_of_add(mut self) {
        let points: Vec<String> = points(Operation::Add, ["fail-before", "fail-after"]).collect();
        let mut armed = points.join("@2,") + "@2";
        armed.replace_range(points[0].len()..points[0].len() + 2, "@1");
        self.start_at(&armed);
        for point in &points {
            let request = self.request();
            let output = self.host.add_spec(&request).unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(fault::VARIABLE), "{point}: {said}");
            assert_eq!(self.state(point), State::Absent, "{point}");
            self.works(&request, point);
        }
        self.is_whole();
    }

    /// A removal goes on past a step that failed, and its repetition past all: both pass the next point.
    fn fail_at_each_step_of_remove(mut self) {
        let points: Vec<String> =
            points(Operation::Remove, ["fail-before", "fail-after"]).collect();
        let armed = points.iter().enumerate().map(|(number, point)| {
            let is_later_step = number % 2 == 0 && !point.contains(Step::Forget.name());
            let pass = match number {
                0 => 1,
                _ if is_later_step => 3,
                _ => 2,
            };
            format!("{point}@{pass}")
        });
        self.start_at(&armed.collect::<Vec<_>>().join(","));
        for point in &points {
            let request = self.request();
            self.added(&request);
            let output = self.host.branchline(&["task", "rm", ID]).unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(fault::VARIABLE), "{point}: {said}");
            let start = Instant::now();
            while self.is_listed() {
                assert!(start.elapsed() < PATIENCE, "{point}: never removed");
                std::thread::sleep(Duration::from_millis(50));
            }
            self.assert_absent(point);
        }
        self.is_whole();
    }

    fn start_at(&self, points: &str) {
        let variable = (fault::VARIABLE, points);
        self.host.start_agent_with(&[variable]).unwrap();
    }

    /// A specification with a token of its own.
    fn request(&mut self) -> Value {
        self.requests += 1;
        let mut spec = spec(ID, &["subnet-a"], &["sg-server"]);
        spec["clientToken"] = json!(format!("request-{}", self.requests));
        if self.namespace == Namespace::HandedIn {
            spec["networkNamespace"] = json!(HANDED_IN);
        }
        spec
    }

    fn added(&self, request: &Value) {
        let output = self.host.add_spec(request).unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The request repeated makes the task, which takes part in the network and goes without a trace.
    fn works(&self, request: &Value, point: &str) {
        self.added(request);
        assert_eq!(self.state(point), State::Present, "{point}");
        let task = self.host.task(ID).unwrap();
        for address in task.addresses() {
            talk::ping(self.host.netns(), address, 56, PATIENCE).unwrap_or_else(|error| {
                panic!(
                    "{point}: ping {address}: {error}: {:#?}",
                    self.host.status()
                )
            });
        }
        drop(task);
        self.host.remove_task(ID).unwrap();
        self.assert_absent(point);
    }

    /// What is there must be one of the two.
    fn state(&self, point: &str) -> State {
        if !self.is_listed() {
            self.assert_absent(point);
            return State::Absent;
        }
        assert_eq!(self.shape(), self.present, "{point}");
        let mut api = self.host.api().unwrap();
        let path = format!("/v1/tasks/{ID}/check");
        let check = api.json("GET", &path, "").unwrap();
        assert_eq!(check["differences"], json!([]), "{point}");
        State::Present
    }

    fn is_listed(&self) -> bool {
        let list = self.host.api().unwrap().json("GET", "/v1/tasks", "");
        list.unwrap()["tasks"] != json!([])
    }

    #[track_caller]
    fn assert_absent(&self, point: &str) {
        let left = Traces::of(&self.host).unwrap().since(&self.absent);
        assert!(left.is_empty(), "{point}: {left:#?}");
    }

    /// How many of each kind there are beyond a host without tasks, but for what packets left.
    fn shape(&self) -> BTreeMap<String, usize> {
        let mut shape = BTreeMap::new();
        for line in Traces::of(&self.host).unwrap().since(&self.absent) {
            let mut words = line.split(' ').map(str::to_owned);
            let of_packets = ["COUNTERS", "CONNECTIONS", "ROWS", "FRAGMENTS", "TRACKED"];
            if !of_packets.iter().any(|name| line.contains(name)) {
                let kind = words.next().unwrap_or_default();
                *shape.entry(kind).or_default() += 1;
            }
        }
        shape
    }

    /// As many tasks as ever.
    fn is_whole(&self) {
        for number in 0..MAX_ENIS {
            let id = format!("last-{number}");
            self.host
                .add_task(&id, &["subnet-a"], &["sg-server"])
                .unwrap();
        }
    }
}

/// Every point of an operation, in order.
fn points(operation: Operation, when: [&'static str; 2]) -> impl Iterator<Item = String> {
    let is_its = move |step: &Step| (*step < Step::Distrust) == (operation == Operation::Add);
    let steps = Step::ALL.into_iter();
    let steps = steps.filter(|step| *step <= Step::Forget).filter(is_its);
    steps.flat_map(move |step| {
        when.map(|when| format!("{}/{}/{when}", operation.name(), step.name()))
    })
}
