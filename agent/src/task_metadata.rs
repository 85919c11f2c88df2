//! The task metadata endpoint, version 4: HTTP at 169.254.170.2 for the task that asks, about itself alone.
//!
//! Who asks is known by the address that the data plane let pass; the id in the path must be that task's. Paths and
//! answers are the ECS agent's (ECS developer guide, "Task metadata endpoint version 4").

mod document;
mod id;
mod network;
mod statistics;

pub use document::{Metadata, TaskDocument};
pub use id::{Subject, container_id, task_id, uri};
pub use network::{Addressed, EniNetwork, NetworkDocument};

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::life::AttachmentStatus;
use crate::services::{Connections, Peer, Tenants};
use crate::state::TaskStore;
use crate::task_record::TaskRecord;

/// Where it listens.
pub const PORT: u16 = 80;

/// What the endpoint answers from.
#[derive(Debug)]
pub struct Endpoint {
    /// Who asks.
    pub tenants: Tenants,
    /// What is known of tasks.
    pub tasks: Arc<TaskStore>,
    /// The zone's id, as `use1-az1`.
    pub availability_zone_id: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The id is no task's, or not the asking one's.
    Unknown,
    /// The task's network is not there yet.
    NotReady,
    /// It asked too often.
    TooMany,
}

/// Answers tasks until the agent ends.
pub async fn serve(endpoint: Endpoint, connections: Connections) -> std::io::Result<()> {
    let service = router(Arc::new(endpoint)).into_make_service_with_connect_info::<Peer>();
    axum::serve(connections, service).await
}

fn router(endpoint: Arc<Endpoint>) -> Router {
    Router::new()
        .route("/v4/{id}", get(container))
        .route("/v4/{id}/task", get(task))
        .route("/v4/{id}/taskWithTags", get(task_with_tags))
        .route("/v4/{id}/stats", get(container_statistics))
        .route("/v4/{id}/task/stats", get(task_statistics))
        .fallback(async || Refusal::Unknown)
        .with_state(endpoint)
}

type Asked = (State<Arc<Endpoint>>, ConnectInfo<Peer>, Path<String>);

async fn container(asked: Asked) -> Response {
    answer(&asked, |metadata, subject| {
        Json(metadata.container(subject)).into_response()
    })
}

async fn task(asked: Asked) -> Response {
    answer(&asked, |metadata, _| Json(metadata.task()).into_response())
}

async fn task_with_tags(asked: Asked) -> Response {
    answer(&asked, |metadata, _| {
        Json(metadata.task_with_tags()).into_response()
    })
}

async fn container_statistics(asked: Asked) -> Response {
    match found(&asked) {
        Ok((task, subject)) => statistics::of_container(task, subject).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn task_statistics(asked: Asked) -> Response {
    match found(&asked) {
        Ok((task, _)) => statistics::of_task(task).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn answer(asked: &Asked, show: impl FnOnce(&Metadata<'_>, Subject) -> Response) -> Response {
    let (State(endpoint), ..) = asked;
    match found(asked) {
        Ok((task, subject)) => {
            let zone_id = endpoint.availability_zone_id.as_deref();
            show(&Metadata::of(&task, zone_id), subject)
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// The task that asks, and what of it.
fn found(asked: &Asked) -> Result<(TaskRecord, Subject), Refusal> {
    let (State(endpoint), ConnectInfo(Peer(peer)), Path(id)) = asked;
    endpoint.find(*peer, id, Instant::now())
}

impl Endpoint {
    fn find(&self, peer: IpAddr, id: &str, now: Instant) -> Result<(TaskRecord, Subject), Refusal> {
        let tenant = self.tenants.at(peer).ok_or(Refusal::Unknown)?;
        if !tenant.metadata.take(now) {
            return Err(Refusal::TooMany);
        }
        let task = self.tasks.task(&tenant.task_id);
        let task = task.filter(|task| task.generation == tenant.generation);
        let task = task.ok_or(Refusal::NotReady)?;
        let subject = Subject::of(&task, id).ok_or(Refusal::Unknown)?;
        if task.status() < AttachmentStatus::Attached {
            return Err(Refusal::NotReady);
        }
        Ok((task, subject))
    }
}

impl IntoResponse for Refusal {
    /// A JSON string, as the ECS agent's.
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Unknown => (
                StatusCode::NOT_FOUND,
                "V4 metadata handler: this is no id of the task that asks, or no path",
            ),
            Self::NotReady => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "V4 metadata handler: the task's network is not there yet",
            ),
            Self::TooMany => (
                StatusCode::TOO_MANY_REQUESTS,
                "V4 metadata handler: the task asks too often",
            ),
        };
        (status, Json(text)).into_response()
    }
}

#[cfg(test)]
#[path = "task_metadata_tests.rs"]
mod tests;
