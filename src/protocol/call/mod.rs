//! What both edges share about one call: its id, its caller, and how its failure is told, logged and counted.

mod bearer;
mod report;
mod request_id;

use http::Response;

pub use bearer::{authenticate, authenticate_known};
pub use report::Report;
pub use request_id::{RequestId, X_REQUEST_ID};

use crate::domain::Error;

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
}

/// One thing that can be called; anything that does not exist is [`Route::NONE`], so that labels stay few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The word in logs and metrics, such as `submit`.
    pub name: &'static str,
    /// Its path without what callers put into it, or its method, for spans.
    pub pattern: &'static str,
    /// Whether the layer that checks keys does so for this route.
    pub needs_key: bool,
}

impl Route {
    /// Whatever does not exist.
    pub const NONE: Route = Route { name: "none", pattern: "_OTHER", needs_key: false };
}

impl<B> Edge<B> {
    /// The answer to a call that failed before or after the edge itself; logged and counted.
    pub fn reject(&self, error: &Error, route: Route, id: &RequestId) -> Response<B> {
        self.report.failure(error, route, id);
        (self.render)(error, id)
    }
}
