//! What the VPC has and what fits: `/v1/network-interfaces`, `/v1/subnets`, `/v1/capacity`, `/v1/attributes`.
//!
//! Only asks: ENIs come and go with their tasks.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use super::Control;
use crate::api::{AttributeList, Capacity, EniList, SubnetList};

pub(super) fn routes<C: Control>() -> Router<Arc<C>> {
    Router::new()
        .route("/v1/network-interfaces", get(network_interfaces::<C>))
        .route("/v1/subnets", get(subnets::<C>))
        .route("/v1/capacity", get(capacity::<C>))
        .route("/v1/attributes", get(attributes::<C>))
}

/// Every task's ENI, by task.
#[utoipa::path(
    get, path = "/v1/network-interfaces", tag = "vpc", operation_id = "listNetworkInterfaces",
    responses((status = 200, description = "All of them", body = EniList))
)]
pub(super) async fn network_interfaces<C: Control>(State(control): State<Arc<C>>) -> Json<EniList> {
    Json(control.network_interfaces())
}

/// The VPC's subnets, and how many addresses each has left.
#[utoipa::path(
    get, path = "/v1/subnets", tag = "vpc", operation_id = "listSubnets",
    responses((status = 200, description = "All of them", body = SubnetList))
)]
pub(super) async fn subnets<C: Control>(State(control): State<Arc<C>>) -> Json<SubnetList> {
    Json(control.subnets())
}

/// How many more tasks fit, and why not more.
#[utoipa::path(
    get, path = "/v1/capacity", tag = "vpc", operation_id = "capacity",
    responses((status = 200, description = "Tasks and limits", body = Capacity))
)]
pub(super) async fn capacity<C: Control>(State(control): State<Arc<C>>) -> Json<Capacity> {
    Json(control.capacity())
}

/// What the host can do, as an ECS container instance says it.
#[utoipa::path(
    get, path = "/v1/attributes", tag = "vpc", operation_id = "listAttributes",
    responses((status = 200, description = "By name", body = AttributeList))
)]
pub(super) async fn attributes<C: Control>(State(control): State<Arc<C>>) -> Json<AttributeList> {
    Json(control.attributes())
}
