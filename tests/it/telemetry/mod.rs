//! Traces, metrics and logs as a collector gets them, and what happens without one.

mod collector;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use message_webhook::{
    protocol::grpc::v1::{StartPosition, stream_messages_request::From as StreamFrom},
    tls::{H2, HTTP_1_1},
};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use tokio::net::TcpListener;

use self::collector::{Collector, text};
use super::support::{
    PATIENCE, ServerProcess,
    certs::Authority,
    cli, client, eventually, get,
    grpc::{self, with_key},
    message, post,
    process::{self, Builder},
    ring::{self, Keyspace},
};

const PATH: &str = "/acme/dev/v1/message-webhook";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLERS_SPAN: &str = "00f067aa0ba902b7";

fn sent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLERS_SPAN}-{flags}")
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn with_environment(builder: Builder, variables: &[(&'static str, String)]) -> Builder {
    variables.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
}

fn key_of(server: &ServerProcess, keyspace: Option<&Keyspace>) -> String {
    let mut arguments = vec!["keys", "create", "--org", "acme", "--env", "dev"];
    arguments.extend(["--scope", "submit", "--scope", "read", "--scope", "stream"]);
    let created = match keyspace {
        None => server.cli(&arguments),
        Some(keyspace) => {
            let flags = keyspace.flags();
            cli(arguments.into_iter().chain(["--store=scylla"]).chain(flags.iter().map(String::as_str)))
        }
    };
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    created.stdout.trim().to_owned()
}

async fn submit(server: &ServerProcess, way: &str, key: &str, sid: &str, traceparent: Option<&str>) {
    if way == "http" {
        let mut request = client().post(format!("http://{}{PATH}?planted=query", server.http)).body(message(sid));
        request = request.header("authorization", format!("Bearer {key}")).header("content-type", "application/json");
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        assert_eq!(request.send().await.expect("an answer").status(), 200);
    } else {
        let mut request = with_key(key, grpc::submission("user_abc123", sid));
        if let Some(traceparent) = traceparent {
            request.metadata_mut().insert("traceparent", traceparent.parse().expect("ASCII"));
        }
        grpc::client(server.grpc).await.submit_message(request).await.expect("accepted");
    }
}

fn named<'a>(spans: &'a [Span], name: &str) -> Option<&'a Span> {
    spans.iter().find(|span| span.name == name)
}

