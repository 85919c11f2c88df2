//! Tasks whose ENIs have links of their own (`ec2.mode = "eni"`): what EC2's stand-in says is attached appears as a link
//! on the host, and behind it a VPC of plain Linux routes real packets.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use branchline::{
    link::{Link, Mac},
    link_news::is_enis,
    netlink::Netlink,
};
use branchline_ec2_stand_in::{Ec2Error, Fault, NetworkInterface, Outcome, Which};
use branchline_tests::{
    eni_links::{Delays, EniLinks},
    flow_row::Flow,
    host::Host,
    settings::OPEN_PORT,
    talk::{self, PATIENCE, SHORT, is_silence},
    task::{Task, spec},
};
use serde_json::Value;

use super::ec2::{Account, doctor, eventually, instance_with, line, open, problems, told};
use super::services;

pub(crate) const CREATE: &str = "CreateNetworkInterface";
pub(crate) const ATTACH: &str = "AttachNetworkInterface";
pub(crate) const MODIFY: &str = "ModifyNetworkInterfaceAttribute";
pub(crate) const DETACH: &str = "DetachNetworkInterface";
pub(crate) const DELETE: &str = "DeleteNetworkInterface";

/// How long a detached ENI may take to be deleted: EC2 is asked again after seconds.
const FREED: Duration = Duration::from_secs(20);

/// A host on an EC2 instance whose hardware works; without an agent.
pub(crate) fn instance(name: &str, lines: &str) -> (Host, Account, EniLinks) {
    let lines = format!("mode = \"eni\"\nlink_deadline = 5\ndeadline = 20\n{lines}");
    let (host, account) = instance_with(name, &lines);
    let links = EniLinks::start(&account.ec2, host.netns()).unwrap();
    (host, account, links)
}

/// Gives the instance room for `most` network interfaces.
pub(crate) fn enlarge(account: &Account, most: i64) {
    account.ec2.change(|state| {
        let types = &mut state.instance_types;
        types.get_mut("c5.large").unwrap().network_cards = vec![most];
    });
}

/// Every ENI but the instance's primary one.
pub(crate) fn enis(account: &Account) -> Vec<NetworkInterface> {
    let all = account.ec2.state().network_interfaces.into_values();
    let is_primary = |eni: &NetworkInterface| {
        let attachment = eni.attachment.as_ref();
        attachment.is_some_and(|at| at.device_index == 0)
    };
    all.filter(|eni| !is_primary(eni)).collect()
}

fn eni(account: &Account, task: &Task) -> NetworkInterface {
    account.ec2.state().network_interfaces[&task.eni_id].clone()
}

fn device_index(account: &Account, task: &Task) -> i64 {
    eni(account, task).attachment.unwrap().device_index
}

/// The link of a task's ENI on the host.
fn link(host: &Host, task: &Task) -> Option<Link> {
    let links = Netlink::open(host.netns()).unwrap().links().unwrap();
    links.into_iter().find(|link| is_enis(link, Mac(task.mac)))
}

