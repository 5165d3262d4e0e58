//! Browser keys: public, and so good for nothing but submitting from pages of their origins.

use std::sync::atomic::Ordering;

use message_webhook::{
    domain::{Environment, Rate, Scope},
    protocol::grpc::v1::{
        GetMessageRequest, ListKeysRequest, ListMessagesRequest, StreamMessagesRequest, SubmitMessagesRequest,
        key_service_client::KeyServiceClient,
    },
    service::{AdmissionLimits, RateLimits},
};
use tonic::Code;

use crate::support::{
    edges::{Edges, ORIGIN, PATH, Settings},
    flaky::Mood,
    grpc::{submission, with_key},
    raw::{Answer, ask},
};

const SHOP: &str = "https://shop.example";
const OTHER: &str = "https://other.example";

fn from_page(origin: &str, key: &str, from_id: &str, sid: &str) -> String {
    let body = format!(r#"{{"from_id":"{from_id}","message_sid":"{sid}","timestamp":1}}"#);
    let origin = if origin.is_empty() { String::new() } else { format!("origin: {origin}\r\n") };
    format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\n{origin}authorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn preflight(path: &str, origin: &str) -> String {
    format!(
        "OPTIONS {path} HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: authorization,content-type\r\n\r\n"
    )
}

fn is_shared_with(answer: &Answer, origin: &str) -> bool {
    if answer.header("access-control-allow-origin").is_some() {
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
    answer.header("access-control-allow-origin") == Some(origin)
}

#[tokio::test]
async fn the_server_lets_a_browser_key_in_from_pages_of_its_origins_alone_and_any_other_key_from_everywhere() {
    let edges = Edges::start().await;
    let key = edges.browser_key(&[SHOP, "capacitor://localhost"]).await;
    for origin in [SHOP, "capacitor://localhost"] {
        let answer = ask(edges.http, from_page(origin, &key, "ada", "s")).await;
        assert_eq!(answer.status, 200, "{origin}");
        assert!(is_shared_with(&answer, origin));
    }
    // That of the setting is for other keys.
    for (origin, word) in
        [("", "no header 'Origin'"), (OTHER, "other origins"), ("null", "other origins"), (ORIGIN, "other origins")]
    {
        let answer = ask(edges.http, from_page(origin, &key, "ada", "s")).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (403, "permission_denied"), "{origin}");
        assert!(answer.json()["message"].as_str().expect("a text").contains(word), "{origin}");
        assert!(origin.is_empty() || is_shared_with(&answer, origin), "its page can read why: {origin}");
    }
    for origin in ["", SHOP, OTHER, ORIGIN] {
        let answer = ask(edges.http, from_page(origin, &edges.key, "ada", "s")).await;
        assert_eq!(answer.status, 200, "{origin}");
        assert_eq!(is_shared_with(&answer, origin), origin == ORIGIN, "{origin}");
    }
}

#[tokio::test]
async fn a_preflight_from_a_page_of_a_browser_key_is_answered_without_the_key_and_a_strangers_is_not() {
    let edges = Edges::start().await;
    let before = ask(edges.http, preflight(PATH, SHOP)).await;
    assert_eq!(before.status, 405);
    let key = edges.browser_key(&[SHOP]).await;
    let status = async |path, origin| ask(edges.http, preflight(path, origin)).await.status;
    crate::support::eventually("the new key's origin", async || (status(PATH, SHOP).await == 204).then_some(())).await;
    let answer = ask(edges.http, preflight(PATH, SHOP)).await;
    assert!(is_shared_with(&answer, SHOP));
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
    for origin in [OTHER, "null", "https://shop.example:443", "https://shop.example/"] {
        assert_eq!(status(PATH, origin).await, 405, "{origin}");
    }
    assert_eq!(status("/acme/dev/v1/other", SHOP).await, 404);
    assert_eq!(status("/openapi.json", SHOP).await, 405);
    assert_eq!(status(PATH, ORIGIN).await, 204, "the setting's origins as before");

    // Whatever becomes of the call, its page can read it.
    let id = message_webhook::domain::KeyId::new(key.split('_').nth(3).expect("an id")).expect("well formed");
    edges.keys.as_operator().revoke(&id).await.expect("revoked");
    let answer = ask(edges.http, from_page(SHOP, &key, "ada", "s")).await;
    assert_eq!(answer.status, 401);
    assert!(is_shared_with(&answer, SHOP));
}

#[tokio::test]
async fn grpc_refuses_a_browser_key_whatever_it_asks_for() {
    let edges = Edges::start().await;
    let key = edges.browser_key(&[SHOP]).await;
    let mut client = edges.grpc_client().await;
    let mut submit = with_key(&key, submission("ada", "s"));
    submit.metadata_mut().insert("origin", SHOP.parse().expect("ASCII"));
    let refused = client.submit_message(submit).await.err().expect("refused");
    assert!(refused.message().contains("for web pages"), "{}", refused.message());
    let stream = futures_util::stream::iter([SubmitMessagesRequest {
        correlation_id: 1,
        message: Some(submission("ada", "s")),
    }]);
    let mut keys = KeyServiceClient::connect(format!("http://{}", edges.grpc)).await.expect("connected");
    for refused in [
        Some(refused),
        client.submit_messages(with_key(&key, stream)).await.err(),
        client.get_message(with_key(&key, GetMessageRequest::default())).await.err(),
        client.list_messages(with_key(&key, ListMessagesRequest::default())).await.err(),
        client.stream_messages(with_key(&key, StreamMessagesRequest::default())).await.err(),
        keys.list_keys(with_key(&key, ListKeysRequest::default())).await.err(),
    ] {
        assert_eq!(refused.expect("refused").code(), Code::PermissionDenied);
    }
    assert_eq!(edges.store.accepted(), 0);
}

#[tokio::test]
async fn each_sender_and_each_address_under_a_browser_key_has_a_budget_and_other_keys_have_none() {
    let [browser_per_sender, browser_per_address] = ["1/h", "3/h"].map(Rate::parse);
    let rates = RateLimits { browser_per_sender, browser_per_address, ..RateLimits::default() };
    let admission = AdmissionLimits { in_flight: 9, rates };
    let edges = Edges::start_with(Settings { admission, ..Settings::default() }).await;
    let key = edges.browser_key(&[SHOP]).await;
    let send = async |key: &str, from_id: &str| ask(edges.http, from_page(SHOP, key, from_id, from_id)).await;
    assert_eq!(send(&key, "ada").await.status, 200);
    let answer = send(&key, "ada").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (429, "rate_limited"));
    assert_eq!(answer.header("ratelimit-policy"), Some("\"sender\";q=1;w=3600"));
    assert!(answer.header("retry-after").is_some() && is_shared_with(&answer, SHOP));
    assert_eq!(send(&key, "bob").await.status, 200);
    let answer = send(&key, "cyd").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (429, "rate_limited"));
    assert_eq!(answer.header("ratelimit-policy"), Some("\"address\";q=3;w=3600"));
    let other = edges.browser_key(&[SHOP]).await;
    assert_eq!(send(&other, "ada").await.status, 200, "another key's budgets are others");
    let server = edges.org_key("acme", Environment::Dev, &[Scope::Submit]).await;
    for _ in 0..5 {
        assert_eq!(send(&server, "ada").await.status, 200);
    }
}

