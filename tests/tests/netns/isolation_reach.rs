//! What a task with every capability over its own network sees and reaches of others: nothing.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use branchline::{api::TaskDescription, netns::Netns};
use branchline_common::{
    headers::{ethernet, protocol},
    maps::SERVICES_MAC,
    verdict::DropReason,
};
use branchline_tests::{
    frame::Frame,
    host::Host,
    packet::{self, Packet},
    settings::OPEN_PORT,
    talk::{self, PATIENCE, SHORT, is_silence},
    task::{Task, spec},
    wire::Wire,
};
use nix::net::if_::if_nametoindex;
use serde_json::json;

use crate::isolation::{Cast, ROUTER, UPLINK, dropped, running, shell, wait_for_drop};

const METADATA: &str = "169.254.170.2:80";
const IMDS: [&str; 2] = ["169.254.169.254", "fd00:ec2::254"];
const IMDS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// In packets of others, and of nobody else.
const SECRET: &[u8] = b"of-somebody-else";

#[test]
fn a_promiscuous_task_sees_what_is_its_own() {
    let host = running("promiscuous");
    let cast = Cast::new(&host);
    shell(
        &cast.task,
        "ip link set eth0 promisc on; ip link set eth0 allmulticast on; \
         ip address add 224.0.0.251/32 dev eth0 autojoin || true",
    );
    let tap = cast.task.run(|| Wire::open("eth0")).unwrap();
    // Others speak to one another, and to all.
    for to in cast.to.addresses() {
        let at = SocketAddr::new(to, OPEN_PORT);
        talk::tcp(&cast.near.netns, &cast.to.netns, at, PATIENCE).unwrap();
        talk::udp(&cast.near.netns, &cast.to.netns, at, 64, PATIENCE).unwrap();
    }
    let wire = cast.near.run(|| Wire::open("eth0")).unwrap();
    let (near4, near6) = (cast.near.ipv4.to_string(), cast.near.ipv6.to_string());
    let groups = [
        (near4.as_str(), "10.0.1.255", ethernet::BROADCAST),
        (&near4, "255.255.255.255", ethernet::BROADCAST),
        (&near4, "224.0.0.251", [0x01, 0, 0x5e, 0, 0, 0xfb]),
        (&near6, "ff02::1", [0x33, 0x33, 0, 0, 0, 1]),
        (&near6, "ff02::fb", [0x33, 0x33, 0, 0, 0, 0xfb]),
        // To the group's MAC address, but another's IP address.
        (&near4, "10.0.2.4", ethernet::BROADCAST),
    ];
    for (from, to, mac) in groups {
        let end = |address: &str| SocketAddr::new(address.parse().unwrap(), 7).to_string();
        let datagram = packet::udp(&end(from), &end(to)).data(32);
        let mut frame = Frame::of(cast.near.mac, mac, &datagram).bytes().to_vec();
        frame.extend(SECRET);
        wire.send(&frame).unwrap();
    }
    let own4 = cast.task.ipv4.to_string();
    let question = Frame::arp(
        branchline_common::headers::arp::REQUEST,
        (cast.near.mac, &near4),
        ([0; 6], &own4),
    );
    wire.send(&question.bytes()).unwrap();
    // Last of all what it may see.
    for to in cast.to.addresses() {
        let at = SocketAddr::new(to, OPEN_PORT);
        talk::udp(&cast.task.netns, &cast.to.netns, at, 64, PATIENCE).unwrap();
    }
    let seen = tap.waiting().unwrap();
    let own = cast.task.mac;
    let is_own = |frame: &&Vec<u8>| frame[..6] == own || frame[6..12] == own;
    let others: Vec<_> = seen.iter().filter(|frame| !is_own(frame)).collect();
    assert!(others.is_empty(), "{others:02x?}");
    let secret = |frame: &&Vec<u8>| frame.windows(SECRET.len()).any(|part| part == SECRET);
    assert_eq!(seen.iter().filter(secret).count(), 0);
    let answers = seen.iter().filter(|frame| frame[..6] == own);
    assert!(answers.count() >= 2, "the tap sees nothing at all");
}