/// Runs `ip` on the host.
fn ip(host: &Host, arguments: &[&str]) {
    let output = host.run(|| Command::new("ip").args(arguments).output().unwrap());
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

fn differences(host: &Host, id: &str) -> Vec<String> {
    let mut api = host.api().unwrap();
    let check = api
        .json("GET", &format!("/v1/tasks/{id}/check"), "")
        .unwrap();
    let all = check["differences"].as_array().unwrap().iter();
    all.map(|one| format!("{} {}", one["part"], one["what"]))
        .collect()
}

fn accepted_and_rejected(host: &Host, task: &Task) -> (Vec<Flow>, Vec<Flow>) {
    let rows = host.flow_rows().unwrap().into_iter();
    let flows = rows.filter(|row| row.eni_id == task.eni_id);
    flows
        .filter_map(|row| row.flow)
        .partition(|flow| flow.accepted)
}

#[test]
fn tasks_talk_through_whole_enis_by_the_groups_that_ec2_has() {
    let (host, account, links) = instance("ec2-eni-talk", "poll = 5");
    host.start_agent().unwrap();
    assert_eq!(account.changes(), [""; 0], "there is no trunk");
    let server = account.add(&host, "server", &account.server);
    let client = account.add(&host, "client", &account.client);
    assert_eq!(account.changes(), [CREATE, ATTACH, MODIFY].repeat(2));
    for (task, index) in [(&server, 1), (&client, 2)] {
        let eni = eni(&account, task);
        let attachment = eni.attachment.unwrap();
        assert_eq!((attachment.device_index, task.vlan), (index, 0));
        assert!(attachment.delete_on_termination);
        assert_eq!(eni.tags["branchline-device"], format!("0/{index}"));
        let link = link(&host, task).unwrap();
        assert!(link.up && link.noarp, "{link:?}");
        assert_eq!(differences(&host, &task.id), [""; 0]);
    }
    for address in server.addresses() {
        let at = |port| SocketAddr::new(address, port);
        talk::tcp(&client.netns, &server.netns, at(OPEN_PORT), PATIENCE).unwrap();
        talk::udp(&client.netns, &server.netns, at(OPEN_PORT), 1400, PATIENCE).unwrap();
        let denied = talk::udp(&client.netns, &server.netns, at(8), 100, SHORT);
        assert!(is_silence(&denied), "{denied:?}");
    }
    let back = talk::udp(&server.netns, &client.netns, open(&client), 100, SHORT);
    assert!(is_silence(&back), "nobody may open anything to the client");
    eventually("flow rows say so", PATIENCE, || {
        let (accepted, rejected) = accepted_and_rejected(&host, &server);
        let counted = |flows: &[Flow], port: u16| {
            let of_it = flows.iter().filter(|flow| flow.dst_port == port);
            let to: BTreeSet<_> = of_it.map(|flow| flow.dst).collect();
            server
                .addresses()
                .iter()
                .all(|address| to.contains(address))
        };
        counted(&accepted, OPEN_PORT) && counted(&rejected, 8) && !counted(&accepted, 8)
    });
    let task = services::shown(&host, "client");
    assert_eq!(
        (task.network_card_index, task.device_index),
        (Some(0), Some(2))
    );
    let (status, told) = services::get(&client.netns, &services::path(&task.environment));
    assert_eq!(status, 200, "{told}");
    assert_eq!(
        told["Networks"][0]["IPv4Addresses"][0],
        client.ipv4.to_string()
    );
    let attributes = host.branchline_ok(&["attributes", "--json"]).unwrap();
    assert!(!attributes.contains("trunking"), "{attributes}");
    // The host's stack has no part in it.
    let addresses = Netlink::open(host.netns()).unwrap().addresses().unwrap();
    let indices = [&server, &client].map(|task| link(&host, task).unwrap().index);
    let on_them: Vec<_> = addresses
        .iter()
        .filter(|it| indices.contains(&it.link))
        .collect();
    assert!(on_them.is_empty(), "{on_them:?}");
    let capacity = host.branchline_ok(&["capacity", "--json"]).unwrap();
    let capacity: Value = serde_json::from_str(&capacity).unwrap();
    assert_eq!(capacity["tasks"]["available"], 0, "{capacity}");
    assert_eq!(
        capacity["limitedBy"],
        "network-interfaces: 3 of 3 in use, 1 of them not tasks' (instance type c5.large)"
    );

    host.remove_task("client").unwrap();
    eventually("its ENI is deleted", FREED, || enis(&account).len() == 1);
    assert_eq!(account.changes().first().map(String::as_str), Some(DETACH));
    assert!(link(&host, &client).is_none());
    talk::udp(&server.netns, &server.netns, open(&server), 100, PATIENCE).unwrap();
    let next = account.add(&host, "next", &account.client);
    assert_eq!(device_index(&account, &next), 2);
    talk::tcp(&next.netns, &server.netns, open(&server), PATIENCE).unwrap();
    assert_eq!(links.problem(), None);
}

#[test]
fn a_link_that_comes_late_is_waited_for() {
    let (host, account, links) = instance("ec2-eni-late", "poll = 3600");
    host.start_agent().unwrap();
    let late = Duration::from_secs(3);
    links.set_delays(Delays {
        plug: late,
        ..Delays::default()
    });
    let began = Instant::now();
    let server = account.add(&host, "server", &account.server);
    assert!(began.elapsed() >= late, "{:?}", began.elapsed());
    let client = account.add(&host, "client", &account.client);
    talk::tcp(&client.netns, &server.netns, open(&server), PATIENCE).unwrap();
    assert_eq!(links.problem(), None);
}

#[test]
fn a_link_that_never_comes_has_ecs_reason_and_leaves_nothing() {
    let (host, account, links) = instance("ec2-eni-never", "poll = 3600");
    host.start_agent().unwrap();
    links.set_delays(Delays {
        plug: Duration::from_secs(600),
        ..Delays::default()
    });
    let task = spec("task", &[&account.subnet], &[&account.client]);
    let output = host.add_spec(&task).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success()
            && said.contains("Timeout waiting for network interface provisioning to complete"),
        "{said}"
    );
    eventually("its ENI is deleted", FREED, || enis(&account).is_empty());
    links.set_delays(Delays::default());
    let task = account.add(&host, "task", &account.client);
    assert_eq!(device_index(&account, &task), 1);
}

