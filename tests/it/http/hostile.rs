//! Clients that are slow, silent or endless must cost next to nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use message_webhook::protocol::listener::ConnectionLimits;
use tokio::{io::AsyncWriteExt, time::Instant};

use crate::support::{
    edges::{Edges, PATH, Settings},
    frames::{self, Raw},
    raw::{Client, PATIENCE, ask, post},
};

const GOOD: &str = r#"{"from_id":"u","message_sid":"s","timestamp":1}"#;
/// How long the servers here wait, and how often the clients here send a byte.
const SHORT: Duration = Duration::from_millis(300);
const TRICKLE: Duration = Duration::from_millis(50);

fn short_heads() -> Settings {
    let connections = ConnectionLimits {
        header_timeout: SHORT,
        idle_timeout: Duration::from_secs(60),
        ..ConnectionLimits::default()
    };
    Settings { connections, ..Settings::default() }
}

/// Sends a byte now and then until the server closes; how long that took.
async fn trickle(client: &mut Client, bytes: &[u8]) -> Duration {
    let began = Instant::now();
    for byte in bytes.iter().cycle() {
        if !client.try_send([*byte]).await {
            return began.elapsed();
        }
        let silence = tokio::time::timeout(TRICKLE, client.is_closed_silently()).await;
        if silence.is_ok() {
            return began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "still open");
    }
    unreachable!("an endless cycle")
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_cut_off() {
    let edges = Edges::start_with(short_heads()).await;
    for begun in ["", "P", "POST /acme", "GET / HTTP/1.1\r\n"] {
        let mut client = Client::connect(edges.http).await;
        client.send(begun).await;
        let lasted = trickle(&mut client, b"x").await;
        assert!(lasted >= SHORT / 2 && lasted < PATIENCE / 4, "{begun:?} lasted {lasted:?}");
    }
}

#[tokio::test]
async fn a_slow_head_is_cut_off_on_a_connection_that_was_used_before_too() {
    let edges = Edges::start_with(short_heads()).await;
    let mut client = Client::connect(edges.http).await;
    client.send(post(PATH, &edges.key, GOOD)).await;
    assert_eq!(client.answer().await.status, 200);
    tokio::time::sleep(SHORT * 2).await;
    // It may be idle for longer than a head may take, and only then begins one.
    client.send(post(PATH, &edges.key, GOOD)).await;
    assert_eq!(client.answer().await.status, 200);
    assert!(trickle(&mut client, b"x").await >= SHORT / 2);
}

#[tokio::test]
async fn who_says_nothing_at_all_is_let_go() {
    let connections = ConnectionLimits {
        idle_timeout: SHORT,
        header_timeout: Duration::from_secs(60),
        ping: Duration::from_secs(60),
        ..ConnectionLimits::default()
    };
    let edges = Edges::start_with(Settings { connections, ..Settings::default() }).await;
    for address in [edges.http, edges.grpc, edges.admin] {
        let mut silent = Client::connect(address).await;
        assert!(silent.is_closed_silently().await);
        let mut used = Client::connect(address).await;
        used.send("GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n").await;
        used.head().await.expect("an answer");
        used.read_to_end().await;
        // A preface and settings without ever a request; what comes is settings and GOAWAY, and then the end.
        let mut idle = Client::connect(address).await;
        idle.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        idle.read_to_end().await;
    }
}

#[tokio::test]
async fn half_of_a_preface_is_not_waited_for_longer_than_a_head() {
    let edges = Edges::start_with(short_heads()).await;
    let mut client = Client::connect(edges.http).await;
    client.send("PRI * HTTP/2.0").await;
    assert!(client.is_closed_silently().await);
}

#[tokio::test]
async fn who_answers_no_ping_is_let_go_in_the_middle_of_a_request_too() {
    let connections = ConnectionLimits { ping: SHORT, ..ConnectionLimits::default() };
    let edges = Edges::start_with(Settings { connections, ..Settings::default() }).await;
    let authorization = format!("Bearer {}", edges.key);
    let head = frames::block(frames::post(PATH, "application/json", &authorization));
    let mut gone = Raw::open(edges.http, &[]).await;
    gone.send(&frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &head)).await;
    let mut pinged = false;
    let end = async {
        while let Some((kind, _)) = gone.next().await {
            pinged |= kind == frames::PING;
        }
    };
    tokio::time::timeout(PATIENCE / 4, end).await.expect("an end");
    assert!(pinged);
}

