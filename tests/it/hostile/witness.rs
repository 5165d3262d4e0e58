//! Another tenant, which goes on with its work and takes the time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::support::{
    ServerProcess, get, grpc, message,
    raw::{Client, post},
};

/// Of each edge.
const CALLS: usize = 75;
const PACE: Duration = Duration::from_millis(8);
/// After so many calls it connects anew, and looks at the probes.
const TURN: usize = 10;

pub struct Witness {
    http: SocketAddr,
    admin: SocketAddr,
    key: String,
    client: Client,
    grpc: grpc::Client,
    sids: usize,
}

impl Witness {
    pub async fn new(server: &ServerProcess, key: String) -> Self {
        let (http, admin) = (server.http, server.admin);
        Self { http, admin, key, client: Client::connect(http).await, grpc: grpc::client(server.grpc).await, sids: 0 }
    }

    /// Submits over both edges; all of it succeeds. The 99th percentile of the times that it took, with that of connecting.
    pub async fn work(&mut self) -> Duration {
        let mut pace = tokio::time::interval(PACE);
        let mut took = Vec::new();
        for number in 0..CALLS {
            pace.tick().await;
            self.sids += 1;
            let sid = format!("sid{}", self.sids);
            let begun = Instant::now();
            if number % TURN == 0 {
                self.client = Client::connect(self.http).await;
            }
            self.client.send(post("/other/dev/v1/message-webhook", &self.key, message(&sid))).await;
            let answer = self.client.answer().await;
            assert_eq!(answer.status, 200, "{:?}", answer.json());
            took.push(begun.elapsed());

            let begun = Instant::now();
            let submission = grpc::submission("user_abc123", &format!("{sid}-grpc"));
            self.grpc.submit_message(grpc::with_key(&self.key, submission)).await.expect("a receipt");
            took.push(begun.elapsed());

            if number % TURN == 0 {
                for path in ["/livez", "/readyz"] {
                    assert_eq!(get(self.admin, path).await.map(|(status, _)| status), Some(200), "{path}");
                }
            }
        }
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }
}
