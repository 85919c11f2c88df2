//! The local VPC fabric's namespace, links and NAT, without its programs.
//!
//! Two redirecting programs stand in for the trunk's: they join one task to
//! the fabric as a wire would.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;

use branchline::fabric::{Fabric, FabricError, FabricPlan, HOST_TRUNK, HOST_UPLINK, TRUNK, UPLINK};
use branchline::link::{LinkChange, Mac};
use branchline::nat::{self, TableState};
use branchline::netlink::{Netlink, NetlinkError};
use branchline::netns::{Netns, Origin};
use branchline::route::{Address, Route};
use branchline::sysctl::Sysctls;
use branchline::task_network::{self, Found, TaskNetwork};
use branchline::tc::FilterAt;
use ipnet::IpNet;

use crate::ground::{Ground, PATIENCE, SHORT, output, pair, program, redirecting, tcp_echo};

const ROUTER: Mac = Mac([2, 0x62, 0x6c, 0, 0, 1]);

fn plan(ground: &mut Ground) -> FabricPlan {
    FabricPlan {
        netns_path: ground.path("fabric"),
        trunk_mtu: 9001,
        router_mac: ROUTER,
        vpc_cidrs: vec![
            "10.0.0.0/16".parse().unwrap(),
            "fd00:1::/56".parse().unwrap(),
        ],
        uplink_ipv4: "169.254.77.0/30".parse().unwrap(),
        uplink_ipv6: "fdb1:6272:616e:6368::/126".parse().unwrap(),
        uplink: true,
        nat_gateway: true,
    }
}

/// Everything of a namespace that the fabric could have changed. Link-local addresses come when
/// their probe is done, with a route: they are the kernel's.
fn state(netlink: &Netlink) -> (Vec<String>, Vec<Address>, Vec<Route>, String) {
    let links = netlink.links().unwrap();
    let links = links.iter().map(|link| format!("{link:?}")).collect();
    let ruleset = output(netlink.netns(), "nft", &["list", "ruleset"]);
    let is_link_local =
        |net: &IpNet| matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local());
    let mut routes = netlink.routes().unwrap();
    routes.retain(|route| !is_link_local(&route.destination));
    let mut addresses = netlink.addresses().unwrap();
    addresses.retain(|found| !is_link_local(&found.address));
    (links, addresses, routes, ruleset)
}

fn forwarding(netns: &Netns) -> BTreeMap<String, Option<String>> {
    let keys = [
        "net/ipv4/ip_forward",
        "net/ipv4/conf/all/accept_redirects",
        "net/ipv4/conf/out/forwarding",
        "net/ipv6/conf/all/forwarding",
        "net/ipv6/conf/out/accept_ra",
    ];
    let sysctls = Sysctls::of(netns);
    keys.iter()
        .map(|key| ((*key).to_owned(), sysctls.get(key).unwrap()))
        .collect()
}

/// A host with a link `out` to a namespace that plays the world outside.
fn host_and_outside(ground: &mut Ground) -> (Netlink, Netlink) {
    let (host, outside) = (ground.netlink("host"), ground.netlink("outside"));
    host.ensure_veth(&pair("out", "in", None, 1500), &outside)
        .unwrap();
    for (netlink, link, n) in [(&host, "out", 1), (&outside, "in", 2)] {
        let lo = netlink.existing_link("lo").unwrap().index;
        netlink.set_up(lo, true).unwrap();
        let link = netlink.existing_link(link).unwrap().index;
        netlink.set_up(link, true).unwrap();
        for text in [format!("203.0.113.{n}/24"), format!("2001:db8::{n}/64")] {
            let address = Address {
                link,
                address: text.parse().unwrap(),
                prefix_route: true,
            };
            netlink.ensure_address(&address).unwrap();
        }
    }
    (host, outside)
}

