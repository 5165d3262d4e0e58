//! Processes of the service on one keyspace, with the clients and the readers of a history.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use message_webhook::{
    domain::{Clock, SystemClock},
    protocol::grpc::v1::Environment,
    store::scylla::Options,
};

use super::{
    clients::{self, Plan, Reader, Server, Servers, World, env},
    record::{Answer, History, Recorder},
};
use crate::support::{
    ServerProcess,
    dice::setting,
    eventually, get,
    process::{self, Builder, Finished},
    ring::Keyspace,
};

/// How long a fresh reader may take to be given everything: the resolver's window, a clock that was a minute ahead, and a
/// ring that has just been hurt.
pub const DELIVERY: Duration = Duration::from_secs(120);

/// See the module. The processes are the test's own, and end before this is dropped.
pub struct Scene {
    pub keyspace: Keyspace,
    pub worlds: Vec<World>,
    pub servers: Servers,
    pub recorder: Arc<Recorder>,
    pub readers: Vec<Reader>,
    pub seed: u64,
    platform_key: String,
}

impl Scene {
    /// A keyspace of its own among `nodes`, in which nobody serves yet.
    pub async fn new(nodes: Vec<String>, change: impl FnOnce(&mut Options)) -> Self {
        let keyspace = Keyspace::new(nodes, change).await;
        let flags = keyspace.flags();
        let key = |arguments: &[&str]| {
            let arguments = [&["keys", "create", "--store", "scylla"], arguments].concat();
            let created: Finished = process::finish(process::command(arguments).args(&flags));
            assert_eq!(created.code, Some(0), "{}", created.stderr);
            created.stdout.trim().to_owned()
        };
        let worlds = [("acme", Environment::Dev), ("acme", Environment::Prod), ("other", Environment::Dev)];
        let worlds = worlds.map(|(org, which)| World {
            org: org.into(),
            env: which,
            key: key(&["--org", org, "--env", env(which), "--scope", "submit", "--scope", "read"]),
        });
        let platform_key = key(&["--platform", "--scope", "stream"]);
        let seed = setting("HISTORY_SEED", SystemClock.now().as_micros().unsigned_abs());
        Self {
            keyspace,
            worlds: worlds.into(),
            servers: Arc::default(),
            recorder: Arc::new(Recorder::new()),
            readers: Vec::new(),
            seed,
            platform_key,
        }
    }

    /// The windows that operators have; a test's short ones are missed by a ring that is hurt.
    pub fn usual(options: &mut Options) {
        let defaults = Options::new(Vec::new(), String::new());
        (options.window, options.reference_window) = (defaults.window, defaults.reference_window);
    }

    /// How to start a process on the keyspace.
    pub fn process(&self) -> Builder {
        ServerProcess::builder().on_scylla(&self.keyspace)
    }

    /// Clients and readers speak to `process`, too.
    pub fn admit(&self, process: &ServerProcess) {
        self.servers.write().push(at(process));
    }

    /// Clients and readers find others.
    pub fn dismiss(&self, process: &ServerProcess) {
        self.servers.write().retain(|server| *server != at(process));
    }

    /// Readers begin, of each order.
    pub fn follow(&mut self) {
        self.readers = clients::readers(&self.servers, &self.platform_key);
    }

    /// Runs clients, 16 of them with so many requests each or `HISTORY_REQUESTS`, again and again until `work` is done.
    pub async fn under_load<T>(&self, requests: u64, work: impl Future<Output = T>) -> T {
        let requests = setting("HISTORY_REQUESTS", requests);
        let is_done = Arc::new(AtomicBool::new(false));
        let loading = tokio::spawn({
            let (is_done, servers, worlds) = (Arc::clone(&is_done), Arc::clone(&self.servers), self.worlds.clone());
            let recorder = Arc::clone(&self.recorder);
            // Of four keys in three worlds that are in use at a time each has a submission or two.
            let mut plan = Plan { seed: self.seed, clients: 16, requests, first: 0, sids: requests * 4, pause: 4 };
            async move {
                loop {
                    clients::load(plan, &servers, &worlds, &recorder).await;
                    if is_done.load(Ordering::SeqCst) {
                        return;
                    }
                    plan = Plan { seed: plan.seed.wrapping_add(1), first: plan.first + plan.sids + 4, ..plan };
                }
            }
        });
        let done = work.await;
        is_done.store(true, Ordering::SeqCst);
        loading.await.expect("no panic");
        done
    }

    /// Waits until `count` more answers told of an acceptance.
    pub async fn until_accepted(&self, count: usize) {
        let (enough, begun) = (self.recorder.accepted().len() + count, Instant::now());
        while self.recorder.accepted().len() < enough {
            assert!(begun.elapsed() < DELIVERY, "nothing is accepted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Submits to `process` until the answer is clear.
    pub async fn submit(&self, process: &ServerProcess, sid: &str, text: &str) -> Answer {
        clients::submit_until_clear(at(process), &self.worlds[0], sid, text, DELIVERY, &self.recorder).await
    }

    /// Submits to `process`, once.
    #[cfg(feature = "failpoints")]
    pub async fn ask(&self, process: &ServerProcess, sid: &str) -> Answer {
        clients::submit(at(process), &self.worlds[0], sid, "text", DELIVERY, &self.recorder).await
    }

    /// The key of [`Scene::submit`]'s `sid`.
    pub fn key(&self, sid: &str) -> super::record::Key {
        super::record::Key {
            org: self.worlds[0].org.clone(),
            env: env(self.worlds[0].env).to_owned(),
            sid: sid.to_owned(),
        }
    }

    /// How many slots there are.
    pub fn slots(&self) -> u64 {
        u64::from(self.keyspace.options().slots)
    }

    /// Waits until `process` resolves all slots.
    pub async fn until_owner(&self, process: &ServerProcess) {
        eventually("all leases", async || (leases_held(process).await? == self.slots()).then_some(())).await;
    }

    /// What was said and given, when the readers have had `patience` to get everything.
    pub async fn end(&mut self, patience: Duration) -> History {
        let readers = std::mem::take(&mut self.readers);
        let history = clients::finish(&self.servers, &self.worlds, readers, patience, &self.recorder).await;
        println!("history: HISTORY_SEED={}: {}; {}", self.seed, history.counts(), history.summary());
        history
    }
}

/// Where a process is.
pub fn at(process: &ServerProcess) -> Server {
    Server { http: process.http, grpc: process.grpc }
}

/// How many slots `process` resolves, by its metrics.
pub async fn leases_held(process: &ServerProcess) -> Option<u64> {
    let (_, metrics) = get(process.admin, "/metrics").await?;
    // Not there before the first lease.
    let line = metrics.lines().find(|line| line.starts_with("message_webhook_leases_held "));
    line.map_or(Some(0), |line| line.rsplit(' ').next()?.parse().ok())
}
