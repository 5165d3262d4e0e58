//! From start to end: what is told to probes, to clients and to whoever started the program.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use message_webhook::{
    app::StopError,
    domain::{Environment, Scope},
    service::ReadinessState,
};

use super::support::{
    FlakyStore, PATIENCE, ServerProcess, TestServer, cli, eventually, get, message, post, process, raw::Client,
    unfinished::Unfinished,
};

const PATH: &str = "/acme/dev/v1/message-webhook";

fn unfinished(http: SocketAddr, key: &str) -> Unfinished<TcpStream> {
    let stream = TcpStream::connect(http).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    Unfinished::begin(stream, PATH, key, &message("in-flight"))
}

fn key(server: &ServerProcess) -> String {
    let created = server.cli(&["keys", "create", "--org", "acme", "--env", "dev"]);
    created.stdout.trim().to_owned()
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, PATIENCE).is_ok()
}

#[test]
fn a_signal_lets_requests_finish_takes_no_new_ones_and_ends_with_code_0() {
    for signal in ["TERM", "INT"] {
        let mut server = ServerProcess::start();
        let (http, admin) = (server.http, server.admin);
        let request = unfinished(http, &key(&server));
        server.signal(signal);
        super::support::wait_until("no new connections", || !accepts(http));
        assert!(!server.has_ended());
        let ready = cli(["health", "--admin-addr", &admin.to_string()]);
        assert_eq!((ready.code, ready.stdout.trim()), (Some(1), "draining"));
        assert_eq!(cli(["health", "--live", "--admin-addr", &admin.to_string()]).code, Some(0));
        let answer = request.finish();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("received and processed"), "{answer}");
        let ended = server.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = ServerProcess::start();
    let _request = unfinished(server.http, &key(&server));
    server.terminate();
    server.wait_for_log("ending in good order");
    let second = Instant::now();
    server.signal("INT");
    let ended = server.wait();
    assert!(second.elapsed() < Duration::from_secs(5));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("Ended at once, by a second signal"), "{}", ended.stderr);
}

#[test]
fn a_client_that_never_ends_its_request_is_cut_off_and_told_in_the_log_and_nothing_is_lost_by_that() {
    let server = ServerProcess::builder().arg("--shutdown-deadline").arg("2s").start();
    let _request = unfinished(server.http, &key(&server));
    server.terminate();
    let begun = Instant::now();
    let ended = server.wait();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("HTTP requests were still under way"), "{}", ended.stderr);
}

#[test]
fn a_delay_of_nearly_all_the_deadline_is_a_good_end_too() {
    let server = ServerProcess::builder().arg("--shutdown-deadline=4s").arg("--drain-delay=3500ms").start();
    server.terminate();
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("cut off"), "{}", ended.stderr);
}

#[tokio::test]
async fn silent_connections_to_the_admin_port_keep_no_probe_out() {
    let server = TestServer::start().await;
    let admin = server.admin;
    let mut silent = Vec::new();
    for number in 0..200 {
        let mut client = Client::connect(admin).await;
        if number % 2 == 0 {
            client.send("GET /livez HTTP/1.1\r\nhost").await;
        }
        silent.push(client);
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = tokio::time::timeout(Duration::from_secs(20), get(admin, path)).await;
        assert!(answer.is_ok_and(|answer| answer.is_some_and(|(status, _)| status == 200)), "{path}");
    }
}

#[tokio::test]
async fn how_long_an_idle_connection_stays_open_is_a_setting() {
    let server = TestServer::builder().set("idle_timeout", "1s").start().await;
    for address in [server.http, server.grpc] {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let ended = tokio::task::spawn_blocking(move || stream.read(&mut [0; 1])).await.expect("no panic");
        assert_eq!(ended.expect("closed, and not the test's patience"), 0);
    }
}

