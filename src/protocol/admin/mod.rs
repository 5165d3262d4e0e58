//! The admin listener: `/livez`, `/readyz`, `/metrics`. For probes and scrapers inside, never for the outside.

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
        .route("/readyz", get(readyz))
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
        | ReadinessState::StoreUnavailable
        | ReadinessState::Draining => "live\n".into_response(),
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let state = admin.readiness.get();
    let status = match state {
        ReadinessState::Ready => StatusCode::OK,
        ReadinessState::Starting
        | ReadinessState::StoreUnavailable
        | ReadinessState::StoreFailed
        | ReadinessState::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", state.as_str())).into_response()
}

async fn render_metrics(State(admin): State<Admin>) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], (admin.metrics)()).into_response()
}