#[test]
fn a_full_instance_says_so_before_anything_is_made() {
    let (host, account, links) = instance("ec2-eni-full", "poll = 3600");
    host.start_agent().unwrap();
    let refused = |id: &str| {
        let request = spec(id, &[&account.subnet], &[&account.client]);
        let output = host.add_spec(&request).unwrap();
        assert!(!output.status.success(), "{id}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    account.add(&host, "one", &account.client);
    let two = account.add(&host, "two", &account.client);
    drop(account.ec2.take_calls());
    let said = refused("three");
    assert!(
        said.contains("3 of the instance's 3 network interfaces are in use; remove tasks"),
        "{said}"
    );
    assert_eq!(account.changes(), [""; 0]);
    // A device is free when its link has gone, whatever EC2 says before.
    let slow = Duration::from_secs(4);
    links.set_delays(Delays {
        unplug: slow,
        ..Delays::default()
    });
    host.remove_task("two").unwrap();
    let began = Instant::now();
    eventually("EC2 says it is detached", PATIENCE, || {
        eni(&account, &two).attachment.is_none()
    });
    let said = refused("three");
    assert!(said.contains("1 of them on their way out"), "{said}");
    assert!(link(&host, &two).is_some_and(|link| !link.up));
    eventually("it is deleted", FREED, || enis(&account).len() == 1);
    assert!(began.elapsed() >= slow - Duration::from_millis(100));
    let three = account.add(&host, "three", &account.client);
    assert_eq!(device_index(&account, &three), 2);
    assert_eq!(links.problem(), None);
}

#[test]
fn each_network_card_has_its_share() {
    let (host, account, links) = instance("ec2-eni-cards", "poll = 3600");
    account.ec2.change(|state| {
        let types = &mut state.instance_types;
        types.get_mut("c5.large").unwrap().network_cards = vec![2, 2];
    });
    host.start_agent().unwrap();
    let places = ["a", "b", "c"].map(|id| {
        let task = account.add(&host, id, &account.client);
        let at = eni(&account, &task).attachment.unwrap();
        (at.network_card_index, at.device_index)
    });
    assert_eq!(places, [(1, 1), (0, 1), (1, 2)]);
    let request = spec("d", &[&account.subnet], &[&account.client]);
    let said = host.add_spec(&request).unwrap().stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.contains("4 of the instance's 4 network interfaces"),
        "{said}"
    );
    assert_eq!(links.problem(), None);
}

#[test]
fn what_ec2_takes_no_more_of_is_told_and_what_others_took_is_learned() {
    let (host, account, links) = instance("ec2-eni-limit", "poll = 3600");
    enlarge(&account, 4);
    host.start_agent().unwrap();
    let refused = |code: &str| {
        let request = spec("task", &[&account.subnet], &[&account.client]);
        let output = host.add_spec(&request).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(code), "{said}");
        said
    };
    let error = Ec2Error::new(
        "AttachmentLimitExceeded",
        "Interface count 2 exceeds the limit",
    );
    let which = Which::of(ATTACH).nth(1);
    account.ec2.fault(which, Fault::Error(error));
    let said = refused("AttachmentLimitExceeded");
    assert!(said.contains("network card and device index 0/1"), "{said}");
    eventually("its ENI is deleted", FREED, || enis(&account).is_empty());
    // Somebody else attaches an ENI where the agent thinks that there is room.
    let keeper = account.add(&host, "keeper", &account.client);
    account.ec2.change(|state| {
        let all = &mut state.network_interfaces;
        let mut other = all[&keeper.eni_id].clone();
        other.network_interface_id = "eni-0123456789abcdef9".to_owned();
        other.mac_address = "0a:00:00:00:0f:09".to_owned();
        other.private_ip_addresses = vec![[10, 0, 7, 209].into()];
        other.ipv6_addresses = Vec::new();
        other.tags.clear();
        let at = other.attachment.as_mut().unwrap();
        at.attachment_id = "eni-attach-0123456789abcdef9".to_owned();
        at.device_index = 2;
        all.insert(other.network_interface_id.clone(), other);
    });
    refused("already has an interface attached at device index '2'");
    let task = account.add(&host, "task", &account.client);
    assert_eq!(device_index(&account, &task), 3);
    assert_eq!(links.problem(), None);
}

