//! The JSON webhook, as the published page has it: `POST /{org_id}/{env}/v1/message-webhook`, and its description.
//!
//! The files mirror those of the gRPC edge, except that the page has no way to look a message up, and that a JSON body
//! has to be read before there is anything to convert.

mod body;
mod docs;
mod error;
mod foreign;
mod headers;
mod message;
mod openapi;
mod submit;
mod target;

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{BoxError, Router, body::Body, response::Response, routing::any};
use bytes::Bytes;
use http::Request;
use tower::Service;

use crate::{
    domain::{Error, Kind},
    protocol::call::{Edge, Report, RequestId, Route},
    service::{Keys, MessageService},
};

pub use docs::openapi_json;

const SUBMIT: Route = Route { name: "submit", pattern: "/{org_id}/{env}/v1/message-webhook", scope: None };
const DOCS: Route = Route { name: "docs", pattern: "/docs", scope: None };

/// The HTTP edge; cheap to clone.
#[derive(Clone)]
pub struct Http(Arc<Parts>);

struct Parts {
    service: Arc<MessageService>,
    keys: Arc<Keys>,
    body_timeout: Duration,
    edge: Arc<Edge<Body>>,
}

impl Http {
    /// An edge over `service`; a body must be complete within `body_timeout`.
    pub fn new(service: Arc<MessageService>, keys: Arc<Keys>, body_timeout: Duration) -> Self {
        let edge = Edge {
            report: Report::new("http"),
            route_of,
            routes: &[SUBMIT, DOCS, Route::NONE],
            render: error::render,
            foreign: foreign::refusal,
            render_foreign: error::render,
        };
        Self(Arc::new(Parts { service, keys, body_timeout, edge: Arc::new(edge) }))
    }

    /// What the layers of [`crate::middleware::http`] need to know.
    pub fn edge(&self) -> Arc<Edge<Body>> {
        Arc::clone(&self.0.edge)
    }

    /// All routes, as one service for the listener.
    pub fn routes(&self) -> Routes {
        let documents = Router::new()
            .route(docs::OPENAPI_PATH, any(docs::openapi))
            .route(docs::DOCS_PATH, any(docs::page))
            .with_state(self.clone());
        Routes { http: self.clone(), documents }
    }
}

/// The webhook, and the documents beside it. The webhook is told by the one reading of its path there is and reached
/// without a router's; its order of checks is `submit::handle`'s, so every method comes to it.
#[derive(Clone)]
pub struct Routes {
    http: Http,
    documents: Router,
}

impl<B> Service<Request<B>> for Routes
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match route_of(request.uri().path()) {
            SUBMIT => Box::pin(submit::handle(self.http.clone(), request)),
            DOCS => Box::pin(self.documents.call(request.map(Body::new))),
            _ => {
                let refusal = self.http.0.edge.reject(
                    &not_found(request.uri().path()),
                    Route::NONE,
                    &RequestId::of(request.headers()),
                );
                Box::pin(ready(Ok(refusal)))
            }
        }
    }
}

/// Whether `path` exists, whatever may be done with it.
pub fn exists(path: &str) -> bool {
    target::exists(path)
}

fn route_of(path: &str) -> Route {
    match path {
        docs::OPENAPI_PATH | docs::DOCS_PATH => DOCS,
        _ if exists(path) => SUBMIT,
        _ => Route::NONE,
    }
}

fn not_found(path: &str) -> Error {
    let message = if exists(path.trim_end_matches('/')) {
        "There is no such path; leave the slash at its end out"
    } else {
        "There is no such path; send messages to /{org_id}/{env}/v1/message-webhook, where env is 'dev' or 'prod'"
    };
    Error::new(Kind::NotFound, message)
}