/// A task joined to the trunk as by a wire. It has the router's MAC, which is
/// what the fabric's stack sends to.
fn wire_task(ground: &mut Ground, host: &Netlink, fabric: &Fabric) -> (Netlink, Vec<aya::Ebpf>) {
    let task = ground.netlink("task");
    let near = host
        .ensure_veth(&pair("bltask", "eth0", None, 9001), &task)
        .unwrap()
        .0;
    let network = TaskNetwork {
        link: "eth0".to_owned(),
        mac: ROUTER,
        mtu: 9001,
        router_mac: Some(ROUTER),
        ipv4: Some(("10.0.1.4/24".parse().unwrap(), "10.0.1.1".parse().unwrap())),
        ipv6: Some((
            "fd00:1::4/64".parse().unwrap(),
            "fd00:1::1".parse().unwrap(),
        )),
        metadata_source: None,
    };
    task_network::configure(&task, &network, Found::Unknown).unwrap();
    let mut objects = Vec::new();
    for (link, to) in [
        (near.index, fabric.host_trunk),
        (fabric.host_trunk, near.index),
    ] {
        let object = redirecting(to);
        host.ensure_clsact(link).unwrap();
        let fd = program(&object).fd().unwrap();
        host.set_filter(FilterAt::Ingress(link), fd.as_fd(), "wire")
            .unwrap();
        objects.push(object);
    }
    host.set_up(near.index, true).unwrap();
    (task, objects)
}

#[test]
fn edges_fabric_carries_the_vpc_out_and_the_host_in() {
    let mut ground = Ground::new("nat");
    let (host, outside) = host_and_outside(&mut ground);
    let plan = plan(&mut ground);
    let before = (state(&host), forwarding(host.netns()));
    let fabric = Fabric::ensure(&plan, &host).unwrap();
    let host_nat = plan.host_nat();
    assert_eq!(host_nat.check(host.netns()).unwrap(), TableState::Absent);
    host_nat.apply(host.netns()).unwrap();
    assert_eq!(host_nat.check(host.netns()).unwrap(), TableState::Equal);
    let previous = nat::enable_forwarding(host.netns()).unwrap();
    let again = nat::enable_forwarding(host.netns()).unwrap();
    assert!(!previous.0.is_empty() && again.0.is_empty());
    assert_eq!(
        forwarding(host.netns())["net/ipv6/conf/out/accept_ra"].as_deref(),
        Some("2")
    );
    let (task, _objects) = wire_task(&mut ground, &host, &fabric);
    fabric.bring_up(&host).unwrap();

    let (host_netns, outside_netns, task_netns) = (host.netns(), outside.netns(), task.netns());
    let rows = [
        (
            "IPv4 out",
            task_netns,
            outside_netns,
            "203.0.113.2",
            Some("203.0.113.1"),
        ),
        (
            "IPv6 out",
            task_netns,
            outside_netns,
            "2001:db8::2",
            Some("2001:db8::1"),
        ),
        (
            "host in, IPv4",
            host_netns,
            task_netns,
            "10.0.1.4",
            Some("169.254.77.1"),
        ),
        (
            "host in, IPv6",
            host_netns,
            task_netns,
            "fd00:1::4",
            Some("fdb1:6272:616e:6368::1"),
        ),
        (
            "outside in, IPv4",
            outside_netns,
            task_netns,
            "10.0.1.4",
            None,
        ),
        (
            "outside in, IPv6",
            outside_netns,
            task_netns,
            "fd00:1::4",
            None,
        ),
    ];
    let gateways = ["203.0.113.1", "2001:db8::1"];
    let in_link = outside.existing_link("in").unwrap().index;
    for (cidr, gateway) in plan.vpc_cidrs.iter().zip(gateways) {
        let route = Route {
            destination: *cidr,
            gateway: Some(gateway.parse().unwrap()),
            link: in_link,
            source: None,
        };
        outside.ensure_route(&route).unwrap();
    }
    for (name, from, to, address, expected) in rows {
        let address: IpAddr = address.parse().unwrap();
        let wait = if expected.is_some() { PATIENCE } else { SHORT };
        let seen = tcp_echo(from, to, address, wait).map(|ip| ip.to_string());
        match expected {
            Some(expected) => assert_eq!(seen.unwrap(), expected, "{name}"),
            None => assert!(seen.is_err(), "{name}: {seen:?}"),
        }
    }
    // The fabric keeps the outside out by itself, also without the host's table.
    nat::remove(host.netns()).unwrap();
    let seen = tcp_echo(
        outside_netns,
        task_netns,
        "10.0.1.4".parse().unwrap(),
        SHORT,
    );
    assert!(seen.is_err(), "{seen:?}");

    host.delete_link_named("bltask").unwrap();
    drop(fabric);
    nat::restore_forwarding(host.netns(), &previous).unwrap();
    nat::remove(host.netns()).unwrap();
    assert!(Fabric::purge(&plan.netns_path, &host).is_empty());
    assert_eq!((state(&host), forwarding(host.netns())), before);
    assert!(!plan.netns_path.exists());
    assert!(
        Fabric::purge(&plan.netns_path, &host).is_empty(),
        "a second purge finds nothing"
    );
}