#[tokio::test]
async fn a_body_of_one_byte_now_and_then_is_408_and_closed() {
    let edges = Edges::start_with(Settings { body_timeout: SHORT, ..Settings::default() }).await;
    let request = post(PATH, &edges.key, "x".repeat(10_000));
    let mut client = Client::connect(edges.http).await;
    client.send(&request[..request.len() - 9_999]).await;
    let began = Instant::now();
    let answer = loop {
        client.try_send("x").await;
        if let Ok(answer) = tokio::time::timeout(TRICKLE, client.head()).await {
            break answer.expect("an answer");
        }
        assert!(began.elapsed() < PATIENCE, "still waiting");
    };
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert!(began.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_gigabyte_in_chunks_is_refused_long_before_its_end() {
    let edges = Edges::start().await;
    let client = Client::connect(edges.http).await;
    let (mut reading, mut writing) = client.stream.into_split();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n",
        edges.key
    );
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let sender = tokio::spawn(async move {
        let chunk = [b"10000\r\n", [b' '; 0x10000].as_slice(), b"\r\n"].concat();
        writing.write_all(head.as_bytes()).await.expect("sent");
        while counter.load(Ordering::Relaxed) < 1 << 30 && writing.write_all(&chunk).await.is_ok() {
            counter.fetch_add(chunk.len(), Ordering::Relaxed);
        }
    });
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, tokio::io::AsyncReadExt::read_exact(&mut reading, &mut answer))
        .await
        .expect("within patience")
        .expect("an answer");
    let sent = sent.load(Ordering::Relaxed);
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert!(sent < 64 << 20, "{sent} bytes were sent before the answer");
    sender.abort();
}

#[tokio::test]
async fn who_sends_all_of_a_body_that_is_too_large_before_it_reads_still_gets_the_answer() {
    let edges = Edges::start().await;
    for _ in 0..20 {
        let mut client = Client::connect(edges.http).await;
        client.send(post(PATH, &edges.key, "x".repeat(8 << 20))).await;
        assert_eq!(client.answer().await.status, 413);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_is_cut_off() {
    let connections = ConnectionLimits { write_timeout: SHORT, ..ConnectionLimits::default() };
    let edges = Edges::start_with(Settings { connections, ..Settings::default() }).await;
    let mut client = Client::connect(edges.http).await;
    let requests = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let began = Instant::now();
    // The answers fill every buffer between, then the server must stop reading, and then sending comes to an end.
    loop {
        match tokio::time::timeout(PATIENCE, client.stream.write_all(requests.as_bytes())).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => break,
            Err(_) => panic!("still open after {:?}", began.elapsed()),
        }
    }
}

#[tokio::test]
async fn a_head_beyond_16_kib_is_431_and_one_below_is_not() {
    let edges = Edges::start().await;
    let with = |bytes: usize| format!("GET {PATH} HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(bytes));
    assert_eq!(ask(edges.http, with(15 * 1024)).await.status, 405);
    for bytes in [16 * 1024, 100 * 1024] {
        let mut client = Client::connect(edges.http).await;
        client.try_send(with(bytes)).await;
        let head = client.head().await.expect("a bare status");
        assert_eq!((head.status, head.header("connection")), (431, Some("close")), "{bytes}");
    }
    let many = "x: y\r\n".repeat(2000);
    let mut client = Client::connect(edges.http).await;
    client.try_send(format!("GET {PATH} HTTP/1.1\r\nhost: x\r\n{many}\r\n")).await;
    assert_eq!(client.head().await.expect("a bare status").status, 431);
}

#[tokio::test]
async fn many_small_headers_are_taken_by_both_versions_alike() {
    let edges = Edges::start().await;
    let names: Vec<_> = (0..350).map(|number| format!("x-{number}")).collect();
    let lines: String = names.iter().map(|name| format!("{name}: y\r\n")).collect();
    let request = format!("GET {PATH} HTTP/1.1\r\nhost: x\r\n{lines}\r\n");
    assert_eq!(ask(edges.http, request).await.status, 405);
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().expect("a client");
    let request = names.iter().fold(client.get(edges.url()), |request, name| request.header(name, "y"));
    assert_eq!(request.send().await.expect("an answer").status(), 405);
}

#[tokio::test]
async fn what_is_no_http_gets_a_bare_400_and_the_end() {
    let edges = Edges::start().await;
    for noise in [
        "\x16\x03\x01\x02\0\x01\0\x01\x03\x03\0\0\0\0\0\0",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\n\r\n\r\n",
        "\r\n\r\n{}\r\n\r\n",
    ] {
        let mut client = Client::connect(edges.http).await;
        client.send(noise).await;
        if let Some(head) = client.head().await {
            assert!(head.status == 400 || head.status == 404, "{noise:?}: {}", head.status);
        }
    }
    // A length and chunks at once, or two lengths, are how requests are smuggled past proxies.
    for headers in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: +5\r\n",
        "transfer-encoding: chunked, identity\r\n",
    ] {
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n{headers}\r\n{{}}",
            edges.key
        );
        assert_eq!(ask(edges.http, request).await.status, 400, "{headers}");
    }
}
