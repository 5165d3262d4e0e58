//! Clients of gRPC that show a certificate in place of a key.

use message_webhook::{
    domain::{Environment, Scope},
    protocol::grpc::v1::{
        GetMessageRequest, ListKeysRequest, StreamMessagesRequest, SubmitOutcome, key_service_client::KeyServiceClient,
        message_service_client::MessageServiceClient,
    },
    tls::H2,
};
use tempfile::TempDir;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::text;
use crate::support::{
    PATIENCE, TestServer,
    certs::{Authority, Pair},
    eventually,
    grpc::{end, submission, with_key},
    process::{command, finish},
};

const WRITER: &str = "spiffe://example.org/writer";

struct Scene {
    servers: Authority,
    clients: Authority,
    server: TestServer,
    dir: TempDir,
}

impl Scene {
    async fn start(required: bool) -> Self {
        let (servers, clients, dir) =
            (Authority::generate(), Authority::generate(), TempDir::new().expect("a directory"));
        let (cert, key) = servers.server().write(dir.path());
        let (ca, keys) = (dir.path().join("clients.pem"), dir.path().join("keys.toml"));
        std::fs::write(&ca, &clients.pem).expect("written");
        std::fs::write(&keys, entries("")).expect("written");
        let builder = TestServer::builder().set("grpc_tls_cert_file", text(&cert)).set("grpc_tls_key_file", text(&key));
        let builder = builder.set("grpc_tls_client_ca_file", text(&ca)).set("grpc_tls_client_required", required);
        // None of the other tests sends as much.
        let builder = builder.set("rate_limit_per_key", "1/h burst 3");
        let server = builder.set("keys_file", text(&keys)).start().await;
        Self { servers, clients, server, dir }
    }

    async fn channel(&self, own: Option<&Pair>) -> Result<Channel, tonic::transport::Error> {
        let connector = self.servers.connector(own, &[H2]);
        let endpoint = Endpoint::from_shared(format!("https://localhost:{}", self.server.grpc.port()));
        endpoint.expect("an address").connect_with_connector(connector).await
    }

    async fn client(&self, own: &Pair) -> MessageServiceClient<Channel> {
        MessageServiceClient::new(self.channel(Some(own)).await.expect("connected"))
    }
}

/// A keys file with a writer, a reader by a host's name, and `more`.
fn entries(more: &str) -> String {
    format!(
        "[[identities]]\nname = \"{WRITER}\"\norg = \"acme\"\nenv = \"dev\"\nscopes = [\"submit\"]\n\n\
         [[identities]]\nname = \"reader.example.org\"\norg = \"acme\"\nenv = \"dev\"\nscopes = [\"read\", \"stream\"]\n\n{more}"
    )
}

fn get(sid: &str) -> GetMessageRequest {
    GetMessageRequest { message_sid: sid.into(), ..GetMessageRequest::default() }
}

fn code<T>(result: Result<T, Status>) -> Code {
    result.map(drop).expect_err("refused").code()
}

#[tokio::test]
async fn a_name_in_a_certificate_stands_for_a_key_with_its_org_env_and_scopes() {
    let scene = Scene::start(true).await;
    let mut writer = scene.client(&scene.clients.pair(&[WRITER], 1)).await;
    let mut reader = scene.client(&scene.clients.pair(&["READER.example.org"], 1)).await;
    let sent = writer.submit_message(submission("u", "s")).await.expect("accepted").into_inner();
    assert!(sent.outcome() == SubmitOutcome::Accepted);
    let message = reader.get_message(get("s")).await.expect("found").into_inner().message.expect("a message");
    assert_eq!((message.org_id.as_str(), message.message_sid.as_str()), ("acme", "s"));

    // By the same rules as keys: scopes, organisations, environments.
    let told = writer.get_message(get("s")).await.map(drop).expect_err("refused");
    assert_eq!(told.code(), Code::PermissionDenied);
    assert_eq!(told.message(), "This client certificate lacks the scope 'read'", "it has no key");
    assert_eq!(code(reader.submit_message(submission("u", "t")).await), Code::PermissionDenied);
    let mut elsewhere = submission("u", "t");
    elsewhere.org_id = "other".into();
    let told = writer.submit_message(elsewhere).await.map(drop).expect_err("refused");
    assert_eq!(told.code(), Code::PermissionDenied);
    assert_eq!(told.message(), "This client certificate belongs to another organisation or environment");
    let mut keys =
        KeyServiceClient::new(scene.channel(Some(&scene.clients.pair(&[WRITER], 1))).await.expect("connected"));
    assert_eq!(code(keys.list_keys(ListKeysRequest::default()).await), Code::PermissionDenied);
}

#[tokio::test]
async fn a_certificate_has_the_rate_of_a_key_and_is_called_what_it_is() {
    let scene = Scene::start(true).await;
    let mut writer = scene.client(&scene.clients.pair(&[WRITER], 1)).await;
    for sid in ["a", "b", "c"] {
        writer.submit_message(submission("u", sid)).await.expect("accepted");
    }
    let told = writer.submit_message(submission("u", "d")).await.map(drop).expect_err("refused");
    assert_eq!(told.code(), Code::ResourceExhausted);
    assert!(told.message().starts_with("This client certificate sends more messages"), "{}", told.message());
}

