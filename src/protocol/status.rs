//! THE table: each kind of error, its HTTP status, its gRPC code and its published word.

use http::StatusCode;
use tonic::Code;

use crate::domain::Kind;

/// The faces of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Over HTTP.
    pub http: StatusCode,
    /// Over gRPC.
    pub grpc: Code,
    /// `code` in JSON; in upper case the `reason` of gRPC's `ErrorInfo`.
    pub code: &'static str,
}

/// The faces of `kind`. No wildcard arm: a new kind must choose.
pub fn of(kind: Kind) -> Status {
    let (http, grpc, code) = match kind {
        Kind::InvalidMessage => (StatusCode::BAD_REQUEST, Code::InvalidArgument, "invalid_message"),
        Kind::InvalidArgument => (StatusCode::BAD_REQUEST, Code::InvalidArgument, "invalid_argument"),
        Kind::MalformedJson => (StatusCode::BAD_REQUEST, Code::InvalidArgument, "malformed_json"),
        Kind::Unauthenticated => (StatusCode::UNAUTHORIZED, Code::Unauthenticated, "unauthenticated"),
        Kind::PermissionDenied => (StatusCode::FORBIDDEN, Code::PermissionDenied, "permission_denied"),
        // A path that does not exist is to gRPC a method that does not exist.
        Kind::NotFound => (StatusCode::NOT_FOUND, Code::Unimplemented, "not_found"),
        Kind::MessageNotFound => (StatusCode::NOT_FOUND, Code::NotFound, "message_not_found"),
        Kind::KeyNotFound => (StatusCode::NOT_FOUND, Code::NotFound, "key_not_found"),
        Kind::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, "method_not_allowed"),
        Kind::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, Code::Unavailable, "request_timeout"),
        // Without RetryInfo: the same message will never be small enough.
        Kind::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, "body_too_large"),
        Kind::UnsupportedMediaType => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, "unsupported_media_type")
        }
        Kind::UnsupportedContentEncoding => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented, "unsupported_content_encoding")
        }
        Kind::RateLimited => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, "rate_limited"),
        Kind::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "overloaded"),
        Kind::Draining => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "draining"),
        Kind::StoreUnavailable => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "store_unavailable"),
        Kind::DiskFull => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "disk_full"),
        // A deadline of ours: UNAVAILABLE, because DEADLINE_EXCEEDED is the caller's own.
        Kind::DeadlineExceeded => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "deadline_exceeded"),
        Kind::CallerDeadlineExceeded => {
            (StatusCode::SERVICE_UNAVAILABLE, Code::DeadlineExceeded, "caller_deadline_exceeded")
        }
        Kind::CursorExpired => (StatusCode::GONE, Code::OutOfRange, "cursor_expired"),
        Kind::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, Code::DataLoss, "data_loss"),
        Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, "internal"),
    };
    Status { http, grpc, code }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_kind_has_a_word_of_its_own_in_snake_case() {
        let words: HashSet<_> = Kind::ALL.iter().map(|kind| of(*kind).code).collect();
        assert_eq!(words.len(), Kind::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn internal_errors_are_for_bugs_and_lost_contents_only() {
        let internal = |kind: &&Kind| of(**kind).http.as_u16() == 500 || of(**kind).grpc == Code::Internal;
        assert_eq!(Kind::ALL.iter().filter(internal).collect::<Vec<_>>(), [&Kind::DataLoss, &Kind::Internal]);
    }
}
