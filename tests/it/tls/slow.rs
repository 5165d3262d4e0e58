//! Handshakes that do not end, and the end of the server.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Instant,
};

use message_webhook::{
    domain::{Environment, Scope},
    tls::HTTP_1_1,
};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use super::{BOTH, PATH, Scene, text};
use crate::support::{
    PATIENCE, ServerProcess, certs::Authority, message, raw::Client, unfinished::Unfinished, wait_until,
};

/// As a record begins that has a ClientHello.
const HALF_A_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[tokio::test]
async fn five_hundred_handshakes_that_do_not_go_on_keep_nobody_out_and_are_ended() {
    let scene = Scene::start_with(|builder| builder.set("header_timeout", "3s")).await;
    let key = scene.server.key("acme", Environment::Dev, &[Scope::Submit]).await;
    let mut half = Vec::new();
    for port in [scene.server.http, scene.server.grpc] {
        for _ in 0..250 {
            let mut client = Client::connect(port).await;
            client.send(HALF_A_HELLO).await;
            half.push(client);
        }
    }
    for _ in 0..200 {
        let mut client = Client::connect(scene.server.admin).await;
        client.try_send(HALF_A_HELLO).await;
        half.push(client);
    }
    let client = scene.authority.http_client(BOTH, 0);
    for number in 0..5 {
        let posted = client.post(scene.server.http.port(), PATH, &key, message(&format!("s{number}"))).await;
        assert_eq!(posted.expect("an answer").status, 200);
    }
    assert_eq!(client.get(scene.server.admin.port(), "/readyz").await.status, 200);
    for mut client in half {
        client.read_to_end().await;
    }
}

fn connect(authority: &Authority, address: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let config = authority.client_config(None, &[HTTP_1_1]);
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).expect("shaken hands");
    }
    stream
}

#[test]
fn a_signal_drains_connections_with_tls_as_plain_ones() {
    let (authority, dir) = (Authority::generate(), tempfile::TempDir::new().expect("a directory"));
    let (cert, key_file) = authority.server().write(dir.path());
    let builder = ServerProcess::builder().arg("--http-tls-cert-file").arg(text(&cert));
    let server = builder.arg("--http-tls-key-file").arg(text(&key_file)).start();
    let key = server.cli(&["keys", "create", "--org", "acme", "--env", "dev"]).stdout;
    let http = server.http;
    let request = Unfinished::begin(connect(&authority, http), PATH, key.trim(), &message("in-flight"));
    // Neither holds the end up: a handshake that does not go on, and a connection that asks for nothing.
    let mut half = TcpStream::connect(http).expect("connected");
    half.write_all(HALF_A_HELLO).expect("sent");
    let mut idle = connect(&authority, http);
    server.terminate();
    wait_until("no new connections", || TcpStream::connect(http).is_err());
    assert_eq!(idle.read(&mut [0; 1]).expect("a good end"), 0);
    let answer = request.finish();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("received and processed"), "{answer}");
    let begun = Instant::now();
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
}
