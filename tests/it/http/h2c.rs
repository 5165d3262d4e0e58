//! HTTP/2 with prior knowledge on the same port.

use reqwest::{Client, Version};
use serde_json::Value;

use crate::support::edges::{Edges, PATH};

const GOOD: &str = r#"{"from_id":"u","message_sid":"s","timestamp":1}"#;

fn client() -> Client {
    Client::builder().http2_prior_knowledge().no_proxy().build().expect("a client")
}

#[tokio::test]
async fn http_2_gets_the_same_answers() {
    let edges = Edges::start().await;
    let client = client();
    for (key, body, status, code) in [
        (edges.key.as_str(), GOOD, 200, None),
        (&edges.key, "{", 400, Some("malformed_json")),
        ("wrong", GOOD, 401, Some("unauthenticated")),
    ] {
        let answer = client
            .post(edges.url())
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .header("x-request-id", "my-id")
            .body(body)
            .send()
            .await
            .expect("an answer");
        assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_2, status));
        assert_eq!(answer.headers()["x-request-id"], "my-id");
        let body: Value = serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON");
        assert_eq!(body["code"].as_str(), code);
    }
}

#[tokio::test]
async fn many_requests_share_one_connection_and_a_body_too_large_ends_only_its_own() {
    let edges = Edges::start().await;
    let client = client();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let large = number % 10 == 0;
        let body = if large {
            "x".repeat(1 << 20)
        } else {
            format!(r#"{{"from_id":"u","message_sid":"s{number}","timestamp":1}}"#)
        };
        let request = client
            .post(edges.url())
            .header("authorization", format!("Bearer {}", edges.key))
            .header("content-type", "application/json")
            .body(body);
        tasks.spawn(async move { (large, request.send().await.expect("an answer").status().as_u16()) });
    }
    while let Some(done) = tasks.join_next().await {
        let (large, status) = done.expect("no panic");
        assert_eq!(status, if large { 413 } else { 200 });
    }
    assert_eq!(edges.store.accepted(), 180);
}

#[tokio::test]
async fn a_header_list_beyond_16_kib_is_431() {
    let edges = Edges::start().await;
    let client = client();
    let url = format!("http://{}{PATH}", edges.http);
    let with = |bytes: usize| client.get(&url).header("x-long", "x".repeat(bytes)).send();
    assert_eq!(with(15 * 1024).await.expect("an answer").status().as_u16(), 405);
    assert_eq!(with(17 * 1024).await.expect("an answer").status().as_u16(), 431);
}
