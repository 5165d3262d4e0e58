//! Who speaks TLS, and who does not.

use std::time::Duration;

use http::Version;
use message_webhook::{
    domain::{Environment, Scope},
    protocol::grpc::v1::{SubmitOutcome, message_service_client::MessageServiceClient},
    tls::{H2, HTTP_1_1},
};
use rustls::{ProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Endpoint;

use super::{BOTH, PATH, Scene, shake};
use crate::support::{
    PATIENCE, TestServer,
    certs::Authority,
    grpc::{submission, with_key},
    message, raw,
};

#[tokio::test]
async fn the_webhook_speaks_http_2_or_http_1_1_over_tls_as_the_client_has_it() {
    let scene = Scene::start().await;
    let key = scene.server.key("acme", Environment::Dev, &[Scope::Submit]).await;
    for (alpn, version) in [
        (BOTH, Version::HTTP_2),
        (&[HTTP_1_1][..], Version::HTTP_11),
        // As old clients have it.
        (&[][..], Version::HTTP_11),
    ] {
        let client = scene.authority.http_client(alpn, 0);
        let answer = client.post(scene.server.http.port(), PATH, &key, message("sid")).await.expect("an answer");
        assert_eq!((answer.status, answer.version), (200, version));
    }
}

#[tokio::test]
async fn grpc_speaks_tls_and_has_a_client_without_http_2_refused() {
    let scene = Scene::start().await;
    let key = scene.server.key("acme", Environment::Dev, &[Scope::Submit]).await;
    let connector = scene.authority.connector(None, &[H2]);
    let endpoint =
        Endpoint::from_shared(format!("https://localhost:{}", scene.server.grpc.port())).expect("an address");
    let channel = endpoint.connect_with_connector(connector).await.expect("connected");
    let submitted = MessageServiceClient::new(channel).submit_message(with_key(&key, submission("u", "s"))).await;
    assert!(submitted.expect("accepted").into_inner().outcome() == SubmitOutcome::Accepted);

    let refused = shake(scene.server.grpc, scene.authority.client_config(None, &[HTTP_1_1])).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("NoApplicationProtocol")));
}

#[tokio::test]
async fn probes_and_scrapers_are_answered_over_tls() {
    let scene = Scene::start().await;
    let client = scene.authority.http_client(BOTH, 0);
    for (path, says) in [("/livez", "live\n"), ("/readyz", "ready\n")] {
        assert_eq!(client.get(scene.server.admin.port(), path).await.body, says);
    }
}

#[tokio::test]
async fn tls_1_3_and_1_2_are_spoken() {
    let scene = Scene::start().await;
    for (only, version) in [(&version::TLS13, ProtocolVersion::TLSv1_3), (&version::TLS12, ProtocolVersion::TLSv1_2)] {
        let stream =
            shake(scene.server.http, scene.authority.client_config_of(&[only], None, &[])).await.expect("shaken hands");
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version));
    }
}

#[tokio::test]
async fn plain_http_on_a_port_with_tls_is_told_so_and_gets_no_success() {
    let scene = Scene::start().await;
    let key = scene.server.key("acme", Environment::Dev, &[Scope::Submit]).await;
    for port in [scene.server.http, scene.server.grpc, scene.server.admin] {
        let mut client = raw::Client::connect(port).await;
        client.send(raw::post(PATH, &key, message("plain"))).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")));
        assert!(String::from_utf8(answer.body).expect("UTF-8").contains("https://"));
        assert!(client.is_closed_silently().await);
        // HTTP/2 with prior knowledge.
        let mut client = raw::Client::connect(port).await;
        client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        assert_eq!(client.answer().await.status, 400);
    }
    let client = scene.authority.http_client(BOTH, 0);
    let answer = client.post(scene.server.http.port(), PATH, &key, message("plain")).await.expect("an answer");
    assert!(answer.body.contains("\"duplicate\":false"), "nothing was taken before");
}

#[tokio::test]
async fn a_client_of_tls_on_a_plain_port_is_told_at_once() {
    let server = TestServer::start().await;
    for port in [server.http, server.grpc, server.admin] {
        let refused =
            tokio::time::timeout(PATIENCE, shake(port, Authority::generate().client_config(None, BOTH))).await;
        assert!(refused.expect("an end").is_err());
        // What people see who look at the bytes.
        let mut client = raw::Client::connect(port).await;
        client.send([0x16, 3, 1]).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 400);
        assert!(String::from_utf8(answer.body).expect("UTF-8").contains("http://"));
    }
}

#[tokio::test]
async fn a_connection_ends_by_the_same_limits_as_a_plain_one() {
    let scene = Scene::start_with(|builder| builder.set("idle_timeout", "1s").set("header_timeout", "1s")).await;
    // Idle after the handshake, and in the middle of a head.
    for sent in ["", "POST / HTTP/1.1\r\nhost"] {
        let config = scene.authority.client_config(None, &[HTTP_1_1]);
        let mut stream = shake(scene.server.http, config).await.expect("shaken hands");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        let ended = ended.expect("an end");
        assert!(!sent.is_empty() || ended.is_ok(), "an end as TLS has it, where nothing is cut off");
    }
}
