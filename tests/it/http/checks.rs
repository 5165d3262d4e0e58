//! Every status code, the order of the checks, and the shape of every refusal.

use std::time::Duration;

use message_webhook::{
    domain::{Environment, Rate, Scope},
    service::{AdmissionLimits, RateLimits},
};

use crate::support::{
    edges::{Edges, ORIGIN, PATH, Settings},
    flaky::Mood,
    raw::{Answer, Client, ask, post},
};

const GOOD: &str = r#"{"from_id":"u","message_sid":"s","timestamp":1}"#;

/// A request with everything wrong that can be, except what `right` repairs, in the order of the contract.
fn wrong_in_all_but(right: usize, keys: &[&str; 3]) -> String {
    let [unknown, foreign, good] = keys;
    let path = if right > 0 { PATH } else { "/acme/dev/v1/other" };
    let method = if right > 1 { "POST" } else { "PUT" };
    let key = match right {
        0..3 => unknown,
        3 => foreign,
        _ => good,
    };
    let content_type = if right > 4 { "application/json" } else { "text/plain" };
    let length = if right > 5 { 1 } else { 1_000_000 };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: {content_type}\r\n\
         content-length: {length}\r\n\r\n["
    )
}

#[tokio::test]
async fn the_checks_come_in_the_order_of_the_contract() {
    let edges = Edges::start().await;
    let foreign = edges.org_key("other", Environment::Dev, &[Scope::Submit]).await;
    let keys = ["mw_dev_unknown", &foreign, &edges.key];
    let expected = [
        (404, "not_found"),
        (405, "method_not_allowed"),
        (401, "unauthenticated"),
        (403, "permission_denied"),
        (415, "unsupported_media_type"),
        (413, "body_too_large"),
        (400, "malformed_json"),
    ];
    for (right, (status, code)) in expected.into_iter().enumerate() {
        let answer = ask(edges.http, wrong_in_all_but(right, &keys)).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "with {right} repaired");
    }
}

#[tokio::test]
async fn any_other_path_is_404_also_where_it_could_be_normalised() {
    let edges = Edges::start().await;
    for path in [
        "/",
        "/acme/dev/v1/message-webhook/",
        "//acme/dev/v1/message-webhook",
        "/acme//dev/v1/message-webhook",
        "/x/../acme/dev/v1/message-webhook",
        "/./acme/dev/v1/message-webhook",
        "/%61cme/dev/v1/message-webhook",
        "/acme/%64ev/v1/message-webhook",
        "/acme/dev/v1/message%2Dwebhook",
        "/acme%2Fdev/v1/message-webhook",
        "/acme/Dev/v1/message-webhook",
        "/acme/test/v1/message-webhook",
        "/acme/dev/v2/message-webhook",
        "/_acme/dev/v1/message-webhook",
        "/acme.org/dev/v1/message-webhook",
        "/livez",
        "/metrics",
    ] {
        let answer = ask(edges.http, post(path, &edges.key, GOOD)).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (404, "not_found"), "{path}");
    }
    let longest = "a".repeat(63);
    let key = edges.org_key(&longest, Environment::Prod, &[Scope::Submit]).await;
    assert_eq!(ask(edges.http, post(&format!("/{longest}/prod/v1/message-webhook"), &key, GOOD)).await.status, 200);
    assert_eq!(ask(edges.http, post(&format!("/{longest}a/prod/v1/message-webhook"), &key, GOOD)).await.status, 404);
}

#[tokio::test]
async fn a_slash_too_many_at_the_end_is_told_as_that() {
    let edges = Edges::start().await;
    let text = async |path: &str| ask(edges.http, post(path, &edges.key, GOOD)).await.json()["message"].to_string();
    assert!(text(&format!("{PATH}/")).await.contains("slash"));
    assert!(!text("/acme/dev/").await.contains("slash"));
}

