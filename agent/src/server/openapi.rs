//! The API's description (OpenAPI 3.1), made from the handlers and the types that they take and give.

use axum::Json;
use utoipa::OpenApi;

use super::{cni, ecs, events, flow_logs, flows, metrics, security_groups, tasks, vpc};

/// The description of every path that the agent serves.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "branchline agent",
        description = "HTTP over the agent's Unix socket. Every error is an ErrorBody whose message names the \
                       field and the fix."
    ),
    paths(
        tasks::add,
        tasks::list,
        tasks::show,
        tasks::remove,
        tasks::set_groups,
        tasks::check,
        tasks::try_out,
        events::follow,
        ecs::run_task,
        ecs::describe_tasks,
        ecs::stop_task,
        vpc::network_interfaces,
        vpc::subnets,
        vpc::capacity,
        vpc::attributes,
        cni::collect_garbage,
        security_groups::list,
        security_groups::show,
        security_groups::apply,
        security_groups::diff,
        super::explain,
        flow_logs::list,
        flow_logs::apply,
        flows::events,
        flows::rates,
        super::status,
        metrics::health,
        metrics::answers,
        metrics::scrape,
        serve,
    )
)]
struct Document;

/// This description.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "agent", operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value))
)]
pub(super) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_ids_of_their_own_and_say_what_they_answer() {
        let document = document();
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in &document.paths.paths {
            let operations = [&item.get, &item.post, &item.put, &item.delete];
            for operation in operations.into_iter().flatten() {
                let id = operation.operation_id.clone().unwrap_or_default();
                assert!(!id.is_empty() && ids.insert(id.clone()), "{path}: {id}");
                assert!(!operation.responses.responses.is_empty(), "{path}");
                assert!(operation.summary.is_some(), "{path}: {id}");
            }
        }
        assert_eq!(ids.len(), 30);
    }
}