#[test]
fn edges_fabric_without_a_nat_gateway_lets_only_the_host_in() {
    let mut ground = Ground::new("closed");
    let (host, outside) = host_and_outside(&mut ground);
    let plan = FabricPlan {
        nat_gateway: false,
        ..plan(&mut ground)
    };
    let fabric = Fabric::ensure(&plan, &host).unwrap();
    plan.host_nat().apply(host.netns()).unwrap();
    nat::enable_forwarding(host.netns()).unwrap();
    let (task, _objects) = wire_task(&mut ground, &host, &fabric);
    fabric.bring_up(&host).unwrap();
    let (inward, outward) = ("10.0.1.4".parse().unwrap(), "203.0.113.2".parse().unwrap());
    tcp_echo(host.netns(), task.netns(), inward, PATIENCE).unwrap();
    assert!(tcp_echo(task.netns(), outside.netns(), outward, SHORT).is_err());
    drop(fabric);
    assert!(Fabric::purge(&plan.netns_path, &host).is_empty());
}

#[test]
fn edges_fabric_is_found_again_and_mended() {
    let mut ground = Ground::new("mend");
    let host = ground.netlink("host");
    let plan = plan(&mut ground);
    let fabric = Fabric::ensure(&plan, &host).unwrap();
    assert_eq!(fabric.trunk_origin, Origin::Created);
    let trunk = fabric.netlink.existing_link(TRUNK).unwrap();
    assert_eq!(
        (trunk.mac, trunk.mtu, trunk.noarp, trunk.up),
        (Some(ROUTER), 9001, true, false)
    );
    assert!(!host.existing_link(HOST_TRUNK).unwrap().up);
    fabric.bring_up(&host).unwrap();
    let wanted = (state(&host), state(&fabric.netlink));

    let again = Fabric::ensure(&plan, &host).unwrap();
    assert_eq!(again.trunk_origin, Origin::Existing);
    again.bring_up(&host).unwrap();
    assert_eq!((state(&host), state(&fabric.netlink)), wanted);

    let inside = &fabric.netlink;
    let spoilt = LinkChange {
        mac: Some(Mac([2, 9, 9, 9, 9, 9])),
        mtu: Some(1400),
        noarp: Some(false),
        up: Some(false),
        ipv4: None,
    };
    inside.change_link(fabric.trunk, spoilt).unwrap();
    output(
        inside.netns(),
        "nft",
        &["add", "rule", "inet", "branchline", "forward", "accept"],
    );
    assert_eq!(
        plan.fabric_nat().check(inside.netns()).unwrap(),
        TableState::Different
    );
    output(host.netns(), "ip", &["addr", "flush", "dev", HOST_UPLINK]);
    output(
        host.netns(),
        "ip",
        &["addr", "add", "169.254.99.1/24", "dev", HOST_UPLINK],
    );
    output(inside.netns(), "ip", &["route", "del", "default"]);
    output(inside.netns(), "sysctl", &["-qw", "net.ipv4.ip_forward=0"]);
    let mended = Fabric::ensure(&plan, &host).unwrap();
    mended.bring_up(&host).unwrap();
    assert_eq!(
        plan.fabric_nat().check(inside.netns()).unwrap(),
        TableState::Equal
    );
    assert_eq!(
        output(inside.netns(), "sysctl", &["-n", "net.ipv4.ip_forward"]),
        "1\n"
    );
    let sorted = |mut state: (Vec<String>, Vec<Address>, Vec<Route>, String)| {
        state.1.sort_by_key(|address| format!("{address}"));
        state.2.sort_by_key(|route| format!("{route}"));
        state
    };
    let found = (state(&host), state(inside));
    assert_eq!(sorted(found.0), sorted(wanted.0));
    assert_eq!(sorted(found.1), sorted(wanted.1));

    let narrow = FabricPlan {
        vpc_cidrs: plan.vpc_cidrs[..1].to_vec(),
        ..plan.clone()
    };
    let narrowed = Fabric::ensure(&narrow, &host).unwrap();
    narrowed.bring_up(&host).unwrap();
    for netlink in [&host, inside] {
        let routes = netlink.routes().unwrap();
        let gone = routes
            .iter()
            .find(|route| route.destination == plan.vpc_cidrs[1]);
        assert_eq!(gone, None);
    }
    assert!(Fabric::purge(&plan.netns_path, &host).is_empty());
}

