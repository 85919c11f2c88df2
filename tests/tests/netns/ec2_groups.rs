//! Groups of a task on EC2: changed here by one call, changed there and taken over, and refused as a whole.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use branchline_ec2_stand_in::{Fault, Outcome, Route, RouteTarget, Which};
use branchline_tests::{
    host::Host,
    settings::OPEN_PORT,
    talk::{self, PATIENCE, SHORT, is_silence},
    task::{Task, spec},
};
use serde_json::json;

use super::{
    ec2::{Account, eventually, instance_with, told},
    flow_logs::lines as flow_lines,
};

const MODIFY: &str = "ModifyNetworkInterfaceAttribute";
const ID: &str = "mover";
/// As long as a look and what follows may take.
const LOOKED: Duration = Duration::from_secs(20);

/// A server, and a task that comes and goes among those who may reach it.
struct Ground {
    host: Host,
    account: Account,
    server: Task,
    mover: Task,
}

impl Ground {
    fn new(name: &str, lines: &str) -> Self {
        let (host, account) = instance_with(name, lines);
        host.start_agent().unwrap();
        let server = account.add(&host, "server", &account.server);
        let mover = account.add(&host, ID, &account.server);
        drop(account.changes());
        Self {
            host,
            account,
            server,
            mover,
        }
    }

    fn set(&self, groups: &[&str]) -> Result<(), String> {
        let arguments = [&["task", "set-groups", ID], groups].concat();
        let output = self.host.branchline(&arguments).unwrap();
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Its groups here.
    fn groups(&self) -> Vec<String> {
        let mut api = self.host.api().unwrap();
        let task = api.json("GET", &format!("/v1/tasks/{ID}"), "").unwrap();
        serde_json::from_value(task["securityGroups"].clone()).unwrap()
    }

    /// Its groups there.
    fn groups_in_ec2(&self) -> Vec<String> {
        let state = self.account.ec2.state();
        state.network_interfaces[&self.mover.eni_id]
            .group_ids
            .clone()
    }

    fn change_in_ec2(&self, groups: &[&String]) {
        self.account.ec2.change(|state| {
            let eni = state.network_interfaces.get_mut(&self.mover.eni_id);
            eni.unwrap().group_ids = groups.iter().map(ToString::to_string).collect();
        });
    }

    /// Here, in EC2 and on the wire it has `group` alone.
    #[track_caller]
    fn assert_has(&self, group: &str, row: &str) {
        assert_eq!(self.groups(), [group], "{row}");
        assert_eq!(self.groups_in_ec2(), [group], "{row}");
        self.assert_obeys(group, row);
    }

    #[track_caller]
    fn assert_obeys(&self, group: &str, row: &str) {
        let at = SocketAddr::new(self.server.ipv4.into(), OPEN_PORT);
        let (from, to) = (&self.mover.netns, &self.server.netns);
        if group == self.account.client {
            talk::tcp(from, to, at, PATIENCE).unwrap_or_else(|error| panic!("{row}: {error}"));
        } else {
            let tried = talk::tcp(from, to, at, SHORT);
            assert!(is_silence(&tried), "{row}: {tried:?}");
        }
        let task = self.host.task(ID).unwrap();
        assert_eq!(task.eni_id, self.mover.eni_id, "{row}");
    }
}

#[test]
fn a_tasks_groups_change_by_one_call_and_its_eni_stays() {
    let ground = Ground::new("ec2-groups", "poll = 3600\ndeadline = 20");
    let (client, server) = (&ground.account.client, &ground.account.server);
    ground.assert_has(server, "before");
    ground.set(&[client]).unwrap();
    assert_eq!(ground.account.changes(), [MODIFY]);
    ground.assert_has(client, "other groups");
    ground.set(&[server]).unwrap();
    ground.assert_has(server, "back");
    let calls = ground.account.ec2.take_calls();
    let calls: Vec<_> = calls
        .iter()
        .filter(|call| call.operation == MODIFY)
        .collect();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].parameters.contains_key("SecurityGroupId.1"));
    // Still there after a restart, which changes nothing.
    ground.host.kill_agent().unwrap();
    ground.host.start_agent().unwrap();
    ground.assert_has(server, "restarted");
    assert_eq!(ground.account.changes(), [""; 0]);
}

