//! Tasks and agents come and go, and leave what was there before.

use std::{fs, net::SocketAddr, path::Path, process::Output};

use branchline::{
    link::{VethEnd, VethPair},
    netlink::Netlink,
    netns::Netns,
};
use branchline_tests::{
    host::Host,
    settings::{ETC_NETNS, OPEN_PORT, Settings, VPC},
    talk::{self, PATIENCE, SHORT, is_silence},
    task::{Task, spec},
    traces::Traces,
};
use serde_json::{Value, json};

const SUBNET: &[&str] = &["subnet-a"];
const SERVER: &[&str] = &["sg-server"];

fn running(name: &str) -> Host {
    let host = Host::new(name, Settings::default()).unwrap();
    host.start_agent().unwrap();
    host
}

fn open(task: &Task) -> SocketAddr {
    SocketAddr::new(task.ipv4.into(), OPEN_PORT)
}

/// Every kind of traffic that leaves something in a map: allowed, denied, in fragments.
fn exchange(client: &Task, server: &Task) {
    for address in server.addresses() {
        let at = |port| SocketAddr::new(address, port);
        talk::tcp(&client.netns, &server.netns, at(OPEN_PORT), PATIENCE).unwrap();
        talk::udp(
            &client.netns,
            &server.netns,
            at(OPEN_PORT),
            20_000,
            PATIENCE,
        )
        .unwrap();
        talk::ping(&client.netns, address, 56, PATIENCE).unwrap();
        let denied = talk::udp(&client.netns, &server.netns, at(8), 20_000, SHORT);
        assert!(is_silence(&denied), "{denied:?}");
    }
}

fn in_netns(id: &str, path: &str) -> Value {
    let mut spec = spec(id, SUBNET, SERVER);
    spec["networkNamespace"] = json!(path);
    spec
}

#[track_caller]
fn assert_refused(output: &Output, texts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it succeeded");
    for text in texts {
        assert!(said.contains(text), "{text:?} is not in {said:?}");
    }
}

#[track_caller]
fn assert_unchanged(host: &Host, before: &Traces) {
    let changes = Traces::of(host).unwrap().since(before);
    assert!(changes.is_empty(), "{changes:#?}");
}

/// The network namespaces that the agent has open, as `net:[INODE]`.
fn open_netns(host: &Host) -> Vec<String> {
    let folder = format!("/proc/{}/fd", host.agent_pid().unwrap());
    let files = fs::read_dir(folder).unwrap();
    // One may be closed by now.
    let targets = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    let names = targets.map(|target| target.display().to_string());
    names.filter(|name| name.starts_with("net:[")).collect()
}

#[test]
fn a_tasks_namespace_was_there_before_its_request() {
    let host = running("before");
    let was_there = |_| {
        let before = open_netns(&host);
        let task = host.add_task("web", SUBNET, SERVER).unwrap();
        let own = task.run(|| fs::read_link("/proc/thread-self/ns/net").unwrap());
        host.remove_task("web").unwrap();
        before.contains(&own.display().to_string())
    };
    // The agent may be slow to make the first.
    assert!((0..20).any(was_there), "none of 20 was");
}

#[test]
fn a_removed_task_leaves_nothing() {
    let host = running("rm");
    let before = Traces::of(&host).unwrap();
    for _ in 0..2 {
        let server = host.add_task("server", SUBNET, SERVER).unwrap();
        let client = host
            .add_task("client", &["subnet-b"], &["sg-client"])
            .unwrap();
        exchange(&client, &server);
        let with_tasks = Traces::of(&host).unwrap().since(&before).join("\n");
        for trace in [
            "links",
            "namespaces",
            "CONNECTIONS",
            "ROWS",
            "FRAGMENTS",
            "ENIS",
            "COUNTERS",
        ] {
            assert!(with_tasks.contains(trace), "no {trace} in {with_tasks}");
        }
        // The namespaces must not live on by the test's own handles.
        drop((server, client));
        host.remove_task("server").unwrap();
        host.remove_task("client").unwrap();
        assert_unchanged(&host, &before);
    }
    assert_refused(
        &host.branchline(&["task", "rm", "server"]).unwrap(),
        &["server"],
    );
}

#[test]
fn adding_a_task_again_is_success_and_another_under_its_name_is_not() {
    let host = running("again");
    let first = host.add_task("web", SUBNET, SERVER).unwrap();
    let with_one = Traces::of(&host).unwrap();
    let second = host.add_task("web", SUBNET, SERVER).unwrap();
    assert_eq!((first.eni_id, first.ipv4), (second.eni_id, second.ipv4));
    let other = host.add_spec(&spec("web", SUBNET, &["sg-client"])).unwrap();
    assert_refused(
        &other,
        &[
            "task web exists with another specification",
            "branchline task rm web",
        ],
    );
    assert_unchanged(&host, &with_one);
}

