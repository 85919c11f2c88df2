//! Containers of runc and crun in a task's namespace: what they find there, and that they share it.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use branchline_tests::{host::Host, settings::OPEN_PORT, talk::PATIENCE, task::Task};
use serde_json::{Value, json};

use crate::ground::{Ended, ROOT, ground, runs, succeeds};

const RUNTIMES: [&str; 2] = ["runc", "crun"];

/// An OCI configuration of a container in `netns` that runs `arguments`.
pub(crate) fn configuration(netns: Option<&str>, arguments: &[&str]) -> Value {
    let capabilities = ["CAP_NET_BIND_SERVICE"];
    let network = match netns {
        Some(path) => json!({"type": "network", "path": path}),
        None => json!({"type": "network"}),
    };
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": arguments, "env": ["PATH=/bin"], "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": true,
        },
        "root": {"path": ROOT, "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        ],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, network]},
    })
}

/// A command that runs a container of its own, which the runtime knows as `id`.
fn container(host: &Host, runtime: &str, id: &str, netns: &str, arguments: &[&str]) -> Command {
    let bundle = format!("/run/bundles/{id}");
    host.run(|| {
        fs::create_dir_all(&bundle).unwrap();
        let text = configuration(Some(netns), arguments).to_string();
        fs::write(format!("{bundle}/config.json"), text).unwrap();
    });
    let mut command = Command::new(runtime);
    command.args([
        "--root",
        &format!("/run/{runtime}"),
        "run",
        "--bundle",
        &bundle,
        id,
    ]);
    command
}

fn shell(host: &Host, runtime: &str, id: &str, task: &Task, script: &str) -> Command {
    let netns = task.netns_path.to_str().unwrap();
    container(host, runtime, id, netns, &["/bin/sh", "-c", script])
}

#[test]
fn a_container_finds_the_enis_own_network() {
    let host = ground("oci-inside", &[]);
    let task = host.add_task("web", &["subnet-a"], &["sg-server"]).unwrap();
    let script = "ip -o link; ip -o addr; ip neigh; ip route; ip -6 route; \
                  for key in accept_ra accept_dad autoconf; do echo $key $(cat /proc/sys/net/ipv6/conf/eth0/$key); done";
    for runtime in RUNTIMES {
        let said = succeeds(
            &host,
            &mut shell(&host, runtime, &format!("look-{runtime}"), &task, script),
        );
        let mac: Vec<String> = task.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "lo: <LOOPBACK,UP,LOWER_UP>".to_owned(),
            "mtu 9001".to_owned(),
            format!("link/ether {}", mac.join(":")),
            format!("inet {}/24", task.ipv4),
            format!("inet6 {}/64", task.ipv6),
            "10.0.1.1 dev eth0 lladdr".to_owned(),
            "default via 10.0.1.1 dev eth0".to_owned(),
            "default via 2001:db8:1:1::1 dev eth0".to_owned(),
            "accept_ra 0\naccept_dad 0\nautoconf 0".to_owned(),
        ];
        for text in expected {
            assert!(said.contains(&text), "{runtime}: no {text:?} in {said}");
        }
        assert!(!said.contains("tentative"), "{runtime}: {said}");
        let neighbours = said.lines().filter(|line| line.contains("lladdr"));
        let permanent = neighbours.filter(|line| line.contains("PERMANENT")).count();
        assert_eq!(permanent, 2, "{runtime}: {said}");
        // One default route of each family, and none that an advertisement made.
        let defaults: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("default"))
            .collect();
        assert_eq!(defaults.len(), 2, "{runtime}: {said}");
        assert!(!said.contains("proto ra"), "{runtime}: {said}");
    }
}

#[test]
fn containers_of_a_task_reach_one_another_on_localhost_and_others_by_the_groups() {
    let host = ground("oci-localhost", &[]);
    let web = host.add_task("web", &["subnet-a"], &["sg-server"]).unwrap();
    let client = host
        .add_task("client", &["subnet-b"], &["sg-client"])
        .unwrap();
    for (serving, asking) in [("runc", "crun"), ("crun", "runc")] {
        let ports = [OPEN_PORT, 9999];
        let servers: Vec<Ended> = ports
            .into_iter()
            .map(|port| {
                let id = format!("serve-{serving}-{port}");
                let script = format!("nc -ll -p {port} -e cat /proc/sys/kernel/hostname");
                let mut command = shell(&host, serving, &id, &web, &script);
                command.stdin(Stdio::null()).stdout(Stdio::null());
                Ended(host.run(|| command.spawn()).unwrap())
            })
            .collect();
        let ask = |id: &str, task: &Task, to: &str, port: u16| {
            let script = format!("nc -w 2 {to} {port} </dev/null");
            runs(&host, &mut shell(&host, asking, id, task, &script))
                .status
                .success()
        };
        // The servers are there in a moment.
        let began = Instant::now();
        while !ask("wait", &web, "127.0.0.1", 9999) || !ask("wait", &web, "127.0.0.1", OPEN_PORT) {
            assert!(began.elapsed() < PATIENCE, "{serving} serves nothing");
            thread::sleep(Duration::from_millis(50));
        }
        let ipv4 = web.ipv4.to_string();
        assert!(ask("localhost", &web, "127.0.0.1", 9999));
        assert!(ask("open", &client, &ipv4, OPEN_PORT));
        assert!(!ask("closed", &client, &ipv4, 9999));
        for port in ports {
            let id = format!("serve-{serving}-{port}");
            let mut kill = Command::new(serving);
            kill.args(["--root", &format!("/run/{serving}"), "kill", &id, "KILL"]);
            succeeds(&host, &mut kill);
        }
        for mut server in servers {
            server.0.wait().unwrap();
        }
    }
}
