//! Goes on with the caller's trace, or begins one: a span of the whole call, and the caller's trace context for whoever
//! keeps it with a message.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Method, Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::Span;

use crate::{
    protocol::call::{Edge, RequestId, Route},
    telemetry::{spans, trace},
};

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct TraceLayer {
    route_of: fn(&str) -> Route,
    is_grpc: bool,
}

impl TraceLayer {
    pub(super) fn new<B>(edge: &Edge<B>) -> Self {
        Self { route_of: edge.route_of, is_grpc: edge.report.protocol() == "grpc" }
    }

    fn begin<R>(self, request: &mut Request<R>) -> Span {
        let parent = trace::sent(request.headers());
        if let Some(parent) = parent {
            request.extensions_mut().insert(parent);
        }
        // Nothing more is looked at for a call that is not traced.
        let told = || ((self.route_of)(request.uri().path()), method(request.method()));
        let span = trace::server(parent.as_ref(), || {
            let (route, method) = told();
            self.name(route, method)
        });
        if !span.is_none() {
            let (route, method) = told();
            trace::note(&span, spans::REQUEST_ID, RequestId::of(request.headers()).as_str().to_owned());
            if self.is_grpc {
                trace::note(&span, spans::RPC_SYSTEM_NAME, "grpc");
                trace::note(&span, spans::RPC_METHOD, route.pattern);
            } else {
                trace::note(&span, spans::HTTP_REQUEST_METHOD, method);
                trace::note(&span, spans::HTTP_ROUTE, route.pattern);
            }
        }
        span
    }

    fn name(self, route: Route, method: &str) -> String {
        if self.is_grpc { route.pattern.to_owned() } else { format!("{method} {}", route.pattern) }
    }

    fn end(self, span: &Span, status: http::StatusCode, headers: &HeaderMap) {
        if span.is_none() {
            return;
        }
        if self.is_grpc && status == http::StatusCode::OK {
            // An answer with a message tells its code after it, in trailers: it is a success unless it is a stream.
            let code = headers.get("grpc-status").map_or(Some(0), |code| code.to_str().ok()?.parse().ok());
            let code = tonic::Code::from_i32(code.unwrap_or(2));
            trace::note(span, spans::RPC_RESPONSE_STATUS_CODE, code_name(code));
            if is_our_failure(code) {
                trace::mark_failed(span);
            }
        } else {
            trace::note(span, spans::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()));
            if status.is_server_error() {
                trace::mark_failed(span);
            }
        }
    }
}

/// Methods are anybody's words; unknown ones would make as many names of spans.
fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The codes that the conventions call an error of a server's span.
fn is_our_failure(code: tonic::Code) -> bool {
    use tonic::Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
}

#[derive(Clone)]
pub(super) struct Traced<S> {
    inner: S,
    layer: TraceLayer,
}

impl<S> Layer<S> for TraceLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Traced { inner, layer: *self }
    }
}

impl<S, R, B> Service<Request<R>> for Traced<S>
where
    S: Service<Request<R>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Tracing<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<R>) -> Self::Future {
        let span = self.layer.begin(&mut request);
        let inner = span.in_scope(|| self.inner.call(request));
        Tracing { inner, span, layer: self.layer }
    }
}

pin_project! {
    pub(super) struct Tracing<F> {
        #[pin]
        inner: F,
        span: Span,
        layer: TraceLayer,
    }
}

impl<F, B, E> Future for Tracing<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _entered = this.span.enter();
        let response = ready!(this.inner.poll(cx))?;
        this.layer.end(this.span, response.status(), response.headers());
        Poll::Ready(Ok(response))
    }
}