#[test]
fn a_restart_with_eight_tasks_asks_twice_and_writes_nothing() {
    let (host, account, links) = instance("ec2-eni-restart", "poll = 5");
    enlarge(&account, 15);
    host.start_agent().unwrap();
    let server = account.add(&host, "server", &account.server);
    let client = account.add(&host, "client", &account.client);
    for number in 2..8 {
        account.add(&host, &format!("task-{number}"), &account.client);
    }
    let reach = || talk::tcp(&client.netns, &server.netns, open(&server), PATIENCE);
    reach().unwrap();
    host.kill_agent().unwrap();
    reach().unwrap();
    drop(account.ec2.take_calls());
    // Whatever it asks beyond that, it does not learn.
    let away = Fault::Error(told("AuthFailure"));
    account.ec2.fault(Which::any().from(3), away);
    host.start_agent().unwrap();
    reach().unwrap();
    let calls = account.ec2.calls().into_iter();
    let done = calls.filter(|call| call.outcome == Outcome::Done);
    let done: Vec<_> = done.map(|call| call.operation).collect();
    assert_eq!(done, ["DescribeNetworkInterfaces"; 2]);
    account.ec2.clear_faults();
    eventually("all is read", Duration::from_secs(20), || {
        problems(&host).is_empty()
    });
    assert_eq!(account.changes(), [""; 0]);
    for task in [&server, &client] {
        assert_eq!(differences(&host, &task.id), [""; 0]);
    }
    // Its attachment is known from the look at the start.
    host.remove_task("client").unwrap();
    let calls = account.ec2.calls().into_iter().map(|call| call.operation);
    assert_eq!(calls.filter(|call| call == DETACH).count(), 1);
    eventually("it is deleted", FREED, || enis(&account).len() == 7);
    assert_eq!(links.problem(), None);
}

