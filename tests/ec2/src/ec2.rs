//! The stand-in as a test holds it: started, told what to do, asked what happened.

use std::io;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::http::request::Parts;
use hyper::{Method, Response};
use tokio::sync::Notify;

use crate::answer::failure;
use crate::buckets::Throttle;
use crate::call::Call;
use crate::credentials::{Caller, Credentials};
use crate::error::Ec2Error;
use crate::exchange::{Account, Answer};
use crate::faults::{Fault, Which};
use crate::server::{Reply, Server};
use crate::state::{Event, Now, Settings, State};
use crate::world::World;

/// EC2's API for one account in one region. It stops when it is dropped.
#[derive(Debug)]
pub struct Ec2 {
    shared: Arc<Shared>,
    /// Kept for its end.
    _server: Server,
}

/// What the server's thread and the test use.
#[derive(Debug)]
pub(crate) struct Shared {
    account: Mutex<Account>,
    /// Something may be due earlier than before.
    changed: Notify,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Account")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Ec2 {
    /// Serves `world` on listeners that may be in any network namespace.
    ///
    /// # Errors
    /// The server cannot be set up.
    pub fn start(
        world: World,
        listeners: impl IntoIterator<Item = TcpListener>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            account: Mutex::new(Account::new(world.into_state(), Now::read())),
            changed: Notify::new(),
        });
        let for_requests = Arc::clone(&shared);
        let answer = move |parts, body| answer(Arc::clone(&for_requests), parts, body);
        let server = Server::start(
            listeners.into_iter().collect(),
            answer,
            tick(Arc::clone(&shared)),
        )?;
        Ok(Self {
            shared,
            _server: server,
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The account as it is now.
    #[must_use]
    pub fn state(&self) -> State {
        let mut account = self.shared.lock();
        account.advance(Now::read());
        account.state.clone()
    }

    /// Changes the account behind EC2's back, as another client or an operator would.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut account = self.shared.lock();
        let now = Now::read();
        account.advance(now);
        let result = change(&mut account.state);
        account.changed(now);
        drop(account);
        self.shared.changed.notify_one();
        result
    }

    /// Changes delays and quotas.
    pub fn settings(&self, change: impl FnOnce(&mut Settings)) {
        self.change(|state| change(&mut state.settings));
    }

    /// What happens to ENIs from now on. Nothing is lost, and nobody waits for the receiver.
    #[must_use]
    pub fn events(&self) -> Receiver<Event> {
        let (sender, receiver) = channel();
        self.shared.lock().listeners.push(sender);
        receiver
    }

    /// Lets `fault` strike the calls that `which` says.
    pub fn fault(&self, which: Which, fault: Fault) {
        self.shared.lock().faults.set(which, fault);
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// How many faults may still come: 0 once each has struck.
    #[must_use]
    pub fn faults_left(&self) -> usize {
        self.shared.lock().faults.left()
    }

    /// Throttles from now on, with full buckets.
    pub fn throttle(&self, throttle: Throttle) {
        self.shared.lock().throttle = throttle;
    }

    /// How long a round trip takes.
    pub fn latency(&self, latency: Duration) {
        self.shared.lock().latency = latency;
    }

    /// Takes the permission for an operation away.
    pub fn deny(&self, operation: &str) {
        self.shared.lock().denied.insert(operation.to_owned());
    }

    /// Gives it back.
    pub fn allow(&self, operation: &str) {
        self.shared.lock().denied.remove(operation);
    }

    /// The credentials that instance metadata hands out, whose session token is asked for.
    pub fn credentials(&self, credentials: Credentials) {
        self.shared.lock().credentials = credentials;
    }

    /// All calls until now, or since the last [`Ec2::take_calls`].
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// All calls since the last time, which are forgotten.
    #[must_use]
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.shared.lock().calls)
    }

    /// How often an operation was called.
    #[must_use]
    pub fn count(&self, operation: &str) -> usize {
        let account = self.shared.lock();
        let of_it = account
            .calls
            .iter()
            .filter(|call| call.operation == operation);
        of_it.count()
    }
}

impl Shared {
    /// The account, also after a panic elsewhere: each change of it is whole.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a request, half of the latency before it takes effect and half after.
async fn answer(shared: Arc<Shared>, parts: Parts, body: Bytes) -> Reply {
    let latency = shared.lock().latency;
    tokio::time::sleep(latency / 2).await;
    if let Some(error) = wrong_http(&parts) {
        let body = failure("00000000-0000-4000-8000-000000000000", &error);
        return Some(response(error.status(), "", body));
    }
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let caller = Caller {
        authorization: header("authorization"),
        security_token: header("x-amz-security-token"),
    };
    let reply = shared.lock().exchange(&body, caller, Now::read());
    shared.changed.notify_one();
    tokio::time::sleep(latency / 2 + reply.delay).await;
    let Answer {
        status,
        request_id,
        body,
    } = reply.answer?;
    Some(response(status, &request_id, body))
}

fn wrong_http(parts: &Parts) -> Option<Ec2Error> {
    let content_type = parts
        .headers
        .get("content-type")
        .and_then(|value| value.to_str().ok());
    let form = content_type.is_some_and(|of| of.starts_with("application/x-www-form-urlencoded"));
    let wrong = parts.method != Method::POST || parts.uri.path() != "/" || !form;
    wrong.then(|| {
        Ec2Error::new(
            "InvalidRequest",
            "The stand-in takes forms by POST to / only",
        )
    })
}

fn response(status: u16, request_id: &str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    let headers = response.headers_mut();
    let xml = hyper::header::HeaderValue::from_static("text/xml;charset=UTF-8");
    headers.insert(hyper::header::CONTENT_TYPE, xml);
    if let Ok(id) = request_id.parse() {
        headers.insert("x-amzn-requestid", id);
    }
    response
}

/// Lets time pass: does what is due when it is.
async fn tick(shared: Arc<Shared>) {
    loop {
        let due = shared.lock().state.next_due();
        let changed = shared.changed.notified();
        match due {
            None => changed.await,
            Some(due) => {
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = changed => {}
                }
                shared.lock().advance(Now::read());
            }
        }
    }
}
