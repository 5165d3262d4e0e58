//! The harness: real servers on ports of the system's choice, real clients, waiting for conditions.

pub mod certs;
#[cfg(target_os = "linux")]
pub mod cut;
pub mod dice;
pub mod edges;
pub mod flaky;
pub mod frames;
pub mod grpc;
pub mod h2;
pub mod leases;
pub mod process;
pub mod raw;
pub mod ring;
pub mod said;
pub mod server;
#[cfg(target_os = "linux")]
pub mod shim;
pub mod unfinished;
pub mod wire;

use std::time::{Duration, Instant};

pub use flaky::FlakyStore;
pub use process::{Finished, ServerProcess, cli};
pub use server::TestServer;

/// How long a test waits for what must happen in a moment. Generous: a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` gives a value.
pub async fn eventually<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, condition).await
}

/// [`eventually`] for what takes longer.
pub async fn eventually_within<T>(patience: Duration, what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + patience;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < give_up, "waited {patience:?} for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// [`eventually`] for tests without a runtime.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < give_up, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The body of a message with only the required fields.
pub fn message(sid: &str) -> String {
    format!(r#"{{"from_id":"user_abc123","message_sid":"{sid}","timestamp":"1672531200"}}"#)
}

/// What the webhook answered: its status and its body.
pub async fn post(
    http: std::net::SocketAddr,
    path: &str,
    key: &str,
    body: impl Into<String>,
) -> (u16, serde_json::Value) {
    let request = client().post(format!("http://{http}{path}"));
    let request = request.header("authorization", format!("Bearer {key}")).header("content-type", "application/json");
    let response = request.body(body.into()).send().await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.bytes().await.expect("a body");
    if status != 200 {
        said::keep("error", &String::from_utf8_lossy(&body));
    }
    (status, serde_json::from_slice(&body).expect("JSON"))
}

/// A client that keeps no connection: an idle one would be of no use to the next test's server.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder().pool_max_idle_per_host(0).timeout(PATIENCE).build().expect("a client")
}

/// What `GET` of a page of the admin port answered.
pub async fn get(address: std::net::SocketAddr, path: &str) -> Option<(u16, String)> {
    let response = client().get(format!("http://{address}{path}")).send().await.ok()?;
    let status = response.status().as_u16();
    let text = String::from_utf8(response.bytes().await.ok()?.to_vec()).ok()?;
    if path == "/metrics" {
        said::keep_metrics(&text);
    }
    Some((status, text))
}
