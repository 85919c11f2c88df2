//! One question and its answer over real sockets, between two namespaces.
//!
//! Each function fails if the answer does not come; what that means is the caller's to say.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use branchline::netns::Netns;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::packet::checksum;

/// How long an answer that shall come may take; emulated kernels are slow.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for an answer that shall not come. Real ones take well under 1 ms.
pub const SHORT: Duration = Duration::from_millis(300);

/// Binds a socket. A program that another test starts meanwhile holds the last socket's file
/// descriptor for a moment, between its fork and its exec: then this waits.
fn bind<T: Send>(to: &Netns, bind: impl Fn() -> io::Result<T> + Sync) -> io::Result<T> {
    let patience = Instant::now() + PATIENCE;
    loop {
        match inside(to, &bind) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < patience => {
                thread::sleep(Duration::from_millis(10));
            }
            socket => return socket,
        }
    }
}

fn listen(to: &Netns, at: SocketAddr) -> io::Result<TcpListener> {
    bind(to, || TcpListener::bind(at))
}

/// A socket for datagrams at `at`.
///
/// # Errors
/// The address is not there, or in use for long.
pub fn udp_at(netns: &Netns, at: SocketAddr) -> io::Result<UdpSocket> {
    bind(netns, || UdpSocket::bind(at))
}

/// Connects to a listener at `at`, asks and is answered; returns who asked, as the listener sees it.
///
/// # Errors
/// `TimedOut` or `WouldBlock` if no connection or answer comes within `wait`.
pub fn tcp(from: &Netns, to: &Netns, at: SocketAddr, wait: Duration) -> io::Result<SocketAddr> {
    let listener = listen(to, at)?;
    let mut client = inside(from, || TcpStream::connect_timeout(&at, wait))?;
    let (mut server, peer) = listener.accept()?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(wait))?;
    }
    let mut question = [0; 4];
    client.write_all(b"ping")?;
    server.read_exact(&mut question)?;
    server.write_all(&question)?;
    let mut answer = [0; 4];
    client.read_exact(&mut answer)?;
    same(&answer, b"ping")?;
    Ok(peer)
}

/// Sends a datagram of `len` bytes to `at`, which is sent back; returns who sent it, as seen there.
///
/// # Errors
/// `WouldBlock` if either does not arrive within `wait`.
pub fn udp(
    from: &Netns,
    to: &Netns,
    at: SocketAddr,
    len: usize,
    wait: Duration,
) -> io::Result<SocketAddr> {
    let server = udp_at(to, at)?;
    let client = inside(from, || UdpSocket::bind(unspecified(at.ip())))?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(wait))?;
    }
    let question = pattern(len);
    let mut buffer = vec![0; 1 << 16];
    client.send_to(&question, at)?;
    let (len, peer) = server.recv_from(&mut buffer)?;
    same(&buffer[..len], &question)?;
    server.send_to(&question, peer)?;
    let (len, answerer) = client.recv_from(&mut buffer)?;
    same(&buffer[..len], &question)?;
    if answerer != at {
        return Err(io::Error::other(format!("{answerer} answered, not {at}")));
    }
    Ok(peer)
}

/// Sends an echo request with `len` bytes of data to `to`; its stack answers.
///
/// # Errors
/// `TimedOut` if no answer comes within `wait`.
pub fn ping(from: &Netns, to: IpAddr, len: usize, wait: Duration) -> io::Result<()> {
    let (family, protocol, request, reply, header) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0, 20),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129, 0),
    };
    let socket = inside(from, || {
        let flags = SockFlag::SOCK_CLOEXEC;
        Ok(UdpSocket::from(socket(
            family,
            SockType::Raw,
            flags,
            protocol,
        )?))
    })?;
    let mut message = vec![request, 0, 0, 0, 0xbe, 0xef, 0, 1];
    message.extend(pattern(len));
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    socket.send_to(&message, SocketAddr::new(to, 0))?;
    let started = Instant::now();
    let mut buffer = vec![0; 1 << 16];
    while started.elapsed() < wait {
        socket.set_read_timeout(Some(wait))?;
        let (received, answerer) = socket.recv_from(&mut buffer)?;
        let answer = &buffer[header..received];
        if answerer.ip() == to && answer[0] == reply && answer[4..] == message[4..] {
            return Ok(());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Connects to `at` and sends `len` bytes, each checked where it arrives; how long it took.
///
/// # Errors
/// It cannot connect, or a byte is wrong or missing.
pub fn transfer(from: &Netns, to: &Netns, at: SocketAddr, len: usize) -> io::Result<Duration> {
    let (client, server) = connection(from, to, at)?;
    stream(client, server, len)
}

/// As [`transfer`], with the bytes sent by the end that listens.
///
/// # Errors
/// As [`transfer`].
pub fn fetch(from: &Netns, to: &Netns, at: SocketAddr, len: usize) -> io::Result<Duration> {
    let (client, server) = connection(from, to, at)?;
    stream(server, client, len)
}

/// The two ends of a connection to `at`.
///
/// # Errors
/// It cannot connect.
pub fn connection(from: &Netns, to: &Netns, at: SocketAddr) -> io::Result<(TcpStream, TcpStream)> {
    let listener = listen(to, at)?;
    let client = inside(from, || TcpStream::connect_timeout(&at, PATIENCE))?;
    let (server, _) = listener.accept()?;
    Ok((client, server))
}

fn stream(mut client: TcpStream, mut server: TcpStream, len: usize) -> io::Result<Duration> {
    const CHUNK: usize = 251 * 1000;
    server.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let started = Instant::now();
    let expected = pattern(CHUNK);
    thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let chunk = pattern(CHUNK);
            let mut left = len;
            while left > 0 {
                let some = left.min(CHUNK);
                client.write_all(&chunk[..some])?;
                left -= some;
            }
            io::Result::Ok(())
        });
        let mut left = len;
        let mut chunk = vec![0; CHUNK];
        while left > 0 {
            let some = left.min(CHUNK);
            server.read_exact(&mut chunk[..some])?;
            same(&chunk[..some], &expected[..some])?;
            left -= some;
        }
        if server.read(&mut chunk)? != 0 {
            return Err(io::Error::other("more arrives than was sent"));
        }
        sending
            .join()
            .map_err(|_| io::Error::other("the sender ended"))?
    })?;
    Ok(started.elapsed())
}

/// Whether the answer did not come in time, which is all that a denied sender sees.
#[must_use]
pub fn is_silence<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    ))
}

/// `len` bytes that do not repeat at any power of two.
#[must_use]
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

/// The address that a socket of the same family binds to for any.
#[must_use]
pub fn unspecified(like: IpAddr) -> SocketAddr {
    match like {
        IpAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        IpAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
    }
}

fn inside<T: Send>(netns: &Netns, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    netns.run(work).map_err(io::Error::other)?
}

fn same(found: &[u8], expected: &[u8]) -> io::Result<()> {
    if found == expected {
        return Ok(());
    }
    let text = format!("{} bytes arrived and are not those sent", found.len());
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}
