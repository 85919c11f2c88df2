//! What a task's network costs at least: the netlink operations and the namespace that branchline's task has too, by a
//! program of one thread that does nothing else, nothing twice, and sends what it can at once.

use std::{
    fs::{self, File, OpenOptions},
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use super::netlink::{Batch, Socket};

/// Message types of linux/rtnetlink.h.
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_NEIGHBOUR: u16 = 28;
const DELETE_NEIGHBOUR: u16 = 29;
const NEW_QDISC: u16 = 36;
const NEW_FILTER: u16 = 44;

const OWN_NETNS: &str = "/proc/thread-self/ns/net";
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MTU: u32 = 9001;
/// Indices are chosen here, so that nothing has to be looked up.
const LOOPBACK: u32 = 1;
const ETH0: u32 = 100;
const SERVICES: u32 = 1_000_000;
const FIRST_LINK: u32 = 1_000;
const UP: u32 = 1;
const INET: u8 = 2;
const INET6: u8 = 10;
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_INGRESS: u32 = 0xffff_fff2;

/// The host of the floor's tasks; of one thread, which is in its namespace.
pub(super) struct Floor {
    netns: File,
    netlink: Socket,
    program: OwnedFd,
}

impl Floor {
    /// On the calling thread's host; each task's link gets `program`.
    pub(super) fn new(program: OwnedFd) -> Result<Self> {
        let netlink = Socket::open()?;
        let mut batch = Batch::default();
        // Stands for the link to the host's services, whose neighbours tasks are.
        veth(
            &mut batch,
            (SERVICES, "services"),
            (SERVICES + 1, "services-far"),
            0,
            None,
        );
        batch.change(NEW_LINK, &link(SERVICES, UP));
        netlink.run(&batch)?;
        Ok(Self {
            netns: File::open(OWN_NETNS)?,
            netlink,
            program,
        })
    }

    /// Makes the task of this number; how long it took.
    pub(super) fn add(&self, number: u32) -> Result<Duration> {
        let began = Instant::now();
        let path = path(number);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        let none: Option<&str> = None;
        mount(Some(OWN_NETNS), &path, none, MsFlags::MS_BIND, none)?;
        let netns = File::open(OWN_NETNS)?;
        let inside = Socket::open()?;
        setns(&self.netns, CloneFlags::CLONE_NEWNET)?;
        let host = FIRST_LINK + number;
        let mut batch = Batch::default();
        let far = Some(netns.as_raw_fd());
        veth(
            &mut batch,
            (host, &format!("floor{number}")),
            (ETH0, "eth0"),
            number,
            far,
        );
        self.netlink.run(&batch)?;
        inside.run(&self.inside(number))?;
        self.netlink.run(&self.host_side(number))?;
        Ok(began.elapsed())
    }

    /// Removes it; how long it took.
    pub(super) fn remove(&self, number: u32) -> Result<Duration> {
        let began = Instant::now();
        let mut batch = Batch::default();
        batch.change(DELETE_LINK, &link(FIRST_LINK + number, 0));
        let (ipv4, ipv6) = addresses(number);
        for (family, address) in [(INET, &ipv4.octets()[..]), (INET6, &ipv6.octets())] {
            batch
                .change(DELETE_NEIGHBOUR, &neighbour(family, SERVICES))
                .attribute(1, address);
        }
        self.netlink.run(&batch)?;
        let path = path(number);
        umount2(&path, MntFlags::MNT_DETACH)?;
        fs::remove_file(&path)?;
        Ok(began.elapsed())
    }

    fn inside(&self, number: u32) -> Batch {
        let (ipv4, ipv6) = addresses(number);
        let families = [
            (
                INET,
                18,
                ipv4.octets().to_vec(),
                router_ipv4().octets().to_vec(),
            ),
            (
                INET6,
                64,
                ipv6.octets().to_vec(),
                router_ipv6().octets().to_vec(),
            ),
        ];
        let mut batch = Batch::default();
        batch.change(NEW_LINK, &link(LOOPBACK, UP));
        for (family, bits, address, _) in &families {
            // IFA_F_NODAD
            let mut header = vec![*family, *bits, 2, 0];
            header.extend(ETH0.to_ne_bytes());
            batch
                .make(NEW_ADDRESS, &header)
                .attribute(2, address)
                .attribute(1, address);
        }
        batch.change(NEW_LINK, &link(ETH0, UP));
        for (family, _, _, router) in &families {
            batch
                .make(NEW_NEIGHBOUR, &neighbour(*family, ETH0))
                .attribute(1, router)
                .attribute(2, &ROUTER_MAC);
            // Of the main table, static, everywhere, unicast.
            let header = [*family, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
            batch
                .make(NEW_ROUTE, &header)
                .attribute(5, router)
                .number(4, ETH0);
        }
        batch
    }

    fn host_side(&self, number: u32) -> Batch {
        let host = FIRST_LINK + number;
        let (ipv4, ipv6) = addresses(number);
        let mut batch = Batch::default();
        for (family, address) in [(INET, &ipv4.octets()[..]), (INET6, &ipv6.octets())] {
            batch
                .make(NEW_NEIGHBOUR, &neighbour(family, SERVICES))
                .attribute(1, address)
                .attribute(2, &mac(2, number));
        }
        batch
            .make(NEW_QDISC, &tc(host, 0xffff_0000, CLSACT, 0))
            .text(1, "clsact");
        // Priority 1, all protocols.
        let info = (1 << 16) | u32::from(3_u16.to_be());
        batch
            .make(NEW_FILTER, &tc(host, 1, CLSACT_INGRESS, info))
            .text(1, "bpf");
        let options = batch.nest(2);
        batch
            .number(6, self.program.as_raw_fd().unsigned_abs())
            .text(7, "branch_egress")
            .number(8, 1);
        batch.close(options);
        batch.change(NEW_LINK, &link(host, UP));
        batch
    }
}

fn veth(
    batch: &mut Batch,
    near: (u32, &str),
    far: (u32, &str),
    number: u32,
    far_netns: Option<i32>,
) {
    batch
        .make(NEW_LINK, &link(near.0, 0))
        .text(3, near.1)
        .attribute(1, &mac(6, number))
        .number(4, MTU);
    let info = batch.nest(18);
    batch.text(1, "veth");
    let data = batch.nest(2);
    let peer = batch.nest(1);
    batch
        .header(&link(far.0, 0))
        .text(3, far.1)
        .attribute(1, &mac(2, number))
        .number(4, MTU);
    if let Some(netns) = far_netns {
        batch.number(28, netns.unsigned_abs());
    }
    batch.close(peer);
    batch.close(data);
    batch.close(info);
}

/// `ifinfomsg`; `flags` are set, others left alone.
fn link(index: u32, flags: u32) -> Vec<u8> {
    let words = [0, index, flags, flags];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `ndmsg` of a permanent neighbour.
fn neighbour(family: u8, link: u32) -> Vec<u8> {
    let mut header = vec![family, 0, 0, 0];
    header.extend(link.to_ne_bytes());
    header.extend([0x80, 0, 0, 0]);
    header
}

/// `tcmsg`.
fn tc(link: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let words = [0, link, handle, parent, info];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn path(number: u32) -> PathBuf {
    format!("/run/netns/floor-{number}").into()
}

fn mac(first: u8, number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [first, 0xf1, a, b, c, d]
}

fn addresses(number: u32) -> (Ipv4Addr, Ipv6Addr) {
    let [_, _, high, low] = (number + 4).to_be_bytes();
    let ipv6 = Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 1, (number & 0xffff) as u16);
    (Ipv4Addr::new(10, 0, high, low), ipv6)
}

fn router_ipv4() -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 1)
}

fn router_ipv6() -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)
}
