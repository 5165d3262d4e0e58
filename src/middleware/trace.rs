//! Goes on with the caller's trace, or begins one: a span of the whole call.

use http::{Method, Request};
use tracing::Span;

use crate::{
    domain::{ClientAddress, OverTls},
    protocol::call::Told,
    service::{Call, Protocol, Route},
    telemetry::{spans, trace},
};

/// The span of `call`, if it is traced; nothing is looked at for a call that is not.
pub(super) fn begin<B>(call: &Call, request: &Request<B>) -> Span {
    let sent = request.method();
    let pattern = call.route.pattern;
    let is_http = call.protocol == Protocol::Http;
    let span = trace::server(call.traceparent.as_ref(), request.headers(), || {
        if is_http { format!("{} {pattern}", method(sent)) } else { pattern.to_owned() }
    });
    if !span.is_none() {
        trace::note(&span, spans::REQUEST_ID, call.id.as_str().to_owned());
        if let Some(ClientAddress(address)) = request.extensions().get() {
            trace::note(&span, spans::CLIENT_ADDRESS, address.to_string());
        }
        if is_http {
            trace::note(&span, spans::HTTP_REQUEST_METHOD, method(sent));
            trace::note(&span, spans::HTTP_ROUTE, pattern);
            let is_tls = request.extensions().get::<OverTls>().is_some();
            trace::note(&span, spans::URL_SCHEME, if is_tls { "https" } else { "http" });
            // Other paths are anybody's words. Those of routes have the organisation and the environment in them, and no content.
            if call.route != Route::NONE {
                trace::note(&span, spans::URL_PATH, request.uri().path().to_owned());
            }
        } else {
            trace::note(&span, spans::RPC_SYSTEM_NAME, "grpc");
            trace::note(&span, spans::RPC_METHOD, pattern);
        }
    }
    span
}

/// Notes what `call` was answered.
pub(super) fn end(call: &Call, told: Told) {
    let span = &call.span;
    if span.is_none() {
        return;
    }
    let is_our_failure = match told {
        Told::Code(code) => {
            trace::note(span, spans::RPC_RESPONSE_STATUS_CODE, code_name(code));
            is_our_failure(code)
        }
        Told::Status(status) => {
            trace::note(span, spans::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()));
            status.is_server_error()
        }
    };
    if is_our_failure {
        trace::mark_failed(span);
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