/// Submits over `way` with a trace context, reads the feed, and checks the one trace that comes of it.
async fn one_trace(way: &str, protocol: &str, keyspace: Option<&Keyspace>) {
    let collector = Collector::start().await;
    let mut builder = with_environment(ServerProcess::builder(), &collector.variables(protocol));
    if let Some(keyspace) = keyspace {
        builder = builder.on_scylla(keyspace);
    }
    let server = builder.start();
    let key = key_of(&server, keyspace);
    submit(&server, way, &key, "m1", Some(&sent("01"))).await;
    let mut client = grpc::client(server.grpc).await;
    let mut stream = grpc::stream(&mut client, &key, StreamFrom::Position(StartPosition::Start.into())).await;
    let (delivered, _) = grpc::take(&mut stream, 1).await.remove(0);

    let server_name = match way {
        "http" => "POST /{org_id}/{env}/v1/message-webhook",
        _ => "messagewebhook.v1.MessageService/SubmitMessage",
    };
    let store: &[&str] = match keyspace {
        None => &["store.commit"],
        Some(_) => &["INSERT feed", "INSERT messages_by_sender", "SELECT leases", "INSERT messages"],
    };
    let wanted: Vec<&str> =
        [server_name, "submit", "store.submit", "deliver feed"].into_iter().chain(store.iter().copied()).collect();
    let spans = eventually("all spans of the trace", async || {
        let spans: Vec<_> = collector.spans().into_iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
        wanted.iter().all(|name| named(&spans, name).is_some()).then_some(spans)
    })
    .await;
    let span = |name: &str| named(&spans, name).expect("found above");
    let is_below = |child: &str, parent: &str| {
        assert_eq!(hex(&span(child).parent_span_id), hex(&span(parent).span_id), "{child} below {parent}");
    };
    assert_eq!(hex(&span(server_name).parent_span_id), CALLERS_SPAN);
    assert_eq!(span(server_name).kind(), SpanKind::Server);
    is_below("submit", server_name);
    is_below("store.submit", "submit");
    store.iter().for_each(|each| is_below(each, "store.submit"));
    is_below("deliver feed", "submit");
    let link = &span("deliver feed").links[0];
    assert_eq!((hex(&link.trace_id).as_str(), hex(&link.span_id)), (TRACE, hex(&span("submit").span_id)));
    assert_eq!(delivered.traceparent, format!("00-{TRACE}-{}-01", hex(&span("submit").span_id)));

    let of = |name: &str, attribute: &str| text(&span(name).attributes, attribute);
    if way == "http" {
        assert_eq!(of(server_name, "http.request.method").as_deref(), Some("POST"));
        assert_eq!(of(server_name, "url.scheme").as_deref(), Some("http"));
        assert_eq!(of(server_name, "url.path").as_deref(), Some(PATH));
        assert_eq!(of(server_name, "http.response.status_code").as_deref(), Some("200"));
    } else {
        assert_eq!(of(server_name, "rpc.system.name").as_deref(), Some("grpc"));
        assert_eq!(of(server_name, "rpc.response.status_code").as_deref(), Some("OK"));
    }
    assert_eq!(of("submit", "message_webhook.outcome").as_deref(), Some("accepted"));
    assert_eq!(of("submit", "message_webhook.message_key"), of("deliver feed", "message_webhook.message_key"));
    if keyspace.is_some() {
        store.iter().for_each(|each| assert!(of(each, "server.address").is_some(), "{each}"));
    }
    let system = if keyspace.is_some() { "cassandra" } else { "message-webhook-log" };
    assert_eq!(of(store[0], "db.system.name").as_deref(), Some(system));
    assert_eq!(collector.resource_attribute("service.name").as_deref(), Some("message-webhook"));

    // The retry is found by the same word, in whatever trace it is.
    submit(&server, way, &key, "m1", None).await;
    eventually("the retry", async || {
        let spans = collector.spans();
        let retry = spans
            .iter()
            .find(|span| text(&span.attributes, "message_webhook.outcome").as_deref() == Some("duplicate"))?;
        assert_ne!(hex(&retry.trace_id), TRACE);
        assert_eq!(text(&retry.attributes, "message_webhook.message_key"), of("submit", "message_webhook.message_key"));
        Some(())
    })
    .await;
    eventually("metrics", async || {
        let of = |name: &str| collector.metric(name).filter(|metric| !metric.description.is_empty());
        let submitted = of("message_webhook_submissions_total")?.data?;
        let streams = of("message_webhook_streams")?.data?;
        // Each number is the sum of all that was counted, under its labels.
        let accepted = collector::number(&submitted, &[("protocol", way), ("outcome", "accepted")]);
        let duplicates = collector::number(&submitted, &[("protocol", way), ("outcome", "duplicate")]);
        let open = collector::number(&streams, &[("order", "fast")]);
        ((accepted, duplicates, open) == (Some(1.0), Some(1.0), Some(1.0))).then_some(())
    })
    .await;
    of_histogram(&collector).await;
    eventually("logs", async || {
        collector.log_records().into_iter().find(|record| format!("{record:?}").contains("serving"))
    })
    .await;
    let everything = format!("{:?}{:?}", collector.spans(), collector.log_records());
    for word in ["planted", "user_abc123", "\"m1\"", key.as_str()] {
        assert!(!everything.contains(word), "'{word}' was exported");
    }
}

