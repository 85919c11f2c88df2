//! Namespaces, links and addresses, one outside edge each.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use branchline::ipv4_conf::Ipv4Conf;
use branchline::link::{LinkChange, Mac};
use branchline::netlink::{Netlink, NetlinkError};
use branchline::netns::{Netns, NetnsError, Origin, Traveller};
use branchline::netns_number::NetnsNumbers;
use branchline::route::Address;
use branchline::spare_netns::SpareNetns;
use branchline::sysctl::Sysctls;
use branchline::task_network::{self, Found};

use crate::ground::{Ground, PATIENCE, ROUTER, output, pair, task, udp_echo};

#[test]
fn edges_netns_is_made_once_and_found_by_ip_netns() {
    let mut ground = Ground::new("once");
    let path = ground.path("a");
    let (made, origin) = Netns::create(&path).unwrap();
    assert_eq!(origin, Origin::Created);
    let (found, origin) = Netns::create(&path).unwrap();
    assert_eq!(origin, Origin::Existing);
    let host = Netns::host().unwrap();
    assert_eq!(made.id().unwrap(), found.id().unwrap());
    assert_ne!(made.id().unwrap(), host.id().unwrap());
    let inside = made.run(|| Netns::host().unwrap().id().unwrap()).unwrap();
    assert_eq!(inside, made.id().unwrap());
    assert_eq!(Netns::host().unwrap().id().unwrap(), host.id().unwrap());

    let name = path.file_name().unwrap().to_str().unwrap();
    let arguments = ["netns", "exec", name, "readlink", "/proc/self/ns/net"];
    let by_ip = output(&host, "ip", &arguments);
    let ours = output(&made, "readlink", &["/proc/self/ns/net"]);
    assert_eq!(by_ip, ours);

    Netns::remove(&path).unwrap();
    assert!(!path.exists());
    Netns::remove(&path).unwrap();
}

#[test]
fn edges_netns_takes_over_a_stale_file_and_nothing_else() {
    let mut ground = Ground::new("stale");
    let path = ground.path("a");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "").unwrap();
    assert!(matches!(
        Netns::open(&path),
        Err(NetnsError::NotANetns { .. })
    ));
    assert_eq!(Netns::create(&path).unwrap().1, Origin::Created);
    Netns::remove(&path).unwrap();

    fs::write(&path, "somebody's").unwrap();
    assert!(matches!(
        Netns::create(&path),
        Err(NetnsError::NotANetns { .. })
    ));
    assert!(matches!(
        Netns::remove(&path),
        Err(NetnsError::NotANetns { .. })
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's");
    fs::remove_file(&path).unwrap();

    let mount_namespace = Netns::open(Path::new("/proc/self/ns/mnt"));
    assert!(matches!(mount_namespace, Err(NetnsError::NotANetns { .. })));
}

#[test]
fn edges_a_thread_is_home_again_also_after_a_panic() {
    let mut ground = Ground::new("home");
    let path = ground.path("a");
    let home = Netns::host().unwrap();
    let elsewhere = Traveller::and_back(&home, |traveller| {
        let (elsewhere, _) = traveller.create(&path).unwrap();
        assert!(elsewhere.is_current());
        elsewhere
    });
    assert!(home.is_current());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        Traveller::and_back(&home, |traveller| {
            traveller.enter(&elsewhere).unwrap();
            panic!("as told");
        })
    }));
    assert!(panicked.is_err());
    assert!(home.is_current());
}

fn spares_of(home: &Netns) -> SpareNetns {
    let numbers = NetnsNumbers::of(home).unwrap();
    SpareNetns::keep(home, Arc::new(numbers)).unwrap()
}

