//! A caller's deadline ends a stream too.

use std::time::Duration;

use message_webhook::{
    domain::{Environment, Scope},
    protocol::grpc::v1::{
        StartPosition, StreamMessagesRequest, SubmitMessagesRequest, stream_messages_request::From as StreamFrom,
        submit_messages_response::Result as Answer,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{
    PATIENCE, TestServer,
    grpc::{client, end, submission, with_key},
};

fn is_the_callers(status: &Status) {
    let reason = status.get_details_error_info().map(|info| info.reason);
    assert_eq!((status.code(), reason.as_deref()), (Code::DeadlineExceeded, Some("CALLER_DEADLINE_EXCEEDED")));
}

#[tokio::test]
async fn a_reader_of_the_feed_with_a_deadline_is_sent_away_at_it() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, &[Scope::Stream]).await;
    let from = StreamFrom::Position(StartPosition::Start.into());
    let mut request = with_key(&key, StreamMessagesRequest { from: Some(from), ..Default::default() });
    request.set_timeout(Duration::from_secs(1));
    let mut feed = client(server.grpc).await.stream_messages(request).await.expect("a stream").into_inner();
    let status = tokio::time::timeout(PATIENCE, end(&mut feed)).await.expect("an end");
    is_the_callers(&status);
}

#[tokio::test]
async fn a_stream_of_submissions_with_a_deadline_ends_at_it_after_its_receipts() {
    let server = TestServer::start().await;
    let key = server.key("acme", Environment::Dev, &[Scope::Submit]).await;
    // Its end is never sent.
    let (send, messages) = mpsc::channel(1);
    let item = SubmitMessagesRequest { correlation_id: 7, message: Some(submission("u", "s")) };
    send.send(item).await.expect("room");
    let mut request = with_key(&key, ReceiverStream::new(messages));
    request.set_timeout(Duration::from_secs(2));
    let mut answers = client(server.grpc).await.submit_messages(request).await.expect("a stream").into_inner();
    let receipt = answers.message().await.expect("no error").expect("an answer");
    assert!(receipt.correlation_id == 7 && matches!(receipt.result, Some(Answer::Receipt(_))));
    let ended = tokio::time::timeout(PATIENCE, answers.message()).await.expect("an end");
    is_the_callers(&ended.map(drop).expect_err("an error"));
}
