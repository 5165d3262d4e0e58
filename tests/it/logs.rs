//! Logs: one JSON object a line, and nothing of what is nobody's business.

use message_webhook::protocol::grpc::v1::{GetMessageRequest, message_service_client::MessageServiceClient};

use super::support::{ServerProcess, post};

const PATH: &str = "/acme/dev/v1/message-webhook";

/// Words that stand in messages and keys and must stand in no log.
const PLANTED: [&str; 5] = ["planted-from", "planted-sid", "planted-body", "planted-host", "planted-path"];

// On threads of their own the clients notice that the server ends while this test waits for its log.
#[tokio::test(flavor = "multi_thread")]
async fn at_every_level_and_in_both_formats_logs_hold_no_content_and_no_secret() {
    for format in ["json", "human"] {
        let mut server = ServerProcess::builder()
            .arg("--log-level")
            .arg("trace,h2=trace,hyper=trace,fjall=trace")
            .arg("--log-format")
            .arg(format)
            .start();
        let created =
            server.cli(&["keys", "create", "--org", "acme", "--env", "dev", "--scope", "submit", "--scope", "read"]);
        let key = created.stdout.trim().to_owned();
        let body = r#"{"from_id":"planted-from","message_sid":"planted-sid","timestamp":1,"message_body":"planted-body","image_urls":["https://planted-host.example/planted-path.jpg"]}"#;
        assert_eq!(post(server.http, PATH, &key, body).await.0, 200);
        assert_eq!(post(server.http, PATH, &key, body.replace("planted-body", "planted-body-2")).await.0, 200);
        for wrong in
            ["{\"from_id\":\"planted-from", "{\"timestamp\":\"planted-body\",\"image_urls\":[\"planted-path\"]}"]
        {
            assert_eq!(post(server.http, PATH, &key, wrong).await.0, 400);
        }
        let (head, last) = key.split_at(key.len() - 1);
        let almost = format!("{head}{}", if last == "a" { "b" } else { "a" });
        assert_eq!(post(server.http, PATH, &almost, body).await.0, 401);
        let mut rpcs = MessageServiceClient::connect(format!("http://{}", server.grpc)).await.expect("connected");
        for sid in ["planted-sid", "planted-sid-2"] {
            let message = GetMessageRequest { message_sid: sid.into(), ..GetMessageRequest::default() };
            let mut request = tonic::Request::new(message);
            request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("ASCII"));
            let _ = rpcs.get_message(request).await;
        }
        server.terminate();
        server.wait_for_log("ended in good order");
        let log = server.wait().stderr;
        let secret = key.rsplit('_').next().expect("a secret").to_owned();
        for word in PLANTED.iter().copied().chain([secret.as_str(), &almost]) {
            assert!(!log.contains(word), "'{word}' in the {format} log:\n{log}");
        }
        if format == "json" {
            for line in log.lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
                assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string());
            }
        }
    }
}
