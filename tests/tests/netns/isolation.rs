//! A task that holds every capability over its own network rebuilds it as it likes, and is still nobody but
//! its ENI: it speaks as nobody else, sees nobody else's traffic, is told nothing of others, and gets at
//! no instance metadata. Frames that it forges byte by byte are in `spoof`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use branchline::{netns::Netns, provider::local::addresses::ROUTER_MAC};
use branchline_common::{
    headers::{
        arp::{REPLY, REQUEST},
        ethernet,
    },
    verdict::DropReason,
};
use branchline_tests::{
    frame::{Frame, Mac},
    host::Host,
    packet,
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE, SHORT},
    task::Task,
    wire::Wire,
};

pub(crate) const ROUTER: Mac = ROUTER_MAC.0;
/// The host's and the fabric's address of the uplink.
pub(crate) const UPLINK: [&str; 2] = ["169.254.77.1", "169.254.77.2"];

/// A host whose agent leaves as it is what the task does to its own network.
pub(crate) fn running(name: &str) -> Host {
    let settings = Settings {
        top_level: "mend = false".to_owned(),
        ..Settings::default()
    };
    let host = Host::new(name, settings).unwrap();
    host.start_agent().unwrap();
    host
}

fn drops(host: &Host) -> BTreeMap<String, u64> {
    let drops = host.status().unwrap().drops.into_iter();
    drops.map(|drop| (drop.reason, drop.packets)).collect()
}

pub(crate) fn dropped(host: &Host, reason: DropReason) -> u64 {
    drops(host).get(reason.name()).copied().unwrap_or(0)
}

