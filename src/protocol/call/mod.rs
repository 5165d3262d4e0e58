//! What both edges share about one call: who makes it, and how its failure is told, logged and counted.

mod bearer;
mod failure;
mod json_error;
mod report;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method, Request, Response, Version};

pub use bearer::{authenticate, authenticate_known, names_a_browser_key};
pub use failure::{ERROR_DOCS, Failure};
pub use json_error::{ErrorBody, JSON, ViolationBody, json_error};
pub use report::{Report, Told};

use crate::service::{Call, Protocol, Route};

/// What the way in ([`crate::middleware`]) must know of the edge behind it.
pub trait Edge: Send + Sync + 'static {
    /// Of its answers.
    type Body: Default + Send + 'static;
    /// Its protocol.
    const PROTOCOL: Protocol;

    /// Every route, for metrics.
    fn routes() -> impl Iterator<Item = &'static Route>;

    /// The route of a path, or [`Route::NONE`].
    fn route_of(path: &str) -> &'static Route;

    /// Logs and counts.
    fn report(&self) -> &Arc<Report>;

    /// The refusal of a request that is not of the edge's protocol at all, whatever it asks for.
    fn foreign(head: &Head<'_>) -> Option<Failure>;

    /// What is told of a path without a route.
    fn not_found(path: &str) -> Failure;

    /// How long the caller is willing to wait, where its protocol lets it tell.
    fn patience(_: &HeaderMap) -> Option<Duration> {
        None
    }

    /// Gives a failure the edge's shape.
    fn render(failure: &Failure, call: &Call) -> Response<Self::Body>;

    /// Gives the refusal of a foreign request a shape that whoever sent it takes for one.
    fn render_foreign(failure: &Failure, call: &Call) -> Response<Self::Body> {
        Self::render(failure, call)
    }

    /// The answer to a call that failed; logged and counted.
    fn reject(&self, failure: &Failure, call: &Call) -> Response<Self::Body> {
        self.report().failure(failure, call);
        Self::render(failure, call)
    }
}

/// Answers the calls that were let in, with bodies of type `R`.
pub trait Answer<R>: Edge {
    /// The answer, a failure's too.
    fn answer(&self, call: &Call, request: Request<R>) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// By what a request tells of which protocol it is.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Of HTTP.
    pub version: Version,
    /// The method.
    pub method: &'a Method,
    /// The headers.
    pub headers: &'a HeaderMap,
}

impl<'a> Head<'a> {
    /// That of `request`.
    pub fn of<R>(request: &'a Request<R>) -> Self {
        Self { version: request.version(), method: request.method(), headers: request.headers() }
    }
}
