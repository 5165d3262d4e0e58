//! A store whose operations are timed, counted by how they end, and covered by spans.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use metrics::{Histogram, histogram};
use tracing::Instrument as _;

use super::{
    ExportPage, FeedFollower, FeedFrom, FeedOrder, FeedPage, FeedStore, ImportInto, Imported, KeyStore, Lifecycle,
    ListedKey, MessagePage, MessageStore, Outcome, PageLimit, PageToken, Store, TransferStore,
};
use crate::{
    domain::{Error, KeyId, KeyRecord, Message, MessageKey, NewMessage, OrgId, Sender, Timestamp},
    telemetry::{names, trace},
};

/// See the module.
pub struct Observed {
    store: Arc<dyn Store>,
    operations: Operations,
}

macro_rules! operations {
    ($($name:ident)+) => {
        struct Operations { $($name: Operation,)+ }

        impl Operations {
            fn new() -> Self {
                Self { $($name: Operation::new(stringify!($name), concat!("store.", stringify!($name))),)+ }
            }
        }
    };
}

operations! {
    submit get list follow export import create_key key keys revoke_key touch_keys check close
}

/// Its histograms are looked up once.
struct Operation {
    span: &'static str,
    ok: Histogram,
    error: Histogram,
    cut_off: Histogram,
}

/// An operation under way; whoever gave it up before it was done may be the one with the slow store.
struct UnderWay<'a> {
    cut_off: Option<&'a Histogram>,
    begun: Instant,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(cut_off) = self.cut_off {
            cut_off.record(self.begun.elapsed());
        }
    }
}

impl Operation {
    fn new(name: &'static str, span: &'static str) -> Self {
        let seconds = |outcome: &'static str| histogram!(names::STORE_DURATION_SECONDS, "operation" => name, "outcome" => outcome);
        Self { span, ok: seconds("ok"), error: seconds("error"), cut_off: seconds("cut_off") }
    }

    /// Does `work`, and measures and traces it. A caller's mistake is no error of the store's.
    async fn observe<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let span = trace::child(self.span, "internal");
        let mut under_way = UnderWay { cut_off: Some(&self.cut_off), begun: Instant::now() };
        let result = work.instrument(span.clone()).await;
        under_way.cut_off = None;
        if result.as_ref().is_err_and(Error::is_ours) {
            self.error.record(under_way.begun.elapsed());
            trace::mark_failed(&span);
        } else {
            self.ok.record(under_way.begun.elapsed());
        }
        result
    }
}

impl Observed {
    /// Observes `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, operations: Operations::new() }
    }
}

#[async_trait]
impl MessageStore for Observed {
    async fn submit(&self, message: NewMessage) -> Result<Outcome, Error> {
        self.operations.submit.observe(self.store.submit(message)).await
    }

    async fn get(&self, key: &MessageKey) -> Result<Option<Message>, Error> {
        self.operations.get.observe(self.store.get(key)).await
    }

    async fn list(&self, sender: &Sender, after: Option<&PageToken>, limit: PageLimit) -> Result<MessagePage, Error> {
        self.operations.list.observe(self.store.list(sender, after, limit)).await
    }
}

#[async_trait]
impl FeedStore for Observed {
    async fn follow(&self, from: FeedFrom, order: FeedOrder) -> Result<Box<dyn FeedFollower>, Error> {
        let follower = self.operations.follow.observe(self.store.follow(from, order)).await?;
        Ok(Box::new(ObservedFollower { follower, next: Operation::new("next", "store.next") }))
    }
}

#[async_trait]
impl KeyStore for Observed {
    async fn create_key(&self, key: KeyRecord) -> Result<(), Error> {
        self.operations.create_key.observe(self.store.create_key(key)).await
    }

    async fn key(&self, id: &KeyId) -> Result<Option<KeyRecord>, Error> {
        self.operations.key.observe(self.store.key(id)).await
    }

    async fn keys(&self, org: Option<&OrgId>) -> Result<Vec<ListedKey>, Error> {
        self.operations.keys.observe(self.store.keys(org)).await
    }

    async fn key_records(&self) -> Result<Vec<KeyRecord>, Error> {
        self.operations.keys.observe(self.store.key_records()).await
    }

    async fn revoke_key(&self, id: &KeyId, at: Timestamp) -> Result<Option<KeyRecord>, Error> {
        self.operations.revoke_key.observe(self.store.revoke_key(id, at)).await
    }

    async fn touch_keys(&self, used: Vec<(KeyId, Timestamp)>) -> Result<(), Error> {
        self.operations.touch_keys.observe(self.store.touch_keys(used)).await
    }
}

#[async_trait]
impl TransferStore for Observed {
    async fn export(&self, after: Option<&PageToken>, limit: PageLimit) -> Result<ExportPage, Error> {
        self.operations.export.observe(self.store.export(after, limit)).await
    }

    async fn import(&self, messages: Vec<Message>, into: ImportInto) -> Result<Vec<Imported>, Error> {
        self.operations.import.observe(self.store.import(messages, into)).await
    }
}

#[async_trait]
impl Lifecycle for Observed {
    async fn check(&self) -> Result<(), Error> {
        self.operations.check.observe(self.store.check()).await
    }

    fn failure(&self) -> Option<String> {
        self.store.failure()
    }

    async fn trust_clock(&self) -> Result<bool, Error> {
        self.store.trust_clock().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.operations.close.observe(self.store.close()).await
    }
}

/// A reader whose pages are timed; the wait for news is not.
struct ObservedFollower {
    follower: Box<dyn FeedFollower>,
    next: Operation,
}

#[async_trait]
impl FeedFollower for ObservedFollower {
    async fn next(&mut self, limit: PageLimit) -> Result<FeedPage, Error> {
        self.next.observe(self.follower.next(limit)).await
    }

    async fn grown(&mut self) -> Result<(), Error> {
        self.follower.grown().await
    }
}
