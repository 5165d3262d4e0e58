//! What clients may do with a connection.

use std::{net::SocketAddr, time::Duration};

use message_webhook::{
    domain::{Environment, Scope},
    protocol::listener::ConnectionLimits,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use crate::support::{
    ServerProcess, TestServer,
    edges::{Edges, PATH, Settings},
    eventually, get,
    raw::{Client, ask, post},
};

const GOOD: &str = r#"{"from_id":"u","message_sid":"s","timestamp":1}"#;

#[tokio::test]
async fn requests_follow_each_other_on_one_connection_also_without_waiting_for_answers() {
    let edges = Edges::start().await;
    let mut client = Client::connect(edges.http).await;
    for round in 0..3 {
        let requests = [
            post(PATH, &edges.key, GOOD),
            post(PATH, &edges.key, "{"),
            post("/other", &edges.key, GOOD),
            post(PATH, "mw_dev_no_key", GOOD),
            post(PATH, &edges.key, GOOD),
        ];
        client.send(requests.concat()).await;
        let mut statuses = Vec::new();
        for _ in 0..requests.len() {
            statuses.push(client.answer().await.status);
        }
        assert_eq!(statuses, [200, 400, 404, 401, 200], "round {round}");
    }
}

#[tokio::test]
async fn a_body_may_come_in_chunks_and_in_single_bytes() {
    let edges = Edges::start().await;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n",
        edges.key
    );
    let mut client = Client::connect(edges.http).await;
    for byte in head.bytes() {
        client.send([byte]).await;
    }
    for byte in GOOD.bytes() {
        client.send(format!("1\r\n{}\r\n", char::from(byte))).await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    // Half a preface of HTTP/2 at first sight, and then HTTP/1.1 after all.
    let mut client = Client::connect(edges.http).await;
    client.send("PR").await;
    client.send(format!("OPFIND {PATH} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    assert_eq!(client.answer().await.status, 405);
}

#[tokio::test]
async fn who_expects_100_continue_is_told_to_go_on_or_refused_before_the_body() {
    let edges = Edges::start().await;
    let expecting = |length: usize, key: &str| {
        format!(
            "POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             expect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut client = Client::connect(edges.http).await;
    client.send(expecting(GOOD.len(), &edges.key)).await;
    assert_eq!(client.head().await.expect("a word").status, 100);
    client.send(GOOD).await;
    assert_eq!(client.answer().await.status, 200);
    for (length, key, status) in [(1 << 30, edges.key.as_str(), 413), (GOOD.len(), "wrong", 401)] {
        assert_eq!(ask(edges.http, expecting(length, key)).await.status, status);
    }
}

#[tokio::test]
async fn http_1_0_and_a_client_that_ends_its_sending_side_are_answered() {
    let edges = Edges::start().await;
    let old = String::from_utf8(post(PATH, &edges.key, GOOD)).expect("UTF-8").replace("HTTP/1.1", "HTTP/1.0");
    let mut client = Client::connect(edges.http).await;
    client.send(old).await;
    assert_eq!(client.answer().await.status, 200);
    assert!(client.is_closed_silently().await, "no keep-alive unless asked for");

    let mut client = Client::connect(edges.http).await;
    client.send(post(PATH, &edges.key, GOOD)).await;
    client.stream.shutdown().await.expect("half closed");
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_middle_of_its_body_leaves_nothing_and_may_try_again() {
    let edges = Edges::start().await;
    let request = post(PATH, &edges.key, GOOD);
    for length in [1, 50, request.len() - 1] {
        let mut client = Client::connect(edges.http).await;
        client.send(&request[..length]).await;
    }
    assert_eq!(ask(edges.http, &request).await.json()["message"], "Message received and processed");
    assert_eq!(edges.store.accepted(), 1);
}

#[tokio::test]
async fn when_all_connections_are_taken_the_next_one_waits_for_a_place() {
    let connections = ConnectionLimits { max_connections: 2, ..ConnectionLimits::default() };
    let edges = Edges::start_with(Settings { connections, ..Settings::default() }).await;
    let mut first = Client::connect(edges.http).await;
    let mut second = Client::connect(edges.http).await;
    for client in [&mut first, &mut second] {
        client.send(post(PATH, &edges.key, GOOD)).await;
        assert_eq!(client.answer().await.status, 200);
    }
    let mut third = Client::connect(edges.http).await;
    third.send(post(PATH, &edges.key, GOOD)).await;
    let early = tokio::time::timeout(Duration::from_millis(100), third.answer()).await;
    assert!(early.is_err(), "answered beyond the limit");
    drop(first);
    assert_eq!(third.answer().await.status, 200);
}

#[tokio::test]
async fn one_address_cannot_take_all_connections_unless_it_is_a_trusted_proxy() {
    const PLACES: usize = 18;
    let connect = async |from: [u8; 4], to: SocketAddr| {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("an address of the machine itself");
        socket.connect(to).await.expect("connected")
    };
    let is_served = async |stream: &mut tokio::net::TcpStream, request: &[u8]| {
        let sent = stream.write_all(request).await;
        let mut begin = [0; 12];
        sent.is_ok() && stream.read_exact(&mut begin).await.is_ok() && &begin == b"HTTP/1.1 200"
    };
    // A socket of both families has addresses of IPv4 within IPv6.
    for (trusted, most, own) in
        [("", 16, "127.0.0.1:0"), ("127.0.0.3/32", PLACES, "127.0.0.1:0"), ("127.0.0.3/32", PLACES, "[::]:0")]
    {
        let builder = TestServer::builder().set("max_connections", PLACES).set("trusted_proxies", trusted);
        let server = builder.set("http_addr", own).start().await;
        let http = SocketAddr::from(([127, 0, 0, 1], server.http.port()));
        let key = server.key("acme", Environment::Dev, &[Scope::Submit]).await;
        let request = post(PATH, &key, GOOD);
        let mut open = Vec::new();
        while open.len() < PLACES {
            let mut stream = connect([127, 0, 0, 3], http).await;
            if !is_served(&mut stream, &request).await {
                break;
            }
            open.push(stream);
        }
        assert_eq!(open.len(), most, "trusted: {trusted:?}, {own}");
        let (_, metrics) = get(server.admin, "/metrics").await.expect("metrics");
        let closed = r#"message_webhook_connections_dropped_total{listener="http",reason="address"} "#;
        let closed = metrics.lines().find_map(|line| line.strip_prefix(closed)?.parse::<u32>().ok());
        assert!(closed >= Some(u32::from(most < PLACES)), "{metrics}");
        if most < PLACES {
            let mut other = connect([127, 0, 0, 2], http).await;
            assert!(is_served(&mut other, &request).await, "another address has a place");
        }
        // What one has given back it may have again.
        open.truncate(most - 2);
        eventually("a place", async || {
            let mut stream = connect([127, 0, 0, 3], http).await;
            is_served(&mut stream, &request).await.then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn more_clients_than_open_files_leave_the_store_and_the_other_ports_what_they_need() {
    let server = tokio::task::spawn_blocking(|| {
        // One address may have them all.
        ServerProcess::builder().open_files(160).arg("--trusted-proxies").arg("127.0.0.1/32").start()
    });
    let server = server.await.expect("no panic");
    let created = server.cli(&["keys", "create", "--org", "acme", "--env", "dev"]);
    let key = created.stdout.trim();
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    let mut first = Client::connect(server.http).await;
    let mut others = Vec::new();
    // Few enough for the shortest queue that systems have for clients who wait.
    for _ in 0..130 {
        others.push(Client::connect(server.http).await);
    }
    for number in 0..20 {
        first.send(post(PATH, key, GOOD.replace("\"s\"", &format!("\"s{number}\"")))).await;
        assert_eq!(first.answer().await.status, 200);
    }
    assert_eq!(ask(server.admin, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await.status, 200);
    assert_eq!(
        ask(server.grpc, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.status,
        415,
        "it is no gRPC, and is told so"
    );
    // Who waits is served as soon as there is room.
    let mut last = others.pop().expect("many");
    drop(others);
    last.send(post(PATH, key, GOOD)).await;
    assert_eq!(last.answer().await.status, 200);
}
