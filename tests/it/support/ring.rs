//! A real CQL database, which `CQL_NODES` names, and keyspaces of their own in it.

use std::{
    env, fs, io,
    io::Write,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use message_webhook::{
    domain::SystemClock,
    store::scylla::{Options, migrate},
};
use parking_lot::Mutex;
use scylla::client::{execution_profile::ExecutionProfile, session_builder::SessionBuilder};

const NODES: &str = "CQL_NODES";

/// All nodes of the database, e.g. `127.0.0.1:9042`, of which there are as many copies of each row, at most three; none where nobody named one, and then it is said what is
/// left out. In CI that is a failure.
pub fn nodes() -> Option<Vec<String>> {
    static SAY: Once = Once::new();
    let named = env::var(NODES).unwrap_or_default();
    let nodes: Vec<_> = named.split(',').map(str::trim).filter(|node| !node.is_empty()).map(str::to_owned).collect();
    if !nodes.is_empty() {
        return Some(nodes);
    }
    assert!(!is_compulsory(), "CI runs all tests: set {NODES}, as scripts/test does");
    // Not by a macro, whose output the harness would keep to itself.
    SAY.call_once(|| {
        let _ = writeln!(io::stderr(), "{NODES} is not set: tests that need a CQL database do nothing");
    });
    None
}

/// Whether a database that is not there is a failure.
pub fn is_compulsory() -> bool {
    env::var("CI").as_deref() == Ok("true")
}

/// A keyspace of its own, which is dropped some time after this.
pub struct Keyspace {
    options: Options,
}

impl Keyspace {
    /// A keyspace on `nodes` that was migrated with [`Keyspace::unmade`]'s options.
    pub async fn new(nodes: Vec<String>, change: impl FnOnce(&mut Options)) -> Self {
        let keyspace = Self::unmade(nodes, change);
        let options = keyspace.options.clone();
        one_at_a_time(move || async move {
            drop_abandoned().await?;
            migrate::apply(&options, &SystemClock).await.map(drop).map_err(|error| error.to_string())
        })
        .await
        .expect("a keyspace");
        keyspace
    }

    /// A keyspace that somebody else makes; small and quick where `change` does not want it otherwise.
    pub fn unmade(nodes: Vec<String>, change: impl FnOnce(&mut Options)) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let mut options = Options::new(nodes, format!("test_{}_{number}", std::process::id()));
        // Of one node by name: nothing makes fewer copies than 3 unasked.
        options.replication_factor = u32::try_from(options.nodes.len().min(3)).expect("few");
        (options.shards, options.slots) = (4, 2);
        (options.window, options.reference_window) = (Duration::from_millis(1500), Duration::from_millis(700));
        options.cycle = Duration::from_millis(100);
        options.deadline = Duration::from_secs(20);
        change(&mut options);
        Self { options }
    }

    /// The program's flags for it.
    pub fn flags(&self) -> Vec<String> {
        let millis = |time: Duration| format!("{}ms", time.as_millis());
        let options = &self.options;
        [
            ("scylla-nodes", options.nodes.join(",")),
            ("scylla-keyspace", options.keyspace.clone()),
            ("scylla-replication-factor", options.replication_factor.to_string()),
            ("scylla-shards", options.shards.to_string()),
            ("scylla-slots", options.slots.to_string()),
            ("scylla-window", millis(options.window)),
            ("scylla-reference-window", millis(options.reference_window)),
        ]
        .map(|(name, value)| format!("--{name}={value}"))
        .into()
    }

    /// How to open a store in it.
    pub fn options(&self) -> Options {
        self.options.clone()
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        ABANDONED.lock().push(Abandoned {
            since: Instant::now(),
            nodes: self.options.nodes.clone(),
            keyspace: self.options.keyspace.clone(),
        });
    }
}

/// Keyspaces of tests that have ended.
static ABANDONED: Mutex<Vec<Abandoned>> = Mutex::new(Vec::new());

struct Abandoned {
    since: Instant,
    nodes: Vec<String>,
    keyspace: String,
}

/// So long after its test a keyspace is dropped: statements may be under way when a store or a server is gone, or late in a proxy.
/// A write that meets a drop in Cassandra 5 leaves a node on which half of the keyspace is gone, and which then agrees with the
/// others on no schema any more (`Unknown CF` in the commit log).
const QUIET: Duration = Duration::from_secs(20);

/// Drops the keyspaces that are quiet by now. The last ones of a process stay for as long as the ring does.
async fn drop_abandoned() -> Result<(), String> {
    let quiet: Vec<_> = ABANDONED.lock().extract_if(.., |abandoned| abandoned.since.elapsed() > QUIET).collect();
    for Abandoned { nodes, keyspace, .. } in quiet {
        let patient = ExecutionProfile::builder().request_timeout(Some(Duration::from_secs(60))).build();
        let session = SessionBuilder::new()
            .known_nodes(nodes)
            .default_execution_profile_handle(patient.into_handle())
            .auto_await_schema_agreement(false)
            .build()
            .await
            .map_err(|error| error.to_string())?;
        let drop = format!("DROP KEYSPACE IF EXISTS {keyspace}");
        let mut dropped = session.query_unpaged(drop.as_str(), &[]).await.map(std::mem::drop);
        for _ in 0..5 {
            if dropped.is_ok() {
                break;
            }
            // Cassandra fails now and then over a table that is just being compacted, and has dropped it.
            tokio::time::sleep(Duration::from_secs(1)).await;
            dropped = session.query_unpaged(drop.as_str(), &[]).await.map(std::mem::drop);
        }
        dropped.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Changes of the schema are slow and get in each other's way: one at a time, also among the processes of a machine.
async fn one_at_a_time<F>(work: impl FnOnce() -> F + Send + 'static) -> Result<(), String>
where
    F: Future<Output = Result<(), String>> + Send,
{
    let lock = tokio::task::spawn_blocking(|| {
        let lock = fs::File::create(env::temp_dir().join("message-webhook-test-schema.lock"))?;
        lock.lock()?;
        Ok::<_, io::Error>(lock)
    });
    let _lock = lock.await.expect("no panic").map_err(|error| error.to_string())?;
    work().await
}
