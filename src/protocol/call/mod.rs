//! What both edges share about one call: its id, its caller, and how its failure is told, logged and counted.

mod bearer;
mod json_error;
mod report;
mod request_id;

use http::{HeaderMap, Method, Request, Response, Version};

pub use bearer::{authenticate, authenticate_known};
pub use json_error::{ErrorBody, JSON, ViolationBody, json_error};
pub use report::Report;
pub use request_id::{RequestId, X_REQUEST_ID};

use crate::domain::{Error, Kind, Scope};

/// What the layers of [`crate::middleware`] must know of the edge behind them.
pub struct Edge<B> {
    /// Logs and counts.
    pub report: Report,
    /// Tells the route of a path.
    pub route_of: fn(&str) -> Route,
    /// Every route of the edge, for metrics.
    pub routes: &'static [Route],
    /// Gives an error the edge's shape.
    pub render: fn(&Error, &RequestId) -> Response<B>,
    /// The refusal of a request that is not of the edge's protocol at all, whatever it asks for.
    pub foreign: fn(&Head<'_>) -> Option<Error>,
    /// Gives such a refusal a shape that whoever sent the request takes for one.
    pub render_foreign: fn(&Error, &RequestId) -> Response<B>,
}

/// When the caller's patience ends, among a request's extensions where it told.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(pub tokio::time::Instant);

impl Deadline {
    /// What is answered then.
    pub fn error() -> Error {
        Error::new(
            Kind::CallerDeadlineExceeded,
            "The deadline of this call passed; repeat the call to learn what became of it",
        )
    }
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

/// One thing that can be called; anything that does not exist is [`Route::NONE`], so that labels stay few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The word in logs and metrics, such as `submit`.
    pub name: &'static str,
    /// Its path without what callers put into it, or its method, for spans.
    pub pattern: &'static str,
    /// The scope that a key must have, where the layer that checks keys does so for this route.
    pub scope: Option<Scope>,
}

impl Route {
    /// Whatever does not exist.
    pub const NONE: Route = Route { name: "none", pattern: "_OTHER", scope: None };
}

impl<B> Edge<B> {
    /// The answer to a call that failed before or after the edge itself; logged and counted.
    pub fn reject(&self, error: &Error, route: Route, id: &RequestId) -> Response<B> {
        self.report.failure(error, route, id);
        (self.render)(error, id)
    }
}