/// Waits until more packets than `before` are counted for `reason`.
#[track_caller]
pub(crate) fn wait_for_drop(host: &Host, what: &str, reason: DropReason, before: u64) {
    let started = Instant::now();
    while dropped(host, reason) <= before {
        assert!(
            started.elapsed() < PATIENCE,
            "{what}: nothing is dropped as {}: {:?}",
            reason.name(),
            drops(host)
        );
        thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
pub(crate) fn shell(task: &Task, text: &str) {
    try_shell(task, text).unwrap_or_else(|error| panic!("{text}: {error}"));
}

/// Runs a command inside the task; what it says if it fails.
fn try_shell(task: &Task, text: &str) -> Result<(), String> {
    let mut command = Command::new("sh");
    let output = task.netns.output(command.args(["-ec", text])).unwrap();
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn mac(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// What the task does to its network, from which address it then speaks, and why it is not heard.
struct Disguise {
    name: &'static str,
    put_on: &'static str,
    source: &'static str,
    take_off: &'static str,
    reason: DropReason,
}

/// In the commands OWN4, OWN6 and OWNMAC are the task's own; NEAR4, NEAR6, NEARMAC, VLAN another's of its
/// subnet; TO4, TO6 whom it speaks to; GW the router's MAC address.
const DISGUISES: [Disguise; 10] = [
    Disguise {
        name: "another MAC address on eth0",
        put_on: "ip link set eth0 address NEARMAC",
        source: "OWN4",
        take_off: "ip link set eth0 address OWNMAC",
        reason: DropReason::ForeignMac,
    },
    Disguise {
        name: "a neighbour's IPv4 address",
        put_on: "ip address add NEAR4/24 dev eth0",
        source: "NEAR4",
        take_off: "ip address del NEAR4/24 dev eth0",
        reason: DropReason::ForeignSource,
    },
    Disguise {
        name: "a neighbour's IPv6 address",
        put_on: "ip address add NEAR6/64 dev eth0 nodad",
        source: "NEAR6",
        take_off: "ip address del NEAR6/64 dev eth0",
        reason: DropReason::ForeignSource,
    },
    Disguise {
        name: "the router's address",
        put_on: "ip address add 10.0.1.1/32 dev eth0",
        source: "10.0.1.1",
        take_off: "ip address del 10.0.1.1/32 dev eth0; \
            ip route replace default via 10.0.1.1 dev eth0",
        reason: DropReason::ForeignSource,
    },
    Disguise {
        name: "an address of loopback",
        put_on: "ip address add 192.0.2.7/32 dev lo",
        source: "192.0.2.7",
        take_off: "ip address del 192.0.2.7/32 dev lo",
        reason: DropReason::ForeignSource,
    },
    Disguise {
        name: "a VLAN link",
        put_on: "ip link add link eth0 name vl0 type vlan id VLAN; ip link set vl0 up; \
            ip route add TO4 dev vl0; ip neigh add TO4 lladdr GW dev vl0",
        source: "OWN4",
        take_off: "ip link del vl0",
        reason: DropReason::TaggedByTask,
    },
    Disguise {
        name: "a VLAN link of 802.1ad",
        put_on: "ip link add link eth0 name vl0 type vlan proto 802.1ad id VLAN; ip link set vl0 up; \
            ip route add TO4 dev vl0; ip neigh add TO4 lladdr GW dev vl0",
        source: "OWN4",
        take_off: "ip link del vl0",
        reason: DropReason::TaggedByTask,
    },
    Disguise {
        name: "a macvlan with a neighbour's MAC address",
        put_on: "ip link add link eth0 name mv0 address NEARMAC type macvlan mode bridge; \
            ip address add NEAR4/32 dev mv0; ip link set mv0 up; \
            ip route add TO4 dev mv0; ip neigh add TO4 lladdr GW dev mv0",
        source: "NEAR4",
        take_off: "ip link del mv0",
        reason: DropReason::ForeignMac,
    },
    Disguise {
        name: "an ipvlan with a neighbour's address",
        put_on: "ip link add link eth0 name iv0 type ipvlan mode l2; \
            ip address add NEAR4/32 dev iv0; ip link set iv0 up; \
            ip route add TO4 dev iv0; ip neigh add TO4 lladdr GW dev iv0",
        source: "NEAR4",
        take_off: "ip link del iv0",
        reason: DropReason::ForeignSource,
    },
    Disguise {
        name: "a bridge above eth0",
        put_on: "ip link add br0 address NEARMAC type bridge; ip link set eth0 master br0; \
            ip address add NEAR4/32 dev br0; ip link set br0 up; \
            ip route add TO4 dev br0; ip neigh add TO4 lladdr GW dev br0",
        source: "NEAR4",
        take_off: "ip link set eth0 nomaster; ip link del br0",
        reason: DropReason::ForeignMac,
    },
];

/// Three tasks: one that attacks, one beside it in its subnet, one that both may speak to.
pub(crate) struct Cast {
    pub(crate) task: Task,
    pub(crate) near: Task,
    pub(crate) to: Task,
}

impl Cast {
    pub(crate) fn new(host: &Host) -> Self {
        Self {
            task: host
                .add_task("task", &["subnet-a"], &["sg-client"])
                .unwrap(),
            near: host
                .add_task("near", &["subnet-a"], &["sg-server"])
                .unwrap(),
            to: host.add_task("to", &["subnet-b"], &["sg-server"]).unwrap(),
        }
    }

    fn fill_in(&self, text: &str) -> String {
        let Self { task, near, to } = self;
        text.replace("OWNMAC", &mac(task.mac))
            .replace("NEARMAC", &mac(near.mac))
            .replace("OWN4", &task.ipv4.to_string())
            .replace("NEAR4", &near.ipv4.to_string())
            .replace("NEAR6", &near.ipv6.to_string())
            .replace("TO4", &to.ipv4.to_string())
            .replace("VLAN", &near.vlan.to_string())
            .replace("GW", &mac(ROUTER))
    }

    /// A socket at which whom they speak to listens, of the family of `like`.
    fn listener(&self, like: IpAddr) -> UdpSocket {
        let address = self.to.addresses()[usize::from(like.is_ipv6())];
        let socket = talk::udp_at(&self.to.netns, (address, OPEN_PORT).into()).unwrap();
        socket.set_read_timeout(Some(SHORT)).unwrap();
        socket
    }

    fn honest(&self, what: &str) {
        for to in self.to.addresses() {
            let at = SocketAddr::new(to, OPEN_PORT);
            talk::udp(&self.task.netns, &self.to.netns, at, 64, PATIENCE)
                .unwrap_or_else(|error| panic!("{what}: an honest datagram to {at}: {error}"));
        }
    }

    /// Sends from `source` inside `netns` and checks that nothing of it arrives, for `reason`.
    fn is_not_heard(
        &self,
        host: &Host,
        netns: &Netns,
        what: &str,
        source: &str,
        reason: DropReason,
    ) {
        let source: IpAddr = source.parse().unwrap();
        let listener = self.listener(source);
        let before = dropped(host, reason);
        let at = listener.local_addr().unwrap();
        netns
            .run(|| {
                let socket = UdpSocket::bind((source, 0)).unwrap();
                for _ in 0..3 {
                    socket.send_to(what.as_bytes(), at).unwrap();
                }
            })
            .unwrap();
        wait_for_drop(host, what, reason, before);
        let heard = listener.recv_from(&mut [0; 64]);
        assert!(talk::is_silence(&heard), "{what}: {heard:?}");
    }
}

#[test]
fn a_task_that_rebuilds_its_links_speaks_as_nobody_else() {
    let host = running("disguise");
    let cast = Cast::new(&host);
    cast.honest("before");
    let mut worn = 0;
    for disguise in DISGUISES {
        let Disguise { name, reason, .. } = disguise;
        if let Err(error) = try_shell(&cast.task, &cast.fill_in(disguise.put_on)) {
            // Such frames are in `spoof`; this says only what this kernel makes of them.
            assert!(error.contains("Unknown device type"), "{name}: {error}");
            println!("this kernel has no such link: {name}");
            continue;
        }
        worn += 1;
        let source = cast.fill_in(disguise.source);
        cast.is_not_heard(&host, &cast.task.netns, name, &source, reason);
        shell(&cast.task, &cast.fill_in(disguise.take_off));
        // What the kernel forgets with a MAC address or a link.
        shell(
            &cast.task,
            &cast.fill_in("ip neigh replace 10.0.1.1 lladdr GW nud permanent dev eth0"),
        );
        cast.honest(name);
    }
    assert!(worn >= 6, "{worn} disguises");
    // Elsewhere the link is the same link.
    let elsewhere = std::path::Path::new("/run/netns/elsewhere");
    let (child, _) = host.run(|| Netns::create(elsewhere)).unwrap();
    host.run(|| {
        let path = &cast.task.netns_path;
        let moved = Command::new("nsenter")
            .arg(format!("--net={}", path.display()))
            .args(["ip", "link", "set", "eth0", "netns", "elsewhere"])
            .output();
        assert!(moved.as_ref().unwrap().status.success(), "{moved:?}");
        for text in [
            "ip link set eth0 name eth7",
            "ip link set eth7 up",
            "ip address add NEAR4/24 dev eth7",
            "ip address add OWN4/24 dev eth7",
            "ip route add default via 10.0.1.1",
            "ip neigh add 10.0.1.1 lladdr GW dev eth7",
        ] {
            let text = cast.fill_in(text);
            let words = text.split(' ').skip(1);
            let done = Command::new("ip")
                .args(["-n", "elsewhere"])
                .args(words)
                .output();
            assert!(done.as_ref().unwrap().status.success(), "{text}: {done:?}");
        }
    });
    let near = cast.near.ipv4.to_string();
    let what = "the link in another namespace";
    cast.is_not_heard(&host, &child, what, &near, DropReason::ForeignSource);
    let listener = cast.listener(cast.to.ipv4.into());
    let at = listener.local_addr().unwrap();
    let own = (cast.task.ipv4, 0);
    let sent = child.run(|| UdpSocket::bind(own).unwrap().send_to(b"honest", at));
    sent.unwrap().unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(listener.recv_from(&mut [0; 64]).unwrap().1.ip(), own.0);
    host.run(|| Netns::remove(elsewhere)).unwrap();
}

#[test]
fn lies_about_addresses_reach_nobody() {
    let host = running("lies");
    let cast = Cast::new(&host);
    let tap = cast.near.run(|| Wire::open("eth0")).unwrap();
    // It answers for whoever is asked for.
    shell(
        &cast.task,
        "echo 1 > /proc/sys/net/ipv4/conf/eth0/proxy_arp; \
         echo 1 > /proc/sys/net/ipv4/conf/all/forwarding",
    );
    let own = cast.task.mac;
    let [own4, near4] = [cast.task.ipv4, cast.near.ipv4].map(|ip| ip.to_string());
    let [own6, near6] = [cast.task.ipv6, cast.near.ipv6].map(|ip| ip.to_string());
    let at = |address: &str, port: u16| SocketAddr::new(address.parse().unwrap(), port).to_string();
    let arp = |operation, sender: &str, target: &str| {
        Frame::arp(operation, (own, sender), (cast.near.mac, target)).to(cast.near.mac)
    };
    let all_nodes = [0x33, 0x33, 0, 0, 0, 1];
    let advertisement =
        |source: &str, kind| packet::neighbour(source, "ff02::1", kind, "fe80::1", Some(own));
    let dhcp = |from: &str, to: &str, ports: (u16, u16)| {
        packet::udp(&at(from, ports.0), &at(to, ports.1)).data(240)
    };
    let foreign = DropReason::ForeignNeighbour;
    let frames: Vec<(&str, Frame, DropReason)> = vec![
        (
            "an ARP announcement of the router",
            arp(REQUEST, "10.0.1.1", "10.0.1.1"),
            foreign,
        ),
        (
            "an ARP reply for the router",
            arp(REPLY, "10.0.1.1", &near4),
            foreign,
        ),
        (
            "a router advertisement",
            Frame::of(own, all_nodes, &advertisement(&own6, 134)),
            foreign,
        ),
        (
            "a redirect in the router's name",
            Frame::of(
                own,
                ROUTER,
                &packet::icmp("10.0.1.1", &near4, 5, 1, 0).data(28),
            ),
            DropReason::ForeignSource,
        ),
        (
            "a DHCP server",
            Frame::of(own, ROUTER, &dhcp(&own4, &near4, (67, 68))),
            DropReason::NoRoute,
        ),
        (
            "a DHCP server, straight to its MAC address",
            Frame::of(own, cast.near.mac, &dhcp(&own4, &near4, (67, 68))),
            DropReason::NoRoute,
        ),
        (
            "a DHCPv6 server",
            Frame::of(own, ROUTER, &dhcp(&own6, &near6, (547, 546))),
            DropReason::NoRoute,
        ),
        (
            "a client of a DHCP server that is none",
            Frame::of(own, ROUTER, &dhcp(&own4, UPLINK[0], (68, 67))),
            DropReason::NoRoute,
        ),
        (
            "a DHCP server to all",
            Frame::of(
                own,
                ethernet::BROADCAST,
                &dhcp(&own4, "255.255.255.255", (67, 68)),
            ),
            DropReason::NoRoute,
        ),
    ];
    let wire = cast.task.run(|| Wire::open("eth0")).unwrap();
    for (name, frame, reason) in &frames {
        let before = dropped(&host, *reason);
        wire.send(&frame.bytes()).unwrap();
        wait_for_drop(&host, name, *reason, before);
    }
    // It is asked for by nobody, so it answers nobody; the asker hears the VPC's router alone.
    shell(&cast.near, "ip neigh flush dev eth0 nud all");
    talk::udp(
        &cast.near.netns,
        &cast.to.netns,
        SocketAddr::new(cast.to.ipv4.into(), OPEN_PORT),
        64,
        PATIENCE,
    )
    .unwrap();
    let seen = tap.waiting().unwrap();
    let from_task = seen.iter().filter(|frame| frame[6..12] == own);
    assert_eq!(from_task.count(), 0, "a frame of the task arrives");
    let bytes: Vec<_> = seen
        .iter()
        .filter(|frame| frame.windows(6).any(|six| six == own))
        .collect();
    assert!(bytes.is_empty(), "{bytes:02x?}");
    // What the task may say it is heard by: the tap works.
    talk::udp(
        &cast.task.netns,
        &cast.near.netns,
        SocketAddr::new(cast.near.ipv4.into(), OPEN_PORT),
        64,
        PATIENCE,
    )
    .unwrap();
    assert!(
        tap.waiting()
            .unwrap()
            .iter()
            .any(|frame| frame[6..12] == own)
    );
}
