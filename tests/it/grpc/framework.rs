//! What is refused before a method of ours is called.

use bytes::Bytes;
use http::{HeaderMap, uri::PathAndQuery};
use message_webhook::protocol::grpc::v1::SubmitOutcome;
use prost::Message as _;
use reqwest::Client;
use tonic::{Code, Status, client::Grpc, transport::Channel};

use super::client::{Failure, Refused, message, with_key};
use crate::support::{edges::Edges, flaky::Mood};

const SUBMIT: &str = "/messagewebhook.v1.MessageService/SubmitMessage";

/// Sends `body` as it stands and reads the status, wherever it is.
async fn raw(edges: &Edges, path: &str, key: &str, extra: Option<(&str, &str)>, body: Vec<u8>) -> Status {
    let client = Client::builder().http2_prior_knowledge().no_proxy().build().expect("a client");
    let mut request = client
        .post(format!("http://{}{path}", edges.grpc))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {key}"))
        .body(body);
    if let Some((name, value)) = extra {
        request = request.header(name, value);
    }
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "gRPC's errors are answers of HTTP");
    let headers: HeaderMap = answer.headers().clone();
    Status::from_header_map(&headers).expect("a status in the head")
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("small");
    [&[0][..], &length.to_be_bytes(), message].concat()
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented_with_a_reason_and_needs_no_key() {
    let edges = Edges::start().await;
    for path in
        ["/messagewebhook.v1.MessageService/Nothing", "/messagewebhook.v2.MessageService/SubmitMessage", "/x", "/"]
    {
        let status = raw(&edges, path, "none", None, framed(b"")).await;
        assert!(Failure::of(&status).is(Code::Unimplemented, "NOT_FOUND"), "{path}: {status:?}");
    }
}

#[tokio::test]
async fn what_is_no_message_of_the_method_is_an_invalid_argument_and_never_internal() {
    let edges = Edges::start().await;
    let not_utf8 = [0x1a, 2, 0xc3, 0x28];
    let compressed_without_saying_how = [1, 0, 0, 0, 0];
    for body in [
        framed(b"\xff\xff\xff"),
        framed(&not_utf8),
        compressed_without_saying_how.to_vec(),
        vec![9, 0, 0, 0, 0],
        framed(b"")[..3].to_vec(),
        [framed(b"").as_slice(), &[7]].concat(),
        Vec::new(),
    ] {
        let status = raw(&edges, SUBMIT, &edges.key, None, body.clone()).await;
        let failure = Failure::of(&status);
        assert_eq!(failure.code, Code::InvalidArgument, "{body:?}: {status:?}");
    }
}

#[tokio::test]
async fn compression_is_refused_as_such() {
    let edges = Edges::start().await;
    let status = raw(&edges, SUBMIT, &edges.key, Some(("grpc-encoding", "gzip")), framed(b"")).await;
    assert!(Failure::of(&status).is(Code::Unimplemented, "UNSUPPORTED_CONTENT_ENCODING"));
}

#[tokio::test]
async fn a_callers_deadline_is_told_as_such_and_the_message_is_taken_all_the_same() {
    let edges = Edges::start().await;
    edges.store.set_mood(Mood::Silent);
    // Not by tonic's client, which would end the call by itself.
    let body = framed(&message("s").encode_to_vec());
    let status = raw(&edges, SUBMIT, &edges.key, Some(("grpc-timeout", "50m")), body).await;
    assert!(Failure::of(&status).is(Code::DeadlineExceeded, "CALLER_DEADLINE_EXCEEDED"));
    edges.store.set_mood(Mood::Fine);
    let mut client = edges.grpc_client().await;
    let retry = client.submit_message(with_key(&edges.key, message("s"))).await.expect("known").into_inner();
    assert!(retry.outcome() == SubmitOutcome::Duplicate);
}

#[tokio::test]
async fn who_has_no_key_cannot_make_the_server_read_a_message() {
    let edges = Edges::start().await;
    // A megabyte is announced and never sent: the answer must not wait for it.
    let status = raw(&edges, SUBMIT, "none", None, vec![0, 0, 0x10, 0, 0]).await;
    assert!(Failure::of(&status).is(Code::Unauthenticated, "UNAUTHENTICATED"));
}

#[tokio::test]
async fn the_callers_request_id_comes_back_on_success_and_failure() {
    let edges = Edges::start().await;
    let mut client = edges.grpc_client().await;
    for (sid, key) in [("s", edges.key.as_str()), ("s", "none"), ("", &edges.key)] {
        let mut request = with_key(key, message(sid));
        request.metadata_mut().insert("x-request-id", "my-id".parse().expect("ASCII"));
        let metadata = match client.submit_message(request).await {
            Ok(response) => response.metadata().clone(),
            Err(status) => status.metadata().clone(),
        };
        assert_eq!(metadata.get("x-request-id").expect("always there"), "my-id");
    }
}

#[tokio::test]
async fn reflection_lists_the_services_and_their_types() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };

    let edges = Edges::start().await;
    let channel =
        Channel::from_shared(format!("http://{}", edges.grpc)).expect("a URI").connect().await.expect("connected");
    let mut client = ServerReflectionClient::new(channel.clone());
    let mut ask = async |request| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut answers =
            client.server_reflection_info(tokio_stream::iter([request])).await.expect("a stream").into_inner();
        answers.message().await.expect("an answer").expect("one").message_response.expect("set")
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await else {
        panic!("another answer");
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["messagewebhook.v1.MessageService", "messagewebhook.v1.KeyService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|each| each == name), "{name} in {names:?}");
    }
    for symbol in ["messagewebhook.v1.SubmitMessageRequest", "google.protobuf.Timestamp"] {
        let answer = ask(MessageRequest::FileContainingSymbol(symbol.into())).await;
        assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{symbol}");
    }
    // Other protocols' own refusals stay as they are.
    let mut raw = Grpc::new(channel);
    raw.ready().await.expect("ready");
    let path = PathAndQuery::from_static("/grpc.reflection.v1.ServerReflection/Nothing");
    let codec = tonic_prost::ProstCodec::<ServerReflectionRequest, ServerReflectionRequest>::default();
    let status =
        raw.unary(tonic::Request::new(ServerReflectionRequest::default()), path, codec).await.refused("no method");
    assert_eq!((status.code(), status.details()), (Code::Unimplemented, Bytes::new().as_ref()));
}
