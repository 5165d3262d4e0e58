//! Failures of the service, as gRPC tells them.

use std::time::Duration;

use message_webhook::{
    domain::Rate,
    protocol::grpc::v1::{SubmitMessageRequest, submit_message_request::Media},
    service::{AdmissionLimits, RateLimits},
};
use tonic::Code;

use super::client::{Failure, Refused, message, with_key};
use crate::support::{
    edges::{Edges, Settings},
    flaky::Mood,
};

async fn refused(edges: &Edges, request: SubmitMessageRequest) -> Failure {
    let mut client = edges.grpc_client().await.max_encoding_message_size(usize::MAX);
    Failure::of(&client.submit_message(with_key(&edges.key, request)).await.refused("refused"))
}

#[tokio::test]
async fn every_mistake_is_told_at_once_by_the_names_of_the_proto() {
    let edges = Edges::start().await;
    let request = SubmitMessageRequest {
        message_sid: "a\u{7}".into(),
        timestamp: Some(prost_types::Timestamp { seconds: -1, nanos: 0 }),
        media: Some(Media::ImageUrl("https://localhost/a.jpg".into())),
        ..SubmitMessageRequest::default()
    };
    let failure = refused(&edges, request).await;
    assert!(failure.is(Code::InvalidArgument, "INVALID_MESSAGE"));
    let found: Vec<_> = failure.violations.iter().map(|(field, word)| (field.as_str(), word.as_str())).collect();
    assert_eq!(
        found,
        [
            ("from_id", "missing"),
            ("message_sid", "control_character"),
            ("timestamp", "timestamp_out_of_range"),
            ("image_url", "private_host"),
        ]
    );
    assert_eq!(failure.retry_after, None);
}

#[tokio::test]
async fn a_message_over_the_limit_is_body_too_large_without_a_time_to_retry_whoever_finds_it() {
    let edges = Edges::start().await;
    // The first is found by the service's own check, the second by the framework's.
    for bytes in [256 * 1024, 16 << 20] {
        let request = SubmitMessageRequest { message_body: Some("x".repeat(bytes)), ..message("s") };
        let failure = refused(&edges, request).await;
        assert!(failure.is(Code::ResourceExhausted, "BODY_TOO_LARGE"), "{failure:?}");
        assert_eq!(failure.retry_after, None);
    }
    let most = SubmitMessageRequest { message_body: Some("x".repeat(256 * 1024 - 64)), ..message("s") };
    edges.grpc_client().await.submit_message(with_key(&edges.key, most)).await.expect("within the limit");
}

#[tokio::test]
async fn quota_overload_store_and_deadline_carry_the_time_to_retry() {
    let rates = RateLimits { per_org: Rate::parse("1/s"), ..RateLimits::default() };
    let admission = AdmissionLimits { in_flight: 9, rates };
    let edges = Edges::start_with(Settings { admission, ..Settings::default() }).await;
    let mut client = edges.grpc_client().await;
    client.submit_message(with_key(&edges.key, message("s"))).await.expect("the first");
    let failure = refused(&edges, message("s")).await;
    assert!(failure.is(Code::ResourceExhausted, "RATE_LIMITED") && failure.retry_after.is_some());

    let settings = Settings { store_deadline: Duration::from_millis(50), ..Settings::default() };
    let edges = Edges::start_with(settings).await;
    edges.store.set_mood(Mood::Failing);
    let failure = refused(&edges, message("s")).await;
    assert!(failure.is(Code::Unavailable, "STORE_UNAVAILABLE") && failure.retry_after.is_some());
    edges.store.set_mood(Mood::Silent);
    let failure = refused(&edges, message("s")).await;
    assert!(failure.is(Code::Unavailable, "DEADLINE_EXCEEDED") && failure.retry_after.is_some());

    let edges = Edges::start_with(Settings { requests_in_flight: 0, ..Settings::default() }).await;
    let failure = refused(&edges, message("s")).await;
    assert!(failure.is(Code::Unavailable, "OVERLOADED") && failure.retry_after.is_some());
}

#[tokio::test]
async fn a_panic_is_internal_and_tells_nothing() {
    let edges = Edges::start().await;
    edges.store.set_mood(Mood::Panicking);
    let mut client = edges.grpc_client().await;
    let status = client.submit_message(with_key(&edges.key, message("s"))).await.refused("a bug");
    assert!(Failure::of(&status).is(Code::Internal, "INTERNAL"));
    assert_eq!(status.message(), "Internal server error");
    edges.store.set_mood(Mood::Fine);
    client.submit_message(with_key(&edges.key, message("s"))).await.expect("on the same connection");
}
