//! Makes the attempts, all at once, and says what came of each.
//!
//! Never knows what is expected.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use branchline::netns::Netns;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::attempts::{Attempt, Traffic};
use crate::echo::Echo;
use crate::servers::{SEEN_AS, page};

/// How long silence must last to be a denial; TCP repeats its SYN after one second.
const SILENCE: Duration = Duration::from_millis(800);
/// How long an exchange may take once it is connected.
const EXCHANGE: Duration = Duration::from_secs(5);

/// One family's end of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) netns: Arc<Netns>,
    pub(crate) address: IpAddr,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The right answer.
    Complete {
        /// It, for the reader.
        text: &'static str,
        /// Where the attempt came from, if the answer says so.
        seen_as: Option<IpAddr>,
        /// What both sides said above TCP.
        payload: Payload,
    },
    /// None in time.
    Silence,
    /// Another one: it was reached, or something is broken.
    Wrong(String),
}

/// Bytes above TCP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// An attempt that was made.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) attempt: &'static Attempt,
    /// As the source knows itself.
    pub(crate) source: SocketAddr,
    pub(crate) target: SocketAddr,
    pub(crate) answer: Answer,
    /// Whether TCP may have sent more than was said, at either end.
    pub(crate) has_repeats: bool,
}

/// Makes one attempt.
///
/// # Errors
/// It could not be made: no socket, no route. What comes of it is no error.
pub(crate) async fn make(attempt: &'static Attempt, from: End, to: IpAddr) -> Result<Outcome> {
    let target = SocketAddr::new(to, attempt.port);
    let (source, answer) = match attempt.traffic {
        Traffic::Ping => ping(&from, to).await?,
        Traffic::Http | Traffic::Store | Traffic::Connect => {
            tcp(attempt.traffic, &from, target).await?
        }
    };
    Ok(Outcome {
        attempt,
        source,
        target,
        answer,
        has_repeats: false,
    })
}

type Made = (SocketAddr, Answer);

async fn ping(from: &End, to: IpAddr) -> Result<Made> {
    let echo = Echo::open(&from.netns, to).await?;
    let answer = match timeout(SILENCE, echo.exchange()).await {
        Ok(Ok(())) => Answer::Complete {
            text: "echo reply",
            seen_as: None,
            payload: Payload::default(),
        },
        Ok(Err(error)) => Answer::Wrong(error.to_string()),
        Err(_) => Answer::Silence,
    };
    Ok((SocketAddr::new(from.address, 0), answer))
}

async fn tcp(traffic: Traffic, from: &End, target: SocketAddr) -> Result<Made> {
    let socket = from.netns.run(|| match target {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    })??;
    socket
        .bind(SocketAddr::new(from.address, 0))
        .with_context(|| format!("bind to {} in {}", from.address, from.netns.name()))?;
    let source = socket.local_addr()?;
    let answer = match timeout(SILENCE, socket.connect(target)).await {
        Ok(Ok(stream)) => say(traffic, stream, target).await,
        Ok(Err(error)) => Answer::Wrong(error.to_string()),
        Err(_) => Answer::Silence,
    };
    Ok((source, answer))
}

/// Says over a connection what belongs to `traffic`.
async fn say(traffic: Traffic, stream: TcpStream, target: SocketAddr) -> Answer {
    let said = Arc::new(Said::default());
    let stream = Counted {
        stream,
        said: Arc::clone(&said),
    };
    let exchange = async {
        match traffic {
            Traffic::Http => http(stream, target).await.map(Some),
            Traffic::Store => store(stream).await.map(|()| None),
            Traffic::Connect | Traffic::Ping => Ok(None),
        }
    };
    match timeout(EXCHANGE, exchange).await {
        Ok(Ok(seen_as)) => Answer::Complete {
            text: match traffic {
                Traffic::Http => "200 OK",
                Traffic::Store => "PUT and GET answered",
                Traffic::Connect | Traffic::Ping => "connected",
            },
            seen_as,
            payload: said.payload(),
        },
        Ok(Err(error)) => Answer::Wrong(format!("{error:#}")),
        Err(_) => Answer::Wrong("connected, but never answered".to_owned()),
    }
}

/// Gets the page; returns the client's address as the server sees it.
async fn http(stream: Counted, target: SocketAddr) -> Result<IpAddr> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/")
        .header("host", target.to_string())
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let seen_as = response.headers().get(SEEN_AS).cloned();
    let body = response.into_body().collect().await?.to_bytes();
    connection.await??;
    ensure!(status == StatusCode::OK, "HTTP {status}");
    ensure!(
        body == page().as_bytes(),
        "HTTP {status} with another page of {} bytes",
        body.len()
    );
    let seen_as = seen_as.context("the answer does not say where the request came from")?;
    Ok(seen_as.to_str()?.parse()?)
}

/// Puts a value and gets it back.
async fn store(stream: Counted) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let mut answers = Vec::new();
    for line in ["PUT colour blue\n", "GET colour\n"] {
        stream.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        answers.push(answer);
    }
    ensure!(answers == ["OK\n", "VALUE blue\n"], "it said {answers:?}");
    // Its end of the connection closes after ours.
    stream.shutdown().await?;
    let mut rest = String::new();
    stream.read_line(&mut rest).await?;
    ensure!(rest.is_empty(), "it went on with {rest:?}");
    Ok(())
}

/// Bytes that went through a [`Counted`] stream.
#[derive(Default)]
struct Said {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Said {
    fn payload(&self) -> Payload {
        Payload {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }
}

/// A TCP stream whose bytes are counted where the application hands them over: what the flow
/// records are held against.
struct Counted {
    stream: TcpStream,
    said: Arc<Said>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = (buffer.filled().len() - before) as u64;
        self.said.received.fetch_add(read, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.said.sent.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
