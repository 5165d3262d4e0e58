//! The suite on the store for many replicas, in a keyspace of its own for each test.

use std::{sync::Arc, time::Duration};

use message_webhook::store::{Lifecycle, scylla::ScyllaStore};

use super::fixture::{Fixture, PATIENCE, RETENTION, TestClock};
use crate::support::ring::{self, Keyspace};

pub struct Scylla {
    store: Arc<ScyllaStore>,
    clock: TestClock,
    keyspace: Keyspace,
}

impl Scylla {
    async fn open(keyspace: Keyspace, clock: TestClock) -> Self {
        crate::support::said::listen();
        let store = ScyllaStore::connect_trusting(keyspace.options(), Arc::new(clock.clone())).await.unwrap();
        Self { store: Arc::new(store), clock, keyspace }
    }
}

impl Fixture for Scylla {
    type Store = ScyllaStore;
    // The clock runs.
    const AIM: Duration = Duration::from_secs(20);
    // The database forgets a claim by its own clock, a day later than what it refers to.
    const REMEMBERS_LONGER: bool = true;
    const CURSORS_ARE_TIMES: bool = true;

    fn is_there() -> bool {
        ring::nodes().is_some()
    }

    async fn new() -> Self {
        let nodes = ring::nodes().unwrap();
        let keyspace = Keyspace::new(nodes, |options| options.retention = RETENTION).await;
        Self::open(keyspace, TestClock::running()).await
    }

    fn store(&self) -> &Arc<ScyllaStore> {
        &self.store
    }

    fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// The database does it by itself, by its own clock; no test can wait for that.
    async fn forget_expired(&self) {}

    async fn settle(&self) {
        tokio::time::timeout(PATIENCE, self.store.settle()).await.expect("resolved").unwrap();
    }

    async fn reopen(self) -> Self {
        self.store.close().await.unwrap();
        let Self { clock, keyspace, .. } = self;
        Self::open(keyspace, clock).await
    }
}

super::behaviours::conformance_suite!(Scylla);
