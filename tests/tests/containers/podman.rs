//! podman, whose CNI backend drives the plugin; and podman in a task's namespace.

use std::{fs, process::Command};

use branchline_tests::{cni::PLUGIN, host::Host, settings::OPEN_PORT, traces::Traces};
use serde_json::{Value, json};

use crate::ground::{CONFIGURATIONS, PLUGINS, ROOT, ground, only_task, runs, succeeds, tasks};

const IMAGE: &str = "localhost/busybox";

/// A list of one plugin, in `version`.
fn list(version: &str, name: &str, groups: &[&str]) -> Value {
    json!({
        "cniVersion": version,
        "name": name,
        "plugins": [{"type": PLUGIN, "subnets": ["subnet-a"], "securityGroups": groups}],
    })
}

/// A command of podman with folders of the host's own, and without what this machine may not.
fn podman(arguments: &[&str]) -> Command {
    let mut command = Command::new("podman");
    command
        .env("CONTAINERS_CONF", "/run/containers.conf")
        .env("CONTAINERS_STORAGE_CONF", "/run/storage.conf")
        .env("TMPDIR", "/run/tmp")
        .args(arguments);
    command
}

/// Configures podman and gives it an image of [`ROOT`].
pub(crate) fn prepare(host: &Host) {
    let containers = format!(
        "[containers]\n\
         pids_limit = 0\n\
         default_ulimits = [\"nofile=1024:20000\", \"nproc=1024:1024\"]\n\
         [network]\n\
         network_backend = \"cni\"\n\
         cni_plugin_dirs = [\"{PLUGINS}\"]\n\
         network_config_dir = \"{CONFIGURATIONS}\"\n\
         [engine]\n\
         runtime = \"runc\"\n\
         cgroup_manager = \"cgroupfs\"\n\
         events_logger = \"file\"\n"
    );
    let storage = "[storage]\n\
                   driver = \"vfs\"\n\
                   graphroot = \"/run/podman/root\"\n\
                   runroot = \"/run/podman/run\"\n";
    host.run(|| {
        fs::write("/run/containers.conf", containers).unwrap();
        fs::write("/run/storage.conf", storage).unwrap();
    });
    let mut tar = Command::new("tar");
    succeeds(host, tar.args(["-C", ROOT, "-cf", "/run/image.tar", "."]));
    let change = "CMD [\"/bin/sleep\", \"1000\"]";
    succeeds(
        host,
        &mut podman(&["import", "--change", change, "/run/image.tar", IMAGE]),
    );
}

/// Saves podman's image as an archive.
pub(crate) fn save(host: &Host, archive: &str) {
    succeeds(
        host,
        &mut podman(&["save", "--format", "docker-archive", "-o", archive, IMAGE]),
    );
}

fn run(host: &Host, name: &str, network: &str) {
    succeeds(
        host,
        &mut podman(&["run", "-d", "--name", name, "--network", network, IMAGE]),
    );
}

fn exec(host: &Host, name: &str, script: &str) -> bool {
    runs(host, &mut podman(&["exec", name, "sh", "-c", script]))
        .status
        .success()
}

#[test]
fn containers_of_both_versions_get_enis_and_leave_nothing() {
    let host = ground(
        "podman",
        &[
            ("old", list("0.4.0", "old", &["sg-server"])),
            ("new", list("1.0.0", "new", &["sg-client"])),
        ],
    );
    prepare(&host);
    let before = Traces::outside_maps(&host).unwrap();
    run(&host, "server", "old");
    let task = only_task(&host);
    let attributes = ["privateIPv4Address", "macAddress"].map(|name| task.detail(name).unwrap());
    let shown = succeeds(&host, &mut podman(&["inspect", "server"]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let network = &shown[0]["NetworkSettings"]["Networks"]["old"];
    assert_eq!(
        (&network["IPAddress"], &network["MacAddress"]),
        (&json!(attributes[0]), &json!(attributes[1]))
    );
    assert_eq!(network["Gateway"], "10.0.1.1");
    assert_eq!(
        network["GlobalIPv6Address"],
        task.detail("ipv6Address").unwrap()
    );
    assert_eq!(task.security_groups, ["sg-server"]);

    run(&host, "client", "new");
    let client = tasks(&host)
        .into_iter()
        .find(|other| other.task_id != task.task_id)
        .unwrap();
    assert_eq!(client.security_groups, ["sg-client"]);
    let address = attributes[0];
    let serve = format!("nc -ll -p {OPEN_PORT} -e cat & nc -ll -p 9999 -e cat & sleep 1");
    assert!(exec(&host, "server", &serve));
    assert!(exec(
        &host,
        "client",
        &format!("nc -w 2 {address} {OPEN_PORT} </dev/null")
    ));
    assert!(!exec(
        &host,
        "client",
        &format!("nc -w 2 {address} 9999 </dev/null")
    ));

    for name in ["server", "client"] {
        succeeds(&host, &mut podman(&["rm", "-f", "-t", "0", name]));
    }
    assert_eq!(tasks(&host), []);
    let left = Traces::outside_maps(&host).unwrap().since(&before);
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn a_refusal_is_what_podman_says() {
    let host = ground(
        "podman-refused",
        &[("pods", list("1.0.0", "pods", &["sg-none"]))],
    );
    prepare(&host);
    let output = runs(
        &host,
        &mut podman(&["run", "--rm", "--network", "pods", IMAGE, "true"]),
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("network pods: securityGroups[0]: \"sg-none\""),
        "{said}"
    );
    assert_eq!(tasks(&host), []);
}

#[test]
fn podman_joins_the_namespace_of_a_task() {
    let host = ground("podman-joins", &[]);
    prepare(&host);
    let task = host.add_task("web", &["subnet-a"], &["sg-server"]).unwrap();
    let network = format!("ns:{}", task.netns_path.display());
    run(&host, "joins", &network);
    let said = succeeds(&host, &mut podman(&["exec", "joins", "ip", "addr"]));
    assert!(said.contains(&format!("inet {}/24", task.ipv4)), "{said}");
    succeeds(&host, &mut podman(&["rm", "-f", "-t", "0", "joins"]));
    host.run(|| fs::metadata(&task.netns_path)).unwrap();
    host.remove_task("web").unwrap();
}
