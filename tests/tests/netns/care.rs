//! What somebody changes of a task's network behind the agent is mended soon, or the task is given up
//! with the reason; and no request but the task's own takes anything from it.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use branchline::netns::Netns;
use branchline_tests::{
    host::Host,
    settings::{Settings, VPC},
    talk::{self, PATIENCE},
    task::{Task, spec},
    traces::Traces,
};
use serde_json::{Value, json};

const PAUSE: Duration = Duration::from_millis(20);

/// Who runs a command.
#[derive(Clone, Copy, Debug)]
enum At {
    Task,
    Host,
}

/// What somebody does: a name, where, and the command, in which LINK is the host's end and IPV4, IPV6 the
/// task's addresses.
const CHANGES: [(&str, At, &str); 16] = [
    (
        "IPv4 address removed",
        At::Task,
        "ip address del IPV4/24 dev eth0",
    ),
    (
        "IPv6 address removed",
        At::Task,
        "ip address del IPV6/64 dev eth0",
    ),
    ("default route removed", At::Task, "ip route del default"),
    (
        "IPv6 default route removed",
        At::Task,
        "ip -6 route del default",
    ),
    (
        "router's neighbour removed",
        At::Task,
        "ip neigh del 10.0.1.1 dev eth0",
    ),
    (
        "MAC address changed",
        At::Task,
        "ip link set eth0 address 02:00:00:00:00:77",
    ),
    ("MTU changed", At::Task, "ip link set eth0 mtu 1400"),
    ("set down", At::Task, "ip link set eth0 down"),
    ("loopback set down", At::Task, "ip link set lo down"),
    (
        "renamed",
        At::Task,
        "ip link set eth0 down && ip link set eth0 name eth9",
    ),
    ("deleted inside", At::Task, "ip link del eth0"),
    ("host's end set down", At::Host, "ip link set LINK down"),
    (
        "host's end renamed",
        At::Host,
        "ip link set LINK down && ip link set LINK name theirs",
    ),
    ("host's end deleted", At::Host, "ip link del LINK"),
    ("program detached", At::Host, "tc qdisc del dev LINK clsact"),
    (
        "program of all removed",
        At::Host,
        "tc filter del block 25196",
    ),
];

/// Changes of one task: repairs that follow one another become rare.
const OF_ONE_TASK: usize = 4;

#[test]
fn what_somebody_changes_is_mended() {
    let host = running("mended");
    let mut mended = 0;
    for (number, changes) in CHANGES.chunks(OF_ONE_TASK).enumerate() {
        let id = format!("web-{number}");
        let web = host.add_task(&id, &["subnet-a"], &["sg-server"]).unwrap();
        for (name, at, command) in changes {
            let command = command.replace("LINK", &web.host_link);
            let command = command.replace("IPV4", &web.ipv4.to_string());
            let command = command.replace("IPV6", &web.ipv6.to_string());
            shell(&host, &web, *at, &command);
            let start = Instant::now();
            wait(name, || {
                repairs(&host) > mended && differences(&host, &id).is_empty()
            });
            println!("{name}: mended after {:?}", start.elapsed());
            mended = repairs(&host);
            for address in web.addresses() {
                talk::ping(host.netns(), address, 56, PATIENCE)
                    .unwrap_or_else(|error| panic!("{name}: ping {address}: {error}"));
            }
        }
        // And it goes as any other.
        drop(web);
        host.remove_task(&id).unwrap();
    }
    assert_eq!(host.status().unwrap().tasks_given_up, 0);
}

#[test]
fn the_trunk_is_mended() {
    let host = running("trunk");
    let web = host.add_task("web", &["subnet-a"], &["sg-server"]).unwrap();
    let detach = "bpftool net detach tcx_ingress dev bl-trunk || \
                  bpftool link detach pinned /sys/fs/bpf/branchline/link-bl-trunk-* || \
                  tc qdisc del dev bl-trunk clsact";
    for (number, command) in ["ip link set bl-trunk down", detach]
        .into_iter()
        .enumerate()
    {
        shell(&host, &web, At::Host, command);
        wait(command, || repairs(&host) > number as u64);
        talk::ping(host.netns(), web.ipv4.into(), 56, PATIENCE).unwrap();
    }
}

