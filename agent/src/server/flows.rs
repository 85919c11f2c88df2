//! The API's streams of flows: server-sent events, each with one JSON object as its data.
//!
//! A stream ends when its client goes or the agent stops. Never waits for a client: the follower
//! counts what it loses.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::watch;

use super::{Control, ControlError};
use crate::api::ErrorBody;
use crate::field_error::FieldError;
use crate::live::{FlowRates, Follower, LiveEvent, Query, Received, Step};

/// Whether the server stops: changes when it does.
pub(super) type Closing = watch::Receiver<()>;

/// What is dropped to end all streams, and what they watch.
pub(super) fn streams() -> (watch::Sender<()>, Closing) {
    watch::channel(())
}

pub(super) fn routes<C: Control>(closing: Closing) -> Router<Arc<C>> {
    Router::new()
        .route("/v1/flows/events", get(events::<C>))
        .route("/v1/flows/rates", get(rates::<C>))
        .layer(Extension(closing))
}

/// Flows as they start, end and are rejected, from now on.
#[utoipa::path(
    get, path = "/v1/flows/events", tag = "flows", operation_id = "followFlows",
    params(
        ("task" = Option<Vec<String>>, Query, description = "Only these tasks"),
        ("address" = Option<Vec<String>>, Query, description = "Only flows with one of these addresses or networks"),
        ("port" = Option<Vec<u16>>, Query, description = "Only flows with one of these ports"),
        ("protocol" = Option<Vec<String>>, Query, description = "Names or IANA numbers"),
        ("action" = Option<Vec<String>>, Query, description = "accept, reject"),
        ("direction" = Option<Vec<String>>, Query, description = "ingress, egress"),
        ("event" = Option<Vec<String>>, Query, description = "start, end, reject"),
    ),
    responses(
        (status = 200, description = "Server-sent events; each one's data is a LiveEvent", body = LiveEvent,
         content_type = "text/event-stream"),
        (status = 400, description = "A parameter is wrong", body = ErrorBody),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn events<C: Control>(
    State(control): State<Arc<C>>,
    Extension(closing): Extension<Closing>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = match Query::parse(query.as_deref().unwrap_or_default()) {
        Ok(query) => query,
        Err(field) => return ControlError::Invalid(field).into_response(),
    };
    match control.follow(false).await {
        Ok(follower) => stream_of(EventStream::new(follower, closing, query)),
        Err(error) => error.into_response(),
    }
}

/// What tasks and flows carry, each half second from now on.
#[utoipa::path(
    get, path = "/v1/flows/rates", tag = "flows", operation_id = "followRates",
    params(
        ("task" = Option<Vec<String>>, Query, description = "Only these tasks"),
        ("address" = Option<Vec<String>>, Query, description = "Only flows with one of these addresses or networks"),
        ("port" = Option<Vec<u16>>, Query, description = "Only flows with one of these ports"),
        ("protocol" = Option<Vec<String>>, Query, description = "Names or IANA numbers"),
        ("action" = Option<Vec<String>>, Query, description = "accept, reject"),
        ("direction" = Option<Vec<String>>, Query, description = "ingress, egress"),
        ("sort" = Option<String>, Query, description = "bytes, packets or rejects"),
        ("limit" = Option<u32>, Query, description = "Most flows, at most 100000"),
    ),
    responses(
        (status = 200, description = "Server-sent events; each one's data is FlowRates", body = FlowRates,
         content_type = "text/event-stream"),
        (status = 400, description = "A parameter is wrong", body = ErrorBody),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn rates<C: Control>(
    State(control): State<Arc<C>>,
    Extension(closing): Extension<Closing>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = match Query::parse(query.as_deref().unwrap_or_default()) {
        Ok(query) if query.filter.events.is_empty() => query,
        Ok(_) => {
            let problem = "is for events, not for rates";
            let error = FieldError::new("event", problem, "leave it out");
            return ControlError::Invalid(error).into_response();
        }
        Err(field) => return ControlError::Invalid(field).into_response(),
    };
    match control.follow(true).await {
        Ok(follower) => {
            let stream = EventStream::new(follower, closing, query);
            stream_of(EventStream {
                is_measuring: true,
                ..stream
            })
        }
        Err(error) => error.into_response(),
    }
}

/// A stream on its way to a client.
struct EventStream {
    follower: Follower,
    closing: Closing,
    query: Query,
    is_measuring: bool,
    /// A walk, and which of its events comes next.
    step: Option<(Arc<Step>, usize)>,
}

fn stream_of(events: EventStream) -> Response {
    let events = stream::unfold(events, |mut events| async move {
        let event = events.next().await?;
        Some((Ok::<_, Infallible>(event), events))
    });
    let alive = KeepAlive::default();
    Sse::new(events).keep_alive(alive).into_response()
}

impl EventStream {
    fn new(follower: Follower, closing: Closing, query: Query) -> Self {
        Self {
            follower,
            closing,
            query,
            is_measuring: false,
            step: None,
        }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((step, index)) = &mut self.step {
                let filter = &self.query.filter;
                let mut rest = step.events.iter().enumerate().skip(*index);
                if let Some((at, event)) = rest.find(|(_, event)| filter.admits_event(event)) {
                    *index = at + 1;
                    return Some(message(event));
                }
                self.step = None;
            }
            let received = tokio::select! {
                // Changes when its sender is dropped.
                _ = self.closing.changed() => return None,
                received = self.follower.next() => received?,
            };
            match received {
                Received::Step(step) if self.is_measuring => {
                    if let Some(rates) = step.rates(&self.query) {
                        return Some(message(&rates));
                    }
                }
                Received::Step(step) => self.step = Some((step, 0)),
                // Rates say nothing of the past.
                Received::Lost(_) if self.is_measuring => {}
                Received::Lost(events) => return Some(message(&LiveEvent::Lost { events })),
            }
        }
    }
}

fn message(content: &impl Serialize) -> Event {
    Event::default()
        .json_data(content)
        .expect("what followers are told is JSON")
}
