//! Pages of configured origins.

use crate::support::{
    edges::{Edges, ORIGIN, PATH},
    flaky::Mood,
    raw::{Answer, ask},
};

fn request(method: &str, path: &str, origin: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\n{more}content-length: 0\r\n\r\n")
}

const PREFLIGHT: &str =
    "access-control-request-method: POST\r\naccess-control-request-headers: authorization,content-type\r\n";

fn shares(answer: &Answer) -> bool {
    assert_eq!(answer.header("vary"), Some("Origin"), "caches must know, whoever asks");
    let origin = answer.header("access-control-allow-origin");
    let exposed = answer.header("access-control-expose-headers");
    assert_eq!(origin.is_some(), exposed.is_some());
    if let Some(exposed) = exposed {
        for name in ["X-Request-Id", "Retry-After", "RateLimit"] {
            assert!(exposed.contains(name), "{exposed}");
        }
        assert_eq!(origin, Some(ORIGIN));
    }
    origin.is_some()
}

#[tokio::test]
async fn a_preflight_of_a_configured_origin_is_answered_without_a_key() {
    let edges = Edges::start().await;
    let answer = ask(edges.http, request("OPTIONS", PATH, ORIGIN, PREFLIGHT)).await;
    assert_eq!(answer.status, 204);
    assert!(shares(&answer));
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
    let allowed = answer.header("access-control-allow-headers").expect("present").to_ascii_lowercase();
    for name in ["authorization", "content-type", "x-request-id", "traceparent"] {
        assert!(allowed.contains(name), "{allowed}");
    }
    assert!(answer.header("access-control-max-age").is_some());
    assert!(answer.header("x-request-id").is_some());
}

#[tokio::test]
async fn any_other_options_request_is_405_or_404() {
    let edges = Edges::start().await;
    for (path, origin, more, status) in [
        (PATH, "https://evil.example", PREFLIGHT, 405),
        (PATH, "null", PREFLIGHT, 405),
        (PATH, "https://chat.example.com:443", PREFLIGHT, 405),
        (PATH, ORIGIN, "", 405),
        ("/acme/dev/v1/other", ORIGIN, PREFLIGHT, 404),
    ] {
        let answer = ask(edges.http, request("OPTIONS", path, origin, more)).await;
        assert_eq!(answer.status, status, "{path} {origin}");
        assert_eq!(shares(&answer), origin == ORIGIN);
    }
}

#[tokio::test]
async fn every_answer_to_a_configured_origin_can_be_read_by_its_page_errors_too() {
    let edges = Edges::start().await;
    let key = format!("authorization: Bearer {}\r\n", edges.key);
    let json = format!("{key}content-type: application/json\r\n");
    for (method, path, more, status) in [
        ("POST", "/other", "", 404),
        ("GET", PATH, "", 405),
        ("POST", PATH, "", 401),
        ("POST", "/other/dev/v1/message-webhook", key.as_str(), 403),
        ("POST", PATH, key.as_str(), 415),
        ("POST", PATH, json.as_str(), 400),
    ] {
        let answer = ask(edges.http, request(method, path, ORIGIN, more)).await;
        assert_eq!(answer.status, status);
        assert!(shares(&answer), "{status}");
        assert!(!shares(&ask(edges.http, request(method, path, "https://evil.example", more)).await));
    }
    edges.store.set_mood(Mood::Panicking);
    let body = r#"{"from_id":"u","message_sid":"s","timestamp":1}"#;
    let answer = ask(
        edges.http,
        format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\norigin: {ORIGIN}\r\n{json}content-length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
    .await;
    assert_eq!(answer.status, 500);
    assert!(shares(&answer));
}
