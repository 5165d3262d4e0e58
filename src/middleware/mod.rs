//! The layers of both servers, one file a concern, and the two stacks.
//!
//! A layer works on `http::Request` and knows of its edge only what [`Edge`] tells, so both protocols share it. A layer
//! that refuses a call does it through [`Edge::reject`], so a refusal looks like one of the edge's own. Every service
//! here is ready at any time and is called without being polled ready.

mod cors;
mod deadline;
mod foreign;
mod key;
mod metrics;
mod panic;
mod request_id;
mod shed;
mod trace;

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response};
use tower::{Service, ServiceBuilder};

pub use cors::Cors;

use crate::{protocol::call::Edge, service::Keys};

/// The stack of the external HTTP listener.
///
/// `max_in_flight` requests may be under way at once; the next one is answered 503.
pub fn http<S, R, B>(
    edge: Arc<Edge<B>>,
    service: S,
    cors: Cors,
    max_in_flight: usize,
) -> impl Service<Request<R>, Response = Response<B>, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static,
    R: Send + 'static,
    B: Default + Send + 'static,
{
    ServiceBuilder::new()
        // Outermost: every answer below, refusals and panics too, is told and found under its id.
        .layer(request_id::RequestIdLayer)
        // Below the id, which its span has, and around all that works for the call.
        .layer(trace::TraceLayer::new(&edge))
        // Counts what the caller sees, so above all that may refuse.
        .layer(metrics::MetricsLayer::new(&edge))
        // Below what counts, and above all that reads the request.
        .layer(foreign::ForeignLayer::new(&edge))
        // A browser hides an answer without these headers from its page, so above all that may refuse.
        .layer(cors::CorsLayer::new(cors, edge.route_of))
        // Catches what everything below may do wrong, and the layers above then treat it as an answer.
        .layer(panic::PanicLayer::new(&edge))
        // Before any work is done for the call.
        .layer(shed::ShedLayer::new(&edge, max_in_flight))
        // No key layer: the contract puts 404 and 405 before 401, so the handler asks for the caller itself, and it
        // cannot forget to: without a caller there is no `Authorized`.
        // No deadline layer: the body's time and the store's are limited where they pass.
        .service(service)
}

/// The stack of the gRPC listener.
///
/// `max_in_flight` calls may be under way at once; the next one is answered UNAVAILABLE. A key is checked within
/// `key_deadline`.
pub fn grpc<S, R, B>(
    edge: Arc<Edge<B>>,
    service: S,
    keys: Arc<Keys>,
    key_deadline: Duration,
    max_in_flight: usize,
) -> impl Service<Request<R>, Response = Response<B>, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static,
    R: Send + 'static,
    B: Send + 'static,
{
    ServiceBuilder::new()
        // The order and its reasons are those of HTTP.
        .layer(request_id::RequestIdLayer)
        .layer(trace::TraceLayer::new(&edge))
        .layer(metrics::MetricsLayer::new(&edge))
        // Above all that answers in gRPC's way, which is a 200 to who does not speak it.
        .layer(foreign::ForeignLayer::new(&edge))
        .layer(panic::PanicLayer::new(&edge))
        .layer(shed::ShedLayer::new(&edge, max_in_flight))
        // Around everything that may take time: the caller's patience covers the check of its key too.
        .layer(deadline::DeadlineLayer::new(&edge))
        // Before the message is read and decoded, so that only holders of keys can make us do it.
        .layer(key::KeyLayer::new(&edge, keys, key_deadline))
        .service(service)
}
