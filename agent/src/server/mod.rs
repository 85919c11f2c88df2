//! The API: HTTP with JSON on a Unix socket that root may use, and a group of readers if there is one.
//!
//! Turns requests into calls of `Control` and its answers into status codes. Knows nothing of networks.

mod access;
mod cni;
mod count;
mod ecs;
mod events;
mod finish;
mod flow_logs;
mod flows;
mod metrics;
mod openapi;
mod security_groups;
mod socket;
mod tasks;
mod vpc;

pub use access::Access;
pub use metrics::{MetricsError, bind_metrics, serve_metrics};
pub use openapi::document as openapi;
pub use socket::{SocketError, bind};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use tokio::net::UnixListener;
use tokio::sync::broadcast;

use self::access::Peer;
use self::finish::finish;
use crate::api::{
    ApiError, ApplyRequest, AttributeList, Capacity, CniGarbageCollected, EniList, ErrorBody,
    ErrorCode, FlowLogFile, FlowLogList, Health, SecurityGroupDescription, SecurityGroupList,
    SecurityGroupsApplied, SecurityGroupsDiff, Status, SubnetList, TaskCheck, TaskDescription,
    TaskEvent, TaskGroups,
};
use crate::cni_attachment::CniGarbageCollection;
use crate::explain::{ExplainRequest, Explanation};
use crate::field_error::{FieldError, from_json};
use crate::live::Follower;
use crate::metrics::ApiRequests;
use crate::spec::{TaskId, TaskSpec};

/// How long a shutdown waits for answers that are under way.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// What the agent does on request.
///
/// A call runs to its end even if the client goes away.
pub trait Control: Send + Sync + 'static {
    /// Gives a task its network, and returns when it is there.
    fn add_task(&self, spec: TaskSpec) -> impl Future<Output = Result<Added, ControlError>> + Send;

    /// Removes a task's network, and returns when nothing is left of it.
    fn remove_task(&self, id: TaskId) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Every task, by id.
    fn tasks(&self) -> impl Future<Output = Result<Vec<TaskDescription>, ControlError>> + Send;

    /// One task.
    fn task(
        &self,
        id: TaskId,
    ) -> impl Future<Output = Result<TaskDescription, ControlError>> + Send;

    /// Gives a task's ENI other groups, and returns when it obeys them.
    fn set_task_groups(
        &self,
        id: TaskId,
        groups: TaskGroups,
    ) -> impl Future<Output = Result<TaskDescription, ControlError>> + Send;

    /// Compares a task's network with what it should be.
    fn check_task(
        &self,
        id: TaskId,
    ) -> impl Future<Output = Result<TaskCheck, ControlError>> + Send;

    /// Whether a task could be added now; changes nothing.
    fn try_task(&self, spec: TaskSpec) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Removes the attachments of a container network that are no valid ones any more.
    fn collect_cni_garbage(
        &self,
        request: CniGarbageCollection,
    ) -> impl Future<Output = Result<CniGarbageCollected, ControlError>> + Send;

    /// Every group and prefix list in force.
    fn security_groups(
        &self,
    ) -> impl Future<Output = Result<SecurityGroupList, ControlError>> + Send;

    /// One group.
    fn security_group(
        &self,
        id: String,
    ) -> impl Future<Output = Result<SecurityGroupDescription, ControlError>> + Send;

    /// Puts the groups and prefix lists of a file in force, all of them or none.
    fn apply_security_groups(
        &self,
        request: ApplyRequest,
    ) -> impl Future<Output = Result<SecurityGroupsApplied, ControlError>> + Send;

    /// What an apply would do.
    fn diff_security_groups(
        &self,
        request: ApplyRequest,
    ) -> impl Future<Output = Result<SecurityGroupsDiff, ControlError>> + Send;

    /// Every flow log in force.
    fn flow_logs(&self) -> impl Future<Output = Result<FlowLogList, ControlError>> + Send;

    /// Puts the flow logs of a file in force instead of all others, or changes nothing.
    fn apply_flow_logs(
        &self,
        file: FlowLogFile,
    ) -> impl Future<Output = Result<FlowLogList, ControlError>> + Send;

    /// What becomes of a packet that opens a flow, and which rule decides.
    fn explain(
        &self,
        request: ExplainRequest,
    ) -> impl Future<Output = Result<Explanation, ControlError>> + Send;

    /// Follows flows from now on; with their rates if `is_measuring`.
    fn follow(
        &self,
        is_measuring: bool,
    ) -> impl Future<Output = Result<Follower, ControlError>> + Send;

    /// Every task's ENI, by task.
    fn network_interfaces(&self) -> EniList;

    /// The VPC's subnets, and how many addresses each has left.
    fn subnets(&self) -> SubnetList;

    /// How many more tasks fit, and why not more.
    fn capacity(&self) -> Capacity;

    /// What the host can do, as an ECS container instance says it.
    fn attributes(&self) -> AttributeList;

    /// What happens to tasks from now on.
    fn events(&self) -> broadcast::Receiver<Arc<TaskEvent>>;

    /// The agent as it runs.
    fn status(&self) -> impl Future<Output = Result<Status, ControlError>> + Send;

    /// How the agent's parts are.
    fn health(&self) -> impl Future<Output = Health> + Send;

    /// What is counted, as OpenMetrics text.
    fn scrape(&self) -> impl Future<Output = Result<String, ControlError>> + Send;

    /// Where requests are counted.
    fn requests(&self) -> ApiRequests;
}

/// A task that has its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It was given now.
    Created(TaskDescription),
    /// It was there, by the same specification.
    Existing(TaskDescription),
}

