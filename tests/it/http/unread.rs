//! A refusal that comes before the body was read must not cost what follows on the connection.

use std::{net::SocketAddr, process::Command, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use message_webhook::{
    domain::{Environment, Scope},
    protocol::listener::ConnectionLimits,
};

use crate::support::{
    edges::{Edges, PATH, Settings},
    h2::Connection,
    process,
    raw::{Answer, Client, post},
};

const GOOD: &str = r#"{"from_id":"u","message_sid":"s","timestamp":1}"#;
/// For how long a client here waits for an answer before it sends its body.
const PAUSE: Duration = Duration::from_millis(100);

/// Sends the head, and the body in a segment of its own, when there was time to refuse the head.
async fn in_two_segments(client: &mut Client, request: &[u8]) -> Option<Answer> {
    let end = request.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    client.send(&request[..end]).await;
    let early = tokio::time::timeout(PAUSE, client.try_answer()).await;
    if !client.try_send(&request[end..]).await {
        return None;
    }
    match early {
        Ok(answer) => answer,
        Err(_) => client.try_answer().await,
    }
}

fn with(request: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(request.to_vec()).expect("UTF-8");
    assert!(text.contains(from));
    text.replace(from, to).into_bytes()
}

#[tokio::test]
async fn good_requests_go_on_between_refused_ones_whose_bodies_come_after_the_refusal() {
    let edges = Edges::start().await;
    let read_only = edges.org_key("acme", Environment::Dev, &[Scope::Read]).await;
    let good = post(PATH, &edges.key, GOOD);
    // As much as is read away to keep a connection.
    let large = post(PATH, "no key", "x".repeat(64 * 1024));
    let mut client = Client::connect(edges.http).await;
    for (name, request, status) in [
        ("an unknown key", &post(PATH, "mw_dev_no_key", GOOD), 401),
        ("a key without the scope", &post(PATH, &read_only, GOOD), 403),
        ("another path", &post("/other", &edges.key, GOOD), 404),
        ("another method", &with(&good, "POST", "PUT"), 405),
        ("another type", &with(&good, "application/json", "text/plain"), 415),
        ("a larger body", &large, 401),
        (
            "chunks",
            &with(
                &post(PATH, "no key", ""),
                "content-length: 0\r\n\r\n",
                "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            ),
            401,
        ),
    ] {
        let answer = in_two_segments(&mut client, request).await.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!((answer.status, answer.header("connection")), (status, None), "{name}");
        client.send(&good).await;
        let next = client.try_answer().await.unwrap_or_else(|| panic!("after {name} the connection is closed"));
        assert_eq!(next.status, 200, "after {name}");
    }
}

#[tokio::test]
async fn who_sends_too_much_after_a_refusal_is_told_that_the_connection_ends_and_gets_the_answer() {
    let edges = Edges::start().await;
    let chunked = [
        with(&post(PATH, "no key", ""), "content-length: 0\r\n\r\n", "transfer-encoding: chunked\r\n\r\n"),
        [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat().repeat(3),
        b"0\r\n\r\n".to_vec(),
    ]
    .concat();
    for request in [post(PATH, "no key", "x".repeat(120_000)), chunked] {
        let mut client = Client::connect(edges.http).await;
        let answer = in_two_segments(&mut client, &request).await.expect("an answer");
        assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    }
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_ever_for_a_body_and_says_that_the_connection_ends() {
    let connections = ConnectionLimits { linger: PAUSE, ..ConnectionLimits::default() };
    let edges = Edges::start_with(Settings { connections, ..Settings::default() }).await;
    let request = post(PATH, "no key", GOOD);
    let mut client = Client::connect(edges.http).await;
    client.send(&request[..request.len() - 1]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
    // Who waits to be told to go on sends nothing before, and is not waited for.
    let expecting = with(&request, "\r\nhost: x\r\n", "\r\nhost: x\r\nexpect: 100-continue\r\n");
    let mut client = Client::connect(edges.http).await;
    client.send(&expecting[..expecting.len() - GOOD.len()]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
}

/// Requests whose bodies are still arriving when they are refused, more than a connection may reset, and a good one.
async fn refuse_many(address: SocketAddr, path: &str, content_type: &str, bytes: usize) -> Connection {
    let connection = Connection::to(address).await;
    let body = Bytes::from(vec![0; bytes]);
    for round in 0..1200 {
        let request = Request::post(format!("http://{address}{path}"))
            .header("authorization", "Bearer no key")
            .header("content-type", content_type)
            .body(Full::new(body.clone()))
            .expect("a request");
        let answer = connection.ask(request).await.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        let code = answer.headers().get("grpc-status").map(|code| code.to_str().expect("ASCII"));
        assert!(answer.status() == 401 || code == Some("16"), "round {round}: {answer:?}");
    }
    connection
}

#[tokio::test]
async fn refusals_do_not_end_a_connection_of_http_2_that_others_share() {
    let edges = Edges::start().await;
    let connection = refuse_many(edges.http, PATH, "application/json", 120_000).await;
    let request = Request::post(edges.url())
        .header("authorization", format!("Bearer {}", edges.key))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from_static(GOOD.as_bytes())))
        .expect("a request");
    assert_eq!(connection.ask(request).await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn refusals_do_not_end_a_connection_of_grpc_that_others_share() {
    let edges = Edges::start().await;
    let path = "/messagewebhook.v1.MessageService/SubmitMessage";
    let connection = refuse_many(edges.grpc, path, "application/grpc", 120_000).await;
    let request = Request::post(format!("http://{}/grpc.health.v1.Health/Check", edges.grpc))
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::from_static(&[0; 5])))
        .expect("a request");
    let answer = connection.ask(request).await.expect("an answer");
    assert!(!answer.body().is_empty(), "{answer:?}");
}

#[tokio::test]
async fn curl_shows_the_answer_to_a_body_that_was_not_read_by_either_version() {
    let edges = Edges::start().await;
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = dir.path().join("body");
    for (bytes, key, status) in [(300_000, "no key", "401"), (8 << 20, "no key", "401"), (8 << 20, &edges.key, "413")] {
        std::fs::write(&file, "x".repeat(bytes)).expect("written");
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let mut curl = Command::new("curl");
            curl.args([
                "-sS",
                version,
                "-H",
                "Content-Type: application/json",
                "-H",
                "Expect:",
                "-w",
                "\n%{http_code}",
            ])
            .args(["-H", &format!("Authorization: Bearer {key}"), "--data-binary"])
            .arg(format!("@{}", file.display()))
            .arg(edges.url());
            let done = tokio::task::spawn_blocking(move || process::finish(&mut curl)).await.expect("no panic");
            assert_eq!(done.code, Some(0), "{bytes} bytes, {version}: {}", done.stderr);
            let (body, code) = done.stdout.rsplit_once('\n').expect("two lines");
            assert_eq!(code, status, "{bytes} bytes, {version}");
            assert!(body.contains(r#""status":"error""#), "{bytes} bytes, {version}: {body}");
        }
    }
}
