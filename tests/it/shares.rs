//! A tenant that sends slowly, or not to the end, takes nothing from the others.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Body;
use message_webhook::{
    domain::{Environment, Scope},
    protocol::grpc::v1::SubmitMessagesRequest,
    service::BodyLimits,
};
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{
    TestServer,
    edges::{Edges, Settings},
    eventually, get,
    grpc::submission,
    h2::{Connection, unfinished},
    post,
    raw::{self, Client},
};

const SUBMIT: &str = "/messagewebhook.v1.MessageService/SubmitMessage";
const SUBMIT_STREAM: &str = "/messagewebhook.v1.MessageService/SubmitMessages";
const OTHER: &str = "/other/dev/v1/message-webhook";
const LARGE: usize = 200_000;

fn http<B: Body>(key: &str, body: B) -> Request<B> {
    let request = Request::post("http://x/acme/dev/v1/message-webhook").header("content-type", "application/json");
    request.header("authorization", format!("Bearer {key}")).body(body).expect("a request")
}

fn grpc<B: Body>(path: &str, key: &str, body: B) -> Request<B> {
    let request = Request::post(format!("http://x{path}")).header("content-type", "application/grpc");
    request.header("authorization", format!("Bearer {key}")).body(body).expect("a request")
}

/// The beginning of a message that is announced as larger.
fn half_a_message(bytes: usize) -> Bytes {
    let announced = u32::try_from(bytes * 2).expect("small").to_be_bytes();
    [&[0][..], &announced, &vec![0x1a; bytes]].concat().into()
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

fn message(sid: &str) -> String {
    format!(r#"{{"from_id":"u","message_sid":"{sid}","timestamp":1}}"#)
}

#[tokio::test]
async fn requests_that_never_end_on_shared_connections_keep_no_other_tenant_out() {
    let server = TestServer::builder().set("max_connections", "60").set("max_in_flight", "20").start().await;
    let attacker = server.key("acme", Environment::Dev, &[Scope::Submit]).await;
    let victim = server.key("other", Environment::Dev, &[Scope::Submit]).await;
    let mut unanswered = JoinSet::new();
    for address in [server.http, server.grpc] {
        for _ in 0..3 {
            let connection = Connection::to(address).await;
            for _ in 0..100 {
                let (connection, key) = (connection.clone(), attacker.clone());
                unanswered.spawn(async move {
                    if address == server.http {
                        connection.ask(http(&key, unfinished("{"))).await.map(drop)
                    } else {
                        connection.ask(grpc(SUBMIT, &key, unfinished(half_a_message(1)))).await.map(drop)
                    }
                });
            }
        }
    }
    // More of them than there are places were answered, and the others wait.
    eventually("an overload", async || (unanswered.try_join_next().is_some()).then_some(())).await;
    for number in 0..50 {
        let (status, body) = post(server.http, OTHER, &victim, message(&format!("s{number}"))).await;
        assert_eq!(status, 200, "{body}");
        let body = message(&format!("t{number}"));
        let request = raw::post(OTHER, &victim, &body);
        let mut client = Client::connect(server.http).await;
        // In pieces, so that this one has to be waited for, too.
        client.send(&request[..request.len() - 3]).await;
        tokio::time::timeout(Duration::from_millis(20), client.answer()).await.expect_err("it is not complete");
        client.send(&request[request.len() - 3..]).await;
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(get(server.admin, "/readyz").await.map(|(status, _)| status), Some(200));
    assert!(!unanswered.is_empty(), "those that have a place are still waited for");
}

#[tokio::test]
async fn bodies_that_hold_back_their_end_make_room_for_those_of_other_tenants_and_memory_stays_bounded() {
    let limits = BodyLimits { bytes: 1 << 20, waiting: 4096 };
    let edges = Edges::start_with(Settings { bodies: limits, ..Settings::default() }).await;
    let other = edges.org_key("other", Environment::Dev, &[Scope::Submit]).await;
    let mut unanswered = JoinSet::new();
    for number in 0..24 {
        let connection = Connection::to(if number % 2 == 0 { edges.http } else { edges.grpc }).await;
        let key = edges.key.clone();
        unanswered.spawn(async move {
            if number % 2 == 0 {
                connection.ask(http(&key, unfinished(vec![b' '; LARGE]))).await.map(drop)
            } else {
                connection.ask(grpc(SUBMIT, &key, unfinished(half_a_message(LARGE)))).await.map(drop)
            }
        });
    }
    let bodies = edges.service.bodies();
    eventually("memory to run short", async || (bodies.held() > limits.bytes / 2).then_some(())).await;
    for number in 0..20 {
        assert!(bodies.held() <= limits.bytes, "{} bytes are held", bodies.held());
        let frame = message(&format!("s{number}")).replace('}', r#","message_body":""}"#);
        let body = frame.replace(r#"body":""#, &format!(r#"body":"{}"#, "x".repeat(LARGE)));
        let answer = raw::ask(edges.http, raw::post(OTHER, &other, body)).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        let message = submission("u", &format!("t{number}")).encode_to_vec();
        let framed = [&[0][..], &u32::try_from(message.len()).expect("small").to_be_bytes(), &message].concat();
        let connection = Connection::to(edges.grpc).await;
        let answer = connection.ask(grpc(SUBMIT, &other, http_body_util::Full::new(Bytes::from(framed)))).await;
        assert_eq!(answer.expect("an answer").headers()["grpc-status"], "0");
    }
    drop(unanswered);
    eventually("all of it to be given back", async || (bodies.held() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_message_of_grpc_that_comes_too_slowly_is_told_so_and_a_pause_between_two_is_none() {
    let edges = Edges::start_with(Settings { body_timeout: Duration::from_millis(300), ..Settings::default() }).await;
    let connection = Connection::to(edges.grpc).await;
    let message = SubmitMessagesRequest { correlation_id: 1, message: Some(submission("u", "s")) }.encode_to_vec();
    let framed = [&[0][..], &u32::try_from(message.len()).expect("small").to_be_bytes(), &message].concat();
    let and_half = [framed.as_slice(), &[0, 0, 0, 1, 0, 0x1a]].concat();
    for (path, body, receipts) in
        [(SUBMIT, half_a_message(10), false), (SUBMIT, Bytes::new(), false), (SUBMIT_STREAM, and_half.into(), true)]
    {
        let answer = connection.ask(grpc(path, &edges.key, unfinished(body))).await.expect("an answer");
        let status = Status::from_header_map(answer.headers()).expect("a status");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "REQUEST_TIMEOUT"), "{path}");
        assert_eq!(!answer.body().is_empty(), receipts, "{path}: what was taken in is answered first");
    }
    let pausing = connection.ask(grpc(SUBMIT_STREAM, &edges.key, unfinished(framed)));
    assert!(tokio::time::timeout(Duration::from_secs(1), pausing).await.is_err(), "a stream may pause");
}

#[tokio::test]
async fn who_may_not_call_cannot_make_the_server_read_a_message() {
    let edges = Edges::start().await;
    let read_only = edges.org_key("acme", Environment::Dev, &[Scope::Read]).await;
    let connection = Connection::to(edges.grpc).await;
    for path in [SUBMIT, SUBMIT_STREAM, "/messagewebhook.v1.KeyService/CreateKey"] {
        let answer = connection.ask(grpc(path, &read_only, unfinished(half_a_message(10)))).await.expect("an answer");
        let status = Status::from_header_map(answer.headers()).expect("a status");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"), "{path}");
    }
}