/// Why the agent did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A field of the specification is wrong.
    #[error("{0}")]
    Invalid(FieldError),
    /// The task exists with another specification, or is being removed.
    #[error("{0}")]
    Conflict(String),
    /// There is no such task.
    #[error("there is no task {0}; `branchline task ls` lists them")]
    Unknown(TaskId),
    /// There is no such group.
    #[error("there is no security group {0}; `branchline sg ls` lists them")]
    UnknownGroup(String),
    /// Nothing is left to hand out.
    #[error("{0}")]
    Exhausted(String),
    /// A step failed, and what was done before it has been undone.
    #[error("{}", causes(source.as_ref()))]
    Failed {
        /// Which step, and why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Serves `control` on `listener` to whom `access` says until `shutdown` is done, then for at most 5 s more until answers are out.
///
/// Removes the socket file at `path` at the end.
///
/// # Errors
/// The socket cannot be served, or its file cannot be removed.
pub async fn serve<C: Control>(
    listener: UnixListener,
    path: &Path,
    control: Arc<C>,
    access: Access,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    serve_for(
        listener,
        path,
        control,
        shutdown,
        Limits {
            access,
            grace: SHUTDOWN,
        },
    )
    .await
}

/// Who may use the socket, and how long a shutdown waits for answers that are under way.
#[derive(Debug, Clone, Copy)]
struct Limits {
    access: Access,
    grace: Duration,
}

async fn serve_for<C: Control>(
    listener: UnixListener,
    path: &Path,
    control: Arc<C>,
    shutdown: impl Future<Output = ()> + Send + 'static,
    limits: Limits,
) -> std::io::Result<()> {
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let (open, closing) = flows::streams();
    let signal = async move {
        shutdown.await;
        drop(open);
        // Nobody listens any more only when the server has ended by itself.
        stopping.send(()).ok();
    };
    let service =
        router(control, limits.access, closing).into_make_service_with_connect_info::<Peer>();
    let server = axum::serve(listener, service).with_graceful_shutdown(signal);
    let deadline = async {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(limits.grace).await;
    };
    tokio::select! {
        served = server => served?,
        () = deadline => tracing::warn!("API clients still connected at shutdown were cut off"),
    }
    std::fs::remove_file(path)
}

fn router<C: Control>(control: Arc<C>, access: Access, closing: flows::Closing) -> Router {
    let counting = count::Counting::new(control.requests());
    Router::new()
        .merge(tasks::routes())
        .merge(events::routes(closing.clone()))
        .merge(ecs::routes())
        .merge(vpc::routes())
        .merge(cni::routes())
        .merge(security_groups::routes())
        .merge(flow_logs::routes())
        .merge(flows::routes(closing))
        .route("/v1/explain", post(explain::<C>))
        .route("/v1/status", get(status::<C>))
        .route("/v1/openapi.json", get(openapi::serve))
        .merge(metrics::routes())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(control)
        .layer(from_fn_with_state(access, access::check))
        .layer(from_fn_with_state(counting, count::count))
}

/// What becomes of a packet that opens a flow, and which rule decides.
#[utoipa::path(
    post, path = "/v1/explain", tag = "security-groups", operation_id = "explain", request_body = ExplainRequest,
    responses(
        (status = 200, description = "The verdict and its reasons", body = Explanation),
        (status = 400, description = "A field is wrong", body = ErrorBody),
        (status = 404, description = "There is no such task", body = ErrorBody),
        (status = 409, description = "A task is not in the data plane", body = ErrorBody),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
async fn explain<C: Control>(State(control): State<Arc<C>>, body: Bytes) -> Response {
    match from_json(&body) {
        Ok(request) => answer(control.explain(request).await),
        Err(field) => ControlError::Invalid(field).into_response(),
    }
}

/// The agent as it runs.
#[utoipa::path(
    get, path = "/v1/status", tag = "agent", operation_id = "status",
    responses(
        (status = 200, description = "The agent as it runs", body = Status),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
async fn status<C: Control>(State(control): State<Arc<C>>) -> Response {
    answer(control.status().await)
}

async fn no_such_path(request: Request) -> Response {
    error(
        StatusCode::NOT_FOUND,
        ErrorCode::NotFound,
        &format!("there is no {}", request.uri().path()),
    )
}

async fn no_such_method(request: Request) -> Response {
    let message = format!("{} is not for {}", request.method(), request.uri().path());
    error(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::InvalidRequest,
        &message,
    )
}

fn answer<T: serde::Serialize>(result: Result<T, ControlError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => error.into_response(),
    }
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let message = self.to_string();
        match self {
            Self::Invalid(field) => {
                let error = ApiError {
                    code: ErrorCode::InvalidRequest,
                    message,
                    field: Some(field.field),
                };
                (StatusCode::BAD_REQUEST, Json(ErrorBody { error })).into_response()
            }
            Self::Conflict(_) => error(StatusCode::CONFLICT, ErrorCode::Conflict, &message),
            Self::Unknown(_) | Self::UnknownGroup(_) => {
                error(StatusCode::NOT_FOUND, ErrorCode::NotFound, &message)
            }
            Self::Exhausted(_) => error(StatusCode::CONFLICT, ErrorCode::Exhausted, &message),
            Self::Failed { .. } => error(
                StatusCode::INTERNAL_SERVER_ERROR,
                ErrorCode::Internal,
                &message,
            ),
        }
    }
}

fn error(status: StatusCode, code: ErrorCode, message: &str) -> Response {
    let error = ApiError {
        code,
        message: message.to_owned(),
        field: None,
    };
    (status, Json(ErrorBody { error })).into_response()
}

/// An error and its causes in one line.
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests;
