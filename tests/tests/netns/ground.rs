//! What the tests of this tier stand on: namespaces that go away, sockets in
//! them, and programs of a few instructions. Asserts nothing about branchline.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::SchedClassifier;
use branchline::link::{Mac, VethEnd, VethPair};
use branchline::netlink::Netlink;
use branchline::netns::{Netns, Origin};
use branchline::task_network::TaskNetwork;

/// The router of such tasks.
pub(crate) const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
pub(crate) const SHORT: Duration = Duration::from_millis(700);

/// Namespaces of one test under one prefix, removed at its end.
pub(crate) struct Ground {
    prefix: String,
    made: Vec<PathBuf>,
}

impl Ground {
    pub(crate) fn new(test: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "the netns tier needs root: run `cargo xtask test netns` as root"
        );
        let prefix = format!("/run/netns/edges-{}-{test}", std::process::id());
        Self {
            prefix,
            made: Vec::new(),
        }
    }

    /// A path of this test's own, removed at its end if it is a namespace.
    pub(crate) fn path(&mut self, name: &str) -> PathBuf {
        let path = PathBuf::from(format!("{}-{name}", self.prefix));
        self.made.push(path.clone());
        path
    }

    pub(crate) fn netns(&mut self, name: &str) -> Netns {
        let (netns, origin) = Netns::create(&self.path(name)).unwrap();
        assert_eq!(origin, Origin::Created);
        netns
    }

    pub(crate) fn netlink(&mut self, name: &str) -> Netlink {
        Netlink::open(&self.netns(name)).unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for path in &self.made {
            if let Err(error) = Netns::remove(path) {
                eprintln!("{error}");
            }
        }
    }
}

/// What task number `n` of one subnet has.
pub(crate) fn task(n: u8) -> TaskNetwork {
    let ipv4 = format!("10.0.1.{n}/24").parse().unwrap();
    let ipv6 = format!("fd00:1::{n}/64").parse().unwrap();
    TaskNetwork {
        link: "eth0".to_owned(),
        mac: Mac([2, 0, 0, 0, 1, n]),
        mtu: 9001,
        router_mac: Some(ROUTER),
        ipv4: Some((ipv4, "10.0.1.1".parse().unwrap())),
        ipv6: Some((ipv6, "fd00:1::1".parse().unwrap())),
        metadata_source: None,
    }
}

pub(crate) fn pair(near: &str, far: &str, far_mac: Option<Mac>, mtu: u32) -> VethPair {
    let end = |name: &str, mac| VethEnd {
        name: name.to_owned(),
        mac,
    };
    VethPair {
        near: end(near, None),
        far: end(far, far_mac),
        mtu,
    }
}

/// Sends a datagram from one namespace to another and back; the sender's address as seen there.
pub(crate) fn udp_echo(from: &Netns, to: &Netns, address: IpAddr) -> io::Result<IpAddr> {
    let any = SocketAddr::new(unspecified(address), 0);
    let server = to
        .run(|| UdpSocket::bind(SocketAddr::new(address, 0)))
        .unwrap()?;
    let client = from.run(|| UdpSocket::bind(any)).unwrap()?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let mut buffer = [0; 16];
    client.send_to(b"ping", server.local_addr()?)?;
    let (len, peer) = server.recv_from(&mut buffer)?;
    server.send_to(&buffer[..len], peer)?;
    let (len, _) = client.recv_from(&mut buffer)?;
    assert_eq!(&buffer[..len], b"ping");
    Ok(peer.ip())
}

/// Connects from one namespace to a listener in another, says and hears a
/// word; the client's address as the listener sees it.
pub(crate) fn tcp_echo(
    from: &Netns,
    to: &Netns,
    address: IpAddr,
    wait: Duration,
) -> io::Result<IpAddr> {
    let any = SocketAddr::new(unspecified(address), 0);
    let listener = to.run(|| TcpListener::bind(any)).unwrap()?;
    let target = SocketAddr::new(address, listener.local_addr()?.port());
    let mut client = from
        .run(|| TcpStream::connect_timeout(&target, wait))
        .unwrap()?;
    let (mut server, peer) = listener.accept()?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let mut buffer = [0; 4];
    client.write_all(b"ping")?;
    server.read_exact(&mut buffer)?;
    server.write_all(&buffer)?;
    client.read_exact(&mut buffer)?;
    assert_eq!(&buffer, b"ping");
    Ok(peer.ip())
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::from([0; 4]),
        IpAddr::V6(_) => IpAddr::from([0; 16]),
    }
}

