//! A signal to stop while many are at work.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::task::JoinSet;

use super::support::{
    ServerProcess, eventually, get,
    grpc::{self, submission, with_key},
    h2, message,
    raw::{Client, post},
};

const PATH: &str = "/acme/dev/v1/message-webhook";
const KINDS: [Kind; 4] = [Kind::KeepAlive, Kind::NewConnections, Kind::Http2, Kind::Grpc];
/// Of each kind.
const CALLERS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    KeepAlive,
    NewConnections,
    Http2,
    Grpc,
}

#[derive(Debug, Clone)]
struct Made {
    kind: Kind,
    begun: Instant,
    /// What went wrong with it, if anything did.
    wrong: Option<String>,
}

/// Calls of all callers.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<Made>>>);

impl Calls {
    /// Whether to go on.
    fn note(&self, kind: Kind, begun: Instant, result: Result<(), String>) -> bool {
        let ok = result.is_ok();
        self.0.lock().expect("no panic").push(Made { kind, begun, wrong: result.err() });
        ok
    }

    fn count(&self, kind: Kind) -> usize {
        self.0.lock().expect("no panic").iter().filter(|made| made.kind == kind).count()
    }
}

fn sid() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("sid{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Over HTTP/1.1, one after the other, until one fails.
async fn call_http(http: SocketAddr, key: String, kind: Kind, calls: Calls) {
    let mut kept: Option<Client> = None;
    loop {
        let begun = Instant::now();
        let client = match &mut kept {
            Some(client) => client,
            None => match tokio::net::TcpStream::connect(http).await {
                Ok(stream) => kept.insert(Client::over(stream)),
                Err(error) => {
                    calls.note(kind, begun, Err(error.to_string()));
                    return;
                }
            },
        };
        let sent = client.try_send(post(PATH, &key, message(&sid()))).await;
        let answer = if sent { client.try_answer().await } else { None };
        let closes = answer.as_ref().is_some_and(|answer| answer.header("connection") == Some("close"));
        let result = match answer {
            Some(answer) if answer.status == 200 => Ok(()),
            Some(answer) => Err(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))),
            None => Err("no answer".to_owned()),
        };
        if !calls.note(kind, begun, result) {
            return;
        }
        if closes || kind == Kind::NewConnections {
            kept = None;
        }
    }
}

async fn call_h2(connection: h2::Connection, key: String, calls: Calls) {
    loop {
        let begun = Instant::now();
        let request = Request::post(format!("http://x{PATH}")).header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {key}"));
        let answer = connection.ask(request.body(Full::new(Bytes::from(message(&sid())))).expect("a request")).await;
        let result = match answer {
            Ok(answer) if answer.status() == 200 => Ok(()),
            Ok(answer) => Err(format!("{answer:?}")),
            Err(error) => Err(format!("{error:?}")),
        };
        if !calls.note(Kind::Http2, begun, result) {
            return;
        }
    }
}

async fn call_grpc(mut client: grpc::Client, key: String, calls: Calls) {
    loop {
        let begun = Instant::now();
        let result = client.submit_message(with_key(&key, submission("user_abc123", &sid()))).await;
        if !calls.note(Kind::Grpc, begun, result.map(drop).map_err(|status| format!("{status:?}"))) {
            return;
        }
    }
}

/// All of them at work until the server has ended; what failed of what was begun before its readiness turned.
async fn failures_of_a_stop(delay: &str) -> Vec<Made> {
    let server = ServerProcess::builder().arg(format!("--drain-delay={delay}")).start();
    let key = server.cli(&["keys", "create", "--org", "acme", "--env", "dev"]).stdout.trim().to_owned();
    let calls = Calls::default();
    let mut callers = JoinSet::new();
    let connections = [h2::Connection::to(server.http).await, h2::Connection::to(server.http).await];
    let clients = [grpc::client(server.grpc).await, grpc::client(server.grpc).await];
    for number in 0..CALLERS {
        callers.spawn(call_http(server.http, key.clone(), Kind::KeepAlive, calls.clone()));
        callers.spawn(call_http(server.http, key.clone(), Kind::NewConnections, calls.clone()));
        callers.spawn(call_h2(connections[number % 2].clone(), key.clone(), calls.clone()));
        callers.spawn(call_grpc(clients[number % 2].clone(), key.clone(), calls.clone()));
    }
    let busy = async || KINDS.iter().all(|kind| calls.count(*kind) >= 5 * CALLERS).then_some(());
    eventually("all to be at work", busy).await;
    let mut turned = Instant::now();
    server.terminate();
    if delay != "0s" {
        let draining = async || (get(server.admin, "/readyz").await?.0 == 503).then_some(());
        eventually("a drain", draining).await;
        turned = Instant::now();
    }
    callers.join_all().await;
    let ended = tokio::task::spawn_blocking(|| server.wait()).await.expect("no panic");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let calls = calls.0.lock().expect("no panic");
    calls.iter().filter(|made| made.begun < turned && made.wrong.is_some()).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_under_load_fails_nothing_that_was_begun_before_readiness_turned() {
    for delay in ["0s", "1s"] {
        for _ in 0..3 {
            let failed = failures_of_a_stop(delay).await;
            assert!(failed.is_empty(), "with a delay of {delay}: {failed:?}");
        }
    }
}
