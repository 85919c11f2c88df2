//! `/metrics`, `/healthz` and `/v1/health`, on the socket; the first two also on loopback, if the
//! configuration asks. What is counted is `Control`'s.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;

use super::{Control, no_such_method, no_such_path};
use crate::api::{ErrorBody, Health};
use crate::metrics;

/// Why nobody can ask for metrics on loopback.
#[derive(Debug, thiserror::Error)]
#[error("listen at {address} (metrics.listen); is it in use? choose another port")]
pub struct MetricsError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: std::io::Error,
}

/// Listens at a loopback address for [`serve_metrics`].
///
/// # Errors
/// The address cannot be had.
pub async fn bind_metrics(address: SocketAddr) -> Result<TcpListener, MetricsError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| MetricsError { address, source })
}

/// Serves `/metrics` and `/healthz` of `control`, and nothing else, until it is dropped.
///
/// # Errors
/// The listener cannot be served any more.
pub async fn serve_metrics<C: Control>(
    listener: TcpListener,
    control: Arc<C>,
) -> std::io::Result<()> {
    axum::serve(listener, read_only(control)).await
}

pub(super) fn read_only<C: Control>(control: Arc<C>) -> Router {
    Router::new()
        .route("/metrics", get(scrape::<C>))
        .route("/healthz", get(answers))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(control)
}

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new()
        .route("/metrics", get(scrape::<C>))
        .route("/healthz", get(answers))
        .route("/v1/health", get(health::<C>))
}

/// What the agent counts, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "agent", operation_id = "metrics",
    responses(
        (status = 200, description = "OpenMetrics 1.0.0", body = String,
         content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (status = 500, description = "The agent failed", body = ErrorBody),
    )
)]
pub(super) async fn scrape<C: Control>(State(control): State<Arc<C>>) -> Response {
    match control.scrape().await {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => error.into_response(),
    }
}

/// That the agent answers.
#[utoipa::path(
    get, path = "/healthz", tag = "agent", operation_id = "answers",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain"))
)]
pub(super) async fn answers() -> &'static str {
    "ok\n"
}

/// How the agent's parts are, and why one is not well.
///
/// The answer is 200 in any case: its `status` tells.
#[utoipa::path(
    get, path = "/v1/health", tag = "agent", operation_id = "health",
    responses((status = 200, description = "Every part", body = Health))
)]
pub(super) async fn health<C: Control>(State(control): State<Arc<C>>) -> Json<Health> {
    Json(control.health().await)
}