#[test]
fn edges_fabric_without_an_uplink_needs_no_nftables() {
    let mut ground = Ground::new("alone");
    let host = ground.netlink("host");
    let before = state(&host);
    let with = plan(&mut ground);
    let plan = FabricPlan {
        uplink: false,
        ..with.clone()
    };
    let fabric = Fabric::ensure(&plan, &host).unwrap();
    fabric.bring_up(&host).unwrap();
    assert_eq!(host.link_named(HOST_UPLINK).unwrap(), None);
    assert_eq!(output(&fabric.netns, "nft", &["list", "ruleset"]), "");
    Fabric::ensure(&with, &host).unwrap();
    assert!(fabric.netlink.link_named(UPLINK).unwrap().is_some());
    Fabric::ensure(&plan, &host).unwrap();
    assert_eq!(fabric.netlink.link_named(UPLINK).unwrap(), None);
    drop(fabric);
    assert!(Fabric::purge(&plan.netns_path, &host).is_empty());
    assert_eq!(state(&host), before);
}

#[test]
fn edges_fabric_that_fails_halfway_leaves_nothing() {
    let mut ground = Ground::new("half");
    let (host, stranger) = (ground.netlink("host"), ground.netlink("stranger"));
    let plan = plan(&mut ground);
    host.ensure_veth(&pair(HOST_UPLINK, "theirs", None, 1500), &stranger)
        .unwrap();
    let before = state(&host);
    let error = Fabric::ensure(&plan, &host).unwrap_err();
    let conflict = matches!(&error, FabricError::Netlink(NetlinkError::Conflict { .. }));
    assert!(
        conflict && error.to_string().contains(HOST_UPLINK),
        "{error}"
    );
    assert_eq!(state(&host), before);
    assert!(!plan.netns_path.exists());

    host.delete_link_named(HOST_UPLINK).unwrap();
    let fabric = Fabric::ensure(&plan, &host).unwrap();
    // The same failure beside an existing trunk and namespace: they stay.
    fabric.netlink.delete_link_named(UPLINK).unwrap();
    nat::remove(&fabric.netns).unwrap();
    host.ensure_veth(&pair(HOST_UPLINK, "theirs", None, 1500), &stranger)
        .unwrap();
    let before = (state(&host), state(&fabric.netlink));
    Fabric::ensure(&plan, &host).unwrap_err();
    assert_eq!((state(&host), state(&fabric.netlink)), before);
    drop(fabric);
    assert!(Fabric::purge(&plan.netns_path, &host).is_empty());
}

#[test]
fn edges_fabric_takes_no_network_that_the_host_is_in() {
    let mut ground = Ground::new("inside");
    let (host, _outside) = host_and_outside(&mut ground);
    let before = state(&host);
    let plan = FabricPlan {
        vpc_cidrs: vec!["203.0.0.0/16".parse().unwrap()],
        ..plan(&mut ground)
    };
    let error = Fabric::ensure(&plan, &host).unwrap_err();
    assert!(
        matches!(
            error,
            FabricError::HostInside {
                field: "vpc_cidrs",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("203.0.113.1"), "{error}");
    assert_eq!(state(&host), before);
    assert!(!plan.netns_path.exists());
}
