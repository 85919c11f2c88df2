//! The built command against a server with an agent of its own behind it: output, exit codes, `task exec`.
//!
//! Needs root: the API serves nobody else, and `task exec` enters a namespace.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use branchline::api::{
    ApplyRequest, Attachment, AttributeList, Capacity, CniGarbageCollected, Difference, EniList,
    FlowLogFile, FlowLogList, Health, KeyValuePair, NetworkInterface, NetworkPart,
    SecurityGroupDescription, SecurityGroupList, SecurityGroupsApplied, SecurityGroupsDiff, Status,
    SubnetList, TaskCheck, TaskDescription, TaskDnsDescription, TaskEvent, TaskFilesDescription,
    TaskGroups, TaskStatus,
};
use branchline::cni_attachment::CniGarbageCollection;
use branchline::config::ConntrackConfig;
use branchline::datapath::{DatapathError, Entry};
use branchline::eni_settings::EniSettings;
use branchline::explain::{ExplainRequest, Explanation};
use branchline::field_error::FieldError;
use branchline::flows::{Identities, Identity};
use branchline::life::AttachmentStatus;
use branchline::live::{FlowRates, Follower, Live, Moment, Source};
use branchline::metrics::ApiRequests;
use branchline::progress::Events;
use branchline::server::{Access, Added, Control, ControlError, bind, serve};
use branchline::spec::{TaskId, TaskSpec};
use branchline_common::account::Traffic;
use branchline_common::flow::{FlowKey, kind, mapped};
use branchline_common::maps::Row;
use branchline_common::verdict::{Direction, DropReason};
use nix::sched::{CloneFlags, unshare};

/// Says yes to every task and puts it into `netns`.
struct Memory {
    netns: PathBuf,
    tasks: Mutex<BTreeMap<TaskId, TaskDescription>>,
}

impl Control for Memory {
    async fn add_task(&self, spec: TaskSpec) -> Result<Added, ControlError> {
        if spec.awsvpc().subnets == ["subnet-x"] {
            let field = "networkConfiguration.awsvpcConfiguration.subnets[0]";
            let problem = "\"subnet-x\" is no subnet of vpc-1";
            return Err(ControlError::Invalid(FieldError::new(
                field,
                problem,
                "write subnet-a",
            )));
        }
        let detail = KeyValuePair {
            name: "privateIPv4Address".into(),
            value: "10.0.1.4".into(),
        };
        let task = TaskDescription {
            task_id: spec.task_id.to_string(),
            last_status: TaskStatus::Running,
            desired_status: TaskStatus::Running,
            availability_zone: None,
            created_at: "2026-11-28T10:15:00Z".into(),
            started_at: None,
            stopping_at: None,
            stopped_at: None,
            stopped_reason: None,
            attachments: vec![Attachment {
                id: "a".into(),
                kind: "ElasticNetworkInterface".into(),
                status: AttachmentStatus::Attached,
                details: vec![detail],
                status_times: Vec::new(),
            }],
            containers: Vec::new(),
            security_groups: vec!["sg-web".into()],
            network_interface_attributes: EniSettings::resolve(
                &ConntrackConfig::default(),
                spec.network_interface_attributes(),
            ),
            network_namespace: self.netns.clone(),
            network_interface: NetworkInterface {
                link_name: spec.link_name.to_string(),
                mac_address: "0a:00:00:00:00:01".into(),
                mtu: 9001,
                addresses: Vec::new(),
                subnet_id: "subnet-a".into(),
                vpc_id: "vpc-1".into(),
            },
            dns: TaskDnsDescription::default(),
            files: TaskFilesDescription::default(),
            environment: Vec::new(),
            host_link: "bl0".into(),
            device_index: None,
            network_card_index: None,
            vlan_id: Some(1),
            counters: None,
        };
        match self
            .tasks
            .lock()
            .unwrap()
            .insert(spec.task_id, task.clone())
        {
            None => Ok(Added::Created(task)),
            Some(_) => Ok(Added::Existing(task)),
        }
    }

    async fn remove_task(&self, id: TaskId) -> Result<(), ControlError> {
        self.tasks
            .lock()
            .unwrap()
            .remove(&id)
            .map(drop)
            .ok_or(ControlError::Unknown(id))
    }

    async fn tasks(&self) -> Result<Vec<TaskDescription>, ControlError> {
        Ok(self.tasks.lock().unwrap().values().cloned().collect())
    }

