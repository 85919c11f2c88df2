//! `/v1/events`: what happens to tasks, as server-sent events, each with one JSON object as its data.
//!
//! A stream ends when its client goes or the agent stops. Never waits for a client.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::flows::Closing;
use super::{Control, ControlError};
use crate::api::{ErrorBody, TaskEvent};
use crate::field_error::FieldError;
use crate::spec::TaskId;

/// Which events are wanted.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// Only those of this task.
    #[param(value_type = Option<String>)]
    task_id: Option<TaskId>,
}

pub(super) fn routes<C: Control>(closing: Closing) -> Router<Arc<C>> {
    Router::new()
        .route("/v1/events", get(follow::<C>))
        .layer(Extension(closing))
}

/// What happens to tasks from now on: states they enter, steps that begin and end.
///
/// A gap in the numbers of all events means that this client was too slow for some.
#[utoipa::path(
    get, path = "/v1/events", tag = "tasks", operation_id = "followEvents", params(EventQuery),
    responses(
        (status = 200, description = "Server-sent events; each one's data is a TaskEvent", body = TaskEvent,
         content_type = "text/event-stream"),
        (status = 400, description = "A parameter is wrong", body = ErrorBody),
    )
)]
pub(super) async fn follow<C: Control>(
    State(control): State<Arc<C>>,
    Extension(closing): Extension<Closing>,
    query: Result<Query<EventQuery>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => {
            let fix = "the only parameter is taskId";
            let error = FieldError::new("taskId", rejection.body_text(), fix);
            return ControlError::Invalid(error).into_response();
        }
    };
    let wanted = query.task_id.map(String::from);
    let state = (control.events(), closing, wanted);
    let events = stream::unfold(state, |(mut events, mut closing, wanted)| async move {
        let event = next(&mut events, &mut closing, wanted.as_deref()).await?;
        Some((Ok::<_, Infallible>(event), (events, closing, wanted)))
    });
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

async fn next(
    events: &mut Receiver<Arc<TaskEvent>>,
    closing: &mut Closing,
    wanted: Option<&str>,
) -> Option<Event> {
    loop {
        let received = tokio::select! {
            // Changes when its sender is dropped.
            _ = closing.changed() => return None,
            received = events.recv() => received,
        };
        match received {
            Ok(event) if wanted.is_none_or(|id| id == event.task_id) => {
                let event = Event::default().json_data(&*event);
                return Some(event.expect("events are JSON"));
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}
