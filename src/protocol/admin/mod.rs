//! The admin listener: `/livez`, `/readyz`, `/metrics`. For probes and scrapers inside, never for the outside.
//!
//! `/readyz` and `/readyz/webhook` say whether messages are taken, `/readyz/grpc` whether they can be read.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header::CONTENT_TYPE};

use crate::service::{Readiness, ReadinessState};

/// What Prometheus calls its text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone)]
struct Admin {
    readiness: Readiness,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// The routes. `metrics` renders what `/metrics` answers, in Prometheus' text format.
pub fn router(readiness: Readiness, metrics: impl Fn() -> String + Send + Sync + 'static) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(ready_to_accept))
        .route("/readyz/webhook", get(ready_to_accept))
        .route("/readyz/grpc", get(ready_to_read))
        .route("/metrics", get(render_metrics))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"))
        .fallback(async || (StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n"))
        .with_state(Admin { readiness, metrics: Arc::new(metrics) })
}

/// Never asks the store: where it cannot accept for now, a restart would not heal it, and would end what still works. A
/// store that has said that only a restart helps is another matter.
async fn livez(State(admin): State<Admin>) -> Response {
    match admin.readiness.get() {
        ReadinessState::StoreFailed => (StatusCode::SERVICE_UNAVAILABLE, "store_failed\n").into_response(),
        ReadinessState::Starting
        | ReadinessState::Ready
        | ReadinessState::ReadOnly
        | ReadinessState::StoreUnavailable
        | ReadinessState::Draining => "live\n".into_response(),
    }
}

async fn ready_to_accept(State(admin): State<Admin>) -> Response {
    let state = admin.readiness.get();
    ready(state, state.accepts())
}

async fn ready_to_read(State(admin): State<Admin>) -> Response {
    let state = admin.readiness.get();
    ready(state, state.reads())
}

fn ready(state: ReadinessState, is_ready: bool) -> Response {
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", state.as_str())).into_response()
}

async fn render_metrics(State(admin): State<Admin>) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], (admin.metrics)()).into_response()
}