#[tokio::test]
async fn a_preflight_that_the_store_keeps_from_being_answered_is_503_and_costs_it_one_list_for_everybody() {
    let edges = Edges::start().await;
    edges.browser_key(&[SHOP]).await;
    edges.store.fails.store(true, Ordering::SeqCst);
    for number in 0..20 {
        let answer = ask(edges.http, preflight(PATH, &format!("https://page{number}.example"))).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (503, "store_unavailable"));
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(ask(edges.http, preflight(PATH, ORIGIN)).await.status, 204, "the setting's origins need no list");
    edges.store.fails.store(false, Ordering::SeqCst);
    let status = async |origin| ask(edges.http, preflight(PATH, origin)).await.status;
    let before = edges.store.key_lists.load(Ordering::SeqCst);
    assert!(before < 20, "{before}");
    crate::support::eventually("a list", async || (status(SHOP).await == 204).then_some(())).await;
    // What was known once is answered whatever the store does, and at once.
    edges.store.set_mood(Mood::Silent);
    let lists = edges.store.key_lists.load(Ordering::SeqCst);
    let next = async || {
        assert_eq!(status(OTHER).await, 405);
        (edges.store.key_lists.load(Ordering::SeqCst) > lists).then_some(())
    };
    crate::support::eventually("a list that hangs", next).await;
    assert_eq!((status(OTHER).await, status(SHOP).await), (405, 204));
    assert_eq!(edges.store.key_lists.load(Ordering::SeqCst), lists + 1, "one at a time");
    edges.store.set_mood(Mood::Fine);
}

#[tokio::test]
async fn a_browser_key_is_not_told_whether_it_has_guessed_what_another_key_sent() {
    let edges = Edges::start().await;
    let key = edges.browser_key(&[SHOP]).await;
    assert_eq!(ask(edges.http, from_page("", &edges.key, "ada", "s")).await.status, 200);
    for from_id in ["ada", "bob"] {
        let answer = ask(edges.http, from_page(SHOP, &key, from_id, "s")).await;
        assert_eq!((answer.status, &answer.json()["message"]), (200, &"Already processed".into()));
        assert!(answer.json().get("payload_matches").is_none(), "{from_id}");
    }
    let answer = ask(edges.http, from_page("", &edges.key, "bob", "s")).await;
    assert_eq!(answer.json()["payload_matches"], false, "other keys are");
}

#[tokio::test]
async fn a_browser_key_that_is_used_up_leaves_the_organisations_other_keys_their_part() {
    let [browser_per_key, per_org] = ["1/h", "3/h"].map(Rate::parse);
    let rates = RateLimits { browser_per_key, per_org, ..RateLimits::default() };
    let admission = AdmissionLimits { in_flight: 9, rates };
    let edges = Edges::start_with(Settings { admission, ..Settings::default() }).await;
    let key = edges.browser_key(&[SHOP]).await;
    assert_eq!(ask(edges.http, from_page(SHOP, &key, "ada", "0")).await.status, 200);
    for sid in 1..10 {
        let answer = ask(edges.http, from_page(SHOP, &key, "ada", &sid.to_string())).await;
        assert_eq!((answer.status, answer.header("ratelimit-policy")), (429, Some("\"key\";q=1;w=3600")));
    }
    for sid in ["a", "b"] {
        assert_eq!(ask(edges.http, from_page("", &edges.key, "ada", sid)).await.status, 200);
    }
}