    async fn task(&self, id: TaskId) -> Result<TaskDescription, ControlError> {
        self.tasks
            .lock()
            .unwrap()
            .get(&id)
            .cloned()
            .ok_or(ControlError::Unknown(id))
    }

    /// Something is wrong with every task but `sound`.
    async fn set_task_groups(
        &self,
        id: TaskId,
        groups: TaskGroups,
    ) -> Result<TaskDescription, ControlError> {
        let mut tasks = self.tasks.lock().unwrap();
        let task = tasks.get_mut(&id).ok_or(ControlError::Unknown(id))?;
        task.security_groups = groups.security_groups;
        Ok(task.clone())
    }

    async fn check_task(&self, id: TaskId) -> Result<TaskCheck, ControlError> {
        let mut differences = Vec::new();
        if id.as_str() != "sound" {
            differences.push(Difference {
                part: NetworkPart::Mtu,
                what: "MTU of eth0".into(),
                expected: "9001".into(),
                found: "1500".into(),
            });
        }
        Ok(TaskCheck {
            task: self.task(id).await?,
            differences,
        })
    }

    async fn try_task(&self, _spec: TaskSpec) -> Result<(), ControlError> {
        Ok(())
    }

    async fn collect_cni_garbage(
        &self,
        _request: CniGarbageCollection,
    ) -> Result<CniGarbageCollected, ControlError> {
        Ok(CniGarbageCollected::default())
    }

    fn network_interfaces(&self) -> EniList {
        EniList::default()
    }

    fn subnets(&self) -> SubnetList {
        SubnetList::default()
    }

    fn capacity(&self) -> Capacity {
        Capacity::default()
    }

    fn attributes(&self) -> AttributeList {
        AttributeList::default()
    }

    fn events(&self) -> tokio::sync::broadcast::Receiver<Arc<TaskEvent>> {
        Events::new().listen()
    }

    async fn security_groups(&self) -> Result<SecurityGroupList, ControlError> {
        Ok(SecurityGroupList::default())
    }

    async fn security_group(&self, id: String) -> Result<SecurityGroupDescription, ControlError> {
        Err(ControlError::UnknownGroup(id))
    }

    /// Refuses a group of another VPC; says as a note whether it is to prune.
    async fn apply_security_groups(
        &self,
        request: ApplyRequest,
    ) -> Result<SecurityGroupsApplied, ControlError> {
        if let Some(vpc_id) = &request.file.security_groups[0].vpc_id {
            let field = "security_groups[0].vpc_id";
            return Err(ControlError::Invalid(FieldError::new(
                field,
                format!("{vpc_id} is another"),
                "leave it out",
            )));
        }
        Ok(SecurityGroupsApplied {
            notes: vec![format!("prune {}", request.prune)],
            network_interfaces: request.file.security_groups.len(),
            ..SecurityGroupsApplied::default()
        })
    }

    async fn diff_security_groups(
        &self,
        request: ApplyRequest,
    ) -> Result<SecurityGroupsDiff, ControlError> {
        let applied = self.apply_security_groups(request).await?;
        Ok(SecurityGroupsDiff {
            notes: applied.notes,
            flow_count: 7,
            ..SecurityGroupsDiff::default()
        })
    }

    async fn flow_logs(&self) -> Result<FlowLogList, ControlError> {
        Ok(FlowLogList::default())
    }

    async fn apply_flow_logs(&self, file: FlowLogFile) -> Result<FlowLogList, ControlError> {
        branchline::delivery::check_all(&file.flow_logs).map_err(ControlError::Invalid)?;
        Ok(FlowLogList::default())
    }

    async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ControlError> {
        let source = "10.0.0.1".parse().unwrap();
        let to = request.to.parse();
        let to = to.map_err(|_| ControlError::Conflict(format!("{} is no address", request.to)))?;
        let packet = request.opening(source, to).map_err(ControlError::Invalid)?;
        Ok(Explanation {
            allowed: packet.destination_port == 443,
            packet,
            judgements: Vec::new(),
        })
    }

    async fn follow(&self, is_measuring: bool) -> Result<Follower, ControlError> {
        let identities = Identities::default();
        let identity = Identity::named("eni-1", Some("web"));
        identities.insert(3, identity);
        let source = Arc::new(Growing::default());
        let live = Live::over(source, identities, Duration::from_millis(10));
        Ok(live.follow(is_measuring).await.unwrap())
    }

