//! Work whose caller has left keeps its place among what may be under way.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use message_webhook::{
    domain::{Environment, Scope},
    protocol::grpc::v1::{GetMessageRequest, ListMessagesRequest, StreamMessagesRequest, SubmitMessageRequest},
    service::{AdmissionLimits, RateLimits},
};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{
    edges::{Edges, PATH, Settings},
    eventually,
    flaky::{FlakyStore, Mood},
    grpc::{submission, with_key},
    h2::Connection,
};

const PLACES: usize = 2;

#[derive(Debug, Clone, Copy)]
enum Edge {
    Http,
    Grpc,
}

async fn start(store_deadline: Duration) -> (Edges, Arc<FlakyStore>) {
    let store = FlakyStore::with_gate(0);
    let admission = AdmissionLimits { in_flight: PLACES, rates: RateLimits::default() };
    let settings = Settings { store: Some(store.clone()), admission, store_deadline, ..Settings::default() };
    (Edges::start_with(settings).await, store)
}

fn request(edges: &Edges, edge: Edge, sid: &str, timeout: Option<&str>) -> Request<Full<Bytes>> {
    let (url, content_type, body) = match edge {
        Edge::Http => {
            let body = format!(r#"{{"from_id":"u","message_sid":"{sid}","timestamp":1}}"#);
            (format!("http://{}{PATH}", edges.http), "application/json", body.into_bytes())
        }
        Edge::Grpc => {
            let message = SubmitMessageRequest::encode_to_vec(&submission("u", sid));
            let length = u32::try_from(message.len()).expect("small");
            let body = [&[0][..], &length.to_be_bytes(), &message].concat();
            let url = format!("http://{}/messagewebhook.v1.MessageService/SubmitMessage", edges.grpc);
            (url, "application/grpc", body)
        }
    };
    let mut request = Request::post(url)
        .header("content-type", content_type)
        .header("authorization", format!("Bearer {}", edges.key));
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    request.body(Full::new(body.into())).expect("a request")
}

/// Whether the answer is one of those to too much at once.
async fn is_overload(edges: &Edges, edge: Edge, connection: &Connection) -> bool {
    let answer = connection.ask(request(edges, edge, "another", None)).await.expect("an answer");
    match edge {
        Edge::Http => answer.status() == 503 && String::from_utf8_lossy(answer.body()).contains("\"overloaded\""),
        Edge::Grpc => {
            let status = Status::from_header_map(answer.headers()).expect("a status");
            status.get_error_details().error_info().is_some_and(|info| info.reason == "OVERLOADED")
        }
    }
}

#[tokio::test]
async fn clients_that_leave_again_and_again_do_not_get_more_work_under_way_than_may_be() {
    for edge in [Edge::Http, Edge::Grpc] {
        let (edges, store) = start(Duration::from_secs(60)).await;
        let address = match edge {
            Edge::Http => edges.http,
            Edge::Grpc => edges.grpc,
        };
        let connection = Connection::to(address).await;
        for number in 0..PLACES {
            let mut call = Box::pin(connection.ask(request(&edges, edge, &format!("s{number}"), None)));
            let begun = async || (store.submissions.load(Ordering::SeqCst) == number + 1).then_some(());
            tokio::select! {
                answer = &mut call => panic!("answered: {answer:?}"),
                () = eventually("the store's call", begun) => {}
            }
            // The stream is reset.
            drop(call);
        }
        // The reset comes before the next request; one place and then the other is what it might have freed.
        for _ in 0..20 {
            assert!(is_overload(&edges, edge, &connection).await, "{edge:?}");
        }
        assert_eq!(store.submissions.load(Ordering::SeqCst), PLACES, "{edge:?}");
        store.gate.add_permits(PLACES + 1);
        eventually("what was left behind to be stored", async || (store.accepted() == PLACES).then_some(())).await;
        let answer = connection.ask(request(&edges, edge, "another", None)).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(store.accepted(), PLACES + 1, "there is room again");
    }
}

#[tokio::test]
async fn what_goes_on_after_a_deadline_keeps_its_place_too() {
    for (edge, timeout, store_deadline) in [
        (Edge::Grpc, Some("20m"), Duration::from_secs(60)),
        (Edge::Grpc, None, Duration::from_millis(20)),
        (Edge::Http, None, Duration::from_millis(20)),
    ] {
        let (edges, store) = start(store_deadline).await;
        let address = match edge {
            Edge::Http => edges.http,
            Edge::Grpc => edges.grpc,
        };
        let connection = Connection::to(address).await;
        // On a busy machine a deadline may pass before the store is asked.
        while store.submissions.load(Ordering::SeqCst) < PLACES {
            let answer = connection.ask(request(&edges, edge, "s", timeout)).await.expect("an answer");
            let code = answer.headers().get("grpc-status").map(|code| code.to_str().expect("ASCII"));
            assert!(answer.status() == 503 || matches!(code, Some("4" | "14")), "{answer:?}");
        }
        assert!(is_overload(&edges, edge, &connection).await, "{edge:?}");
        assert_eq!(store.submissions.load(Ordering::SeqCst), PLACES, "{edge:?}");
    }
}

/// Each way to read, with its request.
fn reads() -> [(&'static str, Vec<u8>); 3] {
    [
        ("GetMessage", GetMessageRequest { message_sid: "s".into(), ..Default::default() }.encode_to_vec()),
        ("ListMessages", ListMessagesRequest { from_id: "u".into(), ..Default::default() }.encode_to_vec()),
        ("StreamMessages", StreamMessagesRequest::default().encode_to_vec()),
    ]
}

fn read(edges: &Edges, key: &str, (name, message): &(&str, Vec<u8>), timeout: Option<&str>) -> Request<Full<Bytes>> {
    let length = u32::try_from(message.len()).expect("small").to_be_bytes();
    let request = Request::post(format!("http://{}/messagewebhook.v1.MessageService/{name}", edges.grpc))
        .header("content-type", "application/grpc")
        .header("authorization", format!("Bearer {key}"));
    let request = timeout.into_iter().fold(request, |request, timeout| request.header("grpc-timeout", timeout));
    request.body(Full::new([&[0][..], &length, message].concat().into())).expect("a request")
}

#[tokio::test]
async fn a_read_whose_client_leaves_or_whose_deadline_passes_keeps_its_place_until_the_store_is_done() {
    for kind in reads() {
        let store = FlakyStore::new();
        let admission = AdmissionLimits { in_flight: PLACES, rates: RateLimits::default() };
        let settings = Settings { store: Some(store.clone()), admission, streams: PLACES, ..Settings::default() };
        let edges = Edges::start_with(settings).await;
        let key = edges.org_key("acme", Environment::Prod, &[Scope::Read, Scope::Stream]).await;
        store.set_mood(Mood::Silent);
        let connection = Connection::to(edges.grpc).await;
        let reads = || store.reads.load(Ordering::SeqCst);

        let mut call = Box::pin(connection.ask(read(&edges, &key, &kind, None)));
        tokio::select! {
            answer = &mut call => panic!("answered: {answer:?}"),
            () = eventually("the store's call", async || (reads() == 1).then_some(())) => {}
        }
        // The stream is reset.
        drop(call);
        // On a busy machine a deadline may pass before the store is asked.
        while reads() < PLACES {
            let answer = connection.ask(read(&edges, &key, &kind, Some("20m"))).await.expect("an answer");
            let status = Status::from_header_map(answer.headers()).expect("a status");
            assert_eq!(status.code(), Code::DeadlineExceeded, "{kind:?}");
        }
        for _ in 0..20 {
            let answer = connection.ask(read(&edges, &key, &kind, Some("10S"))).await.expect("an answer");
            let status = Status::from_header_map(answer.headers()).expect("a status");
            let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
            assert_eq!(reason.as_deref(), Some("OVERLOADED"), "{kind:?}");
        }
        assert_eq!(reads(), PLACES, "{kind:?}");
        store.set_mood(Mood::Fine);
        eventually("places again", async || {
            drop(connection.ask(read(&edges, &key, &kind, Some("100m"))).await);
            (reads() > PLACES).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_reader_of_the_feed_that_leaves_keeps_its_place_until_its_page_is_read() {
    let store = FlakyStore::new();
    let settings = Settings { store: Some(store.clone()), streams: 1, ..Settings::default() };
    let edges = Edges::start_with(settings).await;
    let key = edges.org_key("acme", Environment::Dev, &[Scope::Stream]).await;
    let mut client = edges.grpc_client().await;
    let open = || with_key(&key, StreamMessagesRequest::default());
    let mut feed = client.stream_messages(open()).await.expect("room").into_inner();
    feed.message().await.expect("no error").expect("a first cursor");
    store.set_mood(Mood::Silent);
    let mut sender = client.clone();
    let message = with_key(&edges.key, submission("u", "s"));
    let submitted = tokio::spawn(async move { sender.submit_message(message).await.map(drop) });
    eventually("a page to be held back", async || (store.held_pages.load(Ordering::SeqCst) > 0).then_some(())).await;
    drop(feed);
    for _ in 0..20 {
        let refused = client.stream_messages(open()).await.expect_err("no place yet");
        let reason = refused.get_error_details().error_info().map(|info| info.reason.clone());
        assert_eq!(reason.as_deref(), Some("OVERLOADED"));
    }
    store.set_mood(Mood::Fine);
    submitted.await.expect("no panic").expect("accepted");
    eventually("a place again", async || client.stream_messages(open()).await.ok().map(drop)).await;
}