#[test]
fn a_task_without_its_namespace_is_given_up_with_the_reason() {
    let host = running("given-up");
    let path = "/run/netns/mine";
    host.run(|| Netns::create(Path::new(path))).unwrap();
    host.run(|| Netns::remove(Path::new(path))).unwrap();
    let before = Traces::of(&host).unwrap();
    host.run(|| Netns::create(Path::new(path))).unwrap();
    let mut web = spec("web", &["subnet-a"], &["sg-server"]);
    web["networkNamespace"] = json!(path);
    assert!(host.add_spec(&web).unwrap().status.success());
    host.run(|| Netns::remove(Path::new(path))).unwrap();
    wait("given up", || host.status().unwrap().tasks_given_up == 1);
    wait("removed", || {
        Traces::of(&host).unwrap().since(&before).is_empty()
    });
    let shown = host
        .branchline_ok(&["task", "show", "web", "--json"])
        .unwrap();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let reason = shown["stoppedReason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("cannot be mended") && reason.contains(path),
        "{shown:#}"
    );
    let states = shown["attachments"][0]["statusTimes"].to_string();
    assert!(
        states.contains("FAILED") && states.contains("DELETED"),
        "{states}"
    );
}

#[test]
fn a_fight_is_said_once_and_becomes_slower() {
    let host = running("fight");
    let web = host.add_task("web", &["subnet-a"], &["sg-server"]).unwrap();
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until {
        shell(&host, &web, At::Task, "ip link set eth0 mtu 1400");
        thread::sleep(PAUSE);
    }
    // 20 ms, 0.1, 0.2, 0.4, 0.8, 1.6 and 3.2 s apart; each changed again at once.
    let repairs = repairs(&host);
    assert!((4..=9).contains(&repairs), "{repairs} repairs in 8 s");
    wait("the last repair", || differences(&host, "web").is_empty());
    let log = host.log();
    let said = log
        .lines()
        .filter(|line| line.contains("somebody keeps changing it"));
    assert_eq!(said.count(), 1, "{log}");
}

#[test]
fn no_other_request_takes_anything_from_a_task() {
    let host = running("managed");
    let web = host.add_task("web", &["subnet-a"], &["sg-server"]).unwrap();
    let before = Traces::of(&host).unwrap();
    let vpc = VPC.replace("sg-server", "sg-other");
    let groups = vpc.split_once("[[security_groups]]").unwrap().1;
    let groups = format!("[[security_groups]]{groups}");
    host.run(|| fs::write("/run/groups.toml", groups)).unwrap();
    let pruned = host
        .branchline(&["sg", "apply", "/run/groups.toml", "--prune"])
        .unwrap();
    assert!(!pruned.status.success(), "a group in use went: {pruned:?}");
    let mut api = host.api().unwrap();
    let requests = [
        (
            "POST",
            "/v1/cni/gc",
            json!({"networkName": "net", "validAttachments": []}),
        ),
        (
            "POST",
            "/v1/dry-run/tasks",
            spec("web", &["subnet-a"], &["sg-server"]),
        ),
        (
            "POST",
            "/v1/tasks",
            spec("web", &["subnet-b"], &["sg-client"]),
        ),
        ("DELETE", "/v1/tasks/another", Value::Null),
        ("PUT", "/v1/tasks/web", Value::Null),
    ];
    for (method, path, body) in requests {
        let (status, _) = api.request(method, path, &body.to_string()).unwrap();
        println!("{method} {path}: {status}");
        assert_eq!(
            differences(&host, "web"),
            Vec::<Value>::new(),
            "{method} {path}"
        );
        let changes = Traces::of(&host).unwrap().since(&before);
        assert!(changes.is_empty(), "{method} {path}: {changes:#?}");
    }
    let address: IpAddr = web.ipv4.into();
    talk::ping(host.netns(), address, 56, PATIENCE).unwrap();
    assert_eq!(repairs(&host), 0);
}

fn running(name: &str) -> Host {
    let host = Host::new(name, Settings::default()).unwrap();
    host.start_agent().unwrap();
    host
}

fn shell(host: &Host, task: &Task, at: At, text: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", text]);
    let output = match at {
        At::Task => task.netns.output(&mut command).unwrap(),
        At::Host => host.run(|| command.output()).unwrap(),
    };
    assert!(output.status.success(), "{text}: {output:?}");
}

fn repairs(host: &Host) -> u64 {
    host.status().unwrap().repairs
}

fn differences(host: &Host, id: &str) -> Vec<Value> {
    let path = format!("/v1/tasks/{id}/check");
    let check = host.api().unwrap().json("GET", &path, "").unwrap();
    check["differences"].as_array().unwrap().clone()
}

#[track_caller]
fn wait(what: &str, is_done: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < 7 * PATIENCE, "{what}: never");
        thread::sleep(PAUSE);
    }
}
