//! The gRPC form of an error: a status with `google.rpc` details.

use std::{borrow::Cow, collections::HashMap};

use prost::Message as _;
use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt, pb};

use crate::{
    domain::{Error, Media, Violation},
    protocol::status,
    service::RequestId,
};

/// Whose reasons `ErrorInfo` names.
const DOMAIN: &str = "messagewebhook";

/// The status of a call that failed with `error`.
pub(super) fn status(error: &Error, id: &RequestId) -> Status {
    let face = status::of(error.kind());
    let metadata = HashMap::from([("request_id".to_owned(), id.as_str().to_owned())]);
    let mut details = ErrorDetails::new();
    details.set_error_info(face.code.to_ascii_uppercase(), DOMAIN, metadata);
    details.set_request_info(id.as_str(), "");
    if !error.violations().is_empty() {
        details.set_bad_request(error.violations().iter().map(field_violation).collect::<Vec<_>>());
    }
    if let Some(delay) = error.retry_after() {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(face.grpc, error.public_message(), details)
}

/// The same as a message, for an answer within a stream.
pub(super) fn to_message(status: &Status) -> pb::Status {
    // What a status carries in `grpc-status-details-bin` is this very message.
    pb::Status::decode(status.details()).unwrap_or_default()
}

/// `google.rpc` has no place of its own for the stable word, so the description begins with it.
fn field_violation(violation: &Violation) -> FieldViolation {
    let field: Cow<'_, str> = match violation.field.as_ref() {
        Media::IMAGE_FIELD => "image_url".into(),
        Media::AUDIO_FIELD => "audio_url".into(),
        other => other.into(),
    };
    FieldViolation::new(field, format!("{}: {}", violation.code.as_str(), violation.message))
}