/// One that waits, as soon as there is one.
fn spare(spares: &SpareNetns) -> Netlink {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(spare) = spares.take() {
            return spare;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("no namespace was made beforehand");
}

#[test]
fn edges_a_namespace_made_beforehand_becomes_that_of_a_path() {
    let mut ground = Ground::new("spare");
    let (path, other) = (ground.path("a"), ground.path("b"));
    let home = Netns::host().unwrap();
    let spares = spares_of(&home);
    let (first, second) = (spare(&spares), spare(&spares));
    spares.replace(None);
    let third = spare(&spares);
    assert_eq!(first.netns().name(), "of a task to come");
    let all = [&first, &second, &third].map(|spare| spare.netns().id().unwrap());
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);

    assert!(Netns::make_way(&path).unwrap());
    let bound = first.bind_to(&path).unwrap();
    assert_eq!(bound.netns().name(), path.to_str().unwrap());
    assert_eq!(Netns::open(&path).unwrap().id().unwrap(), all[0]);
    let name = path.file_name().unwrap().to_str().unwrap();
    let by_ip = output(&home, "ip", &["netns", "exec", name, "ip", "link"]);
    assert!(by_ip.contains("LOOPBACK,UP"), "{by_ip}");
    let key = "net/ipv6/conf/lo/disable_ipv6";
    Sysctls::of(bound.netns()).set(key, "1").unwrap();
    let read = ["netns", "exec", name, "cat", &format!("/proc/sys/{key}")];
    assert_eq!(output(&home, "ip", &read).trim(), "1");
    let others = Sysctls::of(second.netns()).get(key).unwrap();
    assert_eq!(others.as_deref(), Some("0"));

    // A path that is taken stays what it is.
    assert!(!Netns::make_way(&path).unwrap());
    assert!(matches!(
        second.bind_to(&path),
        Err(NetnsError::Failed {
            action: "create",
            ..
        })
    ));
    assert_eq!(Netns::open(&path).unwrap().id().unwrap(), all[0]);
    fs::write(&other, "").unwrap();
    assert!(Netns::make_way(&other).unwrap() && !other.exists());
}

/// What the kernel finds by a walk from the least number on is found at once where a task comes.
#[test]
fn edges_the_latest_namespace_has_the_least_number() {
    let mut ground = Ground::new("number");
    let host = ground.netlink("host");
    let (oldest, older) = (ground.netlink("oldest"), ground.netlink("older"));
    let earlier = NetnsNumbers::of(host.netns()).unwrap();
    for inside in [&oldest, &older, &oldest] {
        earlier.give(inside.netns());
    }
    // Another process later, and what nobody waited for.
    let spares = spares_of(host.netns());
    let newer = spare(&spares);
    let path = ground.path("newest");
    let newest = Traveller::and_back(Netns::host().as_ref().unwrap(), |traveller| {
        spares.make(traveller, &path).unwrap()
    });
    let by_somebody = ground.netlink("other");
    let mut numbers = Vec::new();
    for (inside, near) in [
        (&by_somebody, "blone"),
        (&newest, "bltwo"),
        (&newer, "blthree"),
        (&older, "blfour"),
        (&oldest, "blfive"),
    ] {
        let pair = pair(near, "eth0", None, 1500);
        let (link, _) = host.ensure_veth(&pair, inside).unwrap();
        numbers.push(link.peer_netns.unwrap());
    }
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    let known = host.netns_numbers().unwrap();
    assert!(numbers.iter().all(|number| known.contains(number)));
}

#[test]
fn edges_a_link_is_told_the_same_in_a_prepared_namespace_and_in_another() {
    let mut ground = Ground::new("prepared");
    let host = ground.netlink("host");
    let spares = spares_of(host.netns());
    let (prepared, other) = (spare(&spares), ground.netlink("other"));
    let asked = "net/ipv6/conf/eth0/accept_ra";
    let inherited = [(&prepared, "blone", "0"), (&other, "bltwo", "1")];
    for (inside, near, accept_ra) in inherited {
        let (link, _) = host
            .ensure_veth(&pair(near, "eth0", None, 1500), inside)
            .unwrap();
        let link = link.peer_index.unwrap();
        let sysctls = Sysctls::of(inside.netns());
        assert_eq!(sysctls.get(asked).unwrap().as_deref(), Some(accept_ra));
        let found = match accept_ra {
            "0" => Found::NewNetns(link),
            _ => Found::NewLink(link),
        };
        task_network::configure(inside, &task(4), found).unwrap();
        for key in [
            "accept_ra",
            "autoconf",
            "accept_dad",
            "accept_redirects",
            "disable_ipv6",
        ] {
            let value = sysctls.get(&format!("net/ipv6/conf/eth0/{key}")).unwrap();
            assert_eq!(value.as_deref(), Some("0"), "{near} {key}");
        }
        assert!(inside.existing_link("lo").unwrap().up);
    }
}