#[tokio::test]
async fn a_request_has_one_host_and_no_transfer_encoding_but_chunks() {
    let edges = Edges::start().await;
    let with = async |headers: &str| {
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n{headers}\r\n",
            edges.key
        );
        let answer = ask(edges.http, request + "2f\r\n" + GOOD + "\r\n0\r\n\r\n").await;
        (answer.status, if answer.status == 200 { String::new() } else { answer.error_code() })
    };
    let chunked = "transfer-encoding: chunked\r\n";
    assert_eq!(with(&format!("host: x\r\n{chunked}")).await.0, 200);
    for hosts in ["", "host: x\r\nhost: x\r\n", "host: x\r\nhost: y\r\n"] {
        assert_eq!(with(&format!("{hosts}{chunked}")).await, (400, "invalid_argument".into()), "{hosts:?}");
    }
    let gzip = "host: x\r\ntransfer-encoding: gzip, chunked\r\n";
    assert_eq!(with(gzip).await, (415, "unsupported_content_encoding".into()));
    let old =
        format!("POST {PATH} HTTP/1.0\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n", edges.key);
    let old = format!("{old}content-length: {}\r\n\r\n{GOOD}", GOOD.len());
    assert_eq!(ask(edges.http, old).await.status, 200, "HTTP/1.0 has no Host");
}

#[tokio::test]
async fn a_query_string_is_ignored_and_an_absolute_target_is_its_path() {
    let edges = Edges::start().await;
    for target in [
        format!("{PATH}?a=b/c&d"),
        format!("http://elsewhere.example{PATH}"),
        format!("{PATH}?"),
        format!("{PATH}#a/b"),
        format!("{PATH}?a#b"),
    ] {
        assert_eq!(ask(edges.http, post(&target, &edges.key, GOOD)).await.status, 200, "{target}");
    }
}

#[tokio::test]
async fn any_method_but_post_is_405_and_told_which_is_allowed() {
    let edges = Edges::start().await;
    for method in ["GET", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "BREW", "post"] {
        let answer = ask(edges.http, format!("{method} {PATH} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
        assert_eq!(answer.error_code(), "method_not_allowed");
    }
    let mut client = Client::connect(edges.http).await;
    client.send(format!("HEAD {PATH} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    let head = client.head().await.expect("an answer");
    assert_eq!((head.status, head.header("allow")), (405, Some("POST")));
    // The connection is still in step: HEAD had no body.
    client.send(post(PATH, &edges.key, GOOD)).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn each_path_has_its_own_methods_and_tells_them_to_whoever_tries_another_and_to_browsers() {
    let edges = Edges::start().await;
    let request = |method: &str, path: &str, more: &str| format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{more}\r\n");
    let asks = format!("origin: {ORIGIN}\r\naccess-control-request-method: POST\r\n");
    for (path, methods, another) in
        [(PATH, "POST", "GET"), ("/docs", "GET, HEAD", "POST"), ("/openapi.json", "GET, HEAD", "DELETE")]
    {
        let refused = ask(edges.http, request(another, path, "")).await;
        assert_eq!((refused.status, refused.header("allow")), (405, Some(methods)), "{path}");
        let preflight = ask(edges.http, request("OPTIONS", path, &asks)).await;
        assert_eq!(
            (preflight.status, preflight.header("access-control-allow-methods")),
            (204, Some(methods)),
            "{path}"
        );
    }
    let html = "text/html; charset=utf-8";
    for (path, content_type) in [("/docs", html), ("/docs/errors", html), ("/openapi.json", "application/json")] {
        let answer = ask(edges.http, request("GET", path, "")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(content_type)), "{path}");
        let length = answer.header("content-length").map(str::to_owned);
        let mut client = Client::connect(edges.http).await;
        client.send(request("HEAD", path, "")).await;
        let head = client.head().await.expect("an answer");
        assert_eq!((head.status, head.header("content-length")), (200, length.as_deref()), "{path}");
    }
}

#[tokio::test]
async fn without_a_good_key_it_is_401_with_a_challenge() {
    let edges = Edges::start().await;
    let good = edges.key.clone();
    let mut changed = good.clone();
    let last = changed.pop().expect("a key");
    changed.push(if last == 'a' { 'b' } else { 'a' });
    for authorization in [
        String::new(),
        "authorization: Bearer\r\n".into(),
        format!("authorization: Basic {good}\r\n"),
        format!("authorization: {good}\r\n"),
        format!("authorization: Bearer {changed}\r\n"),
        format!("authorization: Bearer {good}x\r\n"),
        format!("authorization: Bearer {good}\r\nauthorization: Bearer {good}\r\n"),
        format!("authorization: Bearer {}\r\n", "x".repeat(10_000)),
        format!("x-api-key: {good}\r\n"),
    ] {
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\n{authorization}content-type: application/json\r\ncontent-length: {}\r\n\r\n{GOOD}",
            GOOD.len()
        );
        let answer = ask(edges.http, request).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
        assert_eq!(answer.error_code(), "unauthenticated");
        let body = String::from_utf8(answer.body).expect("UTF-8");
        assert!(!body.contains(&good) && !body.contains(&changed));
    }
    let lower = post(PATH, &good, GOOD);
    let lower = String::from_utf8(lower).expect("UTF-8").replace("authorization: Bearer", "Authorization: bearer");
    assert_eq!(ask(edges.http, lower).await.status, 200, "the scheme's case does not matter");
}

#[tokio::test]
async fn a_key_for_another_org_or_env_or_without_the_scope_is_403_and_an_unknown_org_looks_the_same() {
    let edges = Edges::start().await;
    let read_only = edges.org_key("acme", Environment::Dev, &[Scope::Read]).await;
    let mut texts = Vec::new();
    for (path, key) in [
        ("/acme/prod/v1/message-webhook", &edges.key),
        ("/ACME/dev/v1/message-webhook", &edges.key),
        ("/nobody-ever/dev/v1/message-webhook", &edges.key),
        (PATH, &read_only),
    ] {
        let answer = ask(edges.http, post(path, key, GOOD)).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (403, "permission_denied"), "{path}");
        texts.push(answer.json()["message"].clone());
    }
    assert_eq!(texts[1], texts[2]);
    let own = texts[0].as_str().expect("a text");
    assert!(own.contains("'dev'") && own.contains("'prod'"), "its holder knows of both: {own}");
    assert!(texts[3].as_str().expect("a text").contains("'submit'"));
    let platform = edges.platform_key(&[Scope::Submit]).await;
    assert_eq!(ask(edges.http, post("/whoever/prod/v1/message-webhook", &platform, GOOD)).await.status, 200);
}

#[tokio::test]
async fn what_is_not_json_by_its_headers_is_415() {
    let edges = Edges::start().await;
    let with = async |headers: &str| {
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{headers}content-length: {}\r\n\r\n{GOOD}",
            edges.key,
            GOOD.len()
        );
        ask(edges.http, request).await
    };
    let json = "content-type: application/json\r\n";
    for headers in ["", "content-type: text/json\r\n", "content-type:\r\n", &format!("{json}{json}")] {
        let answer = with(headers).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (415, "unsupported_media_type"), "{headers}");
    }
    for encoding in ["gzip", "br", "identity, gzip", "x"] {
        let answer = with(&format!("{json}content-encoding: {encoding}\r\n")).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (415, "unsupported_content_encoding"), "{encoding}");
    }
    for headers in [
        "content-type: application/json; charset=utf-8\r\n",
        "content-type: APPLICATION/JSON;charset=UTF-8\r\n",
        "content-type: application/json\r\ncontent-encoding: identity\r\n",
    ] {
        assert_eq!(with(headers).await.status, 200, "{headers}");
    }
}