#[test]
fn a_namespace_that_is_handed_in_stays_its_owners() {
    let path = "/run/netns/mine";
    let host = running("handed-in");
    let own = host.run(|| Netns::create(Path::new(path))).unwrap().0;
    let before = Traces::of(&host).unwrap();
    let client = host.add_task("client", SUBNET, &["sg-client"]).unwrap();
    let added = host.add_spec(&in_netns("server", path)).unwrap();
    assert!(added.status.success(), "{added:?}");
    let server = host.task("server").unwrap();
    assert_eq!(server.netns_path, Path::new(path));
    assert_eq!(server.netns.id().unwrap(), own.id().unwrap());
    exchange(&client, &server);
    // Its notices are found as fast as those of the agent's own (`netns_number`).
    let netlink = Netlink::open(host.netns()).unwrap();
    let number = |task: &Task| {
        let link = netlink.existing_link(&task.host_link);
        link.unwrap().peer_netns.unwrap()
    };
    assert!(number(&server) < number(&client) && number(&server) > i32::from(u16::MAX));
    host.remove_task("server").unwrap();
    host.remove_task("client").unwrap();
    let inside = Netlink::open(&own).unwrap().links().unwrap();
    assert_eq!(inside.len(), 1, "more than lo: {inside:?}");
    drop((server, client));
    assert_unchanged(&host, &before);
}

#[test]
fn a_set_up_that_fails_leaves_nothing() {
    let host = running("half-way");
    // Somebody else's eth0 in a namespace that is handed in.
    let taken = host
        .run(|| Netns::create(Path::new("/run/netns/taken")))
        .unwrap()
        .0;
    let end = |name: &str| VethEnd {
        name: name.to_owned(),
        mac: None,
    };
    let pair = VethPair {
        near: end("theirs"),
        far: end("eth0"),
        mtu: 1500,
    };
    let netlink = Netlink::open(host.netns()).unwrap();
    netlink
        .ensure_veth(&pair, &Netlink::open(&taken).unwrap())
        .unwrap();
    host.run(|| {
        fs::write("/run/netns/no-netns", "text").unwrap();
        fs::write("/run/netns/branchline-file", "text").unwrap();
        Netns::create(Path::new("/run/netns/branchline-theirs")).unwrap();
    });
    let before = Traces::of(&host).unwrap();
    for (spec, texts) in [
        (
            in_netns("web", "/run/netns/taken"),
            ["eth0", "/run/netns/taken"],
        ),
        (
            in_netns("web", "/run/netns/missing"),
            ["open", "/run/netns/missing"],
        ),
        (
            in_netns("web", "/run/netns/no-netns"),
            ["not a network namespace", "/run/netns/no-netns"],
        ),
        (
            spec("file", SUBNET, SERVER),
            ["no task's", "/run/netns/branchline-file"],
        ),
        (
            spec("theirs", SUBNET, SERVER),
            ["no task's", "/run/netns/branchline-theirs"],
        ),
        (spec("web", &["subnet-z"], SERVER), ["subnet-z", "subnets"]),
        (spec("web", SUBNET, &["sg-z"]), ["sg-z", "securityGroups"]),
    ] {
        let output = host.add_spec(&spec).unwrap();
        assert_refused(&output, &texts);
        assert_unchanged(&host, &before);
        let list = host.branchline_ok(&["task", "ls", "--json"]).unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        assert_eq!(list["tasks"], json!([]));
    }
    host.run(|| {
        Netns::remove(Path::new("/run/netns/branchline-theirs")).unwrap();
        fs::remove_file("/run/netns/branchline-file").unwrap();
    });
    for id in ["web", "file", "theirs"] {
        host.add_task(id, SUBNET, SERVER).unwrap();
    }
}

#[test]
fn a_full_subnet_refuses_until_an_address_is_free() {
    const USABLE: usize = 16 - 5;
    let vpc = VPC.replace("10.0.1.0/24", "10.0.1.0/28");
    let host = Host::new(
        "full",
        Settings {
            vpc,
            ..Settings::default()
        },
    )
    .unwrap();
    host.start_agent().unwrap();
    let mut addresses = Vec::new();
    for n in 0..USABLE {
        addresses.push(
            host.add_task(&format!("t{n}"), SUBNET, SERVER)
                .unwrap()
                .ipv4,
        );
    }
    addresses.sort();
    let expected: Vec<_> = (4..15)
        .map(|n| std::net::Ipv4Addr::new(10, 0, 1, n))
        .collect();
    assert_eq!(
        addresses, expected,
        "the first four and the last are reserved"
    );
    let with_all = Traces::of(&host).unwrap();
    let refused = host.add_spec(&spec("more", SUBNET, SERVER)).unwrap();
    assert_refused(&refused, &["subnet-a"]);
    assert_unchanged(&host, &with_all);
    let elsewhere = host
        .add_task("more", &["subnet-a", "subnet-b"], SERVER)
        .unwrap();
    assert_eq!(elsewhere.ipv4.octets()[..3], [10, 0, 2]);
    let freed = host.task("t3").unwrap();
    host.remove_task("t3").unwrap();
    let next = host.add_task("next", SUBNET, SERVER).unwrap();
    assert_eq!(next.ipv4, freed.ipv4);
    talk::tcp(&elsewhere.netns, &next.netns, open(&next), PATIENCE).unwrap();
}

