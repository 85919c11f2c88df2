//! One call to EC2: in its turn, again where that is safe, up to a deadline.

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::config::{Region, SharedHttpClient};
use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use aws_smithy_http_client::tls;
use tokio::time::Instant;

use crate::error::{Class, Error};
use crate::patience::back_off;
use crate::restraint::{Kind, Restraint};
use crate::roots::{nobody, root_certificates};
use crate::settings::{ATTEMPT, CONNECT, Settings};
use crate::shared::Shared;

/// A call of EC2's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Action {
    /// The API's name.
    pub(crate) name: &'static str,
    /// Whose bucket it draws from.
    pub(crate) kind: Kind,
    /// Whether a second one does no harm if the first was carried out: it only asks, has a client token, or sets
    /// what is set already.
    pub(crate) is_idempotent: bool,
}

/// Told of each attempt of a call: its action, how long it took, and what EC2 answered.
pub type Observer = Arc<dyn Fn(&'static str, Duration, Result<(), Class>) + Send + Sync>;

/// A client of EC2.
#[derive(Clone)]
pub struct Ec2 {
    pub(crate) sdk: Client,
    restraint: Arc<Mutex<Restraint>>,
    started: Instant,
    deadline: Duration,
    observer: Observer,
    pub(crate) shared: Arc<Shared>,
}

impl Debug for Ec2 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Ec2").finish_non_exhaustive()
    }
}

impl Ec2 {
    /// A client with the credentials of the SDK's own chain: environment, profile, web identity, container, instance.
    /// Asks nothing of EC2 yet.
    pub async fn new(settings: &Settings, observer: Observer) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(ATTEMPT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http_client())
            .region(Region::new(settings.region.clone()))
            // Repeats are ours: each takes its turn in the bucket.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(url) = &settings.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        Self {
            sdk: Client::new(&loader.load().await),
            restraint: Arc::new(Mutex::new(Restraint::new(settings.share))),
            started: Instant::now(),
            deadline: settings.deadline,
            observer,
            shared: Arc::new(Shared::new()),
        }
    }

    /// Sends what `attempt` makes until it succeeds, cannot, or the deadline has passed.
    pub(crate) async fn call<T, E, F>(
        &self,
        action: Action,
        attempt: impl Fn() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + RequestId + std::error::Error + Send + Sync + 'static,
    {
        let deadline = Instant::now() + self.deadline;
        for repeat in 0.. {
            self.turn(action, deadline).await?;
            let sent = Instant::now();
            let answer = attempt().await.map_err(|error| explain(action, &error));
            let class = answer.as_ref().err().map(Error::class);
            (self.observer)(action.name, sent.elapsed(), class.map_or(Ok(()), Err));
            let (error, class) = match (answer, class) {
                (Ok(answer), _) => {
                    self.restrain(|restraint, now| restraint.passed(action.name, action.kind, now));
                    return Ok(answer);
                }
                (Err(error), class) => (error, class.unwrap_or(Class::Lost)),
            };
            if class == Class::Throttled {
                self.restrain(|restraint, now| restraint.complained(action.name, action.kind, now));
            }
            // A call that EC2 has turned away did nothing, whatever it is.
            let may_repeat = class == Class::Throttled || action.is_idempotent;
            if !(class.is_repeatable() && may_repeat) {
                return Err(error);
            }
            let wait = back_off(class, repeat, fastrand::f64());
            if Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::debug!(%error, wait_ms = wait.as_millis(), "asked again");
            tokio::time::sleep(wait).await;
        }
        unreachable!("the loop ends by the deadline")
    }

    /// Every page of a list: `request` makes the call of the page at a token, `read` and `token` what it answers.
    pub(crate) async fn pages<T, A, E, F>(
        &self,
        action: Action,
        request: impl Fn(Option<String>) -> F,
        read: impl Fn(&A) -> Result<Vec<T>, Error>,
        token: impl for<'a> Fn(&'a A) -> Option<&'a str>,
    ) -> Result<Vec<T>, Error>
    where
        F: Future<Output = Result<A, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + RequestId + std::error::Error + Send + Sync + 'static,
    {
        let (mut found, mut next) = (Vec::new(), None);
        loop {
            let answer = self.call(action, || request(next.clone())).await?;
            found.extend(read(&answer)?);
            // EC2 ends a list with no token or an empty one.
            next = token(&answer)
                .filter(|token| !token.is_empty())
                .map(str::to_owned);
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// Waits until it is this call's turn.
    async fn turn(&self, action: Action, deadline: Instant) -> Result<(), Error> {
        let mut wait = Duration::ZERO;
        self.restrain(|restraint, now| wait = restraint.take(action.name, action.kind, now));
        if Instant::now() + wait > deadline {
            return Err(Error {
                action: action.name,
                code: Some("RequestLimitExceeded".to_owned()),
                message: format!(
                    "not sent: so many calls wait that its turn comes in {} s, past the deadline of {} s",
                    wait.as_secs(),
                    self.deadline.as_secs()
                ),
                request_id: None,
            });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Whether the buckets of all `actions` are half full at least.
    pub(crate) fn has_spare_turns(&self, actions: &[Action]) -> bool {
        let mut has_spare = true;
        for action in actions {
            self.restrain(|restraint, now| {
                has_spare &= restraint.has_spare(action.name, action.kind, now);
            });
        }
        has_spare
    }

    fn restrain(&self, change: impl FnOnce(&mut Restraint, Duration)) {
        let now = self.started.elapsed();
        change(
            &mut self
                .restraint
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            now,
        );
    }
}

/// HTTP with the TLS that the rest of branchline has; on a host without root certificates http alone is of use.
pub(crate) fn http_client() -> SharedHttpClient {
    let ring = tls::rustls_provider::CryptoMode::Ring;
    let builder = aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(ring));
    match root_certificates() {
        Ok(()) => builder.build_https(),
        Err(_) => builder.tls_context(nobody()).build_https(),
    }
}

/// What the SDK says, as ours.
fn explain<E>(action: Action, error: &SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + RequestId + std::error::Error + Send + Sync + 'static,
{
    let service = error.as_service_error();
    let code = service.and_then(ProvideErrorMetadata::code);
    let message = service.and_then(ProvideErrorMetadata::message);
    // An error status without EC2's words is a front end's.
    let status = error.raw_response().map(|answer| answer.status().as_u16());
    let code = code.map(str::to_owned).or_else(|| match status {
        Some(500..) => Some("Unavailable".to_owned()),
        Some(_) | None => None,
    });
    let message = match message {
        Some(message) => message.to_owned(),
        None => DisplayErrorContext(error).to_string(),
    };
    Error {
        action: action.name,
        code,
        message,
        request_id: service.and_then(RequestId::request_id).map(str::to_owned),
    }
}
