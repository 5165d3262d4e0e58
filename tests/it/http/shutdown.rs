//! How a listener stops.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::{
    edges::{Edges, PATH},
    flaky::Mood,
    raw::{Client, PATIENCE, post},
};

const GOOD: &str = r#"{"from_id":"u","message_sid":"s","timestamp":1}"#;

#[tokio::test]
async fn idle_connections_close_at_once_and_what_is_in_flight_is_answered() {
    let mut edges = Edges::start().await;
    let (http, key) = (edges.http, edges.key.clone());
    let mut fresh = Client::connect(http).await;
    let mut used = Client::connect(http).await;
    used.send(post(PATH, &key, GOOD.replace("\"s\"", "\"other\""))).await;
    assert_eq!(used.answer().await.status, 200);
    edges.store.set_mood(Mood::Silent);
    let mut busy = Client::connect(http).await;
    busy.send(post(PATH, &key, GOOD)).await;
    while edges.store.accepted() < 2 {
        tokio::task::yield_now().await;
    }

    let store = std::sync::Arc::clone(&edges.store);
    let stopping = tokio::spawn(async move { edges.stop().await });
    assert!(fresh.is_closed_silently().await);
    assert!(used.is_closed_silently().await);
    while TcpStream::connect(http).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished(), "somebody still waits for an answer");
    store.set_mood(Mood::Fine);
    let answer = busy.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    tokio::time::timeout(PATIENCE, stopping).await.expect("ended").expect("no panic");
}

#[tokio::test]
async fn a_request_whose_head_is_half_sent_when_the_listener_stops_is_still_answered() {
    let mut edges = Edges::start().await;
    let request = post(PATH, &edges.key, GOOD);
    let mut client = Client::connect(edges.http).await;
    client.send(&request[..40]).await;
    // Until the server has read it, which nothing shows.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stopping = tokio::spawn(async move { edges.stop().await });
    client.send(&request[40..]).await;
    assert_eq!(client.answer().await.status, 200);
    tokio::time::timeout(PATIENCE, stopping).await.expect("ended").expect("no panic");
}
