//! The HTTP form of an error: JSON.

use axum::{body::Body, response::Response};

pub(super) use crate::protocol::call::{ErrorBody, JSON, ViolationBody};
use crate::{
    protocol::call::{Failure, json_error},
    service::RequestId,
};

/// The answer to a call that failed.
pub(super) fn render(failure: &Failure, id: &RequestId) -> Response {
    json_error(failure, id).map(Body::from)
}