    async fn health(&self) -> Health {
        Health::of([("trunk".to_owned(), None)])
    }

    async fn scrape(&self) -> Result<String, ControlError> {
        Ok("# EOF\n".to_owned())
    }

    fn requests(&self) -> ApiRequests {
        ApiRequests::default()
    }

    async fn status(&self) -> Result<Status, ControlError> {
        Ok(Status {
            version: "9.9.9".into(),
            ..Status::default()
        })
    }
}

/// One row, in which a packet is rejected each second of its clock, and from walk to walk a second.
#[derive(Default)]
struct Growing(AtomicU32);

impl Source for Growing {
    fn now(&self) -> Result<Moment, DatapathError> {
        let walk = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Moment {
            ticks: walk * 100,
            ticks_per_second: 100,
            epoch: 1,
            steady_us: u64::from(walk) * 1_000_000,
            wall_ms: u64::from(walk) * 1_000,
        })
    }

    fn for_each(&self, visit: &mut dyn FnMut(&FlowKey, &Entry)) -> Result<(), DatapathError> {
        let key = FlowKey {
            local: mapped([10, 0, 1, 5]),
            remote: mapped([10, 0, 2, 7]),
            local_port: 22,
            remote_port: 4711,
            eni: 3,
            protocol: 6,
            kind: kind::rejected(Direction::Ingress, DropReason::NoRule),
        };
        let packets = u64::from(self.0.load(Ordering::SeqCst));
        let traffic = Traffic {
            packets,
            bytes: packets * 60,
            ..Traffic::default()
        };
        let mut row = Row::default();
        row.account.add(&traffic, 1, 50);
        visit(&key, &Entry::Row(row));
        Ok(())
    }
}

/// A network namespace that lives as long as this process: its thread never ends.
fn namespace() -> PathBuf {
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        ready.send(nix::unistd::gettid()).unwrap();
        loop {
            std::thread::park();
        }
    });
    let thread = is_ready.recv().unwrap();
    format!("/proc/{}/task/{thread}/ns/net", std::process::id()).into()
}

/// A server in a folder of its own, which goes with it.
struct Agent {
    folder: PathBuf,
    netns: PathBuf,
}

