//! A task's security groups change while it runs: its ENI and its connections stay, and a kill leaves the old or the new.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
};

use branchline::fault;
use branchline_tests::{
    host::Host,
    settings::{OPEN_PORT, Settings, VPC},
    talk::{self, PATIENCE, SHORT, is_silence},
    task::Task,
};
use serde_json::{Value, json};

const SIGKILL: i32 = 9;

struct Ground {
    host: Host,
    server: Task,
    stranger: Task,
}

impl Ground {
    fn new(name: &str) -> Self {
        const ANYWHERE: &str =
            "ip_ranges = [{ cidr_ip = \"0.0.0.0/0\" }], ipv6_ranges = [{ cidr_ipv6 = \"::/0\" }]";
        let members = "user_id_group_pairs = [{ group_id = \"sg-client\" }]";
        let settings = Settings {
            vpc: VPC.replace(ANYWHERE, members),
            ..Settings::default()
        };
        let host = Host::new(name, settings).unwrap();
        host.start_agent().unwrap();
        let server = host.add_task("server", &["subnet-a"], &["sg-server"]);
        let stranger = host.add_task("stranger", &["subnet-b"], &["sg-server"]);
        Self {
            server: server.unwrap(),
            stranger: stranger.unwrap(),
            host,
        }
    }

    /// The groups of `stranger` by the API.
    fn groups(&self) -> Value {
        let mut api = self.host.api().unwrap();
        let task = api.json("GET", "/v1/tasks/stranger", "").unwrap();
        assert_eq!(
            task["attachments"][0]["details"][1]["value"],
            self.stranger.eni_id
        );
        task["securityGroups"].clone()
    }

    /// Only members of `sg-client` may open anything to the server.
    #[track_caller]
    fn assert_obeys(&self, groups: &[&str]) {
        assert_eq!(self.groups(), json!(groups));
        for address in self.server.addresses() {
            let at = SocketAddr::new(address, OPEN_PORT);
            let (from, to) = (&self.stranger.netns, &self.server.netns);
            if groups.contains(&"sg-client") {
                talk::tcp(from, to, at, PATIENCE).unwrap();
            } else {
                let tried = talk::tcp(from, to, at, SHORT);
                assert!(is_silence(&tried), "{groups:?}: {tried:?}");
            }
        }
    }

    fn set(&self, groups: &[&str]) -> std::process::Output {
        let arguments = [&["task", "set-groups", "stranger"], groups].concat();
        self.host.branchline(&arguments).unwrap()
    }

    #[track_caller]
    fn set_ok(&self, groups: &[&str]) {
        let output = self.set(groups);
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_task_gets_other_groups_and_keeps_its_connections() {
    let ground = Ground::new("groups");
    ground.assert_obeys(&["sg-server"]);
    ground.set_ok(&["sg-client"]);
    ground.assert_obeys(&["sg-client"]);
    let at = SocketAddr::new(ground.server.ipv4.into(), OPEN_PORT);
    let (mut near, mut far) =
        talk::connection(&ground.stranger.netns, &ground.server.netns, at).unwrap();
    let mut echo = || {
        let mut buffer = [0; 4];
        near.write_all(b"ping").unwrap();
        far.read_exact(&mut buffer).unwrap();
        far.write_all(&buffer).unwrap();
        near.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"ping");
    };
    echo();
    ground.set_ok(&["sg-server", "sg-client"]);
    ground.assert_obeys(&["sg-server", "sg-client"]);
    ground.set_ok(&["sg-server"]);
    // A repeat changes nothing.
    ground.set_ok(&["sg-server"]);
    ground.assert_obeys(&["sg-server"]);
    echo();
    // The wish that made the task is the same as before.
    let again = ground
        .host
        .add_task("stranger", &["subnet-b"], &["sg-server"]);
    assert_eq!(again.unwrap().eni_id, ground.stranger.eni_id);
    ground.host.kill_agent().unwrap();
    ground.assert_no_agent_obeys();
    ground.host.start_agent().unwrap();
    ground.assert_obeys(&["sg-server"]);
    echo();
}

impl Ground {
    /// The programs alone go on by the groups of before.
    fn assert_no_agent_obeys(&self) {
        let at = SocketAddr::new(self.server.ipv4.into(), OPEN_PORT);
        let tried = talk::tcp(&self.stranger.netns, &self.server.netns, at, SHORT);
        assert!(is_silence(&tried), "{tried:?}");
    }
}

#[test]
fn groups_that_there_are_not_change_nothing() {
    let ground = Ground::new("groups-wrong");
    for (groups, said) in [
        (&["sg-client", "sg-nobodys"][..], "securityGroups[1]"),
        (&["sg-client", "sg-client"], "is listed twice"),
    ] {
        let output = ground.set(groups);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(said), "{text}");
        ground.assert_obeys(&["sg-server"]);
    }
    let output = ground
        .host
        .branchline(&["task", "set-groups", "nobody", "sg-client"]);
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("there is no task nobody"), "{text}");
    let mut api = ground.host.api().unwrap();
    let path = "/v1/tasks/stranger/security-groups";
    let (status, _) = api
        .request("PUT", path, r#"{"securityGroups": []}"#)
        .unwrap();
    assert_eq!(status, 400);
}

#[test]
fn killed_around_each_step_a_change_is_made_at_the_next_start() {
    let ground = Ground::new("groups-kills");
    ground.host.stop_agent().unwrap();
    let start = |point: &str| {
        let variable = (fault::VARIABLE, point);
        ground.host.start_agent_with(&[variable]).unwrap();
    };
    let mut groups = ["sg-client", "sg-server"].into_iter().cycle();
    for step in ["modify-eni", "enforce", "keep-groups"] {
        for when in ["before", "after"] {
            let point = format!("set-groups/{step}/{when}");
            start(&point);
            let wanted = groups.next().unwrap();
            assert!(!ground.set(&[wanted]).status.success(), "{point}");
            let end = ground.host.agent_end().unwrap();
            assert_eq!(end.signal(), Some(SIGKILL), "{point}");
            start("");
            super::ec2::eventually(&point, PATIENCE, || ground.groups() == json!([wanted]));
            ground.assert_obeys(&[wanted]);
            ground.host.stop_agent().unwrap();
        }
    }
}

#[test]
fn a_step_that_fails_takes_the_change_back() {
    let ground = Ground::new("groups-fails");
    ground.host.stop_agent().unwrap();
    for step in ["modify-eni", "enforce"] {
        let point = format!("set-groups/{step}/fail-before");
        let variable = (fault::VARIABLE, point.as_str());
        ground.host.start_agent_with(&[variable]).unwrap();
        assert!(!ground.set(&["sg-client"]).status.success(), "{point}");
        ground.assert_obeys(&["sg-server"]);
        ground.host.kill_agent().unwrap();
        ground.host.start_agent().unwrap();
        ground.assert_obeys(&["sg-server"]);
        ground.host.stop_agent().unwrap();
    }
}
