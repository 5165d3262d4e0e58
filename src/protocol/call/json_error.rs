//! The JSON form of an error: the HTTP edge's own, and what anybody hears who sends something else than gRPC to gRPC.

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::{Error, Kind, Violation},
    protocol::status,
    service::RequestId,
};

/// The content type of JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why a request failed.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody<'a> {
    /// Always `error`.
    status: &'static str,
    /// A stable word for programs.
    code: &'static str,
    /// A text for people; it reads well alone.
    message: &'a str,
    /// Every rule that was broken, in the order of the fields' table; empty where it is not about fields.
    errors: Vec<ViolationBody<'a>>,
    /// The id of this call, as in `x-request-id`.
    request_id: &'a str,
}

/// One broken rule.
#[derive(Serialize, ToSchema)]
#[schema(as = Violation)]
pub struct ViolationBody<'a> {
    /// The field.
    field: &'a str,
    /// A stable word for programs.
    code: &'static str,
    /// What to send instead.
    message: &'a str,
}

impl<'a> ViolationBody<'a> {
    fn of(violation: &'a Violation) -> Self {
        Self { field: &violation.field, code: violation.code.as_str(), message: &violation.message }
    }
}

/// The answer to a call that failed with `error`.
pub fn json_error(error: &Error, id: &RequestId) -> Response<Bytes> {
    let face = status::of(error.kind());
    let body = ErrorBody {
        status: "error",
        code: face.code,
        message: error.public_message(),
        errors: error.violations().iter().map(ViolationBody::of).collect(),
        request_id: id.as_str(),
    };
    // Texts always have a JSON form.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = face.http;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if let Some(delay) = error.retry_after() {
        // Whole seconds, rounded up: sooner would be too soon.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, seconds.max(1).into());
    }
    if error.kind() == Kind::Unauthenticated {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