async fn of_histogram(collector: &Collector) {
    eventually("a histogram", async || {
        let metric = collector.metric("message_webhook_store_group_messages");
        metric.or_else(|| collector.metric("message_webhook_cql_duration_seconds"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_one_trace_with_its_delivery() {
    one_trace("http", "http/protobuf", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_submission_is_one_trace_with_its_delivery() {
    one_trace("grpc", "grpc", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_scylla_a_post_is_one_trace_with_its_statements_and_its_delivery() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    one_trace("http", "grpc", Some(&keyspace)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_scylla_a_grpc_submission_is_one_trace_with_its_statements_and_its_delivery() {
    let Some(nodes) = ring::nodes() else { return };
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    one_trace("grpc", "http/protobuf", Some(&keyspace)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_exporter_the_callers_context_is_kept_as_it_came() {
    let server = ServerProcess::start();
    let key = key_of(&server, None);
    submit(&server, "http", &key, "m1", Some(&sent("01"))).await;
    submit(&server, "grpc", &key, "m2", Some(&sent("00"))).await;
    submit(&server, "http", &key, "m3", Some("00-nonsense")).await;
    submit(&server, "grpc", &key, "m4", None).await;
    let mut client = grpc::client(server.grpc).await;
    let mut stream = grpc::stream(&mut client, &key, StreamFrom::Position(StartPosition::Start.into())).await;
    let kept: Vec<_> = grpc::take(&mut stream, 4).await.into_iter().map(|(message, _)| message.traceparent).collect();
    assert_eq!(kept, [sent("01"), sent("00"), String::new(), String::new()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_does_not_want_traced_is_not() {
    let collector = Collector::start().await;
    let server = with_environment(ServerProcess::builder(), &collector.variables("http/protobuf")).start();
    let key = key_of(&server, None);
    submit(&server, "http", &key, "m1", Some(&sent("00"))).await;
    submit(&server, "http", &key, "m2", None).await;
    // The second one's span comes after whatever the first one's would be.
    eventually("a span", async || named(&collector.spans(), "submit").cloned()).await;
    assert!(collector.spans().iter().all(|span| hex(&span.trace_id) != TRACE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_in_its_trace_and_its_line_in_the_log_names_it() {
    let collector = Collector::start().await;
    let variables = collector.variables("http/protobuf");
    let mut server = with_environment(ServerProcess::builder(), &variables).arg("--log-level").arg("debug").start();
    let key = key_of(&server, None);
    let request = client().post(format!("http://{}{PATH}", server.http)).body("{}").header("traceparent", sent("01"));
    let request = request.header("authorization", format!("Bearer {key}")).header("content-type", "application/json");
    assert_eq!(request.send().await.expect("an answer").status(), 400);
    server.wait_for_log("invalid_message");
    let log = server.stderr();
    let line = log.lines().find(|line| line.contains("invalid_message")).expect("found above");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["trace_id"], TRACE);
    let span = eventually("the span", async || {
        collector.spans().into_iter().find(|span| hex(&span.trace_id) == TRACE && span.kind() == SpanKind::Server)
    })
    .await;
    assert_eq!(line["span_id"], hex(&span.span_id));
    assert_eq!(text(&span.attributes, "error.type").as_deref(), Some("invalid_message"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_after_its_head_is_a_failure_in_its_trace() {
    let collector = Collector::start().await;
    let server = with_environment(ServerProcess::builder(), &collector.variables("http/protobuf")).start();
    let key = key_of(&server, None);
    let mut client = grpc::client(server.grpc).await;
    let mut feed = grpc::stream(&mut client, &key, StreamFrom::Position(StartPosition::Start.into())).await;
    let id = key.split('_').nth(2).expect("an id");
    assert_eq!(server.cli(&["keys", "revoke", id]).code, Some(0));
    assert_eq!(grpc::end(&mut feed).await.code(), tonic::Code::Unauthenticated);
    let span = eventually("the span of the stream", async || {
        named(&collector.spans(), "messagewebhook.v1.MessageService/StreamMessages").cloned()
    })
    .await;
    assert_eq!(text(&span.attributes, "rpc.response.status_code").as_deref(), Some("UNAUTHENTICATED"));
    assert_eq!(text(&span.attributes, "error.type").as_deref(), Some("unauthenticated"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_costs_its_data_and_nothing_else() {
    // Accepts connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("bound"));
    for protocol in ["grpc", "http/protobuf"] {
        let mut server = ServerProcess::builder()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", 300)
            .env("OTEL_BSP_SCHEDULE_DELAY", 20)
            .env("OTEL_BSP_MAX_QUEUE_SIZE", 4)
            .start();
        let key = key_of(&server, None);
        for number in 0..50 {
            assert_eq!(post(server.http, PATH, &key, message(&format!("m{number}"))).await.0, 200);
        }
        server.wait_for_log("telemetry could not be exported");
        let metrics = get(server.admin, "/metrics").await.expect("an answer").1;
        assert!(metrics.contains("message_webhook_telemetry_export_failures_total{signal="), "{metrics}");
        eventually("what was lost, counted", async || {
            let metrics = get(server.admin, "/metrics").await?.1;
            let lost =
                |reason| format!("message_webhook_telemetry_lost_total{{signal=\"traces\",reason=\"{reason}\"}}");
            ["queue", "export"].iter().all(|reason| metrics.contains(&lost(reason))).then_some(())
        })
        .await;
        let begun = std::time::Instant::now();
        server.terminate();
        let ended = server.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(begun.elapsed() < PATIENCE / 2);
        let told = ended.stderr.matches("telemetry could not be exported").count();
        assert!(told <= 3, "once a minute and signal: {}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_server_did_not_start_reaches_the_collector() {
    let collector = Collector::start().await;
    // Longer than the server lives: only its end sends the line.
    let mut command = with_environment(ServerProcess::builder(), &collector.variables("grpc"))
        .env("OTEL_BLRP_SCHEDULE_DELAY", 600_000)
        .arg("--keys-file=/nonexistent/keys.toml")
        .command();
    let ended = tokio::task::spawn_blocking(move || process::finish(&mut command)).await.expect("no panic");
    assert_ne!(ended.code, Some(0));
    eventually("the reason", async || {
        collector.log_records().into_iter().find(|record| format!("{record:?}").contains("keys file"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_that_are_not_understood_are_told_and_stop_nothing() {
    let variables = [
        ("OTEL_PROPAGATORS", "tracecontext,baggage,b3"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector:4317"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "lzma"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_LOGS_EXPORTER", "console"),
    ];
    let server = tokio::task::spawn_blocking(move || {
        variables.iter().fold(ServerProcess::builder(), |builder, (name, value)| builder.env(name, value)).start()
    });
    let server = server.await.expect("no panic");
    let log = server.stderr();
    for (name, _) in variables {
        let told = log.lines().find(|line| line.contains(&format!("{name}: ")));
        assert!(told.is_some_and(|line| line.contains("WARN")), "{name} in {log}");
    }
    let data_dir = server.data_dir.to_str().expect("UTF-8").to_owned();
    let mut create = process::command(["keys", "create", "--org", "acme", "--env", "dev", "--data-dir", &data_dir]);
    let created = process::finish(create.envs(variables));
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    submit(&server, "http", created.stdout.trim(), "s", None).await;
}

/// An endpoint that is good, and whatever else a cluster may say about the way there.
#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_that_cannot_be_made_is_told_and_stops_nothing() {
    let server = tokio::task::spawn_blocking(|| {
        ServerProcess::builder()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1")
            .env("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent.pem")
            .start()
    });
    let server = server.await.expect("no panic");
    for signal in ["traces", "metrics", "logs"] {
        let told = format!("cannot export {signal}: /nonexistent.pem cannot be read");
        assert!(server.stderr().contains(&told), "{}", server.stderr());
    }
    submit(&server, "http", &key_of(&server, None), "s", None).await;
}

/// A server over TLS that exports over TLS, compressed, and goes on with all of its caller's context.
async fn encrypted(protocol: &'static str) {
    let authority = Authority::generate();
    let pair = authority.server();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = config.with_no_client_auth().with_single_cert(pair.chain(), key).expect("a pair");
    config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
    let collector = Collector::start_with(config).await;
    let dir = tempfile::tempdir().expect("a directory");
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).expect("written");
    let (cert, key) = pair.write(dir.path());
    let text_of = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let builder = with_environment(ServerProcess::builder(), &collector.variables(protocol));
    let server = builder
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://{}", collector.address))
        .env("OTEL_EXPORTER_OTLP_CERTIFICATE", text_of(&ca))
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .arg("--http-tls-cert-file")
        .arg(text_of(&cert))
        .arg("--http-tls-key-file")
        .arg(text_of(&key))
        .start();
    let token = key_of(&server, None);
    let request = http::Request::post(format!("https://localhost:{}{PATH}", server.http.port()))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("traceparent", sent("01"))
        .header("tracestate", "vendor=a1,other@tenant=b")
        .header("tracestate", "third=c");
    let request = request.body(Full::new(Bytes::from(message("m1")))).expect("a request");
    let client = authority.http_client(&[HTTP_1_1], 1);
    assert_eq!(client.ask(request).await.expect("an answer").status, 200);
    let span = eventually("the server's span", async || {
        let spans = collector.spans();
        spans.into_iter().find(|span| span.kind() == SpanKind::Server && hex(&span.trace_id) == TRACE)
    })
    .await;
    assert_eq!(span.trace_state, "vendor=a1,other@tenant=b,third=c");
    assert_eq!(text(&span.attributes, "url.scheme").as_deref(), Some("https"));
    eventually("metrics", async || collector.metric("message_webhook_submissions_total")).await;
    assert!(collector.compressed() > 0 && !collector.log_records().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_and_compressed_everything_arrives_by_grpc_with_the_callers_trace_state() {
    encrypted("grpc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_and_compressed_everything_arrives_by_http_with_the_callers_trace_state() {
    encrypted("http/protobuf").await;
}
