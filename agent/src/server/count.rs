//! Counts requests under the operation ids of the API's description, so that their names are bounded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use super::openapi;
use crate::metrics::ApiRequests;

/// What is no operation of the API.
const OTHER: &str = "other";

/// Where requests are counted, and under which names.
#[derive(Debug, Clone)]
pub(super) struct Counting {
    requests: ApiRequests,
    operations: Arc<HashMap<(Method, String), String>>,
}

impl Counting {
    pub(super) fn new(requests: ApiRequests) -> Self {
        let mut operations = HashMap::new();
        for (path, item) in openapi::document().paths.paths {
            let methods = [
                (Method::GET, item.get),
                (Method::POST, item.post),
                (Method::PUT, item.put),
                (Method::DELETE, item.delete),
            ];
            for (method, operation) in methods {
                if let Some(id) = operation.and_then(|operation| operation.operation_id) {
                    operations.insert((method, path.clone()), id);
                }
            }
        }
        Self {
            requests,
            operations: Arc::new(operations),
        }
    }

    fn operation(&self, request: &Request) -> &str {
        let path = request.extensions().get::<MatchedPath>();
        let found = path.and_then(|path| {
            let method = match *request.method() {
                // What answers GET answers HEAD.
                Method::HEAD => Method::GET,
                ref method => method.clone(),
            };
            self.operations.get(&(method, path.as_str().to_owned()))
        });
        found.map_or(OTHER, String::as_str)
    }
}

/// Passes a request on and counts its answer.
pub(super) async fn count(
    State(counting): State<Counting>,
    request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let operation = counting.operation(&request).to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let requests = &counting.requests;
    requests.answered(&operation, status, start.elapsed());
    response
}