#[test]
fn groups_that_were_changed_in_ec2_are_taken_over() {
    let ground = Ground::new("ec2-groups-there", "poll = 5\ndeadline = 20");
    let (client, server) = (&ground.account.client, &ground.account.server);
    ground.change_in_ec2(&[client]);
    let is_here = |groups: &[&String]| {
        let found = ground.groups();
        found.iter().collect::<Vec<_>>() == groups
    };
    eventually("taken over", LOOKED, || is_here(&[client]));
    ground.assert_has(client, "taken over");
    assert!(ground.host.log().contains("changed in EC2"));
    // Groups whose rules nobody here needed before, and those that it had.
    let other = ground.account.ec2.change(|state| {
        let id = "sg-0123456789abcdef0".to_owned();
        let mut group = state.security_groups[client].clone();
        group.group_id.clone_from(&id);
        group.group_name = "other".to_owned();
        state.security_groups.insert(id.clone(), group);
        id
    });
    ground.change_in_ec2(&[&other]);
    eventually("a new group", LOOKED, || is_here(&[&other]));
    ground.assert_obeys(&other, "a new group");
    // Changed while no agent runs.
    ground.host.kill_agent().unwrap();
    ground.change_in_ec2(&[client]);
    ground.host.start_agent().unwrap();
    eventually("after a start", LOOKED, || is_here(&[client]));
    ground.assert_has(client, "after a start");
    // Nobody is asked to change it back.
    assert_eq!(ground.account.changes(), [""; 0]);
    let problems = ground.host.status().unwrap().problems;
    assert!(problems.is_empty(), "{problems:?}");

    // While EC2 does not tell, what was in force stays, and is said to be old.
    let away = Fault::Error(told("AuthFailure"));
    ground.account.ec2.fault(Which::any(), away);
    ground.change_in_ec2(&[server]);
    eventually("the status says so", LOOKED, || {
        let problems = ground.host.status().unwrap().problems;
        problems.iter().any(|text| text.contains("AuthFailure"))
    });
    assert_eq!(ground.groups(), [client.as_str()]);
    ground.assert_obeys(client, "away");
    ground.account.ec2.clear_faults();
    eventually("it tells again", LOOKED, || is_here(&[server]));
    ground.assert_has(server, "told again");
}

#[test]
fn an_older_state_that_ec2_shows_takes_nothing_back() {
    let ground = Ground::new("ec2-groups-late", "poll = 5\ndeadline = 20");
    let client = &ground.account.client;
    ground.account.ec2.settings(|settings| {
        settings.consistency_delay = Duration::from_secs(9);
    });
    ground.set(&[client]).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(14) {
        assert_eq!(ground.groups(), [client.as_str()]);
        thread::sleep(Duration::from_millis(200));
    }
    ground.assert_has(client, "at the end");
}

#[test]
fn groups_that_ec2_refuses_change_nothing() {
    let ground = Ground::new("ec2-groups-refused", "poll = 3600\ndeadline = 20");
    let server = &ground.account.server;
    let error = |code| Fault::Error(told(code));
    for code in [
        "InvalidGroup.NotFound",
        "SecurityGroupsPerInterfaceLimitExceeded",
        "UnauthorizedOperation",
    ] {
        ground
            .account
            .ec2
            .fault(Which::of(MODIFY).nth(1), error(code));
        let said = ground.set(&[&ground.account.client]).unwrap_err();
        assert!(said.contains(code), "{code}: {said}");
        let is_field = code != "UnauthorizedOperation";
        assert_eq!(
            said.contains("securityGroups: "),
            is_field,
            "{code}: {said}"
        );
        ground.assert_has(server, code);
    }
    // By itself: one that there is not, and more than the quota.
    let said = ground.set(&["sg-0fedcba9876543210"]).unwrap_err();
    assert!(said.contains("InvalidGroup.NotFound"), "{said}");
    ground.assert_has(server, "unknown");
    ground.account.ec2.clear_faults();
    // EC2 does it, and the rules cannot be read: it is taken back there too.
    drop(ground.account.changes());
    let refused = error("UnauthorizedOperation");
    ground
        .account
        .ec2
        .fault(Which::of("DescribeSecurityGroupRules").nth(1), refused);
    let said = ground.set(&[&ground.account.client]).unwrap_err();
    assert!(said.contains("DescribeSecurityGroupRules"), "{said}");
    assert_eq!(ground.account.changes(), [MODIFY, MODIFY]);
    ground.assert_has(server, "unread");
    ground.set(&[&ground.account.client]).unwrap();
    ground.assert_has(&ground.account.client, "in the end");
}

#[test]
fn whatever_the_call_comes_to_both_have_the_same_groups() {
    let ground = Ground::new("ec2-groups-faults", "poll = 3600\ndeadline = 20");
    let groups = [&ground.account.client, &ground.account.server];
    let faults = [
        Fault::Error(told("RequestLimitExceeded")),
        Fault::ErrorAfterEffect(told("InternalError")),
        Fault::LoseAnswer,
        Fault::Refuse,
    ];
    for (fault, group) in faults.into_iter().zip(groups.into_iter().cycle()) {
        let row = format!("{fault:?}");
        drop(ground.account.ec2.take_calls());
        ground.account.ec2.fault(Which::of(MODIFY).nth(1), fault);
        ground.set(&[group]).unwrap();
        let calls = ground.account.ec2.take_calls();
        let mut of_it = calls.iter().filter(|call| call.operation == MODIFY);
        assert!(of_it.any(|call| call.outcome != Outcome::Done), "{row}");
        ground.assert_has(group, &row);
    }
}

