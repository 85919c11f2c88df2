//! A link's filters and what they run: set, kept apart, shared by many links, replaced under traffic.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aya::programs::SchedClassifier;
use branchline::neighbour::Neighbour;
use branchline::netlink::NetlinkError;
use branchline::netns::{Netns, Origin};
use branchline::task_network::{self, Found};
use branchline::tc::{Filter, FilterAt};

use crate::ground::{Ground, output, pair, program, redirecting, returning, task};

const BLOCK: u32 = 7;

#[test]
fn edges_many_links_run_one_block() {
    const LINKS: u32 = 200;
    let mut ground = Ground::new("block");
    let (host, far) = (ground.netlink("host"), ground.netlink("far"));
    let (old, new) = (returning(0), returning(2));
    let mut links = Vec::new();
    for n in 0..LINKS {
        let wanted = pair(&format!("bl{n}"), &format!("f{n}"), None, 1500);
        links.push(host.ensure_veth(&wanted, &far).unwrap().0.index);
    }
    assert_eq!(host.filter(FilterAt::Block(BLOCK)).unwrap(), None);

    let start = Instant::now();
    for link in &links {
        host.join_block(*link, BLOCK).unwrap();
    }
    let joining = start.elapsed();
    let at = FilterAt::Block(BLOCK);
    host.set_filter(at, fd(program(&old)).as_fd(), "branch_egress")
        .unwrap();
    println!("{LINKS} links joined one block in {joining:?}");

    let expected = |object| {
        Some(Filter {
            program_id: program(object).info().unwrap().id(),
            name: "branch_egress".to_owned(),
        })
    };
    assert_eq!(host.filter(at).unwrap(), expected(&old));
    let start = Instant::now();
    host.set_filter(at, fd(program(&new)).as_fd(), "branch_egress")
        .unwrap();
    println!("its program was replaced in {:?}", start.elapsed());
    assert_eq!(host.filter(at).unwrap(), expected(&new));
    let shown = output(host.netns(), "tc", &["filter", "show", "block", "7"]);
    assert_eq!(shown.matches("direct-action").count(), 1, "{shown}");

    assert_eq!(host.join_block(links[0], BLOCK).unwrap(), Origin::Existing);
    let wrong = [
        host.ensure_clsact(links[0]),
        host.join_block(links[0], BLOCK + 1),
    ];
    for error in wrong.map(Result::unwrap_err) {
        assert!(matches!(&error, NetlinkError::Conflict { .. }), "{error}");
        let found = "ingress qdisc with block 7 is in its place";
        assert!(error.to_string().contains(found), "{error}");
    }
    // Joined by an earlier release.
    assert!(host.delete_ingress_qdisc(links[0]).unwrap());
    let earlier = "qdisc add dev bl0 ingress_block 7 clsact";
    output(host.netns(), "tc", &earlier.split(' ').collect::<Vec<_>>());
    assert_eq!(host.join_block(links[0], BLOCK).unwrap(), Origin::Existing);
    let error = host.ensure_clsact(links[0]).unwrap_err();
    assert!(
        error.to_string().contains("clsact qdisc with block 7"),
        "{error}"
    );
    for link in &links {
        assert!(host.delete_ingress_qdisc(*link).unwrap());
    }
    assert!(!host.delete_ingress_qdisc(links[0]).unwrap());
    assert_eq!(
        host.filter(at).unwrap(),
        None,
        "the block ended with its last link"
    );
    assert!(
        !host.delete_ingress_qdisc(u32::MAX >> 1).unwrap(),
        "no such link"
    );
}

#[test]
fn edges_filters_of_one_link_are_kept_apart() {
    let mut ground = Ground::new("hooks");
    let (host, far) = (ground.netlink("host"), ground.netlink("far"));
    let link = host
        .ensure_veth(&pair("trunk", "t", None, 1500), &far)
        .unwrap()
        .0
        .index;
    let (ingress, egress) = (FilterAt::Ingress(link), FilterAt::Egress(link));
    let object = returning(0);
    let refused = host.set_filter(ingress, fd(program(&object)).as_fd(), "in");
    assert!(refused.is_err(), "there is no clsact yet");
    assert_eq!(host.filter(ingress).unwrap(), None);
    assert_eq!(host.ensure_clsact(link).unwrap(), Origin::Created);
    assert_eq!(host.ensure_clsact(link).unwrap(), Origin::Existing);
    host.set_filter(ingress, fd(program(&object)).as_fd(), "in")
        .unwrap();
    assert_eq!(host.filter(egress).unwrap(), None);
    host.set_filter(egress, fd(program(&object)).as_fd(), "out")
        .unwrap();
    assert_eq!(host.filter(ingress).unwrap().unwrap().name, "in");
    assert_eq!(host.filter(egress).unwrap().unwrap().name, "out");
}

