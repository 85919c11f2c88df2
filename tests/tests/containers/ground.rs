//! A host under test with what container runtimes want: cgroups, a root file system, the plugin in its folder, and
//! `/etc`, `/opt` and `/var/lib` of its own, so that nothing a runtime writes is left on the machine.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use branchline::api::{TaskDescription, TaskList};
use branchline_tests::{cni::PLUGIN, host::Host, settings::Settings};
use nix::mount::{MsFlags, mount};
use serde_json::Value;

/// Where runtimes look for configurations, and for plugins; `ctr` knows no others.
pub(crate) const CONFIGURATIONS: &str = "/etc/cni/net.d";
pub(crate) const PLUGINS: &str = "/opt/cni/bin";
/// A file system with busybox.
pub(crate) const ROOT: &str = "/run/rootfs";
/// What containers run of it.
const APPLETS: [&str; 6] = ["sh", "ip", "cat", "sleep", "nc", "httpd"];

/// A host with an agent that runs, `configurations` of networks by name, and what runtimes want.
pub(crate) fn ground(name: &str, configurations: &[(&str, Value)]) -> Host {
    let host = Host::new(name, Settings::default()).unwrap();
    let plugin = Host::plugin().unwrap();
    host.run(|| {
        for own in ["etc", "opt", "var/lib"] {
            overlay(own);
        }
        mount(
            Some("cgroup2"),
            "/sys/fs/cgroup",
            Some("cgroup2"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        drop(fs::remove_dir_all("/etc/cni"));
        for folder in [CONFIGURATIONS, PLUGINS, "/run/tmp"] {
            fs::create_dir_all(folder).unwrap();
        }
        let plugins = Path::new(PLUGINS);
        symlink(&plugin, plugins.join(PLUGIN)).unwrap();
        symlink("/usr/lib/cni/loopback", plugins.join("loopback")).unwrap();
        for (name, configuration) in configurations {
            let file = format!("{CONFIGURATIONS}/{name}.conflist");
            fs::write(file, configuration.to_string()).unwrap();
        }
        root_file_system();
    });
    host.start_agent().unwrap();
    host
}

/// Runs a program on the host; what it printed.
pub(crate) fn succeeds(host: &Host, command: &mut Command) -> String {
    let output = runs(host, command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}: {said}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program on the host to its end.
pub(crate) fn runs(host: &Host, command: &mut Command) -> Output {
    command.stdin(Stdio::null());
    host.run(|| command.output()).unwrap()
}

/// The agent's tasks.
pub(crate) fn tasks(host: &Host) -> Vec<TaskDescription> {
    let list = host.branchline_ok(&["task", "ls", "--json"]).unwrap();
    let list: TaskList = serde_json::from_str(&list).unwrap();
    list.tasks
}

/// The only task.
pub(crate) fn only_task(host: &Host) -> TaskDescription {
    let mut tasks = tasks(host);
    assert_eq!(tasks.len(), 1, "{tasks:#?}");
    tasks.remove(0)
}

/// A process that ends with the test.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Puts a layer of this host's own over a folder of the machine.
fn overlay(folder: &str) {
    let layer = format!("/run/layers/{folder}");
    let [upper, work] = ["upper", "work"].map(|name| format!("{layer}/{name}"));
    for path in [&upper, &work] {
        fs::create_dir_all(path).unwrap();
    }
    let options = format!("lowerdir=/{folder},upperdir={upper},workdir={work}");
    let target = format!("/{folder}");
    mount(
        Some("overlay"),
        target.as_str(),
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .unwrap();
}

fn root_file_system() {
    let root = Path::new(ROOT);
    for folder in ["bin", "proc", "sys", "dev", "etc", "tmp", "run", "var"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let busybox = ["/usr/bin/busybox", "/bin/busybox"];
    let busybox = busybox.into_iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.unwrap(), root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
}