#[test]
fn killed_around_each_step_both_have_the_same_groups() {
    let ground = Ground::new("ec2-groups-kills", "poll = 3600\ndeadline = 20");
    ground.host.stop_agent().unwrap();
    let groups = [&ground.account.client, &ground.account.server];
    let mut groups = groups.into_iter().cycle();
    for step in ["modify-eni", "enforce", "keep-groups"] {
        for when in ["before", "after"] {
            let point = format!("set-groups/{step}/{when}");
            ground.host.start_agent_until(&point).unwrap();
            let group = groups.next().unwrap();
            ground.set(&[group]).unwrap_err();
            assert!(ground.host.agent_was_killed().unwrap(), "{point}");
            ground.host.start_agent().unwrap();
            let is_done = || json!(ground.groups()) == json!([group]);
            eventually(&point, LOOKED, is_done);
            ground.assert_has(group, &point);
            ground.host.stop_agent().unwrap();
        }
    }
    // Killed while EC2 works: it does it, and nobody hears of it.
    ground.host.start_agent().unwrap();
    let group = groups.next().unwrap();
    ground.account.ec2.fault(
        Which::of(MODIFY).nth(1),
        Fault::Delay(Duration::from_secs(5)),
    );
    drop(ground.account.ec2.take_calls());
    thread::scope(|scope| {
        let request = scope.spawn(|| ground.set(&[group]));
        let ec2 = &ground.account.ec2;
        eventually("it is asked", PATIENCE, || ec2.count(MODIFY) == 1);
        ground.host.kill_agent().unwrap();
        request.join().unwrap().unwrap_err();
    });
    ground.host.start_agent().unwrap();
    eventually("done at last", LOOKED, || {
        ground.groups() == [group.clone()]
    });
    ground.assert_has(group, "killed inside");
}

#[test]
fn tasks_that_start_together_read_their_new_group_once() {
    let (host, account) = instance_with(
        "ec2-groups-together",
        "poll = 3600\ndeadline = 20\nrequest_share_percent = 100",
    );
    host.start_agent().unwrap();
    let slow = Fault::Delay(Duration::from_secs(2));
    account
        .ec2
        .fault(Which::of("AssociateTrunkInterface"), slow);
    drop(account.ec2.take_calls());
    let ids = [0, 1, 2, 3].map(|number| format!("task-{number}"));
    thread::scope(|scope| {
        for id in &ids {
            scope.spawn(|| {
                let body = spec(id, &[&account.subnet], &[&account.server]);
                let mut api = host.api().unwrap();
                api.json("POST", "/v1/tasks", &body.to_string()).unwrap();
            });
        }
    });
    let reads = || {
        let reads = ["DescribeSecurityGroups", "DescribeSecurityGroupRules"];
        reads.map(|operation| account.ec2.count(operation))
    };
    assert_eq!(reads(), [1, 1], "of four tasks");
    // The group's rules are in force for each of them.
    let client = account.add(&host, "client", &account.client);
    assert_eq!(reads(), [2, 2], "another group");
    for id in &ids {
        let task = host.task(id).unwrap();
        let at = SocketAddr::new(task.ipv4.into(), OPEN_PORT);
        talk::tcp(&client.netns, &task.netns, at, PATIENCE).unwrap();
    }
}

#[test]
fn routes_of_the_vpc_are_read_again() {
    let log = "[[flow_logs]]\nflow_log_id = \"fl-00000001\"\ndir = \"/run/own\"\n\
               max_aggregation_interval = 1\nrotation = 1\nlog_format = \"pkt-dstaddr traffic-path\"";
    let lines = format!("poll = 5\ndeadline = 20\n{log}");
    let (host, account) = instance_with("ec2-routes", &lines);
    host.start_agent().unwrap();
    let task = account.add(&host, "task", &account.client);
    let is_by = |path: &str| {
        task.run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(b"out", "198.51.100.9:9").unwrap();
        });
        let rows = flow_lines(&host, "/run/own");
        rows.contains(&format!("198.51.100.9 {path}"))
    };
    eventually("without a route", LOOKED, || is_by("-"));
    assert!(!is_by("8"));
    account.ec2.change(|state| {
        for table in state.route_tables.values_mut() {
            table.routes.push(Route {
                destination: "0.0.0.0/0".parse().unwrap(),
                target: RouteTarget::InternetGateway("igw-0123456789abcdef0".to_owned()),
            });
        }
    });
    eventually("through the gateway", LOOKED, || is_by("8"));
}
