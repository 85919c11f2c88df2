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

use branchline::{link::LinkChange, netlink::Netlink, netns::Netns};
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
const CHANGES: [(&str, At, &str); 17] = [
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
    (
        "program detached",
        At::Host,
        "tc qdisc del dev LINK ingress",
    ),
    (
        "block left",
        At::Host,
        "tc qdisc del dev LINK ingress && tc qdisc add dev LINK clsact",
    ),
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

/// Each task is looked at once a minute whatever notices say: with so many tasks none is mended soon by that.
const MANY: usize = 64;
const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_change_is_noticed_and_not_only_found_in_time() {
    let host = running("noticed");
    let web = host.add_task("web", &["subnet-a"], &["sg-server"]).unwrap();
    let mut api = host.api().unwrap();
    for number in 0..MANY {
        let body = spec(&format!("idle-{number}"), &["subnet-b"], &["sg-client"]);
        api.json("POST", "/v1/tasks", &body.to_string()).unwrap();
    }
    let changes = [
        (At::Task, "ip link set eth0 mtu 1400"),
        (At::Task, "ip address del IPV4/24 dev eth0"),
        (At::Task, "ip -6 route del default"),
        (At::Task, "ip neigh del 10.0.1.1 dev eth0"),
        (At::Host, "ip link set LINK down"),
        (At::Host, "tc qdisc del dev LINK ingress"),
    ];
    let mut late = Vec::new();
    for (number, (at, command)) in changes.into_iter().enumerate() {
        let text = command.replace("LINK", &web.host_link);
        let text = text.replace("IPV4", &web.ipv4.to_string());
        shell(&host, &web, at, &text);
        let start = Instant::now();
        wait(command, || repairs(&host) > number as u64);
        let took = start.elapsed();
        println!("{command}: mended after {took:?}");
        // The pauses between repairs of one task double.
        if took > SOON {
            late.push((command, took));
        }
    }
    assert!(late.is_empty(), "{late:?}");
}

/// A third of what it takes until the last of so many tasks is looked at in turn.
const FIRST_LOOK: Duration = Duration::from_secs(20);

/// Told together with what the agent itself has done for the task.
#[test]
fn a_change_in_a_task_s_first_moment_is_noticed_too() {
    let host = running("first-moment");
    let mut api = host.api().unwrap();
    let mut add = |id: &str| {
        let body = spec(id, &["subnet-a"], &["sg-client"]);
        api.json("POST", "/v1/tasks", &body.to_string()).unwrap();
    };
    // The tasks that are looked at in turn come first.
    (0..MANY).for_each(|number| add(&format!("idle-{number}")));
    let change = LinkChange {
        mtu: Some(1400),
        ..LinkChange::default()
    };
    for number in 1..=3 {
        let id = format!("web-{number}");
        add(&id);
        host.run(|| {
            let path = format!("/run/netns/branchline-{id}");
            let netns = Netns::open(Path::new(&path)).unwrap();
            let inside = Netlink::open(&netns).unwrap();
            let link = inside.existing_link("eth0").unwrap();
            inside.change_link(link.index, change).unwrap();
        });
        let start = Instant::now();
        wait(&id, || repairs(&host) >= number);
        let took = start.elapsed();
        println!("{id}: mended after {took:?}");
        assert!(took < FIRST_LOOK, "{id}: {took:?}");
    }
}

#[test]
fn the_local_vpc_s_end_of_the_trunk_is_mended() {
    let host = running("fabric");
    let web = host.add_task("web", &["subnet-a"], &["sg-server"]).unwrap();
    let peer = host
        .add_task("peer", &["subnet-b"], &["sg-client"])
        .unwrap();
    let changes = [
        "tc filter del dev trunk ingress",
        "tc filter del dev trunk egress",
        "tc qdisc del dev trunk clsact",
        "tc qdisc del dev trunk clsact && tc qdisc add dev trunk ingress",
        "ip link set trunk down",
    ];
    for (number, command) in changes.into_iter().enumerate() {
        let command = format!("ip netns exec branchline-fabric sh -c '{command}'");
        shell(&host, &web, At::Host, &command);
        wait(&command, || repairs(&host) > number as u64);
        for address in web.addresses() {
            // From another task by `fabric`, from the host by `fabric_gateway`.
            for from in [&peer.netns, host.netns()] {
                talk::ping(from, address, 56, PATIENCE)
                    .unwrap_or_else(|error| panic!("{command}: ping {address}: {error}"));
            }
        }
    }
    assert_eq!(host.status().unwrap().tasks_given_up, 0);
}

#[test]
fn what_the_services_lack_is_mended_and_files_are_only_named() {
    let host = running("services-care");
    let web = host.add_task("web", &["subnet-a"], &["sg-server"]).unwrap();
    let changes = [
        format!("ip neigh del {} dev services", web.ipv4),
        format!("ip neigh del {} dev services", web.ipv6),
        "ip route del default dev services".to_owned(),
        "ip -6 route del default dev services".to_owned(),
    ];
    for (number, command) in changes.iter().enumerate() {
        let command = format!("ip netns exec branchline-services {command}");
        shell(&host, &web, At::Host, &command);
        wait(&command, || {
            repairs(&host) > number as u64 && differences(&host, "web").is_empty()
        });
    }
    let repaired = repairs(&host);
    let hosts = "/run/branchline/tasks/web/hosts";
    let resolv_conf = "/run/etc-netns/branchline-web/resolv.conf";
    shell(
        &host,
        &web,
        At::Host,
        &format!("rm {hosts}; echo nameserver 192.0.2.1 > {resolv_conf}"),
    );
    // Longer than a round, in which it would be mended.
    thread::sleep(Duration::from_secs(3));
    let found: Vec<String> = differences(&host, "web")
        .iter()
        .map(|one| format!("{} {}", one["what"], one["found"]))
        .collect();
    let expected = [
        format!("\"file {hosts}\" \"none\""),
        format!("\"file {resolv_conf}\" \"another text\""),
    ];
    assert_eq!(found, expected);
    assert_eq!(repairs(&host), repaired);
    let checked = host.branchline(&["task", "check", "web"]).unwrap();
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{text}");
    assert!(text.contains(hosts) && text.contains(resolv_conf), "{text}");
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
    // 20 ms, 0.1, 0.2, 0.4, 0.8, 1.6 and 3.2 s apart; each changed again at once, some before the repair
    // could be seen, and the last after the storm.
    let repairs = repairs(&host);
    assert!((2..=9).contains(&repairs), "{repairs} repairs in 8 s");
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
    let said = String::from_utf8_lossy(&pruned.stderr).into_owned();
    let reason = format!("sg-server would be removed, and {} has it", web.eni_id);
    assert!(!pruned.status.success() && said.contains(&reason), "{said}");
    let mut api = host.api().unwrap();
    let requests = [
        (
            "POST",
            "/v1/cni/gc",
            json!({"network": "net", "validAttachments": []}),
            200,
        ),
        (
            "POST",
            "/v1/dry-run/tasks",
            spec("web", &["subnet-a"], &["sg-server"]),
            204,
        ),
        (
            "POST",
            "/v1/tasks",
            spec("web", &["subnet-b"], &["sg-client"]),
            409,
        ),
        ("DELETE", "/v1/tasks/another", Value::Null, 404),
        ("PUT", "/v1/tasks/web", Value::Null, 405),
    ];
    for (method, path, body, expected) in requests {
        let (status, text) = api.request(method, path, &body.to_string()).unwrap();
        // A request that is not understood takes nothing from anybody, and says nothing.
        assert_eq!(status, expected, "{method} {path}: {text}");
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
