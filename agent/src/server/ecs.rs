//! ECS's own shapes below `/v1/ecs`: what the AWS CLI sends and prints. Never decides what a task may have.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;

use super::{Added, Control, ControlError, finish};
use crate::api::{DescribeTasks, ErrorBody, Failure, StopTask, StoppedTask, Tasks};
use crate::ecs_request::RunTask;
use crate::field_error::{FieldError, from_json};
use crate::provider::local::new_task_id;
use crate::spec::TaskId;

/// Tasks that one DescribeTasks may name, as at ECS.
const MOST_TASKS: usize = 100;

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new()
        .route("/v1/ecs/run-task", post(run_task::<C>))
        .route("/v1/ecs/describe-tasks", post(describe_tasks::<C>))
        .route("/v1/ecs/stop-task", post(stop_task::<C>))
}

/// ECS's RunTask, for one task: gives it its network, and answers when it is there.
///
/// The task definition, by name or whole, is checked as ECS checks it for `awsvpc` mode.
#[utoipa::path(
    post, path = "/v1/ecs/run-task", tag = "ecs", operation_id = "ecsRunTask", request_body = RunTask,
    responses(
        (status = 200, description = "The task, or that nothing is left to hand out", body = Tasks),
        (status = 400, description = "A field is wrong", body = ErrorBody),
        (status = 409, description = "There is another task of this name or token", body = ErrorBody),
        (status = 500, description = "A step failed; what was done before it has been undone", body = ErrorBody),
    )
)]
pub(super) async fn run_task<C: Control>(State(control): State<Arc<C>>, body: Bytes) -> Response {
    let new_id = match new_task_id() {
        Ok(id) => id,
        Err(source) => {
            let source = source.into();
            return ControlError::Failed { source }.into_response();
        }
    };
    let spec = match RunTask::parse(&body, || new_id) {
        Ok(spec) => spec,
        Err(field) => return ControlError::Invalid(field).into_response(),
    };
    let answer = match finish(async move { control.add_task(spec).await }).await {
        Ok(Added::Created(task) | Added::Existing(task)) => Tasks {
            tasks: vec![task],
            failures: Vec::new(),
        },
        Err(ControlError::Exhausted(detail)) => Tasks {
            tasks: Vec::new(),
            failures: vec![Failure {
                arn: None,
                reason: "RESOURCE:ENI".to_owned(),
                detail: Some(detail),
            }],
        },
        Err(error) => return error.into_response(),
    };
    Json(answer).into_response()
}

/// ECS's DescribeTasks; tasks that have gone are told of for an hour.
#[utoipa::path(
    post, path = "/v1/ecs/describe-tasks", tag = "ecs", operation_id = "ecsDescribeTasks",
    request_body = DescribeTasks,
    responses(
        (status = 200, description = "The tasks, and which are missing", body = Tasks),
        (status = 400, description = "A field is wrong", body = ErrorBody),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn describe_tasks<C: Control>(
    State(control): State<Arc<C>>,
    body: Bytes,
) -> Response {
    let request = match from_json::<DescribeTasks>(&body).and_then(checked) {
        Ok(request) => request,
        Err(field) => return ControlError::Invalid(field).into_response(),
    };
    let mut answer = Tasks::default();
    for name in request.tasks {
        let found = match TaskId::try_from(last_component(&name)) {
            Ok(id) => control.task(id).await,
            Err(_) => {
                answer.failures.push(missing(name));
                continue;
            }
        };
        match found {
            Ok(task) => answer.tasks.push(task),
            Err(ControlError::Unknown(_)) => answer.failures.push(missing(name)),
            Err(error) => return error.into_response(),
        }
    }
    Json(answer).into_response()
}

/// ECS's StopTask: takes the task's network away, and answers when nothing is left of it.
#[utoipa::path(
    post, path = "/v1/ecs/stop-task", tag = "ecs", operation_id = "ecsStopTask", request_body = StopTask,
    responses(
        (status = 200, description = "The task as it was when it had gone", body = StoppedTask),
        (status = 400, description = "A field is wrong", body = ErrorBody),
        (status = 404, description = "There is no such task", body = ErrorBody),
        (status = 500, description = "A step failed; the others were done, and a repeat is safe", body = ErrorBody),
    )
)]
pub(super) async fn stop_task<C: Control>(State(control): State<Arc<C>>, body: Bytes) -> Response {
    let id = from_json::<StopTask>(&body).and_then(|request| {
        TaskId::try_from(last_component(&request.task))
            .map_err(|error| FieldError::new("task", error.to_string(), ""))
    });
    let id = match id {
        Ok(id) => id,
        Err(field) => return ControlError::Invalid(field).into_response(),
    };
    let stopped = async move {
        control.remove_task(id.clone()).await?;
        let task = control.task(id).await?;
        Ok(StoppedTask { task })
    };
    super::answer(finish(stopped).await)
}

fn checked(request: DescribeTasks) -> Result<DescribeTasks, FieldError> {
    if (1..=MOST_TASKS).contains(&request.tasks.len()) {
        return Ok(request);
    }
    let problem = format!("names {} tasks", request.tasks.len());
    Err(FieldError::new(
        "tasks",
        problem,
        format!("name 1 to {MOST_TASKS}"),
    ))
}

fn missing(name: String) -> Failure {
    Failure {
        arn: Some(name),
        reason: "MISSING".to_owned(),
        detail: None,
    }
}

/// What a task's ARN ends with, or the whole name.
fn last_component(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_owned()
}
