//! The JSON form of an error: the HTTP edge's own, and what anybody hears who sends something else than gRPC to gRPC.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::Failure;
use crate::{domain::Violation, service::RequestId};

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
        Self { field: violation.field.as_str(), code: violation.code.as_str(), message: &violation.message }
    }
}

/// The answer to a call that failed.
pub fn json_error(failure: &Failure, id: &RequestId) -> Response<Bytes> {
    let face = failure.face();
    let body = ErrorBody {
        status: "error",
        code: face.code,
        message: failure.public_message(),
        errors: failure.violations().iter().map(ViolationBody::of).collect(),
        request_id: id.as_str(),
    };
    // Texts always have a JSON form.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = face.http;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if let Some(delay) = failure.retry_after() {
        // Whole seconds, rounded up: sooner would be too soon.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, seconds.max(1).into());
    }
    if face.http == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
