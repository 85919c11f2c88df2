//! The path below `/v1/cni`. Never decides which attachment is stale.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;

use super::{Control, ControlError, answer, finish};
use crate::api::{CniGarbageCollected, ErrorBody};
use crate::cni_attachment::CniGarbageCollection;
use crate::field_error::{FieldError, from_json};

/// Bytes of the longest list: more attachments than a host has, with long names.
const MAX_LIST: usize = 16 << 20;

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new()
        .route("/v1/cni/gc", post(collect_garbage::<C>))
        .layer(DefaultBodyLimit::max(MAX_LIST))
}

/// Removes the tasks of a CNI network whose attachments are no longer valid, as CNI's GC asks.
#[utoipa::path(
    post, path = "/v1/cni/gc", tag = "cni", operation_id = "collectCniGarbage", request_body = CniGarbageCollection,
    responses(
        (status = 200, description = "What was removed", body = CniGarbageCollected),
        (status = 400, description = "A field is wrong", body = ErrorBody),
        (status = 413, description = "The list is too long", body = String, content_type = "text/plain"),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn collect_garbage<C: Control>(
    State(control): State<Arc<C>>,
    body: Bytes,
) -> Response {
    match request(&body) {
        Ok(request) => {
            answer(finish(async move { control.collect_cni_garbage(request).await }).await)
        }
        Err(field) => ControlError::Invalid(field).into_response(),
    }
}

fn request(body: &[u8]) -> Result<CniGarbageCollection, FieldError> {
    let request: CniGarbageCollection = from_json(body)?;
    request.check()?;
    Ok(request)
}