/// The status of a GET of `path`, from `from` if that is said.
fn get(netns: &Netns, at: &str, path: &str) -> Option<u16> {
    let at: SocketAddr = at.parse().unwrap();
    let connect = || TcpStream::connect_timeout(&at, SHORT);
    let mut stream = netns.run(connect).unwrap().ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split(' ').nth(1)?.parse().ok()
}

fn metadata_path(host: &Host, id: &str) -> String {
    let text = host.branchline_ok(&["task", "show", id, "--json"]).unwrap();
    let task: TaskDescription = serde_json::from_str(&text).unwrap();
    let uri = &task.environment[0].value;
    uri.strip_prefix("http://169.254.170.2").unwrap().to_owned()
}

#[test]
fn metadata_of_another_task_is_out_of_reach() {
    let host = running("metadata-of-others");
    let cast = Cast::new(&host);
    let [own, of_near] = ["task", "near"].map(|id| metadata_path(&host, id));
    let task = &cast.task.netns;
    assert_eq!(get(task, METADATA, &own), Some(200));
    assert_eq!(get(&cast.near.netns, METADATA, &of_near), Some(200));
    assert_eq!(get(task, METADATA, &of_near), Some(404));
    // In the other's name.
    let before = dropped(&host, DropReason::ForeignSource);
    let near = cast.near.ipv4;
    shell(
        &cast.task,
        &format!(
            "ip address add {near}/32 dev eth0; ip route replace 169.254.170.2/32 dev eth0 src {near}"
        ),
    );
    let mac = ROUTER.map(|byte| format!("{byte:02x}")).join(":");
    shell(
        &cast.task,
        &format!("ip neigh replace 169.254.170.2 lladdr {mac} dev eth0"),
    );
    assert_eq!(get(task, METADATA, &of_near), None);
    wait_for_drop(
        &host,
        "in another's name",
        DropReason::ForeignSource,
        before,
    );
    shell(
        &cast.task,
        &format!("ip route del 169.254.170.2/32; ip address del {near}/32 dev eth0"),
    );
    assert_eq!(get(task, METADATA, &own), Some(200));
    // By other ports and addresses of the services, and as if it were one of them.
    let [a, b, c, d, e, f] = SERVICES_MAC;
    let link_local = Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ]);
    let services = SERVICES_MAC.map(|byte| format!("{byte:02x}")).join(":");
    shell(
        &cast.task,
        &format!("ip neigh add {link_local} lladdr {services} dev eth0"),
    );
    let scope = cast.task.run(|| if_nametoindex("eth0").unwrap());
    for at in [
        "169.254.170.2:53".to_owned(),
        "169.254.170.2:8080".to_owned(),
        "169.254.169.253:80".to_owned(),
        "10.0.0.2:80".to_owned(),
        "[fd00:ec2::253]:80".to_owned(),
        format!("[{link_local}%{scope}]:80"),
        format!("[{link_local}%{scope}]:53"),
    ] {
        assert_eq!(get(task, &at, &of_near), None, "{at}");
    }
    // A frame to the services' own MAC address, past all addresses, is one to the router.
    let tap = host
        .run(|| Netns::open("/run/netns/branchline-services".as_ref()))
        .unwrap()
        .run(|| Wire::open("services"))
        .unwrap()
        .unwrap();
    let wire = cast.task.run(|| Wire::open("eth0")).unwrap();
    let own4 = cast.task.ipv4.to_string();
    for (to, port) in [("10.0.1.1", 80), ("169.254.170.2", 81), ("10.0.2.9", 80)] {
        let to = format!("{to}:{port}");
        let syn = packet::tcp(&format!("{own4}:4000"), &to, 2);
        wire.send(&Frame::of(cast.task.mac, SERVICES_MAC, &syn).bytes())
            .unwrap();
    }
    assert_eq!(get(task, METADATA, &own), Some(200));
    let seen = tap.waiting().unwrap();
    // Source port 4000 of TCP over IPv4.
    let forged = seen
        .iter()
        .filter(|frame| frame.get(34..36) == Some(&[0x0f, 0xa0]));
    assert_eq!(forged.count(), 0, "{seen:02x?}");
    assert!(!seen.is_empty(), "the tap sees nothing at all");
}