#[test]
fn edges_ipv4_settings_are_a_part_of_a_links_change() {
    let mut ground = Ground::new("ipv4");
    let (host, inside) = (ground.netlink("host"), ground.netlink("task"));
    host.ensure_veth(&pair("blone", "eth0", None, 1500), &inside)
        .unwrap();
    let link = inside.existing_link("eth0").unwrap().index;
    for (accept_redirects, arp_notify) in [(true, true), (false, true), (false, false)] {
        let change = LinkChange {
            up: Some(true),
            ipv4: Some(Ipv4Conf {
                accept_redirects,
                arp_notify,
            }),
            ..LinkChange::default()
        };
        inside.change_link(link, change).unwrap();
        let sysctls = Sysctls::of(inside.netns());
        let get = |key| sysctls.get(&format!("net/ipv4/conf/eth0/{key}")).unwrap();
        let found = ["accept_redirects", "arp_notify"].map(get);
        let wanted = [accept_redirects, arp_notify].map(|on| Some(u8::from(on).to_string()));
        assert_eq!(found, wanted, "{change}");
        assert!(inside.existing_link("eth0").unwrap().up);
    }
}

#[test]
fn edges_veth_is_made_in_place_found_again_and_mended() {
    let mut ground = Ground::new("veth");
    let (host, inside) = (ground.netlink("host"), ground.netlink("task"));
    let wanted = pair("blone", "eth0", Some(ROUTER), 9001);
    let (near, origin) = host.ensure_veth(&wanted, &inside).unwrap();
    assert_eq!(origin, Origin::Created);
    let far = inside.existing_link("eth0").unwrap();
    assert_eq!((far.mac, far.mtu, far.up), (Some(ROUTER), 9001, false));
    assert_eq!(
        (near.mtu, near.up, near.peer_index),
        (9001, false, Some(far.index))
    );

    let change = LinkChange {
        mac: Some(Mac([2, 9, 9, 9, 9, 9])),
        mtu: Some(1400),
        ..LinkChange::default()
    };
    inside.change_link(far.index, change).unwrap();
    let (again, origin) = host.ensure_veth(&wanted, &inside).unwrap();
    assert_eq!((again, origin), (near.clone(), Origin::Existing));
    assert_eq!(inside.existing_link("eth0").unwrap(), far);

    // Same name, other peer: the existing pair is named and stays.
    let other = ground.netlink("other");
    let error = host.ensure_veth(&wanted, &other).unwrap_err();
    assert!(matches!(&error, NetlinkError::Conflict { .. }), "{error}");
    assert!(error.to_string().contains("blone"), "{error}");
    assert_eq!(other.links().unwrap().len(), 1);

    assert!(host.delete_link(near.index).unwrap());
    assert!(!host.delete_link(near.index).unwrap());
    assert!(!host.delete_link_named("blone").unwrap());
    assert_eq!(inside.link_named("eth0").unwrap(), None);
}

#[test]
fn edges_tasks_of_one_subnet_talk_and_a_second_set_up_changes_nothing() {
    let mut ground = Ground::new("talk");
    let (one, two) = (ground.netlink("one"), ground.netlink("two"));
    one.ensure_veth(&pair("eth0", "eth0", None, 1500), &two)
        .unwrap();
    task_network::configure(&one, &task(4), Found::Unknown).unwrap();
    task_network::configure(&two, &task(5), Found::Unknown).unwrap();

    for (from, to) in [("10.0.1.4", "10.0.1.5"), ("fd00:1::4", "fd00:1::5")] {
        let to: IpAddr = to.parse().unwrap();
        let seen = udp_echo(one.netns(), two.netns(), to).unwrap();
        assert_eq!(seen.to_string(), from);
    }
    let neighbours = output(one.netns(), "ip", &["neigh"]);
    for gateway in ["10.0.1.1", "fd00:1::1"] {
        let expected = format!("{gateway} dev eth0 lladdr {ROUTER} ");
        let line = neighbours.lines().find(|line| line.starts_with(&expected));
        assert!(
            line.is_some_and(|line| line.contains("PERMANENT")),
            "{neighbours}"
        );
    }
    let before = (one.addresses().unwrap(), one.routes().unwrap());
    assert!(
        before
            .1
            .iter()
            .filter(|route| route.destination.prefix_len() == 0)
            .count()
            == 2
    );
    task_network::configure(&one, &task(4), Found::Unknown).unwrap();
    let after = (one.addresses().unwrap(), one.routes().unwrap());
    assert_eq!(before, after);
}

