//! Messages in and out.

use message_webhook::{
    domain::{Environment, Scope},
    protocol::grpc::v1::{
        self, GetMessageRequest, SubmitMessageRequest, SubmitOutcome, message::Media as Stored,
        submit_message_request::Media,
    },
};
use tonic::Code;

use super::client::{Failure, Refused, message, with_key};
use crate::support::{
    edges::{Edges, PATH},
    raw::{ask, post},
};

#[tokio::test]
async fn a_message_is_accepted_once_then_a_duplicate_and_can_be_read_back() {
    let edges = Edges::start().await;
    let mut client = edges.grpc_client().await;
    let sent = SubmitMessageRequest {
        message_body: Some(String::new()),
        media: Some(Media::AudioUrl("https://example.com/a.ogg?sig=1".into())),
        timestamp: Some(prost_types::Timestamp { seconds: 5, nanos: 1_999 }),
        ..message("s")
    };
    let first = client.submit_message(with_key(&edges.key, sent.clone())).await.expect("accepted");
    assert!(first.metadata().get("x-request-id").is_some());
    let first = first.into_inner();
    assert!(first.outcome() == SubmitOutcome::Accepted && first.message_sid == "s");
    assert!(!first.payload_mismatch && first.duplicates_until.is_some());
    let second = client.submit_message(with_key(&edges.key, sent.clone())).await.expect("known").into_inner();
    let expected = v1::SubmitMessageResponse { outcome: SubmitOutcome::Duplicate.into(), ..first.clone() };
    assert!(second == expected, "a duplicate is told the first acceptance");
    let other = SubmitMessageRequest { message_body: None, ..sent };
    let other = client.submit_message(with_key(&edges.key, other)).await.expect("known").into_inner();
    assert!(other.payload_mismatch);

    let request = GetMessageRequest { message_sid: "s".into(), ..GetMessageRequest::default() };
    let read = client.get_message(with_key(&edges.key, request)).await.expect("kept").into_inner();
    let expected = v1::Message {
        org_id: "acme".into(),
        env: v1::Environment::Dev.into(),
        message_sid: "s".into(),
        from_id: "u".into(),
        timestamp: Some(prost_types::Timestamp { seconds: 5, nanos: 1_000 }),
        message_body: Some(String::new()),
        media: Some(Stored::AudioUrl("https://example.com/a.ogg?sig=1".into())),
        accepted_at: first.accepted_at,
        traceparent: String::new(),
    };
    assert!(read.message == Some(expected), "the first content stays, to the microsecond");
}

#[tokio::test]
async fn one_sid_over_both_protocols_is_one_message() {
    let edges = Edges::start().await;
    let body = r#"{"from_id":"u","message_sid":"s","timestamp":1672531200}"#;
    assert_eq!(ask(edges.http, post(PATH, &edges.key, body)).await.json()["duplicate"], false);
    let mut client = edges.grpc_client().await;
    let receipt = client.submit_message(with_key(&edges.key, message("s"))).await.expect("known").into_inner();
    assert!(receipt.outcome() == SubmitOutcome::Duplicate && !receipt.payload_mismatch);
}

#[tokio::test]
async fn org_and_env_are_the_keys_own_unless_named_and_a_platform_key_must_name_both() {
    let edges = Edges::start().await;
    let mut client = edges.grpc_client().await;
    let named = |org: &str, env: i32| SubmitMessageRequest { org_id: org.into(), env, ..message("s") };
    let (dev, prod) = (v1::Environment::Dev.into(), v1::Environment::Prod.into());
    for (org, env) in [("acme", dev), ("acme", 0), ("", dev), ("", 0)] {
        client.submit_message(with_key(&edges.key, named(org, env))).await.expect("its own");
    }
    for (org, env) in [("acme", prod), ("other", dev), ("", prod), ("other", 0)] {
        let status = client.submit_message(with_key(&edges.key, named(org, env))).await.refused("another's");
        assert!(Failure::of(&status).is(Code::PermissionDenied, "PERMISSION_DENIED"));
    }
    let platform = edges.platform_key(&[Scope::Submit]).await;
    client.submit_message(with_key(&platform, named("whoever", prod))).await.expect("any");
    for (org, env, expected) in [
        ("", 0, vec![("org_id", "missing"), ("env", "missing")]),
        ("whoever", 0, vec![("env", "missing")]),
        ("", prod, vec![("org_id", "missing")]),
        ("who/ever", 7, vec![("org_id", "invalid_value"), ("env", "invalid_value")]),
    ] {
        let status = client.submit_message(with_key(&platform, named(org, env))).await.refused("incomplete");
        let failure = Failure::of(&status);
        assert!(failure.is(Code::InvalidArgument, "INVALID_ARGUMENT"));
        let found: Vec<_> = failure.violations.iter().map(|(field, word)| (field.as_str(), word.as_str())).collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn who_may_not_is_told_so_before_the_message_is_looked_at() {
    let edges = Edges::start().await;
    let mut client = edges.grpc_client().await;
    let read_only = edges.org_key("acme", Environment::Dev, &[Scope::Read]).await;
    let submit_only = edges.org_key("acme", Environment::Dev, &[Scope::Submit]).await;
    let status = client.submit_message(with_key(&read_only, SubmitMessageRequest::default())).await.refused("scope");
    assert!(Failure::of(&status).is(Code::PermissionDenied, "PERMISSION_DENIED"));
    let status = client.get_message(with_key(&submit_only, GetMessageRequest::default())).await.refused("scope");
    assert!(Failure::of(&status).is(Code::PermissionDenied, "PERMISSION_DENIED"));
    let status = client.submit_message(message("s")).await.refused("no key");
    assert!(Failure::of(&status).is(Code::Unauthenticated, "UNAUTHENTICATED"));
    let status = client.submit_message(with_key("mw_dev_x", message("s"))).await.refused("no such key");
    assert!(Failure::of(&status).is(Code::Unauthenticated, "UNAUTHENTICATED"));
}

#[tokio::test]
async fn a_message_that_is_not_kept_is_not_found_and_a_bad_sid_is_an_argument() {
    let edges = Edges::start().await;
    let mut client = edges.grpc_client().await;
    let get = |sid: &str| GetMessageRequest { message_sid: sid.into(), ..GetMessageRequest::default() };
    let status = client.get_message(with_key(&edges.key, get("s"))).await.refused("none");
    assert!(Failure::of(&status).is(Code::NotFound, "MESSAGE_NOT_FOUND"));
    let status = client.get_message(with_key(&edges.key, get(""))).await.refused("empty");
    let failure = Failure::of(&status);
    assert!(failure.is(Code::InvalidArgument, "INVALID_ARGUMENT"));
    assert_eq!(failure.violations, [("message_sid".to_owned(), "missing".to_owned())]);
}
