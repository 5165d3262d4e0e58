//! Clients in a closed loop: each sends, waits for the answer, and sends again.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// What one request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Accepted,
    Duplicate,
    /// A 503, or an error of the driver: to be sent again.
    Failed,
}

/// What a run came to.
pub struct Outcome {
    /// Of what was answered, sorted, in milliseconds.
    latencies: Vec<f64>,
    accepted: usize,
    failed: usize,
    elapsed: Duration,
}

/// A client's next request, by the numbers of the client and of the request.
pub trait Client: Send + 'static {
    fn send(&mut self, number: u64) -> impl Future<Output = Answer> + Send;
}

/// Runs `clients` for `duration`; `make` gives each.
pub async fn run<C: Client>(clients: usize, duration: Duration, make: impl Fn(usize) -> C) -> Outcome {
    let begun = Instant::now();
    let until = begun + duration;
    // In one sequence for all, so that senders and shards come in turn.
    let numbers = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let running: Vec<_> = (0..clients)
        .map(|client| {
            let (mut client, numbers) = (make(client), Arc::clone(&numbers));
            tokio::spawn(async move {
                let (mut latencies, mut accepted, mut failed) = (Vec::new(), 0, 0);
                while Instant::now() < until {
                    let number = numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let sent = Instant::now();
                    match client.send(number).await {
                        Answer::Failed => {
                            failed += 1;
                            continue;
                        }
                        Answer::Accepted => accepted += 1,
                        Answer::Duplicate => {}
                    }
                    latencies.push(sent.elapsed().as_secs_f64() * 1e3);
                }
                (latencies, accepted, failed)
            })
        })
        .collect();
    let mut outcome = Outcome { latencies: Vec::new(), accepted: 0, failed: 0, elapsed: Duration::ZERO };
    for client in running {
        let (latencies, accepted, failed) = client.await.expect("no panic");
        outcome.latencies.extend(latencies);
        outcome.accepted += accepted;
        outcome.failed += failed;
    }
    outcome.elapsed = begun.elapsed();
    outcome.latencies.sort_by(f64::total_cmp);
    outcome
}

impl Outcome {
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub fn percentile(&self, part: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * part) as usize).copied().unwrap_or(f64::NAN)
    }

    pub fn accepted(&self) -> usize {
        self.accepted
    }

    pub fn failed(&self) -> usize {
        self.failed
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (self.percentile(0.5), self.percentile(0.99));
        write!(f, "{:.0}/s, p50 {p50:.2} ms, p99 {p99:.2} ms, {} failed", self.rate(), self.failed)
    }
}