#[test]
fn edges_an_existing_address_is_looked_at() {
    let mut ground = Ground::new("address");
    let netlink = ground.netlink("a");
    let lo = netlink.existing_link("lo").unwrap().index;
    let address = |text: &str| Address {
        link: lo,
        address: text.parse().unwrap(),
        prefix_route: false,
    };
    let same = address("fd00::1/64");
    assert_eq!(netlink.ensure_address(&same).unwrap(), Origin::Created);
    assert_eq!(netlink.ensure_address(&same).unwrap(), Origin::Existing);
    let error = netlink.ensure_address(&address("fd00::1/48")).unwrap_err();
    assert!(matches!(&error, NetlinkError::Conflict { .. }), "{error}");
    assert!(error.to_string().contains("fd00::1/64"), "{error}");
    assert!(netlink.delete_address(&same).unwrap());
    assert!(!netlink.delete_address(&same).unwrap());
}

/// Without the wait, some first packets are dropped by the link that sends them.
#[test]
fn edges_the_first_packet_arrives_once_a_link_sends() {
    const ROUNDS: u32 = 60;
    for round in 0..ROUNDS {
        let mut ground = Ground::new(&format!("first{round}"));
        let (host, inside) = (ground.netlink("host"), ground.netlink("task"));
        let near = host
            .ensure_veth(&pair("blone", "eth0", None, 9001), &inside)
            .unwrap()
            .0;
        task_network::configure(&inside, &task(4), Found::Unknown).unwrap();
        let eth0 = inside.existing_link("eth0").unwrap().index;
        if round == 0 {
            let error = inside.wait_until_sending(eth0).unwrap_err();
            assert!(
                matches!(error, NetlinkError::NotYet { .. }),
                "the far end is down: {error}"
            );
        }
        let client = inside
            .netns()
            .run(|| UdpSocket::bind("10.0.1.4:0").unwrap())
            .unwrap();
        host.set_up(near.index, true).unwrap();
        inside.wait_until_sending(eth0).unwrap();
        // Without a carrier the kernel's own packets were dropped before.
        let before = dropped(inside.netns());
        client.send_to(b"x", "10.0.1.1:7000").unwrap();
        assert_eq!(dropped(inside.netns()), before, "round {round}");
    }
}

/// How many packets `eth0` did not send.
fn dropped(netns: &Netns) -> String {
    let path = "/proc/thread-self/net/dev";
    let counters = netns.run(|| fs::read_to_string(path).unwrap()).unwrap();
    let line = counters
        .lines()
        .find(|line| line.trim_start().starts_with("eth0:"))
        .unwrap();
    // Name, eight counters of receiving; then bytes, packets, errs, drop of sending.
    line.split_whitespace().nth(12).unwrap().to_owned()
}

#[test]
fn edges_a_netlink_socket_outlives_its_path() {
    let mut ground = Ground::new("outlive");
    let path = ground.path("a");
    let (netns, _) = Netns::create(&path).unwrap();
    let netlink = Netlink::open(&netns).unwrap();
    drop(netns);
    Netns::remove(&path).unwrap();
    assert_eq!(netlink.existing_link("lo").unwrap().index, 1);
    let missing = netlink.existing_link("eth0").unwrap_err();
    assert!(
        matches!(missing, NetlinkError::NoSuchLink { .. }),
        "{missing}"
    );
}