/// What a command prints inside a namespace.
pub(crate) fn output(netns: &Netns, program: &str, arguments: &[&str]) -> String {
    let output = netns.output(Command::new(program).args(arguments)).unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A loaded program that hands every frame to the TC code `code`.
pub(crate) fn returning(code: u8) -> Ebpf {
    // mov r0, code; exit
    load(&[[0xb7, 0, 0, 0, code, 0, 0, 0], EXIT])
}

/// A loaded program that sends every frame out by the link `index`.
pub(crate) fn redirecting(index: u32) -> Ebpf {
    let [a, b, c, d] = index.to_le_bytes();
    // mov r1, index; mov r2, 0; call bpf_redirect; exit
    load(&[
        [0xb7, 1, 0, 0, a, b, c, d],
        [0xb7, 2, 0, 0, 0, 0, 0, 0],
        [0x85, 0, 0, 0, 23, 0, 0, 0],
        EXIT,
    ])
}

pub(crate) fn program(object: &Ebpf) -> &SchedClassifier {
    object.program("probe").unwrap().try_into().unwrap()
}

const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

fn load(instructions: &[[u8; 8]]) -> Ebpf {
    let mut object = Ebpf::load(&elf(&instructions.concat())).unwrap();
    let program: &mut SchedClassifier = object.program_mut("probe").unwrap().try_into().unwrap();
    program.load().unwrap();
    object
}

/// A section's name, type, flags, content, link, info and entry length.
type Section<'a> = (&'a [u8], u32, u64, &'a [u8], u32, u32, u64);

/// A relocatable ELF object with the one function `probe` in section `classifier`.
fn elf(code: &[u8]) -> Vec<u8> {
    const NAMES: &[u8] = b"\0probe\0classifier\0license\0.strtab\0.symtab\0";
    const LICENSE: &[u8] = b"GPL\0";
    const HEADER_LEN: u64 = 64;
    let offset_of = |name: &[u8]| {
        let at = NAMES.windows(name.len()).position(|window| window == name);
        u32::try_from(at.unwrap()).unwrap()
    };
    let len = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap();
    let mut symbols = vec![0; 24];
    symbols.extend(offset_of(b"probe").to_le_bytes());
    // A global function in section 2.
    symbols.extend([0x12, 0, 2, 0]);
    symbols.extend([0; 8]);
    symbols.extend(len(code).to_le_bytes());

    let mut body = Vec::new();
    let mut sections = vec![0; 64];
    let rows: [Section<'_>; 4] = [
        (b".strtab", 3, 0, NAMES, 0, 0, 0),
        (b"classifier", 1, 6, code, 0, 0, 0),
        (b"license", 1, 3, LICENSE, 0, 0, 0),
        (b".symtab", 2, 0, &symbols, 1, 1, 24),
    ];
    for (name, kind, flags, content, link, info, entry_len) in rows {
        body.resize(body.len().next_multiple_of(8), 0);
        sections.extend(offset_of(name).to_le_bytes());
        sections.extend(kind.to_le_bytes());
        for word in [flags, 0, HEADER_LEN + len(&body), len(content)] {
            sections.extend(word.to_le_bytes());
        }
        sections.extend(link.to_le_bytes());
        sections.extend(info.to_le_bytes());
        sections.extend(8u64.to_le_bytes());
        sections.extend(entry_len.to_le_bytes());
        body.extend(content);
    }
    body.resize(body.len().next_multiple_of(8), 0);

    let mut object = b"\x7fELF\x02\x01\x01".to_vec();
    object.resize(16, 0);
    object.extend([1, 0, 247, 0, 1, 0, 0, 0]);
    for word in [0, 0, HEADER_LEN + len(&body)] {
        object.extend(word.to_le_bytes());
    }
    object.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 5, 0, 1, 0]);
    object.extend(body);
    object.extend(sections);
    object
}
