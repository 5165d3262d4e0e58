//! The HTTP form of an error: JSON.

use axum::{body::Body, response::Response};

pub(super) use crate::protocol::call::{ErrorBody, JSON, ViolationBody};
use crate::{domain::Error, protocol::call::json_error, service::RequestId};

/// The answer to a call that failed with `error`.
pub(super) fn render(error: &Error, id: &RequestId) -> Response {
    json_error(error, id).map(Body::from)
}
