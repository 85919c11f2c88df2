//! The paths below `/v1/tasks`. Never checks more of a specification than its form.

use std::sync::Arc;

use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use bytes::Bytes;

use super::{Added, Control, ControlError, answer, finish};
use crate::api::{ErrorBody, TaskCheck, TaskDescription, TaskGroups, TaskList};
use crate::field_error::FieldError;
use crate::spec::{TaskId, TaskSpec};

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new()
        .route("/v1/tasks", get(list::<C>).post(add::<C>))
        .route("/v1/tasks/{id}", get(show::<C>).delete(remove::<C>))
        .route("/v1/tasks/{id}/check", get(check::<C>))
        .route("/v1/tasks/{id}/security-groups", put(set_groups::<C>))
        .route("/v1/dry-run/tasks", post(try_out::<C>))
}

/// Gives a task its network, and answers when it is there.
///
/// The same request again has the same answer, with 200: by `clientToken`, also after the task has
/// gone; without one, as long as the task is there. An agent that is killed meanwhile ends with the
/// task there or with nothing of it.
#[utoipa::path(
    post, path = "/v1/tasks", tag = "tasks", operation_id = "addTask", request_body = TaskSpec,
    responses(
        (status = 200, description = "It was there, by an equal request", body = TaskDescription),
        (status = 201, description = "It was made now", body = TaskDescription),
        (status = 400, description = "A field is wrong", body = ErrorBody),
        (status = 409, description = "There is another task of this name or token, or nothing left to hand out",
         body = ErrorBody),
        (status = 500, description = "A step failed; what was done before it has been undone", body = ErrorBody),
    )
)]
pub(super) async fn add<C: Control>(State(control): State<Arc<C>>, body: Bytes) -> Response {
    let spec = match TaskSpec::parse(&body) {
        Ok(spec) => spec,
        Err(field) => return ControlError::Invalid(field).into_response(),
    };
    match finish(async move { control.add_task(spec).await }).await {
        Ok(Added::Created(task)) => (StatusCode::CREATED, Json(task)).into_response(),
        Ok(Added::Existing(task)) => (StatusCode::OK, Json(task)).into_response(),
        Err(error) => error.into_response(),
    }
}

/// Takes a task's network away, and answers when nothing is left of it.
#[utoipa::path(
    delete, path = "/v1/tasks/{id}", tag = "tasks", operation_id = "removeTask", params(("id" = TaskId, Path)),
    responses(
        (status = 204, description = "It has gone"),
        (status = 400, description = "No task has such an id", body = ErrorBody),
        (status = 404, description = "There is no such task", body = ErrorBody),
        (status = 500, description = "A step failed; the others were done, and a repeat is safe", body = ErrorBody),
    )
)]
pub(super) async fn remove<C: Control>(
    State(control): State<Arc<C>>,
    UrlPath(id): UrlPath<String>,
) -> Response {
    let id = match task_id(id) {
        Ok(id) => id,
        Err(error) => return error.into_response(),
    };
    match finish(async move { control.remove_task(id).await }).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    }
}

/// Gives a task's ENI other groups in place of its own, and answers when it obeys them.
///
/// The ENI, its addresses and its connections stay. A repeat is safe; an agent that is killed meanwhile ends with the
/// new groups or the old, in EC2 as here.
#[utoipa::path(
    put, path = "/v1/tasks/{id}/security-groups", tag = "tasks", operation_id = "setTaskSecurityGroups",
    params(("id" = TaskId, Path)), request_body = TaskGroups,
    responses(
        (status = 200, description = "The task, which obeys them", body = TaskDescription),
        (status = 400, description = "A field is wrong; nothing has changed", body = ErrorBody),
        (status = 404, description = "There is no such task", body = ErrorBody),
        (status = 409, description = "The task is not there yet or goes, or there is no room for the groups' rules; \
                                      nothing has changed", body = ErrorBody),
        (status = 500, description = "A step failed; what was done before it has been undone", body = ErrorBody),
    )
)]
pub(super) async fn set_groups<C: Control>(
    State(control): State<Arc<C>>,
    UrlPath(id): UrlPath<String>,
    body: Bytes,
) -> Response {
    let id = match task_id(id) {
        Ok(id) => id,
        Err(error) => return error.into_response(),
    };
    let groups = match TaskGroups::parse(&body) {
        Ok(groups) => groups,
        Err(field) => return ControlError::Invalid(field).into_response(),
    };
    answer(finish(async move { control.set_task_groups(id, groups).await }).await)
}

/// Every task, by id.
#[utoipa::path(
    get, path = "/v1/tasks", tag = "tasks", operation_id = "listTasks",
    responses(
        (status = 200, description = "Every task", body = TaskList),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn list<C: Control>(State(control): State<Arc<C>>) -> Response {
    answer(control.tasks().await.map(|tasks| TaskList { tasks }))
}

/// One task; one that has gone for an hour after, as `STOPPED`.
#[utoipa::path(
    get, path = "/v1/tasks/{id}", tag = "tasks", operation_id = "showTask", params(("id" = TaskId, Path)),
    responses(
        (status = 200, description = "The task", body = TaskDescription),
        (status = 400, description = "No task has such an id", body = ErrorBody),
        (status = 404, description = "There is no such task", body = ErrorBody),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn show<C: Control>(
    State(control): State<Arc<C>>,
    UrlPath(id): UrlPath<String>,
) -> Response {
    match task_id(id) {
        Ok(id) => answer(control.task(id).await),
        Err(error) => error.into_response(),
    }
}

/// Compares a task's network with what it should be.
#[utoipa::path(
    get, path = "/v1/tasks/{id}/check", tag = "tasks", operation_id = "checkTask", params(("id" = TaskId, Path)),
    responses(
        (status = 200, description = "What differs, if anything", body = TaskCheck),
        (status = 400, description = "No task has such an id", body = ErrorBody),
        (status = 404, description = "There is no such task", body = ErrorBody),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn check<C: Control>(
    State(control): State<Arc<C>>,
    UrlPath(id): UrlPath<String>,
) -> Response {
    match task_id(id) {
        Ok(id) => answer(control.check_task(id).await),
        Err(error) => error.into_response(),
    }
}

/// Whether a task could be added now; changes nothing.
#[utoipa::path(
    post, path = "/v1/dry-run/tasks", tag = "tasks", operation_id = "tryTask", request_body = TaskSpec,
    responses(
        (status = 204, description = "It could"),
        (status = 400, description = "A field is wrong", body = ErrorBody),
        (status = 409, description = "Nothing is left to hand out", body = ErrorBody),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn try_out<C: Control>(State(control): State<Arc<C>>, body: Bytes) -> Response {
    let spec = match TaskSpec::parse(&body) {
        Ok(spec) => spec,
        Err(field) => return ControlError::Invalid(field).into_response(),
    };
    match control.try_task(spec).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    }
}

fn task_id(id: String) -> Result<TaskId, ControlError> {
    TaskId::try_from(id)
        .map_err(|error| ControlError::Invalid(FieldError::new("taskId", error.to_string(), "")))
}