#[tokio::test]
async fn certificates_that_nobody_knows_are_good_for_nothing_and_a_key_counts_before_them() {
    let scene = Scene::start(false).await;
    for names in [
        &["spiffe://example.org/stranger"][..],
        &["writer.example.org"],
        // Which of the two would be a guess.
        &[WRITER, "reader.example.org"],
        &["127.0.0.1"],
        &["https://example.org/writer"],
    ] {
        let mut client = scene.client(&scene.clients.pair(names, 1)).await;
        assert_eq!(code(client.submit_message(submission("u", "s")).await), Code::Unauthenticated, "{names:?}");
    }
    // Where no certificate is required, a client without one needs a key.
    let mut nobody = MessageServiceClient::new(scene.channel(None).await.expect("connected"));
    assert_eq!(code(nobody.submit_message(submission("u", "s")).await), Code::Unauthenticated);
    let key = scene.server.key("other", Environment::Prod, &[Scope::Submit]).await;
    nobody.submit_message(with_key(&key, submission("u", "s"))).await.expect("accepted");

    let mut writer = scene.client(&scene.clients.pair(&[WRITER], 1)).await;
    assert_eq!(code(writer.submit_message(with_key("wrong", submission("u", "s"))).await), Code::Unauthenticated);
    let again = writer.submit_message(with_key(&key, submission("u", "s"))).await.expect("accepted").into_inner();
    assert!(again.outcome() == SubmitOutcome::Duplicate, "as the key's organisation");
}

#[tokio::test]
async fn clients_with_an_expired_or_a_foreign_certificate_or_none_where_one_is_required_get_no_connection() {
    let scene = Scene::start(true).await;
    let foreign = Authority::generate();
    for own in [
        Some(scene.clients.pair(&[WRITER], -1)),
        Some(foreign.pair(&[WRITER], 1)),
        // The authority of the servers is none of clients.
        Some(scene.servers.pair(&[WRITER], 1)),
        None,
    ] {
        let channel = scene.channel(own.as_ref()).await;
        let called = match channel {
            Ok(channel) => MessageServiceClient::new(channel).submit_message(submission("u", "s")).await.map(drop),
            Err(_) => continue,
        };
        // In TLS 1.3 a client has shaken hands before it hears of it. Whoever is connected is told by the service what is wrong.
        assert_ne!(called.expect_err("refused").code(), Code::Unauthenticated);
    }
    let mut writer = scene.client(&scene.clients.pair(&[WRITER], 1)).await;
    let sent = writer.submit_message(submission("u", "s")).await.expect("accepted").into_inner();
    assert!(sent.outcome() == SubmitOutcome::Accepted);
}

#[tokio::test]
async fn a_name_that_is_taken_out_of_the_file_ends_its_calls_and_streams() {
    let scene = Scene::start(true).await;
    let mut reader = scene.client(&scene.clients.pair(&["reader.example.org"], 1)).await;
    let mut stream = reader.stream_messages(StreamMessagesRequest::default()).await.expect("a stream").into_inner();
    let keys = scene.dir.path().join("keys.toml");
    std::fs::write(keys, "").expect("written");
    let ended = tokio::time::timeout(PATIENCE, end(&mut stream)).await.expect("an end");
    assert_eq!(ended.code(), Code::Unauthenticated);
    eventually("the end of its calls", async || {
        let refused = reader.get_message(get("s")).await.map(drop).expect_err("nothing was stored");
        (refused.code() == Code::Unauthenticated).then_some(())
    })
    .await;
}

#[tokio::test]
async fn commands_show_a_certificate_and_need_no_key_then() {
    let scene = Scene::start(true).await;
    let writer = scene.clients.pair(&[WRITER], 1);
    let own = scene.dir.path().join("own");
    std::fs::create_dir(&own).expect("made");
    let (cert, key) = writer.write(&own);
    let ca = scene.dir.path().join("servers.pem");
    std::fs::write(&ca, &scene.servers.pem).expect("written");
    let address = format!("https://localhost:{}", scene.server.grpc.port());
    let submit =
        ["submit", "--from-id", "u", "--message-sid", "s", "--grpc-addr", &address, "--tls-ca-file", text(&ca)];
    let with_certificate: Vec<_> = submit
        .iter()
        .copied()
        .chain(["--tls-cert-file", text(&cert), "--tls-key-file", text(&key)])
        .map(str::to_owned)
        .collect();
    let without: Vec<_> = submit.iter().map(|argument| (*argument).to_owned()).collect();
    let run = async |arguments: Vec<String>| {
        tokio::task::spawn_blocking(move || finish(&mut command(arguments))).await.expect("no panic")
    };
    let sent = run(with_certificate).await;
    assert_eq!((sent.code, sent.stdout.trim()), (Some(0), "s  accepted"), "{sent:?}");
    let refused = run(without).await;
    assert!(refused.code == Some(2) && refused.stderr.contains("name a key"), "{refused:?}");
}
