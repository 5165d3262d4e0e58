//! The JSON webhook, as the published page has it: `POST /{org_id}/{env}/v1/message-webhook`, and its description.
//!
//! The files mirror those of the gRPC edge, except that the page has no way to look a message up, and that a JSON body
//! has to be read before there is anything to convert.

mod body;
mod docs;
mod error;
mod error_page;
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

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::future::Either;
use http::{
    HeaderValue, Request, StatusCode,
    header::{ALLOW, CACHE_CONTROL},
};

use self::paths::{Handler, PATHS};
use crate::{
    protocol::{
        call::{Answer, Edge, Failure, Head, Report},
        status::WireKind,
    },
    service::{Call, MessageService, Protocol, Readiness, ReadinessState, Route},
};

pub use docs::openapi_json;

/// What a body says.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_body(body: &[u8]) -> Result<crate::domain::Draft, Failure> {
    Ok(message::parse(body, crate::domain::MediaRules::default())?.build()?)
}

/// The HTTP edge.
pub struct Http {
    service: Arc<MessageService>,
    readiness: Readiness,
    body_timeout: Duration,
    report: Arc<Report>,
}

impl Http {
    /// An edge over `service`, whose health is `readiness`; a body must be complete within `body_timeout`.
    pub fn new(service: Arc<MessageService>, readiness: &Readiness, body_timeout: Duration) -> Self {
        let readiness = readiness.clone();
        Self { service, readiness, body_timeout, report: Arc::new(Report::new(Self::PROTOCOL, Self::routes())) }
    }
}

impl Http {
    /// In one word, for this port is open to everybody: why not, the admin port tells.
    fn ready(&self, is_well: fn(ReadinessState) -> bool) -> Response {
        let is_ready = is_well(self.readiness.get());
        let (status, word) =
            if is_ready { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "unready\n") };
        (status, [(CACHE_CONTROL, "no-store")], word).into_response()
    }
}

impl Edge for Http {
    type Body = Body;
    const PROTOCOL: Protocol = Protocol::Http;

    fn routes() -> impl Iterator<Item = &'static Route> {
        // Without those for probes, which are no calls of anybody.
        let counted = PATHS.iter().filter(|path| !matches!(path.handler, Handler::Ready | Handler::ReadyToRead));
        counted.map(|path| &path.route).chain([Route::NONE])
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
            Some(Handler::ErrorDocs) => Either::Left(ready(docs::error_page())),
            Some(Handler::Docs) => Either::Left(ready(docs::page())),
            Some(Handler::Ready) => Either::Left(ready(self.ready(ReadinessState::accepts))),
            Some(Handler::ReadyToRead) => Either::Left(ready(self.ready(ReadinessState::reads))),
            // The way in refused it.
            None => Either::Left(ready(self.reject(&paths::not_found(request.uri().path()), call))),
        }
    }
}
