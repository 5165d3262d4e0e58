//! The suite on the embedded store.

use std::sync::Arc;

use message_webhook::store::{
    Lifecycle,
    embedded::{EmbeddedStore, Options},
};

use super::fixture::{Fixture, RETENTION, TestClock, tempdir};

pub struct Embedded {
    store: Arc<EmbeddedStore>,
    clock: TestClock,
    dir: tempfile::TempDir,
}

impl Embedded {
    async fn open(dir: tempfile::TempDir, clock: TestClock) -> Self {
        crate::support::said::listen();
        let options = Options { retention: RETENTION, ..Options::new(dir.path().join("data")) };
        let with = Arc::new(clock.clone());
        let (store, _) = tokio::task::spawn_blocking(|| EmbeddedStore::open(options, with)).await.unwrap().unwrap();
        Self { store: Arc::new(store), clock, dir }
    }
}

impl Fixture for Embedded {
    type Store = EmbeddedStore;

    async fn new() -> Self {
        Self::open(tempdir(), TestClock::new()).await
    }

    fn store(&self) -> &Arc<EmbeddedStore> {
        &self.store
    }

    fn clock(&self) -> &TestClock {
        &self.clock
    }

    async fn forget_expired(&self) {
        self.store.run_retention_now().await.unwrap();
    }

    async fn reopen(self) -> Self {
        self.store.close().await.unwrap();
        let Self { clock, dir, .. } = self;
        Self::open(dir, clock).await
    }
}

super::behaviours::conformance_suite!(Embedded);
