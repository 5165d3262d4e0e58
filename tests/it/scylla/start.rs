//! `serve` when the database is not there yet, or not as it should be.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{
    PATIENCE, eventually, get, post,
    process::{self, Finished},
    ring::{self, Keyspace},
    wire::Wire,
};

/// A port of this machine at which nobody listens.
fn free(ip: [u8; 4]) -> SocketAddr {
    TcpListener::bind(SocketAddr::from((ip, 0))).and_then(|free| free.local_addr()).expect("a port")
}

/// `serve`, which need not get as far as serving; killed when this is dropped.
struct Serve {
    child: Option<Child>,
    http: SocketAddr,
    admin: SocketAddr,
}

impl Serve {
    fn start(flags: &[String]) -> Self {
        let [http, grpc, admin] = [free([127, 0, 0, 1]), free([127, 0, 0, 1]), free([127, 0, 0, 1])];
        let mut command = process::command(["serve", "--store=scylla"]);
        command.args([format!("--http-addr={http}"), format!("--grpc-addr={grpc}"), format!("--admin-addr={admin}")]);
        let child =
            command.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
        Self { child: Some(child), http, admin }
    }

    async fn until(&self, path: &str, expected: (u16, &str)) {
        eventually(path, async || (get(self.admin, path).await? == (expected.0, expected.1.into())).then_some(()))
            .await;
    }

    /// SIGTERM, and what became of it.
    fn terminate(mut self) -> Finished {
        let child = self.child.take().expect("still there");
        assert!(Command::new("kill").arg(child.id().to_string()).status().expect("kill runs").success());
        let output = child.wait_with_output().expect("an end");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_its_database_lives_is_not_ready_and_ends_at_once_when_it_is_told_to() {
    let nowhere = free([127, 0, 0, 1]);
    let serve = Serve::start(&[format!("--scylla-nodes={nowhere}")]);
    serve.until("/readyz", (503, "store_unavailable\n")).await;
    serve.until("/livez", (200, "live\n")).await;
    let (_, metrics) = get(serve.admin, "/metrics").await.expect("metrics");
    assert!(metrics.contains("message_webhook_readiness{state=\"store_unavailable\"} 1"), "{metrics}");
    let begun = Instant::now();
    let ended = serve.terminate();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{ended:?}");
    assert!(ended.stderr.contains("no database is reached at") && ended.stderr.contains("cannot be opened yet"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_started_before_its_database_serves_when_that_is_there() {
    let Some(nodes) = ring::nodes() else { return };
    let node = nodes[0].clone();
    let keyspace = Keyspace::new(nodes, |_| {}).await;
    // The node's own address, as its driver looks for it there; nothing listens at the port yet.
    let real: SocketAddr = tokio::net::lookup_host(&node).await.expect("an address").next().expect("an address");
    let address = TcpListener::bind((real.ip(), 0)).and_then(|free| free.local_addr()).expect("a port");
    let mut flags = keyspace.flags();
    flags.retain(|flag| !flag.starts_with("--scylla-nodes="));
    flags.push(format!("--scylla-nodes={address}"));
    let serve = Serve::start(&flags);
    serve.until("/readyz", (503, "store_unavailable\n")).await;
    let wire = Wire::at(address, &node).await;
    serve.until("/readyz", (200, "ready\n")).await;
    // Nobody has a key; that it is said by the store's answer is enough.
    let body = crate::support::message("m");
    let (status, answer) = post(serve.http, "/acme/dev/v1/message-webhook", "mw_dev_0_0", body).await;
    assert_eq!(status, 401, "{answer}");
    drop((serve, wire));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_must_mend_ends_the_process_at_once() {
    let Some(nodes) = ring::nodes() else { return };
    let begun = Instant::now();
    let missing = format!("test_missing_{}", std::process::id());
    let arguments = ["serve", "--store=scylla", "--scylla-nodes", &nodes.join(","), "--scylla-keyspace", &missing];
    let any = ["--http-addr=127.0.0.1:0", "--grpc-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0"];
    let refused = process::cli(arguments.into_iter().chain(any));
    assert!(refused.code == Some(1) && refused.stderr.contains("run 'message-webhook migrate'"), "{refused:?}");
    assert!(!refused.stderr.contains("cannot be opened yet"), "{refused:?}");
    assert!(begun.elapsed() < PATIENCE, "{refused:?}");
}
