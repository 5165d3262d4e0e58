//! A stream of messages with one that cannot be read.

use std::sync::atomic::Ordering;

use bytes::{Buf, Bytes};
use http::Request;
use http_body_util::Full;
use message_webhook::protocol::grpc::v1::{
    SubmitMessagesRequest, SubmitMessagesResponse, SubmitOutcome, submit_messages_response::Result as Answer,
};
use prost::Message as _;
use tonic::{Code, Status};

use super::client::{Failure, message};
use crate::support::{
    edges::{Edges, Settings},
    eventually,
    flaky::FlakyStore,
    h2::Connection,
};

const GOOD: usize = 3;

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("small");
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// What the stream was answered, and how it ended.
async fn submit(edges: &Edges, last: &[u8]) -> (Vec<SubmitMessagesResponse>, Status) {
    let mut body = Vec::new();
    for id in 0..GOOD {
        let request = SubmitMessagesRequest { correlation_id: id as u64, message: Some(message(&format!("s{id}"))) };
        body.extend(framed(&request.encode_to_vec()));
    }
    body.extend(last);
    let request = Request::post(format!("http://{}/messagewebhook.v1.MessageService/SubmitMessages", edges.grpc))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {}", edges.key))
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    let answer = Connection::to(edges.grpc).await.ask(request).await.expect("an answer");
    let status = Status::from_header_map(answer.headers()).expect("a status at the end");
    let mut frames = answer.into_body();
    let mut answers = Vec::new();
    while frames.has_remaining() {
        assert_eq!(frames.get_u8(), 0, "not compressed");
        let length = frames.get_u32() as usize;
        answers.push(SubmitMessagesResponse::decode(frames.split_to(length)).expect("a response"));
    }
    (answers, status)
}

#[tokio::test]
async fn what_was_taken_in_before_a_message_that_cannot_be_read_is_answered_before_the_stream_ends() {
    let not_utf8 = [0x12, 4, 0x1a, 2, 0xc3, 0x28];
    for (name, last, code, reason) in [
        ("no protobuf", framed(b"\xff\xff\xff"), Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("no UTF-8", framed(&not_utf8), Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("another flag", vec![9, 0, 0, 0, 0], Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("compressed without saying how", vec![1, 0, 0, 0, 0], Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("half a message", framed(b"\x08\x01")[..6].to_vec(), Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("half a frame", vec![0, 0, 0], Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("a prefix alone", vec![0, 0, 0, 0, 9], Code::InvalidArgument, "INVALID_ARGUMENT"),
        ("too large to hold", vec![0, 0x10, 0, 0, 0], Code::ResourceExhausted, "BODY_TOO_LARGE"),
    ] {
        let store = FlakyStore::with_gate(0);
        let edges = Edges::start_with(Settings { store: Some(store.clone()), ..Settings::default() }).await;
        let decided = async {
            let waiting = async || (store.submissions.load(Ordering::SeqCst) == GOOD).then_some(());
            eventually("the messages to wait for the store", waiting).await;
            store.gate.add_permits(GOOD);
        };
        let ((answers, status), ()) = tokio::join!(submit(&edges, &last), decided);
        let mut ids: Vec<_> = answers.iter().map(|answer| answer.correlation_id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [0, 1, 2], "{name}");
        for answer in answers {
            let Some(Answer::Receipt(receipt)) = answer.result else { panic!("{name}: refused") };
            assert!(receipt.outcome() == SubmitOutcome::Accepted, "{name}");
        }
        assert!(Failure::of(&status).is(code, reason), "{name}: {status:?}");
    }
}
