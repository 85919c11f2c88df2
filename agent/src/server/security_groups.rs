//! The paths below `/v1/security-groups`. Never checks a rule: the agent does.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;

use super::{Control, ControlError, answer, finish};
use crate::api::{
    ApplyRequest, ErrorBody, SecurityGroupDescription, SecurityGroupList, SecurityGroupsApplied,
    SecurityGroupsDiff,
};
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

/// Every group and prefix list in force.
#[utoipa::path(
    get, path = "/v1/security-groups", tag = "security-groups", operation_id = "listSecurityGroups",
    responses(
        (status = 200, description = "All of them", body = SecurityGroupList),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn list<C: Control>(State(control): State<Arc<C>>) -> Response {
    answer(control.security_groups().await)
}

/// One group: its rules, and what their peers stand for now.
#[utoipa::path(
    get, path = "/v1/security-groups/{id}", tag = "security-groups", operation_id = "showSecurityGroup",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The group", body = SecurityGroupDescription),
        (status = 404, description = "There is no such group", body = ErrorBody),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn show<C: Control>(
    State(control): State<Arc<C>>,
    UrlPath(id): UrlPath<String>,
) -> Response {
    answer(control.security_group(id).await)
}

/// Puts the groups and prefix lists of a file in force, all of them or none.
#[utoipa::path(
    post, path = "/v1/security-groups", tag = "security-groups", operation_id = "applySecurityGroups",
    request_body = ApplyRequest,
    responses(
        (status = 200, description = "What changed", body = SecurityGroupsApplied),
        (status = 400, description = "A field is wrong; nothing has changed", body = ErrorBody),
        (status = 413, description = "The file is too large", body = String, content_type = "text/plain"),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn apply<C: Control>(State(control): State<Arc<C>>, body: Bytes) -> Response {
    match request(&body) {
        Ok(request) => {
            answer(finish(async move { control.apply_security_groups(request).await }).await)
        }
        Err(error) => error.into_response(),
    }
}

/// What an apply would do, and to which live flows.
#[utoipa::path(
    post, path = "/v1/security-groups/diff", tag = "security-groups", operation_id = "diffSecurityGroups",
    request_body = ApplyRequest,
    responses(
        (status = 200, description = "What would change", body = SecurityGroupsDiff),
        (status = 400, description = "A field is wrong", body = ErrorBody),
        (status = 413, description = "The file is too large", body = String, content_type = "text/plain"),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn diff<C: Control>(State(control): State<Arc<C>>, body: Bytes) -> Response {
    match request(&body) {
        Ok(request) => answer(control.diff_security_groups(request).await),
        Err(error) => error.into_response(),
    }
}

fn request(body: &[u8]) -> Result<ApplyRequest, ControlError> {
    from_json(body).map_err(ControlError::Invalid)
}
