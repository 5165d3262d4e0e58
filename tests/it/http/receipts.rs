//! What a caller is told of a message that was taken.

use serde_json::json;

use crate::support::{
    edges::{Edges, PATH},
    flaky::Mood,
    raw::{Client, ask, post},
};

/// As the published page has it, byte for byte.
const PUBLISHED: &str = r#"{
  "from_id": "user_abc123",
  "message_sid": "msg_xyz789",
  "timestamp": "1672531200",
  "message_body": "Here is my meal, this is gruyere cheese btw.",
  "image_urls": ["https://example.com/images/food.jpg"],
  "audio_urls": []
}"#;

#[tokio::test]
async fn the_published_example_is_accepted_as_it_stands_and_then_already_processed() {
    let edges = Edges::start().await;
    let first = ask(edges.http, post(PATH, &edges.key, PUBLISHED)).await;
    assert_eq!(first.status, 200);
    let times = first.json();
    let expected = format!(
        r#"{{"status":"success","message":"Message received and processed","message_sid":"msg_xyz789","duplicate":false,"accepted_at":{},"duplicates_until":{}}}"#,
        times["accepted_at"], times["duplicates_until"]
    );
    assert_eq!(String::from_utf8(first.body.clone()).expect("UTF-8"), expected);
    let message = edges.store.only_message().await;
    assert_eq!(message.accepted_at.to_string(), times["accepted_at"]);
    assert_eq!(message.content.timestamp.as_unix(), (1_672_531_200, 0));

    let second = ask(edges.http, post(PATH, &edges.key, PUBLISHED)).await;
    assert_eq!(second.status, 200);
    let expected = expected.replace("Message received and processed", "Already processed").replace(":false", ":true");
    assert_eq!(String::from_utf8(second.body).expect("UTF-8"), expected);
    assert_eq!(edges.store.accepted(), 1);
}

#[tokio::test]
async fn a_repetition_with_another_content_is_a_duplicate_that_says_so() {
    let edges = Edges::start().await;
    ask(edges.http, post(PATH, &edges.key, PUBLISHED)).await;
    let other = ask(edges.http, post(PATH, &edges.key, PUBLISHED.replace("gruyere", "cheddar"))).await;
    assert_eq!(other.status, 200);
    let body = other.json();
    assert_eq!((&body["duplicate"], &body["payload_matches"]), (&json!(true), &json!(false)));
    let text = edges.store.only_message().await.content.body.expect("a text");
    assert!(text.contains("gruyere"), "the first content stays");
}

#[tokio::test]
async fn a_link_that_was_signed_again_is_the_same_content() {
    let edges = Edges::start().await;
    ask(edges.http, post(PATH, &edges.key, PUBLISHED)).await;
    let again = ask(edges.http, post(PATH, &edges.key, PUBLISHED.replace("food.jpg", "food.jpg?sig=2"))).await;
    assert_eq!(again.json().get("payload_matches"), None);
}

#[tokio::test]
async fn the_callers_request_id_comes_back_and_a_bad_one_is_replaced() {
    let edges = Edges::start().await;
    let with_id = |id: &str| format!("GET {PATH} HTTP/1.1\r\nhost: x\r\nx-request-id: {id}\r\n\r\n");
    let long = "x".repeat(128);
    for id in ["a", "trace-1:2.3_4", &long] {
        let answer = ask(edges.http, with_id(id)).await;
        assert_eq!(answer.header("x-request-id"), Some(id));
        assert_eq!(answer.json()["request_id"], id);
    }
    let mut fresh = Vec::new();
    for id in ["", "with space", "sl/ash", &"x".repeat(129)] {
        let answer = ask(edges.http, with_id(id)).await;
        let given = answer.header("x-request-id").expect("always one").to_owned();
        assert_ne!(given, id);
        assert_eq!(answer.json()["request_id"], *given);
        fresh.push(given);
    }
    let success = ask(edges.http, post(PATH, &edges.key, PUBLISHED)).await;
    fresh.push(success.header("x-request-id").expect("on success too").to_owned());
    fresh.sort();
    fresh.dedup();
    assert_eq!(fresh.len(), 5);
}

#[tokio::test]
async fn of_a_thousand_concurrent_posts_of_one_sid_one_is_told_that_it_was_processed() {
    let edges = Edges::start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (address, request) = (edges.http, post(PATH, &edges.key, PUBLISHED));
        tasks.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut processed = 0;
            for _ in 0..10 {
                client.send(&request).await;
                let answer = client.answer().await;
                assert_eq!(answer.status, 200);
                processed += usize::from(answer.json()["duplicate"] == json!(false));
            }
            processed
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<usize>(), 1);
    assert_eq!(edges.store.accepted(), 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_waits_learns_by_a_retry_that_its_message_was_taken() {
    let edges = Edges::start().await;
    edges.store.set_mood(Mood::Silent);
    let mut client = Client::connect(edges.http).await;
    client.send(post(PATH, &edges.key, PUBLISHED)).await;
    while edges.store.accepted() == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    edges.store.set_mood(Mood::Fine);
    let retry = ask(edges.http, post(PATH, &edges.key, PUBLISHED)).await;
    assert_eq!(retry.json()["message"], "Already processed");
}