#[test]
fn what_somebody_does_to_the_link_is_mended() {
    let (host, account, links) = instance("ec2-eni-care", "poll = 3600");
    host.start_agent().unwrap();
    let server = account.add(&host, "server", &account.server);
    let client = account.add(&host, "client", &account.client);
    let reach = || talk::tcp(&client.netns, &server.netns, open(&server), PATIENCE);
    reach().unwrap();
    let name = || link(&host, &server).unwrap().name;
    let pins = || -> Vec<_> {
        host.run(|| {
            let all = fs::read_dir("/sys/fs/bpf/branchline").unwrap().flatten();
            let pins = all.map(|entry| entry.path());
            let is_its =
                |path: &std::path::PathBuf| path.to_string_lossy().contains(&server.eni_id);
            pins.filter(is_its).collect()
        })
    };
    let has_tcx = !pins().is_empty();
    let spoil: [(&str, &dyn Fn()); 5] = [
        ("down", &|| ip(&host, &["link", "set", &name(), "down"])),
        ("renamed", &|| {
            ip(&host, &["link", "set", &name(), "down"]);
            ip(&host, &["link", "set", &name(), "name", "mine"]);
            ip(&host, &["link", "set", "mine", "up"]);
        }),
        ("an address", &|| {
            ip(&host, &["address", "add", "192.0.2.9/24", "dev", &name()]);
            ip(&host, &["link", "set", &name(), "arp", "on"]);
        }),
        ("a small MTU", &|| {
            ip(&host, &["link", "set", &name(), "mtu", "1280"])
        }),
        ("no program", &|| {
            if has_tcx {
                host.run(|| pins().iter().for_each(|pin| fs::remove_file(pin).unwrap()));
            } else {
                let arguments = ["qdisc", "del", "dev", &name(), "clsact"];
                let output = host.run(|| Command::new("tc").args(arguments).output().unwrap());
                assert!(output.status.success(), "{output:?}");
            }
            // The kernel tells nothing of TCX links; of this it does.
            ip(&host, &["link", "set", &name(), "down"]);
        }),
    ];
    for (what, spoil) in spoil {
        spoil();
        eventually(what, PATIENCE, || differences(&host, "server").is_empty());
        reach().unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let addresses = Netlink::open(host.netns()).unwrap().addresses().unwrap();
    assert!(
        !addresses
            .iter()
            .any(|it| it.address.to_string().starts_with("192.0.2.9"))
    );
    if has_tcx {
        assert_eq!(pins().len(), 1, "{:?}", pins());
    }
    // Another name is no harm.
    assert!(host.status().unwrap().repairs >= 4);
    assert_eq!(links.problem(), None);
}

#[test]
fn a_link_that_goes_for_good_ends_its_task_and_ec2_is_told() {
    let (host, account, links) = instance("ec2-eni-gone", "poll = 3600");
    host.start_agent().unwrap();
    let task = account.add(&host, "task", &account.client);
    let name = link(&host, &task).unwrap().name;
    ip(&host, &["link", "del", &name]);
    eventually("the task is given up", Duration::from_secs(30), || {
        let shown = host
            .branchline_ok(&["task", "show", "task", "--json"])
            .unwrap();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let reason = shown["stoppedReason"].as_str().unwrap_or_default();
        reason.contains("was the ENI detached?")
    });
    eventually("its ENI is deleted", FREED, || enis(&account).is_empty());
    assert_eq!(links.problem(), None);
}

#[test]
fn the_hosts_stack_has_no_part_in_a_link_whoever_was_there_first() {
    let (host, account, links) = instance("ec2-eni-stack", "poll = 3600");
    host.start_agent().unwrap();
    // An address of the host that its stack answers for on every link.
    let own = SocketAddr::from(([198, 51, 100, 1], OPEN_PORT));
    ip(&host, &["address", "add", "198.51.100.1/32", "dev", "lo"]);
    links.set_delays(Delays {
        is_managed: true,
        ..Delays::default()
    });
    let server = account.add(&host, "server", &account.server);
    links.set_delays(Delays::default());
    let client = account.add(&host, "client", &account.client);
    talk::tcp(&client.netns, &server.netns, open(&server), PATIENCE).unwrap();
    for task in [&server, &client] {
        eventually("nothing differs", PATIENCE, || {
            differences(&host, &task.id).is_empty()
        });
        let link = link(&host, task).unwrap();
        assert!(link.noarp, "{link:?}");
        let key = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", link.name);
        assert_eq!(host.run(|| fs::read_to_string(key).unwrap()), "1\n");
        let addresses = Netlink::open(host.netns()).unwrap().addresses().unwrap();
        let mut on_it = addresses.iter().filter(|it| it.link == link.index);
        assert_eq!(on_it.next(), None);
    }
    let arguments = ["route", "add", "198.51.100.1", "dev", "port1"];
    let output = links
        .router
        .run(|| Command::new("ip").args(arguments).output().unwrap());
    assert!(output.unwrap().status.success());
    let asked = talk::tcp(&links.router, host.netns(), own, SHORT);
    assert!(
        asked.is_err(),
        "the host answers on a task's ENI: {asked:?}"
    );
    assert_eq!(links.problem(), None);
}

#[test]
fn a_purge_leaves_the_link_as_the_driver_made_it() {
    let (host, account, _links) = instance("ec2-eni-purge", "poll = 3600");
    host.start_agent().unwrap();
    let task = account.add(&host, "task", &account.client);
    host.kill_agent().unwrap();
    host.purge().unwrap();
    assert!(link(&host, &task).is_some_and(|link| !link.up));
    let left = host.run(|| fs::exists("/sys/fs/bpf/branchline").unwrap());
    assert!(!left);
}

#[test]
fn the_doctor_asks_for_what_this_mode_needs() {
    let (host, account, _links) = instance("ec2-eni-doctor", "poll = 3600");
    let (text, is_content) = doctor(&host, "");
    assert!(is_content, "{text}");
    let room = line(&text, "network interfaces");
    assert!(
        room.contains("1 of 3 are in use, 0 of them by tasks"),
        "{text}"
    );
    assert!(
        !text.contains("trunk ENI") && !text.contains("Trunk"),
        "{text}"
    );
    assert!(line(&text, "ec2:DetachNetworkInterface").contains("allowed"));
    assert_eq!(account.changes_but_dry_runs(), [""; 0]);
    host.start_agent().unwrap();
    account.add(&host, "task", &account.client);
    account.ec2.deny(DETACH);
    let (text, is_content) = doctor(&host, "");
    assert!(!is_content, "{text}");
    assert!(
        line(&text, "ec2:DetachNetworkInterface").contains("missing"),
        "{text}"
    );
    assert!(line(&text, "network interfaces").contains("1 of them by tasks"));
    account.ec2.allow(DETACH);
}