#[test]
fn purge_leaves_the_host_as_it_was() {
    let host = Host::new("purge", Settings::default()).unwrap();
    let before = Traces::outside_maps(&host).unwrap();
    host.start_agent().unwrap();
    let server = host.add_task("server", SUBNET, SERVER).unwrap();
    let client = host.add_task("client", SUBNET, &["sg-client"]).unwrap();
    exchange(&client, &server);
    let changes = Traces::outside_maps(&host)
        .unwrap()
        .since(&before)
        .join("\n");
    for kind in [
        "links",
        "addresses",
        "routes",
        "namespaces",
        "pins",
        "settings",
        "nftables",
    ] {
        assert!(
            changes.contains(&format!("{kind}: +")),
            "no {kind} in {changes}"
        );
    }
    drop((server, client));
    // Neither status nor purge needs the VPC file any more.
    host.run(|| fs::write("/run/vpc.toml", "vpc_id =")).unwrap();
    let state = host.status().unwrap().host_changes;
    assert!(
        state.iter().any(|change| change.current == "present"),
        "{state:?}"
    );
    let refused = host
        .branchline(&["purge", "--config", "/run/agent.toml"])
        .unwrap();
    assert!(!refused.status.success(), "purge under a running agent");
    host.kill_agent().unwrap();
    // What no store knows: a namespace of ours, and the files of one.
    let stray = Path::new("/run/netns/branchline-stray");
    host.run(|| Netns::create(stray)).unwrap();
    host.run(|| fs::create_dir_all("/run/flows/AWSLogs/1"))
        .unwrap();
    let (stray_files, mine) = (
        Path::new(ETC_NETNS).join("branchline-web"),
        Path::new(ETC_NETNS).join("mine"),
    );
    host.run(|| {
        fs::create_dir_all(&stray_files).unwrap();
        fs::create_dir_all(&mine).unwrap();
    });
    let said = host.purge().unwrap();
    assert!(said.contains("removed task server\n"), "{said}");
    host.run(|| {
        let there = |path: &str| Path::new(path).exists();
        assert!(mine.exists() && !stray_files.exists());
        fs::remove_dir(&mine).unwrap();
        assert!(!there("/run/state") && !there("/run/branchline"));
        assert!(there("/run/flows/AWSLogs"), "flow logs stay");
    });
    let left = Traces::outside_maps(&host).unwrap().since(&before);
    assert!(left.is_empty(), "{left:#?}");
    // And a second life.
    host.run(|| fs::write("/run/vpc.toml", VPC)).unwrap();
    host.start_agent().unwrap();
    assert!(
        host.branchline(&["task", "show", "server"])
            .unwrap()
            .status
            .code()
            != Some(0)
    );
    let server = host.add_task("server", SUBNET, SERVER).unwrap();
    talk::ping(host.netns(), server.ipv4.into(), 56, PATIENCE).unwrap();
    host.stop_agent().unwrap();
    let purge = ["purge", "--flow-logs", "--config", "/run/agent.toml"];
    let said = host.branchline_ok(&purge).unwrap();
    assert!(said.contains("removed /run/flows/AWSLogs\n"), "{said}");
    assert!(!host.run(|| Path::new("/run/flows").exists()));
}

#[test]
fn a_stopped_agents_programs_go_on_judging() {
    let host = running("stopped");
    let server = host.add_task("server", SUBNET, SERVER).unwrap();
    let client = host
        .add_task("client", &["subnet-b"], &["sg-client"])
        .unwrap();
    let with_tasks = Traces::of(&host).unwrap();
    host.stop_agent().unwrap();
    exchange(&client, &server);
    host.start_agent().unwrap();
    exchange(&client, &server);
    let status = host.status().unwrap();
    assert_eq!((status.tasks.running, status.tasks.creating), (2, 0));
    let again = host.task("server").unwrap();
    assert_eq!(
        (again.eni_id, again.netns.id().unwrap()),
        (server.eni_id, server.netns.id().unwrap())
    );
    let changes = Traces::outside_maps(&host).unwrap().since(&with_tasks);
    assert!(changes.is_empty(), "{changes:#?}");
}

#[test]
fn a_second_agent_is_refused_and_harms_nothing() {
    let host = running("two");
    let server = host.add_task("server", SUBNET, SERVER).unwrap();
    let before = Traces::of(&host).unwrap();
    let second = host.second_agent().unwrap();
    assert!(!second.status.success(), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        said.contains("runs already") || said.contains("another agent"),
        "{said}"
    );
    assert_unchanged(&host, &before);
    talk::ping(host.netns(), server.ipv4.into(), 56, PATIENCE).unwrap();
    assert_eq!(host.status().unwrap().tasks.running, 1);
}
