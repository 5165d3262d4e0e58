//! The JSON webhook, as the published page has it: `POST /{org_id}/{env}/v1/message-webhook`, and its description.
//!
//! The files mirror those of the gRPC edge, except that the page has no way to look a message up, and that a JSON body
//! has to be read before there is anything to convert.

mod body;
mod docs;
mod error;
mod headers;
mod message;
mod openapi;
mod submit;
mod target;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
    routing::any,
};

use crate::{
    domain::{Error, Kind},
    protocol::call::{Edge, Report, RequestId, Route},
    service::{Keys, MessageService},
};

pub use docs::openapi_json;

const SUBMIT: Route = Route { name: "submit", needs_key: false };
const DOCS: Route = Route { name: "docs", needs_key: false };

/// The HTTP edge; cheap to clone.
#[derive(Clone)]
pub struct Http(Arc<Parts>);

struct Parts {
    service: Arc<MessageService>,
    keys: Arc<Keys>,
    body_timeout: Duration,
    body_budget: Arc<body::Budget>,
    edge: Arc<Edge<Body>>,
}

/// What the bodies of all requests under way may take of memory.
const BODIES_BYTES: usize = 64 * 1024 * 1024;

impl Http {
    /// An edge over `service`; a body must be complete within `body_timeout`.
    pub fn new(service: Arc<MessageService>, keys: Arc<Keys>, body_timeout: Duration) -> Self {
        let edge =
            Edge { report: Report::new("http"), route_of, routes: &[SUBMIT, DOCS, Route::NONE], render: error::render };
        let body_budget = body::Budget::new(BODIES_BYTES.max(service.limits().body_bytes));
        Self(Arc::new(Parts { service, keys, body_timeout, body_budget, edge: Arc::new(edge) }))
    }

    /// What the layers of [`crate::middleware::http`] need to know.
    pub fn edge(&self) -> Arc<Edge<Body>> {
        Arc::clone(&self.0.edge)
    }

    /// The routes. The order of their checks is `submit::handle`'s, so every method comes to it.
    pub fn router(&self) -> Router {
        Router::new()
            .route(target::PATTERN, any(submit::handle))
            .route(docs::OPENAPI_PATH, any(docs::openapi))
            .route(docs::DOCS_PATH, any(docs::page))
            .fallback(no_such_path)
            .with_state(self.clone())
    }
}

/// Whether `path` exists, whatever may be done with it.
pub fn exists(path: &str) -> bool {
    target::parse(path).is_ok()
}

fn route_of(path: &str) -> Route {
    match path {
        docs::OPENAPI_PATH | docs::DOCS_PATH => DOCS,
        _ if exists(path) => SUBMIT,
        _ => Route::NONE,
    }
}

async fn no_such_path(State(http): State<Http>, request: Request) -> Response {
    let id = RequestId::of(request.headers());
    http.0.edge.reject(&not_found(), Route::NONE, &id)
}

fn not_found() -> Error {
    Error::new(
        Kind::NotFound,
        "There is no such path; send messages to /{org_id}/{env}/v1/message-webhook, where env is 'dev' or 'prod'",
    )
}