/// Without its program a frame would go to the host's own stack and be lost.
#[tokio::test(flavor = "multi_thread")]
async fn edges_replacing_the_blocks_program_loses_no_packet() {
    const REPLACEMENTS: u32 = 500;
    let mut ground = Ground::new("replace");
    let host = ground.netlink("host");
    let (one, two) = (ground.netlink("one"), ground.netlink("two"));
    let from = host
        .ensure_veth(&pair("blone", "eth0", None, 9001), &one)
        .unwrap()
        .0;
    let to = host
        .ensure_veth(&pair("bltwo", "eth0", None, 9001), &two)
        .unwrap()
        .0;
    let objects = [redirecting(to.index), redirecting(to.index)];
    host.join_block(from.index, BLOCK).unwrap();
    let at = FilterAt::Block(BLOCK);
    host.set_filter(at, fd(program(&objects[0])).as_fd(), "branch_egress")
        .unwrap();
    for (inside, n) in [(&one, 4), (&two, 5)] {
        task_network::configure(inside, &task(n), Found::Unknown).unwrap();
    }
    // Frames pass in one direction only: nobody answers ARP.
    let receiver = Neighbour {
        link: one.existing_link("eth0").unwrap().index,
        address: "10.0.1.5".parse().unwrap(),
        mac: task(5).mac,
    };
    one.set_neighbour(&receiver).unwrap();
    for link in [&from, &to] {
        host.set_up(link.index, true).unwrap();
    }
    one.wait_until_sending(receiver.link).unwrap();
    for link in [&from, &to] {
        host.wait_until_sending(link.index).unwrap();
    }

    let traffic = Traffic::start(one.netns(), two.netns());
    tokio::time::sleep(Duration::from_millis(100)).await;
    for n in 0..REPLACEMENTS {
        let object = &objects[(n % 2) as usize];
        host.set_filter(at, fd(program(object)).as_fd(), "branch_egress")
            .unwrap();
    }
    let (sent, received) = traffic.stop();
    println!("{sent} packets through {REPLACEMENTS} replacements, {received} arrived");
    assert!(
        sent > REPLACEMENTS,
        "too little traffic to prove anything: {sent}"
    );
    assert_eq!(sent, received);
}

fn fd(program: &SchedClassifier) -> &aya::programs::ProgramFd {
    program.fd().unwrap()
}

/// Datagrams from 10.0.1.4 to 10.0.1.5, as fast as they arrive.
struct Traffic {
    counts: Arc<Counts>,
    threads: [JoinHandle<()>; 2],
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    sent: AtomicU32,
    received: AtomicU32,
}

impl Traffic {
    /// More on the way might not fit into the receiver's buffer.
    const ON_THE_WAY: u32 = 64;

    fn start(from: &Netns, to: &Netns) -> Self {
        let server = to
            .run(|| UdpSocket::bind("10.0.1.5:7000").unwrap())
            .unwrap();
        let client = from.run(|| UdpSocket::bind("10.0.1.4:0").unwrap()).unwrap();
        server
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        let counts = Arc::new(Counts::default());
        let (sending, receiving) = (counts.clone(), counts.clone());
        let sender = std::thread::spawn(move || {
            while !sending.stop.load(Ordering::Relaxed) {
                let received = sending.received.load(Ordering::Relaxed);
                if sending.sent.load(Ordering::Relaxed) - received < Self::ON_THE_WAY {
                    client.send_to(b"x", "10.0.1.5:7000").unwrap();
                    sending.sent.fetch_add(1, Ordering::Relaxed);
                } else {
                    std::thread::yield_now();
                }
            }
        });
        // Ends when nothing has come for the timeout.
        let receiver = std::thread::spawn(move || {
            while server.recv(&mut [0; 8]).is_ok() {
                receiving.received.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            counts,
            threads: [sender, receiver],
        }
    }

    /// Sent and received.
    fn stop(self) -> (u32, u32) {
        self.counts.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let count = |count: &AtomicU32| count.load(Ordering::Relaxed);
        (count(&self.counts.sent), count(&self.counts.received))
    }
}
