//! The JSON form of an error: the HTTP edge's own, and what anybody hears who sends something else than gRPC to gRPC.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::Failure;
use crate::{
    domain::{RateExceeded, Violation},
    service::RequestId,
};

/// The content type of JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Which limit there is. Not among the names that `http` knows, as [`RATELIMIT`].
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// How much of it is left.
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

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
    /// The path, on the webhook's port, of what the code means and what to do.
    doc_url: String,
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
        doc_url: failure.doc_url(),
    };
    // Texts always have a JSON form.
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = face.http;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if let Some(delay) = failure.retry_after() {
        headers.insert(RETRY_AFTER, seconds(delay).into());
    }
    if let Some(RateExceeded { limit, rate, wait }) = failure.rate_exceeded() {
        // Of draft-ietf-httpapi-ratelimit-headers: so much in such a window, and nothing left for so long.
        let name = limit.as_str();
        let texts = [
            (RATELIMIT_POLICY, format!("\"{name}\";q={};w={}", rate.burst(), seconds(rate.window()))),
            (RATELIMIT, format!("\"{name}\";r=0;t={}", seconds(*wait))),
        ];
        for (name, text) in texts {
            headers.extend(HeaderValue::try_from(text).ok().map(|value| (name, value)));
        }
    }
    if face.http == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Whole seconds, rounded up: sooner would be too soon.
fn seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}
