//! The paths below `/v1/flow-logs`. Never checks a log: the agent does.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;

use super::{Control, ControlError, answer, finish};
use crate::api::{ErrorBody, FlowLogFile, FlowLogList};
use crate::field_error::from_json;

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new().route("/v1/flow-logs", get(list::<C>).post(apply::<C>))
}

/// Every flow log in force, and what each has written.
#[utoipa::path(
    get, path = "/v1/flow-logs", tag = "flow-logs", operation_id = "listFlowLogs",
    responses(
        (status = 200, description = "All of them", body = FlowLogList),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn list<C: Control>(State(control): State<Arc<C>>) -> Response {
    answer(control.flow_logs().await)
}

/// Puts the flow logs of a file in force instead of all others, or changes nothing.
#[utoipa::path(
    post, path = "/v1/flow-logs", tag = "flow-logs", operation_id = "applyFlowLogs", request_body = FlowLogFile,
    responses(
        (status = 200, description = "All that are in force now", body = FlowLogList),
        (status = 400, description = "A field is wrong; nothing has changed", body = ErrorBody),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn apply<C: Control>(State(control): State<Arc<C>>, body: Bytes) -> Response {
    match from_json::<FlowLogFile>(&body) {
        Ok(file) => answer(finish(async move { control.apply_flow_logs(file).await }).await),
        Err(error) => ControlError::Invalid(error).into_response(),
    }
}