/// A datagram of `task` to instance metadata that goes to `via` first and asks to be sent on from there
/// (RFC 791: loose source route). Its checksum is that of its last destination.
fn source_routed(task: &Task, via: &str) -> Vec<u8> {
    const HEADER: std::ops::Range<usize> = ethernet::LEN..ethernet::LEN + 28;
    let to = packet::udp(&format!("{}:4000", task.ipv4), &format!("{}:80", IMDS[0]));
    let packet = to
        .data(20)
        .option_bytes(&[131, 7, 4, 169, 254, 169, 254, 0]);
    let mut frame = Frame::of(task.mac, ROUTER, &packet).bytes().to_vec();
    let via: std::net::Ipv4Addr = via.parse().unwrap();
    frame[30..34].copy_from_slice(&via.octets());
    frame[24..26].fill(0);
    let sum = packet::checksum(&frame[HEADER]).to_be_bytes();
    frame[24..26].copy_from_slice(&sum);
    frame
}

#[test]
fn instance_metadata_stays_blocked() {
    let host = running("imds");
    let cast = Cast::new(&host);
    let mut free = spec("free", &["subnet-a"], &["sg-client"]);
    free["networkConfiguration"]["networkInterfaceAttributes"] =
        json!({"blockInstanceMetadata": false});
    assert!(host.add_spec(&free).unwrap().status.success());
    let free = host.task("free").unwrap();
    let fabric = host
        .run(|| Netns::open("/run/netns/branchline-fabric".as_ref()))
        .unwrap();
    // A host that has instance metadata, and that follows source routes unless somebody sees to it.
    let sh = |text: &str| Command::new("sh").args(["-ec", text]).output().unwrap();
    let follow = "echo 1 > /proc/sys/net/ipv4/conf/all/accept_source_route";
    let ready = host.run(|| {
        sh(&format!("{follow}; ip link add imds type veth peer name imds-peer; ip link set imds up; \
            ip address add 169.254.169.254/32 dev imds; ip address add fd00:ec2::254/128 dev imds nodad"))
    });
    assert!(ready.status.success(), "{ready:?}");
    let ready = fabric.run(|| sh(follow)).unwrap();
    assert!(ready.status.success(), "{ready:?}");
    let imds = host.run(|| IMDS.map(|address| UdpSocket::bind((address, 80)).unwrap()));
    let uplink = host.run(|| UdpSocket::bind((UPLINK[0], 80)).unwrap());
    let trunk = fabric.run(|| Wire::open("trunk")).unwrap().unwrap();

    // By its own stack, with routes and addresses of its own choice.
    let mac = ROUTER.map(|byte| format!("{byte:02x}")).join(":");
    for route in [
        format!(
            "ip route add 169.254.169.254 dev eth0; ip neigh add 169.254.169.254 lladdr {mac} dev eth0"
        ),
        "ip route replace 169.254.169.254 via 10.0.1.1 dev eth0".to_owned(),
        "ip route add fd00:ec2::254 dev eth0 via 2001:db8:1:1::1".to_owned(),
        "ip address add 169.254.169.1/24 dev eth0".to_owned(),
    ] {
        shell(&cast.task, &route);
        let to = IMDS[usize::from(route.contains("fd00"))];
        let before = dropped(&host, DropReason::Imds);
        let at: IpAddr = to.parse().unwrap();
        cast.task.run(|| {
            let socket = UdpSocket::bind(talk::unspecified(at)).unwrap();
            socket.send_to(b"GET", (at, 80)).unwrap();
        });
        wait_for_drop(&host, &route, DropReason::Imds, before);
    }
    // And byte by byte.
    let own = cast.task.ipv4.to_string();
    let own6 = cast.task.ipv6.to_string();
    let near = cast.near.ipv4.to_string();
    let udp = |from: &str, to: &str| {
        let end = |address: &str, port| {
            SocketAddr::new(address.parse::<IpAddr>().unwrap(), port).to_string()
        };
        packet::udp(&end(from, 4000), &end(to, 80)).data(24)
    };
    let frame = |packet: &Packet| Frame::of(cast.task.mac, ROUTER, packet);
    let [imds4, imds6] = IMDS;
    let attempts: Vec<(&str, Frame, DropReason)> = vec![
        ("whole", frame(&udp(&own, imds4)), DropReason::Imds),
        ("whole, IPv6", frame(&udp(&own6, imds6)), DropReason::Imds),
        (
            "another's source",
            frame(&udp(&near, imds4)),
            DropReason::Imds,
        ),
        (
            "first fragment",
            frame(&udp(&own, imds4).fragment(7, 0, true)),
            DropReason::Imds,
        ),
        (
            "later fragment",
            frame(&packet::raw(&own, imds4, protocol::UDP, 24).fragment(7, 3, false)),
            DropReason::Imds,
        ),
        (
            "first fragment, IPv6",
            frame(&udp(&own6, imds6).fragment(7, 0, true)),
            DropReason::Imds,
        ),
        (
            "later fragment, IPv6",
            frame(&packet::raw(&own6, imds6, protocol::UDP, 24).fragment(7, 3, false)),
            DropReason::Imds,
        ),
        (
            "IP options",
            frame(&udp(&own, imds4).options(2)),
            DropReason::Imds,
        ),
        (
            "a routing header",
            frame(&udp(&own6, imds6).extension(43, 0)),
            DropReason::Imds,
        ),
        (
            "another protocol",
            frame(&packet::raw(&own, imds4, 47, 24)),
            DropReason::Imds,
        ),
        (
            "to all",
            frame(&udp(&own, imds4)).to(ethernet::BROADCAST),
            DropReason::Imds,
        ),
        (
            "its own VLAN tag",
            frame(&udp(&own, imds4)).tag(ethernet::VLAN, cast.task.vlan),
            DropReason::TaggedByTask,
        ),
        (
            "the VLAN tag of a task that may",
            frame(&udp(&own, imds4)).tag(ethernet::VLAN, free.vlan),
            DropReason::TaggedByTask,
        ),
        (
            "mapped",
            frame(&udp(&own6, "::ffff:169.254.169.254")),
            DropReason::BadHeader,
        ),
        (
            "DHCP's ports",
            frame(&packet::udp(&format!("{own}:68"), &format!("{imds4}:67")).data(24)),
            DropReason::Imds,
        ),
        (
            "as IPv4 in IPv6",
            frame(&udp(&own6, "64:ff9b::a9fe:a9fe")),
            DropReason::NoRoute,
        ),
    ];
    let wire = cast.task.run(|| Wire::open("eth0")).unwrap();
    for (name, frame, reason) in &attempts {
        let before = dropped(&host, *reason);
        wire.send(&frame.bytes()).unwrap();
        wait_for_drop(&host, name, *reason, before);
    }
    for via in UPLINK {
        wire.send(&source_routed(&cast.task, via)).unwrap();
    }
    // Behind them all, and so after them: what both may send, and what only one may.
    let reaches = |task: &Task| {
        let at = SocketAddr::new(UPLINK[0].parse().unwrap(), 80);
        task.run(|| {
            UdpSocket::bind("0.0.0.0:0")
                .unwrap()
                .send_to(b"honest", at)
                .unwrap()
        });
        uplink.set_read_timeout(Some(PATIENCE)).unwrap();
        let (len, _) = uplink.recv_from(&mut [0; 64]).unwrap();
        assert_eq!(len, 6);
    };
    reaches(&cast.task);
    // The VLAN tag is beside the frame, not in it.
    let [of_ipv4, of_ipv6] = [30..34, 38..54];
    let is_to_imds = |frame: &[u8]| {
        frame.get(of_ipv4.clone()) == Some(&[169, 254, 169, 254])
            || frame.get(of_ipv6.clone()) == Some(&IMDS6.octets())
    };
    let seen = trunk.waiting().unwrap();
    let asks: Vec<_> = seen.iter().filter(|frame| is_to_imds(frame)).collect();
    assert!(asks.is_empty(), "{asks:02x?}");
    for socket in &imds {
        socket.set_read_timeout(Some(SHORT)).unwrap();
        let heard = socket.recv_from(&mut [0; 64]);
        assert!(is_silence(&heard), "instance metadata is asked: {heard:?}");
    }
    free.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"GET", (imds4, 80)).unwrap();
    });
    let free_mac = free.mac;
    let seen = trunk.until(PATIENCE, |frame| {
        frame[6..12] == free_mac && is_to_imds(frame)
    });
    assert!(!seen.unwrap().is_empty(), "a task that may reaches the VPC");
}

