//! Questions that are not the VPC's, handed on to other resolvers byte by byte, and their answers.
//!
//! Every question has a socket and a number of its own, so that nobody else's answer is taken for it (RFC 5452).

use crate::random::random_bytes;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::{PORT, Transport};

/// How long one forwarder has.
const PATIENCE: Duration = Duration::from_secs(2);
/// Forwarders that are asked, as by the C library.
const MOST: usize = 3;
/// Bytes of the largest packet over UDP.
const LARGEST: usize = 65_535;

/// Whom to ask, in order; none means that nobody knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarders(Vec<SocketAddr>);

/// The name servers of a `resolv.conf`, the host's own.
#[must_use]
pub fn host_forwarders(resolv_conf: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        let address: Option<IpAddr> = words.next().and_then(|word| word.parse().ok());
        address.filter(|_| is_server)
    };
    let servers = resolv_conf.lines().filter_map(server);
    servers
        .map(|address| SocketAddr::new(address, PORT))
        .collect()
}

impl Forwarders {
    /// The first few of `all`.
    #[must_use]
    pub fn new(mut all: Vec<SocketAddr>) -> Self {
        all.truncate(MOST);
        Self(all)
    }

    /// The answer to `question` of the first that gives one in time.
    pub async fn ask(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        for forwarder in &self.0 {
            let asked = ask(*forwarder, question, transport);
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%forwarder, %error, "ask a forwarder"),
                Err(_) => tracing::debug!(%forwarder, "no answer in time"),
            }
        }
        None
    }
}

async fn ask(forwarder: SocketAddr, question: &[u8], transport: Transport) -> io::Result<Vec<u8>> {
    let new: [u8; 2] = random_bytes()?;
    let mut sent = question.to_vec();
    let (Some(id), Some(own)) = (sent.get_mut(..2), question.get(..2)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    id.copy_from_slice(&new);
    let mut answer = match transport {
        Transport::Udp => over_udp(forwarder, &sent).await?,
        Transport::Tcp => over_tcp(forwarder, &sent).await?,
    };
    if let Some(id) = answer.get_mut(..2) {
        id.copy_from_slice(own);
    }
    Ok(answer)
}

async fn over_udp(forwarder: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match forwarder {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(forwarder).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let len = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..len).unwrap_or_default();
        if is_answer_to(question, answer) {
            return Ok(answer.to_vec());
        }
    }
}

async fn over_tcp(forwarder: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(forwarder).await?;
    let len = u16::try_from(question.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut framed = len.to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if is_answer_to(question, &answer) {
        Ok(answer)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Whether the number, and the name asked for, are those of the question.
fn is_answer_to(question: &[u8], answer: &[u8]) -> bool {
    const FIXED: usize = 12;
    let asked = end_of_question(question).and_then(|end| question.get(FIXED..end));
    let Some(asked) = asked else {
        return false;
    };
    let is_response = answer.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let repeated = answer.get(FIXED..FIXED + asked.len());
    is_response
        && answer.get(..2) == question.get(..2)
        && repeated.is_some_and(|repeated| repeated.eq_ignore_ascii_case(asked))
}

/// Where the first question ends: its labels, type and class. Nobody abbreviates a first name.
fn end_of_question(message: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 5),
            len if len < 64 => at += 1 + len,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x04test\0\0\x01\0\x01";

    #[test]
    fn an_answer_has_the_questions_number_and_name() {
        let mut answer = QUESTION.to_vec();
        answer[2] |= 0x80;
        assert!(is_answer_to(QUESTION, &answer));
        answer[13] = b'W';
        assert!(is_answer_to(QUESTION, &answer), "letters are as good large");
        for (at, byte) in [(0, 0), (1, 0), (2, 1), (13, b'x'), (18, b'x'), (24, 28)] {
            let mut other = answer.clone();
            other[at] = byte;
            assert!(!is_answer_to(QUESTION, &other), "{at}");
        }
        assert!(!is_answer_to(QUESTION, &answer[..20]));
        assert!(!is_answer_to(b"short", &answer));
    }

    #[test]
    fn forwarders_of_the_host_are_its_name_servers() {
        let text = "# nameserver 192.0.2.9\nsearch a\nnameserver 127.0.0.53\n nameserver\tfe80::1 # x\nnameserver x\n";
        let found: Vec<_> = host_forwarders(text)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["127.0.0.53:53", "[fe80::1]:53"]);
    }
}
