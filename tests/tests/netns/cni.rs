//! The CNI plugin and a real agent: what becomes of a container's namespace, and of what is in the way.

use std::{thread, time::Duration};

use branchline::{link::LinkChange, netlink::Netlink, netns::Netns};
use branchline_tests::{
    cni::{Call, configuration},
    host::Host,
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE},
    traces::Traces,
};
use serde_json::{Value, json};

fn running(name: &str) -> Host {
    let host = Host::new(name, Settings::default()).unwrap();
    host.start_agent().unwrap();
    host
}

/// A host whose agent leaves what others change as it is, so that a test finds it.
fn running_without_mending(name: &str) -> Host {
    let settings = Settings {
        top_level: "mend = false".to_owned(),
        ..Settings::default()
    };
    let host = Host::new(name, settings).unwrap();
    host.start_agent().unwrap();
    host
}

fn pods() -> Value {
    configuration("pods", &["subnet-a"], &["sg-server"])
}

/// The address of one family in a result.
fn address(result: &Value, index: usize) -> std::net::IpAddr {
    let text = result["ips"][index]["address"].as_str().unwrap();
    text.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn containers_get_an_interface_are_checked_and_leave_nothing() {
    let host = running("cni");
    host.cni_ok("STATUS", &Call::new("", &pods())).unwrap();
    let namespaces = ["c1", "c2"].map(|name| host.container_netns(name).unwrap());
    let before = Traces::of(&host).unwrap();
    let first = Call::new("c1", &pods());
    let second = Call {
        link: "net1".to_owned(),
        ..Call::new("c2", &pods())
    };
    let added = [&first, &second].map(|call| host.cni_ok("ADD", call).unwrap());
    for (result, call) in added.iter().zip([&first, &second]) {
        let inside = &result["interfaces"][1];
        assert_eq!(
            (&inside["name"], &inside["sandbox"]),
            (&json!(call.link), &json!(call.netns))
        );
        let dns = json!({"nameservers": ["10.0.0.2"], "domain": "ec2.internal", "search": ["ec2.internal"]});
        assert_eq!(result["dns"], dns);
        host.cni_ok("CHECK", &call.with("prevResult", result.clone()))
            .unwrap();
    }
    for family in 0..2 {
        let to = (address(&added[1], family), OPEN_PORT).into();
        talk::tcp(&namespaces[0], &namespaces[1], to, PATIENCE).unwrap();
    }
    // What the kernel has is what the result says.
    let netlink = Netlink::open(&namespaces[1]).unwrap();
    let link = netlink.existing_link("net1").unwrap();
    assert_eq!(
        added[1]["interfaces"][1]["mac"],
        link.mac.unwrap().to_string()
    );
    assert_eq!(added[1]["interfaces"][1]["mtu"], link.mtu);
    let addresses = netlink.addresses().unwrap();
    for ip in added[1]["ips"].as_array().unwrap() {
        let is_there = addresses
            .iter()
            .any(|each| ip["address"] == each.address.to_string());
        assert!(is_there, "{ip}");
    }
    for call in [&first, &second] {
        host.cni_ok("DEL", call).unwrap();
        // As containerd does: once more, without a namespace.
        let again = Call {
            netns: String::new(),
            ..call.clone()
        };
        host.cni_ok("DEL", &again).unwrap();
    }
    let left = Traces::of(&host).unwrap().since(&before);
    assert!(left.is_empty(), "{left:#?}");
    let unknown = host
        .cni_error("CHECK", &first.with("prevResult", added[0].clone()))
        .unwrap();
    assert_eq!(unknown.0, 3);
}

#[test]
fn a_second_add_fails_and_harms_nothing() {
    let host = running("cni-twice");
    let netns = host.container_netns("c1").unwrap();
    let call = Call::new("c1", &pods());
    let added = host.cni_ok("ADD", &call).unwrap();
    let before = Traces::of(&host).unwrap();
    let (code, text) = host.cni_error("ADD", &call).unwrap();
    assert!(code == 101 && text.contains("eth0"), "{code} {text}");
    // Another container may not have the interface either.
    let intruder = Call {
        container: "c2".to_owned(),
        ..call.clone()
    };
    let (code, text) = host.cni_error("ADD", &intruder).unwrap();
    assert!(code == 100 && text.contains("eth0"), "{code} {text}");
    host.cni_ok("DEL", &intruder).unwrap();
    let changes = Traces::of(&host).unwrap().since(&before);
    assert!(changes.is_empty(), "{changes:#?}");
    host.cni_ok("CHECK", &call.with("prevResult", added.clone()))
        .unwrap();
    talk::ping(host.netns(), address(&added, 0), 56, PATIENCE).unwrap();
    drop(netns);
}

#[test]
fn a_namespace_may_go_before_del_and_the_hosts_own_is_refused() {
    let host = running("cni-gone");
    let before = Traces::of(&host).unwrap();
    let netns = host.container_netns("c1").unwrap();
    let call = Call::new("c1", &pods());
    host.cni_ok("ADD", &call).unwrap();
    drop(netns);
    host.run(|| Netns::remove(call.netns.as_ref())).unwrap();
    host.cni_ok("DEL", &call).unwrap();
    let left = Traces::of(&host).unwrap().since(&before);
    assert!(left.is_empty(), "{left:#?}");
    for (netns, text) in [
        ("/run/netns/none", "CNI_NETNS"),
        ("/proc/self/ns/net", "host's own"),
    ] {
        // The agent opens the path, so that this is the agent's own.
        let call = Call {
            netns: netns.to_owned(),
            ..call.clone()
        };
        let (code, said) = host.cni_error("ADD", &call).unwrap();
        assert!(code == 4 && said.contains(text), "{code} {said}");
    }
}

#[test]
fn what_was_changed_behind_the_agent_is_found() {
    let host = running_without_mending("cni-check");
    let netns = host.container_netns("c1").unwrap();
    let call = Call::new("c1", &pods());
    let added = host.cni_ok("ADD", &call).unwrap();
    let call = call.with("prevResult", added);
    let finds = |expected: &str| {
        let (code, text) = host.cni_error("CHECK", &call).unwrap();
        assert!(
            code == 102 && text.contains(expected),
            "{expected}: {code} {text}"
        );
    };
    let inside = Netlink::open(&netns).unwrap();
    let outside = Netlink::open(host.netns()).unwrap();
    let link = inside.existing_link("eth0").unwrap();
    let near = outside.link_at(link.peer_index.unwrap()).unwrap().unwrap();
    let change = |mtu| LinkChange {
        mtu: Some(mtu),
        ..LinkChange::default()
    };
    inside.change_link(link.index, change(1400)).unwrap();
    finds("MTU of eth0");
    inside.change_link(link.index, change(link.mtu)).unwrap();
    host.cni_ok("CHECK", &call).unwrap();
    let routes = inside.routes().unwrap();
    let route = routes.iter().find(|route| route.gateway.is_some()).unwrap();
    inside.delete_route(route).unwrap();
    finds("route ");
    inside.ensure_route(route).unwrap();
    let addresses = inside.addresses().unwrap();
    let is_ipv6 = |each: &&branchline::route::Address| {
        each.link == link.index && each.address.addr().to_string().starts_with("2001")
    };
    let address = addresses.iter().find(is_ipv6).unwrap();
    inside.delete_address(address).unwrap();
    finds("address 2001");
    inside.ensure_address(address).unwrap();
    let neighbours = inside.permanent_neighbours().unwrap();
    let mut neighbour = neighbours[0];
    neighbour.mac.0[5] ^= 1;
    inside.set_neighbour(&neighbour).unwrap();
    finds("permanent neighbour");
    inside.set_neighbour(&neighbours[0]).unwrap();
    outside.delete_ingress_qdisc(near.index).unwrap();
    finds("TC block of host link");
    outside.delete_link(near.index).unwrap();
    finds("host link bl");
    host.cni_ok("DEL", &call).unwrap();
}

#[test]
fn gc_removes_what_is_not_listed_of_its_own_network_only() {
    let host = running("cni-gc");
    let other = configuration("podman", &["subnet-b"], &["sg-server"]);
    let calls = [
        Call::new("stays", &pods()),
        Call::new("goes", &pods()),
        Call::new("others", &other),
    ];
    let mut namespaces = Vec::new();
    for call in &calls {
        namespaces.push(host.container_netns(&call.container).unwrap());
        host.cni_ok("ADD", call).unwrap();
    }
    host.add_task("by-hand", &["subnet-a"], &["sg-server"])
        .unwrap();
    let containers = || -> Vec<String> {
        let list = host.branchline_ok(&["task", "ls", "--json"]).unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        let ids = list["tasks"].as_array().unwrap().iter();
        let ids = ids.map(|task| {
            task["taskId"]
                .as_str()
                .unwrap()
                .split("-eth0")
                .next()
                .unwrap()
                .to_owned()
        });
        ids.collect()
    };
    let (code, _) = host.cni_error("GC", &Call::new("", &pods())).unwrap();
    assert_eq!((code, containers().len()), (7, 4));
    let stays = json!([{"containerID": "stays", "ifname": "eth0"}]);
    let gc = Call::new("", &pods()).with("cni.dev/valid-attachments", stays);
    host.cni_ok("GC", &gc).unwrap();
    assert_eq!(containers(), ["by-hand", "others", "stays"]);
    host.cni_ok("GC", &gc).unwrap();
    let none = Call::new("", &pods()).with("cni.dev/valid-attachments", Value::Null);
    host.cni_ok("GC", &none).unwrap();
    assert_eq!(containers(), ["by-hand", "others"]);
}

#[test]
fn without_the_agent_everything_waits_and_nothing_leaks() {
    let host = running("cni-down");
    let before = Traces::of(&host).unwrap();
    let netns = host.container_netns("c1").unwrap();
    let call = Call::new("c1", &pods());
    let added = host.cni_ok("ADD", &call).unwrap();
    host.kill_agent().unwrap();
    for (command, expected) in [("ADD", 11), ("CHECK", 11), ("DEL", 11), ("STATUS", 50)] {
        let call = match command {
            "CHECK" => call.with("prevResult", added.clone()),
            _ => call.clone(),
        };
        let (code, text) = host.cni_error(command, &call).unwrap();
        assert!(
            code == expected && text.contains("socket"),
            "{command}: {code} {text}"
        );
    }
    host.start_agent().unwrap();
    host.cni_ok("CHECK", &call.with("prevResult", added))
        .unwrap();
    host.cni_ok("DEL", &call).unwrap();
    drop(netns);
    host.run(|| Netns::remove(call.netns.as_ref())).unwrap();
    let left = Traces::of(&host).unwrap().since(&before);
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn an_add_that_a_kill_interrupts_can_be_deleted_and_done_again() {
    let host = running("cni-kill");
    let _netns = host.container_netns("c1").unwrap();
    let call = Call::new("c1", &pods());
    let before = Traces::of(&host).unwrap();
    for after_ms in [0, 2, 5, 10] {
        thread::scope(|scope| {
            let adding = scope.spawn(|| host.cni("ADD", &call).unwrap());
            thread::sleep(Duration::from_millis(after_ms));
            host.kill_agent().unwrap();
            let output = adding.join().unwrap();
            if !output.status.success() {
                let error: Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(error["code"], 11, "{error}");
            }
        });
        host.start_agent().unwrap();
        host.cni_ok("DEL", &call).unwrap();
        let left = Traces::of(&host).unwrap().since(&before);
        assert!(left.is_empty(), "after {after_ms} ms: {left:#?}");
        let added = host.cni_ok("ADD", &call).unwrap();
        talk::ping(host.netns(), address(&added, 0), 56, PATIENCE).unwrap();
        host.cni_ok("DEL", &call).unwrap();
    }
}

#[test]
fn status_says_what_is_wrong_before_anybody_asks_for_more() {
    let host = running_without_mending("cni-status");
    let status = |configuration: &Value| {
        let call = Call::new("", configuration);
        host.cni("STATUS", &call).unwrap().status.success()
    };
    assert!(status(&pods()));
    let elsewhere = configuration("pods", &["subnet-x"], &[]);
    let (code, text) = host
        .cni_error("STATUS", &Call::new("", &elsewhere))
        .unwrap();
    assert!(
        code == 50 && text.contains("network pods: subnets[0]: \"subnet-x\""),
        "{code} {text}"
    );
    assert_eq!(host.status().unwrap().problems, [""; 0]);
    let netlink = Netlink::open(host.netns()).unwrap();
    let trunk = netlink.existing_link("bl-trunk").unwrap();
    netlink.set_up(trunk.index, false).unwrap();
    let (code, text) = host.cni_error("STATUS", &Call::new("", &pods())).unwrap();
    assert!(
        code == 51 && text.contains("bl-trunk is down"),
        "{code} {text}"
    );
    netlink.set_up(trunk.index, true).unwrap();
    assert!(status(&pods()));
}