impl Agent {
    fn start(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("branchline-cli-{}-{name}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let netns = namespace();
        let control = Arc::new(Memory {
            netns: netns.clone(),
            tasks: Mutex::default(),
        });
        let socket = folder.join("agent.sock");
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = bind(&socket, None).unwrap();
                ready.send(()).unwrap();
                serve(
                    listener,
                    &socket,
                    control,
                    Access::root(None),
                    std::future::pending(),
                )
                .await
                .unwrap();
            });
        });
        is_ready.recv().unwrap();
        Self { folder, netns }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with_input(arguments, "")
    }

    fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_branchline"))
            .arg("--socket")
            .arg(self.folder.join("agent.sock"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[test]
fn a_check_says_what_differs_and_fails_then() {
    let agent = Agent::start("check");
    for id in ["sound", "spoilt"] {
        let spec = format!(
            r#"{{"taskId": "{id}", "networkConfiguration": {{"awsvpcConfiguration": {{"subnets": ["subnet-a"]}}}}}}"#
        );
        succeeds(&agent.run_with_input(&["task", "add", "-"], &spec));
    }
    let sound = agent.run(&["task", "check", "sound"]);
    assert_eq!(succeeds(&sound), "task sound is as it should be\n");
    let spoilt = agent.run(&["task", "check", "spoilt"]);
    assert_eq!(spoilt.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(spoilt.stdout).unwrap(),
        "MTU of eth0: expected 9001, found 1500\n"
    );
    let json = agent.run(&["task", "check", "spoilt", "--json"]);
    assert_eq!(json.status.code(), Some(1));
    let check: TaskCheck = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(check.differences[0].found, "1500");
    let unknown = agent.run(&["task", "check", "none"]);
    assert!(failure(&unknown).contains("there is no task none"));
}

#[test]
fn a_task_gets_the_groups_that_are_named() {
    let agent = Agent::start("groups");
    let spec = r#"{"taskId": "web", "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-a"]}}}"#;
    succeeds(&agent.run_with_input(&["task", "add", "-"], spec));
    let json = agent.run(&["task", "set-groups", "web", "sg-a", "sg-b", "--json"]);
    let task: TaskDescription = serde_json::from_str(succeeds(&json)).unwrap();
    assert_eq!(task.security_groups, ["sg-a", "sg-b"]);
    let twice = agent.run(&["task", "set-groups", "web", "sg-a", "sg-a"]);
    assert!(failure(&twice).contains("securityGroups[1]"), "{twice:?}");
    let unknown = agent.run(&["task", "set-groups", "none", "sg-a"]);
    assert!(failure(&unknown).contains("there is no task none"));
}

#[test]
fn flows_are_printed_as_text_and_as_json() {
    let agent = Agent::start("flows");
    let expected = "\
TASK  FLOWS  IN B/s  OUT B/s  IN pkt/s  OUT pkt/s  REJECTED pkt/s
web   0      0       0        0         0          1

TASK  FLOW                             ACTION  IN B/s  OUT B/s  IN pkt/s  OUT pkt/s
web   tcp 10.0.2.7:4711 → 10.0.1.5:22  REJECT  60      0        1         0

1 of 1 flows, over 1.0 s
";
    assert_eq!(succeeds(&agent.run(&["flows", "top", "--once"])), expected);
    let json = agent.run(&["flows", "top", "--once", "--json", "--limit", "0"]);
    let rates: FlowRates = serde_json::from_str(succeeds(&json)).unwrap();
    assert_eq!((rates.flows.len(), rates.flow_count), (0, 1));
    let says = agent.run(&["flows", "top"]);
    assert!(
        failure(&says).contains("write --once or --json"),
        "{says:?}"
    );

    // It goes on until its reader goes, which is no failure.
    let mut tail = Command::new(env!("CARGO_BIN_EXE_branchline"))
        .arg("--socket")
        .arg(agent.folder.join("agent.sock"))
        .args(["flows", "tail", "--event", "reject"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(tail.stdout.take().unwrap()).lines().take(2);
    let lines: Vec<_> = lines.map(Result::unwrap).collect();
    assert!(lines[0].starts_with("TIME (UTC)"), "{lines:?}");
    let says = "ingress    tcp 10.0.2.7:4711 → 10.0.1.5:22  REJECTED 1 pkt 60 B, no-rule";
    assert!(lines[1].ends_with(says), "{lines:?}");
    let ended = tail.wait_with_output().unwrap();
    assert_eq!(
        (ended.status.code(), text(&ended.stderr)),
        (Some(0), "following\n")
    );
}

fn spec(id: &str, subnet: &str) -> String {
    format!(
        r#"{{"taskId": "{id}", "networkConfiguration": {{"awsvpcConfiguration": {{"subnets": ["{subnet}"]}}}}}}"#
    )
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn succeeds(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The one line that a failed command says.
fn failure(output: &Output) -> &str {
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    let line = text(&output.stderr);
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    line.strip_prefix("error: ").unwrap().trim_end()
}

#[test]
fn tasks_are_added_listed_shown_and_removed() {
    let agent = Agent::start("tasks");
    let file = agent.folder.join("web.json");
    std::fs::write(&file, spec("web", "subnet-a")).unwrap();
    let file = file.to_str().unwrap();
    assert!(succeeds(&agent.run(&["task", "add", file])).starts_with("task web added\n"));
    assert!(
        succeeds(&agent.run(&["task", "add", file])).starts_with("task web was there already\n")
    );
    let json = agent.run_with_input(&["task", "add", "-", "--json"], &spec("db", "subnet-a"));
    let task: TaskDescription = serde_json::from_str(succeeds(&json)).unwrap();
    assert_eq!(
        (task.task_id.as_str(), task.detail("privateIPv4Address")),
        ("db", Some("10.0.1.4"))
    );
    let list = agent.run(&["task", "ls"]);
    let ids: Vec<&str> = succeeds(&list)
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(ids, ["TASK", "db", "web"]);
    assert!(
        succeeds(&agent.run(&["task", "show", "web"]))
            .contains("\nprivateIPv4Address     10.0.1.4\n")
    );
    let shown: serde_json::Value =
        serde_json::from_str(succeeds(&agent.run(&["task", "show", "web", "--json"]))).unwrap();
    assert_eq!(shown["attachments"][0]["details"][0]["value"], "10.0.1.4");
    assert!(succeeds(&agent.run(&["status"])).contains("9.9.9"));
    assert_eq!(succeeds(&agent.run(&["task", "rm", "web"])), "");
    assert_eq!(
        failure(&agent.run(&["task", "rm", "web"])),
        "there is no task web; `branchline task ls` lists them"
    );
}

#[test]
fn errors_are_one_line_that_names_file_and_field() {
    let agent = Agent::start("errors");
    let file = agent.folder.join("web.json");
    let path = file.to_str().unwrap();
    assert!(
        failure(&agent.run(&["task", "add", path]))
            .starts_with(&format!("read task specification {path}: No such"))
    );
    std::fs::write(&file, spec("a b", "subnet-a")).unwrap();
    assert!(
        failure(&agent.run(&["task", "add", path]))
            .starts_with(&format!("task specification {path}: taskId: "))
    );
    std::fs::write(&file, spec("web", "subnet-x")).unwrap();
    let refused = format!(
        "task specification {path}: networkConfiguration.awsvpcConfiguration.subnets[0]: \
         \"subnet-x\" is no subnet of vpc-1; write subnet-a"
    );
    assert_eq!(failure(&agent.run(&["task", "add", path])), refused);
    let nobody = Command::new(env!("CARGO_BIN_EXE_branchline"))
        .args(["--socket", "/nowhere/agent.sock", "task", "ls"])
        .output()
        .unwrap();
    let nobody = failure(&nobody);
    assert!(
        nobody.starts_with("connect to the agent at /nowhere/agent.sock (run as root;"),
        "{nobody}"
    );
    assert!(
        failure(&agent.run(&["agent", "--config", path]))
            .starts_with(&format!("configuration {path}: "))
    );
    assert_eq!(agent.run(&["task", "frob"]).status.code(), Some(2));
    let config = agent.folder.join("agent.toml");
    std::fs::write(&config, format!("run_dir = {:?}", agent.folder)).unwrap();
    let purge = agent.run(&["purge", "--config", config.to_str().unwrap()]);
    assert!(failure(&purge).ends_with("agent.sock; stop it first"));
}

#[test]
fn exec_becomes_the_command_in_the_tasks_namespace() {
    let agent = Agent::start("exec");
    succeeds(&agent.run_with_input(&["task", "add", "-"], &spec("web", "subnet-a")));
    let inside = agent.run(&["task", "exec", "web", "--", "readlink", "/proc/self/ns/net"]);
    let netns = std::fs::read_link(&agent.netns).unwrap();
    assert_eq!(Path::new(succeeds(&inside).trim()), netns);
    assert_ne!(std::fs::read_link("/proc/self/ns/net").unwrap(), netns);
    assert_eq!(
        succeeds(&agent.run(&["task", "exec", "web", "--", "ls", "/sys/class/net"])),
        "lo\n"
    );
    let code = agent.run(&["task", "exec", "web", "--", "sh", "-c", "exit 7"]);
    assert_eq!(code.status.code(), Some(7));
    let missing = agent.run(&["task", "exec", "web", "--", "no-such-program"]);
    assert!(failure(&missing).starts_with("run \"no-such-program\": No such file"));
    assert!(
        failure(&agent.run(&["task", "exec", "db", "--", "true"]))
            .starts_with("there is no task db")
    );
}

#[test]
fn doctor_reports_on_this_host_and_fails_when_something_is_missing() {
    let agent = Agent::start("doctor");
    let config = agent.folder.join("agent.toml");
    std::fs::write(
        &config,
        format!("run_dir = {:?}\nbpffs_dir = '/nowhere'", agent.folder),
    )
    .unwrap();
    let output = agent.run(&["doctor", "--json", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let check = |name: &str| {
        report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|check| check["name"] == name)
            .cloned()
    };
    assert_eq!(
        check("agent").unwrap()["finding"]
            .as_str()
            .unwrap()
            .split(' ')
            .next(),
        Some("9.9.9")
    );
    assert_eq!(check("bpffs").unwrap()["outcome"], "missing");
    assert_eq!(check("veth and TC").unwrap()["outcome"], "ok");
    assert_eq!(check("VPC file").unwrap()["outcome"], "missing");
    let text_output = agent.run(&["doctor", "--config", config.to_str().unwrap()]);
    assert!(text(&text_output.stdout).ends_with("something required is missing\n"));
}

const GROUP: &str = "[[security_groups]]\ngroup_id = 'sg-a'\ngroup_name = 'a'\n";

#[test]
fn security_groups_are_applied_and_compared() {
    let agent = Agent::start("sg");
    let file = agent.folder.join("groups.toml");
    std::fs::write(&file, GROUP).unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(
        succeeds(&agent.run(&["sg", "apply", path])),
        "note: prune false\nnothing differs\n"
    );
    let json = agent.run_with_input(&["sg", "apply", "-", "--prune", "--json"], GROUP);
    let answer: SecurityGroupsApplied = serde_json::from_str(succeeds(&json)).unwrap();
    assert_eq!(answer.notes, ["prune true"]);
    let diff = agent.run(&["sg", "diff", path, "--json"]);
    let answer: SecurityGroupsDiff = serde_json::from_str(succeeds(&diff)).unwrap();
    assert_eq!(answer.flow_count, 7);
    assert!(succeeds(&agent.run(&["sg", "ls"])).starts_with("GROUP ID  NAME"));
    assert_eq!(
        failure(&agent.run(&["sg", "show", "sg-x"])),
        "there is no security group sg-x; `branchline sg ls` lists them"
    );
    assert_eq!(
        failure(&agent.run(&["sg", "show", "../tasks"])),
        "security groups id: id: \"../tasks\" is no id of this kind; \
         write sg- and 1 to 64 letters, digits or dashes"
    );
    std::fs::write(&file, format!("{GROUP}vpc_id = 'vpc-2'")).unwrap();
    assert_eq!(
        failure(&agent.run(&["sg", "apply", path])),
        format!(
            "security groups {path}: security_groups[0].vpc_id: vpc-2 is another; leave it out"
        )
    );
    std::fs::write(&file, format!("{GROUP}colour = 'red'")).unwrap();
    let unknown = agent.run(&["sg", "diff", path]);
    assert!(
        failure(&unknown).starts_with(&format!("security groups {path}: security_groups[0]")),
        "{}",
        failure(&unknown)
    );
}

#[test]
fn awss_output_becomes_a_file_without_an_agent() {
    let folder = std::env::temp_dir().join(format!("branchline-import-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let aws = folder.join("groups.json");
    std::fs::write(
        &aws,
        r#"{"SecurityGroups": [{"GroupId": "sg-1", "GroupName": "web", "OwnerId": "123456789012",
            "VpcId": "vpc-1", "Description": "", "IpPermissionsEgress": [], "IpPermissions": [
              {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]}],
            "NextToken": "more"}"#,
    )
    .unwrap();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_branchline"))
            .args(["--socket", "/nowhere/agent.sock", "sg", "import"])
            .args(arguments)
            .output()
            .unwrap()
    };
    let path = aws.to_str().unwrap();
    let output = run(&[path]);
    assert!(succeeds(&output).starts_with("[[security_groups]]\ngroup_id = \"sg-1\"\n"));
    assert_eq!(
        text(&output.stderr),
        format!(
            "note: {path}: NextToken: this is one page of several; without the others rules are missing\n"
        )
    );
    let json: serde_json::Value = serde_json::from_str(succeeds(&run(&[path, "--json"]))).unwrap();
    let range = &json["security_groups"][0]["ip_permissions"][0]["ip_ranges"][0];
    assert_eq!(range["cidr_ip"], "10.0.0.0/8");
    std::fs::write(&aws, "{\"Vpcs\": []}").unwrap();
    let nothing = run(&[path]);
    assert!(
        failure(&nothing).starts_with(&format!("{path}: has none of SecurityGroups")),
        "{}",
        failure(&nothing)
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn explain_answers_with_its_exit_code() {
    let agent = Agent::start("explain");
    let run = |to: &str, more: &[&str]| {
        let arguments = ["explain", "--from", "web", "--to", to, "--proto", "tcp"];
        let output = agent.run(&[&arguments, more].concat());
        (output.status.code(), text(&output.stderr).to_owned())
    };
    assert_eq!(
        run("10.0.0.2", &["--port", "443"]),
        (Some(0), String::new())
    );
    assert_eq!(run("10.0.0.2", &["--port", "80"]), (Some(1), String::new()));
    let (code, error) = run("10.0.0.2", &[]);
    assert_eq!(code, Some(2));
    assert!(error.starts_with("error: port: is missing"), "{error}");
    let (code, error) = run("nobody", &["--port", "80"]);
    assert_eq!(
        (code, error.as_str()),
        (Some(2), "error: nobody is no address\n")
    );
}
