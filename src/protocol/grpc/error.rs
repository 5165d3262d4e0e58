//! The gRPC form of an error: a status with `google.rpc` details.

use std::collections::HashMap;

use prost::Message as _;
use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt, pb};

use crate::{
    domain::{Field, Violation},
    protocol::call::Failure,
    service::RequestId,
};

/// Whose reasons `ErrorInfo` names.
const DOMAIN: &str = "messagewebhook";

/// The status of a call that failed.
pub(super) fn status(failure: &Failure, id: &RequestId) -> Status {
    let face = failure.face();
    let metadata = [("request_id", id.as_str().to_owned()), ("doc_url", failure.doc_url())]
        .map(|(name, text)| (name.to_owned(), text));
    let mut details = ErrorDetails::new();
    details.set_error_info(face.code.to_ascii_uppercase(), DOMAIN, HashMap::from(metadata));
    details.set_request_info(id.as_str(), "");
    if !failure.violations().is_empty() {
        details.set_bad_request(failure.violations().iter().map(field_violation).collect::<Vec<_>>());
    }
    if let Some(delay) = failure.retry_after() {
        details.set_retry_info(Some(delay));
    }
    if let Some(exceeded) = failure.rate_exceeded() {
        details.add_quota_failure_violation(exceeded.limit.as_str(), format!("limit {}", exceeded.rate));
    }
    Status::with_error_details(face.grpc, failure.public_message(), details)
}

/// The same as a message, for an answer within a stream.
pub(super) fn to_message(status: &Status) -> pb::Status {
    // What a status carries in `grpc-status-details-bin` is this very message.
    pb::Status::decode(status.details()).unwrap_or_default()
}

/// `google.rpc` has no place of its own for the stable word, so the description begins with it.
fn field_violation(violation: &Violation) -> FieldViolation {
    let field = match &violation.field {
        Field::ImageUrls => "image_url",
        Field::AudioUrls => "audio_url",
        same @ (Field::FromId | Field::MessageSid | Field::Timestamp | Field::MessageBody | Field::Argument(_)) => {
            same.as_str()
        }
    };
    FieldViolation::new(field, format!("{}: {}", violation.code.as_str(), violation.message))
}
