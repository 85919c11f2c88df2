//! The paths below `/v1/security-groups`. Never checks a rule: the agent does.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;

use super::{Control, ControlError, answer, finish};
use crate::api::ApplyRequest;
use crate::field_error::from_json;

/// Bytes of the largest file: EC2's quotas of groups and rules, with room to spare.
const MAX_FILE: usize = 64 << 20;

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new()
        .route("/v1/security-groups", get(list::<C>).post(apply::<C>))
        .route("/v1/security-groups/diff", post(diff::<C>))
        .route("/v1/security-groups/{id}", get(show::<C>))
        .layer(DefaultBodyLimit::max(MAX_FILE))
}

async fn list<C: Control>(State(control): State<Arc<C>>) -> Response {
    answer(control.security_groups().await)
}

async fn show<C: Control>(State(control): State<Arc<C>>, UrlPath(id): UrlPath<String>) -> Response {
    answer(control.security_group(id).await)
}

async fn apply<C: Control>(State(control): State<Arc<C>>, body: Bytes) -> Response {
    match request(&body) {
        Ok(request) => {
            answer(finish(async move { control.apply_security_groups(request).await }).await)
        }
        Err(error) => error.into_response(),
    }
}

async fn diff<C: Control>(State(control): State<Arc<C>>, body: Bytes) -> Response {
    match request(&body) {
        Ok(request) => answer(control.diff_security_groups(request).await),
        Err(error) => error.into_response(),
    }
}

fn request(body: &[u8]) -> Result<ApplyRequest, ControlError> {
    from_json(body).map_err(ControlError::Invalid)
}