#[tokio::test]
async fn a_body_of_the_limit_is_taken_and_one_byte_more_is_413() {
    let edges = Edges::start().await;
    let limit = 256 * 1024;
    let frame = r#"{"from_id":"u","message_sid":"s","timestamp":1,"message_body":""}"#;
    let body = |length: usize| frame.replace(r#"body":""#, &format!(r#"body":"{}"#, "x".repeat(length - frame.len())));
    assert_eq!(ask(edges.http, post(PATH, &edges.key, body(limit))).await.status, 200);
    let answer = ask(edges.http, post(PATH, &edges.key, body(limit + 1))).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (413, "body_too_large"));
    assert!(answer.json()["message"].as_str().expect("a text").contains("262144"));
}

fn retry_after(answer: &Answer) -> u64 {
    answer.header("retry-after").expect("present").parse().expect("whole seconds")
}

#[tokio::test]
async fn an_org_over_its_quota_is_429_with_the_time_to_wait_but_only_after_its_body_was_found_good() {
    let rates = RateLimits { per_org: Rate::parse("1/h"), ..RateLimits::default() };
    let admission = AdmissionLimits { in_flight: 9, rates };
    let edges = Edges::start_with(Settings { admission, ..Settings::default() }).await;
    assert_eq!(ask(edges.http, post(PATH, &edges.key, GOOD)).await.status, 200);
    assert_eq!(ask(edges.http, post(PATH, &edges.key, "{}")).await.status, 400);
    let answer = ask(edges.http, post(PATH, &edges.key, GOOD)).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (429, "rate_limited"));
    let wait = retry_after(&answer);
    assert!((3000..=3600).contains(&wait), "{wait}");
    assert_eq!(answer.header("ratelimit-policy"), Some("\"org\";q=1;w=3600"));
    let room = answer.header("ratelimit").expect("told");
    assert!(room.starts_with("\"org\";r=0;t=3"), "{room}");
}

