//! The agent is killed and started again while many tasks talk: no datagram is lost.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use branchline_tests::{
    host::Host,
    settings::{OPEN_PORT, Settings, VPC},
    talk,
    task::{Task, spec},
};

/// Each pair sends once in so long.
const PACE: Duration = Duration::from_millis(5);
const LAST_ARRIVALS: Duration = Duration::from_millis(500);

#[test]
fn fifty_tasks_lose_no_packet_over_a_restart() {
    restarted(50);
}

#[test]
#[ignore = "long: a thousand tasks take a minute"]
fn a_thousand_tasks_lose_no_packet_over_a_restart() {
    restarted(1_000);
}

/// One task sends to another.
struct Pair {
    sender: UdpSocket,
    receiver: UdpSocket,
    sent: u64,
    received: u64,
}

fn restarted(tasks: usize) {
    let settings = Settings {
        vpc: VPC.replace("10.0.1.0/24", "10.0.16.0/20"),
        ..Settings::default()
    };
    let host = Host::new("many", settings).unwrap();
    host.start_agent().unwrap();
    let mut api = host.api().unwrap();
    let start = Instant::now();
    let ids: Vec<String> = (0..tasks).map(|number| format!("task-{number}")).collect();
    for id in &ids {
        let spec = spec(id, &["subnet-a"], &["sg-server"]).to_string();
        api.json("POST", "/v1/tasks", &spec).unwrap();
    }
    println!("{tasks} tasks added in {:?}", start.elapsed());
    let all: Vec<Task> = ids.iter().map(|id| host.task(id).unwrap()).collect();
    let mut pairs: Vec<Pair> = all.chunks_exact(2).map(pair).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let talking = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                pairs.iter_mut().for_each(Pair::send);
                pairs.iter_mut().for_each(Pair::drain);
                thread::sleep(PACE);
            }
        });
        thread::sleep(LAST_ARRIVALS);
        let start = Instant::now();
        host.kill_agent().unwrap();
        host.start_agent().unwrap();
        println!("killed and ready again in {:?}", start.elapsed());
        thread::sleep(LAST_ARRIVALS);
        done.store(true, Ordering::Relaxed);
        talking.join().unwrap();
    });
    thread::sleep(LAST_ARRIVALS);
    pairs.iter_mut().for_each(Pair::drain);
    let status = host.status().unwrap();
    assert_eq!((status.tasks.running, status.repairs), (tasks, 0));
    let sent: u64 = pairs.iter().map(|pair| pair.sent).sum();
    println!("{sent} datagrams");
    assert!(
        pairs.iter().all(|pair| pair.sent > 20),
        "too little traffic"
    );
    let lost = pairs.iter().filter(|pair| pair.received != pair.sent);
    let lost: Vec<_> = lost.map(|pair| (pair.sent, pair.received)).collect();
    assert!(lost.is_empty(), "of {} pairs: {lost:?}", pairs.len());
}

fn pair(tasks: &[Task]) -> Pair {
    let (from, to) = (&tasks[0], &tasks[1]);
    let at = SocketAddr::new(to.ipv4.into(), OPEN_PORT);
    let receiver = to.run(|| UdpSocket::bind(at)).unwrap();
    let sender = from.run(|| UdpSocket::bind(talk::unspecified(at.ip())));
    let sender = sender.unwrap();
    sender.connect(at).unwrap();
    receiver.set_nonblocking(true).unwrap();
    Pair {
        sender,
        receiver,
        sent: 0,
        received: 0,
    }
}

impl Pair {
    fn send(&mut self) {
        self.sender.send(&[7; 50]).unwrap();
        self.sent += 1;
    }

    fn drain(&mut self) {
        loop {
            match self.receiver.recv(&mut [0; 64]) {
                Ok(_) => self.received += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
