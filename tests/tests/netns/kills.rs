//! The agent is killed again and again, anywhere in its work, under traffic of every kind: each packet
//! is in one row.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use branchline_tests::{
    host::Host,
    random::Random,
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE},
    task::Task,
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SEED: u64 = 0x6b69_6c6c;
/// Between two questions of one sender.
const PACE: Duration = Duration::from_millis(2);

/// An ENI, source and destination with ports, protocol.
type Tuple = (String, SocketAddr, SocketAddr, u8);

/// What sockets have sent, as rows must say it.
type Sent = BTreeMap<Tuple, u64>;

#[test]
fn five_kills_lose_no_packet_and_count_none_twice() {
    killed(5);
}

#[test]
#[ignore = "long: 200 kills take minutes"]
fn two_hundred_kills_lose_no_packet_and_count_none_twice() {
    killed(200);
}

fn killed(rounds: usize) {
    let host = Host::new("kills", Settings::default()).unwrap();
    host.start_agent().unwrap();
    let server = host
        .add_task("server", &["subnet-a"], &["sg-server"])
        .unwrap();
    let client = host
        .add_task("client", &["subnet-b"], &["sg-client"])
        .unwrap();
    let began = Instant::now();
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let senders = server.addresses().map(|address| {
            let at = SocketAddr::new(address, OPEN_PORT);
            let (client, server, done) = (&client, &server, &done);
            [
                scope.spawn(move || datagrams(client, server, at, done)),
                scope.spawn(move || stream(client, server, at, done)),
                scope.spawn(move || echoes(client, server, address, done)),
            ]
        });
        let mut random = Random::new(SEED);
        let mut killed = Ok(());
        for round in 0..rounds {
            killed = killed.and_then(|()| kill(&host, round, &mut random));
        }
        done.store(true, Ordering::Relaxed);
        let mut all = Sent::new();
        for sender in senders.into_iter().flatten() {
            all.extend(sender.join().unwrap());
        }
        killed.unwrap();
        all
    });
    host.stop_agent().unwrap();
    println!("{rounds} kills in {:?}: {sent:#?}", began.elapsed());
    assert!(
        sent.values().all(|packets| *packets as usize > 20 * rounds),
        "{sent:#?}"
    );

    let rows = host.flow_rows().unwrap();
    let ends: Vec<IpAddr> = [server.addresses(), client.addresses()].concat();
    let mut found = Sent::new();
    for row in &rows {
        assert_ne!(row.log_status, "SKIPDATA", "{row:?}");
        // Not what kernels send on their own, to multicast groups and routers.
        let flow = row.flow.as_ref();
        let flow = flow.filter(|flow| ends.contains(&flow.src) && ends.contains(&flow.dst));
        if let Some(flow) = flow {
            assert!(flow.accepted, "{row:?}");
            let (src, dst) = (
                SocketAddr::new(flow.src, flow.src_port),
                SocketAddr::new(flow.dst, flow.dst_port),
            );
            let tuple = (row.eni_id.clone(), src, dst, flow.protocol);
            *found.entry(tuple).or_default() += flow.packets;
        }
    }
    assert!(found == sent, "rows have {found:#?}, sent were {sent:#?}");
}

/// Kills the agent somewhere in its work or, every other time, somewhere in its start as well.
fn kill(host: &Host, round: usize, random: &mut Random) -> anyhow::Result<()> {
    let mut pause = |most: usize| Duration::from_millis(random.below(most) as u64);
    thread::sleep(pause(1_200));
    host.kill_agent()?;
    thread::sleep(pause(300));
    if round % 2 == 1 {
        host.start_and_kill_agent(pause(400))?;
    }
    host.start_agent()
}

/// Packets from one end to the other, and back, as both ENIs see them.
fn both_ways(
    client: &Task,
    server: &Task,
    [from, to]: [SocketAddr; 2],
    protocol: u8,
    [there, back]: [u64; 2],
) -> Sent {
    let mut sent = Sent::new();
    for eni in [client, server] {
        sent.insert((eni.eni_id.clone(), from, to, protocol), there);
        sent.insert((eni.eni_id.clone(), to, from, protocol), back);
    }
    sent
}

/// Datagrams that are answered, one after the other.
fn datagrams(client: &Task, server: &Task, at: SocketAddr, done: &AtomicBool) -> Sent {
    let bind = |task: &Task, at| task.run(|| std::net::UdpSocket::bind(at)).unwrap();
    let (asker, answerer) = (bind(client, talk::unspecified(at.ip())), bind(server, at));
    asker.connect(at).unwrap();
    for socket in [&asker, &answerer] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut packets = 0;
    let mut buffer = [0; 64];
    while !done.load(Ordering::Relaxed) {
        asker.send(&[1; 50]).unwrap();
        let (_, peer) = answerer.recv_from(&mut buffer).unwrap();
        answerer.send_to(&[2; 40], peer).unwrap();
        asker.recv(&mut buffer).unwrap();
        packets += 1;
        thread::sleep(PACE);
    }
    let ends = [asker.local_addr().unwrap(), at];
    both_ways(client, server, ends, UDP, [packets, packets])
}

/// Questions and answers over one connection.
fn stream(client: &Task, server: &Task, at: SocketAddr, done: &AtomicBool) -> Sent {
    let (mut asker, mut answerer) = talk::connection(&client.netns, &server.netns, at).unwrap();
    for socket in [&asker, &answerer] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
    }
    let mut buffer = [0; 50];
    while !done.load(Ordering::Relaxed) {
        asker.write_all(&[1; 50]).unwrap();
        answerer.read_exact(&mut buffer).unwrap();
        answerer.write_all(&[2; 50]).unwrap();
        asker.read_exact(&mut buffer).unwrap();
        thread::sleep(PACE);
    }
    // The last acknowledgement is delayed by 40 ms or more.
    thread::sleep(Duration::from_millis(500));
    let ends = [asker.local_addr().unwrap(), at];
    let sent = [segments_out(&asker), segments_out(&answerer) + 1];
    // Left open: its end would be more segments.
    std::mem::forget((asker, answerer));
    both_ways(client, server, ends, TCP, sent)
}

/// Segments that a socket's kernel has sent, repeated ones as well; of the end that listened, without
/// the SYN with ACK, which was sent before there was a socket.
fn segments_out(socket: &TcpStream) -> u64 {
    /// `tcpi_segs_out` in the kernel's `struct tcp_info`.
    const OFFSET: usize = 136;
    let mut info = [0_u8; OFFSET + 4];
    let (level, name) = (uapi::c::IPPROTO_TCP, uapi::c::TCP_INFO);
    let size = uapi::getsockopt(socket.as_raw_fd(), level, name, &mut info).unwrap();
    assert_eq!(size, info.len());
    u64::from(u32::from_ne_bytes(*info.last_chunk().unwrap()))
}

/// Echo requests that are answered.
fn echoes(client: &Task, server: &Task, to: IpAddr, done: &AtomicBool) -> Sent {
    let mut packets = 0;
    while !done.load(Ordering::Relaxed) {
        talk::ping(&client.netns, to, 56, PATIENCE).unwrap();
        packets += 1;
        thread::sleep(PACE);
    }
    let from = client
        .addresses()
        .into_iter()
        .find(|address| address.is_ipv4() == to.is_ipv4())
        .unwrap();
    let protocol = if to.is_ipv4() { 1 } else { 58 };
    let ends = [from, to].map(|address| SocketAddr::new(address, 0));
    both_ways(client, server, ends, protocol, [packets, packets])
}