#[tokio::test]
async fn a_sender_over_its_rate_is_told_when_and_others_of_its_organisation_go_on() {
    let rates = RateLimits { per_sender: Rate::parse("2/h burst 1"), ..RateLimits::default() };
    let admission = AdmissionLimits { in_flight: 9, rates };
    let edges = Edges::start_with(Settings { admission, ..Settings::default() }).await;
    let from = |sender: &str| GOOD.replace("\"u\"", &format!("\"{sender}\""));
    assert_eq!(ask(edges.http, post(PATH, &edges.key, from("ada"))).await.status, 200);
    let answer = ask(edges.http, post(PATH, &edges.key, from("ada"))).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (429, "rate_limited"));
    assert!((1700..=1800).contains(&retry_after(&answer)), "half an hour for one of two an hour");
    assert_eq!(answer.header("ratelimit-policy"), Some("\"sender\";q=1;w=1800"));
    assert_eq!(ask(edges.http, post(PATH, &edges.key, from("bob"))).await.status, 200);
}

#[tokio::test]
async fn a_store_that_cannot_decide_is_503_and_tells_nothing_internal() {
    let edges = Edges::start().await;
    edges.store.set_mood(Mood::Failing);
    let answer = ask(edges.http, post(PATH, &edges.key, GOOD)).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "store_unavailable"));
    assert!(retry_after(&answer) >= 1);
    assert!(!String::from_utf8(answer.body).expect("UTF-8").contains("secret"));
}

#[tokio::test]
async fn a_store_that_is_too_slow_is_503_and_the_retry_learns_that_the_message_was_taken() {
    let settings = Settings { store_deadline: Duration::from_millis(50), ..Settings::default() };
    let edges = Edges::start_with(settings).await;
    edges.store.set_mood(Mood::Silent);
    let answer = ask(edges.http, post(PATH, &edges.key, GOOD)).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "deadline_exceeded"));
    assert!(retry_after(&answer) >= 1);
    edges.store.set_mood(Mood::Fine);
    assert_eq!(ask(edges.http, post(PATH, &edges.key, GOOD)).await.json()["message"], "Already processed");
}

#[tokio::test]
async fn more_submissions_than_may_wait_are_503_and_so_are_more_requests_than_may_be_under_way() {
    for (waiting, under_way) in [(1, 9), (9, 1)] {
        let admission = AdmissionLimits { in_flight: waiting, rates: RateLimits::default() };
        let settings = Settings { admission, requests_in_flight: under_way, ..Settings::default() };
        let edges = Edges::start_with(settings).await;
        edges.store.set_mood(Mood::Silent);
        let mut first = Client::connect(edges.http).await;
        first.send(post(PATH, &edges.key, GOOD)).await;
        while edges.store.accepted() == 0 {
            tokio::task::yield_now().await;
        }
        let answer = ask(edges.http, post(PATH, &edges.key, GOOD)).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (503, "overloaded"));
        assert!(retry_after(&answer) >= 1);
        edges.store.set_mood(Mood::Fine);
        assert_eq!(first.answer().await.status, 200);
        assert_eq!(ask(edges.http, post(PATH, &edges.key, GOOD)).await.status, 200, "there is room again");
    }
}

#[tokio::test]
async fn a_panic_is_500_in_the_usual_shape_and_costs_one_answer_only() {
    let edges = Edges::start().await;
    edges.store.set_mood(Mood::Panicking);
    let mut client = Client::connect(edges.http).await;
    client.send(post(PATH, &edges.key, GOOD)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.error_code().as_str()), (500, "internal"));
    assert_eq!(answer.json()["message"], "Internal server error");
    edges.store.set_mood(Mood::Fine);
    client.send(post(PATH, &edges.key, GOOD)).await;
    assert_eq!(client.answer().await.status, 200, "on the same connection");
}
