//! Logs: one JSON object a line, and nothing of what is nobody's business; nor in metrics and errors.

use message_webhook::protocol::grpc::v1::{
    GetMessageRequest, ListMessagesRequest, message_service_client::MessageServiceClient,
};
use tonic::Status;

use super::support::{
    Finished, ServerProcess, cli, get,
    grpc::{submission, with_key},
    post,
    process::Builder,
    ring::{self, Keyspace},
};

const PATH: &str = "/acme/dev/v1/message-webhook";
const BODY: &str = r#"{"from_id":"planted-from","message_sid":"planted-sid","timestamp":1,"message_body":"planted-body","image_urls":["https://planted-host.example/planted-path.jpg?planted-query=1"]}"#;

/// Words that stand in messages and keys and must stand in nothing that is said.
const PLANTED: [&str; 6] =
    ["planted-from", "planted-sid", "planted-body", "planted-host", "planted-path", "planted-query"];

fn at_every_level(builder: Builder, format: &str) -> Builder {
    builder.arg("--log-level").arg("trace,h2=trace,hyper=trace,scylla=trace").arg("--log-format").arg(format)
}

/// Sends a server everything that it may take or refuse, and looks through all that it says; gives its log back.
async fn says_nothing_planted(mut server: ServerProcess, created: Finished) -> String {
    assert_eq!(created.code, Some(0), "{created:?}");
    let key = created.stdout.trim().to_owned();
    let mut said = created.stderr;
    for (body, status) in [
        (BODY.to_owned(), 200),
        (BODY.to_owned(), 200),
        (BODY.replace("planted-body", "planted-body-2"), 200),
        ("{\"from_id\":\"planted-from".to_owned(), 400),
        ("{\"timestamp\":\"planted-body\",\"image_urls\":[\"planted-path\"]}".to_owned(), 400),
        (BODY.replace("https://planted-host", "ftp://planted-host"), 400),
        (BODY.replace("planted-body", &"planted-body".repeat(30_000)), 413),
    ] {
        let (answered, answer) = post(server.http, PATH, &key, body).await;
        assert_eq!(answered, status, "{answer}");
        if status != 200 {
            said.push_str(&answer.to_string());
        }
    }
    let (head, last) = key.split_at(key.len() - 1);
    let almost = format!("{head}{}", if last == "a" { "b" } else { "a" });
    for (path, key, status) in
        [(PATH, &almost, 401), ("/planted-path/dev/v1/message-webhook?planted-query=1", &key, 403)]
    {
        let (answered, answer) = post(server.http, path, key, BODY).await;
        assert_eq!(answered, status, "{answer}");
        said.push_str(&answer.to_string());
    }
    let mut rpcs = MessageServiceClient::connect(format!("http://{}", server.grpc)).await.expect("connected");
    rpcs.submit_message(with_key(&key, submission("planted-from", "planted-sid-2"))).await.expect("accepted");
    let mut refused = |status: Result<(), Status>| said.push_str(&format!("{:?}", status.expect_err("refused")));
    refused(rpcs.submit_message(with_key(&key, submission("planted-from\n", "planted-sid\n"))).await.map(drop));
    refused(rpcs.submit_message(with_key(&almost, submission("planted-from", "planted-sid"))).await.map(drop));
    for sid in ["planted-sid", "planted-sid-2"] {
        let message = GetMessageRequest { message_sid: sid.into(), ..GetMessageRequest::default() };
        rpcs.get_message(with_key(&key, message)).await.expect("there");
    }
    let message = GetMessageRequest { message_sid: "planted-sid-3".into(), ..GetMessageRequest::default() };
    refused(rpcs.get_message(with_key(&key, message)).await.map(drop));
    let list = ListMessagesRequest { from_id: "planted-from".into(), ..ListMessagesRequest::default() };
    assert_eq!(rpcs.list_messages(with_key(&key, list.clone())).await.expect("a page").into_inner().messages.len(), 2);
    let elsewhere = ListMessagesRequest { page_token: "planted-query".into(), ..list };
    refused(rpcs.list_messages(with_key(&key, elsewhere)).await.map(drop));
    drop(rpcs);
    let metrics = get(server.admin, "/metrics").await.expect("metrics").1;
    assert!(metrics.contains("message_webhook_submissions_total{"), "{metrics}");
    server.terminate();
    server.wait_for_log("ended in good order");
    let log = server.wait().stderr;
    let secret = key.rsplit('_').next().expect("a secret").to_owned();
    let stolen = almost.rsplit('_').next().expect("a secret").to_owned();
    for (what, text) in [("log", &log), ("metrics", &metrics), ("errors", &said)] {
        for word in PLANTED.iter().copied().chain([secret.as_str(), &stolen]) {
            assert!(!text.contains(word), "'{word}' in the {what}:\n{text}");
        }
    }
    log
}

fn assert_json(log: &str) {
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string());
        let severity = match line["level"].as_str() {
            Some("TRACE") => "DEBUG",
            Some("WARN") => "WARNING",
            other => other.unwrap_or_default(),
        };
        assert_eq!(line["severity"], severity, "{line}");
    }
}

const KEY: [&str; 10] = ["keys", "create", "--org", "acme", "--env", "dev", "--scope", "submit", "--scope", "read"];

// On threads of their own the clients notice that the server ends while this test waits for its log.
#[tokio::test(flavor = "multi_thread")]
async fn at_every_level_and_in_both_formats_logs_hold_no_content_and_no_secret() {
    for format in ["json", "human"] {
        let server = at_every_level(ServerProcess::builder(), format).start();
        let created = server.cli(&KEY);
        let log = says_nothing_planted(server, created).await;
        if format == "json" {
            assert_json(&log);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_scylladb_store_logs_hold_no_content_and_no_secret() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    let server = at_every_level(ServerProcess::builder().on_scylla(&keyspace), "json").start();
    let flags = keyspace.flags();
    let created = cli(KEY.into_iter().chain(["--store=scylla"]).chain(flags.iter().map(String::as_str)));
    let mut server = server;
    server.wait_for_log("\"serving\"");
    wait_until_ready(&server).await;
    assert_json(&says_nothing_planted(server, created).await);
}

async fn wait_until_ready(server: &ServerProcess) {
    let admin = server.admin;
    super::support::eventually("readiness", async || {
        get(admin, "/readyz").await.filter(|(status, _)| *status == 200).map(drop)
    })
    .await;
}
