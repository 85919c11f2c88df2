//! IMDSv2: the instance metadata of one instance, as EC2 has it at the moment of the question.

mod session;
mod tree;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::http::request::Parts;
use hyper::{Method, Response};

use self::session::Sessions;
use crate::ec2::{Ec2, Shared};
use crate::faults::{Fault, Faults, Which};
use crate::server::{Reply, Server};
use crate::state::Now;

/// Where a token is asked for.
const TOKEN: &str = "/latest/api/token";

/// Instance metadata on loopback. It stops when it is dropped.
#[derive(Debug)]
pub struct Imds {
    shared: Arc<Mutex<Metadata>>,
    /// Kept for its end.
    _server: Server,
}

/// What the server's thread and the test use.
#[derive(Debug)]
struct Metadata {
    instance_id: String,
    sessions: Sessions,
    faults: Faults<u16>,
    /// Values that stand in place of what EC2 has; `None`: there is none.
    own: BTreeMap<String, Option<String>>,
    latency: Duration,
    /// Method and path of each request, with its status; 0 for none.
    requests: Vec<(String, u16)>,
}

impl Imds {
    /// Serves the metadata of an instance of `ec2`.
    ///
    /// # Errors
    /// The server cannot be set up.
    pub fn start(
        ec2: &Ec2,
        instance_id: &str,
        listeners: impl IntoIterator<Item = TcpListener>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Mutex::new(Metadata {
            instance_id: instance_id.to_owned(),
            sessions: Sessions::default(),
            faults: Faults::none(),
            own: BTreeMap::new(),
            latency: Duration::ZERO,
            requests: Vec::new(),
        }));
        let (metadata, ec2) = (Arc::clone(&shared), ec2.shared());
        let answer = move |parts, _| answer(Arc::clone(&metadata), Arc::clone(&ec2), parts);
        let server = Server::start(
            listeners.into_iter().collect(),
            answer,
            std::future::ready(()),
        )?;
        Ok(Self {
            shared,
            _server: server,
        })
    }

    /// Sets a value, as `meta-data/placement/region`; `None` takes it away.
    pub fn set(&self, path: &str, value: Option<&str>) {
        lock(&self.shared)
            .own
            .insert(path.to_owned(), value.map(str::to_owned));
    }

    /// Lets a fault strike requests; an error is an HTTP status, and `which` is of a path as `/latest/api/token`.
    pub fn fault(&self, which: Which, fault: Fault<u16>) {
        lock(&self.shared).faults.set(which, fault);
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        lock(&self.shared).faults.clear();
    }

    /// How long a request takes.
    pub fn latency(&self, latency: Duration) {
        lock(&self.shared).latency = latency;
    }

    /// Makes every token that was given invalid.
    pub fn forget_tokens(&self) {
        lock(&self.shared).sessions = Sessions::default();
    }

    /// Requests until now, as `GET /latest/meta-data/mac`, with the status of each; 0 if it was not answered.
    #[must_use]
    pub fn requests(&self) -> Vec<(String, u16)> {
        lock(&self.shared).requests.clone()
    }
}

fn lock(shared: &Mutex<Metadata>) -> MutexGuard<'_, Metadata> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(shared: Arc<Mutex<Metadata>>, ec2: Arc<Shared>, parts: Parts) -> Reply {
    let path = parts.uri.path().to_owned();
    let (latency, fault) = {
        let mut metadata = lock(&shared);
        (metadata.latency, metadata.faults.strike(&path))
    };
    tokio::time::sleep(latency).await;
    let result = {
        let account = ec2.lock();
        let mut metadata = lock(&shared);
        let tree = || {
            let mut tree = tree::of(
                &account.state,
                &metadata.instance_id,
                &account.credentials,
                Now::read(),
            );
            tree.retain(|path, _| metadata.own.get(path).is_none_or(Option::is_some));
            let own = metadata.own.iter();
            tree.extend(own.filter_map(|(path, value)| Some((path.clone(), value.clone()?))));
            tree
        };
        match parts.method {
            Method::PUT if path == TOKEN => {
                metadata.sessions.open(&parts.headers, Now::read().instant)
            }
            Method::GET => {
                let allowed = metadata.sessions.check(&parts.headers, Now::read().instant);
                let found = || tree::read(&tree(), path.strip_prefix("/latest/")?);
                allowed.and_then(|()| found().ok_or(404))
            }
            _ => Err(405),
        }
    };
    let result = match fault {
        None => Some(result),
        Some(Fault::Error(status) | Fault::ErrorAfterEffect(status)) => Some(Err(status)),
        Some(Fault::LoseAnswer | Fault::Refuse) => None,
        Some(Fault::Delay(by)) => {
            tokio::time::sleep(by).await;
            Some(result)
        }
    };
    let status = result
        .as_ref()
        .map_or(0, |result| result.as_ref().err().copied().unwrap_or(200));
    lock(&shared)
        .requests
        .push((format!("{} {path}", parts.method), status));
    Some(response(status, result?, path == TOKEN, &parts))
}

fn response(
    status: u16,
    result: Result<String, u16>,
    is_token: bool,
    parts: &Parts,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(result.unwrap_or_default()));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(
        "content-type",
        hyper::header::HeaderValue::from_static("text/plain"),
    );
    if let Some(ttl) = parts
        .headers
        .get(session::TTL)
        .filter(|_| is_token && status == 200)
    {
        headers.insert(session::TTL, ttl.clone());
    }
    response
}

#[cfg(test)]
mod tests;
