//! The VPC's resolvers, at base+2, 169.254.169.253 and fd00:ec2::253: UDP and TCP for tasks of this host.
//!
//! Names and addresses of the VPC are answered here; all else is handed on to the forwarders as it came, and back.
//! Whoever is no task gets no answer, and nothing is kept from one question to the next.

mod answer;
mod forward;
mod zone;

pub use answer::{Reply, failed, reply};
pub use forward::{Forwarders, host_forwarders};
pub use zone::Zone;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::serve::Listener;
use hickory_proto::op::{Message, ResponseCode};
use ipnet::IpNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;

use crate::services::{Connections, Tenant};

/// Where it listens (RFC 1035 section 4.2).
pub const PORT: u16 = 53;
/// Questions that wait for a forwarder at once, of all tasks.
const MOST_WAITING: usize = 1_024;
/// TCP connections that are served at once, of all tasks.
const MOST_CONNECTIONS: usize = 1_024;
/// Bytes of the largest question that is read: no name and no options are longer.
const LARGEST: usize = 4_096;
/// How long a TCP client may think between two questions (RFC 7766 section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// What an error of a socket waits for.
const PAUSE: Duration = Duration::from_millis(100);

/// What the resolvers answer from.
#[derive(Debug)]
pub struct Resolver {
    zone: Zone,
    forwarders: Forwarders,
    waiting: Arc<Semaphore>,
}

/// How a question came, and so how it is handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In one packet.
    Udp,
    /// Over a connection.
    Tcp,
}

impl Resolver {
    /// Of these names, with these forwarders.
    #[must_use]
    pub fn new(zone: Zone, forwarders: Forwarders) -> Self {
        Self {
            zone,
            forwarders,
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
        }
    }

    /// The VPC has these networks from now on.
    pub fn set_networks(&self, networks: Vec<IpNet>) {
        self.zone.set_networks(networks);
    }

    /// Who asks, if it may ask now.
    fn admit(&self, peer: SocketAddr) -> Option<Arc<Tenant>> {
        let tenant = self.zone.tenants().at(peer.ip())?;
        (tenant.has_resolver && tenant.dns.take(Instant::now())).then_some(tenant)
    }

    /// The answer to `question`; `None` to what is none.
    async fn answer(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        match reply(&self.zone, question, transport) {
            Reply::Silence => None,
            Reply::Answer(bytes) => Some(bytes),
            Reply::Forward(query) => Some(self.hand_on(&query, question, transport).await),
        }
    }

    async fn hand_on(&self, query: &Message, question: &[u8], transport: Transport) -> Vec<u8> {
        let found = self.forwarders.ask(question, transport).await;
        match found {
            Some(answer) => answer::fitting(query, answer, transport),
            None => failed(query, ResponseCode::ServFail),
        }
    }
}

/// Answers over UDP until the agent ends.
///
/// # Errors
/// The socket cannot be used.
pub async fn serve_udp(resolver: Arc<Resolver>, socket: std::net::UdpSocket) -> io::Result<()> {
    let socket = Arc::new(UdpSocket::from_std(socket)?);
    let mut buffer = vec![0; LARGEST];
    loop {
        let (len, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // A task that is gone may be told of by the kernel here.
            Err(error) => {
                tracing::debug!(%error, "receive a question");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let question = buffer.get(..len).unwrap_or_default();
        if resolver.admit(peer).is_none() {
            continue;
        }
        match reply(&resolver.zone, question, Transport::Udp) {
            Reply::Silence => {}
            Reply::Answer(answer) => send(&socket, &answer, peer).await,
            Reply::Forward(query) => {
                // Who is too many asks again.
                let Ok(place) = Arc::clone(&resolver.waiting).try_acquire_owned() else {
                    continue;
                };
                let (resolver, socket) = (Arc::clone(&resolver), Arc::clone(&socket));
                let question = question.to_vec();
                tokio::spawn(async move {
                    let answer = resolver.hand_on(&query, &question, Transport::Udp).await;
                    send(&socket, &answer, peer).await;
                    drop(place);
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(answer, peer).await {
        tracing::debug!(%error, %peer, "send an answer");
    }
}

/// Answers over TCP until the agent ends.
///
/// # Errors
/// The socket cannot be used.
pub async fn serve_tcp(resolver: Arc<Resolver>, listener: std::net::TcpListener) -> io::Result<()> {
    let tenants = resolver.zone.tenants().clone();
    let mut connections = Connections::new(TcpListener::from_std(listener)?, tenants);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let (mut connection, peer) = connections.accept().await;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let resolver = Arc::clone(&resolver);
        tokio::spawn(async move {
            // The client has gone, or said what is no question: its connection ends.
            if let Err(error) = converse(&resolver, &mut connection, peer).await {
                tracing::debug!(%error, %peer, "a DNS connection ended");
            }
            drop(place);
        });
    }
}

/// One question after the other, each with its length before it (RFC 1035 section 4.2.2).
async fn converse(
    resolver: &Resolver,
    connection: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    peer: SocketAddr,
) -> io::Result<()> {
    loop {
        let len = tokio::time::timeout(IDLE, connection.read_u16()).await??;
        let len = usize::from(len);
        if len > LARGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut question = vec![0; len];
        tokio::time::timeout(IDLE, connection.read_exact(&mut question)).await??;
        if resolver.admit(peer).is_none() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let Ok(_place) = resolver.waiting.try_acquire() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let Some(answer) = resolver.answer(&question, Transport::Tcp).await else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let len = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        connection.write_u16(len).await?;
        connection.write_all(&answer).await?;
        connection.flush().await?;
    }
}
