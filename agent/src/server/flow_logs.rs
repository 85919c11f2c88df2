//! The paths below `/v1/flow-logs`. Never checks a log: the agent does.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;

use super::{Control, ControlError, answer, finish};
use crate::api::FlowLogFile;
use crate::field_error::from_json;

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new().route("/v1/flow-logs", get(list::<C>).post(apply::<C>))
}

async fn list<C: Control>(State(control): State<Arc<C>>) -> Response {
    answer(control.flow_logs().await)
}

async fn apply<C: Control>(State(control): State<Arc<C>>, body: Bytes) -> Response {
    match from_json::<FlowLogFile>(&body) {
        Ok(file) => answer(finish(async move { control.apply_flow_logs(file).await }).await),
        Err(error) => ControlError::Invalid(error).into_response(),
    }
}
