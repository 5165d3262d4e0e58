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
mod paths;
mod submit;

use std::{
    future::{Future, ready},
    sync::Arc,
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::future::Either;
use http::{HeaderValue, Request, header::ALLOW};

use self::paths::{Handler, PATHS};
use crate::{
    protocol::{
        call::{Answer, Edge, Failure, Head, Report},
        status::WireKind,
    },
    service::{Call, MessageService, Protocol, Route},
};

pub use docs::openapi_json;

/// The HTTP edge.
pub struct Http {
    service: Arc<MessageService>,
    body_timeout: Duration,
    report: Arc<Report>,
}

impl Http {
    /// An edge over `service`; a body must be complete within `body_timeout`.
    pub fn new(service: Arc<MessageService>, body_timeout: Duration) -> Self {
        Self { service, body_timeout, report: Arc::new(Report::new(Self::PROTOCOL, Self::routes())) }
    }
}

impl Edge for Http {
    type Body = Body;
    const PROTOCOL: Protocol = Protocol::Http;

    fn routes() -> impl Iterator<Item = &'static Route> {
        PATHS.iter().map(|path| &path.route).chain([Route::NONE])
    }

    fn route_of(path: &str) -> &'static Route {
        paths::route_of(path)
    }

    fn report(&self) -> &Arc<Report> {
        &self.report
    }

    fn foreign(head: &Head<'_>) -> Option<Failure> {
        foreign::refusal(head)
    }

    fn not_found(path: &str) -> Failure {
        paths::not_found(path)
    }

    fn render(failure: &Failure, call: &Call) -> Response {
        let mut response = error::render(failure, &call.id);
        if failure.is(WireKind::MethodNotAllowed) {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(call.route.methods));
        }
        response
    }
}

impl<B> Answer<B> for Http
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    fn answer(&self, call: &Call, request: Request<B>) -> impl Future<Output = Response> + Send {
        match paths::handler_of(call.route) {
            Some(Handler::Submit) => Either::Right(submit::submit(self, call, request)),
            Some(Handler::OpenApi) => Either::Left(ready(docs::openapi())),
            Some(Handler::Docs) => Either::Left(ready(docs::page())),
            // The way in refused it.
            None => Either::Left(ready(self.reject(&paths::not_found(request.uri().path()), call))),
        }
    }
}
