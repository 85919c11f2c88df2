//! HTTP/1.1 on listeners that somebody else made, on a thread with a runtime of its own.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// What a request gets; `None` closes its connection.
pub(crate) type Reply = Option<Response<Full<Bytes>>>;

/// Why a connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer, as told")]
struct Silence;

/// A running server. It stops, and closes every connection, when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves requests by `answer`, and runs `beside` next to it.
    ///
    /// # Errors
    /// A listener or the thread cannot be set up.
    pub(crate) fn start<A, F>(
        listeners: Vec<TcpListener>,
        answer: A,
        beside: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self>
    where
        A: Fn(Parts, Bytes) -> F + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listeners = {
            let _guard = runtime.enter();
            let adopt = |listener: TcpListener| {
                listener.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(listener)
            };
            listeners
                .into_iter()
                .map(adopt)
                .collect::<io::Result<Vec<_>>>()?
        };
        let (stop, stopped) = oneshot::channel();
        let answer = Arc::new(answer);
        let thread = std::thread::Builder::new()
            .name("ec2-stand-in".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    for listener in listeners {
                        tokio::spawn(accept(listener, Arc::clone(&answer)));
                    }
                    tokio::spawn(beside);
                    // Nothing is ever sent: the channel closes when the server is dropped.
                    stopped.await.err()
                });
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the stand-in's thread panicked");
        }
    }
}

async fn accept<A, F>(listener: tokio::net::TcpListener, answer: Arc<A>)
where
    A: Fn(Parts, Bytes) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    // A connection that was gone before it was taken is an error of its own only.
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&answer)));
        }
    }
}

/// Serves one connection. How it ends is the client's affair.
async fn serve<A, F>(stream: TcpStream, answer: Arc<A>)
where
    A: Fn(Parts, Bytes) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = Arc::clone(&answer);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|_| Silence)?.to_bytes();
            answer(parts, body).await.ok_or(Silence)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    drop(connection.await);
}
