use std::collections::{HashMap, HashSet};

use futures_util::StreamExt;
use message_webhook::{
    domain::{Environment, Scope},
    protocol::grpc::v1::{
        StartPosition, SubmitMessagesRequest, SubmitOutcome, message_service_client::MessageServiceClient,
        stream_messages_request::From as StreamFrom, submit_messages_response::Result as Answer,
    },
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, transport::Channel};
use tonic_types::{StatusExt, pb};

use crate::support::{
    TestServer,
    grpc::{client, stream, submission, take, with_key},
};

/// Far less than the deadline of a call, which would hide a wait.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

const ALL: &[Scope] = &[Scope::Submit, Scope::Stream];

fn item(correlation_id: u64, sid: &str) -> SubmitMessagesRequest {
    SubmitMessagesRequest { correlation_id, message: Some(submission("u", sid)) }
}

#[tokio::test]
async fn every_message_of_a_stream_is_answered_under_its_correlation_id() {
    const MESSAGES: u64 = 5000;
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let mut grpc = client(server.grpc).await;
    // Each sid twice: the two may be under way at once, and one of them is the duplicate.
    let items = (0..MESSAGES).map(|number| item(number, &format!("m-{}", number / 2)));
    let items = futures_util::stream::iter(items.collect::<Vec<_>>());
    let answers = grpc.submit_messages(with_key(&key, items)).await.expect("a stream").into_inner();
    let mut outcomes = HashMap::new();
    let mut ids = HashSet::new();
    for answer in answers.collect::<Vec<_>>().await {
        let answer = answer.expect("no error");
        assert!(ids.insert(answer.correlation_id), "answered twice");
        let Some(Answer::Receipt(receipt)) = answer.result else { panic!("no receipt") };
        *outcomes.entry((receipt.outcome(), receipt.message_sid)).or_insert(0) += 1;
    }
    assert_eq!(ids.len() as u64, MESSAGES);
    for number in 0..MESSAGES / 2 {
        let sid = format!("m-{number}");
        assert_eq!(outcomes.get(&(SubmitOutcome::Accepted, sid.clone())), Some(&1));
        assert_eq!(outcomes.get(&(SubmitOutcome::Duplicate, sid)), Some(&1));
    }
    let mut feed = stream(&mut grpc, &key, StreamFrom::Position(StartPosition::Start.into())).await;
    let delivered = take(&mut feed, MESSAGES as usize / 2).await;
    let distinct: HashSet<_> = delivered.iter().map(|(message, _)| &message.message_sid).collect();
    assert_eq!(distinct.len() as u64, MESSAGES / 2);
}

#[tokio::test]
async fn a_bad_message_is_answered_with_its_error_and_does_not_end_the_stream() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let mut grpc = client(server.grpc).await;
    let mut other_org = item(3, "b");
    other_org.message.as_mut().expect("set").org_id = "other".into();
    let mut too_large = item(4, "c");
    too_large.message.as_mut().expect("set").message_body = Some("x".repeat(256 * 1024));
    let items =
        [item(1, ""), SubmitMessagesRequest { correlation_id: 2, message: None }, other_org, too_large, item(5, "d")];
    let answers = grpc.submit_messages(with_key(&key, futures_util::stream::iter(items))).await.expect("a stream");
    let answers: HashMap<_, _> = answers
        .into_inner()
        .map(|answer| answer.expect("no error"))
        .map(|answer| (answer.correlation_id, answer.result.expect("a result")))
        .collect()
        .await;
    let failed = |id: u64| match &answers[&id] {
        Answer::Error(error) => tonic::Status::with_details(
            Code::from(error.code),
            error.message.clone(),
            pb::Status::encode_to_vec(error).into(),
        ),
        Answer::Receipt(_) => panic!("{id} was accepted"),
    };
    let reason = |id: u64| (failed(id).code(), failed(id).get_details_error_info().expect("a reason").reason);
    assert_eq!(reason(1), (Code::InvalidArgument, "INVALID_MESSAGE".into()));
    assert_eq!(failed(1).get_details_bad_request().expect("violations").field_violations[0].field, "message_sid");
    assert_eq!(reason(2), (Code::InvalidArgument, "INVALID_ARGUMENT".into()));
    assert_eq!(reason(3), (Code::PermissionDenied, "PERMISSION_DENIED".into()));
    assert_eq!(reason(4), (Code::ResourceExhausted, "BODY_TOO_LARGE".into()));
    assert!(failed(4).get_details_retry_info().is_none());
    assert!(matches!(&answers[&5], Answer::Receipt(receipt) if receipt.outcome() == SubmitOutcome::Accepted));
}

#[tokio::test]
async fn a_key_without_the_scope_cannot_open_a_stream_of_submissions() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, &[Scope::Read]).await;
    let mut grpc = client(server.grpc).await;
    let refused = grpc.submit_messages(with_key(&key, futures_util::stream::iter([item(1, "a")]))).await;
    assert_eq!(refused.expect_err("refused").code(), Code::PermissionDenied);
}

#[tokio::test]
async fn at_shutdown_what_was_taken_in_is_answered_and_the_rest_is_sent_elsewhere() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let mut grpc = client(server.grpc).await;
    let (items, rest) = mpsc::channel(8);
    items.send(item(1, "a")).await.expect("open");
    let answers = grpc.submit_messages(with_key(&key, ReceiverStream::new(rest))).await;
    let mut answers = answers.expect("a stream").into_inner();
    assert_eq!(answers.message().await.expect("no error").expect("an answer").correlation_id, 1);
    // The client keeps its side open: the server must not wait for it.
    server.stop().await.expect("ended in good order");
    let ended = answers.message().await.err().expect("the end");
    assert_eq!((ended.code(), ended.get_details_retry_info().is_some()), (Code::Unavailable, true));
}

#[tokio::test]
async fn clients_that_read_no_answer_hold_up_nobody() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, ALL).await;
    let deaf = Channel::from_shared(format!("http://{}", server.grpc)).expect("a URL").initial_stream_window_size(0);
    let mut deaf = MessageServiceClient::new(deaf.connect().await.expect("connected"));
    let mut grpc = client(server.grpc).await;
    let mut open = Vec::new();
    for round in 0..20 {
        // A new message and an invalid one, whose answers find no room.
        let items = [item(1, &format!("deaf-{round}")), item(2, "")];
        let pending = futures_util::stream::iter(items).chain(futures_util::stream::pending());
        open.push(deaf.submit_messages(with_key(&key, pending)).await.expect("a stream"));
        let normal = grpc.submit_message(with_key(&key, submission("u", &format!("normal-{round}"))));
        let answer = tokio::time::timeout(PATIENCE, normal).await.expect("in time").expect("taken").into_inner();
        assert!(answer.outcome() == SubmitOutcome::Accepted);
    }
}
