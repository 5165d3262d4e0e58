//! THE tables: each kind of error, its HTTP status, its gRPC code and its published word.

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

/// What only the way of a call over the wire can be wrong about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireKind {
    /// There is no such path or RPC.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The body came too slowly.
    RequestTimeout,
    /// The content type is not that of the port.
    UnsupportedMediaType,
    /// The content encoding is not identity.
    UnsupportedContentEncoding,
    /// The body is not one JSON object in UTF-8.
    MalformedJson,
    /// The deadline that the caller set passed.
    CallerDeadlineExceeded,
}

impl WireKind {
    const ALL: [WireKind; 7] = [
        WireKind::NotFound,
        WireKind::MethodNotAllowed,
        WireKind::RequestTimeout,
        WireKind::UnsupportedMediaType,
        WireKind::UnsupportedContentEncoding,
        WireKind::MalformedJson,
        WireKind::CallerDeadlineExceeded,
    ];
}

/// The faces of `kind`. No wildcard arm: a new kind must choose.
pub fn of(kind: Kind) -> Status {
    let (http, grpc, code) = match kind {
        Kind::InvalidMessage => (StatusCode::BAD_REQUEST, Code::InvalidArgument, "invalid_message"),
        Kind::InvalidArgument => (StatusCode::BAD_REQUEST, Code::InvalidArgument, "invalid_argument"),
        Kind::Unauthenticated => (StatusCode::UNAUTHORIZED, Code::Unauthenticated, "unauthenticated"),
        Kind::PermissionDenied => (StatusCode::FORBIDDEN, Code::PermissionDenied, "permission_denied"),
        Kind::MessageNotFound => (StatusCode::NOT_FOUND, Code::NotFound, "message_not_found"),
        Kind::KeyNotFound => (StatusCode::NOT_FOUND, Code::NotFound, "key_not_found"),
        // Without RetryInfo: the same message will never be small enough.
        Kind::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, "body_too_large"),
        Kind::RateLimited => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted, "rate_limited"),
        Kind::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "overloaded"),
        Kind::Draining => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "draining"),
        Kind::StoreUnavailable => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "store_unavailable"),
        Kind::DiskFull => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "disk_full"),
        // A deadline of ours: UNAVAILABLE, because DEADLINE_EXCEEDED is the caller's own.
        Kind::DeadlineExceeded => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "deadline_exceeded"),
        Kind::CursorExpired => (StatusCode::GONE, Code::OutOfRange, "cursor_expired"),
        Kind::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, Code::DataLoss, "data_loss"),
        Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, "internal"),
    };
    Status { http, grpc, code }
}

/// The faces of what only the wire can be wrong about.
pub fn of_wire(kind: WireKind) -> Status {
    let (http, grpc, code) = match kind {
        // A path that does not exist is to gRPC a method that does not exist.
        WireKind::NotFound => (StatusCode::NOT_FOUND, Code::Unimplemented, "not_found"),
        WireKind::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, "method_not_allowed"),
        WireKind::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, Code::Unavailable, "request_timeout"),
        WireKind::UnsupportedMediaType => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, "unsupported_media_type")
        }
        WireKind::UnsupportedContentEncoding => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented, "unsupported_content_encoding")
        }
        WireKind::MalformedJson => (StatusCode::BAD_REQUEST, Code::InvalidArgument, "malformed_json"),
        WireKind::CallerDeadlineExceeded => {
            (StatusCode::SERVICE_UNAVAILABLE, Code::DeadlineExceeded, "caller_deadline_exceeded")
        }
    };
    Status { http, grpc, code }
}

/// Both tables.
pub fn all() -> impl Iterator<Item = Status> {
    Kind::ALL.into_iter().map(of).chain(WireKind::ALL.into_iter().map(of_wire))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_kind_has_a_word_of_its_own_in_snake_case() {
        let words: HashSet<_> = all().map(|face| face.code).collect();
        assert_eq!(words.len(), all().count());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }

    #[test]
    fn internal_errors_are_for_bugs_and_lost_contents_only() {
        let internal = |face: &Status| face.http.as_u16() == 500 || face.grpc == Code::Internal;
        let internal: Vec<_> = all().filter(internal).map(|face| face.code).collect();
        assert_eq!(internal, ["data_loss", "internal"]);
    }
}