/// A process with all capabilities in a user namespace of its own, which owns its network namespace.
struct Owner(Child);

impl Owner {
    fn start(host: &Host) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sleep", "infinity"]);
        let owner = Self(host.run(|| command.spawn()).unwrap());
        let started = Instant::now();
        let link = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).unwrap();
        let hosts = host.run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
        let pid = owner.0.id().to_string();
        while link(&pid) == hosts || link(&pid) == link("self") {
            assert!(started.elapsed() < PATIENCE, "unshare does not unshare");
            thread::sleep(Duration::from_millis(5));
        }
        owner
    }

    fn netns(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// Whether a command succeeds inside: with the capabilities of the owner, or with the host's root's.
    fn does(&self, host: &Host, is_owner: bool, text: &str) -> bool {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.0.id()))
            .arg("--net");
        if is_owner {
            command.args(["--user", "--preserve-credentials"]);
        }
        let output = host
            .run(|| command.args(["sh", "-ec", text]).output())
            .unwrap();
        println!(
            "{text} by {}: {output:?}",
            if is_owner { "owner" } else { "root" }
        );
        output.status.success()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A veth tells its task the number of the host's namespace. Who is root of the host itself may act on it by
/// that, whatever made the link; who is root of its own user namespace may not.
#[test]
fn the_owner_of_a_namespace_owns_nothing_of_the_host() {
    let host = running("owner");
    let owner = Owner::start(&host);
    let mut wish = spec("owned", &["subnet-a"], &["sg-server"]);
    wish["networkNamespace"] = json!(owner.netns());
    let added = host.add_spec(&wish).unwrap();
    assert!(added.status.success(), "{added:?}");
    let peer = host
        .add_task("peer", &["subnet-b"], &["sg-client"])
        .unwrap();
    let owned = host.task("owned").unwrap();
    let trunk = host.run(|| if_nametoindex("bl-trunk").unwrap());
    // It owns what is inside.
    assert!(owner.does(
        &host,
        true,
        "ip link add d0 type veth peer name d1 && ip link del d0"
    ));
    // And nothing of what its own link's other end lies in.
    let text =
        format!("ip link add link if{trunk} link-netnsid 0 name x0 type macvlan && ip link del x0");
    assert!(!owner.does(&host, true, &text));
    assert!(
        owner.does(&host, false, &text),
        "not even the host's root can: a test of nothing"
    );
    for text in [
        "ip link set eth0 netns 1",
        "nsenter --target=1 --net true",
        "mount -t bpf bpf /mnt",
    ] {
        assert!(!owner.does(&host, true, text), "{text}");
    }
    for address in owned.addresses() {
        talk::ping(&peer.netns, address, 56, PATIENCE).unwrap();
    }
    host.remove_task("owned").unwrap();
}
