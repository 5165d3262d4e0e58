//! What the framework refuses before a method is called (a message that is no protobuf or too large to hold) is told like
//! everything else: with the codes of the table and with details.

use std::error::Error as StdError;

use http::Response;
use tonic::{Code, Status, body::Body};

use crate::{
    domain::Error,
    protocol::call::Failure,
    service::{Access, Route},
};

/// The error behind an answer that is the framework's own. Those of our methods carry details.
pub(super) fn refusal(response: &Response<Body>, route: &Route) -> Option<Failure> {
    let headers = response.headers();
    let code = Code::from_bytes(headers.get(Status::GRPC_STATUS)?.as_bytes());
    let is_ours = headers.contains_key(Status::GRPC_STATUS_DETAILS);
    // Health and reflection are others' protocols, with their own words.
    if is_ours || route.access == Access::Open {
        return None;
    }
    of_code(code)
}

/// What to say of what was read of a stream of messages where a message should be: an error that is not told yet, or a status
/// of ours that is. `None` where the connection broke: that is nobody's mistake, and nobody hears the answer.
pub(super) fn unreadable(status: Status) -> Option<Result<Failure, Status>> {
    if !status.details().is_empty() {
        Some(Err(status))
    } else if StdError::source(&status).is_some() {
        None
    } else {
        of_code(status.code()).map(Ok)
    }
}

fn of_code(code: Code) -> Option<Failure> {
    match code {
        Code::Ok | Code::Cancelled => None,
        Code::Unimplemented => Some(Failure::compressed_message()),
        Code::OutOfRange | Code::ResourceExhausted => Some(Failure::too_large_to_read()),
        // Where a stream of bytes does not decode, tonic says INTERNAL, or UNKNOWN where it breaks off.
        Code::Internal | Code::Unknown => Some(Failure::not_protobuf()),
        other @ (Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated) => Some(Error::internal(format!("the framework answered {other:?}")).into()),
    }
}
