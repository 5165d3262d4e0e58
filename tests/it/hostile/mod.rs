//! Clients that want to do harm, against the real program.
//!
//! Whatever they do, meanwhile probes are answered and another tenant is served as before, memory stays within a bound, and
//! afterwards it is given back, all is well, and the program ends in good order.
//!
//! "As before" is: the 99th percentile of its times is no more than twice that without the attack, which is measured in the same
//! run before and after, or no more than [`UNNOTICED`] where that is longer, for below it the machine is measured and not
//! the server. An attack is measured up to [`ROUNDS`] times while it lasts, because something else may be at work on the
//! machine; that every call succeeds is asked of every round. Attackers give way to all else on the machine (nice 19): they
//! would be on others.

mod bodies;
mod connections;
mod frames;
mod heads;
mod witness;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, MutexGuard, oneshot};
use tokio_util::sync::CancellationToken;

use self::witness::Witness;
use crate::support::{PATIENCE, ServerProcess, eventually, process};

/// What nobody would notice.
const UNNOTICED: Duration = Duration::from_millis(50);
const ROUNDS: usize = 5;
/// Of memory that is not given back: what an allocator keeps.
const KEPT: usize = 48 << 20;
const MIB: usize = 1 << 20;

const WEBHOOK: &str = "/acme/dev/v1/message-webhook";
const SUBMIT: &str = "/messagewebhook.v1.MessageService/SubmitMessage";

/// Where an attacker has come from, and with a key of what: submissions of one tenant.
#[derive(Clone)]
pub struct Target {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub authorization: String,
}

/// How an attack and the one who watches it know of each other.
pub struct Stage {
    begun: Option<oneshot::Sender<()>>,
    over: CancellationToken,
}

impl Stage {
    /// From now on the harm is done.
    pub fn in_force(&mut self) {
        if let Some(begun) = self.begun.take() {
            // Who watches has given up, and says so.
            let _ = begun.send(());
        }
    }

    /// Whether enough was seen.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Waits until enough was seen.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }
}

/// A server with another tenant at work, and a key for the attacker.
pub struct Scene {
    pub server: ServerProcess,
    target: Target,
    witness: Witness,
    resting: usize,
    /// Two attacks at once would each be measured with the other.
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    pub async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    pub async fn start_with(special: impl FnOnce(process::Builder) -> process::Builder) -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let server = special(ServerProcess::builder()).start();
        let key = |org| {
            let created = server.cli(&["keys", "create", "--org", org, "--env", "dev", "--scope", "submit"]);
            created.stdout.trim().to_owned()
        };
        let authorization = format!("Bearer {}", key("acme"));
        let target = Target { http: server.http, grpc: server.grpc, authorization };
        let mut witness = Witness::new(&server, key("other")).await;
        // What is made once is there from now on.
        witness.work().await;
        let resting = server.resident_bytes();
        Self { server, target, witness, resting, _turn: turn }
    }

    /// Has `attack` go on while the other tenant works; memory may grow by `most` bytes. What the attack saw.
    pub async fn withstands<T, F>(mut self, most: usize, attack: impl FnOnce(Target, Stage) -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let before = self.witness.work().await;
        let (begun, in_force) = oneshot::channel();
        let over = CancellationToken::new();
        let (target, stage) = (self.target.clone(), Stage { begun: Some(begun), over: over.clone() });
        let attacker = std::thread::spawn(move || {
            // On Linux of this thread alone.
            rustix::process::nice(19).expect("may give way");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(attack(target, stage))
        });
        // An error is told by the attack's own panic, below.
        let begun = tokio::time::timeout(PATIENCE * 2, in_force).await.expect("an attack that begins");
        let mut during = Duration::MAX;
        for _ in 0..ROUNDS {
            if begun.is_ok() && during > UNNOTICED.max(before * 2) {
                during = during.min(self.witness.work().await);
            }
        }
        let peak = self.server.peak_bytes();
        over.cancel();
        let ended = tokio::task::spawn_blocking(|| attacker.join()).await.expect("no panic");
        let seen = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        println!(
            "p99 before {before:?}, during {during:?}; MiB {} before, {} at most, {} at the end",
            self.resting / MIB,
            peak / MIB,
            self.server.resident_bytes() / MIB
        );
        let around = before.max(self.witness.work().await);
        assert!(during <= UNNOTICED.max(around * 2), "p99 {during:?} during the attack, {around:?} without it");
        assert!(peak <= self.resting + most, "{} MiB at most, {} before", peak / MIB, self.resting / MIB);
        self.ends_well().await;
        seen
    }

    async fn ends_well(mut self) {
        // An allocator gives back when it is at work.
        let is_back = async || {
            self.witness.work().await;
            (self.server.resident_bytes() <= self.resting + KEPT).then_some(())
        };
        eventually("memory to be given back", is_back).await;
        let begun = Instant::now();
        self.server.terminate();
        let ended = self.server.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        for word in ["panic", "\"ERROR\"", "cut off"] {
            assert!(!ended.stderr.contains(word), "{}", ended.stderr);
        }
    }
}

/// Several of an attack's tasks at once, on its one thread.
pub async fn all<F: Future<Output = T>, T>(tasks: impl IntoIterator<Item = F>) -> Vec<T> {
    futures_util::future::join_all(tasks).await
}
