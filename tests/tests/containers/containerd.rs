//! containerd: `ctr run --cni`, and its CRI as kubelet speaks to it.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use branchline_tests::{cni::PLUGIN, host::Host, talk::PATIENCE, traces::Traces};
use serde_json::{Value, json};

use crate::{
    ground::{CONFIGURATIONS, Ended, PLUGINS, ground, only_task, runs, succeeds, tasks},
    oci, podman,
};

const SOCKET: &str = "/run/containerd/containerd.sock";
const CONFIGURATION: &str = "/run/containerd.toml";
const LOG: &str = "/run/containerd.log";
const IMAGE: &str = "localhost/busybox:latest";

/// A network whose pods choose by annotations.
fn list() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": PLUGIN,
            "subnets": ["subnet-a"],
            "securityGroups": ["sg-server"],
            "capabilities": {"io.kubernetes.cri.pod-annotations": true},
        }],
    })
}

/// Starts containerd with folders of the host's own.
fn start(host: &Host) -> Ended {
    let disabled = ["aufs", "btrfs", "devmapper", "overlayfs", "zfs"]
        .map(|name| format!("\"io.containerd.snapshotter.v1.{name}\""))
        .join(", ");
    // Without cgroups: this machine's second version has no controllers.
    let configuration = format!(
        "version = 2\n\
         root = \"/run/containerd/root\"\n\
         state = \"/run/containerd/state\"\n\
         disabled_plugins = [{disabled}]\n\
         [grpc]\n\
         address = \"{SOCKET}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n\
         sandbox_image = \"{IMAGE}\"\n\
         disable_cgroup = true\n\
         disable_apparmor = true\n\
         restrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n\
         bin_dir = \"{PLUGINS}\"\n\
         conf_dir = \"{CONFIGURATIONS}\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n\
         snapshotter = \"native\"\n"
    );
    let child = host.run(|| {
        fs::write(CONFIGURATION, configuration).unwrap();
        let log = fs::File::create(LOG).unwrap();
        Command::new("containerd")
            .args(["--config", CONFIGURATION])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    });
    let containerd = Ended(child);
    let began = Instant::now();
    while !runs(host, &mut ctr(&["version"])).status.success() {
        let log = || host.run(|| fs::read_to_string(LOG)).unwrap();
        assert!(
            began.elapsed() < PATIENCE,
            "containerd does not answer: {}",
            log()
        );
        thread::sleep(Duration::from_millis(50));
    }
    containerd
}

fn ctr(arguments: &[&str]) -> Command {
    let mut command = Command::new("ctr");
    command.args(["--address", SOCKET]).args(arguments);
    command
}

fn cri(host: &Host, arguments: &[&str]) -> Output {
    let venv = env::var_os("BRANCHLINE_VENV").map(PathBuf::from);
    let venv = venv.expect("BRANCHLINE_VENV is not set: run `cargo xtask test`");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/containers/cri.py");
    let mut command = Command::new(venv.join("bin/python"));
    runs(host, command.arg(script).arg(SOCKET).args(arguments))
}

fn cri_ok(host: &Host, arguments: &[&str]) -> Vec<String> {
    let output = cri(host, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.lines().map(str::to_owned).collect()
}

#[test]
fn ctr_gives_a_container_an_eni_of_its_own() {
    let host = ground("ctr", &[("pods", list())]);
    let _containerd = start(&host);
    let before = Traces::outside_maps(&host).unwrap();
    let configuration = oci::configuration(None, &["/bin/sh", "-c", "ip addr; ip route"]);
    host.run(|| fs::write("/run/oci.json", configuration.to_string()).unwrap());
    let mut run = ctr(&["run", "--rm", "--cni", "--config", "/run/oci.json", "one"]);
    let said = succeeds(&host, &mut run);
    for text in [
        "eth0",
        "inet 10.0.1.",
        "inet6 2001:db8:1:1::",
        "default via 10.0.1.1 dev eth0",
    ] {
        assert!(said.contains(text), "no {text} in {said}");
    }
    assert_eq!(tasks(&host), []);
    let left = Traces::outside_maps(&host).unwrap().since(&before);
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn pods_choose_groups_by_annotations_and_go_also_after_the_agent_was_down() {
    let host = ground("cri", &[("pods", list())]);
    podman::prepare(&host);
    podman::save(&host, "/run/pause.tar");
    let _containerd = start(&host);
    let import = [
        "-n",
        "k8s.io",
        "images",
        "import",
        "--snapshotter",
        "native",
        "/run/pause.tar",
    ];
    succeeds(&host, &mut ctr(&import));
    let before = Traces::outside_maps(&host).unwrap();

    let plain = cri_ok(&host, &["run", "plain"]);
    let task = only_task(&host);
    assert_eq!(task.security_groups, ["sg-server"]);
    let addresses = ["privateIPv4Address", "ipv6Address"].map(|name| task.detail(name).unwrap());
    assert_eq!(plain[1..], addresses);
    assert!(
        task.task_id.starts_with(&plain[0][..12]),
        "{}",
        task.task_id
    );
    cri_ok(&host, &["stop", &plain[0]]);
    // The second time there is no namespace any more.
    cri_ok(&host, &["stop", &plain[0]]);
    cri_ok(&host, &["remove", &plain[0]]);
    assert_eq!(tasks(&host), []);

    let annotations = [
        "branchline/subnets=subnet-b",
        "branchline/security-groups=sg-client, sg-server",
    ];
    let chosen = cri_ok(&host, &["run", "chosen", annotations[0], annotations[1]]);
    let task = only_task(&host);
    assert_eq!(task.security_groups, ["sg-client", "sg-server"]);
    assert_eq!(task.detail("subnetId"), Some("subnet-b"));

    host.kill_agent().unwrap();
    let refused = cri(&host, &["stop", &chosen[0]]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("try again later"),
        "{said}"
    );
    host.start_agent().unwrap();
    cri_ok(&host, &["stop", &chosen[0]]);
    cri_ok(&host, &["remove", &chosen[0]]);
    assert_eq!(tasks(&host), []);

    let wrong = cri(
        &host,
        &["run", "wrong", "branchline/security-groups=sg-none"],
    );
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        said.contains("pod annotation branchline/security-groups[0]"),
        "{said}"
    );
    assert_eq!(tasks(&host), []);
    let left = Traces::outside_maps(&host).unwrap().since(&before);
    assert!(left.is_empty(), "{left:#?}");
}
