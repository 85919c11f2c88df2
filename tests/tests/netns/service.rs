//! The agent as its service: a user of its own, the capabilities that its unit lists, and no more.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use branchline_tests::{
    host::Host,
    service::{Service, USER},
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE},
    task::{Task, spec},
};

const NOTIFY: &str = "/run/notify";

/// A host whose agent is started as `service` would be.
fn host(name: &str, service: &Service) -> Host {
    let host = Host::new(
        name,
        Settings {
            launcher: service.launcher(),
            environment: vec![("NOTIFY_SOCKET", NOTIFY), ("WATCHDOG_USEC", "2000000")],
            top_level: "bpffs_dir = \"/run/branchline.bpf\"".to_owned(),
            ..Settings::default()
        },
    )
    .unwrap();
    Service::prepare(&host, &["/run/state", "/run/flows"]).unwrap();
    host
}

/// The socket that a service manager would listen at.
fn manager(host: &Host) -> UnixDatagram {
    host.run(|| {
        let socket = UnixDatagram::bind(NOTIFY).unwrap();
        fs::set_permissions(NOTIFY, Permissions::from_mode(0o777)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    })
}

/// Waits until the service manager is told `word`.
fn await_word(manager: &UnixDatagram, word: &str) {
    let started = Instant::now();
    let mut buffer = [0; 4096];
    loop {
        let length = manager.recv(&mut buffer).unwrap();
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if said.lines().any(|line| line == word) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{word} does not come: {said}");
    }
}

/// A process of root with a network namespace that only its `/proc` names.
struct Container(Child);

impl Container {
    fn start(host: &Host) -> Result<Self> {
        let mut sleeper = Command::new("unshare");
        sleeper.args(["--net", "sleep", "infinity"]);
        let own = fs::read_link("/proc/self/ns/net")?;
        let container = Self(host.run(|| sleeper.spawn())?);
        let hosts = host.run(|| fs::read_link("/proc/thread-self/ns/net"))?;
        let started = Instant::now();
        loop {
            let netns = fs::read_link(container.netns())?;
            if netns != hosts && netns != own {
                return Ok(container);
            }
            ensure!(started.elapsed() < PATIENCE, "unshare does not unshare");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn netns(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Somebody changes a task's link.
fn change(task: &Task) -> Result<()> {
    let mut command = Command::new("ip");
    let changed = command.args(["link", "set", "eth0", "mtu", "1400"]);
    let changed = task.netns.output(changed)?;
    ensure!(changed.status.success(), "{changed:?}");
    Ok(())
}

/// All that an agent does: tasks with namespaces made and handed in, traffic between them, what somebody
/// changes mended, a restart.
fn work(host: &Host) -> Result<()> {
    host.start_agent()?;
    let server = host.add_task("server", &["subnet-a"], &["sg-server"])?;
    let client = host.add_task("client", &["subnet-b"], &["sg-client"])?;
    let container = Container::start(host)?;
    let mut handed_in = spec("handed-in", &["subnet-a"], &["sg-client"]);
    handed_in["networkNamespace"] = container.netns().into();
    let added = host.add_spec(&handed_in)?;
    let stderr = String::from_utf8_lossy(&added.stderr);
    ensure!(added.status.success(), "{stderr}");
    let reach = || -> Result<()> {
        for address in server.addresses() {
            let at = SocketAddr::new(address, OPEN_PORT);
            talk::tcp(&client.netns, &server.netns, at, PATIENCE).context("task to task")?;
        }
        talk::ping(host.netns(), server.ipv4.into(), 56, PATIENCE).context("host to task")?;
        Ok(())
    };
    reach()?;
    change(&client)?;
    let changed = Instant::now();
    while host.status()?.repairs == 0 {
        ensure!(changed.elapsed() < PATIENCE, "a change is not told");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Few tasks are looked at every few seconds besides, many only each minute.
    let log = host.log();
    ensure!(!log.contains("changes are not told"), "{log}");
    host.stop_agent()?;
    reach().context("without the agent")?;
    host.start_agent()?;
    reach().context("after a restart")?;
    for task in ["server", "client", "handed-in"] {
        host.remove_task(task)?;
    }
    host.stop_agent()
}

#[test]
fn the_service_does_its_work_with_what_its_unit_lists() {
    let service = Service::read().unwrap();
    let host = host("service", &service);
    let _manager = manager(&host);
    work(&host).unwrap();
    assert!(!host.flow_rows().unwrap().is_empty());
    // Root removes what the service's user made.
    host.purge().unwrap();
    host.run(|| assert!(!Path::new("/run/branchline.bpf/branchline").exists()));
}

#[test]
fn no_capability_of_the_unit_can_be_left_out() {
    let service = Service::read().unwrap();
    assert!(!service.capabilities.is_empty());
    for capability in &service.capabilities {
        let host = host(capability, &service.without(capability));
        let _manager = manager(&host);
        let worked = work(&host);
        assert!(worked.is_err(), "{capability} is not needed");
    }
}

#[test]
fn the_service_manager_is_told_and_the_agent_is_nobody() {
    let service = Service::read().unwrap();
    let host = host("told", &service);
    let manager = manager(&host);
    host.start_agent().unwrap();
    await_word(&manager, "READY=1");
    for _ in 0..3 {
        await_word(&manager, "WATCHDOG=1");
    }
    let status = format!("/proc/{}/status", host.agent_pid().unwrap());
    let status = fs::read_to_string(status).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(field("Uid:"), vec![USER.to_string(); 4].join("\t"));
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("CapEff:"), field("CapBnd:"));
    let held = u64::from_str_radix(&field("CapEff:"), 16).unwrap();
    assert_eq!(held.count_ones() as usize, service.capabilities.len());
    // With all that, permissions protect the file system from it.
    host.run(|| {
        fs::create_dir("/run/other").unwrap();
        fs::write("/run/netns/of-root", "").unwrap();
    });
    for deed in [
        "echo x > /run/other/x",
        "echo x >> /run/agent.toml",
        "rm -f /run/netns/of-root",
        "mv /run/netns/of-root /run/netns/mine",
    ] {
        let mut command = service.launcher();
        command.extend(["sh", "-c", deed].map(str::to_owned));
        let output = host.run(|| Command::new(&command[0]).args(&command[1..]).output());
        assert!(!output.unwrap().status.success(), "{deed}");
    }
    host.stop_agent().unwrap();
    await_word(&manager, "STOPPING=1");
}