#[test]
fn clients_that_are_frozen_do_not_hold_up_the_end() {
    let server = ServerProcess::start();
    let mut http2 = TcpStream::connect(server.grpc).expect("connected");
    http2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("sent");
    // The server's own preface: it is at work on this connection.
    http2.read_exact(&mut [0; 9]).expect("a frame");
    let mut half_a_head = TcpStream::connect(server.http).expect("connected");
    half_a_head.write_all(b"POST / HTTP/1.1\r\nhost").expect("sent");
    let _silent = TcpStream::connect(server.http).expect("connected");
    let begun = Instant::now();
    server.terminate();
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn during_the_delay_probes_hear_draining_and_callers_are_still_served() {
    let server = TestServer::builder().set("drain_delay", "24s").start().await;
    let key = server.key("acme", Environment::Dev, &[Scope::Submit]).await;
    server.stop.signal();
    eventually("a drain", async || (get(server.admin, "/readyz").await? == (503, "draining\n".into())).then_some(()))
        .await;
    assert_eq!(post(server.http, PATH, &key, message("late")).await.0, 200);
}

#[tokio::test]
async fn what_waits_for_the_store_is_answered_before_the_end() {
    let store = FlakyStore::with_gate(0);
    let mut server = TestServer::builder().store(store.clone()).start().await;
    let key = server.key("acme", Environment::Dev, &[Scope::Submit]).await;
    let (http, posting) = (server.http, message("waits"));
    let request = tokio::spawn(async move { post(http, PATH, &key, posting).await });
    eventually("the store's call", async || (store.submissions.load(Ordering::SeqCst) == 1).then_some(())).await;
    server.stop.signal();
    eventually("no new connections", async || (!accepts(http)).then_some(())).await;
    assert!(!request.is_finished());
    store.gate.add_permits(1);
    let (status, body) = request.await.expect("no panic");
    assert_eq!((status, &body["duplicate"]), (200, &false.into()));
    server.ended().await.expect("a good end");
}

#[tokio::test]
async fn at_the_deadline_the_store_is_closed_in_order_although_a_request_is_left() {
    let store = FlakyStore::with_gate(0);
    let settings = TestServer::builder().set("shutdown_deadline", "1s").set("store_deadline", "1h");
    let mut server = settings.store(store.clone()).start().await;
    let key = server.key("acme", Environment::Dev, &[Scope::Submit]).await;
    let http = server.http;
    let request = tokio::spawn(async move {
        let request = super::support::client().post(format!("http://{http}{PATH}")).bearer_auth(key);
        request.header("content-type", "application/json").body(message("left")).send().await
    });
    eventually("the store's call", async || (store.submissions.load(Ordering::SeqCst) == 1).then_some(())).await;
    server.stop.signal();
    let error = server.ended().await.expect_err("not in good order");
    assert!(matches!(&error, StopError::Deadline { left, .. } if left.contains("HTTP requests")), "{error}");
    assert!(request.await.expect("no panic").is_err(), "its connection was cut");
    use message_webhook::store::Lifecycle;
    assert!(store.check().await.is_err(), "the store is closed");
}

#[tokio::test]
async fn readiness_follows_the_store_and_the_process_lives_on() {
    let store = FlakyStore::new();
    let server = TestServer::builder().store(store.clone()).start().await;
    assert_eq!(get(server.admin, "/readyz").await, Some((200, "ready\n".into())));
    store.fails.store(true, Ordering::SeqCst);
    let unavailable = (503, "store_unavailable\n".to_owned());
    eventually("unreadiness", async || (get(server.admin, "/readyz").await? == unavailable).then_some(())).await;
    assert_eq!(server.readiness.get(), ReadinessState::StoreUnavailable);
    assert_eq!(get(server.admin, "/livez").await.map(|(status, _)| status), Some(200));
    store.fails.store(false, Ordering::SeqCst);
    eventually("readiness", async || (get(server.admin, "/readyz").await?.0 == 200).then_some(())).await;
    let metrics = get(server.admin, "/metrics").await.expect("metrics").1;
    assert!(metrics.contains("message_webhook_readiness{state=\"ready\"} "), "{metrics}");
}

#[tokio::test]
async fn a_full_disk_takes_the_webhook_away_and_leaves_reads() {
    let store = FlakyStore::new();
    let server = TestServer::builder().store(store.clone()).start().await;
    store.is_full.store(true, Ordering::SeqCst);
    let full = (503, "read_only\n".to_owned());
    eventually("unreadiness", async || (get(server.admin, "/readyz").await? == full).then_some(())).await;
    for (address, path, status) in [
        (server.admin, "/readyz/grpc", 200),
        (server.admin, "/livez", 200),
        (server.http, "/readyz", 503),
        (server.http, "/readyz/grpc", 200),
    ] {
        assert_eq!(get(address, path).await.map(|(status, _)| status), Some(status), "{path}");
    }
    store.is_full.store(false, Ordering::SeqCst);
    eventually("readiness", async || (get(server.http, "/readyz").await? == (200, "ready\n".into())).then_some(()))
        .await;
}

#[test]
fn a_server_without_files_lives_through_sighup() {
    let mut server = ServerProcess::start();
    server.signal("HUP");
    server.wait_for_log("SIGHUP");
    assert!(!server.has_ended());
    assert_eq!(cli(["health", "--admin-addr", &server.admin.to_string()]).code, Some(0));
    server.terminate();
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn a_taken_port_is_told_before_a_store_is_made() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let dir = tempfile::TempDir::new().expect("a directory");
    let data_dir = dir.path().join("data");
    let mut serve_on =
        process::command(["serve", "--http-addr", &address, "--data-dir", data_dir.to_str().expect("UTF-8")]);
    let failed = process::finish(&mut serve_on);
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains(&address) && failed.stderr.contains("http_addr"), "{}", failed.stderr);
    assert!(!data_dir.exists());
}

