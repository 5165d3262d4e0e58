//! What comes to the gRPC port and is no gRPC. An error of gRPC's would be a 200 to whoever looks at the status alone: a
//! webhook that was sent to the wrong port would look accepted.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, Version, header::CONTENT_TYPE};
use http_body_util::Full;
use tonic::body::Body;

use crate::{
    protocol::call::{Failure, Head, json_error},
    service::RequestId,
};

/// The refusal of a request that is not gRPC.
pub(super) fn refusal(head: &Head<'_>) -> Option<Failure> {
    let is_grpc = head.version == Version::HTTP_2 && *head.method == Method::POST && has_type(head.headers);
    (!is_grpc).then(Failure::not_grpc)
}

/// The same JSON as on the HTTP port, with a status that every client takes for a refusal.
pub(super) fn render(failure: &Failure, id: &RequestId) -> Response<Body> {
    json_error(failure, id).map(|json: Bytes| Body::new(Full::new(json)))
}

/// `application/grpc` or `application/grpc+proto`. Others that begin so are other protocols (`application/grpc-web`) or
/// carry messages that are not protobuf (`+json`).
fn has_type(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (Some(value), None) => is_grpc(value),
        _ => false,
    }
}

fn is_grpc(value: &HeaderValue) -> bool {
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    ["application/grpc", "application/grpc+proto"].iter().any(|known| essence.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_protobuf_over_grpc_is_grpc() {
        let of = |value: &'static str| is_grpc(&HeaderValue::from_static(value));
        for good in ["application/grpc", "application/grpc+proto", "Application/gRPC", "application/grpc; a=b"] {
            assert!(of(good), "{good}");
        }
        for bad in [
            "",
            "application/json",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc+json",
            "application/grpcx",
        ] {
            assert!(!of(bad), "{bad}");
        }
    }
}
