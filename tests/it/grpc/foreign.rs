//! What is not gRPC never looks like a success on the gRPC port.

use std::process::Command;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;

use crate::support::{
    edges::{Edges, PATH, Settings},
    h2::Connection,
    process,
    raw::{Answer, Client, post},
};

const GOOD: &str = r#"{"from_id":"u","message_sid":"s","timestamp":1}"#;
const SUBMIT: &str = "/messagewebhook.v1.MessageService/SubmitMessage";

fn is_refused(answer: &Answer, what: &str) {
    assert_eq!((answer.status, answer.error_code().as_str()), (415, "unsupported_media_type"), "{what}");
    assert!(answer.json()["message"].as_str().expect("a text").contains("HTTP port"), "{what}");
}

fn as_answer(answer: Response<Bytes>) -> Answer {
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), value.to_str().expect("ASCII").to_owned())
    };
    Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().iter().map(header).collect(),
        body: answer.body().to_vec(),
    }
}

#[tokio::test]
async fn a_webhook_that_is_sent_to_the_grpc_port_is_refused_and_told_where_to_go() {
    // Also where there is no room for anything.
    for requests_in_flight in [4096, 0] {
        let edges = Edges::start_with(Settings { requests_in_flight, ..Settings::default() }).await;
        let mut client = Client::connect(edges.grpc).await;
        for request in [
            post(PATH, &edges.key, GOOD),
            post(PATH, "no key", GOOD),
            post(SUBMIT, &edges.key, GOOD),
            post("/", "no key", ""),
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            format!("GET {SUBMIT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\n\r\n").into_bytes(),
            format!("POST {SUBMIT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n")
                .into_bytes(),
        ] {
            client.send(&request).await;
            is_refused(&client.answer().await, &String::from_utf8_lossy(&request));
        }
        assert_eq!(edges.store.accepted(), 0);
    }
}

#[tokio::test]
async fn over_http_2_only_a_post_of_protobuf_is_grpc() {
    let edges = Edges::start().await;
    let connection = Connection::to(edges.grpc).await;
    let ask = async |method: Method, path: &str, content_type: &[&str]| {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", edges.grpc));
        for content_type in content_type {
            request = request.header("content-type", *content_type);
        }
        let request = request.header("authorization", format!("Bearer {}", edges.key));
        let request = request.body(Full::new(Bytes::from_static(&[0; 5]))).expect("a request");
        as_answer(connection.ask(request).await.expect("an answer"))
    };
    for path in [PATH, SUBMIT, "/", "/grpc.health.v1.Health/Check"] {
        for types in [
            &[][..],
            &["application/json"],
            &["application/grpc-web+proto"],
            &["application/grpc-web"],
            &["application/grpc+json"],
            &["application/grpc", "application/json"],
        ] {
            is_refused(&ask(Method::POST, path, types).await, &format!("{path} {types:?}"));
        }
        for method in [Method::GET, Method::PUT, Method::OPTIONS] {
            is_refused(&ask(method.clone(), path, &["application/grpc"]).await, &format!("{method} {path}"));
        }
    }
    for types in [["application/grpc"], ["application/grpc+proto"]] {
        let answer = ask(Method::POST, "/grpc.health.v1.Health/Check", &types).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/grpc")), "{types:?}");
        assert_eq!(answer.header("grpc-status"), Some("0"), "{types:?}");
    }
}

#[tokio::test]
async fn the_example_for_curl_fails_on_the_grpc_port() {
    let edges = Edges::start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/curl.sh");
    let mut command = Command::new("bash");
    command.arg(script).env("KEY", &edges.key).env("WEBHOOK_URL", format!("http://{}{PATH}", edges.grpc));
    let done = tokio::task::spawn_blocking(move || process::finish(&mut command)).await.expect("no panic");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("unsupported_media_type"), "{}", done.stderr);
}