#[test]
fn a_second_server_on_one_directory_is_told_so() {
    let server = ServerProcess::start();
    let second = process::finish(&mut ServerProcess::builder().data_dir(&server.data_dir).command());
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains(server.data_dir.to_str().expect("UTF-8")), "{}", second.stderr);
    assert_eq!(cli(["health", "--admin-addr", &server.admin.to_string()]).code, Some(0));
}

#[tokio::test]
async fn a_request_that_comes_before_the_store_is_open_waits_and_is_answered() {
    use message_webhook::{
        app::{App, Stop, StoreSource},
        config::{Given, Source, load},
    };
    let addresses = ["http_addr", "grpc_addr", "admin_addr"];
    let given = addresses.map(|name| Given { name, text: "127.0.0.1:0".into(), source: Source::Default });
    let config = load(Vec::new(), None, Vec::new(), given.into()).expect("good").config;
    let app = App::build(config, StoreSource::Open(FlakyStore::new())).await.expect("bound");
    let http = app.addresses().http;
    let early = tokio::spawn(async move { post(http, PATH, "no key", message("early")).await });
    eventually("a connection", async || accepts(http).then_some(())).await;
    assert!(!early.is_finished());
    let stop = Stop::default();
    let running = app.start(&stop).await.expect("started");
    assert_eq!(early.await.expect("no panic").0, 401);
    stop.signal();
    running.wait(&stop).await.expect("a good end");
}

#[test]
fn many_connections_may_be_open_because_the_limit_of_files_is_raised() {
    let server = ServerProcess::start();
    let metrics = paste_metrics(server.admin);
    let most: f64 = value(&metrics, "process_max_fds");
    let hard = process::finish(std::process::Command::new("bash").args(["-c", "ulimit -Hn"])).stdout;
    if let Ok(hard) = hard.trim().parse::<f64>() {
        assert_eq!(most, hard);
    }
    assert!(value(&metrics, "process_open_fds") > 3.0);
    assert!(value(&metrics, "process_resident_memory_bytes") > 1e6);
}

fn paste_metrics(admin: SocketAddr) -> String {
    let mut stream = TcpStream::connect(admin).expect("connected");
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1))
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("{name}"))
}

/// Where the system allows a process to be PID 1 of a namespace of its own.
#[cfg(target_os = "linux")]
#[test]
fn as_pid_1_a_signal_ends_it_in_good_order() {
    use std::process::{Command, Stdio};
    let allowed = Command::new("unshare").args(["-rpf", "true"]).stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("this system does not let a test make a PID namespace");
        return;
    }
    let builder = ServerProcess::builder();
    let serve = builder.command();
    let mut unshare = Command::new("unshare");
    unshare.arg("-rpf").arg(serve.get_program()).args(serve.get_args());
    let mut child = unshare.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("unshare runs");
    let mut log = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("http_addr") {
        line.clear();
        let count = std::io::BufRead::read_line(&mut log, &mut line).expect("a log");
        assert!(count > 0, "the server ended");
    }
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let server = std::fs::read_to_string(children).expect("its child").trim().to_owned();
    assert!(Command::new("kill").args(["-TERM", &server]).status().expect("kill runs").success());
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("the rest of the log");
    assert!(rest.contains("ended in good order"), "{rest}");
    assert_eq!(child.wait().expect("ended").code(), Some(0));
}
